//! What one model costs on one task.

use super::latency::Latencies;
use super::serve::Servable;
use crate::error::Result;
use crate::log;
use crate::program::Products;
use crate::quant::StageForm;
use crate::task::Task;
use serde::Serialize;

/// Bytes by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// All parameter tensors as the file stores them.
    pub weights: u64,
    /// The compiled program's buffers.
    pub peak_activations: u64,
}

/// Size, work and time of one model on all of one task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Account {
    /// Parameters, zeros included.
    pub params: usize,
    /// Parameters that are not zero.
    pub nonzero_params: usize,
    /// Bytes by kind.
    pub bytes: Bytes,
    /// Multiply-accumulates of one inference on all of the task.
    pub macs: u64,
    /// Directed edges of the graph.
    pub edges: usize,
    /// What each stage of an integer model was compiled to; empty for a model of floats.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forms: Vec<StageForm>,
    /// How a model of floats multiplies its weights; none for a model of integers.
    pub products: Products,
    /// Measured time of one inference on all of the task, in milliseconds.
    pub latency_ms: Latencies,
}

impl Account {
    /// Counts and measures `model` on all of `task`, with one thread and with `threads`.
    ///
    /// # Errors
    /// What compiling and running the model returns.
    pub fn of(model: &dyn Servable, task: &dyn Task<f32>, threads: usize) -> Result<Self> {
        let whole = task.whole()?;
        let mut program = model.compiled(&whole)?;
        let cost = program.cost();
        log::debug!(
            "compiled: {} multiply-adds, {} bytes of buffers; measuring",
            cost.macs,
            cost.peak_activations
        );
        Ok(Self {
            params: model.num_params(),
            nonzero_params: model.num_nonzero_params(),
            bytes: Bytes { weights: model.stored_bytes(), peak_activations: cost.peak_activations },
            macs: cost.macs,
            edges: whole.graph().num_edges(),
            forms: program.forms().to_vec(),
            products: program.products(),
            latency_ms: Latencies::measure(&mut *program, &whole.features(), threads)?,
        })
    }
}
