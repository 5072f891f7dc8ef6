//! What is asked about pairs: queries, each with the nodes that may answer it.

use crate::error::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// One end of an edge and its type: the other end is what is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Query {
    /// The row of the node that is known.
    pub node: u32,
    /// The type of the edge, 0 where edges have none.
    pub relation: u32,
    /// Whether the node that is known is the edge's end, and its start is asked for.
    pub inverse: bool,
}

impl Query {
    /// What a triple of head, relation and tail answers: which node is its tail, and which is its
    /// head.
    pub fn both([head, relation, tail]: [u32; 3]) -> [(Self, u32); 2] {
        [
            (Self { node: head, relation, inverse: false }, tail),
            (Self { node: tail, relation, inverse: true }, head),
        ]
    }
}

/// The nodes that may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Candidates {
    /// The same for all queries: all rows in a range.
    Range(Range<u32>),
    /// The same for all queries: these rows.
    Listed(Arc<[u32]>),
    /// One of its own for each query, and after it rows that are the same for all.
    Beside {
        /// The row that each query has for itself.
        own: Arc<[u32]>,
        /// Those of all.
        rows: Arc<[u32]>,
    },
    /// So many for each query, one query's after another's.
    Each {
        /// How many a query has.
        count: usize,
        /// Their rows, `queries · count`.
        nodes: Arc<[u32]>,
    },
}

/// Queries with their candidates: the pairs of a batch, query by query, are what a decoder scores.
/// Clones share them.
///
/// ```
/// use gnn_prune::nn::{Queries, Query};
/// // Which of the nodes 2, 3 and 4 follows node 0, and which node 1?
/// let ask = |node| Query { node, relation: 0, inverse: false };
/// let queries = Queries::among(vec![ask(0), ask(1)], 2..5)?;
/// assert_eq!(queries.num_pairs(), 6);
/// assert_eq!(queries.pair(4), [1, 3]);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queries {
    queries: Arc<[Query]>,
    candidates: Candidates,
}

impl Candidates {
    /// The row of a query's candidate.
    pub(crate) fn of(&self, query: usize, place: usize) -> u32 {
        match self {
            Candidates::Range(range) => range.start + place as u32,
            Candidates::Listed(rows) => rows[place],
            Candidates::Beside { own, .. } if place == 0 => own[query],
            Candidates::Beside { rows, .. } => rows[place - 1],
            Candidates::Each { count, nodes } => nodes[query * count + place],
        }
    }
}

impl Queries {
    /// Queries that any node of a range of rows may answer.
    ///
    /// # Errors
    /// [`Error::Setting`] for a range of no rows, and for more pairs than can be counted.
    pub fn among(queries: impl Into<Arc<[Query]>>, range: Range<u32>) -> Result<Self> {
        let queries = queries.into();
        if range.is_empty() {
            let found = format!("rows {} to {}", range.start, range.end);
            return Err(Error::setting("candidates", found, "at least one row"));
        }
        if queries.len().checked_mul(range.len()).is_none() {
            return Err(Error::setting("queries", queries.len(), "fewer: pairs overflow"));
        }
        Ok(Self { queries, candidates: Candidates::Range(range) })
    }

    /// Queries that any of these rows may answer.
    ///
    /// # Errors
    /// [`Error::Setting`] for no row, and for more pairs than can be counted.
    pub fn among_listed(
        queries: impl Into<Arc<[Query]>>,
        rows: impl Into<Arc<[u32]>>,
    ) -> Result<Self> {
        let (queries, rows) = (queries.into(), rows.into());
        if rows.is_empty() {
            return Err(Error::setting("candidates", 0, "at least one row"));
        }
        if queries.len().checked_mul(rows.len()).is_none() {
            return Err(Error::setting("queries", queries.len(), "fewer: pairs overflow"));
        }
        Ok(Self { queries, candidates: Candidates::Listed(rows) })
    }

    /// Queries each of which one row of its own may answer, or any of these rows.
    ///
    /// # Errors
    /// [`Error::Setting`] where there is not one row for each query, and for more pairs than can be
    /// counted.
    pub fn beside(
        queries: impl Into<Arc<[Query]>>,
        own: impl Into<Arc<[u32]>>,
        rows: impl Into<Arc<[u32]>>,
    ) -> Result<Self> {
        let (queries, own, rows) = (queries.into(), own.into(), rows.into());
        if own.len() != queries.len() {
            let found = format!("{} for {} queries", own.len(), queries.len());
            return Err(Error::setting("candidates of their own", found, "one each"));
        }
        if rows.len().checked_add(1).and_then(|each| queries.len().checked_mul(each)).is_none() {
            return Err(Error::setting("queries", queries.len(), "fewer: pairs overflow"));
        }
        Ok(Self { queries, candidates: Candidates::Beside { own, rows } })
    }

    /// Queries with `count` candidates each, one query's after another's.
    ///
    /// # Errors
    /// [`Error::Setting`] for no candidate, and where there are not `count` for each query.
    pub fn each(
        queries: impl Into<Arc<[Query]>>,
        count: usize,
        nodes: impl Into<Arc<[u32]>>,
    ) -> Result<Self> {
        let (queries, nodes) = (queries.into(), nodes.into());
        if count == 0 || queries.len().checked_mul(count) != Some(nodes.len()) {
            let found = format!("{} for {} queries", nodes.len(), queries.len());
            return Err(Error::setting("candidates", found, format!("{count} each, and not 0")));
        }
        Ok(Self { queries, candidates: Candidates::Each { count, nodes } })
    }

    /// Pairs without a type, each by the rows of its two nodes.
    pub fn pairs(pairs: &[[u32; 2]]) -> Self {
        let query = |&[node, _]: &[u32; 2]| Query { node, relation: 0, inverse: false };
        let nodes = pairs.iter().map(|pair| pair[1]).collect();
        Self {
            queries: pairs.iter().map(query).collect(),
            candidates: Candidates::Each { count: 1, nodes },
        }
    }

    /// The queries.
    pub fn queries(&self) -> &[Query] {
        &self.queries
    }

    /// What may answer them.
    pub fn candidates(&self) -> &Candidates {
        &self.candidates
    }

    /// How many candidates a query has.
    pub fn count(&self) -> usize {
        match &self.candidates {
            Candidates::Range(range) => range.len(),
            Candidates::Listed(rows) => rows.len(),
            Candidates::Beside { rows, .. } => rows.len() + 1,
            Candidates::Each { count, .. } => *count,
        }
    }

    /// How many pairs there are.
    pub fn num_pairs(&self) -> usize {
        self.queries.len() * self.count()
    }

    /// The rows of the two nodes of pair `k`: the one that is known, and the candidate.
    ///
    /// # Panics
    /// If there are not so many pairs.
    pub fn pair(&self, k: usize) -> [u32; 2] {
        let (query, place) = (k / self.count(), k % self.count());
        [self.queries[query].node, self.candidates.of(query, place)]
    }

    /// Checks that all rows are below `rows`, and all types below `relations`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] with what is not.
    pub fn check(&self, at: &str, rows: usize, relations: usize) -> Result<()> {
        let past = |what: &str, index: u32, len: usize| {
            Err(Error::IndexOutOfRange { at: format!("{at}: {what}"), index: index as usize, len })
        };
        if let Some(query) = self.queries.iter().find(|query| query.node as usize >= rows) {
            return past("node of a query", query.node, rows);
        }
        if let Some(query) = self.queries.iter().find(|query| query.relation as usize >= relations)
        {
            return past("relation of a query", query.relation, relations);
        }
        let inside = |lists: &[&[u32]]| match lists
            .iter()
            .copied()
            .flatten()
            .find(|node| **node as usize >= rows)
        {
            Some(&node) => past("candidate", node, rows),
            None => Ok(()),
        };
        match &self.candidates {
            Candidates::Range(range) if range.end as usize > rows => {
                past("candidate", range.end - 1, rows)
            }
            Candidates::Range(_) => Ok(()),
            Candidates::Each { nodes, .. } | Candidates::Listed(nodes) => inside(&[nodes]),
            Candidates::Beside { own, rows } => inside(&[own, rows]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_that_do_not_fit_are_refused() {
        let ask = |node| Query { node, relation: 1, inverse: false };
        assert!(Queries::among(vec![ask(0)], 3..3).is_err());
        assert!(Queries::each(vec![ask(0)], 2, vec![1]).is_err());
        assert!(Queries::each(vec![ask(0)], 0, vec![]).is_err());
        let fine = Queries::each(vec![ask(0), ask(2)], 2, vec![1, 3, 0, 1]).unwrap();
        assert_eq!(
            (0..4).map(|k| fine.pair(k)).collect::<Vec<_>>(),
            [[0, 1], [0, 3], [2, 0], [2, 1]]
        );
        assert!(fine.check("here", 4, 2).is_ok());
        for (rows, relations) in [(3, 2), (4, 1), (2, 2)] {
            assert!(fine.check("here", rows, relations).is_err());
        }
        assert!(Queries::among(vec![ask(0)], 1..5).unwrap().check("here", 4, 2).is_err());
        assert!(Queries::among_listed(vec![ask(0)], vec![]).is_err());
        let listed = Queries::among_listed(vec![ask(0), ask(2)], vec![3, 1]).unwrap();
        let pairs: Vec<[u32; 2]> = (0..listed.num_pairs()).map(|k| listed.pair(k)).collect();
        assert_eq!(pairs, [[0, 3], [0, 1], [2, 3], [2, 1]]);
        assert!(listed.check("here", 4, 2).is_ok() && listed.check("here", 3, 2).is_err());
        assert!(Queries::beside(vec![ask(0)], vec![], vec![1]).is_err());
        let beside = Queries::beside(vec![ask(0), ask(2)], vec![3, 1], vec![2, 0]).unwrap();
        let pairs: Vec<[u32; 2]> = (0..beside.num_pairs()).map(|k| beside.pair(k)).collect();
        assert_eq!(pairs, [[0, 3], [0, 2], [0, 0], [2, 1], [2, 2], [2, 0]]);
        assert!(beside.check("here", 4, 2).is_ok() && beside.check("here", 3, 2).is_err());
    }
}
