//! Sampled dense × dense product: one dot product per edge (SDDMM).

use super::levels::kernels;
use super::portable::{self, EdgeDot};
use crate::kernels::blocks::{Cut, Rows, for_row_blocks, parts_for, with_rows};
use crate::kernels::simd::Isa;
use crate::kernels::work::count;
use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::ArrayView2;

/// Dot product of the two rows that each stored entry joins, `out_e = Σ_c a_ic b_jc` for
/// `e = (i, j)`, in CSR order.
///
/// The weights of `pattern` are not read. It is the gradient of a sparse input or of edge weights:
/// `dA_ij = dY_i·X_j`.
///
/// *Shapes*: `pattern: [n, m]`, `a: [n, c]`, `b: [m, c]`, `out: [nnz]`. *Cost*: `nnz·c`
/// multiply-adds, one row of `b` fetched per entry.
///
/// *Source*: SDDMM as one gather and dot per edge, cut by edges (Hong et al., PPoPP 2019).
///
/// # Panics
/// If the shapes do not fit, or `pattern` is stored by columns.
pub fn edge_dot<F: Scalar>(pattern: CsrView<F>, a: ArrayView2<F>, b: ArrayView2<F>, out: &mut [F]) {
    edge_dot_with(Isa::best(), pattern, a, b, out);
}

crate::scalar::compiled_here! {
    /// [`edge_dot`] with the instructions of one level.
    ///
    /// # Panics
    /// As [`edge_dot`], and if the processor does not have the level.
    #[doc(hidden)]
    pub fn edge_dot_with<F>(isa: Isa, pattern: CsrView<'a, F>, a: ArrayView2<'a, F>, b: ArrayView2<'a, F>, out: &'a mut [F]) = dots
}

fn dots<F: Scalar>(
    isa: Isa,
    pattern: CsrView<F>,
    a: ArrayView2<F>,
    b: ArrayView2<F>,
    out: &mut [F],
) {
    assert!(
        pattern.shape() == (a.nrows(), b.nrows())
            && a.ncols() == b.ncols()
            && out.len() == pattern.nnz(),
        "edge_dot: pattern {:?} with {} entries, a {:?}, b {:?}, out {}",
        pattern.shape(),
        pattern.nnz(),
        a.dim(),
        b.dim(),
        out.len()
    );
    let width = a.ncols();
    let pattern = Rows::of(pattern);
    let work = out.len() * width;
    count(work);
    let cut = Cut::Even { rows: out.len(), height: out.len().div_ceil(parts_for(work)).max(1) };
    let kernels = kernels(isa);
    with_rows(a, |a| {
        with_rows(b, |b| {
            let job = EdgeDot { starts: &pattern.starts, cols: pattern.cols, a, b, width };
            let job_f32 = job.as_f32();
            for_row_blocks(out, 1, cut, work, |block, out| match (&job_f32, F::as_f32_mut(out)) {
                (Some(job), Some(out)) => (kernels.edge_dot)(job, block, out),
                _ => portable::edges(&job, block, out),
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::{
        self, SHAPES, assert_close, assert_same_in_all_pools, dense, sparse, wide, wide_dense,
    };
    use crate::kernels::reference;
    use crate::value::Csr;
    use ndarray::Array2;
    use proptest::prelude::*;

    fn levels() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.available())
    }

    fn run<F: Scalar>(isa: Isa, pattern: &Csr<F>, a: &Array2<F>, b: &Array2<F>) -> Array2<F> {
        let mut out = vec![F::nan(); pattern.nnz()];
        edge_dot_with(isa, pattern.view(), a.view(), b.view(), &mut out);
        Array2::from_shape_vec((1, out.len()), out).expect("one row")
    }

    fn assert_agrees<F: Scalar>(isa: Isa, pattern: &Csr<F>, width: usize, seed: u64) {
        let (a, b) = (dense(pattern.rows(), width, seed), dense(pattern.cols(), width, seed + 1));
        let found = run(isa, pattern, &a, &b);
        let (pattern, a, b) = (wide(pattern.view()), wide_dense(a.view()), wide_dense(b.view()));
        let (mut exact, mut magnitude) = (Array2::zeros(found.dim()), Array2::zeros(found.dim()));
        reference::edge_dot(
            pattern.view(),
            a.view(),
            b.view(),
            exact.as_slice_mut().expect("contiguous"),
        );
        let (a, b) = (a.mapv(f64::abs), b.mapv(f64::abs));
        reference::edge_dot(
            pattern.view(),
            a.view(),
            b.view(),
            magnitude.as_slice_mut().expect("contiguous"),
        );
        assert_close(
            found.view(),
            exact.view(),
            magnitude.view(),
            width,
            &format!("{isa:?} width {width}"),
        );
    }

    #[test]
    fn every_level_agrees_with_the_reference_at_every_width() {
        for isa in levels() {
            for (rows, cols, degree) in SHAPES {
                for width in cases::widths().chain([0]) {
                    assert_agrees(isa, &sparse::<f32>(rows, cols, degree, 1), width, 2);
                }
            }
            // Large enough to be fetched ahead and cut into parts.
            assert_agrees(isa, &sparse::<f32>(2000, 20_000, 8, 3), 40, 4);
        }
        assert_agrees(Isa::best(), &sparse::<f64>(40, 30, 6, 5), 33, 6);
    }

    #[test]
    fn threads_do_not_change_bits() {
        let (pattern, a, b) =
            (sparse::<f32>(5000, 700, 9, 7), dense(5000, 70, 8), dense(700, 70, 9));
        for isa in levels() {
            assert_same_in_all_pools(|| run(isa, &pattern, &a, &b));
        }
    }

    #[test]
    #[should_panic(expected = "edge_dot: pattern (4, 5)")]
    fn shapes_are_checked() {
        let pattern = sparse::<f32>(4, 5, 2, 10);
        edge_dot(
            pattern.view(),
            Array2::zeros((4, 2)).view(),
            Array2::zeros((4, 2)).view(),
            &mut vec![0.0; pattern.nnz()],
        );
    }

    proptest! {
        #[test]
        fn random_patterns_agree(rows in 0usize..60, cols in 0usize..60, degree in 0usize..12, width in 0usize..140, seed in 0u64..u64::MAX) {
            for isa in levels() {
                assert_agrees(isa, &sparse::<f32>(rows, cols, degree, seed), width, seed);
            }
        }
    }
}
