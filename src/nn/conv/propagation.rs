//! Aggregation repeated: what the layers that only propagate are made of.

use crate::error::Result;
use crate::graph::{AdjacencyNorm, Graph};
use crate::kernels;
use crate::nn::{Attrs, Cx};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// The norms that propagation may have.
const NORMS: [AdjacencyNorm; 4] = [
    AdjacencyNorm::Symmetric,
    AdjacencyNorm::SymmetricImproved,
    AdjacencyNorm::SymmetricPlain,
    AdjacencyNorm::Sum,
];

/// `Â^hops·X`, in arrays from the workspace.
pub(super) fn propagated<F: Scalar>(
    cx: &Cx<F>,
    a: CsrView<F>,
    mut x: Array2<F>,
    hops: usize,
) -> Array2<F> {
    for _ in 0..hops {
        let mut y = cx.take(x.dim());
        kernels::spmm(a, x.view(), y.view_mut());
        cx.give(x);
        x = y;
    }
    x
}

/// A copy in an array from the workspace.
pub(super) fn copied<F: Scalar>(cx: &Cx<F>, x: ndarray::ArrayView2<F>) -> Array2<F> {
    let mut copy = cx.take(x.dim());
    copy.assign(&x);
    copy
}

/// `Â` with every zero written out, for oracles: self-loops of weight 1 where there are none, both
/// sides scaled by in-degrees.
pub(super) fn dense_symmetric<F: Scalar>(graph: &Graph<F>, self_loops: Option<F>) -> Array2<F> {
    let n = graph.num_nodes();
    let mut a = crate::nn::dense_adjacency(graph);
    for i in 0..n {
        if let (Some(weight), None) = (self_loops, graph.adjacency().get(i, i)) {
            a[[i, i]] = weight;
        }
    }
    let scale = a
        .sum_axis(ndarray::Axis(1))
        .mapv(|d| if d > F::zero() { F::one() / d.sqrt() } else { F::zero() });
    Array2::from_shape_fn((n, n), |(i, j)| scale[i] * a[[i, j]] * scale[j])
}

/// `Â` by any of the [`NORMS`], for oracles.
pub(super) fn dense_operator<F: Scalar>(graph: &Graph<F>, norm: AdjacencyNorm) -> Array2<F> {
    match norm {
        AdjacencyNorm::SymmetricImproved => {
            dense_symmetric(graph, Some(F::of(if graph.is_weighted() { 2.0 } else { 1.0 })))
        }
        AdjacencyNorm::SymmetricPlain => dense_symmetric(graph, None),
        AdjacencyNorm::Sum => crate::nn::dense_adjacency(graph),
        _ => dense_symmetric(graph, Some(F::one())),
    }
}

/// Settings with `norm`, where it is not the layer's default.
pub(super) fn with_norm(attrs: Attrs, norm: AdjacencyNorm, default: AdjacencyNorm) -> Attrs {
    if norm == default { attrs } else { attrs.with("norm", norm) }
}

/// The setting `norm`.
pub(super) fn norm_of(attrs: &Attrs, default: AdjacencyNorm) -> Result<AdjacencyNorm> {
    attrs.get_or("norm", default)
}

/// The argument that makes a layer of PyTorch Geometric propagate by `norm`, which does so by
/// `default` without.
pub(super) fn norm_argument(
    norm: AdjacencyNorm,
    default: AdjacencyNorm,
) -> std::result::Result<&'static str, String> {
    match norm {
        norm if norm == default => Ok(""),
        AdjacencyNorm::SymmetricPlain => Ok(", add_self_loops=False"),
        AdjacencyNorm::Sum => Ok(", normalize=False"),
        norm => Err(format!("by the norm {norm:?}")),
    }
}

/// One of the [`NORMS`].
pub(super) fn random_norm(rng: &mut ChaCha8Rng) -> AdjacencyNorm {
    NORMS[rng.random_range(0..NORMS.len())]
}
