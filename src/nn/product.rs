//! What layers are made of: the product `X·W` with its gradients, for dense and sparse `X`, and
//! aggregation.
//!
//! They check shapes, which are a layer's own, and panic where these do not fit.
//!
//! ```
//! use gnn_prune::graph::AdjacencyNorm;
//! use gnn_prune::ndarray::array;
//! use gnn_prune::nn::{Cx, product};
//! use gnn_prune::{Graph, ValueRef};
//! let path = Graph::builder(3).edges([(0, 1), (1, 2)]).build()?;
//! let (x, w) = (array![[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]], array![[1.0f32], [10.0]]);
//! let (cx, x) = (Cx::eval(&path), ValueRef::Dense(x.view()));
//! let z = product::product(&cx, &x, w.view());
//! assert_eq!(z, array![[21.0], [43.0], [65.0]]);
//! let a = cx.topology()?.operator(AdjacencyNorm::Sum)?;
//! let y = product::aggregate(&cx, a.forward(), &ValueRef::Dense(z.view()));
//! assert_eq!(y, array![[0.0], [21.0], [43.0]]);
//! # Ok::<(), gnn_prune::Error>(())
//! ```

use super::cx::Cx;
use super::param::Param;
use crate::kernels::{self, Epilogue};
use crate::scalar::Scalar;
use crate::value::{Csr, CsrView, Value, ValueRef};
use ndarray::{Array2, ArrayView2};

/// `X·W`, shape `[n, out]`, in an array from the workspace.
pub fn product<F: Scalar>(cx: &Cx<F>, x: &ValueRef<F>, w: ArrayView2<F>) -> Array2<F> {
    product_then(cx, x, w, Epilogue::NONE)
}

/// `X·W + b`, shape `[n, out]`, in an array from the workspace; `b` is `[1, out]`.
pub fn affine<F: Scalar>(
    cx: &Cx<F>,
    x: &ValueRef<F>,
    w: ArrayView2<F>,
    bias: Option<&Param<F>>,
) -> Array2<F> {
    product_then(cx, x, w, then_bias(bias))
}

/// `Â·X` with an operator of a [`Topology`](crate::graph::Topology), or its transpose for the way
/// back; in an array from the workspace.
pub fn aggregate<F: Scalar>(cx: &Cx<F>, operator: CsrView<F>, x: &ValueRef<F>) -> Array2<F> {
    let mut y = cx.take((operator.rows(), x.cols()));
    x.with_dense(|x| kernels::spmm(operator, x, y.view_mut()));
    y
}

/// `X·W + b`, shape `[n, out]`, in an array from the workspace.
pub(crate) fn product_then<F: Scalar>(
    cx: &Cx<F>,
    x: &ValueRef<F>,
    w: ArrayView2<F>,
    epilogue: Epilogue<F>,
) -> Array2<F> {
    let mut y = cx.take((x.rows(), w.ncols()));
    add_product(x, w, &mut y, epilogue);
    y
}

/// `Y = X·W`, or as the epilogue says.
pub(crate) fn add_product<F: Scalar>(
    x: &ValueRef<F>,
    w: ArrayView2<F>,
    y: &mut Array2<F>,
    epilogue: Epilogue<F>,
) {
    match x {
        ValueRef::Dense(x) => kernels::matmul_then(x.view(), w, y.view_mut(), epilogue),
        ValueRef::Sparse(x) => kernels::spmm_then(x.view(), w, y.view_mut(), epilogue),
    }
}

/// What adds a layer's bias, if it has one.
pub(crate) fn then_bias<F: Scalar>(bias: Option<&Param<F>>) -> Epilogue<'_, F> {
    let bias = bias.map(|bias| bias.value().as_slice().expect("parameters are contiguous"));
    Epilogue { bias, ..Epilogue::NONE }
}

/// `dW = Xᵀ·dY`, shape `[in, out]`.
pub fn product_dw<F: Scalar>(x: &ValueRef<F>, dy: ArrayView2<F>) -> Array2<F> {
    let mut dw = Array2::zeros((x.cols(), dy.ncols()));
    match x {
        ValueRef::Dense(x) => kernels::matmul_tn(x.view(), dy, dw.view_mut()),
        ValueRef::Sparse(x) => kernels::spmm_t(x.view(), dy, dw.view_mut()),
    }
    dw
}

/// `dX = dY·Wᵀ`, on the stored entries where `X` is sparse.
pub fn product_dx<F: Scalar>(
    cx: &Cx<F>,
    x: &ValueRef<F>,
    dy: ArrayView2<F>,
    w: ArrayView2<F>,
) -> Value<F> {
    match x {
        ValueRef::Dense(x) => {
            let mut dx = cx.take(x.dim());
            kernels::matmul_nt(dy, w, dx.view_mut());
            Value::Dense(dx)
        }
        ValueRef::Sparse(x) => {
            let mut data = vec![F::zero(); x.nnz()];
            kernels::edge_dot(x.view(), dy, w, &mut data);
            Value::Sparse(with_data(x, data))
        }
    }
}

/// Sum of the rows of `dy`, as the gradient of a bias `[1, out]`.
pub fn bias_gradient<F: Scalar>(dy: ArrayView2<F>) -> Array2<F> {
    let mut sums = Array2::zeros((1, dy.ncols()));
    kernels::column_sums(dy, sums.as_slice_mut().expect("a new array is contiguous"));
    sums
}

/// The same pattern with other values.
pub(crate) fn with_data<F: Scalar>(pattern: &CsrView<F>, data: Vec<F>) -> Csr<F> {
    Csr::new(
        pattern.shape(),
        pattern.indptr().raw_storage().to_vec(),
        pattern.indices().to_vec(),
        data,
    )
}

/// The gradient of `rows` rows by that of the first, zero below.
pub(crate) fn with_rows_below<F: Scalar>(dx: Value<F>, rows: usize) -> Value<F> {
    if dx.shape().0 == rows {
        return dx;
    }
    let first = dx.into_dense();
    let mut all = Array2::zeros((rows, first.ncols()));
    all.slice_mut(ndarray::s![..first.nrows(), ..]).assign(&first);
    Value::Dense(all)
}

/// The gradient of `x`: on its stored entries where `x` is sparse.
pub fn gradient_like<F: Scalar>(x: Option<ValueRef<F>>, gradient: Value<F>) -> Value<F> {
    match (x, gradient) {
        (Some(ValueRef::Sparse(x)), Value::Dense(dense)) => {
            let mut data = Vec::with_capacity(x.nnz());
            for (i, row) in x.outer_iterator().enumerate() {
                data.extend(row.indices().iter().map(|&j| dense[[i, j as usize]]));
            }
            Value::Sparse(with_data(&x, data))
        }
        (_, gradient) => gradient,
    }
}
