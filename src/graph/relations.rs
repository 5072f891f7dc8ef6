//! All relations of a graph as one matrix, so that a product with it aggregates over every one of
//! them.

use super::Operator;
use crate::scalar::Scalar;
use crate::value::{Csr, CsrView};
use std::ops::Range;
use std::sync::Arc;

/// The pairs of a relation and a node with edges of it, relation by relation.
///
/// `gather: [pairs, n]` holds the edges into each pair, `spread: [n, pairs]` a one for each pair of
/// a node: `Σ_r Â_r X W_r` is `spread·T` where the rows of `T` that belong to relation `r` are
/// those of `gather·X`, times `W_r`. Pairs without edges do not exist, so that many relations with
/// few edges each cost what their edges do.
#[derive(Debug)]
pub struct RelationPairs<F: Scalar> {
    gather: Csr<F>,
    gather_transposed: Csr<F>,
    spread: Csr<F>,
    spread_transposed: Csr<F>,
    blocks: Vec<Range<usize>>,
}

impl<F: Scalar> RelationPairs<F> {
    pub(super) fn new(nodes: usize, relations: &[Arc<Operator<F>>]) -> Self {
        let (mut starts, mut cols, mut vals) = (vec![0], Vec::new(), Vec::new());
        let (mut homes, mut blocks) = (Vec::new(), Vec::new());
        for relation in relations {
            let first = homes.len();
            for (i, row) in
                relation.forward().outer_iterator().enumerate().filter(|(_, row)| row.nnz() > 0)
            {
                cols.extend_from_slice(row.indices());
                vals.extend_from_slice(row.data());
                starts.push(cols.len());
                homes.push(i as u32);
            }
            blocks.push(first..homes.len());
        }
        let pairs = homes.len();
        let gather = Csr::new((pairs, nodes), starts, cols, vals);
        let spread_transposed =
            Csr::new((pairs, nodes), (0..=pairs).collect::<Vec<_>>(), homes, vec![F::one(); pairs]);
        let transposed = |matrix: &Csr<F>| matrix.transpose_view().to_csr();
        Self {
            gather_transposed: transposed(&gather),
            spread: transposed(&spread_transposed),
            gather,
            spread_transposed,
            blocks,
        }
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.gather.rows()
    }

    /// Whether no edge has a type.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of each relation.
    pub fn blocks(&self) -> &[Range<usize>] {
        &self.blocks
    }

    /// From nodes to pairs, `[pairs, n]`.
    pub fn gather(&self) -> CsrView<'_, F> {
        self.gather.view()
    }

    /// Its transpose, `[n, pairs]`.
    pub fn gather_transposed(&self) -> CsrView<'_, F> {
        self.gather_transposed.view()
    }

    /// From pairs to nodes, `[n, pairs]`.
    pub fn spread(&self) -> CsrView<'_, F> {
        self.spread.view()
    }

    /// Its transpose, `[pairs, n]`.
    pub fn spread_transposed(&self) -> CsrView<'_, F> {
        self.spread_transposed.view()
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::{AdjacencyNorm, Graph};
    use crate::value::ValueRef;

    #[test]
    fn gathered_and_spread_again_relations_are_their_operators() {
        let edges = [(0, 1), (2, 1), (1, 0), (3, 2), (0, 2)];
        let graph = Graph::builder(5).edges(edges).edge_types(vec![0, 0, 2, 2, 0]).build().unwrap();
        let pairs = graph.relation_pairs(AdjacencyNorm::Mean).unwrap();
        assert!(std::sync::Arc::ptr_eq(
            &pairs,
            &graph.clone().relation_pairs(AdjacencyNorm::Mean).unwrap()
        ));
        assert_eq!((pairs.len(), pairs.blocks()), (4, &[0..2, 2..2, 2..4][..]));
        let dense = |matrix: crate::value::CsrView<f32>| ValueRef::Sparse(matrix).to_dense();
        let all = dense(pairs.spread()).dot(&dense(pairs.gather()));
        let sum = (0..3)
            .map(|r| dense(graph.relation_operator(r, AdjacencyNorm::Mean).unwrap().forward()))
            .reduce(|a, b| a + b)
            .unwrap();
        assert_eq!(all, sum);
        assert_eq!(dense(pairs.gather_transposed()), dense(pairs.gather()).t());
        assert_eq!(dense(pairs.spread_transposed()), dense(pairs.spread()).t());
    }
}
