//! Training on a task: losses, optimisers, observers, and the trainer that follows the protocol.
//!
//! A [`Trainer`] has one loop: epochs of batches, each a forward pass, a [`Loss`], a backward pass,
//! a [`Reduce`] over processes and a step of an [`Optimizer`]; after each epoch the task judges the
//! validation part, and [`Observer`]s may change the model.

mod adam;
mod loss;
mod observer;
mod optimizer;
mod reduce;
mod schedule;
mod sgd;
mod trainer;

pub use adam::{Adam, AdamBuilder};
pub use loss::{Loss, NodeGrads, Objective, Pass};
pub use observer::{Epoch, Flow, Observer, OnEpoch};
pub use optimizer::{Optimizer, UpdateRule, step};
pub use reduce::{Alone, Reduce};
pub use schedule::Schedule;
pub use sgd::{Sgd, SgdBuilder};
pub use trainer::{Fit, Setup, Trainer, TrainerBuilder, WeightView};

use crate::error::{Error, Result};

/// Refuses a learning rate or a weight decay outside its range.
fn check_rates(learning_rate: f64, weight_decay: f64) -> Result<()> {
    if !(learning_rate > 0.0 && learning_rate.is_finite()) {
        return Err(Error::setting("learning rate", learning_rate, "a positive number"));
    }
    if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
        return Err(Error::setting("weight decay", weight_decay, "0 or more"));
    }
    Ok(())
}
