//! Pruning: labels that say which channels belong together, criteria that score units of whatever
//! kind, plans that remove them.
//!
//! | units | pruner | plan |
//! |---|---|---|
//! | channels of coupled groups, or whole heads | [`ChannelPruner`] | [`ChannelPlan`] |
//! | weights | [`WeightPruner`] | [`WeightPlan`] |
//! | residual blocks | [`LayerPruner`] | [`LayerPlan`] |
//! | what layers take from neighbours | [`HopPruner`] | [`HopPlan`] |
//! | edges of a graph | [`EdgePruner`] | [`EdgePlan`] |
//!
//! All five choose by a [`Criterion`] and an [`Amount`]; what a criterion looks at beside the units
//! is gathered once per plan. [`Precompute`] chooses nothing: it leaves out whole encoders of
//! models that serve one graph, and what they compute stays as a table. [`Dspar`] draws the edges
//! that a network is trained on, [`EarlyBird`] removes channels while it trains.

mod amount;
mod block;
mod channel;
mod criteria;
mod criterion;
mod dspar;
mod edge;
mod entry;
mod evidence;
mod hop;
mod layer;
mod precompute;
mod sweep;
mod units;
mod weight;

pub use amount::{Amount, Budget, Compensation, Scope};
pub use block::Block;
pub use channel::{
    Activation, ChannelLabels, ChannelPlan, ChannelPruner, ChannelPrunerBuilder, ChannelUnits,
    EarlyBird, EarlyBirdBuilder, Group, GroupPlan, Lessons, Member, Prefixes, Pruned, ReaderView,
    Watch,
};
pub use criteria::{Ablation, Cosine, Magnitude, Random, Subset, Taylor};
pub use criterion::{Criterion, Needs, Removal, Scores};
pub use dspar::{Dspar, Sparsified};
pub use edge::{EdgePlan, EdgePruner, EdgePrunerBuilder, Pairs};
pub use entry::Entry;
pub use hop::{HopPlan, HopPruner, HopPrunerBuilder, RemovedHop};
pub use layer::{LayerPlan, LayerPruner, LayerPrunerBuilder, RemovedLayer};
pub use precompute::Precompute;
pub use units::{BlockUnits, EdgeUnits, HopUnits, MatrixReader, Units, WeightMatrix, WeightUnits};
pub use weight::{WeightPlan, WeightPruner, WeightPrunerBuilder};
