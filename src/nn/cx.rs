//! What a layer is run in: mode, graph, place and memory.

use super::ids::NodeId;
use super::workspace::Workspace;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::kernels;
use crate::scalar::Scalar;
use crate::value::ValueRef;
use ndarray::Array2;
use std::sync::Arc;

/// Whether layers behave as in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout passes everything through, norms use their running statistics.
    Eval,
    /// Dropout drops, norms use the statistics of the batch.
    Train {
        /// Seed of the randomness.
        seed: u64,
        /// Step of the training; each draws other dropout masks.
        step: u64,
    },
}

/// What a layer is run in: the graph, the mode, the node it stands at, and the workspace of arrays.
#[derive(Debug, Clone)]
pub struct Cx<'a, F: Scalar> {
    graph: Option<&'a Graph<F>>,
    mode: Mode,
    node: NodeId,
    place: &'a str,
    workspace: Arc<Workspace<F>>,
}

impl<'a, F: Scalar> Cx<'a, F> {
    /// Evaluation on `graph`.
    pub fn eval(graph: &'a Graph<F>) -> Self {
        Self {
            graph: Some(graph),
            mode: Mode::Eval,
            node: NodeId::INPUT,
            place: "",
            workspace: Arc::default(),
        }
    }

    /// Evaluation without a graph, for models that aggregate nothing.
    pub fn without_graph() -> Self {
        Self {
            graph: None,
            mode: Mode::Eval,
            node: NodeId::INPUT,
            place: "",
            workspace: Arc::default(),
        }
    }

    /// The same, in another mode; the workspace is shared.
    pub fn with_mode(&self, mode: Mode) -> Self {
        Self { mode, ..self.clone() }
    }

    /// The same on another graph; the pool is shared.
    pub fn on<'b>(&self, graph: &'b Graph<F>) -> Cx<'b, F>
    where
        'a: 'b,
    {
        Cx { graph: Some(graph), ..self.clone() }
    }

    /// Evaluation, with or without a graph, with arrays from a workspace that is there.
    pub(crate) fn in_workspace(graph: Option<&'a Graph<F>>, workspace: Arc<Workspace<F>>) -> Self {
        Self { graph, mode: Mode::Eval, node: NodeId::INPUT, place: "", workspace }
    }

    /// The same, standing at a node of a model.
    pub(crate) fn at(&self, node: NodeId, place: &'a str) -> Cx<'a, F> {
        Cx { node, place, ..self.clone() }
    }

    /// The graph.
    ///
    /// # Errors
    /// [`Error::NoGraph`] where there is none.
    pub fn graph(&self) -> Result<&'a Graph<F>> {
        self.graph.ok_or_else(|| Error::NoGraph { at: self.place.into() })
    }

    /// Training or evaluation.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The node that the layer stands at.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The node's name, for errors.
    pub fn place(&self) -> &'a str {
        self.place
    }

    /// An array from the workspace; **its contents are whatever was in it before**.
    pub fn take(&self, shape: (usize, usize)) -> Array2<F> {
        self.workspace.take(shape)
    }

    /// The entries of `x` in an array from the workspace.
    pub fn copy_of(&self, x: &ValueRef<F>) -> Array2<F> {
        let mut copy = self.take(x.shape());
        match x {
            ValueRef::Dense(x) => kernels::copy_rows(x.view(), copy.view_mut()),
            ValueRef::Sparse(_) => x.with_dense(|x| copy.assign(&x)),
        }
        copy
    }

    /// Gives an array back to the workspace.
    pub fn give(&self, array: Array2<F>) {
        self.workspace.give(array);
    }

    /// Checks that `x` has `channels` columns and one row per node.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] with the node's name.
    pub fn check(&self, x: &ValueRef<F>, channels: usize) -> Result<()> {
        let found = x.shape();
        let expected = (self.graph.map_or(found.0, Graph::num_nodes), channels);
        if found == expected {
            Ok(())
        } else {
            Err(Error::ShapeMismatch { at: self.place.into(), expected, found })
        }
    }
}
