//! What one model costs on one graph.

use super::latency::Latencies;
use super::serve::Servable;
use crate::error::Result;
use crate::graph::Graph;
use crate::log;
use crate::program::Products;
use crate::quant::StageForm;
use crate::value::ValueRef;
use serde::Serialize;

/// Bytes by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// All parameter tensors as the file stores them.
    pub weights: u64,
    /// The compiled program's buffers.
    pub peak_activations: u64,
}

/// Size, work and time of one model on one graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Account {
    /// Parameters, zeros included.
    pub params: usize,
    /// Parameters that are not zero.
    pub nonzero_params: usize,
    /// Bytes by kind.
    pub bytes: Bytes,
    /// Multiply-accumulates of one inference on the whole graph.
    pub macs: u64,
    /// Directed edges of the graph.
    pub edges: usize,
    /// What each stage of an integer model was compiled to; empty for a model of floats.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forms: Vec<StageForm>,
    /// How a model of floats multiplies its weights; none for a model of integers.
    pub products: Products,
    /// Measured time of one inference on the whole graph, in milliseconds.
    pub latency_ms: Latencies,
}

impl Account {
    /// Counts and measures `model` on `graph` and features `x`, with one thread and with `threads`.
    ///
    /// # Errors
    /// What compiling and running the model returns.
    pub fn of(
        model: &dyn Servable,
        graph: &Graph,
        x: &ValueRef<f32>,
        threads: usize,
    ) -> Result<Self> {
        let mut program = model.compiled(graph, x.reborrow())?;
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
            edges: graph.num_edges(),
            forms: program.forms().to_vec(),
            products: program.products(),
            latency_ms: Latencies::measure(&mut *program, x, threads)?,
        })
    }
}
