//! The naive serial twin of every kernel: the formula and nothing else. Tests and benches compare with it; nothing calls it in earnest.
//!
//! Shapes are those of the kernels of the same name and are not checked beyond what indexing checks.

use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::{ArrayView2, ArrayViewMut2};

/// `y_ic = Σ_j a_ij x_jc`
pub fn spmm<F: Scalar>(a: CsrView<F>, x: ArrayView2<F>, mut y: ArrayViewMut2<F>) {
    y.fill(F::zero());
    for (i, row) in a.outer_iterator().enumerate() {
        for (j, &weight) in row.iter() {
            for c in 0..x.ncols() {
                y[[i, c]] += weight * x[[j, c]];
            }
        }
    }
}

/// `dx_jc = Σ_i a_ij dy_ic`
pub fn spmm_t<F: Scalar>(a: CsrView<F>, dy: ArrayView2<F>, mut dx: ArrayViewMut2<F>) {
    dx.fill(F::zero());
    for (i, row) in a.outer_iterator().enumerate() {
        for (j, &weight) in row.iter() {
            for c in 0..dy.ncols() {
                dx[[j, c]] += weight * dy[[i, c]];
            }
        }
    }
}

/// `out_e = Σ_c a_ic b_jc` for every stored entry `e = (i, j)` of `pattern`, in CSR order.
pub fn edge_dot<F: Scalar>(pattern: CsrView<F>, a: ArrayView2<F>, b: ArrayView2<F>, out: &mut [F]) {
    let mut e = 0;
    for (i, row) in pattern.outer_iterator().enumerate() {
        for (j, _) in row.iter() {
            out[e] = (0..a.ncols()).map(|c| a[[i, c]] * b[[j, c]]).sum();
            e += 1;
        }
    }
}

/// `y_io = Σ_k x_ik w_ko`
pub fn matmul<F: Scalar>(x: ArrayView2<F>, w: ArrayView2<F>, mut y: ArrayViewMut2<F>) {
    for ((i, o), y) in y.indexed_iter_mut() {
        *y = (0..x.ncols()).map(|k| x[[i, k]] * w[[k, o]]).sum();
    }
}

/// `dx_ik = Σ_o dy_io w_ko`
pub fn matmul_nt<F: Scalar>(dy: ArrayView2<F>, w: ArrayView2<F>, mut dx: ArrayViewMut2<F>) {
    for ((i, k), dx) in dx.indexed_iter_mut() {
        *dx = (0..dy.ncols()).map(|o| dy[[i, o]] * w[[k, o]]).sum();
    }
}

/// `dw_ko = Σ_i x_ik dy_io`
pub fn matmul_tn<F: Scalar>(x: ArrayView2<F>, dy: ArrayView2<F>, mut dw: ArrayViewMut2<F>) {
    for ((k, o), dw) in dw.indexed_iter_mut() {
        *dw = (0..x.nrows()).map(|i| x[[i, k]] * dy[[i, o]]).sum();
    }
}

/// `out_c = Σ_i dy_ic`
pub fn column_sums<F: Scalar>(dy: ArrayView2<F>, out: &mut [F]) {
    for (c, out) in out.iter_mut().enumerate() {
        *out = dy.column(c).iter().copied().sum();
    }
}

/// `y_ic += bias_c`
pub fn add_bias<F: Scalar>(mut y: ArrayViewMut2<F>, bias: &[F]) {
    for ((_, c), y) in y.indexed_iter_mut() {
        *y += bias[c];
    }
}
