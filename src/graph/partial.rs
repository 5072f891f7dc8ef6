//! Rows of a graph's operators, made without the operators themselves.

use super::operator::{AdjacencyNorm, Operator, Scaling};
use super::{Graph, kept};
use crate::error::Result;
use crate::scalar::Scalar;
use crate::value::Csr;
use std::sync::Arc;

impl<F: Scalar> Graph<F> {
    /// What the entries of the operator of `norm` are scaled by: a number per node, worked out at
    /// the first call in one walk over the edges.
    pub(super) fn scaling(&self, norm: AdjacencyNorm) -> Result<Arc<Scaling<F>>> {
        kept(&self.scalings, norm, || {
            let fill = norm.fill(self.weighted).map(F::of);
            let weigh = |i, j, w| self.weighed(norm, i, j, w);
            Scaling::of(self.adjacency(), norm, fill, weigh)
        })
    }

    /// What the edges from `j` to `i` weigh under a norm, that are stored with the weight `w`.
    #[inline]
    fn weighed(&self, norm: AdjacencyNorm, i: usize, j: usize, w: F) -> F {
        let Some(parallel) = &self.parallel else {
            return if norm.is_weighted() { w } else { F::one() };
        };
        if !norm.is_weighted() {
            let count = parallel.counts.get(&(None, i as u32, j as u32));
            return count.map_or(F::one(), |&count| F::of(count.into()));
        }
        // Where loops are filled in, the last of several is read; see `Parallel::loops`.
        let last = (i == j && norm.fill(self.weighted).is_some())
            .then(|| parallel.loops.get(&(i as u32)))
            .flatten();
        last.map_or(w, |&last| F::of(last))
    }
}

/// Rows of the operator of a norm, written one after the other.
pub(super) struct PartialRows<'a, F: Scalar> {
    whole: &'a Graph<F>,
    norm: AdjacencyNorm,
    scaling: Arc<Scaling<F>>,
    fill: Option<F>,
    starts: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<F>,
}

impl<'a, F: Scalar> PartialRows<'a, F> {
    /// Rows of the operator of `whole`.
    ///
    /// # Errors
    /// As [`Graph::operator`].
    pub(super) fn new(whole: &'a Graph<F>, norm: AdjacencyNorm) -> Result<Self> {
        let scaling = whole.scaling(norm)?;
        let fill = norm.fill(whole.weighted).map(F::of);
        let (columns, values) = (Vec::new(), Vec::new());
        Ok(Self { whole, norm, scaling, fill, starts: vec![0], columns, values })
    }

    /// Makes room for so many rows and edges, and a loop in each row.
    pub(super) fn reserve(&mut self, rows: usize, edges: usize) {
        let entries = edges + if self.fill.is_some() { rows } else { 0 };
        self.starts.reserve(rows);
        self.columns.reserve(entries);
        self.values.reserve(entries);
    }

    /// Adds the row of node `i`, which is the column `own` too. `entries` are columns, ascending,
    /// the nodes that they are, what is stored there, and what more it is multiplied by, if by
    /// anything.
    pub(super) fn row(
        &mut self,
        i: u32,
        own: u32,
        entries: impl Iterator<Item = (u32, u32, F, Option<F>)>,
    ) {
        let node = i as usize;
        // The norm's own loop stands where none is stored; whether one is, the whole row says.
        let mut filled = self
            .fill
            .filter(|_| !self.whole.has_loop(node))
            .map(|weight| self.scaling.entry(node, node, weight));
        for (column, j, stored, factor) in entries {
            if column > own
                && let Some(value) = filled.take()
            {
                self.columns.push(own);
                self.values.push(value);
            }
            let weight = self.whole.weighed(self.norm, node, j as usize, stored);
            let value = self.scaling.entry(node, j as usize, weight);
            self.columns.push(column);
            self.values.push(factor.map_or(value, |factor| value * factor));
        }
        if let Some(value) = filled {
            self.columns.push(own);
            self.values.push(value);
        }
        self.starts.push(self.columns.len());
    }

    /// The operator of the rows that were added, with so many columns.
    pub(super) fn finish(self, columns: usize) -> Operator<F> {
        let shape = (self.starts.len() - 1, columns);
        Operator::of_matrix(Csr::new(shape, self.starts, self.columns, self.values))
    }
}

impl<F: Scalar> Graph<F> {
    fn has_loop(&self, node: usize) -> bool {
        let (starts, sources, _) = self.adjacency.view().into_raw_storage();
        sources[starts[node]..starts[node + 1]].binary_search(&(node as u32)).is_ok()
    }
}
