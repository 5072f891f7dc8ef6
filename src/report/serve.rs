//! What can be measured: a model that compiles to a program.

use crate::error::Result;
use crate::io::stored_bytes;
use crate::nn::Model;
use crate::program::Runnable;
use crate::quant::QuantModel;
use crate::task::Batch;

/// A model that serves: of floats or of integers.
pub trait Servable {
    /// Parameters, zeros included.
    fn num_params(&self) -> usize;
    /// Parameters that are not zero.
    fn num_nonzero_params(&self) -> usize;
    /// Bytes of all parameter tensors in the model's file.
    fn stored_bytes(&self) -> u64;
    /// Compiles the model for a batch: its graph, inputs like its features, and what its rows are.
    ///
    /// # Errors
    /// What compiling returns.
    fn compiled(&self, batch: &Batch<f32>) -> Result<Box<dyn Runnable>>;
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
    fn compiled(&self, batch: &Batch<f32>) -> Result<Box<dyn Runnable>> {
        Ok(Box::new(self.compile_within(batch.graph(), batch.features(), batch.spaces())?))
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
    fn compiled(&self, batch: &Batch<f32>) -> Result<Box<dyn Runnable>> {
        Ok(Box::new(self.compile_within(batch.graph(), batch.features(), batch.spaces())?))
    }
}
