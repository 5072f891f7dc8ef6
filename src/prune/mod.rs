//! Pruning: labels that say which channels belong together, criteria that score units of whatever
//! kind, plans that remove them.
//!
//! | units | pruner | plan |
//! |---|---|---|
//! | channels of coupled groups, or whole heads | [`ChannelPruner`] | [`ChannelPlan`] |
//! | weights | [`WeightPruner`] | [`WeightPlan`] |
//! | residual blocks | [`LayerPruner`] | [`LayerPlan`] |
//! | edges of a graph | [`EdgePruner`] | [`EdgePlan`] |
//!
//! All four choose by a [`Criterion`] and an [`Amount`]; what a criterion looks at beside the units
//! is gathered once per plan. [`Precompute`] chooses nothing: it leaves out whole encoders of
//! models that serve one graph, and what they compute stays as a table.

mod amount;
mod block;
mod channel;
mod criteria;
mod criterion;
mod edge;
mod entry;
mod evidence;
mod layer;
mod precompute;
mod sweep;
mod units;
mod weight;

pub use amount::{Amount, Budget, Compensation, Scope};
pub use block::Block;
pub use channel::{
    Activation, ChannelLabels, ChannelPlan, ChannelPruner, ChannelPrunerBuilder, ChannelUnits,
    Group, GroupPlan, Member, Prefixes, ReaderView,
};
pub use criteria::{Ablation, Cosine, Magnitude, Random, Subset, Taylor};
pub use criterion::{Criterion, Needs, Removal, Scores};
pub use edge::{EdgePlan, EdgePruner, EdgePrunerBuilder, Pairs};
pub use entry::Entry;
pub use layer::{LayerPlan, LayerPruner, LayerPrunerBuilder, RemovedLayer};
pub use precompute::Precompute;
pub use units::{BlockUnits, EdgeUnits, MatrixReader, Units, WeightMatrix, WeightUnits};
pub use weight::{WeightPlan, WeightPruner, WeightPrunerBuilder};
