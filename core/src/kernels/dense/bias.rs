//! A bias for every row, and its gradient.

use crate::kernels::blocks::{blocks_of, map_rows, run, with_rows};
use crate::scalar::Scalar;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, Slice};
use std::ops::Range;

/// Rows of `dy` that one partial column sum covers.
const SUM_ROWS: usize = 1024;

crate::scalar::compiled_here! {
    /// Sums over rows, `out_c = Σ_i dy_ic`: the gradient of [`add_bias`] to the bias. Partial sums
    /// of 1024 rows are added in block order.
    ///
    /// *Shapes*: `dy: [n, c]`, `out: [c]`. *Cost*: `n·c` additions.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn column_sums<F>(dy: ArrayView2<'a, F>, out: &'a mut [F]) = sums
}

fn sums<F: Scalar>(dy: ArrayView2<F>, out: &mut [F]) {
    assert_eq!(dy.ncols(), out.len(), "column_sums: dy {:?}, out {}", dy.dim(), out.len());
    let part = |block: Range<usize>| {
        let mut sum = vec![F::zero(); dy.ncols()];
        with_rows(dy.slice_axis(Axis(0), Slice::from(block)), |dy| {
            for row in dy.chunks_exact(sum.len().max(1)) {
                sum.iter_mut().zip(row).for_each(|(sum, &v)| *sum += v);
            }
        });
        sum
    };
    let blocks = blocks_of(dy.nrows(), SUM_ROWS);
    let partials = run(blocks, dy.len(), part);
    out.fill(F::zero());
    for partial in partials {
        out.iter_mut().zip(partial).for_each(|(sum, term)| *sum += term);
    }
}

crate::scalar::compiled_here! {
    /// Adds a bias to every row, `y_ic += bias_c`.
    ///
    /// *Shapes*: `y: [n, c]`, `bias: [c]`. *Cost*: `n·c` additions.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn add_bias<F>(y: ArrayViewMut2<'a, F>, bias: &'a [F]) = added
}

fn added<F: Scalar>(y: ArrayViewMut2<F>, bias: &[F]) {
    assert_eq!(y.ncols(), bias.len(), "add_bias: y {:?}, bias {}", y.dim(), bias.len());
    map_rows(y, |_, row| row.iter_mut().zip(bias).for_each(|(y, &b)| *y += b));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::{assert_close, dense, wide_dense};
    use crate::kernels::reference;
    use ndarray::Array2;

    #[test]
    fn column_sums_and_bias_agree_with_the_reference() {
        for (rows, cols) in [(0, 3), (3, 0), (1, 1), (1023, 5), (1025, 5), (9000, 17)] {
            let dy = dense::<f32>(rows, cols, 11);
            let mut found = vec![f32::NAN; cols];
            column_sums(dy.view(), &mut found);
            let (mut exact, mut magnitude) = (vec![0.0; cols], vec![0.0; cols]);
            reference::column_sums(wide_dense(dy.view()).view(), &mut exact);
            reference::column_sums(wide_dense(dy.view()).mapv(f64::abs).view(), &mut magnitude);
            let row = |v: &[f64]| Array2::from_shape_vec((1, cols), v.to_vec()).expect("one row");
            let found_row = Array2::from_shape_vec((1, cols), found.clone()).expect("one row");
            assert_close(
                found_row.view(),
                row(&exact).view(),
                row(&magnitude).view(),
                rows,
                "column sums",
            );

            let (mut y, mut naive) = (dy.clone(), dy);
            add_bias(y.view_mut(), &found);
            reference::add_bias(naive.view_mut(), &found);
            assert_eq!(y, naive);
        }
    }
}
