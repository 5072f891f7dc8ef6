//! Dropout masks that are never stored: 16 bits of a hash per position, four positions per hash.

use crate::kernels::blocks::for_each_chunk;
use crate::kernels::simd::{Isa, Levels};
use crate::scalar::Scalar;
use crate::seed::mix;

/// Positions that one hash decides.
const LANES: usize = 4;

/// Scales what a mask keeps of the numbers of hash `.1` and after.
type ScaleKept = fn(DropMask, usize, &mut [[f32; LANES]], f32);

static LEVELS: Levels<ScaleKept> = Levels {
    portable: scale_words,
    #[cfg(target_arch = "x86_64")]
    avx2: SCALE_WORDS_AVX2,
    // Four numbers at a time fill no wider register.
    #[cfg(target_arch = "x86_64")]
    avx512: SCALE_WORDS_AVX2,
    #[cfg(target_arch = "x86_64")]
    vnni: SCALE_WORDS_AVX2,
};

// SAFETY of the call: `Levels::at` hands it out only where the processor has the features.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
const SCALE_WORDS_AVX2: ScaleKept =
    |mask, index, values, factor| unsafe { scale_words_avx2(mask, index, values, factor) };

/// Which positions dropout keeps, drawn again wherever it is asked for.
///
/// *Source*: a counter-based generator, as in Salmon et al., "Parallel random numbers: as easy as
/// 1, 2, 3", SC 2011, with SplitMix64's finaliser as its hash.
#[derive(Debug, Clone, Copy)]
pub struct DropMask {
    key: u64,
    /// A position is dropped if its 16 bits are below this.
    threshold: u16,
}

impl DropMask {
    /// Drops with probability `p` in [0, 1), to within 2^-17; masks of different keys are
    /// independent.
    pub fn new(key: u64, p: f64) -> Self {
        Self { key, threshold: (p * 65536.0).round() as u16 }
    }

    /// Whether the position is kept.
    #[inline]
    pub fn keeps(self, position: usize) -> bool {
        self.keeps_lane(self.word(position / LANES), position % LANES)
    }

    /// Whether each position from 0 on is kept.
    pub fn run(self) -> impl Iterator<Item = bool> {
        (0..).flat_map(move |index| {
            let word = self.word(index);
            (0..LANES).map(move |lane| self.keeps_lane(word, lane))
        })
    }

    #[inline(always)]
    fn word(self, index: usize) -> u64 {
        mix(self.key ^ (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    #[inline(always)]
    fn keeps_lane(self, word: u64, lane: usize) -> bool {
        (word >> (16 * lane)) as u16 >= self.threshold
    }

    /// Multiplies what is kept by `factor` and zeroes the rest, in parallel where there is enough
    /// to do; `values[k]` stands at position `k`.
    pub fn scale_all<F: Scalar>(self, values: &mut [F], factor: F) {
        scale_all(self, values, factor);
    }

    /// As [`DropMask::scale_all`] on the calling thread; `values[k]` stands at position
    /// `start + k`.
    #[inline]
    pub fn scale<F: Scalar>(self, start: usize, values: &mut [F], factor: F) {
        self.scale_with(Isa::best(), start, values, factor);
    }

    /// [`DropMask::scale`] with the instructions of one level.
    ///
    /// # Panics
    /// If the processor does not have the level.
    #[doc(hidden)]
    #[inline]
    pub fn scale_with<F: Scalar>(self, isa: Isa, start: usize, values: &mut [F], factor: F) {
        scale(isa, self, start, values, factor);
    }

    /// Positions of one hash.
    #[inline(always)]
    fn scale_lanes<F: Scalar>(self, start: usize, values: &mut [F], factor: F) {
        if values.is_empty() {
            return;
        }
        let word = self.word(start / LANES);
        for (k, value) in values.iter_mut().enumerate() {
            *value =
                if self.keeps_lane(word, start % LANES + k) { *value * factor } else { F::zero() };
        }
    }
}

crate::scalar::compiled_here! {
    fn scale_all<F>(mask: DropMask, values: &'a mut [F], factor: F) = scale_chunks
}

fn scale_chunks<F: Scalar>(mask: DropMask, values: &mut [F], factor: F) {
    for_each_chunk(values, |start, chunk| mask.scale(start, chunk, factor));
}

crate::scalar::compiled_here! {
    fn scale<F>(isa: Isa, mask: DropMask, start: usize, values: &'a mut [F], factor: F) = scale_any
}

fn scale_any<F: Scalar>(isa: Isa, mask: DropMask, start: usize, values: &mut [F], factor: F) {
    let scale_kept = LEVELS.at(isa);
    // Up to the next hash, whole hashes, and what is left.
    let (first, rest) =
        values.split_at_mut((start.next_multiple_of(LANES) - start).min(values.len()));
    mask.scale_lanes(start, first, factor);
    let start = start.next_multiple_of(LANES);
    let (whole, last) = rest.as_chunks_mut::<LANES>();
    mask.scale_lanes(start + whole.len() * LANES, last, factor);
    match F::as_f32_mut(whole.as_flattened_mut()) {
        Some(whole) => {
            scale_kept(mask, start / LANES, whole.as_chunks_mut().0, factor.as_f64() as f32)
        }
        None => scale_words(mask, start / LANES, whole, factor),
    }
}

/// The portable form: `values[k]` belongs to hash `index + k`.
fn scale_words<F: Scalar>(mask: DropMask, index: usize, values: &mut [[F; LANES]], factor: F) {
    for (k, values) in values.iter_mut().enumerate() {
        mask.scale_lanes((index + k) * LANES, values, factor);
    }
}

/// As [`DropMask::scale_lanes`] on four `f32` at a time.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
#[target_feature(enable = "avx2,fma")]
fn scale_words_avx2(mask: DropMask, index: usize, values: &mut [[f32; LANES]], factor: f32) {
    use std::arch::x86_64::*;
    let (threshold, factor) = (_mm_set1_epi16(mask.threshold as i16), _mm_set1_ps(factor));
    for (k, values) in values.iter_mut().enumerate() {
        let bits = _mm_cvtsi64_si128(mask.word(index + k) as i64);
        // Not below: the larger of both is itself. The mask of 16 bits becomes one of 32.
        let kept = _mm_cvtepi16_epi32(_mm_cmpeq_epi16(_mm_max_epu16(bits, threshold), bits));
        // SAFETY: a chunk has four numbers.
        unsafe {
            let scaled = _mm_mul_ps(_mm_loadu_ps(values.as_ptr()), factor);
            _mm_storeu_ps(values.as_mut_ptr(), _mm_and_ps(scaled, _mm_castsi128_ps(kept)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_dropped_is_p_and_cuts_do_not_matter() {
        let mask = DropMask::new(5, 0.3);
        let mut whole = vec![1.0f64; 100_003];
        mask.scale_all(&mut whole, 2.0);
        let dropped = whole.iter().filter(|v| **v == 0.0).count() as f64 / whole.len() as f64;
        // Four standard deviations of a binomial share.
        assert!((dropped - 0.3).abs() < 4.0 * (0.21f64 / whole.len() as f64).sqrt(), "{dropped}");
        assert!(
            mask.run()
                .zip(&whole)
                .enumerate()
                .all(|(k, (kept, v))| kept == mask.keeps(k) && kept == (*v != 0.0))
        );
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            for cut in [0, 1, 2, 3, 4, 5, 12_345, 100_003] {
                let mut parts = vec![1.0f32; whole.len()];
                let (a, b) = parts.split_at_mut(cut);
                mask.scale_with(isa, 0, a, 2.0);
                mask.scale_with(isa, cut, b, 2.0);
                assert!(
                    whole.iter().zip(&parts).all(|(a, b)| *a as f32 == *b),
                    "{isa:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn what_is_dropped_is_zero_whatever_it_was() {
        let mask = DropMask::new(1, 0.5);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            for value in [f32::NAN, f32::INFINITY, -1.0] {
                let mut values = [value; 64];
                mask.scale_with(isa, 0, &mut values, 2.0);
                let as_expected = |(k, v): (usize, &f32)| {
                    if mask.keeps(k) {
                        v.to_bits() == (value * 2.0).to_bits()
                    } else {
                        v.to_bits() == 0
                    }
                };
                assert!(values.iter().enumerate().all(as_expected), "{isa:?} {value}");
            }
        }
    }
}
