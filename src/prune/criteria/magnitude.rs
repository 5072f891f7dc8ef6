//! Size of the weights.

use crate::error::Result;
use crate::prune::{Criterion, Scores, Units};
use crate::scalar::Scalar;

/// `I_c = (Σ_{w∈g_c} |w|^p)^{1/p}`, `p` 1 or 2, over every parameter slice tied to unit `c`; of a
/// single weight `|w|` by either.
///
/// *Source*: Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, §3.1; over coupled
/// groups as Fang et al., CVPR 2023, §3.3; of single weights Han et al., NeurIPS 2015.
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

    fn word(self) -> &'static str {
        match self.norm {
            Norm::L1 => "l1",
            Norm::L2 => "l2",
        }
    }
}

impl<F: Scalar> Criterion<F> for Magnitude {
    fn name(&self) -> &str {
        self.word()
    }

    fn score(&self, units: &Units<F>) -> Result<Scores> {
        let scores = match (self.norm, units) {
            // A square and its root would round.
            (Norm::L1, _) | (_, Units::Weights(_)) => {
                units.sum(self.word(), |entry| entry.weight.abs())?
            }
            (Norm::L2, _) => {
                units.sum(self.word(), |entry| entry.weight * entry.weight)?.mapv_into(F::sqrt)
            }
        };
        Ok(scores.into())
    }
}
