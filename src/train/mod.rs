//! Training on one graph: losses, the optimiser, metrics and the trainer that follows the protocol.

mod adam;
mod loss;
mod metrics;
mod trainer;

pub use adam::{Adam, AdamBuilder};
pub use loss::{Loss, Objective, Seeds, binary_cross_entropy, cross_entropy, supervised};
pub use metrics::{Metric, accuracy, roc_auc};
#[cfg(feature = "report")]
pub(crate) use trainer::check_fits;
pub use trainer::{Epoch, Fit, Hear, Schedule, Through, Trainer, TrainerBuilder, evaluate};
