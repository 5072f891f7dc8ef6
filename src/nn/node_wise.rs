//! What is left of a layer that aggregates once no edge is read: steps on each node by itself.

use super::activation_fn::ActivationFn;
use super::param::Param;
use crate::scalar::Scalar;
use ndarray::Array2;

/// One step of what a layer computes of a node alone; see
/// [`Layer::without_hop`](super::Layer::without_hop). A pruner makes a layer of each.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "there are a handful of steps at a time")]
#[non_exhaustive]
pub enum NodeWise<F: Scalar> {
    /// `Y = X·W + b`, `W: [in, out]`, `b: [1, out]`; values and masks are taken, and whether they
    /// train.
    Linear {
        /// `W`.
        weight: Param<F>,
        /// `b`.
        bias: Option<Param<F>>,
    },
    /// A function of each entry.
    Activation(ActivationFn),
    /// `Y = a·X`, a finite number.
    Scale(f64),
    /// `y_i = x_i / |x_i|`, as [`Normalize`](super::Normalize).
    Normalize,
}

impl<F: Scalar> NodeWise<F> {
    /// A product with copies of a weight and of a bias.
    pub fn linear(weight: &Param<F>, bias: Option<&Param<F>>) -> Self {
        Self::Linear { weight: weight.clone(), bias: bias.cloned() }
    }

    /// Multiplication by a number: no step where that is 1.
    pub fn scaled(by: F) -> Vec<Self> {
        if by == F::one() { Vec::new() } else { vec![Self::Scale(by.as_f64())] }
    }
}

/// A copy of `param` with other numbers. An entry is held at zero only where all of `masks` do:
/// what is summed of several weights is zero where all of them are.
pub(crate) fn remade<F: Scalar>(
    param: &Param<F>,
    value: Array2<F>,
    masks: &[&Param<F>],
) -> Param<F> {
    let mut made = Param::new(param.name(), value.dim(), param.axes(), param.init());
    made.set_trainable(param.is_trainable());
    let mut free = masks.iter().map(|of| of.mask().cloned());
    let first = free.next().flatten();
    let all = free.fold(first, |all, mask| Some(&all? | &mask?));
    *made.value_mut() = value;
    if let Some(mask) = all.filter(|mask| mask.dim() == made.value().dim()) {
        made.restrict(&mask);
    }
    made
}
