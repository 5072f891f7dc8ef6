//! What a layer is run in: mode, graph, place and memory.

use super::ids::NodeId;
use super::memory::Memory;
use super::queries::Queries;
use super::rows::{RowSpace, Rows};
use super::workspace::Workspace;
use crate::error::{Error, Result};
use crate::graph::{Graph, Topology};
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
    rows: Option<&'a Rows<F>>,
    /// What the rows of the layer's inputs are.
    space: RowSpace,
    mode: Mode,
    memory: Memory,
    node: NodeId,
    place: &'a str,
    /// The nodes of a larger model that those of the one at hand are, if it is a part.
    stands_for: &'a [NodeId],
    workspace: Arc<Workspace<F>>,
}

impl<'a, F: Scalar> Cx<'a, F> {
    /// Evaluation on `graph`.
    pub fn eval(graph: &'a Graph<F>) -> Self {
        Self::in_workspace(Some(graph), Arc::default())
    }

    /// Evaluation without a graph, for models that aggregate nothing.
    pub fn without_graph() -> Self {
        Self::in_workspace(None, Arc::default())
    }

    /// The same, in another mode; the workspace is shared.
    pub fn with_mode(&self, mode: Mode) -> Self {
        Self { mode, ..self.clone() }
    }

    /// The same, where traces keep maps so.
    pub fn with_memory(&self, memory: Memory) -> Self {
        Self { memory, ..self.clone() }
    }

    /// How traces keep maps.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// The same on another graph and on no sample of it; the workspace is shared.
    pub fn on<'b>(&self, graph: &'b Graph<F>) -> Cx<'b, F>
    where
        'a: 'b,
    {
        Cx { graph: Some(graph), rows: None, space: RowSpace::Nodes, ..self.clone() }
    }

    /// The same, where the rows of the input are what `rows` says.
    pub fn within<'b>(&self, rows: &'b Rows<F>) -> Cx<'b, F>
    where
        'a: 'b,
    {
        Cx { rows: Some(rows), space: rows.of_features(), ..self.clone() }
    }

    /// Evaluation, with or without a graph, with arrays from a workspace that is there.
    pub(crate) fn in_workspace(graph: Option<&'a Graph<F>>, workspace: Arc<Workspace<F>>) -> Self {
        let (rows, space) = (None, RowSpace::Nodes);
        let (mode, memory, node) = (Mode::Eval, Memory::Whole, NodeId::INPUT);
        Self { graph, rows, space, mode, memory, node, place: "", stands_for: &[], workspace }
    }

    /// The same, standing at a node of a model.
    pub(crate) fn at(&self, node: NodeId, place: &'a str) -> Cx<'a, F> {
        let part = node.index().checked_sub(1).and_then(|k| self.stands_for.get(k));
        Cx { node: part.copied().unwrap_or(node), place, ..self.clone() }
    }

    /// The same on some rows and no graph, for a part of a model whose nodes are these of the
    /// whole one: what it draws is what the whole one would.
    pub(super) fn of_rows<'b>(&self, rows: &'b Rows<F>, stands_for: &'b [NodeId]) -> Cx<'b, F>
    where
        'a: 'b,
    {
        let (graph, memory, space) = (None, Memory::Whole, RowSpace::Nodes);
        Cx { graph, rows: Some(rows), memory, space, stands_for, ..self.clone() }
    }

    /// The same, where the rows of the layer's inputs are these.
    pub(crate) fn reading(&self, space: RowSpace) -> Cx<'a, F> {
        Cx { space, ..self.clone() }
    }

    /// The whole graph, for layers that run on nothing less; others ask for the
    /// [`topology`](Cx::topology).
    ///
    /// # Errors
    /// [`Error::NoGraph`] where there is none, [`Error::OnlyAHop`] on a sample.
    pub fn graph(&self) -> Result<&'a Graph<F>> {
        match self.topology()? {
            Topology::Square(graph) => Ok(graph),
            Topology::Hop(_) => Err(Error::OnlyAHop { at: self.place.into() }),
        }
    }

    /// What the layer aggregates over: the graph, or the hop of a sample that comes next.
    ///
    /// # Errors
    /// [`Error::NoGraph`] where there is no graph, or the sample has no hop left.
    pub fn topology(&self) -> Result<Topology<'a, F>> {
        let missing = || Error::NoGraph { at: self.place.into() };
        match (self.space, self.rows) {
            (RowSpace::Hop(k), Some(rows)) => {
                rows.hop(usize::from(k)).map(Topology::Hop).ok_or_else(missing)
            }
            (RowSpace::Nodes, _) => self.graph.map(Topology::Square).ok_or_else(missing),
            _ => Err(missing()),
        }
    }

    /// What the batch has beside its graph, if anything.
    pub fn rows(&self) -> Option<&'a Rows<F>> {
        self.rows
    }

    /// What the rows of the layer's inputs are; where they are hops, of the last.
    pub fn space(&self) -> RowSpace {
        self.space
    }

    /// What is asked about pairs of nodes.
    ///
    /// # Errors
    /// [`Error::NoQueries`] where the batch asks about none.
    pub fn queries(&self) -> Result<&'a Queries> {
        let asked = self.rows.and_then(Rows::asked);
        asked.ok_or_else(|| Error::NoQueries { at: self.place.into() })
    }

    /// How many rows a value of that space has.
    ///
    /// # Errors
    /// [`Error::NoGraph`] where the batch says nothing of it, [`Error::NoGraphs`] where the rows
    /// are graphs.
    pub fn num_rows(&self, space: RowSpace) -> Result<usize> {
        let count = match (space, self.rows) {
            (RowSpace::Nodes, _) => self.graph.map(Graph::num_nodes),
            (RowSpace::Relations(count), _) => Some(count as usize),
            (_, None) => None,
            (RowSpace::Hop(0), Some(rows)) => match rows.hop(0) {
                Some(hop) => Some(hop.num_sources()),
                None => rows.node_ids().map(<[u32]>::len),
            },
            (RowSpace::Hop(k), Some(rows)) => {
                rows.hop(usize::from(k) - 1).map(|hop| hop.num_targets())
            }
            (RowSpace::Graphs, Some(rows)) => rows.graph_of_nodes().map(|(_, count)| count),
            (RowSpace::Pairs, Some(rows)) => rows.asked().map(Queries::num_pairs),
        };
        let at = || self.place.to_string();
        count.ok_or_else(|| match space {
            RowSpace::Graphs => Error::NoGraphs { at: at() },
            _ => Error::NoGraph { at: at() },
        })
    }

    /// Who the rows of the layer's inputs are, where they are nodes or graphs that are not those of
    /// their place. All that is drawn for a row follows it, so that a node draws alike in every
    /// batch.
    pub fn ids(&self) -> Option<&'a [u32]> {
        let rows = self.rows?;
        match self.space {
            RowSpace::Nodes => rows.node_ids(),
            // The rows of a hop are the first of those before it.
            RowSpace::Hop(_) => rows.node_ids()?.get(..self.num_rows(self.space).ok()?),
            RowSpace::Graphs => rows.graph_ids_of_rows(),
            RowSpace::Pairs | RowSpace::Relations(_) => None,
        }
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

    /// Frees an array that came from the workspace.
    pub(super) fn forget(&self, array: Array2<F>) {
        self.workspace.forget(&array);
    }

    /// Gives an array back to the workspace.
    pub fn give(&self, array: Array2<F>) {
        self.workspace.give(array);
    }

    /// Checks that `x` has `channels` columns and as many rows as the layer's inputs have here: one
    /// per node of a graph.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] with the node's name.
    pub fn check(&self, x: &ValueRef<F>, channels: usize) -> Result<()> {
        let found = x.shape();
        let expected = (self.num_rows(self.space).unwrap_or(found.0), channels);
        if found == expected {
            Ok(())
        } else {
            Err(Error::ShapeMismatch { at: self.place.into(), expected, found })
        }
    }
}
