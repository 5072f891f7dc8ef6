//! What can be measured: a model that compiles to a program on a graph.

use crate::error::Result;
use crate::graph::Graph;
use crate::io::stored_bytes;
use crate::nn::{Cost, Model, Products, Program};
use crate::quant::{Prepared, QuantModel, QuantProgram, StageForm};
use crate::value::ValueRef;
use ndarray::ArrayView2;

/// A model that serves: of floats or of integers.
pub trait Servable {
    /// Parameters, zeros included.
    fn num_params(&self) -> usize;
    /// Parameters that are not zero.
    fn num_nonzero_params(&self) -> usize;
    /// Bytes of all parameter tensors in the model's file.
    fn stored_bytes(&self) -> u64;
    /// Compiles the model for `graph` and inputs like `x`.
    ///
    /// # Errors
    /// What compiling returns.
    fn compiled(&self, graph: &Graph, x: ValueRef<f32>) -> Result<Box<dyn Runnable>>;
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

impl Ready for Prepared<'_, '_> {
    fn run(&mut self) -> Result<ArrayView2<'_, f32>> {
        Ok(self.run())
    }
}

impl Servable for Model {
    fn num_params(&self) -> usize {
        self.num_params()
    }
    fn num_nonzero_params(&self) -> usize {
        self.num_nonzero_params()
    }
    fn stored_bytes(&self) -> u64 {
        stored_bytes(self)
    }
    fn compiled(&self, graph: &Graph, x: ValueRef<f32>) -> Result<Box<dyn Runnable>> {
        Ok(Box::new(self.compile(graph, x)?))
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

impl Servable for QuantModel {
    fn num_params(&self) -> usize {
        self.num_params()
    }
    fn num_nonzero_params(&self) -> usize {
        self.num_nonzero_params()
    }
    fn stored_bytes(&self) -> u64 {
        self.stored_bytes()
    }
    fn compiled(&self, graph: &Graph, x: ValueRef<f32>) -> Result<Box<dyn Runnable>> {
        Ok(Box::new(self.compile(graph, x)?))
    }
}

impl Runnable for QuantProgram {
    fn run(&mut self, x: ValueRef<f32>) -> Result<ArrayView2<'_, f32>> {
        self.run(x)
    }
    fn cost(&self) -> Cost {
        self.cost()
    }
    fn forms(&self) -> &[StageForm] {
        self.forms()
    }
    fn prepare<'a>(&'a mut self, x: ValueRef<'a, f32>) -> Result<Box<dyn Ready + 'a>> {
        Ok(Box::new(QuantProgram::prepare(self, x)?))
    }
}
