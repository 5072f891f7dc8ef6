//! Composition: steps in a row, from a dense model to a small one, with a report that has a row a step and the controls.

mod compressed;
mod compression;
mod fine_tune;
mod one_shot;
mod recipe;
mod step;
mod student;

pub use compressed::Compressed;
pub use compression::{Compression, Controls, Outcome, Progress};
pub use fine_tune::FineTune;
pub use one_shot::{OneShot, OneShotBuilder};
pub use recipe::Recipe;
pub use step::{Env, Step, Subject};
pub use student::{Distill, Student};
