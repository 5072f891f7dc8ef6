//! What a layer sees of a graph: all of it, or one hop of a sample.

use super::operator::{AdjacencyNorm, Operator};
use super::{Built, Graph, kept};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::value::{Csr, CsrView};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One hop of a sample: all edges into some nodes of a graph, its targets, from wherever they come,
/// its sources. The first sources are the targets, in their order.
///
/// Its operators are rows of the whole graph's, so that a network on hops computes for the last
/// targets what it computes on the whole graph.
///
/// ```
/// use gnn_prune::graph::{Graph, Hop};
/// let path = Graph::builder(4).edges([(0, 1), (1, 2), (2, 3)]).undirected(true).build()?;
/// let hop = Hop::into_nodes(&path, &[3])?;
/// assert_eq!(hop.sources(), [3, 2]);
/// assert_eq!((hop.num_targets(), hop.num_sources()), (1, 2));
/// // The hop before it, from which those sources have their values.
/// assert_eq!(Hop::into_nodes(&path, hop.sources())?.sources(), [3, 2, 1]);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hop<F: Scalar = f32> {
    graph: Graph<F>,
    sources: Arc<[u32]>,
    targets: usize,
    /// Where each source stands.
    places: Arc<BTreeMap<u32, u32>>,
    operators: Built<AdjacencyNorm, Operator<F>>,
}

impl<F: Scalar> Hop<F> {
    /// All edges of `graph` into `targets`. The other sources follow in the order of their numbers.
    ///
    /// # Errors
    /// [`Error::Setting`] for no target and for one that is listed twice,
    /// [`Error::IndexOutOfRange`] for one that the graph does not have.
    pub fn into_nodes(graph: &Graph<F>, targets: &[u32]) -> Result<Self> {
        let n = graph.num_nodes();
        if targets.is_empty() {
            return Err(Error::setting("targets of a hop", "empty", "at least one node"));
        }
        let mut places = BTreeMap::new();
        for (place, &target) in (0u32..).zip(targets) {
            if target as usize >= n {
                let at = "target of a hop".into();
                return Err(Error::IndexOutOfRange { at, index: target as usize, len: n });
            }
            if places.insert(target, place).is_some() {
                let legal = "listed once each";
                return Err(Error::setting("targets of a hop", format!("node {target}"), legal));
            }
        }
        let (starts, sources) = graph.edge_list();
        let mut others: Vec<u32> = targets
            .iter()
            .flat_map(|&i| &sources[starts[i as usize]..starts[i as usize + 1]])
            .copied()
            .filter(|source| !places.contains_key(source))
            .collect();
        others.sort_unstable();
        others.dedup();
        places.extend(others.iter().copied().zip(targets.len() as u32..));
        Ok(Self {
            graph: graph.clone(),
            targets: targets.len(),
            sources: targets.iter().chain(&others).copied().collect(),
            places: Arc::new(places),
            operators: Arc::default(),
        })
    }

    /// The nodes whose values go in; the first are the targets.
    pub fn sources(&self) -> &[u32] {
        &self.sources
    }

    /// The nodes whose values come out.
    pub fn targets(&self) -> &[u32] {
        &self.sources[..self.targets]
    }

    /// Number of nodes whose values go in.
    pub fn num_sources(&self) -> usize {
        self.sources.len()
    }

    /// Number of nodes whose values come out.
    pub fn num_targets(&self) -> usize {
        self.targets
    }

    /// The rows of the whole graph's operator that belong to the targets, `[targets, sources]`;
    /// built at the first call.
    ///
    /// # Errors
    /// As [`Graph::operator`].
    pub fn operator(&self, norm: AdjacencyNorm) -> Result<Arc<Operator<F>>> {
        kept(&self.operators, norm, || {
            let whole = self.graph.operator(norm)?;
            Ok(Operator::of_matrix(self.rows_of(whole.forward())))
        })
    }

    /// The rows of a matrix of the graph that belong to the targets, its columns those of the
    /// sources.
    fn rows_of(&self, matrix: CsrView<F>) -> Csr<F> {
        let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
        let mut row: Vec<(u32, F)> = Vec::new();
        for &target in self.targets() {
            let entries = matrix.outer_view(target as usize).expect("targets are nodes");
            row.clear();
            // A norm adds no neighbour but the node itself, which is a source.
            row.extend(entries.iter().map(|(j, &w)| (self.places[&(j as u32)], w)));
            row.sort_unstable_by_key(|entry| entry.0);
            columns.extend(row.iter().map(|entry| entry.0));
            values.extend(row.iter().map(|entry| entry.1));
            starts.push(columns.len());
        }
        Csr::new((self.targets, self.sources.len()), starts, columns, values)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_graph;
    use crate::value::ValueRef;

    #[test]
    fn the_operators_of_a_hop_are_rows_of_those_of_the_graph() {
        for seed in 0..40 {
            let graph: Graph<f64> = random_graph(seed, 12);
            let n = graph.num_nodes() as u32;
            let mut targets = vec![n / 2, n - 1];
            targets.dedup();
            let hop = Hop::into_nodes(&graph, &targets).unwrap();
            assert_eq!(hop.targets(), targets);
            for norm in [
                AdjacencyNorm::Symmetric,
                AdjacencyNorm::Mean,
                AdjacencyNorm::Sum,
                AdjacencyNorm::UnweightedSum,
            ] {
                let Ok(whole) = graph.operator(norm) else { continue };
                let whole = ValueRef::Sparse(whole.forward()).to_dense();
                let operator = hop.operator(norm).unwrap();
                let part = ValueRef::Sparse(operator.forward()).to_dense();
                for (row, &i) in part.rows().into_iter().zip(hop.targets()) {
                    for (&weight, &j) in row.iter().zip(hop.sources()) {
                        assert_eq!(weight, whole[[i as usize, j as usize]]);
                    }
                    let stored =
                        |row: ndarray::ArrayView1<f64>| row.iter().filter(|w| **w != 0.0).count();
                    assert_eq!(
                        stored(row),
                        stored(whole.row(i as usize)),
                        "no neighbour is left out"
                    );
                }
                let transposed = ValueRef::Sparse(operator.transpose()).to_dense();
                assert_eq!(transposed, part.t());
            }
        }
    }

    #[test]
    fn targets_that_are_no_list_of_nodes_are_refused() {
        let graph = Graph::builder(3).edges([(0, 1)]).build().unwrap();
        for (targets, what) in
            [(&[][..], "at least one"), (&[1, 1][..], "listed once"), (&[3][..], "out of range")]
        {
            let error = Hop::into_nodes(&graph, targets).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
