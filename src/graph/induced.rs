//! Some nodes of a graph with all edges between them.

use super::marks::Marks;
use super::operator::{AdjacencyNorm, Operator};
use super::partial::PartialRows;
use super::{Graph, Parallel, Part};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::value::Csr;
use ndarray::Axis;
use std::collections::BTreeMap;
use std::sync::Arc;

impl<F: Scalar> Part<F> {
    /// The entries of the whole graph's operator at the edges of `part`, each times its factor.
    pub(super) fn operator(&self, part: &Graph<F>, norm: AdjacencyNorm) -> Result<Operator<F>> {
        let mut rows = PartialRows::new(&self.whole, norm)?;
        let (starts, sources, weights) = part.adjacency().into_raw_storage();
        for (own, &node) in (0u32..).zip(&*self.nodes) {
            let entries = (starts[own as usize]..starts[own as usize + 1]).map(|e| {
                let source = sources[e];
                (source, self.nodes[source as usize], weights[e], Some(self.factors[e]))
            });
            rows.row(node, own, entries);
        }
        Ok(rows.finish(self.nodes.len()))
    }
}

impl<F: Scalar> Graph<F> {
    /// These nodes and all edges between them, each with its weight, features and type; node `k` is
    /// `nodes[k]`. The number of relations is what it was.
    ///
    /// # Errors
    /// [`Error::Setting`] for no node and for one that is listed twice,
    /// [`Error::IndexOutOfRange`] for one that the graph does not have.
    ///
    /// ```
    /// use gnn_prune::Graph;
    /// let path = Graph::builder(4).edges([(0, 1), (1, 2), (2, 3)]).undirected(true).build()?;
    /// let part = path.induced(&[3, 2, 0])?;
    /// assert_eq!((part.num_nodes(), part.num_edges()), (3, 2));
    /// assert_eq!(part.adjacency().get(0, 1), Some(&1.0));
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn induced(&self, nodes: &[u32]) -> Result<Self> {
        Ok(self.induced_by(nodes, &mut Marks::new(self.num_nodes()))?.0)
    }

    /// As [`Graph::induced`], with the places among the stored edges that those of the part were
    /// taken from.
    pub(super) fn induced_by(
        &self,
        nodes: &[u32],
        marks: &mut Marks,
    ) -> Result<(Self, Vec<usize>)> {
        let n = self.num_nodes();
        if nodes.is_empty() {
            return Err(Error::setting("nodes of a part of a graph", "empty", "at least one node"));
        }
        marks.clear();
        for (place, &node) in (0u32..).zip(nodes) {
            if node as usize >= n {
                let at = "node of a part of a graph".into();
                return Err(Error::IndexOutOfRange { at, index: node as usize, len: n });
            }
            if !marks.set(node, place) {
                let legal = "listed once each";
                let value = format!("node {node}");
                return Err(Error::setting("nodes of a part of a graph", value, legal));
            }
        }
        let of_matrix = |matrix: &Csr<F>| {
            let (starts, sources, weights) = matrix.view().into_raw_storage();
            let (starts, sources, taken) = restricted(starts, sources, nodes, marks);
            let weights = taken.iter().map(|&e| weights[e]).collect();
            (Csr::new((nodes.len(), nodes.len()), starts, sources, weights), taken)
        };
        let (adjacency, taken) = of_matrix(&self.adjacency);
        let relations: Vec<Csr<F>> =
            self.relations.iter().map(|relation| of_matrix(relation).0).collect();
        let listed = self.parallel.as_ref().map(|parallel| {
            let (starts, sources, listed) =
                restricted(&parallel.starts, &parallel.sources, nodes, marks);
            (parallel.of_listed(starts, sources, &listed), listed)
        });
        let features = self.edge_features.as_ref().map(|features| {
            let listed = listed.as_ref().map_or(&taken, |(_, listed)| listed);
            features.select(Axis(0), listed)
        });
        let graph = Self::validated(adjacency, features, Some(relations))?;
        let parallel = listed
            .map(|(parallel, _)| parallel)
            .filter(|parallel| parallel.sources.len() > graph.num_edges())
            .map(Arc::new);
        // That edges have weights is a property of the list that they came from.
        Ok((Self { parallel, weighted: self.weighted, ..graph }, taken))
    }

    /// The same, whose operators are the entries of those of `whole`, where its nodes are `nodes`,
    /// each stored edge's times its factor.
    pub(super) fn into_part_of(self, whole: &Self, nodes: Arc<[u32]>, factors: Vec<F>) -> Self {
        let part = Part { whole: whole.clone(), nodes, factors };
        Self { part: Some(Arc::new(part)), operators: Arc::default(), ..self }
    }
}

/// The edges between marked nodes, of those listed by targets: rows of `nodes`, in each the edges
/// by the places of their sources, then as they were listed; and where each was.
fn restricted(
    starts: &[usize],
    sources: &[u32],
    nodes: &[u32],
    marks: &Marks,
) -> (Vec<usize>, Vec<u32>, Vec<usize>) {
    let mut ends: Vec<(u32, usize)> = Vec::new();
    let mut firsts = vec![0];
    for &node in nodes {
        let first = ends.len();
        let row = starts[node as usize]..starts[node as usize + 1];
        ends.extend(row.filter_map(|e| Some((marks.get(sources[e])?, e))));
        ends[first..].sort_unstable();
        firsts.push(ends.len());
    }
    let (columns, taken) = ends.into_iter().unzip();
    (firsts, columns, taken)
}

impl Parallel {
    /// What is kept of these listed edges, which now lie so.
    fn of_listed(&self, starts: Vec<usize>, sources: Vec<u32>, listed: &[usize]) -> Self {
        let weights: Vec<f32> = listed.iter().map(|&e| self.weights[e]).collect();
        let types: Option<Vec<u32>> =
            self.types.as_ref().map(|types| listed.iter().map(|&e| types[e]).collect());
        let (mut loops, mut counts) = (BTreeMap::new(), BTreeMap::new());
        for (row, bounds) in (0u32..).zip(starts.windows(2)) {
            for e in bounds[0]..bounds[1] {
                if sources[e] == row {
                    loops.insert(row, f64::from(weights[e]));
                }
            }
            let mut at = bounds[0];
            for place in sources[bounds[0]..bounds[1]].chunk_by(|a, b| a == b) {
                if place.len() > 1 {
                    counts.insert((None, row, place[0]), place.len() as u32);
                    for &relation in types.iter().flat_map(|types| &types[at..at + place.len()]) {
                        *counts.entry((Some(relation as usize), row, place[0])).or_insert(0) += 1;
                    }
                }
                at += place.len();
            }
        }
        Self { starts, sources, weights, types, loops, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Duplicates, EdgeMask};
    use ndarray::Array2;

    /// A graph with weights, features and types, parallel edges or none, and loops.
    fn graph(parallel: bool) -> Graph {
        let edges: Vec<(usize, usize, f32)> = (0..60)
            .chain(if parallel { 0..20 } else { 0..0 })
            .enumerate()
            .map(|(k, e)| (e * 7 % 11, (e * e + 3 * (e / 11)) % 11, 0.5 + (k % 6) as f32))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        let edges: Vec<_> =
            edges.into_iter().filter(|&(s, t, _)| parallel || seen.insert((s, t))).collect();
        let count = edges.len();
        let features = Array2::from_shape_fn((count, 2), |(e, c)| (2 * e + c) as f32);
        Graph::builder(11)
            .weighted_edges(edges)
            .edge_features(features)
            .edge_types((0..count as u32).map(|e| e % 3).collect())
            .duplicates(if parallel { Duplicates::Keep } else { Duplicates::Merge })
            .build()
            .unwrap()
    }

    #[test]
    fn a_part_is_what_is_left_where_the_other_nodes_lose_their_edges() {
        let nodes = [7u32, 2, 9, 4, 0, 5];
        for parallel in [false, true] {
            let graph = graph(parallel);
            assert_eq!(graph.parallel.is_some(), parallel);
            let part = graph.induced(&nodes).unwrap();
            let inside = |i: usize| nodes.contains(&(i as u32));
            let mask = EdgeMask::from_fn(&graph, |edge| inside(edge.source) && inside(edge.target));
            let rest = (0..11).filter(|node| !nodes.contains(node));
            let order: Vec<u32> = nodes.iter().copied().chain(rest).collect();
            let other = graph.retain(&mask).unwrap().permuted(&order).unwrap();
            let edges = |graph: &Graph| -> Vec<_> {
                graph.edges().map(|edge| (edge.source, edge.target, edge.weight)).collect()
            };
            assert_eq!(edges(&part), edges(&other));
            assert_eq!(part.edge_features(), other.edge_features());
            let entries = |matrix: &Csr<f32>| -> Vec<_> {
                matrix.iter().map(|(&w, (i, j))| (i, j, w)).collect()
            };
            assert_eq!(part.relations().len(), 3);
            for (a, b) in part.relations().iter().zip(other.relations()) {
                assert_eq!(entries(a), entries(b));
            }
            for norm in [AdjacencyNorm::Symmetric, AdjacencyNorm::UnweightedMean] {
                let [a, b] = [&part, &other].map(|graph| graph.operator(norm).unwrap());
                let (a, b) = (a.forward(), b.forward());
                let inside = b.iter().filter(|(_, (i, _))| *i < 6);
                let inside: Vec<_> = inside.map(|(&w, at)| (at, w)).collect();
                let all: Vec<_> = a.iter().map(|(&w, at)| (at, w)).collect();
                assert_eq!(all, inside, "{norm:?}");
            }
        }
    }

    #[test]
    fn nodes_that_are_no_list_of_nodes_are_refused() {
        let graph = graph(false);
        for (nodes, what) in
            [(&[][..], "at least one"), (&[4, 4][..], "listed once"), (&[11][..], "out of range")]
        {
            let error = graph.induced(nodes).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn a_part_may_have_the_operators_of_the_whole() {
        let graph = graph(true);
        let nodes: Arc<[u32]> = Arc::new([3, 8, 1, 10]);
        let part = graph.induced(&nodes).unwrap();
        let factors = vec![2.0; part.num_edges()];
        let part = part.into_part_of(&graph, Arc::clone(&nodes), factors);
        for norm in [AdjacencyNorm::Symmetric, AdjacencyNorm::Mean, AdjacencyNorm::UnweightedSum] {
            let (whole, own) = (graph.operator(norm).unwrap(), part.operator(norm).unwrap());
            let (whole, own) = (whole.forward(), own.forward());
            for (i, &at) in nodes.iter().enumerate() {
                for (j, &from) in nodes.iter().enumerate() {
                    let stored = graph.adjacency().get(at as usize, from as usize).is_some();
                    let factor = if stored { 2.0 } else { 1.0 };
                    let expected = whole.get(at as usize, from as usize);
                    let expected = expected.map(|w| w * factor);
                    assert_eq!(own.get(i, j).copied(), expected, "{norm:?} {at} {from}");
                }
            }
        }
    }
}
