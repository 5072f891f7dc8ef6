//! Transposed sparse × dense product without a stored transpose: the weight gradient of a layer
//! with sparse input.

use crate::kernels::blocks::{Rows, SERIAL_WORK, run, with_rows};
use crate::kernels::work::count;
use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use std::ops::Range;

/// Channels of a strip: one cache line of `f32`.
const STRIP: usize = 16;

/// Multiply-adds that make it worth finding a range of columns in every row.
const RANGE_WORK: usize = 1 << 20;

crate::scalar::compiled_here! {
    /// Transposed product `dx_jc = Σ_i a_ij dy_ic`, overwriting `dx`.
    ///
    /// Each task owns a strip of 16 channels of a range of columns of `A`, sums it in a compact
    /// array of its own and walks the non-zeros in row order, so every sum has one order. For a
    /// matrix that is used often (a graph's operator) a stored transpose and
    /// [`spmm`](super::spmm()) are faster. There is no hand-made form: AVX2 gained 1.0 to 1.3 ×
    /// over what the compiler makes of this one.
    ///
    /// *Shapes*: `a: [n, m]`, `dy: [n, c]`, `dx: [m, c]`. *Cost*: `nnz·c` multiply-adds; the
    /// entries are read `⌈c/16⌉` times; `16·m` numbers per thread.
    ///
    /// *Source*: the outer-product form of the product (each row of `dY` scattered by its row of
    /// `A`), with one owner for each strip of the result.
    ///
    /// # Panics
    /// If the shapes do not fit, or `a` is stored by columns.
    pub fn spmm_t<F>(a: CsrView<'a, F>, dy: ArrayView2<'a, F>, dx: ArrayViewMut2<'a, F>) = product
}

fn product<F: Scalar>(a: CsrView<F>, dy: ArrayView2<F>, mut dx: ArrayViewMut2<F>) {
    assert!(
        a.rows() == dy.nrows() && dx.dim() == (a.cols(), dy.ncols()),
        "spmm_t: a {:?}, dy {:?}, dx {:?}",
        a.shape(),
        dy.dim(),
        dx.dim()
    );
    if dx.is_empty() {
        return;
    }
    let a = Rows::of(a);
    let (width, num_columns) = (dy.ncols(), dx.nrows());
    let work = a.cols.len() * width;
    count(work);
    let threads = if work < SERIAL_WORK { 1 } else { rayon::current_num_threads() };
    let strips = width.div_ceil(STRIP);
    // A narrow product has fewer strips than threads. The number of ranges changes who computes a
    // number, never how.
    let ranges = threads.div_ceil(strips).min(work / RANGE_WORK).clamp(1, dx.nrows());
    let height = dx.nrows().div_ceil(ranges);
    with_rows(dy, |dy| {
        let piece = |(columns, first, dx): (Range<usize>, usize, ArrayViewMut2<F>)| {
            let job = Strip { a: &a, dy, width, columns, num_columns, first };
            let mut sums = vec![F::zero(); dx.nrows() * STRIP];
            strip(&job, sums.as_chunks_mut().0);
            copy_strip(&sums, dx);
        };
        let mut pieces = Vec::with_capacity(strips * ranges);
        for (r, rows) in dx.axis_chunks_iter_mut(Axis(0), height).enumerate() {
            let columns = r * height..r * height + rows.nrows();
            split_strips(rows, |first, piece| pieces.push((columns.clone(), first, piece)));
        }
        run(pieces, work, piece);
    });
}

/// Hands `f` every strip of `rows` with its first channel.
fn split_strips<'a, F>(
    mut rows: ArrayViewMut2<'a, F>,
    mut f: impl FnMut(usize, ArrayViewMut2<'a, F>),
) {
    let mut first = 0;
    while rows.ncols() > 0 {
        let channels = STRIP.min(rows.ncols());
        let (piece, rest) = rows.split_at(Axis(1), channels);
        f(first, piece);
        (rows, first) = (rest, first + channels);
    }
}

/// Writes the sums of a strip to where they belong.
fn copy_strip<F: Scalar>(sums: &[F], mut dx: ArrayViewMut2<F>) {
    let channels = dx.ncols();
    for (mut dx, sums) in dx.rows_mut().into_iter().zip(sums.chunks_exact(STRIP)) {
        match dx.as_slice_mut() {
            Some(dx) => dx.copy_from_slice(&sums[..channels]),
            None => dx.iter_mut().zip(sums).for_each(|(dx, &sum)| *dx = sum),
        }
    }
}

/// A strip of a transposed product, and all that it reads.
struct Strip<'a, F> {
    a: &'a Rows<'a, F>,
    dy: &'a [F],
    width: usize,
    /// Columns of `A`, which are rows of `dx`, that the strip owns, ...
    columns: Range<usize>,
    /// ... out of so many.
    num_columns: usize,
    /// The first channel that the strip owns.
    first: usize,
}

impl<F: Scalar> Strip<'_, F> {
    /// The entries of row `i` in the strip's columns.
    #[inline]
    fn edges(&self, i: usize) -> Range<usize> {
        let row = self.a.starts[i]..self.a.starts[i + 1];
        let before = |column: usize| {
            row.start + self.a.cols[row.clone()].partition_point(|&j| (j as usize) < column)
        };
        let from = if self.columns.start == 0 { row.start } else { before(self.columns.start) };
        let until =
            if self.columns.end == self.num_columns { row.end } else { before(self.columns.end) };
        from..until
    }

    /// The strip's channels of `dy_i`, filled up with zeros.
    #[inline]
    fn channels(&self, i: usize) -> [F; STRIP] {
        let dy = &self.dy[i * self.width + self.first..(i + 1) * self.width];
        match dy.first_chunk() {
            Some(whole) => *whole,
            None => {
                let mut channels = [F::zero(); STRIP];
                channels[..dy.len()].copy_from_slice(dy);
                channels
            }
        }
    }
}

/// One strip, added to `sums`: one element for each of its columns.
fn strip<F: Scalar>(job: &Strip<F>, sums: &mut [[F; STRIP]]) {
    for i in 0..job.a.starts.len() - 1 {
        let dy = job.channels(i);
        let edges = job.edges(i);
        for (&j, &weight) in job.a.cols[edges.clone()].iter().zip(&job.a.vals[edges]) {
            let sums = &mut sums[j as usize - job.columns.start];
            sums.iter_mut().zip(&dy).for_each(|(sum, &dy)| *sum += weight * dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::{
        self, SHAPES, assert_is_product, assert_same_in_all_pools, dense, sparse,
    };
    use crate::value::Csr;
    use ndarray::Array2;
    use proptest::prelude::*;

    fn run<F: Scalar>(a: &Csr<F>, dy: &Array2<F>) -> Array2<F> {
        let mut dx = Array2::from_elem((a.cols(), dy.ncols()), F::nan());
        spmm_t(a.view(), dy.view(), dx.view_mut());
        dx
    }

    fn assert_is_transposed_product<F: Scalar>(
        a: &Csr<F>,
        dy: &Array2<F>,
        dx: &Array2<F>,
        what: &str,
    ) {
        assert_is_product(a.transpose_view().to_csr().view(), dy.view(), dx.view(), what);
    }

    #[test]
    fn agrees_with_the_reference_at_every_width() {
        for (rows, cols, degree) in SHAPES {
            for width in cases::widths() {
                let (a, dy) = (sparse::<f32>(rows, cols, degree, 1), dense(rows, width, 2));
                assert_is_transposed_product(
                    &a,
                    &dy,
                    &run(&a, &dy),
                    &format!("{rows}x{cols} width {width}"),
                );
            }
        }
    }

    #[test]
    fn f64_agrees_too() {
        let (a, dy) = (sparse::<f64>(40, 30, 6, 3), dense(40, 33, 4));
        assert_is_transposed_product(&a, &dy, &run(&a, &dy), "f64");
    }

    #[test]
    fn threads_do_not_change_bits_however_the_columns_are_cut() {
        for width in [7, 16, 20, 100] {
            let (a, dy) = (sparse::<f32>(30_000, 501, 16, 5), dense(30_000, width, 6));
            assert_same_in_all_pools(|| run(&a, &dy));
        }
    }

    #[test]
    fn strided_operands_and_row_slices_are_taken() {
        let (a, dy) = (sparse::<f32>(40, 30, 6, 7), dense::<f32>(40, 20, 8));
        let mut dx = Array2::zeros((20, 30));
        spmm_t(a.view(), dy.t().as_standard_layout().t(), dx.view_mut().reversed_axes());
        assert_eq!(dx.t(), run(&a, &dy));
        let part = a.slice_outer(12..27);
        let dy = dense::<f32>(15, 20, 9);
        let mut dx = Array2::zeros((30, 20));
        spmm_t(part.view(), dy.view(), dx.view_mut());
        assert_is_transposed_product(&part.to_owned(), &dy, &dx, "rows 12..27");
    }

    #[test]
    #[should_panic(expected = "spmm_t: a (4, 5), dy (5, 2)")]
    fn shapes_are_checked() {
        spmm_t(
            sparse::<f32>(4, 5, 2, 10).view(),
            Array2::zeros((5, 2)).view(),
            Array2::zeros((5, 2)).view_mut(),
        );
    }

    proptest! {
        #[test]
        fn random_matrices_agree(rows in 0usize..60, cols in 0usize..60, degree in 0usize..12, width in 0usize..70, seed: u64) {
            let (a, dy) = (sparse::<f32>(rows, cols, degree, seed), dense(rows, width, seed));
                assert_is_transposed_product(&a, &dy, &run(&a, &dy), "random");
        }
    }
}
