//! Layers that can run in the memory of their input.

use super::cx::Cx;
use crate::scalar::Scalar;
use ndarray::Array2;

/// A layer of one input that changes entries one by one, and so can do it where they lie; its cache
/// is `()`. A layer offers it by [`Layer::in_place`](super::Layer::in_place).
pub trait InPlace<F: Scalar> {
    /// What [`Layer::forward`](super::Layer::forward) computes, in place of the input, which is in
    /// standard layout.
    fn forward_in_place(&self, cx: &Cx<F>, x: &mut Array2<F>);

    /// Whether an entry of the output is positive where that of the input is, or the gradient of
    /// the input is zero there. Default: no.
    fn keeps_signs(&self) -> bool {
        false
    }
}
