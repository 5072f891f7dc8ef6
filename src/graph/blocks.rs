//! Parts of a graph that no edge leaves, side by side as a graph of their own.

use super::{Graph, Parallel};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::value::{Csr, CsrView};
use ndarray::Axis;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

impl<F: Scalar> Graph<F> {
    /// The graph of the nodes in `ranges`, in this order, with all their edges, whose weights,
    /// features and types stay; a range may come twice. It costs what the ranges hold.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for a range that does not lie in the graph, [`Error::Data`] where
    /// an edge leads into a range from outside of it, and where there is no node in any.
    ///
    /// ```
    /// use gnn_prune::Graph;
    /// let two = Graph::builder(5).edges([(0, 1), (1, 2), (3, 4)]).undirected(true).build()?;
    /// let turned = two.blocks(&[3..5, 0..3])?;
    /// assert_eq!(turned.edge_list().1, [1, 0, 3, 2, 4, 3]);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn blocks(&self, ranges: &[Range<usize>]) -> Result<Self> {
        let len = self.num_nodes();
        if let Some(range) = ranges.iter().find(|range| range.start > range.end || range.end > len)
        {
            let at = format!("nodes {} to {} of a block", range.start, range.end);
            return Err(Error::IndexOutOfRange { at, index: range.end, len });
        }
        let nodes: usize = ranges.iter().map(Range::len).sum();
        if u32::try_from(nodes).is_err() {
            return Err(Error::setting("nodes of all blocks", nodes, "at most 4294967295"));
        }
        let adjacency = cut(self.adjacency(), ranges, nodes)?;
        let relations = self.relations.iter().map(|relation| cut(relation.view(), ranges, nodes));
        let relations = relations.collect::<Result<Vec<_>>>()?;
        let (starts, _) = self.edge_list();
        let edges = || ranges.iter().map(|range| starts[range.start]..starts[range.end]);
        let features = self.edge_features.as_ref().map(|features| {
            let rows: Vec<usize> = edges().flatten().collect();
            features.select(Axis(0), &rows)
        });
        let graph = Self::validated(adjacency, features, Some(relations))?;
        let parallel =
            self.parallel.as_ref().map(|all| Arc::new(all.blocks(ranges, self.relations.len())));
        // That edges have weights is a property of the list that they came from.
        Ok(Self { parallel, weighted: self.weighted, ..graph })
    }
}

/// The rows of `ranges`, each column moved with its range.
fn cut<F: Scalar>(matrix: CsrView<F>, ranges: &[Range<usize>], nodes: usize) -> Result<Csr<F>> {
    let (starts, columns, values) = matrix.into_raw_storage();
    let stored: usize = ranges.iter().map(|range| starts[range.end] - starts[range.start]).sum();
    let mut cut =
        (Vec::with_capacity(nodes + 1), Vec::with_capacity(stored), Vec::with_capacity(stored));
    cut.0.push(0);
    let mut first = 0;
    for range in ranges {
        let entries = starts[range.start]..starts[range.end];
        for &column in &columns[entries.clone()] {
            if !range.contains(&(column as usize)) {
                let (from, to) = (range.start, range.end);
                return Err(Error::data(
                    "blocks of a graph",
                    format!("an edge leads from node {column} into the nodes {from} to {to}"),
                ));
            }
            cut.1.push(column - range.start as u32 + first);
        }
        let before = cut.2.len();
        cut.2.extend_from_slice(&values[entries.clone()]);
        let ends = starts[range.start + 1..=range.end].iter();
        cut.0.extend(ends.map(|end| end - entries.start + before));
        first += range.len() as u32;
    }
    Ok(Csr::new((nodes, nodes), cut.0, cut.1, cut.2))
}

impl Parallel {
    /// As [`Graph::blocks`].
    fn blocks(&self, ranges: &[Range<usize>], relations: usize) -> Self {
        let (mut starts, mut sources, mut weights) = (vec![0], Vec::new(), Vec::new());
        let mut types = self.types.as_ref().map(|_| Vec::new());
        let (mut loops, mut counts) = (BTreeMap::new(), BTreeMap::new());
        let mut first = 0u32;
        for range in ranges {
            let entries = self.starts[range.start]..self.starts[range.end];
            let (low, high) = (range.start as u32, range.end as u32);
            let moved = |node: u32| node - low + first;
            let before = sources.len();
            sources.extend(self.sources[entries.clone()].iter().map(|&source| moved(source)));
            weights.extend_from_slice(&self.weights[entries.clone()]);
            if let (Some(types), Some(all)) = (&mut types, &self.types) {
                types.extend_from_slice(&all[entries.clone()]);
            }
            let ends = self.starts[range.start + 1..=range.end].iter();
            starts.extend(ends.map(|end| end - entries.start + before));
            loops.extend(self.loops.range(low..high).map(|(&node, &w)| (moved(node), w)));
            for relation in std::iter::once(None).chain((0..relations).map(Some)) {
                let own = self.counts.range((relation, low, 0)..(relation, high, 0));
                counts.extend(own.map(|(&(of, i, j), &count)| ((of, moved(i), moved(j)), count)));
            }
            first += high - low;
        }
        Self { starts, sources, weights, types, loops, counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{AdjacencyNorm, Duplicates};
    use ndarray::Array2;

    type Listed = Vec<(usize, usize, f32, u32)>;

    /// Three graphs side by side, of 3, 1 and 4 nodes: with self-loops and an edge that is listed
    /// three times.
    fn listed() -> Vec<(usize, Listed)> {
        vec![
            (3, vec![(0, 1, 0.5, 0), (2, 1, 2.0, 1), (1, 1, 1.5, 1), (2, 0, 1.0, 0)]),
            (1, vec![(0, 0, 3.0, 1)]),
            (4, vec![(3, 0, 1.0, 0), (3, 0, 2.0, 1), (3, 0, 4.0, 1), (1, 2, 0.25, 0)]),
        ]
    }

    fn union(parts: &[(usize, Listed)], duplicates: Duplicates) -> Graph {
        let (mut first, mut edges, mut types) = (0, Vec::new(), Vec::new());
        for (nodes, own) in parts {
            edges.extend(own.iter().map(|&(s, t, w, _)| (s + first, t + first, w)));
            types.extend(own.iter().map(|edge| edge.3));
            first += nodes;
        }
        let builder = Graph::builder(first).weighted_edges(edges.clone()).duplicates(duplicates);
        let builder = builder.edge_types(types);
        // Features tell an edge from every other, wherever its part stands.
        let weights = Array2::from_shape_fn((edges.len(), 1), |(e, _)| edges[e].2);
        let keeps = duplicates == Duplicates::Keep;
        let builder = if keeps { builder.edge_features(weights) } else { builder };
        builder.build().unwrap()
    }

    #[test]
    fn blocks_are_the_graph_of_their_edges_in_any_order() {
        let parts = listed();
        let ranges = [0..3, 3..4, 4..8];
        for duplicates in [Duplicates::Sum, Duplicates::Keep] {
            let all = union(&parts, duplicates);
            for order in [vec![2, 0, 1], vec![1], vec![0, 1, 2], vec![2, 2, 0]] {
                let chosen: Vec<Range<usize>> =
                    order.iter().map(|&part: &usize| ranges[part].clone()).collect();
                let found = all.blocks(&chosen).unwrap();
                let own: Vec<_> = order.iter().map(|&part| parts[part].clone()).collect();
                let expected = union(&own, duplicates);
                assert_eq!(found.adjacency(), expected.adjacency());
                assert_eq!(found.edge_list(), expected.edge_list());
                assert_eq!(found.edge_features(), expected.edge_features());
                let weights = |graph: &Graph| graph.edges().collect::<Vec<_>>();
                assert_eq!(weights(&found), weights(&expected));
                for (r, relation) in expected.relations().iter().enumerate() {
                    assert_eq!(&found.relations()[r], relation);
                }
                for norm in [AdjacencyNorm::Symmetric, AdjacencyNorm::UnweightedSum] {
                    let of = |graph: &Graph| graph.operator(norm).unwrap();
                    assert_eq!(of(&found).forward(), of(&expected).forward(), "{norm:?}");
                }
                let counts = |graph: &Graph| {
                    let operators = (0..expected.relations().len())
                        .map(|r| graph.relation_operator(r, AdjacencyNorm::UnweightedSum).unwrap());
                    operators.map(|operator| operator.forward().to_owned()).collect::<Vec<_>>()
                };
                assert_eq!(counts(&found), counts(&expected));
            }
        }
    }

    #[test]
    fn a_range_that_an_edge_leads_into_or_that_is_not_there_is_refused() {
        let path = Graph::builder(3).edges([(0, 1), (1, 2)]).build().unwrap();
        let words = |ranges: &[Range<usize>]| path.blocks(ranges).unwrap_err().to_string();
        let one = std::slice::from_ref::<Range<usize>>;
        assert!(words(one(&(1..3))).contains("from node 0 into the nodes 1 to 3"));
        assert!(words(one(&(0..4))).contains("out of range"));
        assert!(words(&[]).contains("no nodes"));
        // Nothing leads into the first two but what is there.
        assert_eq!(path.blocks(one(&(0..2))).unwrap().num_edges(), 1);
    }
}
