//! Hops: what a layer takes from its neighbours goes, and what it makes of a node stays.
//!
//! | file | what |
//! |---|---|
//! | `alone` | the networks without some hops, and which form of a layer is closest |
//! | `plan` | which hops go |
//! | `pruner` | criterion and amount make a plan |
//! | `removed` | one hop that goes |

mod alone;
mod plan;
mod pruner;
mod removed;

pub use plan::HopPlan;
pub use pruner::{HopPruner, HopPrunerBuilder};
pub use removed::RemovedHop;
