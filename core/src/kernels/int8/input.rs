//! The product of a model's real input with an 8-bit weight: rows are quantised where they are
//! multiplied, while they are in the cache.
//!
//! Reading the input is most of the cost, so it is read once and its integers are never written to
//! memory.

use super::finish::{Finish, Out};
use super::levels::kernels;
use super::packed::PackedInt8;
use super::portable::{DenseJob, SparseInt8, SparseJob};
use super::product::{matmul_int8_with, spmm_int8_with};
use crate::kernels::blocks::{blocks_by_nonzeros, blocks_of, parts_for, run};
use crate::kernels::simd::Isa;
use crate::value::ValueRef;
use std::ops::Range;

/// Rows that are quantised together: a stretch of the input that fits the cache near the core, and
/// is read in long runs.
const ROWS: usize = 64;

/// An 8-bit weight in both layouts: gathered by row for sparse rows of the input, packed for dense
/// ones.
#[derive(Debug, Clone)]
pub struct InputWeight {
    packed: PackedInt8,
}

impl InputWeight {
    /// Lays out `w: [inner, width]`, row by row.
    ///
    /// # Panics
    /// If the slice has another length.
    pub fn new(w: &[i8], inner: usize, width: usize) -> Self {
        Self { packed: PackedInt8::new(w, inner, width) }
    }
}

/// Quantises each row of `x` to ±`qmax` by a scale of its own and multiplies it by `w`:
/// `acc_ic = Σ_k q(x_ik) w_kc`, finished into `out`.
///
/// The scales of the rows are written to `scales` and take the place of `finish.rows`; a row with
/// an entry that is not finite gets a scale that is not finite, and its output means nothing.
///
/// *Shapes*: `x: [n, inner]`, dense row by row or CSR from entry 0; `w: [inner, width]`,
/// `scales: [n]`, `out: [n, width]`.
///
/// # Panics
/// If the shapes do not fit, or `x` is laid out otherwise.
#[allow(
    clippy::too_many_arguments,
    reason = "a kernel: what it reads, and the two places that it writes"
)]
pub fn input_int8(
    isa: Isa,
    x: ValueRef<f32>,
    w: &InputWeight,
    qmax: i8,
    finish: Finish,
    scales: &mut [f32],
    mut out: Out,
) {
    let (rows, inner) = x.shape();
    let width = w.packed.width;
    assert!(
        inner == w.packed.inner && scales.len() == rows,
        "input_int8: x {:?}, weight {:?}",
        x.shape(),
        (w.packed.inner, width)
    );
    if width == 0 {
        return;
    }
    let work = x.stored() * width;
    let blocks = match x {
        ValueRef::Dense(_) => {
            blocks_of(rows, rows.div_ceil(parts_for(work)).next_multiple_of(ROWS))
        }
        ValueRef::Sparse(x) => blocks_by_nonzeros(x.indptr().raw_storage(), parts_for(work)),
    };
    let mut scales = scales;
    let pieces = blocks.into_iter().map(|block| {
        let scales = scales.split_off_mut(..block.len()).expect("blocks cover the rows");
        let out = out.split_off(block.len() * width);
        (block, scales, out)
    });
    let all = Block { isa, x, w, qmax, finish };
    run(pieces.collect(), work, |(block, scales, out): (Range<usize>, &mut [f32], Out)| {
        all.run(block, scales, out)
    });
}

/// As [`input_int8`], with the integers of the stored entries of `x` in `q` and the scales of its
/// rows in `finish.rows`.
///
/// # Panics
/// If the shapes do not fit.
pub fn quantized_input_int8(
    isa: Isa,
    x: ValueRef<f32>,
    q: &[i8],
    w: &InputWeight,
    finish: Finish,
    out: Out,
) {
    match x {
        ValueRef::Dense(_) => matmul_int8_with(isa, q, &w.packed, finish, out),
        ValueRef::Sparse(x) => {
            let (starts, cols, _) = x.into_raw_storage();
            spmm_int8_with(
                isa,
                SparseInt8 { starts, cols, vals: q },
                &w.packed.rows,
                w.packed.width,
                finish,
                out,
            );
        }
    }
}

/// What the rows of a block are multiplied with.
struct Block<'x, 'a> {
    isa: Isa,
    x: ValueRef<'x, f32>,
    w: &'a InputWeight,
    qmax: i8,
    finish: Finish<'a>,
}

impl Block<'_, '_> {
    fn run(&self, block: Range<usize>, scales: &mut [f32], mut out: Out) {
        let kernels = kernels(self.isa);
        let (inner, width) = (self.w.packed.inner, self.w.packed.width);
        let mut q = Vec::new();
        let mut dense = Vec::new();
        let mut i = block.start;
        for scales in scales.chunks_mut(ROWS) {
            let count = scales.len();
            let mut out = out.split_off(count * width);
            match self.x {
                ValueRef::Dense(x) => {
                    dense.resize(count * inner, 0);
                    let x = &x.as_slice().expect("rows are contiguous here")[i * inner..]
                        [..count * inner];
                    for (k, scale) in scales.iter_mut().enumerate() {
                        *scale = (kernels.quantize_row)(
                            &x[k * inner..][..inner],
                            self.qmax,
                            &mut dense[k * inner..][..inner],
                        );
                    }
                    self.multiply_dense(&dense, scales, out.reborrow());
                }
                ValueRef::Sparse(x) => {
                    let (starts, cols, values) = x.into_raw_storage();
                    let first = starts[i];
                    let starts: [usize; ROWS + 1] =
                        std::array::from_fn(|k| starts[i + k.min(count)] - first);
                    let stored = starts[count];
                    let (cols, values) = (&cols[first..][..stored], &values[first..][..stored]);
                    q.resize(stored, 0);
                    for (k, scale) in scales.iter_mut().enumerate() {
                        let entries = starts[k]..starts[k + 1];
                        *scale = (kernels.quantize_row)(
                            &values[entries.clone()],
                            self.qmax,
                            &mut q[entries],
                        );
                    }
                    let finish = Finish { rows: Some(scales), ..self.finish };
                    let a = SparseInt8 { starts: &starts[..=count], cols, vals: &q };
                    (kernels.spmm)(
                        &SparseJob { a, x: &self.w.packed.rows, width, finish },
                        0..count,
                        out,
                    );
                }
            }
            i += count;
        }
    }

    fn multiply_dense(&self, x: &[i8], scales: &[f32], out: Out) {
        let finish = Finish { rows: Some(scales), ..self.finish };
        (kernels(self.isa).matmul)(
            &DenseJob { x, w: &self.w.packed, finish },
            0..scales.len(),
            out,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::finish::Activate;
    use super::*;
    use crate::kernels::cases::{self, SHAPES, assert_same_in_all_pools};
    use crate::kernels::{quantize_rows, reference};
    use crate::value::{Csr, Value};

    fn ints(count: usize) -> Vec<i8> {
        (0..count).map(|k| ((k * 89 + 7) % 255) as i8).map(|q| q.max(-127)).collect()
    }

    fn run(isa: Isa, x: ValueRef<f32>, w: &[i8], width: usize) -> (Vec<f32>, Vec<f32>) {
        let (rows, inner) = x.shape();
        let (mut scales, mut y) = (vec![0.0; rows], vec![f32::NAN; rows * width]);
        let cols = vec![0.01; width];
        let finish = Finish { rows: None, cols: &cols, bias: None, activate: Activate::Relu };
        input_int8(
            isa,
            x,
            &InputWeight::new(w, inner, width),
            127,
            finish,
            &mut scales,
            Out::Real(&mut y),
        );
        (scales, y)
    }

    /// The same in two passes over the whole input.
    fn expected(x: &Csr<f32>, w: &[i8], width: usize) -> (Vec<f32>, Vec<f32>) {
        let (starts, cols, values) = x.view().into_raw_storage();
        let (mut q, mut scales) = (vec![0; values.len()], vec![0.0; x.rows()]);
        quantize_rows(starts, values, 127, &mut q, &mut scales);
        let acc = reference::spmm_int8(starts, cols, &q, w, width);
        let y = acc
            .iter()
            .enumerate()
            .map(|(at, &acc)| reference::rescale(acc, scales[at / width], 0.01, None).max(0.0))
            .collect();
        (scales, y)
    }

    #[test]
    fn every_level_is_the_reference_for_sparse_and_dense_rows() {
        for (rows, inner, degree) in SHAPES.into_iter().filter(|shape| shape.1 > 0) {
            let x = cases::sparse::<f32>(rows, inner, degree, 1);
            for width in [1, 7, 16, 17, 64, 70, 300] {
                let w = ints(inner * width);
                let expected = expected(&x, &w, width);
                for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                    assert_eq!(
                        run(isa, ValueRef::Sparse(x.view()), &w, width),
                        expected,
                        "{isa:?} sparse {rows}x{inner} width {width}"
                    );
                    let x = Value::Sparse(x.clone()).into_dense();
                    assert_eq!(
                        run(isa, ValueRef::Dense(x.view()), &w, width),
                        expected,
                        "{isa:?} dense {rows}x{inner} width {width}"
                    );
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        for degree in [9, 60] {
            let (x, w) = (cases::sparse::<f32>(3000, 100, degree, 2), ints(100 * 33));
            assert_same_in_all_pools(|| run(Isa::best(), ValueRef::Sparse(x.view()), &w, 33));
        }
    }
}
