//! Building a graph from edge lists.

use super::Graph;
use crate::error::{Error, Result};
use crate::value::Csr;

/// What to do with edges that are listed more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Duplicates {
    /// Keep one of them; it is an error if their weights differ.
    #[default]
    Merge,
    /// Add their weights up.
    Sum,
}

/// What to do with edges from a node to itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
}

impl GraphBuilder {
    pub(super) fn new(num_nodes: usize) -> Self {
        Self { num_nodes, edges: Vec::new(), undirected: false, duplicates: Duplicates::Merge, self_loops: SelfLoops::Keep }
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

    /// Adds the reverse of every edge. Default: edges are directed.
    #[must_use]
    pub fn undirected(mut self) -> Self {
        self.undirected = true;
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

    /// Validates the edges and builds the graph.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for a node that does not exist, [`Error::NotFinite`] for a weight,
    /// [`Error::ConflictingEdge`] for one edge with two weights, [`Error::Data`] for no nodes at all.
    pub fn build(self) -> Result<Graph<f32>> {
        let n = self.num_nodes;
        if u32::try_from(n).is_err() {
            return Err(Error::setting("num_nodes", n, "at most 4294967295"));
        }
        for (k, &(source, target, weight)) in self.edges.iter().enumerate() {
            if let Some(index) = [source, target].into_iter().find(|&node| node >= n) {
                return Err(Error::IndexOutOfRange { at: format!("edge {k} ({source} -> {target})"), index, len: n });
            }
            if !weight.is_finite() {
                return Err(Error::NotFinite { at: format!("weight of edge {k}"), value: f64::from(weight) });
            }
        }
        let mut entries: Vec<(u32, u32, f32)> = Vec::with_capacity(self.edges.len() * (1 + usize::from(self.undirected)));
        for &(source, target, weight) in &self.edges {
            if source == target && self.self_loops == SelfLoops::Remove {
                continue;
            }
            entries.push((target as u32, source as u32, weight));
            if self.undirected && source != target {
                entries.push((source as u32, target as u32, weight));
            }
        }
        // A stable sort keeps equal edges in the order of the list, so that their sum has the same bits every time.
        entries.sort_by_key(|&(row, col, _)| (row, col));
        let mut merged: Vec<(u32, u32, f32)> = Vec::with_capacity(entries.len());
        for (row, col, weight) in entries {
            match merged.last_mut() {
                Some(last) if (last.0, last.1) == (row, col) => match self.duplicates {
                    Duplicates::Sum => last.2 += weight,
                    Duplicates::Merge if last.2 == weight => {}
                    Duplicates::Merge => return Err(Error::ConflictingEdge { from: col as usize, to: row as usize }),
                },
                _ => merged.push((row, col, weight)),
            }
        }
        if self.self_loops == SelfLoops::Add {
            let looped: std::collections::BTreeSet<u32> = merged.iter().filter(|e| e.0 == e.1).map(|e| e.0).collect();
            merged.extend((0..n as u32).filter(|i| !looped.contains(i)).map(|i| (i, i, 1.0)));
            merged.sort_unstable_by_key(|&(row, col, _)| (row, col));
        }
        let mut indptr = vec![0usize; n + 1];
        for &(row, ..) in &merged {
            indptr[row as usize + 1] += 1;
        }
        for i in 0..n {
            indptr[i + 1] += indptr[i];
        }
        let (indices, data) = merged.into_iter().map(|(_, col, weight)| (col, weight)).unzip();
        Graph::try_from(Csr::new((n, n), indptr, indices, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_listed_both_ways_is_one_undirected_edge() {
        let graph = Graph::builder(2).edges([(0, 1), (1, 0)]).undirected().build().unwrap();
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
    fn self_loops_are_kept_removed_or_added() {
        let edges = [(0, 0, 3.0), (0, 1, 1.0)];
        let data = |mode| Graph::builder(2).weighted_edges(edges).self_loops(mode).build().unwrap().adjacency().data().to_vec();
        assert_eq!(data(SelfLoops::Keep), [3.0, 1.0]);
        assert_eq!(data(SelfLoops::Remove), [1.0]);
        assert_eq!(data(SelfLoops::Add), [3.0, 1.0, 1.0]);
    }

    #[test]
    fn errors_name_the_edge() {
        let message = |b: GraphBuilder| b.build().unwrap_err().to_string();
        assert!(message(Graph::builder(2).edges([(0, 1), (0, 2)])).contains("edge 1 (0 -> 2)"));
        assert!(message(Graph::builder(2).weighted_edges([(0, 1, f32::NAN)])).contains("weight of edge 0"));
        assert!(message(Graph::builder(0)).contains("no nodes"));
    }
}
