//! Widths of integers, and four bits packed two a byte.

use serde::{Deserialize, Serialize};

/// How many bits an integer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Bits {
    /// −1 to 1. Only [`FakeQuant`](super::FakeQuant) has it.
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

/// Integers as a file stores them: a byte each, or two a byte of four bits in two's complement, the first in the low half.
pub(crate) fn pack(ints: &[i8], bits: Bits) -> Vec<u8> {
    match bits {
        Bits::Four => ints.chunks(2).map(|pair| (pair[0] as u8 & 15) | (pair.get(1).map_or(0, |&high| high as u8) << 4)).collect(),
        _ => ints.iter().map(|&q| q as u8).collect(),
    }
}

/// The `count` integers that [`pack`] wrote; `None` for bytes that it cannot have written.
pub(crate) fn unpack(bytes: &[u8], count: usize, bits: Bits) -> Option<Vec<i8>> {
    let expected = if bits == Bits::Four { count.div_ceil(2) } else { count };
    if bytes.len() != expected {
        return None;
    }
    let ints: Vec<i8> = match bits {
        // The sign of four bits is brought up by a shift.
        Bits::Four => bytes.iter().flat_map(|&byte| [(byte << 4) as i8 >> 4, byte as i8 >> 4]).collect(),
        _ => bytes.iter().map(|&byte| byte as i8).collect(),
    };
    let (ints, padding) = ints.split_at(count);
    let legal = ints.iter().all(|&q| q >= -bits.most() && q <= bits.most()) && padding.iter().all(|&q| q == 0);
    legal.then(|| ints.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_undone_for_every_length_and_integer() {
        for bits in [Bits::Two, Bits::Four, Bits::Eight] {
            let all: Vec<i8> = (-bits.most()..=bits.most()).collect();
            for count in 0..=all.len() {
                let bytes = pack(&all[..count], bits);
                assert_eq!(bytes.len(), if bits == Bits::Four { count.div_ceil(2) } else { count });
                assert_eq!(unpack(&bytes, count, bits).as_deref(), Some(&all[..count]));
            }
        }
        assert_eq!([Bits::Two, Bits::Four, Bits::Eight].map(Bits::most), [1, 7, 127]);
    }

    #[test]
    fn bytes_that_packing_never_writes_are_refused() {
        assert_eq!(unpack(&[0x80], 1, Bits::Eight), None, "-128 has no negative");
        assert_eq!(unpack(&[0x08], 1, Bits::Four), None, "nor has -8");
        assert_eq!(unpack(&[0x10], 1, Bits::Four), None, "padding is zero");
        assert_eq!(unpack(&[0, 0], 1, Bits::Four), None);
    }
}
