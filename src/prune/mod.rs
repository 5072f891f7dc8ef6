//! Pruning: labels that say which channels belong together, criteria that score them, plans that
//! remove them.

mod criteria;
mod evidence;
mod group;
mod labels;
mod layer;
mod plan;
mod pruner;
mod refit;
mod sweep;
mod weight;

pub use criteria::{Criterion, Magnitude, Needs, Random, Removal, Subset, Taylor};
pub use group::{GroupView, Member, ReaderView};
pub use labels::{ChannelLabels, Group};
pub use layer::{LayerCriterion, LayerPlan, LayerPruner, LayerPrunerBuilder, RemovedLayer};
pub use plan::{ChannelPlan, GroupPlan};
pub use pruner::{ChannelPruner, ChannelPrunerBuilder, Compensation, Scope};
pub use weight::{WeightPlan, WeightPruner, WeightPrunerBuilder};

/// How many of `n` things a share of `ratio` is: `ratio·n`, rounded half to even.
pub(crate) fn share_of(ratio: f64, n: usize) -> usize {
    ((ratio * n as f64).round_ties_even() as usize).min(n)
}
