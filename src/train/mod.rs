//! Training on a task: losses, optimisers, observers, and the trainer that follows the protocol.
//!
//! A [`Trainer`] has one loop: epochs of batches, each a forward pass, a [`Loss`], a backward pass,
//! a [`Reduce`] over processes and a step of an [`Optimizer`]; after each epoch the task judges the
//! validation part, and [`Observer`]s may change the model. [`CrossValidation`] trains on the folds
//! of a set of graphs.

mod accumulate;
mod adagrad;
mod adam;
mod cross_validation;
mod loss;
mod observer;
mod optimizer;
mod penalty;
mod rates;
mod reduce;
mod rule;
mod schedule;
mod sgd;
mod trainer;

pub use adagrad::{Adagrad, AdagradBuilder};
pub use adam::{Adam, AdamBuilder};
pub use cross_validation::{CrossValidation, FoldResult, GraphProtocol};
pub use loss::{Loss, NodeGrads, Objective, Pass};
pub use observer::{Epoch, Flow, Observer, OnEpoch};
pub use optimizer::{Optimizer, step};
pub use penalty::Penalty;
pub use reduce::{Alone, Reduce};
pub use rule::UpdateRule;
pub use schedule::Schedule;
pub use sgd::{Sgd, SgdBuilder};
pub use trainer::{Fit, Setup, Trainer, TrainerBuilder, WeightView};
