//! How much goes, and where units compete for staying.

use crate::error::{Error, Result};
use crate::nn::Model;
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How much a pruner removes, of whatever units it is about.
///
/// ```
/// use gnn_prune::prune::{Amount, Budget};
/// use gnn_prune::{ChannelPruner, Dataset, Gcn, Magnitude};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let pruner = ChannelPruner::builder(Magnitude::l2()).amount(Amount::Budget(Budget::Params(500)));
/// let small = pruner.build()?.plan(&model, &data)?.shrink(&model)?;
/// assert!(small.num_params() <= 500);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Amount {
    /// A share of the units, in [0, 1]: of n units round-half-to-even(share·n).
    Share(f64),
    /// This many units.
    Count(usize),
    /// Every unit whose score is less, a finite number of at least 0.
    Threshold(f64),
    /// As few units as bring the model within a budget.
    Budget(Budget),
}

/// What a model may have at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Budget {
    /// Parameters that no mask holds at zero.
    Params(usize),
}

impl Amount {
    /// Refuses a number outside its range; `name` is what a share of it is called.
    pub(super) fn check(self, name: &str) -> Result<()> {
        match self {
            Amount::Share(share) if !(0.0..=1.0).contains(&share) => {
                Err(Error::setting(name, share, "in [0, 1]"))
            }
            Amount::Threshold(threshold) if !(threshold >= 0.0 && threshold.is_finite()) => {
                Err(Error::setting("threshold", threshold, "a finite number, at least 0"))
            }
            _ => Ok(()),
        }
    }

    /// The share, where it is one.
    pub fn share(self) -> Option<f64> {
        match self {
            Amount::Share(share) => Some(share),
            _ => None,
        }
    }

    /// Whether how many units go depends on their scores, so that chance has no equal amount.
    pub(crate) fn depends_on_scores(self) -> bool {
        matches!(self, Amount::Threshold(_))
    }
}

/// As it stands behind the word of a stage: a share as a number, what else it is in words.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Share(share) => write!(f, "{share}"),
            Amount::Count(count) => write!(f, "{count} units"),
            Amount::Threshold(threshold) => write!(f, "under {threshold}"),
            Amount::Budget(Budget::Params(params)) => write!(f, "to {params} parameters"),
        }
    }
}

/// How many of `n` things a share of `ratio` is: `ratio·n`, rounded half to even.
pub(super) fn share_of(ratio: f64, n: usize) -> usize {
    ((ratio * n as f64).round_ties_even() as usize).min(n)
}

/// How many parameters no mask holds at zero.
pub(super) fn num_free_params<F: Scalar>(model: &Model<F>) -> usize {
    let mut free = 0;
    model.visit(&mut |_, param| {
        let all = param.value().len();
        free += param.mask().map_or(all, |mask| mask.iter().filter(|keep| **keep).count());
    });
    free
}

/// Where units compete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Scope {
    /// Within each coupled group, or each matrix: all of them lose the same share.
    #[default]
    Layer,
    /// Across the model, groups losing different shares: by scores divided by their group's mean,
    /// or by the loss per multiply-accumulate saved for a criterion that knows losses.
    Global,
}

/// What happens to the weights that are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compensation {
    /// Their rows go, the others stay as they are.
    None,
    /// The others are solved again by least squares; see
    /// [`ChannelPlan::shrink_refitted`](super::ChannelPlan::shrink_refitted) and
    /// [`WeightPruner::prune`](super::WeightPruner::prune).
    #[default]
    Refit,
}
