//! Change of the loss, to first order.

use crate::error::Result;
use crate::prune::{Criterion, Needs, Scores, Units};
use crate::scalar::Scalar;

/// `I_c = |Σ_{w∈g_c} w·∂L/∂w|`: how much the loss on the training nodes would change if the unit
/// went, to first order; of a single weight `|w·∂L/∂w|`, which means the same in every matrix.
///
/// *Source*: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, eq.
/// 6, summed over the coupled group before the absolute value; of single weights Lee et al.,
/// "SNIP", ICLR 2019, eq. 4.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taylor;

impl Taylor {
    /// The criterion.
    pub fn new() -> Self {
        Self
    }
}

impl<F: Scalar> Criterion<F> for Taylor {
    fn name(&self) -> &str {
        "taylor"
    }

    fn needs(&self) -> Needs {
        Needs::WEIGHTS | Needs::GRADIENTS
    }

    fn score(&self, units: &Units<F>) -> Result<Scores> {
        let change = units.sum("taylor", |entry| entry.weight * entry.gradient)?;
        let scores = Scores::from(change.mapv_into(F::abs));
        Ok(if matches!(units, Units::Weights(_)) { scores.comparable() } else { scores })
    }
}
