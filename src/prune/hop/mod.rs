//! Hops: what a layer takes from its neighbours goes, and what it makes of a node stays.
//!
//! | file | what |
//! |---|---|
//! | `alone` | the networks without some hops, and which form of a layer is closest |
//! | `plan` | which hops go |
//! | `pruner` | criterion and amount make a plan |

mod alone;
mod plan;
mod pruner;

pub use plan::{HopPlan, RemovedHop};
pub use pruner::{HopPruner, HopPrunerBuilder};
