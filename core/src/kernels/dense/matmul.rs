//! Dense products over row blocks.
//!
//! In `f32`, where the processor has AVX2, a product packs its right operand once and runs a
//! register block over it; elsewhere it is a single-threaded library call
//! (`ndarray::linalg::general_mat_mul`) on a block of rows. Rayon runs the blocks. Block heights
//! depend on the shape alone, and sums over rows are added in block order: the same bits for any
//! number of threads.

use super::levels::gemm;
use super::packed::{GemmBlock, GemmKernel, Panels};
use super::weight::PackedWeight;
use crate::kernels::blocks::{
    Cut, SERIAL_WORK, blocks_of, for_each_chunk, for_row_blocks, overwrite_rows, run, update_rows,
    with_rows,
};
use crate::kernels::buffer::{self, Buffer};
use crate::kernels::epilogue::Epilogue;
use crate::kernels::simd::Isa;
use crate::kernels::work::count;
use crate::scalar::Scalar;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Slice};
use std::ops::Range;

/// Multiply-adds of a row block of a product: a few hundred microseconds, so that threads end
/// together.
const BLOCK_WORK: usize = 1 << 22;

/// Most blocks that a sum over rows is cut into.
const MAX_PARTIALS: usize = 32;

/// Most numbers that the partial results of a sum over rows take (16 MB in `f32`).
const MAX_PARTIAL_NUMBERS: usize = 1 << 22;

/// Rows that a sum over rows packs at a time: both packed operands stay in the cache.
const PACKED_ROWS: usize = 256;

/// Dense product `Y = X·W`, overwriting `y`.
///
/// *Shapes*: `x: [n, in]`, `w: [in, out]`, `y: [n, out]`. *Cost*: `n·in·out` multiply-adds; `W` is
/// packed once per call.
///
/// *Source*: register blocks over packed panels, Goto and van de Geijn, "Anatomy of
/// High-Performance Matrix Multiplication", TOMS 2008.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul<F: Scalar>(x: ArrayView2<F>, w: ArrayView2<F>, y: ArrayViewMut2<F>) {
    matmul_with(Isa::best(), x, w, y, Epilogue::NONE);
}

/// [`matmul`] with bias and activation applied on the way out, or added to what stands in `y`.
///
/// # Panics
/// As [`matmul`], and if the bias has not one number per column.
pub fn matmul_then<F: Scalar>(
    x: ArrayView2<F>,
    w: ArrayView2<F>,
    y: ArrayViewMut2<F>,
    epilogue: Epilogue<F>,
) {
    matmul_with(Isa::best(), x, w, y, epilogue);
}

/// [`matmul_then`] with the instructions of one level.
///
/// # Panics
/// As [`matmul_then`], and if the processor does not have the level.
#[doc(hidden)]
pub fn matmul_with<F: Scalar>(
    isa: Isa,
    x: ArrayView2<F>,
    w: ArrayView2<F>,
    y: ArrayViewMut2<F>,
    epilogue: Epilogue<F>,
) {
    assert!(
        x.ncols() == w.nrows() && y.dim() == (x.nrows(), w.ncols()),
        "matmul: x {:?}, w {:?}, y {:?}",
        x.dim(),
        w.dim(),
        y.dim()
    );
    count(x.len() * w.ncols());
    product(isa, x, w, y, epilogue);
}

crate::scalar::compiled_here! {
    /// Dense product `Y = X·W` with a packed weight, overwriting `y` or as the epilogue says; see
    /// [`matmul_then`].
    ///
    /// # Panics
    /// As [`matmul_then`].
    pub fn matmul_packed<F>(x: ArrayView2<'a, F>, w: &'a PackedWeight<F>, y: ArrayViewMut2<'a, F>, epilogue: Epilogue<'a, F>) = product_packed
}

fn product_packed<F: Scalar>(
    x: ArrayView2<F>,
    w: &PackedWeight<F>,
    y: ArrayViewMut2<F>,
    epilogue: Epilogue<F>,
) {
    assert!(
        x.ncols() == w.dim().0 && y.dim() == (x.nrows(), w.dim().1),
        "matmul: x {:?}, w {:?}, y {:?}",
        x.dim(),
        w.dim(),
        y.dim()
    );
    count(x.len() * w.dim().1);
    match (gemm(Isa::best()), &w.panels) {
        (Some(kernel), Some(panels)) => fast_product(kernel, x, panels, y, epilogue),
        _ => plain_product(x, w.view(), y, epilogue),
    }
}

/// Dense product with a transposed right operand, `dX = dY·Wᵀ`, overwriting `dx`: the gradient of
/// [`matmul`] to its input.
///
/// *Shapes*: `dy: [n, out]`, `w: [in, out]`, `dx: [n, in]`. *Cost*: `n·in·out` multiply-adds.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul_nt<F: Scalar>(dy: ArrayView2<F>, w: ArrayView2<F>, dx: ArrayViewMut2<F>) {
    matmul_nt_then(dy, w, dx, Epilogue::NONE);
}

/// [`matmul_nt`], added to what stands in `dx` where the epilogue says so.
///
/// # Panics
/// As [`matmul_nt`].
pub fn matmul_nt_then<F: Scalar>(
    dy: ArrayView2<F>,
    w: ArrayView2<F>,
    dx: ArrayViewMut2<F>,
    epilogue: Epilogue<F>,
) {
    assert!(
        dy.ncols() == w.ncols() && dx.dim() == (dy.nrows(), w.nrows()),
        "matmul_nt: dy {:?}, w {:?}, dx {:?}",
        dy.dim(),
        w.dim(),
        dx.dim()
    );
    count(dy.len() * w.nrows());
    product(Isa::best(), dy, w.t(), dx, epilogue);
}

crate::scalar::compiled_here! {
    fn product<F>(isa: Isa, x: ArrayView2<'a, F>, w: ArrayView2<'a, F>, y: ArrayViewMut2<'a, F>, epilogue: Epilogue<'a, F>) = product_any
}

fn product_any<F: Scalar>(
    isa: Isa,
    x: ArrayView2<F>,
    w: ArrayView2<F>,
    y: ArrayViewMut2<F>,
    epilogue: Epilogue<F>,
) {
    let Some((kernel, panels)) = gemm(isa).and_then(|kernel| Some((kernel, packed(kernel, w)?)))
    else {
        return plain_product(x, w, y, epilogue);
    };
    fast_product(kernel, x, &panels, y, epilogue);
}

/// `w` in panels, whichever way it lies.
fn packed<F: Scalar>(kernel: &GemmKernel, w: ArrayView2<F>) -> Option<Panels> {
    let (stored, strides) =
        if w.t().is_standard_layout() { (w.t(), (1, w.nrows())) } else { (w, (w.ncols(), 1)) };
    let stored = stored.as_standard_layout();
    let mut panels = Panels::default();
    panels.pack(kernel, F::as_f32(stored.as_slice()?)?, w.dim(), strides);
    Some(panels)
}

fn fast_product<F: Scalar>(
    kernel: &GemmKernel,
    x: ArrayView2<F>,
    panels: &Panels,
    y: ArrayViewMut2<F>,
    epilogue: Epilogue<F>,
) {
    let ((rows, inner), width) = (x.dim(), panels.width);
    if let Some(bias) = epilogue.bias {
        assert_eq!(bias.len(), width, "matmul: {} biases for {width} columns", bias.len());
    }
    if rows == 0 || width == 0 {
        return;
    }
    if inner == 0 {
        return plain_product(
            x,
            ArrayView2::from_shape((0, width), &[]).expect("no rows"),
            y,
            epilogue,
        );
    }
    let cut = Cut::Even { rows, height: block_height(inner * width) };
    with_rows(x, |x| {
        let (x, epilogue) = (F::as_f32(x), epilogue.as_f32());
        let (x, epilogue) = x.zip(epilogue).expect("only numbers of this type are packed");
        // What is added to is read.
        update_rows(y, |y| {
            for_row_blocks(y, width, cut, rows * inner * width, |block, y| {
                let y = F::as_f32_mut(y).expect("only numbers of this type are packed");
                let a = &x[block.start * inner..block.end * inner];
                (kernel.block)(
                    &GemmBlock {
                        a,
                        rows: block.len(),
                        row_stride: inner,
                        inner_stride: 1,
                        b: panels,
                        epilogue,
                    },
                    y,
                );
            });
        });
    });
}

fn plain_product<F: Scalar>(
    x: ArrayView2<F>,
    w: ArrayView2<F>,
    y: ArrayViewMut2<F>,
    epilogue: Epilogue<F>,
) {
    let (rows, inner) = x.dim();
    let width = w.ncols();
    if rows == 0 || width == 0 {
        return;
    }
    let cut = Cut::Even { rows, height: block_height(inner * width) };
    let before = if epilogue.add { F::one() } else { F::zero() };
    update_rows(y, |y| {
        for_row_blocks(y, width, cut, rows * inner * width, |block, y| {
            let mut rows = ArrayViewMut2::from_shape((block.len(), width), &mut *y)
                .expect("a block is whole rows");
            library_product(x.slice_axis(Axis(0), Slice::from(block)), w, before, &mut rows);
            epilogue.apply(width, y);
        });
    });
}

/// `Y = X·W + before·Y` on this thread.
fn library_product<F: Scalar>(
    x: ArrayView2<F>,
    w: ArrayView2<F>,
    before: F,
    y: &mut ArrayViewMut2<F>,
) {
    if x.ncols() > 0 {
        general_mat_mul(F::one(), &x, &w, before, y);
    } else if before == F::zero() {
        y.fill(F::zero());
    }
}

/// Rows of a block whose rows cost `row_work` multiply-adds each.
fn block_height(row_work: usize) -> usize {
    (BLOCK_WORK / row_work.max(1)).clamp(64, 1024).next_multiple_of(64)
}

/// Dense product with a transposed left operand, `dW = Xᵀ·dY`, overwriting `dw`: the gradient of
/// [`matmul`] to its weights.
///
/// The rows are cut into blocks whose number depends on the shape alone; the partial products are
/// added in block order.
///
/// *Shapes*: `x: [n, in]`, `dy: [n, out]`, `dw: [in, out]`. *Cost*: `n·in·out` multiply-adds and at
/// most 32 arrays of `dw`'s size.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul_tn<F: Scalar>(x: ArrayView2<F>, dy: ArrayView2<F>, dw: ArrayViewMut2<F>) {
    matmul_tn_with(Isa::best(), x, dy, dw);
}

crate::scalar::compiled_here! {
    /// [`matmul_tn`] with the instructions of one level.
    ///
    /// # Panics
    /// As [`matmul_tn`], and if the processor does not have the level.
    #[doc(hidden)]
    pub fn matmul_tn_with<F>(isa: Isa, x: ArrayView2<'a, F>, dy: ArrayView2<'a, F>, dw: ArrayViewMut2<'a, F>) = product_tn
}

fn product_tn<F: Scalar>(isa: Isa, x: ArrayView2<F>, dy: ArrayView2<F>, dw: ArrayViewMut2<F>) {
    assert!(
        x.nrows() == dy.nrows() && dw.dim() == (x.ncols(), dy.ncols()),
        "matmul_tn: x {:?}, dy {:?}, dw {:?}",
        x.dim(),
        dy.dim(),
        dw.dim()
    );
    if dw.is_empty() {
        return;
    }
    count(x.len() * dy.ncols());
    let (dim, rows) = (dw.dim(), x.nrows());
    let blocks = blocks_of(rows, rows.div_ceil(partial_blocks(rows, dw.len())));
    let part = |block: Range<usize>| {
        let mut sum = buffer::zeros(dim);
        let (x, dy) = (
            x.slice_axis(Axis(0), Slice::from(block.clone())),
            dy.slice_axis(Axis(0), Slice::from(block)),
        );
        match gemm(isa) {
            Some(kernel) if fast_tn(kernel, x, dy, &mut sum) => (),
            _ => library_product(x.t(), dy, F::zero(), &mut sum.view_mut()),
        }
        Buffer::of(sum).expect("rows lie one after the other")
    };
    let mut partials: Vec<Buffer<F>> = match blocks.len() {
        0 => vec![Buffer::zeros(dw.len())],
        // There is one block where it is not worth more.
        _ => run(blocks, SERIAL_WORK, part),
    };
    overwrite_rows(dw, |dw| match &mut partials[..] {
        [only] => dw.copy_from_slice(only),
        partials => add_in_order(partials, dw),
    });
}

/// `sum += Xᵀ·dY` by packing both operands, some rows at a time; says whether it could.
fn fast_tn<F: Scalar>(
    kernel: &GemmKernel,
    x: ArrayView2<F>,
    dy: ArrayView2<F>,
    sum: &mut Array2<F>,
) -> bool {
    let (Some(x), Some(dy)) = (x.to_slice().and_then(F::as_f32), dy.to_slice().and_then(F::as_f32))
    else {
        return false;
    };
    let (inputs, outputs) = sum.dim();
    let Some(sum) = sum.as_slice_mut().and_then(F::as_f32_mut) else { return false };
    let (mut left, mut right) = (Vec::new(), Panels::default());
    for (x, dy) in x.chunks(PACKED_ROWS * inputs).zip(dy.chunks(PACKED_ROWS * outputs)) {
        let rows = x.len() / inputs;
        right.pack(kernel, dy, (rows, outputs), (outputs, 1));
        let strips = sum.chunks_mut(kernel.rows * outputs);
        for (first, sum) in (0..inputs).step_by(kernel.rows).zip(strips) {
            let height = kernel.rows.min(inputs - first);
            left.clear();
            x.chunks_exact(inputs)
                .for_each(|row| left.extend_from_slice(&row[first..first + height]));
            let epilogue = Epilogue { add: true, ..Epilogue::NONE };
            (kernel.block)(
                &GemmBlock {
                    a: &left,
                    rows: height,
                    row_stride: 1,
                    inner_stride: height,
                    b: &right,
                    epilogue,
                },
                sum,
            );
        }
    }
    true
}

/// How many blocks a sum over `rows` rows is cut into that yields `len` numbers.
fn partial_blocks(rows: usize, len: usize) -> usize {
    let worth = rows * len / BLOCK_WORK;
    worth.min(MAX_PARTIALS).min(rows / 64).min(MAX_PARTIAL_NUMBERS / len.max(1)).max(1)
}

/// `out = Σ_b partials[b]`, each number summed in block order.
fn add_in_order<F: Scalar>(partials: &[Buffer<F>], out: &mut [F]) {
    for_each_chunk(out, |offset, out| {
        let (first, rest) = partials.split_first().expect("there is at least one block");
        out.copy_from_slice(&first[offset..][..out.len()]);
        for partial in rest {
            out.iter_mut().zip(&partial[offset..]).for_each(|(sum, &term)| *sum += term);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::{add_bias, column_sums};
    use super::*;
    use crate::kernels::cases::{assert_close, assert_same_in_all_pools, dense, wide_dense};
    use crate::kernels::reference;

    /// Rows, inner and outer width: empty in every place, tiny, around the block height, tall,
    /// wide.
    const SHAPES: [(usize, usize, usize); 14] = [
        (0, 3, 2),
        (3, 0, 2),
        (3, 2, 0),
        (1, 1, 1),
        (2, 3, 4),
        (63, 7, 1),
        (65, 1, 7),
        (130, 40, 16),
        (1500, 16, 7),
        (2500, 33, 20),
        (64, 300, 130),
        (700, 130, 65),
        (70, 1100, 50),
        // Partial sums of more numbers than one chunk of them has.
        (500, 150, 140),
    ];

    type Product<F> = fn(ArrayView2<F>, ArrayView2<F>, ArrayViewMut2<F>);

    fn assert_agrees<F: Scalar>(
        ours: impl Fn(ArrayView2<F>, ArrayView2<F>, ArrayViewMut2<F>),
        naive: Product<f64>,
        x: &Array2<F>,
        w: &Array2<F>,
        dim: (usize, usize),
        terms: usize,
    ) {
        let mut found = Array2::from_elem(dim, F::nan());
        ours(x.view(), w.view(), found.view_mut());
        let (x, w) = (wide_dense(x.view()), wide_dense(w.view()));
        let (mut exact, mut magnitude) = (Array2::zeros(dim), Array2::zeros(dim));
        naive(x.view(), w.view(), exact.view_mut());
        naive(x.mapv(f64::abs).view(), w.mapv(f64::abs).view(), magnitude.view_mut());
        assert_close(
            found.view(),
            exact.view(),
            magnitude.view(),
            terms,
            &format!("{:?} by {:?}", x.dim(), w.dim()),
        );
    }

    fn all_products_agree<F: Scalar>() {
        for (n, k, o) in SHAPES {
            let (x, w, dy) = (dense::<F>(n, k, 1), dense(k, o, 2), dense(n, o, 3));
            assert_agrees(matmul_nt, reference::matmul_nt, &dy, &w, (n, k), o);
            assert_agrees(
                |x, w, y| matmul_packed(x, &PackedWeight::new(w), y, Epilogue::NONE),
                reference::matmul,
                &x,
                &w,
                (n, o),
                k,
            );
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                assert_agrees(
                    |x, w, y| matmul_with(isa, x, w, y, Epilogue::NONE),
                    reference::matmul,
                    &x,
                    &w,
                    (n, o),
                    k,
                );
                assert_agrees(
                    |x, dy, dw| matmul_tn_with(isa, x, dy, dw),
                    reference::matmul_tn,
                    &x,
                    &dy,
                    (k, o),
                    n,
                );
            }
        }
    }

    #[test]
    fn products_agree_with_the_reference() {
        all_products_agree::<f32>();
        all_products_agree::<f64>();
    }

    #[test]
    fn the_epilogue_does_what_follows_the_bare_product() {
        for (n, k, o) in [(2, 0, 3), (65, 7, 1), (130, 600, 40), (70, 1100, 50)] {
            let (x, w, before) = (dense::<f32>(n, k, 1), dense(k, o, 2), dense::<f32>(n, o, 3));
            let bias: Vec<f32> = (0..o).map(|c| c as f32 / 8.0 - 1.0).collect();
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                let run = |epilogue| {
                    let mut y = before.clone();
                    matmul_with(isa, x.view(), w.view(), y.view_mut(), epilogue);
                    y
                };
                let bare = run(Epilogue::NONE);
                let relu = run(Epilogue { bias: Some(&bias), relu: true, add: false });
                let mut expected = bare.clone();
                add_bias(expected.view_mut(), &bias);
                assert_eq!(relu, expected.mapv(|v| v.max(0.0)), "{isa:?} bias and activation");
                let added = run(Epilogue { add: true, ..Epilogue::NONE });
                let magnitude = Array2::from_elem((n, o), k as f64 + 1.0);
                assert_close(
                    added.view(),
                    wide_dense((&bare + &before).view()).view(),
                    magnitude.view(),
                    k + 1,
                    "added",
                );
            }
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        for (n, k, o) in SHAPES.into_iter().chain([(20_000, 30, 20)]) {
            let (x, w, dy) = (dense::<f32>(n, k, 4), dense(k, o, 5), dense(n, o, 6));
            assert_same_in_all_pools(|| {
                let (mut y, mut dx, mut dw) =
                    (Array2::zeros((n, o)), Array2::zeros((n, k)), Array2::zeros((k, o)));
                let mut db = vec![0.0; o];
                matmul(x.view(), w.view(), y.view_mut());
                matmul_nt(dy.view(), w.view(), dx.view_mut());
                matmul_tn(x.view(), dy.view(), dw.view_mut());
                column_sums(dy.view(), &mut db);
                add_bias(y.view_mut(), &db);
                (y, dx, dw, db)
            });
        }
    }

    #[test]
    fn where_a_row_stands_does_not_change_its_bits() {
        let (x, w) = (dense::<f32>(700, 130, 7), dense(130, 65, 8));
        let mut whole = Array2::zeros((700, 65));
        matmul(x.view(), w.view(), whole.view_mut());
        for begin in [1, 63, 64, 200] {
            let mut part = Array2::zeros((300, 65));
            matmul(
                x.slice_axis(Axis(0), Slice::from(begin..begin + 300)),
                w.view(),
                part.view_mut(),
            );
            assert_eq!(
                part,
                whole.slice_axis(Axis(0), Slice::from(begin..begin + 300)),
                "rows from {begin}"
            );
        }
    }

    #[test]
    fn strided_operands_are_taken() {
        let (x, w) = (dense::<f64>(200, 40, 9), dense::<f64>(40, 30, 10));
        let mut y = Array2::zeros((30, 200));
        matmul(x.t().as_standard_layout().t(), w.view(), y.view_mut().reversed_axes());
        let mut expected = Array2::zeros((200, 30));
        reference::matmul(x.view(), w.view(), expected.view_mut());
        let magnitude = Array2::from_elem(expected.dim(), 40.0);
        assert_close(y.t(), expected.view(), magnitude.view(), 40, "strided");
    }

    #[test]
    #[should_panic(expected = "matmul_tn: x (3, 2), dy (4, 2)")]
    fn shapes_are_checked() {
        matmul_tn(
            Array2::<f32>::zeros((3, 2)).view(),
            Array2::zeros((4, 2)).view(),
            Array2::zeros((2, 2)).view_mut(),
        );
    }
}
