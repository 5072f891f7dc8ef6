//! Rows in 8 bits: what is kept of a map until the way back.

use crate::kernels::blocks::{Cut, for_row_blocks, map_rows, pieces, run, update_rows, with_rows};
use crate::kernels::buffer::{self, Buffer};
use crate::kernels::dense::matmul_tn;
use crate::kernels::simd::{Isa, by_level};
use crate::scalar::Scalar;
use crate::seed::hash;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

/// Largest code: the range is symmetric.
const LARGEST: f64 = 127.0;

/// Rows that are packed by one thread at a time.
const HEIGHT: usize = 64;

/// Rows that are unpacked at a time where they are read as part of a product.
const ROWS: usize = 1 << 13;

/// An array `[n, c]` with one byte a number and one scale a row, `x_ij ≈ s_i·c_ij` with
/// `s_i = max_j |x_ij| / 127`.
///
/// Rounding is stochastic, so that what is read back is the number in expectation, except that what
/// is positive stays so and what is negative too: backward of ReLU asks for no more than the sign.
/// Below one step that draws numbers away from zero.
///
/// *Source*: Liu et al., "EXACT: Scalable Graph Neural Networks Training via Extreme Activation
/// Compression", ICLR 2022, eq. 3 to 5, there with fewer bits, behind a random projection and with
/// a zero point for each block; 8 bits need neither.
#[derive(Debug, Clone)]
pub struct PackedRows<F> {
    codes: Buffer<i8>,
    scales: Vec<F>,
    width: usize,
}

/// A number in [0, 1) for each place, from a mix of 32 bits (Wellons, "hash-prospector", 2018:
/// `lowbias32`): cheap enough to be drawn for every number of a map.
#[inline(always)]
fn drawn(key: u32, place: u32) -> f32 {
    let mut x = key ^ place.wrapping_mul(0x9e37_79b9);
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^= x >> 16;
    // Of exponent 0 the numbers from 1 to 2; no conversion, which would not be done in vectors.
    f32::from_bits((x >> 9) | 0x3f80_0000) - 1.0
}

/// Added to a small number it leaves its nearest integer in the low bits: 1.5·2²³.
const ROUND: f32 = 12_582_912.0;

/// The code of a number of so many steps, -127 to 127.
#[inline(always)]
fn code(steps: f32, drawn: f32) -> i8 {
    let rounded = ((steps + (drawn - 0.5)) + ROUND).to_bits() as i32 - ROUND.to_bits() as i32;
    let rounded = rounded.clamp(-127, 127);
    let kept = if steps > 0.0 { rounded.max(1) } else { rounded.min(-1) };
    if steps == 0.0 { 0 } else { kept as i8 }
}

/// Writes the codes of a row and returns their scale.
#[inline(always)]
fn pack_here<F: Scalar>(row: &[F], key: u32, codes: &mut [i8]) -> F {
    // A sum is as good as any to find what is not finite, and is done in wide registers.
    let check = row.iter().fold(F::zero(), |sum, &x| sum + x * F::zero());
    let most = row.iter().fold(F::zero(), |most, x| if x.abs() > most { x.abs() } else { most });
    let scale = if check == F::zero() { most / F::of(LARGEST) } else { F::nan() };
    let per_step = if scale > F::zero() { scale.recip() } else { F::zero() };
    match F::as_f32(row).zip(F::as_f32(&[per_step])) {
        Some((row, per_step)) => {
            for (j, (to, &x)) in codes.iter_mut().zip(row).enumerate() {
                *to = code(x * per_step[0], drawn(key, j as u32));
            }
        }
        None => {
            for (j, (to, &x)) in codes.iter_mut().zip(row).enumerate() {
                *to = code((x * per_step).as_f64() as f32, drawn(key, j as u32));
            }
        }
    }
    scale
}

#[inline(always)]
fn unpack_here<F: Scalar>(codes: &[i8], scale: F, row: &mut [F]) {
    match F::as_f32(&[scale]).map(|scale| scale[0]).zip(F::as_f32_mut(row)) {
        Some((scale, row)) => {
            row.iter_mut().zip(codes).for_each(|(to, &code)| *to = f32::from(code) * scale);
        }
        None => {
            let of = |code: i8| F::of(f64::from(code)) * scale;
            row.iter_mut().zip(codes).for_each(|(to, &code)| *to = of(code));
        }
    }
}

by_level! {
    fn pack_row<F>(row: &[F], key: u32, codes: &mut [i8]) -> F = pack_here
}

by_level! {
    fn unpack_row<F>(codes: &[i8], scale: F, row: &mut [F]) = unpack_here
}

crate::scalar::compiled_here! {
    fn packed<F>(x: ArrayView2<'a, F>, key: u64) -> PackedRows<F> = packed_any
}

fn packed_any<F: Scalar>(x: ArrayView2<F>, key: u64) -> PackedRows<F> {
    let (rows, width) = x.dim();
    let (mut codes, mut scales) = (Buffer::zeros(rows * width), vec![F::zero(); rows]);
    let isa = Isa::best();
    let blocks: Vec<_> = (0..rows).step_by(HEIGHT).map(|i| i..(i + HEIGHT).min(rows)).collect();
    with_rows(x, |x| {
        let codes = pieces(&mut codes, &blocks, |i| i * width);
        let scales = pieces(&mut scales, &blocks, |i| i);
        let jobs = blocks.iter().cloned().zip(codes.into_iter().zip(scales)).collect();
        run(jobs, rows * width, |(block, (codes, scales))| {
            for (at, (i, scale)) in block.zip(scales).enumerate() {
                let key = hash(key, &[i as u64]) as u32;
                let row = &x[i * width..(i + 1) * width];
                *scale = pack_row(isa, row, key, &mut codes[at * width..(at + 1) * width]);
            }
        });
    });
    PackedRows { codes, scales, width }
}

crate::scalar::compiled_here! {
    fn unpacked<F>(rows: &'a PackedRows<F>, first: usize, to: ArrayViewMut2<'a, F>) = unpacked_any
}

fn unpacked_any<F: Scalar>(rows: &PackedRows<F>, first: usize, to: ArrayViewMut2<F>) {
    let (isa, width) = (Isa::best(), rows.width);
    assert!(to.ncols() == width && first + to.nrows() <= rows.scales.len(), "rows to unpack");
    map_rows(to, |i, row| {
        let i = first + i;
        unpack_row(isa, &rows.codes[i * width..(i + 1) * width], rows.scales[i], row);
    });
}

impl<F: Scalar> PackedRows<F> {
    /// The rows of `x` in 8 bits, rounded by draws that follow `key`, row and column. What is not
    /// finite has no code and makes its row NaN.
    pub fn of(x: ArrayView2<F>, key: u64) -> Self {
        packed(x, key)
    }

    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        (self.scales.len(), self.width)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.codes.len() + self.scales.len() * F::BYTES
    }

    /// Writes rows from `first` on as numbers, as many as `to` has.
    ///
    /// # Panics
    /// If there are fewer, or the width is another.
    pub fn unpack(&self, first: usize, to: ArrayViewMut2<F>) {
        unpacked(self, first, to);
    }

    /// Runs `f(row of X, row of y)` for every row of `y`, which has the shape of `X`, each unpacked
    /// while it is read.
    ///
    /// # Panics
    /// If the shape is another.
    pub fn for_each_row(&self, y: ArrayViewMut2<F>, f: impl Fn(&[F], &mut [F]) + Sync) {
        assert_eq!(y.dim(), self.dim(), "rows beside packed ones");
        let (isa, width) = (Isa::best(), self.width);
        let rows = y.nrows();
        update_rows(y, |y| {
            let cut = Cut::Even { rows, height: HEIGHT };
            for_row_blocks(y, width, cut, rows * width, |block, y| {
                let mut own = vec![F::zero(); width];
                for (i, y) in block.zip(y.chunks_exact_mut(width.max(1))) {
                    let codes = &self.codes[i * width..(i + 1) * width];
                    unpack_row(isa, codes, self.scales[i], &mut own);
                    f(&own, y);
                }
            });
        });
    }

    /// `Xᵀ·dY`, unpacking some rows at a time. *Shapes*: `dy: [n, out]`, result `[c, out]`.
    ///
    /// # Panics
    /// If `dy` has other rows.
    pub fn product_tn(&self, dy: ArrayView2<F>) -> Array2<F> {
        let rows = self.scales.len();
        assert_eq!(dy.nrows(), rows, "rows of X and dY");
        let mut dw = Array2::zeros((self.width, dy.ncols()));
        let mut part = Array2::zeros(dw.dim());
        let mut some = buffer::zeros((ROWS.min(rows), self.width));
        for start in (0..rows).step_by(ROWS) {
            let end = (start + ROWS).min(rows);
            if end - start < some.nrows() {
                some = buffer::zeros((end - start, self.width));
            }
            self.unpack(start, some.view_mut());
            matmul_tn(some.view(), dy.slice(s![start..end, ..]), part.view_mut());
            dw += &part;
        }
        dw
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::{assert_same_in_all_pools, dense};

    #[test]
    fn numbers_come_back_within_a_step_with_their_sign_and_right_on_average() {
        let mut x = dense::<f32>(40, 33, 1);
        x[[3, 5]] = 0.0;
        x[[4, 0]] = 1e-4;
        x[[4, 1]] = -1e-4;
        x.row_mut(7).fill(0.0);
        let mut mean = Array2::<f64>::zeros(x.dim());
        let (draws, mut back) = (400, Array2::zeros(x.dim()));
        for key in 0..draws {
            let packed = PackedRows::of(x.view(), key);
            packed.unpack(0, back.view_mut());
            for ((i, j), &x) in x.indexed_iter() {
                let (step, back) = (packed.scales[i], back[[i, j]]);
                assert!((back - x).abs() <= step * 1.0001, "{i} {j}");
                assert!((x == 0.0 && back == 0.0) || x * back > 0.0 || step == 0.0, "{i} {j}");
            }
            mean.zip_mut_with(&back, |mean, &back| *mean += f64::from(back) / draws as f64);
        }
        for ((i, j), &x) in x.indexed_iter() {
            let most = back.row(i).iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let step = f64::from(most) / LARGEST;
            // Below a step the sign is kept and not the mean.
            if f64::from(x.abs()) > step {
                assert!((mean[[i, j]] - f64::from(x)).abs() < 0.15 * step, "{i} {j}");
            }
        }
    }

    #[test]
    fn the_product_is_that_of_what_comes_back_in_any_pool() {
        let (x, dy) = (dense::<f64>(ROWS + 100, 6, 1), dense::<f64>(ROWS + 100, 4, 2));
        let packed = PackedRows::of(x.view(), 9);
        let mut back = Array2::zeros(x.dim());
        packed.unpack(0, back.view_mut());
        let expected = back.t().dot(&dy);
        approx::assert_relative_eq!(packed.product_tn(dy.view()), expected, epsilon = 1e-9);
        assert_same_in_all_pools(|| PackedRows::of(x.view(), 9).product_tn(dy.view()));
        let mut times = Array2::ones(x.dim());
        packed.for_each_row(times.view_mut(), |x, y| y.copy_from_slice(x));
        assert_eq!(times, back);
        assert_eq!((packed.dim(), packed.bytes()), ((ROWS + 100, 6), (ROWS + 100) * 14));
    }

    #[test]
    fn what_is_not_finite_does_not_become_a_number() {
        let x = ndarray::array![[1.0f32, f32::INFINITY], [f32::NAN, 1.0], [2.0, 1.0]];
        let mut back = Array2::zeros(x.dim());
        PackedRows::of(x.view(), 0).unpack(0, back.view_mut());
        assert!(back.row(0).iter().chain(back.row(1)).all(|v| v.is_nan()));
        assert!(back.row(2).iter().all(|v| v.is_finite()));
    }
}
