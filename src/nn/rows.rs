//! What the rows of a value are: nodes, the targets of a hop, graphs of a batch, pairs, relations.

use super::queries::Queries;
use crate::error::{Error, Result};
use crate::graph::Hop;
use crate::scalar::Scalar;
use std::sync::Arc;

/// What the rows of a value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RowSpace {
    /// The nodes of the graph.
    Nodes,
    /// The nodes that have a value after so many hops of a sample: 0 are all that were sampled.
    Hop(u8),
    /// The graphs of a batch.
    Graphs,
    /// The pairs of nodes of a batch.
    Pairs,
    /// So many relations, types of the graph's edges: the same in every batch.
    Relations(u32),
}

impl RowSpace {
    /// The rows of what is aggregated from these.
    #[must_use]
    pub fn aggregated(self) -> Self {
        match self {
            RowSpace::Hop(hop) => RowSpace::Hop(hop.saturating_add(1)),
            other => other,
        }
    }

    /// The rows that several values have in common: those of each, where they are the same, and of
    /// hops the last, whose rows are the first ones of those before it.
    pub fn joined(spaces: &[RowSpace]) -> Option<Self> {
        let mut spaces = spaces.iter().copied();
        let first = spaces.next()?;
        spaces.try_fold(first, |joined, space| match (joined, space) {
            (a, b) if a == b => Some(a),
            (RowSpace::Hop(a), RowSpace::Hop(b)) => Some(RowSpace::Hop(a.max(b))),
            _ => None,
        })
    }
}

impl std::fmt::Display for RowSpace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RowSpace::Nodes => f.write_str("nodes"),
            RowSpace::Hop(hop) => write!(f, "nodes after {hop} hops"),
            RowSpace::Graphs => f.write_str("graphs"),
            RowSpace::Pairs => f.write_str("pairs"),
            RowSpace::Relations(count) => write!(f, "{count} relations"),
        }
    }
}

/// What a batch has beside its graph: the hops of a sample, who its nodes are, which graph each
/// belongs to, which pairs are asked about. Clones share them.
///
/// ```
/// use gnn_prune::nn::{Cx, Rows, RowSpace};
/// use gnn_prune::Graph;
/// let two = Graph::builder(5).edges([(0, 1), (1, 2), (3, 4)]).undirected(true).build()?;
/// let rows = Rows::new().graphs(vec![0, 0, 0, 1, 1], 2)?;
/// let cx = Cx::eval(&two).within(&rows);
/// assert_eq!(cx.num_rows(RowSpace::Graphs)?, 2);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Rows<F: Scalar> {
    hops: Arc<[Hop<F>]>,
    ids: Option<Arc<[u32]>>,
    /// Whether these are not all nodes of the graph, and there is no hop to others.
    alone: bool,
    starts: Option<Arc<[usize]>>,
    graph_of: Option<(Arc<[u32]>, usize)>,
    graph_ids: Option<Arc<[u32]>>,
    queries: Option<Queries>,
}

impl<F: Scalar> Default for Rows<F> {
    fn default() -> Self {
        Self {
            hops: Arc::default(),
            ids: None,
            alone: false,
            starts: None,
            graph_of: None,
            graph_ids: None,
            queries: None,
        }
    }
}

impl<F: Scalar> Rows<F> {
    /// The nodes of the graph, each of them the one of its number.
    pub fn new() -> Self {
        Self::default()
    }

    /// A sample by hops, the first first: each takes values from the targets of the one before it.
    /// The features of a batch are those of the first hop's sources, which are also who its nodes
    /// are.
    ///
    /// # Errors
    /// [`Error::Setting`] for no hop, for more than 255, and where the sources of one are not the
    /// targets of the one before it.
    pub fn hops(mut self, hops: Vec<Hop<F>>) -> Result<Self> {
        if hops.is_empty() || hops.len() > usize::from(u8::MAX) {
            return Err(Error::setting("hops of a sample", hops.len(), "from 1 to 255"));
        }
        let follows = |pair: &[Hop<F>]| pair[0].targets() == pair[1].sources();
        if let Some(k) = hops.windows(2).position(|pair| !follows(pair)) {
            let what = format!("sources of hop {}", k + 1);
            let legal = format!("the targets of hop {k}");
            return Err(Error::setting("hops of a sample", what, legal));
        }
        self.ids = Some(hops[0].sources().into());
        self.hops = hops.into();
        Ok(self)
    }

    /// Who the nodes of the batch are in the whole graph: all that is drawn for a node follows this
    /// number, and not its place in the batch.
    #[must_use]
    pub fn ids(mut self, ids: impl Into<Arc<[u32]>>) -> Self {
        self.ids = Some(ids.into());
        self
    }

    /// Some nodes of the graph and no edge: who they are. A layer that aggregates refuses them.
    #[must_use]
    pub fn sample(mut self, ids: impl Into<Arc<[u32]>>) -> Self {
        self.alone = true;
        self.ids(ids)
    }

    /// Where the stored features of each node of the batch begin among those of the whole graph,
    /// if they are sparse: what is drawn for them follows their place there.
    #[must_use]
    pub fn sparse_starts(mut self, starts: impl Into<Arc<[usize]>>) -> Self {
        self.starts = Some(starts.into());
        self
    }

    /// The graph of each node, one of `count`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for another graph.
    pub fn graphs(mut self, graph_of: impl Into<Arc<[u32]>>, count: usize) -> Result<Self> {
        let graph_of = graph_of.into();
        if let Some(&graph) = graph_of.iter().find(|graph| **graph as usize >= count) {
            let at = "graph of a node".into();
            return Err(Error::IndexOutOfRange { at, index: graph as usize, len: count });
        }
        (self.graph_of, self.graph_ids) = (Some((graph_of, count)), None);
        Ok(self)
    }

    /// Who the graphs of the batch are in the whole set: what is drawn for a graph follows this
    /// number, and not its place in the batch.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another number of graphs than [`Rows::graphs`] was given.
    pub fn graph_ids(mut self, ids: impl Into<Arc<[u32]>>) -> Result<Self> {
        let ids = ids.into();
        let count = self.graph_of.as_ref().map_or(0, |(_, count)| *count);
        if ids.len() != count {
            let (expected, found) = ((count, 1), (ids.len(), 1));
            return Err(Error::ShapeMismatch { at: "ids of the graphs".into(), expected, found });
        }
        self.graph_ids = Some(ids);
        Ok(self)
    }

    /// What is asked about pairs of nodes, by their rows.
    #[must_use]
    pub fn queries(mut self, queries: Queries) -> Self {
        self.queries = Some(queries);
        self
    }

    pub(super) fn hop(&self, k: usize) -> Option<&Hop<F>> {
        self.hops.get(k)
    }

    /// What the rows of a batch's features are.
    pub(super) fn of_features(&self) -> RowSpace {
        if self.alone || self.num_hops() > 0 { RowSpace::Hop(0) } else { RowSpace::Nodes }
    }

    /// Number of hops, 0 where a batch is a graph.
    pub fn num_hops(&self) -> usize {
        self.hops.len()
    }

    /// Who the nodes are, where that is not their place.
    pub fn node_ids(&self) -> Option<&[u32]> {
        self.ids.as_deref()
    }

    pub(in crate::nn) fn feature_starts(&self) -> Option<&[usize]> {
        self.starts.as_deref()
    }

    /// The graph of each node, and how many there are.
    pub fn graph_of_nodes(&self) -> Option<(&[u32], usize)> {
        self.graph_of.as_ref().map(|(graph_of, count)| (&**graph_of, *count))
    }

    /// Who the graphs are, where that is not their place.
    pub fn graph_ids_of_rows(&self) -> Option<&[u32]> {
        self.graph_ids.as_deref()
    }

    /// What is asked about pairs of nodes.
    pub fn asked(&self) -> Option<&Queries> {
        self.queries.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Graph;

    #[test]
    fn hops_join_to_the_later_one_and_other_rows_only_to_themselves() {
        use RowSpace::{Graphs, Hop, Nodes, Pairs};
        assert_eq!(RowSpace::joined(&[Nodes, Nodes]), Some(Nodes));
        assert_eq!(RowSpace::joined(&[Hop(1), Hop(0), Hop(2)]), Some(Hop(2)));
        for pair in [[Nodes, Graphs], [Pairs, Nodes], [Hop(0), Nodes], [Graphs, Pairs]] {
            assert_eq!(RowSpace::joined(&pair), None);
        }
        assert_eq!(RowSpace::joined(&[]), None);
        assert_eq!((Nodes.aggregated(), Hop(3).aggregated()), (Nodes, Hop(4)));
    }

    #[test]
    fn rows_that_do_not_fit_together_are_refused() {
        let graph = Graph::builder(4).edges([(0, 1), (1, 2), (2, 3)]).build().unwrap();
        let hop = |targets: &[u32]| crate::graph::Hop::into_nodes(&graph, targets).unwrap();
        assert!(Rows::new().hops(vec![hop(&[2, 3]), hop(&[3])]).is_err());
        let last = hop(&[3]);
        assert!(Rows::new().hops(vec![hop(last.sources()), last]).is_ok());
        assert!(Rows::<f32>::new().hops(Vec::new()).is_err());
        assert!(Rows::<f32>::new().graphs(vec![0, 2], 2).is_err());
        let two = Rows::<f32>::new().graphs(vec![0, 0, 1], 2).unwrap();
        assert!(two.clone().graph_ids(vec![7, 5, 3]).is_err());
        assert_eq!(two.graph_ids(vec![7, 5]).unwrap().graph_ids_of_rows(), Some(&[7, 5][..]));
    }
}
