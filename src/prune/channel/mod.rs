//! Channels: which belong together, which go, and what is made of those that stay.

mod early;
mod gather;
mod group;
mod labels;
mod lessons;
mod plan;
mod prefix;
mod prefixes;
mod pruner;
mod refit;

pub use early::{EarlyBird, EarlyBirdBuilder, Pruned, Watch};
pub use group::{Activation, ChannelUnits, Member, ReaderView};
pub use labels::{ChannelLabels, Group};
pub use lessons::Lessons;
pub use plan::{ChannelPlan, GroupPlan};
pub use prefixes::Prefixes;
pub use pruner::{ChannelPruner, ChannelPrunerBuilder};
