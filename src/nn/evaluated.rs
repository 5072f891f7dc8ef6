//! A layer as a stage of its own.

use super::cx::Cx;
use super::layer::Layer;
use super::rows::RowSpace;
use super::stage::Opaque;
use crate::error::Result;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;

/// What a layer computes in evaluation, for layers that no closed stage says: attention, relations,
/// messages with features of edges. See [`Lowering::opaque`](super::Lowering::opaque).
#[derive(Debug, Clone)]
pub struct Evaluated<L> {
    layer: L,
    macs: u64,
}

impl<L> Evaluated<L> {
    /// `macs` are the multiply-accumulates of one run.
    pub fn new(layer: L, macs: u64) -> Self {
        Self { layer, macs }
    }

    /// The layer, for what knows it better than as something that runs.
    pub(crate) fn layer(&self) -> &L {
        &self.layer
    }
}

impl<F: Scalar, L: Layer<F>> Opaque<F> for Evaluated<L> {
    fn name(&self) -> &str {
        self.layer.kind()
    }

    fn macs(&self) -> u64 {
        self.macs
    }

    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        self.layer.rows(inputs)
    }

    fn run(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Array2<F>> {
        self.layer.infer(cx, xs).map(Value::into_dense)
    }
}
