//! Composition: steps in a row, from a dense model to a small one, with a report that has a row per
//! step and the controls.

mod checkpoints;
mod compressed;
mod compression;
mod controls;
mod execution;
mod identity;
mod one_shot;
#[cfg(feature = "recipe")]
mod recipe;
mod rehearsal;
mod seed_state;
mod step;
mod steps;
mod words;

pub use checkpoints::Checkpoints;
pub use compressed::Compressed;
pub use compression::{Compression, Outcome, Progress};
pub use controls::Controls;
pub use one_shot::{OneShot, OneShotBuilder};
#[cfg(feature = "recipe")]
pub use recipe::Recipe;
pub use step::{Control, Env, OnGraph, Step, Subject};
pub use steps::{Distill, FineTune, Prefix, Student};
pub use words::{Entry, Key, Kind, Made, Settings, Word, Words};
