//! The steps of the crate, one per file: what each wraps, and what chance does in its place.

mod channels;
mod distill;
mod early_bird;
mod edges;
mod finetune;
mod hops;
mod layers;
mod precompute;
mod prefix;
mod quantize;
mod weights;

pub use distill::{Distill, Student};
pub use finetune::FineTune;
pub use prefix::Prefix;

use super::step::{Control, Step};
use super::words::Key;
use crate::prune::Amount;
use crate::reconstruct::Calibrate;

/// The random twin of a step that removes an amount. A threshold has none: how many units it takes
/// depends on their scores, which in the random chain are others.
fn random(amount: Amount, twin: impl FnOnce() -> Box<dyn Step>) -> Control {
    if amount.depends_on_scores() { Control::ChoosesNothing } else { Control::Random(twin()) }
}

/// Which nodes least squares looks at, of every stage that solves it.
const CALIBRATE: Key = Key::text(
    "calibrate",
    |text| Ok(text.parse::<Calibrate>()?.to_string()),
    "Nodes for least squares: all, or train and neighbours",
)
.value_name("NODES")
.default("all");
