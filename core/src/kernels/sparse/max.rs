//! The largest of the in-neighbours, channel by channel.

use crate::kernels::blocks::{Rows, blocks_by_nonzeros, parts_for, pieces, run, with_rows};
use crate::kernels::buffer::{AHEAD, Buffer, prefetch};
use crate::kernels::simd::{Isa, array, by_level};
use crate::kernels::work::count;
use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::{Array2, ArrayView2};
use std::ops::Range;

/// Where a row has no neighbour.
pub const NO_NEIGHBOUR: u32 = u32::MAX;

/// Channels whose maximum and argmax are kept in registers.
const LANES: usize = 16;

/// The largest of the in-neighbours, `y_ic = max_j x_jc` over the stored `j` of row `i`, and which
/// it was; zero and [`NO_NEIGHBOUR`] without any.
///
/// Of equal ones the first counts. The values of `a` are not read.
///
/// *Shapes*: `a: [n, m]`, `x: [m, c]`, both results `[n, c]`. *Cost*: `nnz·c` comparisons.
///
/// # Panics
/// If the shapes do not fit, or `a` is stored by columns.
pub fn spmm_max<F: Scalar>(a: CsrView<F>, x: ArrayView2<F>) -> (Array2<F>, Array2<u32>) {
    spmm_max_with(Isa::best(), a, x)
}

crate::scalar::compiled_here! {
    /// [`spmm_max`] with the instructions of one level.
    ///
    /// # Panics
    /// As [`spmm_max`], and if the processor does not have the level.
    #[doc(hidden)]
    pub fn spmm_max_with<F>(isa: Isa, a: CsrView<'a, F>, x: ArrayView2<'a, F>) -> (Array2<F>, Array2<u32>) = maxima
}

fn maxima<F: Scalar>(isa: Isa, a: CsrView<F>, x: ArrayView2<F>) -> (Array2<F>, Array2<u32>) {
    assert_eq!(a.cols(), x.nrows(), "spmm_max: a {:?}, x {:?}", a.shape(), x.dim());
    let (rows, width) = (a.rows(), x.ncols());
    let (mut y, mut argmax) = (Buffer::zeros(rows * width), Buffer::zeros(rows * width));
    let a = Rows::of(a);
    let work = a.cols.len() * width;
    count(work);
    let blocks = blocks_by_nonzeros(&a.starts, parts_for(work));
    with_rows(x, |x| {
        let parts = pieces(&mut y, &blocks, |i| i * width).into_iter().zip(pieces(
            &mut argmax,
            &blocks,
            |i| i * width,
        ));
        let jobs = blocks
            .iter()
            .zip(parts)
            .map(|(block, (y, argmax))| Part { block: block.clone(), y, argmax })
            .collect();
        run(jobs, work, |part| largest(isa, &a, x, width, part));
    });
    (y.into_array((rows, width)), argmax.into_array((rows, width)))
}

/// What one part of [`spmm_max`] writes.
struct Part<'a, F> {
    block: Range<usize>,
    y: &'a mut [F],
    argmax: &'a mut [u32],
}

by_level! {
    fn largest<F>(a: &Rows<F>, x: &[F], width: usize, part: Part<F>) = largest_here
}

#[inline(always)]
fn largest_here<F: Scalar>(a: &Rows<F>, x: &[F], width: usize, part: Part<F>) {
    for (k, i) in part.block.enumerate() {
        let (y, argmax) =
            (&mut part.y[k * width..][..width], &mut part.argmax[k * width..][..width]);
        let span = a.starts[i]..a.starts[i + 1];
        let Some(&head) = a.cols[span.clone()].first() else {
            argmax.fill(NO_NEIGHBOUR);
            continue;
        };
        let (y, y_tail) = y.as_chunks_mut::<LANES>();
        let (argmax, argmax_tail) = argmax.as_chunks_mut::<LANES>();
        let whole = y.len() * LANES;
        for (block, (y, argmax)) in y.iter_mut().zip(argmax).enumerate() {
            let lanes = |j: u32| -> [F; LANES] {
                let row = &x[j as usize * width + block * LANES..][..LANES];
                array(|lane| row[lane])
            };
            let (mut max, mut of_max) = (lanes(head), [head; LANES]);
            for e in span.start + 1..span.end {
                // The first channels ask for the whole row.
                if block == 0
                    && let Some(&ahead) = a.cols.get(e + AHEAD)
                {
                    prefetch(x.as_ptr().wrapping_add(ahead as usize * width), width);
                }
                let (j, x) = (a.cols[e], lanes(a.cols[e]));
                for lane in 0..LANES {
                    // NaN counts as larger than all numbers, as in PyTorch.
                    let larger = x[lane] > max[lane] || x[lane].is_nan();
                    max[lane] = if larger { x[lane] } else { max[lane] };
                    of_max[lane] = if larger { j } else { of_max[lane] };
                }
            }
            (*y, *argmax) = (max, of_max);
        }
        y_tail.copy_from_slice(&x[head as usize * width + whole..][..y_tail.len()]);
        argmax_tail.fill(head);
        for &j in &a.cols[span.start + 1..span.end] {
            let x = &x[j as usize * width + whole..][..y_tail.len()];
            for ((max, argmax), &x) in y_tail.iter_mut().zip(&mut *argmax_tail).zip(x) {
                if x > *max || x.is_nan() {
                    (*max, *argmax) = (x, j);
                }
            }
        }
    }
}

/// The gradient of [`spmm_max`]: `dx_jc = Σ_i dy_ic` over the `i` whose largest was `j`; `at` is
/// the transpose of `a`.
///
/// *Shapes*: `at: [m, n]`, `argmax`, `dy: [n, c]`, `dx: [m, c]`.
///
/// # Panics
/// If the shapes do not fit, or `at` is stored by columns.
pub fn spmm_max_t<F: Scalar>(at: CsrView<F>, argmax: &Array2<u32>, dy: ArrayView2<F>) -> Array2<F> {
    spmm_max_t_with(Isa::best(), at, argmax, dy)
}

crate::scalar::compiled_here! {
    /// [`spmm_max_t`] with the instructions of one level.
    ///
    /// # Panics
    /// As [`spmm_max_t`], and if the processor does not have the level.
    #[doc(hidden)]
    pub fn spmm_max_t_with<F>(isa: Isa, at: CsrView<'a, F>, argmax: &'a Array2<u32>, dy: ArrayView2<'a, F>) -> Array2<F> = gradient
}

fn gradient<F: Scalar>(
    isa: Isa,
    at: CsrView<F>,
    argmax: &Array2<u32>,
    dy: ArrayView2<F>,
) -> Array2<F> {
    assert!(
        at.cols() == dy.nrows() && argmax.dim() == dy.dim(),
        "spmm_max_t: at {:?}, dy {:?}",
        at.shape(),
        dy.dim()
    );
    let (rows, width) = (at.rows(), dy.ncols());
    let mut dx = Buffer::zeros(rows * width);
    let at = Rows::of(at);
    let work = at.cols.len() * width;
    count(work);
    let blocks = blocks_by_nonzeros(&at.starts, parts_for(work));
    let argmax = argmax.as_slice().expect("`spmm_max` made it");
    with_rows(dy, |dy| {
        let jobs = blocks.iter().cloned().zip(pieces(&mut dx, &blocks, |j| j * width)).collect();
        run(jobs, work, |(block, dx)| sums(isa, &at, argmax, dy, block, dx));
    });
    dx.into_array((rows, width))
}

by_level! {
    fn sums<F>(at: &Rows<F>, argmax: &[u32], dy: &[F], block: Range<usize>, dx: &mut [F]) = sums_here
}

#[inline(always)]
fn sums_here<F: Scalar>(at: &Rows<F>, argmax: &[u32], dy: &[F], block: Range<usize>, dx: &mut [F]) {
    let width = dx.len() / block.len();
    for (k, j) in block.enumerate() {
        let row = &mut dx[k * width..][..width];
        for &i in &at.cols[at.starts[j]..at.starts[j + 1]] {
            let from = i as usize * width;
            for ((dx, &dy), &argmax) in
                row.iter_mut().zip(&dy[from..][..width]).zip(&argmax[from..][..width])
            {
                *dx += if argmax as usize == j { dy } else { F::zero() };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::{SHAPES, assert_same_in_all_pools, dense, sparse, widths};

    fn levels() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.available())
    }

    #[test]
    fn every_level_finds_the_first_of_the_largest_and_sends_its_gradient_back() {
        for (rows, cols, degree) in SHAPES {
            for width in widths() {
                let a = sparse::<f32>(rows, cols, degree, 1);
                // Few different numbers, so that many are equal.
                let x = dense::<f32>(cols, width, 2).mapv(|v| (v * 3.0).round());
                let dy = dense::<f32>(rows, width, 3);
                let (mut y, mut argmax) =
                    (Array2::zeros((rows, width)), Array2::from_elem((rows, width), NO_NEIGHBOUR));
                let mut dx = Array2::<f32>::zeros((cols, width));
                for (i, row) in a.outer_iterator().enumerate() {
                    for c in 0..width {
                        for &j in row.indices() {
                            if argmax[[i, c]] == NO_NEIGHBOUR || x[[j as usize, c]] > y[[i, c]] {
                                (y[[i, c]], argmax[[i, c]]) = (x[[j as usize, c]], j);
                            }
                        }
                        if argmax[[i, c]] != NO_NEIGHBOUR {
                            dx[[argmax[[i, c]] as usize, c]] += dy[[i, c]];
                        }
                    }
                }
                let at = a.transpose_view().to_csr();
                for isa in levels() {
                    assert_eq!(
                        spmm_max_with(isa, a.view(), x.view()),
                        (y.clone(), argmax.clone()),
                        "{isa:?} {rows}x{cols} width {width}"
                    );
                    assert_eq!(
                        spmm_max_t_with(isa, at.view(), &argmax, dy.view()),
                        dx,
                        "{isa:?} {rows}x{cols} width {width}"
                    );
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        let (a, x) = (sparse::<f32>(5000, 700, 9, 7), dense(700, 70, 8));
        assert_same_in_all_pools(|| spmm_max(a.view(), x.view()));
    }
}
