//! The rectifier: every kernel, layer and program that has one means this function.

use crate::scalar::Scalar;

/// Zero in place of negative numbers; NaN stays, so that a diverged network is seen, and so does
/// −0. The forms in registers do the same.
#[inline(always)]
pub fn relu<F: Scalar>(v: F) -> F {
    if v < F::zero() { F::zero() } else { v }
}

#[cfg(test)]
mod tests {
    use super::relu;

    #[test]
    fn nan_and_both_zeros_stay() {
        assert!(relu(f32::NAN).is_nan() && relu(f64::NAN).is_nan());
        assert_eq!(relu(-0.0f32).to_bits(), (-0.0f32).to_bits());
        assert_eq!((relu(-1.0f32), relu(0.0f32), relu(2.0f32)), (0.0, 0.0, 2.0));
        assert_eq!((relu(f32::NEG_INFINITY), relu(f32::INFINITY)), (0.0, f32::INFINITY));
    }
}
