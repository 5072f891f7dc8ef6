//! The steps of the crate, one per file: what each wraps, and what chance does in its place.

mod channels;
mod distill;
mod edges;
mod finetune;
mod layers;
mod weights;

pub use distill::{Distill, Student};
pub use finetune::FineTune;

use super::step::{Control, Step};
use crate::prune::Amount;

/// The random twin of a step that removes an amount. A threshold has none: how many units it takes
/// depends on their scores, which in the random chain are others.
fn random(amount: Amount, twin: impl FnOnce() -> Box<dyn Step>) -> Control {
    if amount.depends_on_scores() { Control::ChoosesNothing } else { Control::Random(twin()) }
}
