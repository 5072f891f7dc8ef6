//! Size of the weights.

use super::Criterion;
use crate::prune::GroupView;
use crate::scalar::Scalar;
use ndarray::Array1;

/// `I_c = (Σ_{w∈g_c} |w|^p)^{1/p}`, `p` 1 or 2, over every parameter slice tied to unit `c`.
///
/// *Source*: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, §3.1; over coupled
/// groups as Fang et al., CVPR 2023, §3.3.
#[derive(Debug, Clone, Copy)]
pub struct Magnitude {
    norm: Norm,
}

#[derive(Debug, Clone, Copy)]
enum Norm {
    L1,
    L2,
}

impl Magnitude {
    /// Sum of absolute values.
    pub fn l1() -> Self {
        Self { norm: Norm::L1 }
    }

    /// Euclidean norm.
    pub fn l2() -> Self {
        Self { norm: Norm::L2 }
    }
}

impl<F: Scalar> Criterion<F> for Magnitude {
    fn name(&self) -> &'static str {
        match self.norm {
            Norm::L1 => "l1",
            Norm::L2 => "l2",
        }
    }

    fn score(&self, group: &GroupView<F>) -> Array1<F> {
        match self.norm {
            Norm::L1 => group.sum(|w, _| w.abs()),
            Norm::L2 => group.sum(|w, _| w * w).mapv_into(F::sqrt),
        }
    }
}
