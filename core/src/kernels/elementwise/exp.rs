//! Exponentials without branches, so that a loop of them becomes vectors.

use crate::kernels::simd::{Isa, array, by_level};
use crate::scalar::Scalar;

/// Adding it rounds to an integer, whose bits are then the lowest.
pub(in crate::kernels) const ROUND: f32 = 12_582_912.0;
pub(in crate::kernels) const LN2_HIGH: f32 = 0.693_359_4;
pub(in crate::kernels) const LN2_LOW: f32 = -2.121_944_4e-4;

/// Below it `e^v` stays at its smallest normal number.
pub(in crate::kernels) const LEAST: f32 = -87.0;

/// Of `(e^r − 1) / r`, the highest power first.
pub(in crate::kernels) const SERIES: [f32; 7] =
    [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];

/// `2^n` and `e^r − 1` with `v = n·ln 2 + r`, `|r| ≤ ln 2 / 2`: seven terms of the series, whose
/// rest is below half a rounding.
#[inline(always)]
fn parts(v: f32) -> (f32, f32) {
    let v = if v < LEAST { LEAST } else { v };
    let shifted = v * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (v - n * LN2_HIGH) - n * LN2_LOW;
    let mut series = SERIES[0];
    for term in &SERIES[1..] {
        series = series * r + term;
    }
    (
        f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23),
        series * r,
    )
}

/// `e^v` of a number that is not positive, good to two roundings; NaN stays NaN.
#[inline(always)]
pub(in crate::kernels) fn exp_f32(v: f32) -> f32 {
    let (power, rest) = parts(v);
    (rest + 1.0) * power
}

/// `e^v − 1` of a number that is not positive, good to three roundings of the result, also near
/// zero; NaN stays NaN.
#[inline(always)]
fn exp_m1_f32(v: f32) -> f32 {
    let (power, rest) = parts(v);
    power * rest + (power - 1.0)
}

/// `e^v` of numbers that are not positive.
#[inline(always)]
pub(in crate::kernels) fn exp<F: Scalar, const N: usize>(mut values: [F; N]) -> [F; N] {
    match F::as_f32_mut(&mut values) {
        Some(values) => {
            for v in values {
                *v = exp_f32(*v);
            }
        }
        None => values = values.map(|v| v.exp()),
    }
    values
}

/// Numbers that are summed side by side, whatever the level.
const SUMS: usize = 16;

/// Makes `e^{v − m}` of every number `v`, `m` being the largest of them, and returns `m` and the
/// sum. What is 88 or more below `m` counts as 1e-38; NaN makes the sum NaN.
pub fn softmax_terms<F: Scalar>(values: &mut [F]) -> (F, F) {
    softmax_terms_of(Isa::best(), values)
}

by_level! {
    fn softmax_terms_of<F>(values: &mut [F]) -> (F, F) = softmax_terms_here
}

#[inline(always)]
fn softmax_terms_here<F: Scalar>(values: &mut [F]) -> (F, F) {
    let larger = |a: F, b: F| if b > a { b } else { a };
    let (whole, rest) = values.as_chunks::<SUMS>();
    let mut tops = [F::neg_infinity(); SUMS];
    for values in whole {
        for (top, &v) in tops.iter_mut().zip(values) {
            *top = larger(*top, v);
        }
    }
    let top = tops.iter().chain(rest).fold(F::neg_infinity(), |top, &v| larger(top, v));
    let mut sums = [F::zero(); SUMS];
    let (whole, rest) = values.as_chunks_mut::<SUMS>();
    for values in whole {
        *values = exp(array(|lane| values[lane] - top));
        for (sum, &v) in sums.iter_mut().zip(&*values) {
            *sum += v;
        }
    }
    for v in &mut *rest {
        [*v] = exp([*v - top]);
    }
    (top, sums.iter().chain(&*rest).fold(F::zero(), |sum, &v| sum + v))
}

/// `x` where it is positive, else `e^x − 1`, in place.
pub fn elu<F: Scalar>(values: &mut [F]) {
    elu_with(Isa::best(), values);
}

crate::scalar::compiled_here! {
    /// [`elu`] with the instructions of one level.
    ///
    /// # Panics
    /// If the processor does not have the level.
    #[doc(hidden)]
    pub fn elu_with<F>(isa: Isa, values: &'a mut [F]) = elu_any
}

fn elu_any<F: Scalar>(isa: Isa, values: &mut [F]) {
    elu_of(isa, values);
}

by_level! {
    fn elu_of<F>(values: &mut [F]) = elu_here
}

#[inline(always)]
fn elu_here<F: Scalar>(values: &mut [F]) {
    match F::as_f32_mut(values) {
        Some(values) => elu_f32(values),
        None => values.iter_mut().for_each(|v| *v = if *v > F::zero() { *v } else { v.exp_m1() }),
    }
}

#[inline(always)]
fn elu_f32(values: &mut [f32]) {
    for v in values {
        let below = exp_m1_f32(if *v > 0.0 { 0.0 } else { *v });
        *v = if *v > 0.0 { *v } else { below };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_good_to(roundings: f64, found: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) {
        for k in 0..=870_000 {
            let v = -(k as f32) * 1e-4;
            let exact = exact(f64::from(v));
            assert!(
                (f64::from(found(v)) - exact).abs()
                    <= roundings * f64::from(f32::EPSILON) * exact.abs(),
                "{v}"
            );
        }
        assert!(found(f32::NAN).is_nan());
    }

    #[test]
    fn the_exponentials_are_good_to_some_roundings() {
        assert_good_to(2.0, exp_f32, f64::exp);
        assert_good_to(3.0, exp_m1_f32, f64::exp_m1);
        assert_eq!(
            (exp_f32(0.0), exp_m1_f32(0.0), exp_m1_f32(f32::NEG_INFINITY)),
            (1.0, 0.0, -1.0)
        );
        assert!(exp_f32(f32::NEG_INFINITY) < 1e-37);
        for tiny in [-1e-7f32, -1e-20, -1e-38] {
            assert!((exp_m1_f32(tiny) - tiny).abs() <= -tiny * f32::EPSILON, "{tiny}");
        }
    }

    #[test]
    fn terms_of_a_softmax_are_the_same_on_every_level_and_near_the_exact_ones() {
        for len in [1, 7, 16, 33, 1003] {
            let values: Vec<f32> = (0..len).map(|k| ((k * 37 % 101) as f32 - 50.0) * 0.7).collect();
            let mut expected = values.clone();
            let (top, sum) = softmax_terms_of(Isa::Portable, &mut expected);
            assert_eq!(top, values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                let mut found = values.clone();
                let (its_top, its_sum) = softmax_terms_of(isa, &mut found);
                assert_eq!((its_top, its_sum.to_bits()), (top, sum.to_bits()), "{isa:?}");
                assert_eq!(found, expected, "{isa:?}");
            }
            let mut exact: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
            let (_, exact_sum) = softmax_terms(&mut exact);
            assert!((f64::from(sum) - exact_sum).abs() <= 1e-6 * exact_sum);
            // The differences to the largest are rounded: by 4e-6 where they are 70.
            let far = |(a, b): (&f32, &f64)| (f64::from(*a) - b).abs() > 5e-6 * b + 1e-37;
            assert!(!expected.iter().zip(&exact).any(far));
        }
        let mut some = [1.0f32, f32::NAN, 0.0];
        assert!(softmax_terms(&mut some).1.is_nan());
        let mut left_out = [f32::NEG_INFINITY, 2.0];
        assert_eq!(softmax_terms(&mut left_out), (2.0, 1.0));
        assert!(left_out[0] < 1e-37);
    }

    #[test]
    fn every_level_gives_the_same_elu() {
        let values: Vec<f32> = (0..1003)
            .map(|k| (k as f32 - 500.0) * 0.05)
            .chain([f32::NAN, f32::INFINITY, f32::NEG_INFINITY])
            .collect();
        let mut expected = values.clone();
        elu_with(Isa::Portable, &mut expected);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let mut found = values.clone();
            elu_with(isa, &mut found);
            assert!(
                found.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()),
                "{isa:?}"
            );
        }
        for (&x, &y) in values.iter().zip(&expected) {
            let exact = if x > 0.0 { f64::from(x) } else { f64::from(x).exp_m1() };
            assert!(
                x.is_nan() && y.is_nan()
                    || x == y
                    || (f64::from(y) - exact).abs() <= 4e-7 * exact.abs(),
                "{x}: {y}"
            );
        }
    }
}
