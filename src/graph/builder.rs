//! Building a graph from edge lists.

use super::{Graph, Parallel};
use crate::error::{Error, Result};
use crate::files::Budget;
use crate::value::Csr;
use ndarray::{Array2, Axis};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What to do with edges that are listed more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Duplicates {
    /// Keep one of them; it is an error if their weights differ.
    #[default]
    Merge,
    /// Add their weights up.
    Sum,
    /// Keep them all, each with its own features, as PyTorch Geometric does: sums add their weights
    /// up, attention scores each.
    Keep,
}

/// What to do with edges from a node to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SelfLoops {
    /// Leave them as listed.
    #[default]
    Keep,
    /// Remove them all.
    Remove,
    /// Give every node one, of weight 1 where none is listed.
    Add,
}

/// Builder of a [`Graph`]; see [`Graph::builder`].
#[derive(Debug, Clone)]
pub struct GraphBuilder {
    num_nodes: usize,
    edges: Vec<(usize, usize, f32)>,
    undirected: bool,
    duplicates: Duplicates,
    self_loops: SelfLoops,
    features: Option<Array2<f32>>,
    types: Option<Vec<u32>>,
}

/// An edge as it is listed, or its reverse, by its place in the matrix; `id` is its place in the
/// list.
#[derive(Clone, Copy)]
struct Entry {
    row: u32,
    col: u32,
    weight: f32,
    id: usize,
}

impl GraphBuilder {
    pub(super) fn new(num_nodes: usize) -> Self {
        let (duplicates, self_loops) = (Duplicates::Merge, SelfLoops::Keep);
        Self {
            num_nodes,
            edges: Vec::new(),
            undirected: false,
            duplicates,
            self_loops,
            features: None,
            types: None,
        }
    }

    /// Adds edges `(source, target)` of weight 1.
    #[must_use]
    pub fn edges(mut self, edges: impl IntoIterator<Item = (usize, usize)>) -> Self {
        self.edges.extend(edges.into_iter().map(|(source, target)| (source, target, 1.0)));
        self
    }

    /// Adds edges `(source, target, weight)`; weights are finite.
    #[must_use]
    pub fn weighted_edges(mut self, edges: impl IntoIterator<Item = (usize, usize, f32)>) -> Self {
        self.edges.extend(edges);
        self
    }

    /// Whether the reverse of every edge is there too. Default: no, edges are directed.
    #[must_use]
    pub fn undirected(mut self, undirected: bool) -> Self {
        self.undirected = undirected;
        self
    }

    /// What happens to edges that are listed more than once. Default: [`Duplicates::Merge`].
    #[must_use]
    pub fn duplicates(mut self, duplicates: Duplicates) -> Self {
        self.duplicates = duplicates;
        self
    }

    /// What happens to self-loops. Default: [`SelfLoops::Keep`].
    #[must_use]
    pub fn self_loops(mut self, self_loops: SelfLoops) -> Self {
        self.self_loops = self_loops;
        self
    }

    /// Gives every listed edge a row of features, `[edges, channels]`, in the order of the list; a
    /// reverse edge has those of its edge.
    #[must_use]
    pub fn edge_features(mut self, features: Array2<f32>) -> Self {
        self.features = Some(features);
        self
    }

    /// Gives every listed edge a type, its relation, in the order of the list. Edges of different
    /// types may join the same two nodes.
    #[must_use]
    pub fn edge_types(mut self, types: Vec<u32>) -> Self {
        self.types = Some(types);
        self
    }

    /// Validates the edges and builds the graph.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for a node that does not exist, [`Error::NotFinite`] for a
    /// weight, [`Error::ConflictingEdge`] for one edge with two weights or two rows of features,
    /// [`Error::Data`] for no nodes at all, [`Error::ShapeMismatch`] for features or types of
    /// another number of edges, [`Error::Setting`] for added self-loops where edges have features
    /// or types, which those would lack.
    pub fn build(self) -> Result<Graph<f32>> {
        let n = self.num_nodes;
        if u32::try_from(n).is_err() {
            return Err(Error::setting("num_nodes", n, "at most 4294967295"));
        }
        for (k, &(source, target, weight)) in self.edges.iter().enumerate() {
            if let Some(index) = [source, target].into_iter().find(|&node| node >= n) {
                return Err(Error::IndexOutOfRange {
                    at: format!("edge {k} ({source} -> {target})"),
                    index,
                    len: n,
                });
            }
            if !weight.is_finite() {
                return Err(Error::NotFinite {
                    at: format!("weight of edge {k}"),
                    value: f64::from(weight),
                });
            }
        }
        self.check_attributes()?;
        let mut entries: Vec<Entry> =
            Vec::with_capacity(self.edges.len() * (1 + usize::from(self.undirected)));
        for (id, &(source, target, weight)) in self.edges.iter().enumerate() {
            if source == target && self.self_loops == SelfLoops::Remove {
                continue;
            }
            entries.push(Entry { row: target as u32, col: source as u32, weight, id });
            if self.undirected && source != target {
                entries.push(Entry { row: source as u32, col: target as u32, weight, id });
            }
        }
        // A stable sort keeps equal edges in the order of the list, so that their sum has the same
        // bits every time.
        entries.sort_by_key(|entry| (entry.row, entry.col));
        let mut merged = self.merged(entries.iter().copied())?;
        let parallel = (merged.len() < entries.len() && self.duplicates == Duplicates::Keep)
            .then(|| self.parallel(n, &entries));
        let features = self.features.as_ref().map(|features| {
            let listed = if parallel.is_some() { &entries } else { &merged };
            let ids: Vec<usize> = listed.iter().map(|entry| entry.id).collect();
            features.select(Axis(0), &ids)
        });
        let relations = match &self.types {
            None => None,
            Some(types) => {
                let count = types.iter().max().map_or(0, |&most| most as usize + 1);
                let mut by_type = vec![Vec::new(); count];
                entries.iter().for_each(|entry| by_type[types[entry.id] as usize].push(*entry));
                let matrices = by_type
                    .into_iter()
                    .map(|entries| Ok(matrix(n, &self.merged(entries.into_iter())?)));
                Some(matrices.collect::<Result<Vec<_>>>()?)
            }
        };
        if self.self_loops == SelfLoops::Add {
            let looped: std::collections::BTreeSet<u32> =
                merged.iter().filter(|e| e.row == e.col).map(|e| e.row).collect();
            let missing = (0..n as u32).filter(|i| !looped.contains(i));
            merged.extend(missing.map(|i| Entry { row: i, col: i, weight: 1.0, id: usize::MAX }));
            merged.sort_unstable_by_key(|entry| (entry.row, entry.col));
        }
        let weighted = self.edges.iter().any(|edge| edge.2 != 1.0);
        Ok(Graph {
            parallel,
            weighted,
            ..Graph::validated(matrix(n, &merged), features, relations)?
        })
    }

    /// Checks that features and types fit the list of edges.
    fn check_attributes(&self) -> Result<()> {
        let count = self.edges.len();
        if let Some(features) = &self.features {
            if features.nrows() != count || features.ncols() == 0 {
                let (expected, found) = ((count, features.ncols().max(1)), features.dim());
                return Err(Error::ShapeMismatch { at: "edge features".into(), expected, found });
            }
            if let Some(((k, _), &value)) = features.indexed_iter().find(|(_, v)| !v.is_finite()) {
                return Err(Error::NotFinite {
                    at: format!("features of edge {k}"),
                    value: value.into(),
                });
            }
        }
        if let Some(types) = &self.types {
            if types.len() != count {
                return Err(Error::ShapeMismatch {
                    at: "edge types".into(),
                    expected: (count, 1),
                    found: (types.len(), 1),
                });
            }
            // Each type has a matrix of its own: a number out of the air must not allocate.
            if let Some((k, &found)) = types.iter().enumerate().find(|(_, t)| **t >= MOST_TYPES) {
                return Err(Error::IndexOutOfRange {
                    at: format!("type of edge {k}"),
                    index: found as usize,
                    len: MOST_TYPES as usize,
                });
            }
            let most = types.iter().max().map_or(0, |&most| most as usize + 1);
            let own = count * size_of::<Entry>() + self.num_nodes * size_of::<usize>();
            Budget::of_bytes(own as u64)
                .take(&[most, self.num_nodes + 1], size_of::<usize>())
                .map_err(|problem| {
                    Error::data(
                        "edge types",
                        format!("a matrix for each of {most} types {problem}"),
                    )
                })?;
        }
        if self.self_loops == SelfLoops::Add && (self.features.is_some() || self.types.is_some()) {
            return Err(Error::setting(
                "self_loops",
                "add",
                "`keep` or `remove` where edges have features or types",
            ));
        }
        Ok(())
    }

    /// Sorted entries of `n` nodes, several of which may have the same place.
    fn parallel(&self, n: usize, entries: &[Entry]) -> Arc<Parallel> {
        let mut starts = vec![0; n + 1];
        entries.iter().for_each(|entry| starts[entry.row as usize + 1] += 1);
        (0..n).for_each(|i| starts[i + 1] += starts[i]);
        let loops = entries
            .iter()
            .filter(|entry| entry.row == entry.col)
            .map(|entry| (entry.row, f64::from(entry.weight)));
        let mut counts = BTreeMap::new();
        for place in entries
            .chunk_by(|a, b| (a.row, a.col) == (b.row, b.col))
            .filter(|place| place.len() > 1)
        {
            let (row, col) = (place[0].row, place[0].col);
            counts.insert((None, row, col), place.len() as u32);
            for entry in place {
                if let Some(types) = &self.types {
                    *counts.entry((Some(types[entry.id] as usize), row, col)).or_insert(0) += 1;
                }
            }
        }
        Arc::new(Parallel {
            starts,
            sources: entries.iter().map(|entry| entry.col).collect(),
            weights: entries.iter().map(|entry| entry.weight).collect(),
            types: self
                .types
                .as_ref()
                .map(|types| entries.iter().map(|entry| types[entry.id]).collect()),
            loops: loops.collect(),
            counts,
        })
    }

    /// Sorted entries with those of the same place made one.
    fn merged(&self, entries: impl Iterator<Item = Entry>) -> Result<Vec<Entry>> {
        let mut merged: Vec<Entry> = Vec::new();
        for entry in entries {
            match merged.last_mut() {
                Some(last) if (last.row, last.col) == (entry.row, entry.col) => {
                    let same_features = self.features.as_ref().is_none_or(|all| {
                        last.id == entry.id || all.row(last.id) == all.row(entry.id)
                    });
                    match self.duplicates {
                        _ if !same_features && self.duplicates != Duplicates::Keep => {
                            return Err(Error::ConflictingEdge {
                                from: entry.col as usize,
                                to: entry.row as usize,
                            });
                        }
                        Duplicates::Sum | Duplicates::Keep => last.weight += entry.weight,
                        Duplicates::Merge if last.weight == entry.weight => {}
                        Duplicates::Merge => {
                            return Err(Error::ConflictingEdge {
                                from: entry.col as usize,
                                to: entry.row as usize,
                            });
                        }
                    }
                }
                _ => merged.push(entry),
            }
        }
        Ok(merged)
    }
}

/// Most types of edges.
const MOST_TYPES: u32 = 1 << 16;

/// Sorted entries as a matrix of `n` nodes.
fn matrix(n: usize, entries: &[Entry]) -> Csr<f32> {
    let mut indptr = vec![0usize; n + 1];
    entries.iter().for_each(|entry| indptr[entry.row as usize + 1] += 1);
    for i in 0..n {
        indptr[i + 1] += indptr[i];
    }
    let (indices, data) = entries.iter().map(|entry| (entry.col, entry.weight)).unzip();
    Csr::new((n, n), indptr, indices, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_of_an_undirected_graph_is_one_edge() {
        for duplicates in [Duplicates::Merge, Duplicates::Sum, Duplicates::Keep] {
            let graph = Graph::builder(3)
                .edges([(0, 0), (0, 1)])
                .undirected(true)
                .duplicates(duplicates)
                .build()
                .unwrap();
            assert_eq!(graph.num_edges(), 3, "{duplicates:?}");
            assert_eq!(
                graph.adjacency().to_dense(),
                ndarray::array![[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
                "{duplicates:?}"
            );
        }
    }

    #[test]
    fn a_pair_listed_both_ways_is_one_undirected_edge() {
        let graph = Graph::builder(2).edges([(0, 1), (1, 0)]).undirected(true).build().unwrap();
        assert_eq!(graph.num_edges(), 2);
        assert!(graph.adjacency().data().iter().all(|&w| w == 1.0));
    }

    #[test]
    fn duplicates_sum_or_conflict() {
        let twice = Graph::builder(2).weighted_edges([(0, 1, 1.0), (0, 1, 2.0)]);
        let summed = twice.clone().duplicates(Duplicates::Sum).build().unwrap();
        assert_eq!(summed.adjacency().data(), &[3.0]);
        assert!(matches!(twice.build(), Err(Error::ConflictingEdge { from: 0, to: 1 })));
    }

    #[test]
    fn kept_duplicates_have_features_of_their_own_and_move_with_their_nodes() {
        let graph = Graph::builder(3)
            .edges([(0, 1), (2, 1), (0, 1), (1, 1), (1, 1)])
            .edge_features(ndarray::array![[1.0], [2.0], [3.0], [4.0], [5.0]])
            .duplicates(Duplicates::Keep)
            .build()
            .unwrap();
        assert_eq!(
            (graph.num_edges(), graph.adjacency().get(1, 0), graph.is_weighted()),
            (3, Some(&2.0), false)
        );
        assert_eq!(graph.edge_list(), (&[0, 0, 5, 5][..], &[0, 0, 1, 1, 2][..]));
        assert_eq!(
            graph.edge_features().unwrap(),
            ndarray::array![[1.0], [3.0], [4.0], [5.0], [2.0]]
        );
        // One self-loop in the place of both, as if it were listed once: 2 + 1 + 1 come in.
        let symmetric = graph.operator(crate::graph::AdjacencyNorm::Symmetric).unwrap();
        assert!((symmetric.forward().get(1, 1).unwrap() - 0.25).abs() < 1e-6);
        assert_eq!(graph.attention().neighbourhoods().sources, &[0, 0, 0, 2, 1, 2]);
        assert_eq!(graph.attention_as_listed().neighbourhoods().sources, &[0, 0, 1, 1, 2]);
        let moved = graph.permuted(&[1, 2, 0]).unwrap();
        assert_eq!(moved.edge_list(), (&[0, 5, 5, 5][..], &[0, 0, 1, 2, 2][..]));
        assert_eq!(
            moved.edge_features().unwrap(),
            ndarray::array![[4.0], [5.0], [2.0], [1.0], [3.0]]
        );
        let plain = Graph::builder(2).edges([(0, 1)]).duplicates(Duplicates::Keep).build().unwrap();
        assert_eq!(plain.edge_list().1, &[0]);
    }

    #[test]
    fn unweighted_norms_count_edges_whatever_they_weigh() {
        use crate::graph::AdjacencyNorm;
        let edges = [(0, 1, 0.5), (2, 1, 4.0), (0, 1, 0.25), (1, 2, 0.0)];
        let graph = Graph::builder(3)
            .weighted_edges(edges)
            .edge_types(vec![0, 1, 0, 1])
            .duplicates(Duplicates::Keep)
            .build()
            .unwrap();
        let dense = |operator: Result<Arc<crate::graph::Operator<f32>>>| {
            operator.unwrap().forward().to_dense()
        };
        let counts = ndarray::array![[0.0, 0.0, 0.0], [2.0, 0.0, 1.0], [0.0, 1.0, 0.0]];
        assert_eq!(dense(graph.operator(AdjacencyNorm::UnweightedSum)), counts);
        assert_eq!(dense(graph.operator(AdjacencyNorm::Sum))[[1, 0]], 0.75);
        assert_eq!(
            dense(graph.operator(AdjacencyNorm::UnweightedMean)).row(1),
            ndarray::array![2.0 / 3.0, 0.0, 1.0 / 3.0]
        );
        assert_eq!(dense(graph.relation_operator(0, AdjacencyNorm::UnweightedSum))[[1, 0]], 2.0);
        assert_eq!(dense(graph.relation_operator(1, AdjacencyNorm::UnweightedSum))[[1, 2]], 1.0);
        let moved = graph.permuted(&[1, 2, 0]).unwrap();
        assert_eq!(
            dense(moved.operator(AdjacencyNorm::UnweightedSum)),
            ndarray::array![[0.0, 1.0, 2.0], [1.0, 0.0, 0.0], [0.0; 3]]
        );
        assert_eq!(dense(moved.relation_operator(0, AdjacencyNorm::UnweightedSum))[[0, 2]], 2.0);
        let once =
            Graph::builder(3).weighted_edges(edges).duplicates(Duplicates::Sum).build().unwrap();
        assert_eq!(
            dense(once.operator(AdjacencyNorm::UnweightedSum))[[1, 0]],
            1.0,
            "edges that were added up are one"
        );
    }

    #[test]
    fn self_loops_are_kept_removed_or_added() {
        let edges = [(0, 0, 3.0), (0, 1, 1.0)];
        let data = |mode| {
            Graph::builder(2)
                .weighted_edges(edges)
                .self_loops(mode)
                .build()
                .unwrap()
                .adjacency()
                .data()
                .to_vec()
        };
        assert_eq!(data(SelfLoops::Keep), [3.0, 1.0]);
        assert_eq!(data(SelfLoops::Remove), [1.0]);
        assert_eq!(data(SelfLoops::Add), [3.0, 1.0, 1.0]);
    }

    #[test]
    fn errors_name_the_edge() {
        let message = |b: GraphBuilder| b.build().unwrap_err().to_string();
        assert!(message(Graph::builder(2).edges([(0, 1), (0, 2)])).contains("edge 1 (0 -> 2)"));
        assert!(
            message(Graph::builder(2).weighted_edges([(0, 1, f32::NAN)]))
                .contains("weight of edge 0")
        );
        assert!(message(Graph::builder(0)).contains("no nodes"));
    }

    #[test]
    fn features_follow_their_edges_and_types_may_share_a_pair() {
        let graph = Graph::builder(3)
            .edges([(2, 1), (0, 1), (1, 2), (0, 1)])
            .edge_features(ndarray::array![[5.0], [6.0], [7.0], [6.0]])
            .edge_types(vec![0, 1, 1, 2])
            .build()
            .unwrap();
        assert_eq!(
            graph.edge_features().unwrap(),
            ndarray::array![[6.0], [5.0], [7.0]],
            "in the order of rows"
        );
        let relations: Vec<usize> =
            graph.relations().iter().map(|relation| relation.nnz()).collect();
        assert_eq!((graph.num_edges(), relations), (3, vec![1, 2, 1]));
        assert_eq!(graph.relations()[2].get(1, 0), Some(&1.0));
        let moved = graph.permuted(&[2, 0, 1]).unwrap();
        assert_eq!(moved.edge_features().unwrap(), ndarray::array![[7.0], [5.0], [6.0]]);
        assert_eq!(moved.relations()[0].get(2, 0), Some(&1.0));
        let message = |b: GraphBuilder| b.build().unwrap_err().to_string();
        let twice = Graph::builder(2).edges([(0, 1), (0, 1)]);
        assert!(matches!(
            twice.clone().edge_features(ndarray::array![[1.0], [2.0]]).build(),
            Err(Error::ConflictingEdge { .. })
        ));
        assert!(
            message(twice.clone().edge_features(ndarray::array![[1.0]])).contains("edge features")
        );
        assert!(message(twice.clone().edge_types(vec![0, u32::MAX])).contains("type of edge 1"));
        assert!(
            message(twice.edge_types(vec![0, 0]).self_loops(SelfLoops::Add)).contains("self_loops")
        );
    }
}
