//! Taking edges out of a graph: what is left keeps all that it had.

use super::{Graph, Parallel};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::value::Csr;
use ndarray::Axis;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One listed edge of a graph.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Edge<F> {
    /// Its place in [`Graph::edge_list`].
    pub index: usize,
    /// Where it comes from.
    pub source: usize,
    /// Where it leads.
    pub target: usize,
    /// What it weighs; of parallel edges each has its own weight.
    pub weight: F,
}

/// Which edges of a graph stay: an entry per edge, in the order of [`Graph::edge_list`].
///
/// ```
/// use gnn_prune::Graph;
/// use gnn_prune::graph::EdgeMask;
/// let graph = Graph::builder(3).weighted_edges([(0, 1, 2.0), (1, 2, 0.5), (2, 0, 3.0)]).build()?;
/// let heavy = graph.retain(&EdgeMask::from_fn(&graph, |edge| edge.weight > 1.0))?;
/// assert_eq!((heavy.num_edges(), heavy.adjacency().get(1, 0)), (2, Some(&2.0)));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeMask {
    keep: Vec<bool>,
}

impl EdgeMask {
    /// The edges of which `keep` says so.
    pub fn from_fn<F: Scalar>(graph: &Graph<F>, keep: impl FnMut(Edge<F>) -> bool) -> Self {
        Self { keep: graph.edges().map(keep).collect() }
    }

    /// All edges of a graph.
    pub fn all<F: Scalar>(graph: &Graph<F>) -> Self {
        Self::from_fn(graph, |_| true)
    }

    /// How many edges it speaks of.
    pub fn len(&self) -> usize {
        self.keep.len()
    }

    /// Whether it speaks of none.
    pub fn is_empty(&self) -> bool {
        self.keep.is_empty()
    }

    /// How many edges stay.
    pub fn num_kept(&self) -> usize {
        self.keep.iter().filter(|keep| **keep).count()
    }

    /// An entry per edge.
    pub fn as_slice(&self) -> &[bool] {
        &self.keep
    }
}

impl From<Vec<bool>> for EdgeMask {
    fn from(keep: Vec<bool>) -> Self {
        Self { keep }
    }
}

impl<F: Scalar> Graph<F> {
    /// All listed edges, in the order of [`Graph::edge_list`].
    pub fn edges(&self) -> impl Iterator<Item = Edge<F>> + '_ {
        let (starts, sources) = self.edge_list();
        let targets =
            starts.windows(2).enumerate().flat_map(|(i, ends)| (ends[0]..ends[1]).map(move |_| i));
        targets.zip(sources).enumerate().map(|(index, (target, &source))| Edge {
            index,
            source: source as usize,
            target,
            weight: match &self.parallel {
                Some(parallel) => F::of(parallel.weights[index].into()),
                None => self.adjacency.data()[index],
            },
        })
    }

    /// For each listed edge the number of its pair, counted in the order in which pairs first
    /// appear: an edge `i → j` and an edge `j → i` are one pair, the k-th of several with the k-th.
    /// A self-loop, and an edge without its reverse, is a pair of its own.
    pub fn edge_pairs(&self) -> Vec<usize> {
        let (mut pairs, mut seen) = (Vec::with_capacity(self.edge_list().1.len()), 0);
        // How often each ordered pair of nodes has come, and the numbers of those not yet joined.
        let mut open: BTreeMap<(usize, usize), std::collections::VecDeque<usize>> = BTreeMap::new();
        for Edge { source, target, .. } in self.edges() {
            let reverse = open.get_mut(&(target, source)).filter(|_| source != target);
            pairs.push(match reverse.and_then(std::collections::VecDeque::pop_front) {
                Some(pair) => pair,
                None => {
                    open.entry((source, target)).or_default().push_back(seen);
                    seen += 1;
                    seen - 1
                }
            });
        }
        pairs
    }

    /// The graph of the edges that stay, in their order, each with its weight, features and type;
    /// the nodes and the number of relations are what they were. Of parallel edges
    /// ([`Duplicates::Keep`](super::Duplicates::Keep)) each stays or goes by itself; edges that
    /// were merged or added up are one.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mask of another number of edges.
    pub fn retain(&self, mask: &EdgeMask) -> Result<Self> {
        let listed = self.edge_list().1.len();
        if mask.len() != listed {
            let (expected, found) = ((listed, 1), (mask.len(), 1));
            return Err(Error::ShapeMismatch { at: "edge mask".into(), expected, found });
        }
        let kept: Vec<usize> = (0..listed).filter(|&e| mask.keep[e]).collect();
        if kept.len() == listed {
            return Ok(self.clone());
        }
        let features = self.edge_features.as_ref().map(|all| all.select(Axis(0), &kept));
        let (adjacency, relations, parallel) = match &self.parallel {
            Some(parallel) => self.retained_parallel(parallel, &kept),
            None => self.retained_single(mask),
        };
        let graph = Self::validated(adjacency, features, Some(relations))?;
        // That edges have weights is a property of the list that they came from.
        Ok(Self { parallel, weighted: self.weighted, ..graph })
    }

    /// Where every edge has a place of its own, relations lose what is stored at the places that
    /// go.
    fn retained_single(&self, mask: &EdgeMask) -> Parts<F> {
        let n = self.num_nodes();
        let place = |row: usize, col: u32| {
            let (starts, sources) = self.edge_list();
            let row = starts[row]..starts[row + 1];
            let at = sources[row.clone()].binary_search(&col);
            row.start + at.expect("an edge of a type is an edge of the graph")
        };
        let of = |matrix: &Csr<F>| {
            let entries = matrix.iter().map(|(&w, (i, j))| (i, j, w));
            let kept = entries.filter(|&(i, j, _)| mask.keep[place(i as usize, j)]);
            summed(n, kept.collect())
        };
        (of(&self.adjacency), self.relations.iter().map(of).collect(), None)
    }

    /// Where several edges share a place, what they add up to is summed again, in `f32` and in the
    /// order of the list, as the builder does.
    fn retained_parallel(&self, parallel: &Parallel, kept: &[usize]) -> Parts<F> {
        let n = self.num_nodes();
        let all: Vec<Edge<F>> = self.edges().collect();
        let entry = |&e: &usize| (all[e].target as u32, all[e].source as u32, parallel.weights[e]);
        let matrix =
            |entries: Vec<(u32, u32, f32)>| summed(n, entries).map(|&weight| F::of(weight.into()));
        let type_of = |e: usize| parallel.types.as_ref().map(|types| types[e] as usize);
        let of_type = |relation: usize| {
            let own = kept.iter().filter(|&&e| type_of(e) == Some(relation));
            matrix(own.map(entry).collect())
        };
        let entries: Vec<(u32, u32, f32)> = kept.iter().map(entry).collect();
        let mut counts: BTreeMap<(Option<usize>, u32, u32), u32> = BTreeMap::new();
        for place in
            kept.chunk_by(|&a, &b| (all[a].target, all[a].source) == (all[b].target, all[b].source))
        {
            if place.len() > 1 {
                let (row, col, _) = entry(&place[0]);
                counts.insert((None, row, col), place.len() as u32);
                place.iter().filter_map(|&e| type_of(e)).for_each(|relation| {
                    *counts.entry((Some(relation), row, col)).or_insert(0) += 1;
                });
            }
        }
        let adjacency = matrix(entries.clone());
        let relations = (0..self.relations.len()).map(of_type).collect();
        let still = (adjacency.nnz() < kept.len()).then(|| {
            Arc::new(Parallel {
                starts: (0..=n as u32)
                    .map(|i| entries.partition_point(|entry| entry.0 < i))
                    .collect(),
                sources: entries.iter().map(|entry| entry.1).collect(),
                weights: entries.iter().map(|entry| entry.2).collect(),
                types: parallel
                    .types
                    .as_ref()
                    .map(|types| kept.iter().map(|&e| types[e]).collect()),
                loops: entries
                    .iter()
                    .filter(|entry| entry.0 == entry.1)
                    .map(|entry| (entry.0, entry.2.into()))
                    .collect(),
                counts,
            })
        });
        (adjacency, relations, still)
    }
}

/// Adjacency, relations and parallel edges of a graph.
type Parts<F> = (Csr<F>, Vec<Csr<F>>, Option<Arc<Parallel>>);

/// Sorted entries `(row, column, weight)` as a matrix of `n` nodes, those of one place added up in
/// their order.
fn summed<T: Copy + std::ops::AddAssign>(n: usize, entries: Vec<(u32, u32, T)>) -> Csr<T> {
    let (mut starts, mut cols, mut values) = (vec![0usize; n + 1], Vec::new(), Vec::new());
    let mut last = None;
    for (row, col, value) in entries {
        match values.last_mut() {
            Some(sum) if last == Some((row, col)) => *sum += value,
            _ => {
                cols.push(col);
                values.push(value);
                starts[row as usize + 1] += 1;
            }
        }
        last = Some((row, col));
    }
    (0..n).for_each(|i| starts[i + 1] += starts[i]);
    Csr::new((n, n), starts, cols, values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{AdjacencyNorm, Duplicates, GraphBuilder};
    use ndarray::Array2;
    use proptest::prelude::*;

    type Listed = Vec<(usize, usize, f32, u32)>;

    /// A graph of these edges, in one of the ways in which one can be made.
    fn built(n: usize, edges: &Listed, way: u8) -> GraphBuilder {
        let weighted = edges.iter().map(|&(s, t, w, _)| (s, t, w));
        let builder = Graph::builder(n).weighted_edges(weighted);
        let features = Array2::from_shape_fn((edges.len(), 2), |(e, c)| {
            // Of the edge's ends and weight alone, so that those that are made one agree.
            let (s, t, w, _) = edges[e];
            if way == 3 { (e * 2 + c) as f32 } else { (s * 7 + t * 3 + c) as f32 + w }
        });
        let types = edges.iter().map(|edge| edge.3).collect::<Vec<_>>();
        match way {
            0 => builder.duplicates(Duplicates::Sum),
            1 => builder.duplicates(Duplicates::Sum).edge_types(types),
            2 => builder.duplicates(Duplicates::Keep).edge_types(types),
            _ => builder.duplicates(Duplicates::Keep).edge_types(types).edge_features(features),
        }
    }

    fn assert_same(a: &Graph, b: &Graph) {
        assert_eq!(a.adjacency(), b.adjacency());
        assert_eq!(a.edge_list(), b.edge_list());
        assert_eq!(a.edge_features(), b.edge_features());
        assert_eq!(a.edges().collect::<Vec<_>>(), b.edges().collect::<Vec<_>>());
        let of = |graph: &Graph, r: usize| {
            graph.relations().get(r).map_or(Csr::zero(graph.adjacency().shape()), Csr::clone)
        };
        for r in 0..a.relations().len().max(b.relations().len()) {
            assert_eq!(of(a, r), of(b, r), "relation {r}");
        }
        for norm in
            [AdjacencyNorm::Symmetric, AdjacencyNorm::UnweightedSum, AdjacencyNorm::UnweightedMean]
        {
            let (a, b) = (a.operator(norm).unwrap(), b.operator(norm).unwrap());
            assert_eq!(a.forward(), b.forward(), "{norm:?}");
        }
        let (a, b) = (a.attention_as_listed(), b.attention_as_listed());
        assert_eq!(a.neighbourhoods().sources, b.neighbourhoods().sources);
    }

    proptest! {
        #[test]
        fn what_is_retained_is_a_graph_of_the_edges_that_stay(
            n in 1usize..6,
            edges in prop::collection::vec((0usize..6, 0usize..6, 1u8..4, 0u32..3), 1..14),
            // By ordered pair of nodes and type, so that what is made one stays or goes together.
            gone in prop::collection::vec(any::<bool>(), 14),
            way in 0u8..4,
        ) {
            let edges: Listed = edges
                .into_iter()
                .map(|(s, t, w, r)| (s % n, t % n, f32::from(w) / 2.0, r))
                .collect();
            let graph = built(n, &edges, way).build().unwrap();
            assert_same(&graph.retain(&EdgeMask::all(&graph)).unwrap(), &graph);
            // The list's order: by target, source, then as they were listed.
            let mut order: Vec<usize> = (0..edges.len()).collect();
            order.sort_by_key(|&e| (edges[e].1, edges[e].0));
            let (stays, kept): (Vec<bool>, Listed) = if way < 2 {
                let stays = |s: usize, t: usize| !gone[(s * 5 + t * 3) % 14];
                let kept = edges.iter().copied().filter(|&(s, t, ..)| stays(s, t)).collect();
                (graph.edges().map(|edge| stays(edge.source, edge.target)).collect(), kept)
            } else {
                let kept = (0..edges.len()).filter(|&e| !gone[e]).map(|e| edges[e]).collect();
                (order.iter().map(|&e| !gone[e]).collect(), kept)
            };
            let retained = graph.retain(&stays.clone().into()).unwrap();
            let mut naive = built(n, &kept, way);
            if let Some(features) = graph.edge_features().filter(|_| way == 3) {
                let rows: Vec<usize> = (0..edges.len()).filter(|&e| !gone[e]).collect();
                let listed = Array2::from_shape_fn((rows.len(), 2), |(k, c)| {
                    features[[order.iter().position(|&e| e == rows[k]).unwrap(), c]]
                });
                naive = naive.edge_features(listed);
            }
            assert_same(&retained, &naive.build().unwrap());
            prop_assert_eq!(retained.num_nodes(), n);
            prop_assert_eq!(retained.relations().len(), graph.relations().len());
            prop_assert_eq!(retained.edges().count(), stays.iter().filter(|keep| **keep).count());
            // Moved first or moved afterwards: which edge is which does not depend on it.
            let order: Vec<u32> = (0..n as u32).rev().collect();
            let moved = graph.permuted(&order).unwrap().permuted(&order).unwrap();
            assert_same(&moved.retain(&stays.into()).unwrap(), &retained);
        }
    }

    #[test]
    fn pairs_join_an_edge_with_its_reverse_and_nothing_else() {
        let graph = Graph::builder(3)
            .edges([(0, 1), (1, 0), (0, 1), (1, 1), (2, 0), (1, 0), (0, 1)])
            .duplicates(Duplicates::Keep)
            .build()
            .unwrap();
        // By target: 1 -> 0 twice, 2 -> 0; 0 -> 1 three times, 1 -> 1.
        assert_eq!(graph.edge_pairs(), [0, 1, 2, 0, 1, 3, 4]);
    }

    #[test]
    fn a_mask_of_another_graph_is_refused_and_a_graph_may_lose_all() {
        let graph = Graph::builder(2).edges([(0, 1), (1, 0)]).build().unwrap();
        let error = graph.retain(&vec![true].into()).unwrap_err().to_string();
        assert!(error.contains("edge mask") && error.contains("2x1"), "{error}");
        let bare = graph.retain(&EdgeMask::from_fn(&graph, |_| false)).unwrap();
        assert_eq!((bare.num_nodes(), bare.num_edges()), (2, 0));
        let own: crate::graph::Graph<f64> = graph.cast();
        let one = own.retain(&EdgeMask::from_fn(&own, |edge| edge.source == 0)).unwrap();
        assert_eq!(
            one.edges().map(|edge| (edge.source, edge.target)).collect::<Vec<_>>(),
            [(0, 1)]
        );
    }
}
