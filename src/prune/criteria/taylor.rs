//! Change of the loss, to first order.

use super::{Criterion, Needs};
use crate::prune::GroupView;
use crate::scalar::Scalar;
use ndarray::Array1;

/// `I_c = |Σ_{w∈g_c} w·∂L/∂w|`: how much the loss on the training nodes would change if the unit
/// went, to first order.
///
/// *Source*: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, eq.
/// 6, summed over the coupled group before the absolute value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taylor;

impl Taylor {
    /// The criterion.
    pub fn new() -> Self {
        Self
    }
}

impl<F: Scalar> Criterion<F> for Taylor {
    fn name(&self) -> &'static str {
        "taylor"
    }

    fn needs(&self) -> Needs {
        Needs::Gradients
    }

    fn score(&self, group: &GroupView<F>) -> Array1<F> {
        group.sum(|w, g| w * g).mapv_into(F::abs)
    }
}
