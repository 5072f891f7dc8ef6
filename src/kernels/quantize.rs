//! From real numbers to 8-bit integers.

use super::isa::Isa;
use super::rows::{Cut, blocks_by_nonzeros, for_row_blocks, parts_for, run};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `1.5·2²³`: adding it to a number of at most 2²² leaves the nearest integer, ties to even, in the
/// low bits.
const SHIFT: f32 = 12_582_912.0;

/// `round_ties_even(v / scale)` clamped to ±`most`; NaN becomes 0.
///
/// Clamping first changes nothing, since the bounds are integers, and lets one addition do the
/// rounding on every processor.
#[inline(always)]
pub(super) fn to_int(v: f32, scale: f32, most: f32) -> i8 {
    round(v / scale, most)
}

/// `round_ties_even(v)` clamped to ±`most`; NaN becomes 0.
#[inline(always)]
fn round(v: f32, most: f32) -> i8 {
    (v.clamp(-most, most) + SHIFT).to_bits() as i8
}

/// [`to_int`] of each number; `FMA` as in [`quantize_row`].
#[inline(always)]
pub(super) fn to_ints<const FMA: bool>(x: &[f32], scale: f32, most: i8, q: &mut [i8]) {
    let q = &mut q[..x.len()];
    if FMA && SAFE_SCALES.contains(&scale) {
        let (inverse, limit) = (1.0 / scale, (f32::from(most) + 0.25) * scale);
        for (q, &v) in q.iter_mut().zip(x) {
            *q = (quotient(within(v, limit), scale, inverse) + SHIFT).to_bits() as i8;
        }
    } else {
        let most = f32::from(most);
        for (q, &v) in q.iter_mut().zip(x) {
            *q = to_int(v, scale, most);
        }
    }
}

/// `v` clamped to ±`limit`; NaN stays.
#[inline(always)]
fn within(v: f32, limit: f32) -> f32 {
    let v = if v > limit { limit } else { v };
    if v < -limit { -limit } else { v }
}

/// The scale of a symmetric quantiser: `max / most`; 1 where that is zero, so that an all-zero
/// tensor has integers 0.
///
/// *Source*: Jacob et al., CVPR 2018, eq. 1 with zero point 0.
#[inline]
pub fn symmetric_scale(max: f32, most: i8) -> f32 {
    let scale = max / f32::from(most);
    if scale > 0.0 || scale.is_nan() { scale } else { 1.0 }
}

/// The largest magnitude; NaN if there is one, and 0 of nothing.
#[inline]
pub fn max_abs(values: &[f32]) -> f32 {
    // Without the sign the bits of floats are ordered as the numbers are, and NaN stands above all
    // of them.
    f32::from_bits(values.iter().fold(0, |max: u32, v| max.max(v.to_bits() & 0x7fff_ffff)))
}

/// `q = round_ties_even(x / scale)` clamped to ±`most`.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn quantize_with(x: &[f32], scale: f32, most: i8, q: &mut [i8]) {
    assert_eq!(x.len(), q.len(), "quantize_with: lengths");
    let most = f32::from(most);
    q.iter_mut().zip(x).for_each(|(q, &x)| *q = to_int(x, scale, most));
}

/// Quantises one row by its own largest magnitude and returns the scale; every level is this text,
/// compiled with its features.
///
/// `FMA` says that fused multiply-adds are instructions here: three of them make a quotient faster
/// than a division does.
#[inline(always)]
pub(super) fn quantize_row<const FMA: bool>(x: &[f32], most: i8, q: &mut [i8]) -> f32 {
    let scale = symmetric_scale(max_abs(x), most);
    if FMA && SAFE_SCALES.contains(&scale) {
        assert_eq!(x.len(), q.len(), "quantize_row: lengths");
        let (inverse, most) = (1.0 / scale, f32::from(most));
        q.iter_mut().zip(x).for_each(|(q, &x)| *q = round(quotient(x, scale, inverse), most));
    } else {
        quantize_with(x, scale, most, q);
    }
    scale
}

/// Scales whose inverse, and whose products with what they divide to an integer but zero, are
/// normal numbers.
pub(super) const SAFE_SCALES: std::ops::Range<f32> = 1e-30..1e30;

/// `x / scale`, to the bit, where `inverse` is `1 / scale` and the quotient is no smaller than a
/// hundredth.
///
/// *Source*: Markstein, IBM J. Res. Dev. 34 (1990): with a correctly rounded inverse one step of
/// correction rounds correctly.
#[inline(always)]
fn quotient(x: f32, scale: f32, inverse: f32) -> f32 {
    let near = x * inverse;
    let rest = near.mul_add(-scale, x);
    rest.mul_add(inverse, near)
}

/// Quantises rows of real numbers with a scale each: `s_i = max|x_i| / most`,
/// `q = round_ties_even(x / s_i)`.
///
/// *Shapes*: `starts: [n + 1]`, from 0; `x`, `q: [starts[n]]`; `scales: [n]`. A row that is not
/// finite gets a scale that is not finite.
///
/// # Panics
/// If the lengths do not fit.
pub fn quantize_rows(starts: &[usize], x: &[f32], most: i8, q: &mut [i8], scales: &mut [f32]) {
    let rows = scales.len();
    assert!(
        starts.len() == rows + 1 && starts[rows] == x.len() && x.len() == q.len(),
        "quantize_rows: {rows} rows, {} numbers",
        x.len()
    );
    let row = Isa::best().int8().quantize_row;
    for (scale, ends) in scales.iter_mut().zip(starts.windows(2)) {
        *scale = row(&x[ends[0]..ends[1]], most, &mut q[ends[0]..ends[1]]);
    }
}

/// A scale for each column, with what makes dividing by it fast.
#[derive(Debug, Clone)]
pub struct ColumnScales {
    pub(super) scales: Vec<f32>,
    inverses: Vec<f32>,
    /// What is larger rounds to the largest integer, and so does this.
    limits: Vec<f32>,
    most: i8,
    safe: bool,
}

impl ColumnScales {
    /// Positive scales of integers in ±`most`.
    pub fn new(scales: Vec<f32>, most: i8) -> Self {
        let inverses = scales.iter().map(|scale| 1.0 / scale).collect();
        let limits = scales.iter().map(|scale| (f32::from(most) + 0.25) * scale).collect();
        let safe = scales.iter().all(|scale| SAFE_SCALES.contains(scale));
        Self { scales, inverses, limits, most, safe }
    }

    /// The scale of each column.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }
}

/// Quantises one row by a scale per column, and says whether all of it is finite; every level is
/// this text, compiled with its features.
#[inline(always)]
pub(super) fn quantize_columns_row<const FMA: bool>(
    x: &[f32],
    by: &ColumnScales,
    q: &mut [i8],
) -> bool {
    let scales = &by.scales[..x.len()];
    let q = &mut q[..x.len()];
    if FMA && by.safe {
        let (inverses, limits) = (&by.inverses[..x.len()], &by.limits[..x.len()]);
        for c in 0..x.len() {
            q[c] =
                (quotient(within(x[c], limits[c]), scales[c], inverses[c]) + SHIFT).to_bits() as i8;
        }
    } else {
        let most = f32::from(by.most);
        for c in 0..x.len() {
            q[c] = to_int(x[c], scales[c], most);
        }
    }
    max_abs(x) < f32::INFINITY
}

/// Numbers of a block of rows that a thread quantises.
const BLOCK: usize = 1 << 15;

/// Quantises `x: [n, width]` with a scale per column: `q_ic = round_ties_even(x_ic / s_c)` clamped.
/// Returns the first row with an entry that is not finite, if there is one; the integers then mean
/// nothing.
///
/// # Panics
/// If the lengths do not fit.
pub fn quantize_columns(isa: Isa, x: &[f32], by: &ColumnScales, q: &mut [i8]) -> Option<usize> {
    let width = by.scales.len().max(1);
    assert!(
        x.len() == q.len() && x.len().is_multiple_of(width),
        "quantize_columns: {} numbers in rows of {width}",
        x.len()
    );
    let first = AtomicUsize::new(usize::MAX);
    let row = isa.int8().quantize_columns;
    let cut = Cut::Even { rows: x.len() / width, height: BLOCK.div_ceil(width) };
    for_row_blocks(q, width, cut, x.len(), |block, q| {
        for (i, q) in block.zip(q.chunks_exact_mut(width)) {
            if !row(&x[i * width..][..width], by, q) {
                first.fetch_min(i, Ordering::Relaxed);
            }
        }
    });
    Some(first.into_inner()).filter(|&i| i != usize::MAX)
}

/// The first row with an entry that is not finite, if there is one.
///
/// # Panics
/// If `starts` leads past the end of `x`.
pub fn first_not_finite(starts: &[usize], x: &[f32]) -> Option<usize> {
    let blocks = blocks_by_nonzeros(starts, parts_for(x.len()));
    let first = |block: Range<usize>| {
        let numbers = &x[starts[block.start]..starts[block.end]];
        let bad = |i: &usize| x[starts[*i]..starts[i + 1]].iter().any(|v| !v.is_finite());
        if max_abs(numbers) < f32::INFINITY { None } else { block.clone().find(bad) }
    };
    run(blocks, x.len(), first).into_iter().flatten().next()
}

#[cfg(test)]
mod tests {
    use super::super::{cases, reference};
    use super::*;

    #[test]
    fn rounding_by_one_addition_is_rounding_to_even() {
        let halves = (-600..=600).map(|k| k as f32 / 2.0);
        let edges = halves.flat_map(|v| [v, v.next_up(), v.next_down()]).chain([
            f32::INFINITY,
            f32::NEG_INFINITY,
            f32::NAN,
            1e30,
            -1e30,
            -0.0,
        ]);
        for v in edges {
            for most in [7, 127] {
                for scale in [1.0, 0.3, 2.0f32.powi(-20)] {
                    assert_eq!(
                        to_int(v, scale, f32::from(most)),
                        reference::requantize(v, scale, most),
                        "{v} / {scale}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_level_quantises_a_row_to_the_same_bits() {
        for len in cases::widths().chain([0]) {
            let x = cases::dense::<f32>(1, len, 1).into_raw_vec_and_offset().0;
            let max = x.iter().fold(0.0f32, |max, v| max.max(v.abs()));
            for (isa, most) in Isa::ALL
                .into_iter()
                .filter(|isa| isa.available())
                .flat_map(|isa| [(isa, 127), (isa, 7)])
            {
                let mut q = vec![99; len];
                let scale = (isa.int8().quantize_row)(&x, most, &mut q);
                assert_eq!(
                    scale,
                    if len == 0 { 1.0 } else { max / f32::from(most) },
                    "{isa:?} of {len}"
                );
                let expected: Vec<i8> =
                    x.iter().map(|&v| reference::requantize(v, scale, most)).collect();
                assert_eq!(q, expected, "{isa:?} of {len}");
            }
        }
    }

    #[test]
    fn a_corrected_product_is_the_quotient() {
        let mut rng = crate::rng::generator(5, &[]);
        let mut draw = || rand_chacha::rand_core::RngCore::next_u32(&mut rng);
        for _ in 0..200_000 {
            let scale = f32::from_bits((draw() & 0x007f_ffff) | ((64 + draw() % 120) << 23));
            // Around a tie, where one bit decides.
            let tie = scale * ((draw() % 128) as f32 + 0.5);
            let x = f32::from_bits(tie.to_bits().wrapping_add(draw() % 5).wrapping_sub(2));
            assert_eq!(quotient(x, scale, 1.0 / scale), x / scale, "{x:e} / {scale:e}");
        }
    }

    #[test]
    fn every_level_quantises_columns_to_the_same_bits_and_finds_what_is_not_finite() {
        for (rows, width) in [(1, 1), (3, 7), (40, 33), (0, 5)] {
            let mut x = cases::dense::<f32>(rows, width, 1).into_raw_vec_and_offset().0;
            // Some are far past the largest integer.
            x.iter_mut().step_by(5).for_each(|v| *v *= 1e30);
            for (most, tiny) in [(127, 1.0), (7, 1.0), (127, 1e-37)] {
                let by = ColumnScales::new(
                    (0..width).map(|c| (c as f32 + 0.3) / 99.0 * tiny).collect(),
                    most,
                );
                let expected: Vec<i8> = x
                    .iter()
                    .enumerate()
                    .map(|(k, &v)| reference::requantize(v, by.scales()[k % width], most))
                    .collect();
                for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                    let mut q = vec![99; x.len()];
                    assert_eq!(quantize_columns(isa, &x, &by, &mut q), None);
                    assert_eq!(q, expected, "{isa:?} {rows}x{width} {tiny}");
                }
            }
        }
        let by = ColumnScales::new(vec![1.0; 2], 127);
        let x = [0.0, 1.0, 2.0, f32::INFINITY, f32::NAN, 0.0];
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            assert_eq!(quantize_columns(isa, &x, &by, &mut [0; 6]), Some(1));
        }
        assert_eq!(first_not_finite(&[0, 0, 3, 4, 6], &x), Some(2));
        assert_eq!(first_not_finite(&[0, 2, 3], &x[..3]), None);
    }

    #[test]
    fn rows_are_quantised_by_their_own_largest_magnitude() {
        let x = [1.0, -0.5, 0.0, 0.0, 3.0, f32::NAN];
        let (mut q, mut scales) = ([9; 6], [0.0; 5]);
        quantize_rows(&[0, 2, 2, 4, 5, 6], &x, 127, &mut q, &mut scales);
        assert_eq!(
            (&q[..5], &scales[..4]),
            (&[127, -64, 0, 0, 127][..], &[1.0 / 127.0, 1.0, 1.0, 3.0 / 127.0][..])
        );
        assert!(scales[4].is_nan());
    }
}
