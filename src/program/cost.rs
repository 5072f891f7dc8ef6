//! What a program costs: counted from its stages, before any of them runs.

use crate::nn::{Lowering, Stage, StageId};
use crate::scalar::Scalar;
use ndarray::Array2;
use std::time::Duration;

/// What a compiled program costs on its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Multiply-accumulates of one run: stored non-zeros × width for a sparse operand, feature or
    /// weight, `n·in·out` for a dense product.
    pub macs: u64,
    /// Bytes of all planned buffers.
    pub peak_activations: u64,
}

/// How a compiled program multiplies its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Products {
    /// Products with all of a weight, zeros included.
    pub dense: usize,
    /// Products with the stored part of a weight alone.
    pub sparse: usize,
}

/// What one pass over the nodes took in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageTime {
    /// The operation and the channels that it puts out.
    pub what: String,
    /// Time of the pass.
    pub took: Duration,
}

/// What a stored weight costs in a sparse product, in multiply-adds of the dense one ...
const STORED_COST: usize = 2;
/// ... and what a row of `X` costs per channel to be transposed and back. Both as measured, see
/// `docs/sparsity.md`.
const MOVE_COST: usize = 20;

/// Whether a weight with `stored` non-zeros is multiplied faster in sparse form:
/// `2·nnz + 20·(in + out) < in·out`.
pub(super) fn pays(stored: usize, shape: (usize, usize)) -> bool {
    product_cost(stored, shape) < shape.0 * shape.1
}

/// What a row of a dense `X` costs, in multiply-adds of a dense product, in the faster form of the
/// weight.
pub(crate) fn product_cost(stored: usize, (inputs, outputs): (usize, usize)) -> usize {
    (STORED_COST * stored + MOVE_COST * (inputs + outputs)).min(inputs * outputs)
}

pub(super) fn nonzeros<F: Scalar>(weight: &Array2<F>) -> usize {
    weight.iter().filter(|w| **w != F::zero()).count()
}

/// Multiply-accumulates of one run of these stages.
pub(super) fn macs<F: Scalar>(lowering: &Lowering<F>) -> u64 {
    let of = |id: StageId, stage: &Stage<F>| match stage {
        Stage::Linear { x, weight, .. } if lowering.is_sparse(*x) => {
            lowering.input_stored() * weight.ncols()
        }
        Stage::Linear { weight, .. } => {
            let stored = nonzeros(weight);
            lowering.rows(id) * if pays(stored, weight.dim()) { stored } else { weight.len() }
        }
        Stage::Aggregate { x, operator, .. } => operator.stored() * lowering.width(*x),
        // A node is of one graph.
        Stage::Pool { x, .. } => lowering.stored(*x),
        Stage::Opaque { operation, .. } => operation.macs() as usize,
        _ => 0,
    };
    lowering.iter().map(|(id, stage)| of(id, stage) as u64).sum()
}
