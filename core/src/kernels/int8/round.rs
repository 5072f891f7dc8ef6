//! Rounding to integers, number by number and row by row: the text that every level is compiled
//! from.

/// `1.5·2²³`: adding it to a number of at most 2²² leaves the nearest integer, ties to even, in the
/// low bits.
const SHIFT: f32 = 12_582_912.0;

/// `round_ties_even(v / scale)` clamped to ±`qmax`; NaN becomes 0.
///
/// Clamping first changes nothing, since the bounds are integers, and lets one addition do the
/// rounding on every processor.
#[inline(always)]
pub(super) fn to_int(v: f32, scale: f32, qmax: f32) -> i8 {
    round(v / scale, qmax)
}

/// `round_ties_even(v)` clamped to ±`qmax`; NaN becomes 0.
#[inline(always)]
fn round(v: f32, qmax: f32) -> i8 {
    (v.clamp(-qmax, qmax) + SHIFT).to_bits() as i8
}

/// [`to_int`] of each number; `FMA` as in [`quantize_row`].
#[inline(always)]
pub(super) fn to_ints<const FMA: bool>(x: &[f32], scale: f32, qmax: i8, q: &mut [i8]) {
    let q = &mut q[..x.len()];
    if FMA && SAFE_SCALES.contains(&scale) {
        let (inverse, limit) = (1.0 / scale, (f32::from(qmax) + 0.25) * scale);
        for (q, &v) in q.iter_mut().zip(x) {
            *q = (quotient(within(v, limit), scale, inverse) + SHIFT).to_bits() as i8;
        }
    } else {
        let qmax = f32::from(qmax);
        for (q, &v) in q.iter_mut().zip(x) {
            *q = to_int(v, scale, qmax);
        }
    }
}

/// `v` clamped to ±`limit`; NaN stays.
#[inline(always)]
fn within(v: f32, limit: f32) -> f32 {
    let v = if v > limit { limit } else { v };
    if v < -limit { -limit } else { v }
}

/// The scale of a symmetric quantiser: `max / qmax`; 1 where that is zero, so that an all-zero
/// tensor has integers 0.
///
/// *Source*: Jacob et al., CVPR 2018, eq. 1 with zero point 0.
#[inline]
pub fn symmetric_scale(max: f32, qmax: i8) -> f32 {
    let scale = max / f32::from(qmax);
    if scale > 0.0 || scale.is_nan() { scale } else { 1.0 }
}

/// The largest magnitude; NaN if there is one, and 0 of nothing.
#[inline]
pub fn max_abs(values: &[f32]) -> f32 {
    // Without the sign the bits of floats are ordered as the numbers are, and NaN stands above all
    // of them.
    f32::from_bits(values.iter().fold(0, |max: u32, v| max.max(v.to_bits() & 0x7fff_ffff)))
}

/// `q = round_ties_even(x / scale)` clamped to ±`qmax`.
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn quantize_with(x: &[f32], scale: f32, qmax: i8, q: &mut [i8]) {
    assert_eq!(x.len(), q.len(), "quantize_with: lengths");
    let qmax = f32::from(qmax);
    q.iter_mut().zip(x).for_each(|(q, &x)| *q = to_int(x, scale, qmax));
}

/// Quantises one row by its own largest magnitude and returns the scale; every level is this text,
/// compiled with its features.
///
/// `FMA` says that fused multiply-adds are instructions here: three of them make a quotient faster
/// than a division does.
#[inline(always)]
pub(super) fn quantize_row<const FMA: bool>(x: &[f32], qmax: i8, q: &mut [i8]) -> f32 {
    let scale = symmetric_scale(max_abs(x), qmax);
    if FMA && SAFE_SCALES.contains(&scale) {
        assert_eq!(x.len(), q.len(), "quantize_row: lengths");
        let (inverse, qmax) = (1.0 / scale, f32::from(qmax));
        q.iter_mut().zip(x).for_each(|(q, &x)| *q = round(quotient(x, scale, inverse), qmax));
    } else {
        quantize_with(x, scale, qmax, q);
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

/// A scale for each column, with what makes dividing by it fast.
#[derive(Debug, Clone)]
pub struct ColumnScales {
    pub(super) scales: Vec<f32>,
    inverses: Vec<f32>,
    /// What is larger rounds to the largest integer, and so does this.
    limits: Vec<f32>,
    qmax: i8,
    safe: bool,
}

impl ColumnScales {
    /// Positive scales of integers in ±`qmax`.
    pub fn new(scales: Vec<f32>, qmax: i8) -> Self {
        let inverses = scales.iter().map(|scale| 1.0 / scale).collect();
        let limits = scales.iter().map(|scale| (f32::from(qmax) + 0.25) * scale).collect();
        let safe = scales.iter().all(|scale| SAFE_SCALES.contains(scale));
        Self { scales, inverses, limits, qmax, safe }
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
        let qmax = f32::from(by.qmax);
        for c in 0..x.len() {
            q[c] = to_int(x[c], scales[c], qmax);
        }
    }
    max_abs(x) < f32::INFINITY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;

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
            for qmax in [7, 127] {
                for scale in [1.0, 0.3, 2.0f32.powi(-20)] {
                    assert_eq!(
                        to_int(v, scale, f32::from(qmax)),
                        reference::requantize(v, scale, qmax),
                        "{v} / {scale}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_corrected_product_is_the_quotient() {
        let mut rng = crate::seed::generator(5, &[]);
        let mut draw = || rand_chacha::rand_core::RngCore::next_u32(&mut rng);
        for _ in 0..200_000 {
            let scale = f32::from_bits((draw() & 0x007f_ffff) | ((64 + draw() % 120) << 23));
            // Around a tie, where one bit decides.
            let tie = scale * ((draw() % 128) as f32 + 0.5);
            let x = f32::from_bits(tie.to_bits().wrapping_add(draw() % 5).wrapping_sub(2));
            assert_eq!(quotient(x, scale, 1.0 / scale), x / scale, "{x:e} / {scale:e}");
        }
    }
}
