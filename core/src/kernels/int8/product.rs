//! The products of 8-bit integers: what is checked, and how the rows are cut.

use super::finish::{Finish, Out, for_blocks};
use super::levels::kernels;
use super::packed::PackedInt8;
use super::portable::{DenseJob, SparseInt8, SparseJob};
use crate::kernels::blocks::{Cut, parts_for};
use crate::kernels::simd::Isa;

/// Most multiply-accumulates of ±127 by ±127 that a 32-bit accumulator surely holds:
/// `⌊(2³¹ − 1) / 127²⌋`. What does not fit wraps.
pub const MOST_TERMS: usize = 133_144;

/// Multiply-accumulates of a block of rows of a dense product.
const BLOCK_WORK: usize = 1 << 22;

/// Sparse × dense product of 8-bit integers, `acc_ic = Σ_j a_ij x_jc`, finished into `out`.
///
/// *Shapes*: `a: [n, m]`, `x: [m, width]`, `out: [n, width]`. *Cost*: `nnz·width`
/// multiply-accumulates on a quarter of the bytes of [`spmm`](fn@crate::kernels::spmm).
/// Accumulators must fit: `Σ_j |a_ij|·127 < 2³¹`, see [`MOST_TERMS`].
///
/// # Panics
/// If the shapes do not fit, or an index of `a` is past the rows of `x`.
pub fn spmm_int8(a: SparseInt8, x: &[i8], width: usize, finish: Finish, out: Out) {
    spmm_int8_with(Isa::best(), a, x, width, finish, out);
}

/// [`spmm_int8`] with the instructions of one level.
///
/// # Panics
/// As [`spmm_int8`], and if the processor does not have the level.
#[doc(hidden)]
pub fn spmm_int8_with(isa: Isa, a: SparseInt8, x: &[i8], width: usize, finish: Finish, out: Out) {
    assert!(!a.starts.is_empty(), "spmm_int8: the left operand has no row ends");
    let rows = a.starts.len() - 1;
    check(&finish, rows, width, &out);
    // The forms of the levels read entries without a check each: all that they rely on is checked
    // here and where a block begins.
    assert!(
        a.starts[0] == 0 && a.starts[rows] == a.cols.len() && a.cols.len() == a.vals.len(),
        "spmm_int8: entries of the left operand"
    );
    assert!(a.starts.is_sorted(), "spmm_int8: a row of the left operand ends before it begins");
    if rows == 0 || width == 0 {
        return;
    }
    assert_eq!(x.len() % width, 0, "spmm_int8: the right operand is whole rows");
    let work = a.cols.len() * width;
    let cut = Cut::ByNonzeros { starts: a.starts, parts: parts_for(work) };
    let job = SparseJob { a, x, width, finish };
    let kernels = kernels(isa);
    for_blocks(out, width, cut, work, |block, out| (kernels.spmm)(&job, block, out));
}

/// Dense product of 8-bit integers, `acc_ic = Σ_k x_ik w_kc`, finished into `out`.
///
/// *Shapes*: `x: [n, inner]`, `w: [inner, width]`, `out: [n, width]`. Accumulators must fit:
/// `127·Σ_k |w_kc| < 2³¹`.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul_int8(x: &[i8], w: &PackedInt8, finish: Finish, out: Out) {
    matmul_int8_with(Isa::best(), x, w, finish, out);
}

/// [`matmul_int8`] with the instructions of one level.
///
/// # Panics
/// As [`matmul_int8`], and if the processor does not have the level.
#[doc(hidden)]
pub fn matmul_int8_with(isa: Isa, x: &[i8], w: &PackedInt8, finish: Finish, out: Out) {
    let rows = out.len() / w.width.max(1);
    check(&finish, rows, w.width, &out);
    assert_eq!(x.len(), rows * w.inner, "matmul_int8: left operand of {rows} rows of {}", w.inner);
    if rows == 0 || w.width == 0 {
        return;
    }
    let row_work = w.inner * w.width;
    let cut = Cut::Even {
        rows,
        height: (BLOCK_WORK / row_work.max(1)).clamp(24, 1024).next_multiple_of(12),
    };
    let job = DenseJob { x, w, finish };
    let kernels = kernels(isa);
    for_blocks(out, w.width, cut, rows * row_work, |block, out| (kernels.matmul)(&job, block, out));
}

fn check(finish: &Finish, rows: usize, width: usize, out: &Out) {
    assert!(
        finish.rows.is_none_or(|scales| scales.len() == rows),
        "integer product: one scale per row"
    );
    assert!(finish.cols.len() == width, "integer product: one scale per column");
    assert!(
        finish.bias.is_none_or(|bias| bias.len() == width),
        "integer product: one bias per column"
    );
    assert!(
        out.len() == rows * width,
        "integer product: {rows} rows of {width} do not fit the output"
    );
}

#[cfg(test)]
mod tests {
    use super::super::Activate;
    use super::*;
    use crate::kernels::cases::{SHAPES, assert_same_in_all_pools, widths};
    use crate::kernels::{cases, reference};
    use crate::seed::generator;
    use rand_chacha::rand_core::RngCore;

    fn levels() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.available())
    }

    /// Integers of 8 bits, the ends often.
    fn ints(count: usize, seed: u64) -> Vec<i8> {
        let mut rng = generator(seed, &[count as u64, 9]);
        let mut draw = || match rng.next_u32() % 8 {
            0 => i8::MAX,
            1 => i8::MIN,
            _ => rng.next_u32() as i8,
        };
        (0..count).map(|_| draw()).collect()
    }

    fn scales(count: usize, seed: u64) -> Vec<f32> {
        cases::dense::<f32>(1, count, seed).iter().map(|v| v.abs() / 100.0 + 1e-3).collect()
    }

    fn relu(y: f32) -> f32 {
        if y < 0.0 { 0.0 } else { y }
    }

    /// Runs `product` to integers and to real numbers with and without bias, and compares each with
    /// the reference.
    fn assert_finishes(acc: &[i32], width: usize, what: &str, product: impl Fn(Finish, Out)) {
        let n = acc.len() / width;
        let (rows, cols, biases) =
            (scales(n, 1), scales(width, 2), cases::dense::<f32>(1, width, 3));
        let tanh = |values: &mut [f32]| values.iter_mut().for_each(|v| *v = v.tanh());
        for case in 0..4 {
            let bias = (case % 2 == 0).then(|| biases.as_slice().unwrap());
            let row_scales = (case < 2).then_some(&rows[..]);
            let activate =
                [Activate::Identity, Activate::Relu, Activate::Map(&tanh), Activate::Relu][case];
            let finish = Finish { rows: row_scales, cols: &cols, bias, activate };
            let (mut q, mut y) = (vec![99i8; acc.len()], vec![f32::NAN; acc.len()]);
            let (scale, qmax) = (0.37, if case == 1 { 7 } else { 127 });
            product(finish, Out::Int { data: &mut q, scale, qmax });
            product(finish, Out::Real(&mut y));
            let mut sum = vec![0.5f32; acc.len()];
            product(finish, Out::Added(&mut sum));
            for (at, &acc) in acc.iter().enumerate() {
                let (i, c) = (at / width, at % width);
                let row = row_scales.map_or(1.0, |rows| rows[i]);
                let activated = |real: f32| match case {
                    0 => real,
                    2 => real.tanh(),
                    _ => relu(real),
                };
                let real =
                    activated(reference::rescale(acc, row, cols[c], bias.map(|bias| bias[c])));
                let added = 0.5 + reference::rescale(acc, row, cols[c], None);
                let added = activated(bias.map_or(added, |bias| added + bias[c]));
                assert_eq!(
                    sum[at].to_bits(),
                    added.to_bits(),
                    "{what} case {case} at {i}, {c}: {} for {added}",
                    sum[at]
                );
                assert_eq!(
                    y[at].to_bits(),
                    real.to_bits(),
                    "{what} case {case} at {i}, {c}: {} for {real}",
                    y[at]
                );
                assert_eq!(
                    q[at],
                    reference::requantize(real, scale, qmax),
                    "{what} case {case} at {i}, {c}: {real}"
                );
            }
        }
    }

    #[test]
    fn every_level_of_the_sparse_product_is_the_reference_at_every_width() {
        for (rows, inner, degree) in SHAPES {
            let a = cases::sparse::<f32>(rows, inner, degree, 1);
            let (starts, cols, _) = a.view().into_raw_storage();
            let vals = ints(cols.len(), 2);
            for width in widths().chain([320, 515]) {
                let x = ints(inner * width, 3);
                let acc = reference::spmm_int8(starts, cols, &vals, &x, width);
                for isa in levels() {
                    assert_finishes(
                        &acc,
                        width,
                        &format!("{isa:?} {rows}x{inner} width {width}"),
                        |finish, out| {
                            spmm_int8_with(
                                isa,
                                SparseInt8 { starts, cols, vals: &vals },
                                &x,
                                width,
                                finish,
                                out,
                            );
                        },
                    );
                }
            }
        }
    }

    #[test]
    fn rows_of_one_number_are_the_reference_at_every_width_and_length() {
        for (value, degree) in [(127, 3), (-127, 700), (1, 256), (0, 5)] {
            let (rows, inner) = (4, 900);
            let starts: Vec<usize> = (0..=rows).map(|i| i * degree).collect();
            let cols: Vec<u32> = (0..rows * degree).map(|e| (e * 37 % inner) as u32).collect();
            let vals = vec![value; rows * degree];
            for width in widths().chain([144, 320, 515]) {
                // The longest row at its largest: what 16 bits cannot hold.
                let x =
                    if degree > 500 { vec![127; inner * width] } else { ints(inner * width, 3) };
                let acc = reference::spmm_int8(&starts, &cols, &vals, &x, width);
                for isa in levels() {
                    assert_finishes(
                        &acc,
                        width,
                        &format!("{isa:?} {degree} times {value} width {width}"),
                        |finish, out| {
                            spmm_int8_with(
                                isa,
                                SparseInt8 { starts: &starts, cols: &cols, vals: &vals },
                                &x,
                                width,
                                finish,
                                out,
                            );
                        },
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_and_scales_that_cannot_be_inverted_finish_alike_at_every_level() {
        // From left to right: infinite both ways, NaN by a bias, huge, and tiny.
        let (x, w) = ([1i8; 2], vec![100i8; 2 * 21]);
        let packed = PackedInt8::new(&w, 2, 21);
        let cols: Vec<f32> =
            (0..21).map(|c| [f32::MAX, -f32::MAX, f32::INFINITY, 1e30, 1e-42][c % 5]).collect();
        let bias: Vec<f32> =
            (0..21).map(|c| if c % 5 == 2 { f32::NEG_INFINITY } else { 0.0 }).collect();
        for scale in [1e-3, 1e35, 1e-38] {
            for activate in [Activate::Identity, Activate::Relu] {
                let on = |isa| {
                    let mut q = [99i8; 21];
                    let finish = Finish { rows: None, cols: &cols, bias: Some(&bias), activate };
                    matmul_int8_with(
                        isa,
                        &x,
                        &packed,
                        finish,
                        Out::Int { data: &mut q, scale, qmax: 127 },
                    );
                    q
                };
                let expected = on(Isa::Portable);
                levels().for_each(|isa| assert_eq!(on(isa), expected, "{isa:?} {scale:e}"));
            }
        }
    }

    #[test]
    fn every_level_of_the_dense_product_is_the_reference_at_every_width() {
        for (rows, inner) in
            [(0, 3), (1, 1), (3, 2), (5, 4), (7, 7), (4, 64), (9, 129), (130, 33), (2, 0)]
        {
            for width in widths() {
                let (x, w) = (ints(rows * inner, 4), ints(inner * width, 5));
                let packed = PackedInt8::new(&w, inner, width);
                let acc = if inner == 0 {
                    vec![0; rows * width]
                } else {
                    reference::matmul_int8(&x, &w, inner, width)
                };
                for isa in levels() {
                    assert_finishes(
                        &acc,
                        width,
                        &format!("{isa:?} {rows}x{inner} width {width}"),
                        |finish, out| {
                            matmul_int8_with(isa, &x, &packed, finish, out);
                        },
                    );
                }
            }
        }
    }

    #[test]
    fn the_largest_integers_neither_saturate_nor_overflow() {
        let count = MOST_TERMS;
        let (cols, starts) = ((0..count as u32).collect::<Vec<_>>(), [0, count]);
        for (left, right) in [(127, 127), (-127, 127), (127, -127), (-127, -127)] {
            let (vals, x) = (vec![left; count], vec![right; count * 3]);
            let exact = i32::from(left) * i32::from(right) * count as i32;
            for isa in levels() {
                let mut y = [0.0; 3];
                let finish = Finish {
                    rows: None,
                    cols: &[1.0; 3],
                    bias: None,
                    activate: Activate::Identity,
                };
                spmm_int8_with(
                    isa,
                    SparseInt8 { starts: &starts, cols: &cols, vals: &vals },
                    &x,
                    3,
                    finish,
                    Out::Real(&mut y),
                );
                assert_eq!(y, [exact as f32; 3], "{isa:?}");
                matmul_int8_with(
                    isa,
                    &vals,
                    &PackedInt8::new(&x, count, 3),
                    finish,
                    Out::Real(&mut y),
                );
                assert_eq!(y, [exact as f32; 3], "{isa:?}");
            }
        }
        assert_eq!(MOST_TERMS, i32::MAX as usize / (127 * 127));
    }

    #[test]
    fn threads_do_not_change_bits() {
        let a = cases::sparse::<f32>(5000, 700, 9, 7);
        let (starts, cols, _) = a.view().into_raw_storage();
        let (vals, row_scales) = (ints(cols.len(), 6), scales(5000, 7));
        let (x, w) = (ints(700 * 70, 8), ints(64 * 33, 9));
        let packed = PackedInt8::new(&w, 64, 33);
        assert_same_in_all_pools(|| {
            let (mut y, mut z) = (vec![0; 5000 * 70], vec![0.0; 700 * 70 / 64 * 33]);
            let finish = Finish {
                rows: Some(&row_scales),
                cols: &[0.01; 70],
                bias: None,
                activate: Activate::Relu,
            };
            let out = Out::Int { data: &mut y, scale: 0.1, qmax: 127 };
            spmm_int8(SparseInt8 { starts, cols, vals: &vals }, &x, 70, finish, out);
            let finish =
                Finish { rows: None, cols: &[0.01; 33], bias: None, activate: Activate::Identity };
            matmul_int8(&x[..z.len() / 33 * 64], &packed, finish, Out::Real(&mut z));
            (y, z.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        });
    }
}
