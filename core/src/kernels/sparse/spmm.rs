//! Sparse × dense product: aggregation over in-neighbours, and sparse features times weights.

use super::levels::kernels;
use super::portable::{self, Spmm};
use crate::kernels::blocks::{Cut, Rows, for_row_blocks, parts_for, update_rows, with_rows};
use crate::kernels::epilogue::Epilogue;
use crate::kernels::simd::Isa;
use crate::kernels::work::count;
use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Sparse × dense product `y_ic = Σ_j a_ij x_jc`, overwriting `y`; a row without entries becomes
/// zero.
///
/// *Shapes*: `a: [n, m]`, `x: [m, c]`, `y: [n, c]`. *Cost*: `nnz·c` multiply-adds, bound by
/// fetching one row of `x` per entry.
///
/// *Source*: rows cut by non-zeros and taken dynamically, the output row held in registers over all
/// its entries and written once, as in LIBXSMM's generated kernels (Heinecke et al., SC 2016) that
/// DGL uses; rows fetched ahead where `x` is larger than the cache.
///
/// # Panics
/// If the shapes do not fit, or `a` is stored by columns.
pub fn spmm<F: Scalar>(a: CsrView<F>, x: ArrayView2<F>, y: ArrayViewMut2<F>) {
    spmm_with(Isa::best(), a, x, y, Epilogue::NONE);
}

/// [`spmm`] with bias and activation applied on the way out, or added to what stands in `y`.
///
/// # Panics
/// As [`spmm`], and if the bias has not one number per column.
pub fn spmm_then<F: Scalar>(
    a: CsrView<F>,
    x: ArrayView2<F>,
    y: ArrayViewMut2<F>,
    epilogue: Epilogue<F>,
) {
    spmm_with(Isa::best(), a, x, y, epilogue);
}

crate::scalar::compiled_here! {
    /// [`spmm_then`] with the instructions of one level.
    ///
    /// # Panics
    /// As [`spmm_then`], and if the processor does not have the level.
    #[doc(hidden)]
    pub fn spmm_with<F>(isa: Isa, a: CsrView<'a, F>, x: ArrayView2<'a, F>, y: ArrayViewMut2<'a, F>, epilogue: Epilogue<'a, F>) = product
}

fn product<F: Scalar>(
    isa: Isa,
    a: CsrView<F>,
    x: ArrayView2<F>,
    y: ArrayViewMut2<F>,
    epilogue: Epilogue<F>,
) {
    assert!(
        a.cols() == x.nrows() && y.dim() == (a.rows(), x.ncols()),
        "spmm: a {:?}, x {:?}, y {:?}",
        a.shape(),
        x.dim(),
        y.dim()
    );
    let width = x.ncols();
    if let Some(bias) = epilogue.bias {
        assert_eq!(bias.len(), width, "spmm: {} biases for {width} columns", bias.len());
    }
    if y.is_empty() {
        return;
    }
    let a = Rows::of(a);
    let work = a.cols.len() * width;
    count(work);
    let cut = Cut::ByNonzeros { starts: &a.starts, parts: parts_for(work) };
    let kernels = kernels(isa);
    with_rows(x, |x| {
        let job = Spmm { starts: &a.starts, cols: a.cols, vals: a.vals, x, width, epilogue };
        let job_f32 = job.as_f32();
        update_rows(y, |y| {
            for_row_blocks(y, width, cut, work, |block, y| match (&job_f32, F::as_f32_mut(y)) {
                (Some(job), Some(y)) => (kernels.spmm)(job, block, y),
                _ => portable::rows(&job, block, y),
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::{
        self, SHAPES, assert_is_product, assert_same_in_all_pools, dense, sparse,
    };
    use crate::value::Csr;
    use ndarray::{Array2, s};
    use proptest::prelude::*;

    fn levels() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.available())
    }

    fn run<F: Scalar>(isa: Isa, a: &Csr<F>, x: &Array2<F>) -> Array2<F> {
        let mut y = Array2::from_elem((a.rows(), x.ncols()), F::nan());
        spmm_with(isa, a.view(), x.view(), y.view_mut(), Epilogue::NONE);
        y
    }

    #[test]
    fn every_level_agrees_with_the_reference_at_every_width() {
        for isa in levels() {
            for (rows, cols, degree) in SHAPES {
                for width in cases::widths() {
                    let (a, x) = (sparse::<f32>(rows, cols, degree, 1), dense(cols, width, 2));
                    assert_is_product(
                        a.view(),
                        x.view(),
                        run(isa, &a, &x).view(),
                        &format!("{isa:?} {rows}x{cols} width {width}"),
                    );
                }
            }
        }
    }

    #[test]
    fn fetching_ahead_changes_nothing() {
        // Large enough to be fetched ahead at width 16 and up, and cut into parts.
        let a = sparse::<f32>(2000, 20_000, 8, 3);
        for isa in levels() {
            for width in [16, 40, 128] {
                let x = dense(20_000, width, 4);
                assert_is_product(
                    a.view(),
                    x.view(),
                    run(isa, &a, &x).view(),
                    &format!("{isa:?} width {width}"),
                );
            }
        }
    }

    #[test]
    fn the_epilogue_does_what_follows_the_bare_product() {
        for width in cases::widths() {
            for (a, most) in [(sparse::<f32>(40, 30, 3, 5), 1e-5), (Csr::zero((40, 30)), 0.0)] {
                let (x, before) = (dense(30, width, 6), dense::<f32>(40, width, 7));
                let bias: Vec<f32> = (0..width).map(|c| c as f32 / 8.0 - 1.0).collect();
                for isa in levels() {
                    let run = |epilogue| {
                        let mut y = before.clone();
                        spmm_with(isa, a.view(), x.view(), y.view_mut(), epilogue);
                        y
                    };
                    let bare = run(Epilogue::NONE);
                    let mut expected = bare.clone();
                    crate::kernels::add_bias(expected.view_mut(), &bias);
                    let relu = run(Epilogue { bias: Some(&bias), relu: true, add: false });
                    assert_eq!(relu, expected.mapv(|v| v.max(0.0)), "{isa:?} width {width}");
                    let added = run(Epilogue { add: true, ..Epilogue::NONE });
                    // Some terms and the old number, all below one; nothing to round where there
                    // are no terms.
                    assert!(
                        (&added - &bare - &before).iter().all(|v| v.abs() <= most),
                        "{isa:?} width {width}"
                    );
                }
            }
        }
    }

    #[test]
    fn f64_takes_the_portable_form() {
        for width in cases::widths() {
            let (a, x) = (sparse::<f64>(40, 30, 6, 5), dense(30, width, 6));
            assert_is_product(a.view(), x.view(), run(Isa::best(), &a, &x).view(), "f64");
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        let (a, x) = (sparse::<f32>(5000, 700, 9, 7), dense(700, 70, 8));
        for isa in levels() {
            assert_same_in_all_pools(|| run(isa, &a, &x));
        }
    }

    #[test]
    fn strided_operands_and_row_slices_are_taken() {
        let (a, x) = (sparse::<f32>(40, 30, 6, 9), dense::<f32>(30, 20, 10));
        let expected = run(Isa::best(), &a, &x);
        let mut y = Array2::zeros((20, 40));
        spmm(a.view(), x.t().as_standard_layout().t(), y.view_mut().reversed_axes());
        assert_eq!(y.t(), expected);
        let mut part = Array2::zeros((15, 20));
        spmm(a.slice_outer(12..27), x.view(), part.view_mut());
        assert_eq!(part, expected.slice(s![12..27, ..]));
    }

    #[test]
    fn no_channels_is_no_work() {
        let a = sparse::<f32>(4, 4, 2, 11);
        assert_eq!(run(Isa::best(), &a, &Array2::zeros((4, 0))).dim(), (4, 0));
    }

    #[test]
    #[should_panic(expected = "spmm: a (4, 5), x (4, 2)")]
    fn shapes_are_checked() {
        spmm(
            sparse::<f32>(4, 5, 2, 12).view(),
            Array2::zeros((4, 2)).view(),
            Array2::zeros((4, 2)).view_mut(),
        );
    }

    proptest! {
        #[test]
        fn random_matrices_agree(rows in 0usize..60, cols in 0usize..60, degree in 0usize..12, width in 0usize..140, seed: u64) {
            let (a, x) = (sparse::<f32>(rows, cols, degree, seed), dense(cols, width, seed));
            for isa in levels() {
                assert_is_product(a.view(), x.view(), run(isa, &a, &x).view(), &format!("{isa:?}"));
            }
        }
    }
}
