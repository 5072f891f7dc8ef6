//! The largest of the in-neighbours, channel by channel.

use super::rows::{Rows, blocks_by_nonzeros, for_row_blocks, parts_for, with_rows};
use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::{Array2, ArrayView2};

/// Where a row has no neighbour.
pub const NOBODY: u32 = u32::MAX;

/// The largest of the in-neighbours, `y_ic = max_j x_jc` over the stored `j` of row `i`, and which it was; zero and [`NOBODY`] without any.
///
/// Of equal ones the first counts. The values of `a` are not read.
///
/// *Shapes*: `a: [n, m]`, `x: [m, c]`, both results `[n, c]`. *Cost*: `nnz·c` comparisons.
///
/// # Panics
/// If the shapes do not fit, or `a` is stored by columns.
pub fn spmm_max<F: Scalar>(a: CsrView<F>, x: ArrayView2<F>) -> (Array2<F>, Array2<u32>) {
    assert_eq!(a.cols(), x.nrows(), "spmm_max: a {:?}, x {:?}", a.shape(), x.dim());
    let width = x.ncols();
    let mut both = vec![(F::zero(), NOBODY); a.rows() * width];
    let a = Rows::of(a);
    if width > 0 {
        let work = a.cols.len() * width;
        let blocks = blocks_by_nonzeros(&a.starts, parts_for(work));
        with_rows(x, |x| {
            for_row_blocks(&mut both, width, &blocks, work, |block, both| {
                for (i, row) in block.zip(both.chunks_exact_mut(width)) {
                    for &j in &a.cols[a.starts[i]..a.starts[i + 1]] {
                        for (best, &x) in row.iter_mut().zip(&x[j as usize * width..][..width]) {
                            if best.1 == NOBODY || x > best.0 {
                                *best = (x, j);
                            }
                        }
                    }
                }
            });
        });
    }
    let shape = (a.starts.len() - 1, width);
    let (y, who) = both.into_iter().unzip();
    (Array2::from_shape_vec(shape, y).expect("one a row and channel"), Array2::from_shape_vec(shape, who).expect("one a row and channel"))
}

/// The gradient of [`spmm_max`]: `dx_jc = Σ_i dy_ic` over the `i` whose largest was `j`; `at` is the transpose of `a`.
///
/// *Shapes*: `at: [m, n]`, `who`, `dy: [n, c]`, `dx: [m, c]`.
///
/// # Panics
/// If the shapes do not fit, or `at` is stored by columns.
pub fn spmm_max_t<F: Scalar>(at: CsrView<F>, who: &Array2<u32>, dy: ArrayView2<F>) -> Array2<F> {
    assert!(at.cols() == dy.nrows() && who.dim() == dy.dim(), "spmm_max_t: at {:?}, dy {:?}", at.shape(), dy.dim());
    let width = dy.ncols();
    let mut dx = Array2::zeros((at.rows(), width));
    let at = Rows::of(at);
    if width > 0 {
        let work = at.cols.len() * width;
        let blocks = blocks_by_nonzeros(&at.starts, parts_for(work));
        let who = who.as_slice().expect("`spmm_max` made it");
        let out = dx.as_slice_mut().expect("a new array is contiguous");
        with_rows(dy, |dy| {
            for_row_blocks(out, width, &blocks, work, |block, dx| {
                for (j, row) in block.zip(dx.chunks_exact_mut(width)) {
                    for &i in &at.cols[at.starts[j]..at.starts[j + 1]] {
                        let from = i as usize * width;
                        for ((dx, &dy), &who) in row.iter_mut().zip(&dy[from..][..width]).zip(&who[from..][..width]) {
                            if who as usize == j {
                                *dx += dy;
                            }
                        }
                    }
                }
            });
        });
    }
    dx
}
