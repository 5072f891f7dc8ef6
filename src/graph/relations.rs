//! All relations of a graph as one matrix, so that a product with it aggregates over every one of
//! them.

use super::operator::Scaling;
use super::{AdjacencyNorm, Graph, kept};
use crate::error::{Error, Result};
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
    fn new<'a>(nodes: usize, relations: impl Iterator<Item = CsrView<'a, F>>) -> Self {
        let (mut starts, mut cols, mut vals) = (vec![0], Vec::new(), Vec::new());
        let (mut homes, mut blocks) = (Vec::new(), Vec::new());
        for relation in relations {
            let first = homes.len();
            for (i, row) in relation.outer_iterator().enumerate().filter(|(_, row)| row.nnz() > 0) {
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

impl<F: Scalar> Graph<F> {
    /// All relations at once, each normalised by itself: one row per relation and node that has
    /// edges of it.
    ///
    /// # Errors
    /// As [`Graph::operator`].
    pub fn relation_pairs(&self, norm: AdjacencyNorm) -> Result<Arc<RelationPairs<F>>> {
        kept(&self.pairs, (None, norm), || {
            let operators = (0..self.relations().len())
                .map(|r| self.relation_operator(r, norm))
                .collect::<Result<Vec<_>>>()?;
            let matrices = operators.iter().map(|operator| operator.forward());
            Ok(RelationPairs::new(self.num_nodes(), matrices))
        })
    }

    /// Some relations at once, normalised by the degrees that their edges give the nodes together;
    /// `blocks` has those that the graph has, the first being `relations.start`.
    ///
    /// # Errors
    /// As [`Graph::operator`]; [`Error::Setting`] for a norm that fills in self-loops or counts
    /// edges, which is not known of several relations together.
    pub fn joint_pairs(
        &self,
        relations: Range<usize>,
        norm: AdjacencyNorm,
    ) -> Result<Arc<RelationPairs<F>>> {
        if norm.fill(false).is_some() || !norm.is_weighted() {
            let norm = format!("{norm:?}");
            return Err(Error::setting("norm of relations", norm, "symmetric_plain, mean or sum"));
        }
        let all = self.relations();
        let (start, end) = (relations.start.min(all.len()), relations.end.min(all.len()));
        kept(&self.pairs, (Some((start, end)), norm), || {
            let some = &all[start..end.max(start)];
            let joint = joined(self.num_nodes(), some);
            let scaling = Scaling::of(joint.view(), norm, None, |_, _, w| w)?;
            let scaled: Vec<Csr<F>> = some
                .iter()
                .map(|relation| {
                    let mut scaled = relation.clone();
                    for (i, mut row) in scaled.outer_iterator_mut().enumerate() {
                        row.iter_mut().for_each(|(j, w)| *w = scaling.entry(i, j, *w));
                    }
                    scaled
                })
                .collect();
            let matrices = scaled.iter().map(|matrix| matrix.view());
            Ok(RelationPairs::new(self.num_nodes(), matrices))
        })
    }
}

/// The sum of matrices `[n, n]`.
fn joined<F: Scalar>(nodes: usize, relations: &[Csr<F>]) -> Csr<F> {
    let (mut starts, mut cols, mut vals) = (vec![0], Vec::new(), Vec::new());
    let mut entries: Vec<(u32, F)> = Vec::new();
    for i in 0..nodes {
        entries.clear();
        for row in relations.iter().filter_map(|relation| relation.outer_view(i)) {
            entries.extend(row.iter().map(|(j, &w)| (j as u32, w)));
        }
        // Stable, so that weights of one place are added in the order of the relations.
        entries.sort_by_key(|entry| entry.0);
        for &(j, w) in &entries {
            match cols.last() {
                Some(&last) if last == j && cols.len() > starts[i] => {
                    *vals.last_mut().expect("as many as columns") += w;
                }
                _ => {
                    cols.push(j);
                    vals.push(w);
                }
            }
        }
        starts.push(cols.len());
    }
    Csr::new((nodes, nodes), starts, cols, vals)
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn relations_that_are_normalised_together_share_their_degrees() {
        // Node 1 has three edges into it of relations 0 and 1, and node 0 one of relation 0.
        let edges = [(0, 1), (2, 1), (3, 1), (1, 0), (1, 3)];
        let graph = Graph::builder(4).edges(edges).edge_types(vec![0, 0, 1, 0, 2]).build().unwrap();
        let dense = |matrix: CsrView<f32>| ValueRef::Sparse(matrix).to_dense();
        let mean = graph.joint_pairs(0..2, AdjacencyNorm::Mean).unwrap();
        assert_eq!(mean.blocks(), [0..2, 2..3]);
        let all = dense(mean.spread()).dot(&dense(mean.gather()));
        assert_eq!(all.row(1).to_vec(), [1.0 / 3.0, 0.0, 1.0 / 3.0, 1.0 / 3.0]);
        assert_eq!((all[[0, 1]], all.row(3).sum()), (1.0, 0.0), "relation 2 is no part of it");
        let symmetric = graph.joint_pairs(0..2, AdjacencyNorm::SymmetricPlain).unwrap();
        let all = dense(symmetric.spread()).dot(&dense(symmetric.gather()));
        assert_eq!(all[[1, 0]], 1.0 / 3f32.sqrt());
        assert_eq!(all[[1, 2]], 0.0, "node 2 has no edges of these relations into it");
        // Relations that the graph does not have are none.
        assert!(graph.joint_pairs(5..9, AdjacencyNorm::Sum).unwrap().is_empty());
        assert!(graph.joint_pairs(0..2, AdjacencyNorm::Symmetric).is_err());
        assert!(graph.joint_pairs(0..2, AdjacencyNorm::UnweightedMean).is_err());
    }
}
