//! Products that take over the memory of their input, some rows or columns at a time.

use super::matmul::matmul_packed;
use super::weight::PackedWeight;
use crate::kernels::blocks::{copy_rows, map_rows};
use crate::kernels::buffer;
use crate::kernels::epilogue::Epilogue;
use crate::kernels::sparse::spmm_then;
use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::{Array2, ArrayView2, s};

/// Rows that are copied aside at a time: enough for all threads, and a few megabytes.
const ROWS: usize = 1 << 13;

/// Columns that are copied aside at a time: four cache lines of a row that is fetched.
const COLUMNS: usize = 64;

/// `X ← X·W` for a square `W`: [`matmul`](super::matmul()) without a second array of the size of
/// `X`, to the same bits.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul_over<F: Scalar>(x: &mut Array2<F>, w: ArrayView2<F>) {
    assert!(
        w.is_square() && x.ncols() == w.nrows(),
        "matmul_over: x {:?}, w {:?}",
        x.dim(),
        w.dim()
    );
    let (rows, width) = x.dim();
    let packed = PackedWeight::new(w);
    let mut aside = buffer::zeros((ROWS.min(rows), width));
    for start in (0..rows).step_by(ROWS) {
        let mut block = x.slice_mut(s![start..(start + ROWS).min(rows), ..]);
        let mut aside = aside.slice_mut(s![..block.nrows(), ..]);
        copy_rows(block.view(), aside.view_mut());
        matmul_packed(aside.view(), &packed, block.view_mut(), Epilogue::NONE);
    }
}

/// `X ← A·X + b` for a square `A`: [`spmm`](crate::kernels::spmm()) with a second array of 64
/// columns of `X` only, to the same bits.
///
/// # Panics
/// If the shapes do not fit, or `a` is stored by columns.
pub fn spmm_over<F: Scalar>(a: CsrView<F>, x: &mut Array2<F>, bias: Option<&[F]>) {
    let (rows, width) = x.dim();
    assert!(
        a.shape() == (rows, rows) && x.is_standard_layout(),
        "spmm_over: a {:?}, x {:?}",
        a.shape(),
        x.dim()
    );
    if x.is_empty() {
        return;
    }
    let strip = COLUMNS.min(width);
    let mut from = buffer::zeros((rows, strip));
    let mut to = buffer::zeros((ROWS.min(rows), strip));
    for first in (0..width).step_by(COLUMNS) {
        let columns = first..(first + COLUMNS).min(width);
        if columns.len() < strip {
            from = buffer::zeros((rows, columns.len()));
            to = buffer::zeros((ROWS.min(rows), columns.len()));
        }
        let bias = bias.map(|bias| &bias[columns.clone()]);
        let all = x.as_slice().expect("in standard layout");
        map_rows(from.view_mut(), |i, row| {
            row.copy_from_slice(&all[i * width..][columns.clone()]);
        });
        for start in (0..rows).step_by(ROWS) {
            let block = start..(start + ROWS).min(rows);
            let mut to = to.slice_mut(s![..block.len(), ..]);
            let some = a.slice_outer(block.clone());
            spmm_then(some, from.view(), to.view_mut(), Epilogue { bias, ..Epilogue::NONE });
            let to = to.as_slice().expect("rows of an array in standard layout");
            map_rows(x.slice_mut(s![block, ..]), |i, row| {
                row[columns.clone()].copy_from_slice(&to[i * columns.len()..][..columns.len()]);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::{assert_same_in_all_pools, dense, sparse};
    use crate::kernels::{matmul, matmul_nt};

    #[test]
    fn they_are_the_products_to_the_bit_at_every_width_and_number_of_blocks() {
        for (rows, width) in [(1, 1), (7, 3), (ROWS + 5, 16), (2 * ROWS + 1, 70), (300, 256)] {
            let (x, w) = (dense::<f32>(rows, width, 1), dense::<f32>(width, width, 2));
            let over = |x: &Array2<f32>, f: &dyn Fn(&mut Array2<f32>)| {
                let mut over = x.clone();
                f(&mut over);
                over
            };
            let mut expected = Array2::zeros(x.dim());
            matmul(x.view(), w.view(), expected.view_mut());
            assert_eq!(over(&x, &|x| matmul_over(x, w.view())), expected, "{rows} {width}");
            matmul_nt(x.view(), w.view(), expected.view_mut());
            assert_eq!(over(&x, &|x| matmul_over(x, w.t())), expected, "{rows} {width}");
            let (a, bias) = (sparse::<f32>(rows, rows, 3, 3), dense::<f32>(1, width, 4));
            let bias = bias.as_slice();
            let epilogue = Epilogue { bias, ..Epilogue::NONE };
            spmm_then(a.view(), x.view(), expected.view_mut(), epilogue);
            assert_eq!(over(&x, &|x| spmm_over(a.view(), x, bias)), expected, "{rows} {width}");
        }
        let (x, w) = (dense::<f32>(ROWS + 5, 16, 1), dense::<f32>(16, 16, 2));
        assert_same_in_all_pools(|| {
            let mut over = x.clone();
            matmul_over(&mut over, w.view());
            over
        });
    }
}
