//! AVX2 forms of what attention spends its time in. Written out, since the compiler keeps the
//! portable forms in whole registers in one program and takes them apart in the next.
#![allow(unsafe_code)]

use crate::kernels::buffer::{AHEAD, prefetch};
use crate::kernels::elementwise::{LEAST, LN2_HIGH, LN2_LOW, ROUND, SERIES};
use crate::kernels::simd::LANES;
use crate::kernels::simd_x86::{Vector, each};
use std::arch::x86_64::*;
use std::ops::Range;

/// Writes the largest number of each lane of `scores`, whole registers; NaN is passed over.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
pub(super) unsafe fn largest(scores: &[f32], max: &mut [f32]) {
    assert_eq!(max.len(), LANES);
    // SAFETY: the caller has the features, and a chunk holds a register.
    unsafe {
        let mut register = __m256::splat(f32::NEG_INFINITY);
        for scores in scores.chunks_exact(LANES) {
            // The second operand is what a comparison with NaN gives.
            register = _mm256_max_ps(__m256::load(scores.as_ptr()), register);
        }
        register.store(max.as_mut_ptr());
    }
}

/// `e^{s − max}` lane by lane in place, and writes the sum of each lane; the same polynomial as
/// the portable form, in fused multiply-adds. `meanwhile` is told about every register before it is
/// computed.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
pub(super) unsafe fn exponentials(
    scores: &mut [f32],
    max: &[f32],
    sums: &mut [f32],
    meanwhile: impl Fn(usize),
) {
    assert!(max.len() == LANES && sums.len() == LANES);
    // SAFETY: the caller has the features, and a chunk holds a register.
    unsafe {
        let (max, round, one) =
            (__m256::load(max.as_ptr()), __m256::splat(ROUND), __m256::splat(1.0));
        let to_exponent = _mm256_set1_epi32(127i32.wrapping_sub(ROUND.to_bits() as i32));
        let mut sum = __m256::splat(0.0);
        for (k, scores) in scores.chunks_exact_mut(LANES).enumerate() {
            meanwhile(k);
            let v = _mm256_sub_ps(__m256::load(scores.as_ptr()), max);
            // As above: NaN stays.
            let v = _mm256_max_ps(__m256::splat(LEAST), v);
            let shifted = v.mul_add(__m256::splat(std::f32::consts::LOG2_E), round);
            let n = _mm256_sub_ps(shifted, round);
            let r = n.mul_add(__m256::splat(-LN2_LOW), n.mul_add(__m256::splat(-LN2_HIGH), v));
            let mut series = __m256::splat(SERIES[0]);
            for &term in &SERIES[1..] {
                series = series.mul_add(r, __m256::splat(term));
            }
            let power = _mm256_slli_epi32::<23>(_mm256_add_epi32(
                _mm256_castps_si256(shifted),
                to_exponent,
            ));
            let e = _mm256_mul_ps(series.mul_add(r, one), _mm256_castsi256_ps(power));
            sum = sum.add(e);
            e.store(scores.as_mut_ptr());
        }
        sum.store(sums.as_mut_ptr());
    }
}

/// `K` registers of weighted sums of the rows `rows[span]` of `x` from channel `first` on, written
/// to `sums`; register `k` takes the weight of head `heads[k]`.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "everything stays in registers")]
pub(super) unsafe fn group_sums<'w, const K: usize>(
    x: &[f32],
    rows: &[u32],
    width: usize,
    first: usize,
    span: Range<usize>,
    heads: [usize; K],
    weights: impl Fn(usize) -> &'w [f32],
    sums: &mut [f32],
) {
    assert!(
        sums.len() == K * LANES && first + K * LANES <= width,
        "the registers are within a row"
    );
    // SAFETY: the caller has the features; a row holds `width` numbers, of which the registers are
    // some.
    unsafe {
        let mut registers = [__m256::splat(0.0); K];
        for e in span {
            if let Some(&ahead) = rows.get(e + AHEAD) {
                prefetch(x.as_ptr().wrapping_add(ahead as usize * width + first), K * LANES);
            }
            let weights = weights(e);
            let x = x[rows[e] as usize * width..][..width].as_ptr().add(first);
            each!(k < K, {
                let weight = __m256::splat(weights[heads[k]]);
                registers[k] = __m256::load(x.add(k * LANES)).mul_add(weight, registers[k]);
            });
        }
        each!(k < K, {
            registers[k].store(sums[k * LANES..][..LANES].as_mut_ptr());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::Isa;

    #[target_feature(enable = "avx2,fma")]
    fn run(scores: &mut [f32], max: &[f32], sums: &mut [f32]) {
        // SAFETY: this function has the features.
        unsafe { exponentials(scores, max, sums, |_| ()) }
    }

    #[target_feature(enable = "avx2,fma")]
    fn max_of(scores: &[f32], max: &mut [f32]) {
        // SAFETY: this function has the features.
        unsafe { largest(scores, max) }
    }

    #[test]
    fn exponentials_are_good_to_two_roundings_and_end_where_floats_do() {
        if !Isa::Avx2.available() {
            return;
        }
        let values: Vec<f32> = (0..870_000).map(|k| -(k as f32) * 1e-4).collect();
        let (mut found, mut sums) = (values.clone(), [f32::NAN; LANES]);
        // SAFETY: the processor has the features.
        unsafe { run(&mut found, &[0.0; LANES], &mut sums) };
        for (&v, &e) in values.iter().zip(&found) {
            let exact = f64::from(v).exp();
            assert!((f64::from(e) - exact).abs() <= 2.0 * f64::from(f32::EPSILON) * exact, "{v}");
        }
        let mut ends = [0.0, -87.0, -90.0, -1e30, f32::NEG_INFINITY, f32::NAN, 3.0, 4.0];
        // SAFETY: as above.
        unsafe { run(&mut ends, &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 5.0], &mut sums) };
        assert!(
            ends[0] == 1.0
                && ends[6] == 1.0
                && (ends[7] - (-1.0f32).exp()).abs() < 1e-6
                && ends[5].is_nan()
        );
        assert!(
            ends[1..5].iter().all(|e| *e > 0.0 && *e < 1e-37)
                && sums[..5] == ends[..5]
                && sums[5].is_nan()
        );
    }

    #[test]
    fn the_largest_passes_over_nan() {
        if !Isa::Avx2.available() {
            return;
        }
        let mut scores =
            [[f32::NAN; LANES], [-3.0; LANES], [f32::NAN; LANES], [-5.0; LANES]].concat();
        scores[3 * LANES] = 7.0;
        let mut max = [0.0; LANES];
        // SAFETY: the processor has the features.
        unsafe { max_of(&scores, &mut max) };
        assert!(max[0] == 7.0 && max[1..].iter().all(|m| *m == -3.0));
    }
}
