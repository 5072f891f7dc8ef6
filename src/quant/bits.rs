//! Widths of integers, and how a file packs them.

use serde::{Deserialize, Serialize};

/// How many bits an integer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Bits {
    /// −1 to 1: of weights, never of activations.
    Two,
    /// −7 to 7.
    Four,
    /// −127 to 127.
    Eight,
}

impl Bits {
    /// The number itself.
    pub fn count(self) -> u32 {
        match self {
            Bits::Two => 2,
            Bits::Four => 4,
            Bits::Eight => 8,
        }
    }

    /// The largest integer of a symmetric quantiser, `2^{b−1} − 1`; the smallest is its negative.
    pub fn most(self) -> i8 {
        ((1i16 << (self.count() - 1)) - 1) as i8
    }
}

impl std::fmt::Display for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.count())
    }
}

/// How many integers a byte holds.
pub(super) fn per_byte(bits: Bits) -> usize {
    8 / bits.count() as usize
}

/// Integers as a file stores them: one, two or four per byte in two's complement, the first in the
/// lowest bits, and zeros to the end.
pub(crate) fn pack(ints: &[i8], bits: Bits) -> Vec<u8> {
    let mask = u8::MAX >> (8 - bits.count());
    let byte = |ints: &[i8]| {
        ints.iter().rev().fold(0u16, |byte, &q| byte << bits.count() | u16::from(q as u8 & mask))
            as u8
    };
    ints.chunks(per_byte(bits)).map(byte).collect()
}

/// The `count` integers that [`pack`] wrote; `None` for bytes that it cannot have written.
pub(crate) fn unpack(bytes: &[u8], count: usize, bits: Bits) -> Option<Vec<i8>> {
    if bytes.len() != count.div_ceil(per_byte(bits)) {
        return None;
    }
    // The sign is brought up to the first bit and down again.
    let above = 8 - bits.count();
    let of = |byte: u8| {
        (0..per_byte(bits))
            .map(move |k| (byte >> (k as u32 * bits.count()) << above) as i8 >> above)
    };
    let mut ints: Vec<i8> = bytes.iter().flat_map(|&byte| of(byte)).collect();
    let padding = ints.split_off(count);
    let legal = ints.iter().all(|&q| q >= -bits.most() && q <= bits.most())
        && padding.iter().all(|&q| q == 0);
    legal.then_some(ints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_undone_for_every_length_and_integer() {
        for bits in [Bits::Two, Bits::Four, Bits::Eight] {
            let all: Vec<i8> =
                (-bits.most()..=bits.most()).chain([0, -bits.most(), bits.most(), 1]).collect();
            for count in 0..=all.len() {
                let bytes = pack(&all[..count], bits);
                assert_eq!(bytes.len(), (count * bits.count() as usize).div_ceil(8));
                assert_eq!(unpack(&bytes, count, bits).as_deref(), Some(&all[..count]));
            }
        }
        assert_eq!([Bits::Two, Bits::Four, Bits::Eight].map(Bits::most), [1, 7, 127]);
        assert_eq!(pack(&[1, -1, 0, 1, -1], Bits::Two), [0b01_00_11_01, 0b11]);
        assert_eq!(pack(&[1, -1, 7], Bits::Four), [0xf1, 0x07]);
    }

    #[test]
    fn bytes_that_packing_never_writes_are_refused() {
        assert_eq!(unpack(&[0x80], 1, Bits::Eight), None, "-128 has no negative");
        assert_eq!(unpack(&[0x08], 1, Bits::Four), None, "nor has -8");
        assert_eq!(unpack(&[0x10], 1, Bits::Four), None, "padding is zero");
        assert_eq!(unpack(&[0, 0], 1, Bits::Four), None);
        for place in 0..4 {
            assert_eq!(unpack(&[0b10 << (2 * place)], 4, Bits::Two), None, "nor has -2");
        }
        assert_eq!(unpack(&[0b01_00_00_01], 3, Bits::Two), None, "padding is zero");
        assert_eq!(unpack(&[0], 5, Bits::Two), None);
        assert_eq!(unpack(&[], 0, Bits::Two), Some(vec![]));
    }
}
