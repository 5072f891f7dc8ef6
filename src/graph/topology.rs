//! What a layer sees of a graph: all of it, or one hop of a sample.

use super::operator::{AdjacencyNorm, Operator};
use super::{Graph, Hop};
use crate::error::Result;
use crate::scalar::Scalar;
use std::sync::Arc;

/// What a layer aggregates over: a whole graph, whose rows are sources and targets alike, or one
/// hop of a sample, which has fewer targets than sources.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Topology<'a, F: Scalar> {
    /// A graph.
    Square(&'a Graph<F>),
    /// A hop: the first rows that go in are those that come out.
    Hop(&'a Hop<F>),
}

impl<F: Scalar> Topology<'_, F> {
    /// Rows that go in.
    pub fn num_sources(&self) -> usize {
        match self {
            Topology::Square(graph) => graph.num_nodes(),
            Topology::Hop(hop) => hop.num_sources(),
        }
    }

    /// Rows that come out.
    pub fn num_targets(&self) -> usize {
        match self {
            Topology::Square(graph) => graph.num_nodes(),
            Topology::Hop(hop) => hop.num_targets(),
        }
    }

    /// The operator that aggregation with `norm` multiplies by, `[targets, sources]`.
    ///
    /// # Errors
    /// As [`Graph::operator`].
    pub fn operator(&self, norm: AdjacencyNorm) -> Result<Arc<Operator<F>>> {
        match self {
            Topology::Square(graph) => graph.operator(norm),
            Topology::Hop(hop) => hop.operator(norm),
        }
    }
}
