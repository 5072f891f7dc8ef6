//! Graphs as dense matrices: what oracles multiply with.

use crate::graph::Graph;
use crate::scalar::Scalar;
use crate::value::ValueRef;
use ndarray::Array2;

/// The number of edges at each place, for oracles.
pub(crate) fn dense_counts<F: Scalar>(graph: &Graph<F>) -> Array2<F> {
    let mut counts = Array2::zeros((graph.num_nodes(), graph.num_nodes()));
    let (starts, sources) = graph.edge_list();
    for (i, bounds) in starts.windows(2).enumerate() {
        sources[bounds[0]..bounds[1]].iter().for_each(|&j| counts[[i, j as usize]] += F::one());
    }
    counts
}

/// The adjacency matrix of a graph with every zero written out, for oracles.
pub(crate) fn dense_adjacency<F: Scalar>(graph: &Graph<F>) -> Array2<F> {
    ValueRef::Sparse(graph.adjacency()).to_dense()
}
