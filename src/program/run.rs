//! What programs of floats and of integers have in common.

use super::cost::{Cost, Products};
use super::float::Program;
use crate::error::Result;
use crate::value::ValueRef;
use ndarray::ArrayView2;
use serde::Serialize;

/// What a stage of a compiled program computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Form {
    /// 8-bit integers, summed in 32 bits.
    Integers,
    /// 32-bit floats: weights are their integers times their scales, activations are not rounded,
    /// `Â` is the graph's own.
    Floats,
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Form::Integers => "integers",
            Form::Floats => "floats",
        })
    }
}

/// The form of one stage of a compiled program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StageForm {
    /// Name of the float model's layer that the stage comes from.
    pub layer: String,
    /// What the stage computes: `linear`, `aggregate`, `pool`, `add` or `concat`, and where a model
    /// has tables `embedding`, `normalize` or `decoder`.
    pub operation: &'static str,
    /// What it computes with.
    pub form: Form,
}

/// A compiled program.
pub trait Runnable: Send {
    /// Runs on `x` and returns the logits `[n, classes]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for an input of another shape.
    fn run(&mut self, x: ValueRef<f32>) -> Result<ArrayView2<'_, f32>>;
    /// MACs and buffer bytes of one run.
    fn cost(&self) -> Cost;
    /// What each stage computes with, where that was chosen.
    fn forms(&self) -> &[StageForm] {
        &[]
    }
    /// How weights are multiplied, where that is known.
    fn products(&self) -> Products {
        Products::default()
    }
    /// Does what depends on `x` alone, once; what is returned runs on it again and again.
    ///
    /// # Errors
    /// As [`Runnable::run`].
    fn prepare<'a>(&'a mut self, x: ValueRef<'a, f32>) -> Result<Box<dyn Ready + 'a>>;
}

/// A program with the input that it runs on.
pub trait Ready: Send {
    /// Runs and returns the logits `[n, classes]`.
    ///
    /// # Errors
    /// As [`Runnable::run`].
    fn run(&mut self) -> Result<ArrayView2<'_, f32>>;
}

impl Ready for (&mut Program<f32>, ValueRef<'_, f32>) {
    fn run(&mut self) -> Result<ArrayView2<'_, f32>> {
        self.0.run(self.1)
    }
}

impl Runnable for Program<f32> {
    fn run(&mut self, x: ValueRef<f32>) -> Result<ArrayView2<'_, f32>> {
        self.run(x)
    }
    fn cost(&self) -> Cost {
        self.cost()
    }
    fn products(&self) -> Products {
        self.products()
    }
    fn prepare<'a>(&'a mut self, x: ValueRef<'a, f32>) -> Result<Box<dyn Ready + 'a>> {
        Ok(Box::new((self, x)))
    }
}
