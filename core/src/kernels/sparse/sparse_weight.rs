//! The product by a sparse weight: blocks of rows share every stored weight.

use super::levels::kernels;
use super::portable::{self, Spmm};
use crate::kernels::blocks::{Cut, Rows, for_row_blocks, overwrite_rows};
use crate::kernels::epilogue::Epilogue;
use crate::kernels::simd::Isa;
use crate::kernels::work::count;
use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Rows of `X` that are multiplied together: each stored weight is one multiply-add of whole
/// registers over them.
const HEIGHT: usize = 64;

/// Side of the squares in which a block is transposed: 16 rows of one cache line each.
const TILE: usize = 16;

crate::scalar::compiled_here! {
    /// Dense × sparse product `y_io = Σ_k x_ik w_ko` over the stored `w_ko`, overwriting `y`; `wt`
    /// is `Wᵀ`, by rows.
    ///
    /// A block of 64 rows of `X` is transposed, so that the product is `Yᵀ = Wᵀ·Xᵀ`:
    /// [`spmm`](super::spmm()) with the rows of the block as channels. Every number is summed over
    /// `k` in the order of `wt`, wherever its row stands.
    ///
    /// *Shapes*: `x: [n, in]`, `wt: [out, in]`, `y: [n, out]`. *Cost*: `n·nnz(W)` multiply-adds,
    /// `n·(in + out)` moves, `64·(in + out)` numbers per thread.
    ///
    /// *Source*: the product as in [`spmm`](super::spmm()); sharing each weight over a block of
    /// inputs as in Gale et al., "Sparse GPU Kernels for Deep Learning", SC 2020, §5.
    ///
    /// # Panics
    /// If the shapes do not fit, or `wt` is stored by columns.
    pub fn matmul_sparse<F>(x: ArrayView2<'a, F>, wt: CsrView<'a, F>, y: ArrayViewMut2<'a, F>) = product
}

fn product<F: Scalar>(x: ArrayView2<F>, wt: CsrView<F>, y: ArrayViewMut2<F>) {
    let (rows, inner) = x.dim();
    let width = wt.rows();
    assert!(
        inner == wt.cols() && y.dim() == (rows, width),
        "matmul_sparse: x {:?}, wt {:?}, y {:?}",
        x.dim(),
        wt.shape(),
        y.dim()
    );
    if y.is_empty() {
        return;
    }
    let (wt, kernels) = (Rows::of(wt), kernels(Isa::best()));
    let x = x.as_standard_layout();
    let x = x.as_slice().expect("a standard layout is a slice");
    let moves = inner + width;
    count(rows * wt.cols.len());
    overwrite_rows(y, |y| {
        for_row_blocks(
            y,
            width,
            Cut::Even { rows, height: HEIGHT },
            rows * (wt.cols.len() + moves),
            |block, y| {
                let height = block.len();
                let mut scratch = vec![F::zero(); height * moves];
                let (xt, yt) = scratch.split_at_mut(height * inner);
                transpose(&x[block.start * inner..block.end * inner], height, inner, xt);
                let job = Spmm {
                    starts: &wt.starts,
                    cols: wt.cols,
                    vals: wt.vals,
                    x: &*xt,
                    width: height,
                    epilogue: Epilogue::NONE,
                };
                match (job.as_f32(), F::as_f32_mut(yt)) {
                    (Some(job), Some(yt)) => (kernels.spmm)(&job, 0..width, yt),
                    _ => portable::rows(&job, 0..width, yt),
                }
                transpose(yt, width, height, y);
            },
        );
    });
}

/// `to[c·rows + r] = from[r·cols + c]`, square by square.
fn transpose<F: Scalar>(from: &[F], rows: usize, cols: usize, to: &mut [F]) {
    for top in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - top);
        for left in (0..cols).step_by(TILE) {
            for c in left..cols.min(left + TILE) {
                let column = &mut to[c * rows + top..][..height];
                column.iter_mut().enumerate().for_each(|(r, to)| *to = from[(top + r) * cols + c]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::{
        SHAPES, assert_close, assert_same_in_all_pools, dense, sparse, wide, wide_dense,
    };
    use crate::kernels::reference;
    use crate::value::Csr;
    use ndarray::{Array2, s};

    fn product<F: Scalar>(x: &Array2<F>, wt: &Csr<F>) -> Array2<F> {
        let mut y = Array2::from_elem((x.nrows(), wt.rows()), F::nan());
        matmul_sparse(x.view(), wt.view(), y.view_mut());
        y
    }

    fn assert_agrees<F: Scalar>(x: &Array2<F>, wt: &Csr<F>) {
        let found = product(x, wt);
        let (mut exact, mut magnitude) = (Array2::zeros(found.dim()), Array2::zeros(found.dim()));
        let (x, wt) = (wide_dense(x.view()), wide(wt.view()));
        reference::matmul_sparse(x.view(), wt.view(), exact.view_mut());
        reference::matmul_sparse(
            x.mapv(f64::abs).view(),
            wt.map(|v| v.abs()).view(),
            magnitude.view_mut(),
        );
        assert_close(
            found.view(),
            exact.view(),
            magnitude.view(),
            x.ncols(),
            &format!("{:?} by {:?}", x.dim(), wt.shape()),
        );
    }

    #[test]
    fn a_sparse_weight_agrees_with_the_reference_at_every_height() {
        for (out, inner, degree) in SHAPES {
            for rows in [0, 1, 2, 15, 16, 17, 63, 64, 65, 130] {
                assert_agrees(&dense::<f32>(rows, inner, 1), &sparse(out, inner, degree, 2));
                assert_agrees(&dense::<f64>(rows, inner, 3), &sparse(out, inner, degree, 4));
            }
        }
    }

    #[test]
    fn where_a_row_stands_does_not_change_its_bits() {
        let (x, wt) = (dense::<f32>(300, 90, 5), sparse(70, 90, 9, 6));
        let whole = product(&x, &wt);
        for begin in [1, 37, 64] {
            let part = x.slice(s![begin..begin + 130, ..]).to_owned();
            assert_eq!(
                product(&part, &wt),
                whole.slice(s![begin..begin + 130, ..]),
                "rows from {begin}"
            );
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        let (x, wt) = (dense::<f32>(3000, 70, 7), sparse::<f32>(60, 70, 9, 8));
        assert_same_in_all_pools(|| product(&x, &wt));
    }

    #[test]
    fn strided_operands_are_taken() {
        let (x, wt) = (dense::<f64>(70, 20, 11), sparse::<f64>(30, 20, 4, 12));
        let mut y = Array2::zeros((30, 70));
        matmul_sparse(x.t().as_standard_layout().t(), wt.view(), y.view_mut().reversed_axes());
        assert_eq!(y.t(), product(&x, &wt));
    }

    #[test]
    #[should_panic(expected = "matmul_sparse: x (4, 5), wt (3, 6)")]
    fn shapes_are_checked() {
        matmul_sparse(
            dense::<f32>(4, 5, 13).view(),
            sparse(3, 6, 2, 14).view(),
            Array2::zeros((4, 3)).view_mut(),
        );
    }
}
