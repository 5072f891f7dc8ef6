//! Normalised adjacency operators and their transposes.

use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::value::{Csr, CsrView};
use std::sync::OnceLock;

/// How aggregation weighs the messages of in-neighbours.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AdjacencyNorm {
    /// `D̃^{-1/2}(A+I)D̃^{-1/2}`, where `I` fills in only the self-loops that `A` lacks and `D̃` is
    /// the weighted in-degree (Kipf and Welling 2017, eq. 2; directed and weighted as PyTorch
    /// Geometric's `gcn_norm`). As there, a node of degree zero passes and takes nothing on; a
    /// negative degree, where that gives NaN, is an error.
    Symmetric,
    /// As [`AdjacencyNorm::Symmetric`] with added self-loops of weight 2 where edges have weights
    /// other than 1 (`improved` in PyTorch Geometric's `gcn_norm`, which without weights changes
    /// nothing).
    SymmetricImproved,
    /// `D^{-1/2}AD^{-1/2}` without added self-loops (He et al., "LightGCN", SIGIR 2020, eq. 3).
    SymmetricPlain,
    /// `D^{-1}A`: the weighted mean over in-neighbours; zero where there are none, or all weigh
    /// zero. Weights may be negative (the shares add up to one all the same) as long as they do not
    /// cancel.
    Mean,
    /// `A` itself.
    Sum,
    /// [`AdjacencyNorm::Mean`] where every edge counts once, whatever its weight.
    UnweightedMean,
    /// The number of edges, whatever they weigh.
    UnweightedSum,
}

impl AdjacencyNorm {
    /// The norm of a mean or a sum that reads no weights; others as they are.
    #[must_use]
    pub(crate) fn unweighted(self) -> Self {
        match self {
            AdjacencyNorm::Mean => AdjacencyNorm::UnweightedMean,
            AdjacencyNorm::Sum => AdjacencyNorm::UnweightedSum,
            other => other,
        }
    }

    /// What self-loops weigh that it fills in, where it does; `weighted` tells whether edges were
    /// listed with weights.
    pub(super) fn fill(self, weighted: bool) -> Option<f64> {
        match self {
            AdjacencyNorm::Symmetric => Some(1.0),
            AdjacencyNorm::SymmetricImproved => Some(if weighted { 2.0 } else { 1.0 }),
            _ => None,
        }
    }

    /// Whether it reads what edges weigh.
    pub(crate) fn is_weighted(self) -> bool {
        !matches!(self, AdjacencyNorm::UnweightedMean | AdjacencyNorm::UnweightedSum)
    }
}

/// What a norm multiplies the entries of a matrix by, worked out from the degrees of all nodes.
///
/// The whole operator and its rows in a sample are made of the same numbers in the same order, so
/// that they agree to the bit.
#[derive(Debug)]
pub(super) enum Scaling<F> {
    /// Nothing.
    None,
    /// Each row by one number: a mean.
    Rows(Vec<F>),
    /// Each entry by a number of its row and one of its column.
    Both(Vec<F>),
}

impl<F: Scalar> Scaling<F> {
    /// `weigh` says what the entry of a row and a column weighs, and `fill` what is on the diagonal
    /// where the matrix stores nothing there.
    ///
    /// # Errors
    /// [`Error::Degree`] where the norm has no value.
    pub(super) fn of(
        matrix: CsrView<F>,
        norm: AdjacencyNorm,
        fill: Option<F>,
        weigh: impl Fn(usize, usize, F) -> F,
    ) -> Result<Self> {
        let rows = || {
            matrix.outer_iterator().enumerate().map(|(i, row)| {
                let (mut degree, mut all_zero, mut pending) = (F::zero(), true, fill);
                for (j, &w) in row.iter() {
                    match pending {
                        Some(_) if j == i => pending = None,
                        Some(weight) if j > i => {
                            degree += weight;
                            pending = None;
                        }
                        _ => (),
                    }
                    let w = weigh(i, j, w);
                    degree += w;
                    all_zero &= w == F::zero();
                }
                (i, degree + pending.unwrap_or(F::zero()), all_zero)
            })
        };
        Ok(match norm {
            AdjacencyNorm::Sum | AdjacencyNorm::UnweightedSum => Scaling::None,
            AdjacencyNorm::Mean | AdjacencyNorm::UnweightedMean => {
                let inverse = |(node, degree, all_zero): (usize, F, bool)| match degree {
                    d if d != F::zero() => Ok(d.recip()),
                    _ if all_zero => Ok(F::zero()),
                    _ => Err(Error::Degree { node, degree: 0.0, norm: "mean" }),
                };
                Scaling::Rows(rows().map(inverse).collect::<Result<_>>()?)
            }
            AdjacencyNorm::Symmetric
            | AdjacencyNorm::SymmetricImproved
            | AdjacencyNorm::SymmetricPlain => {
                let inverse_sqrt = |(node, degree, _): (usize, F, bool)| match degree {
                    d if d > F::zero() => Ok(d.sqrt().recip()),
                    d if d == F::zero() => Ok(F::zero()),
                    d => Err(Error::Degree { node, degree: d.as_f64(), norm: "symmetric" }),
                };
                Scaling::Both(rows().map(inverse_sqrt).collect::<Result<_>>()?)
            }
        })
    }

    /// The entry of row `i` and column `j` that weighs `w`.
    #[inline]
    pub(super) fn entry(&self, i: usize, j: usize, w: F) -> F {
        match self {
            Scaling::None => w,
            Scaling::Rows(factors) => w * factors[i],
            // The product of the two factors is formed first: it is the same number for (i, j) and
            // (j, i).
            Scaling::Both(factors) => w * (factors[i] * factors[j]),
        }
    }
}

/// An adjacency matrix ready to aggregate with, and its transpose for the backward pass.
#[derive(Debug, Clone)]
pub struct Operator<F: Scalar> {
    forward: Csr<F>,
    /// Made where a backward pass first asks for it: evaluation never does.
    transpose: OnceLock<Transpose<F>>,
}

#[derive(Debug, Clone)]
enum Transpose<F: Scalar> {
    /// The matrix is symmetric to the bit, so it is its own transpose.
    Itself,
    Other(Csr<F>),
}

impl<F: Scalar> Operator<F> {
    /// `weighted` tells whether edges were listed with weights; `loops` are what self-loops weigh
    /// where others are filled in beside them.
    ///
    /// # Errors
    /// [`Error::Degree`] where the norm has no value.
    pub(super) fn new(
        adjacency: CsrView<F>,
        norm: AdjacencyNorm,
        weighted: bool,
        loops: impl Iterator<Item = (usize, F)>,
    ) -> Result<Self> {
        // Where weights are not read, the matrix counts edges.
        let mut matrix = match norm.fill(weighted) {
            Some(weight) => with_self_loops(adjacency, F::of(weight), loops),
            None => adjacency.to_owned(),
        };
        let scaling = Scaling::of(matrix.view(), norm, None, |_, _, w| w)?;
        if !matches!(scaling, Scaling::None) {
            for (i, mut row) in matrix.outer_iterator_mut().enumerate() {
                row.iter_mut().for_each(|(j, w)| *w = scaling.entry(i, j, *w));
            }
        }
        Ok(Self::of_matrix(matrix))
    }

    /// A matrix as it stands.
    pub(crate) fn of_matrix(forward: Csr<F>) -> Self {
        Self { forward, transpose: OnceLock::new() }
    }

    /// The operator, shape `[n, n]`, `[targets, sources]` of a hop, or `[graphs, nodes]` of a
    /// readout: row = target, column = source.
    pub fn forward(&self) -> CsrView<'_, F> {
        self.forward.view()
    }

    /// Its transpose; made at the first call.
    pub fn transpose(&self) -> CsrView<'_, F> {
        let transpose = self.transpose.get_or_init(|| {
            let transposed = self.forward.transpose_view().to_csr();
            if transposed == self.forward {
                Transpose::Itself
            } else {
                Transpose::Other(transposed)
            }
        });
        match transpose {
            Transpose::Itself => self.forward.view(),
            Transpose::Other(transposed) => transposed.view(),
        }
    }

    /// Stored non-zeros, added self-loops included.
    pub fn stored(&self) -> usize {
        self.forward.nnz()
    }
}

/// `A` with `weight` on the diagonal where it stores nothing there, and the weights of `loops`
/// where they are.
fn with_self_loops<F: Scalar>(
    adjacency: CsrView<F>,
    weight: F,
    loops: impl Iterator<Item = (usize, F)>,
) -> Csr<F> {
    let n = adjacency.rows();
    let mut indptr = Vec::with_capacity(n + 1);
    let mut indices = Vec::with_capacity(adjacency.nnz() + n);
    let mut data = Vec::with_capacity(adjacency.nnz() + n);
    indptr.push(0);
    for (i, row) in adjacency.outer_iterator().enumerate() {
        let mut pending = true;
        for (j, &w) in row.iter() {
            if pending && j >= i {
                if j > i {
                    indices.push(i as u32);
                    data.push(weight);
                }
                pending = false;
            }
            indices.push(j as u32);
            data.push(w);
        }
        if pending {
            indices.push(i as u32);
            data.push(weight);
        }
        indptr.push(indices.len());
    }
    let mut looped = Csr::new((n, n), indptr, indices, data);
    for (i, weight) in loops {
        if let Some(own) = looped.get_mut(i, i) {
            *own = weight;
        }
    }
    looped
}

#[cfg(test)]
mod tests {
    use crate::graph::{AdjacencyNorm, Graph};
    use approx::assert_relative_eq;

    #[test]
    fn symmetric_norm_is_the_formula_and_its_own_transpose() {
        let graph = Graph::builder(3)
            .edges([(0, 1), (1, 2)])
            .undirected(true)
            .build()
            .unwrap()
            .cast::<f64>();
        let op = graph.operator(AdjacencyNorm::Symmetric).unwrap();
        assert_relative_eq!(*op.forward().get(0, 0).unwrap(), 1.0 / 2.0);
        assert_relative_eq!(*op.forward().get(0, 1).unwrap(), 1.0 / (2.0f64 * 3.0).sqrt());
        assert_eq!(op.forward(), op.transpose());
    }

    #[test]
    fn a_listed_self_loop_keeps_its_weight_and_an_isolated_node_gets_one() {
        let graph = Graph::builder(2).weighted_edges([(0, 0, 3.0)]).build().unwrap();
        let op = graph.operator(AdjacencyNorm::Symmetric).unwrap();
        assert_relative_eq!(*op.forward().get(0, 0).unwrap(), 1.0, epsilon = 1e-6);
        assert_relative_eq!(*op.forward().get(1, 1).unwrap(), 1.0);
    }

    #[test]
    fn mean_of_a_directed_graph_has_unit_rows_and_a_different_transpose() {
        let graph = Graph::builder(3).edges([(0, 2), (1, 2)]).build().unwrap();
        let op = graph.operator(AdjacencyNorm::Mean).unwrap();
        assert_eq!(op.forward().get(2, 0), Some(&0.5));
        assert_eq!(op.transpose().get(0, 2), Some(&0.5));
        assert!(op.forward().outer_view(0).unwrap().nnz() == 0);
    }

    #[test]
    fn a_norm_without_a_value_names_the_first_node_and_degrees_of_zero_have_one() {
        let of = |edges: &[(usize, usize, f32)], norm| {
            Graph::builder(4).weighted_edges(edges.iter().copied()).build().unwrap().operator(norm)
        };
        // With its self-loop node 2 has 0, node 1 is the first below it.
        let negative = [(0, 1, -1.5), (0, 2, -1.0), (0, 3, -7.0)];
        for norm in [AdjacencyNorm::Symmetric, AdjacencyNorm::SymmetricPlain] {
            let message = of(&negative, norm).unwrap_err().to_string();
            assert!(
                message.contains("node 1 ") && message.contains("negative degree"),
                "{message}"
            );
        }
        // Added self-loops weigh 2 here, which leaves nodes 1 and 2 above zero.
        assert!(
            of(&negative, AdjacencyNorm::SymmetricImproved)
                .unwrap_err()
                .to_string()
                .contains("node 3 has the weighted degree -5")
        );
        let zero = of(&[(0, 2, -1.0), (0, 1, 1.0)], AdjacencyNorm::Symmetric).unwrap();
        assert_eq!((zero.forward().get(2, 0), zero.forward().get(2, 2)), (Some(&0.0), Some(&0.0)));
        assert_eq!(of(&negative, AdjacencyNorm::Sum).unwrap().forward().get(3, 0), Some(&-7.0));
        let mean = of(&[(0, 1, -3.0), (2, 1, 1.0), (0, 3, 0.0)], AdjacencyNorm::Mean).unwrap();
        assert_eq!(
            (mean.forward().get(1, 0), mean.forward().get(1, 2), mean.forward().get(3, 0)),
            (Some(&1.5), Some(&-0.5), Some(&0.0))
        );
        let cancelled =
            of(&[(0, 2, 1.0), (1, 2, -1.0)], AdjacencyNorm::Mean).unwrap_err().to_string();
        assert!(cancelled.contains("node 2 ") && cancelled.contains("cancel"), "{cancelled}");
    }
}
