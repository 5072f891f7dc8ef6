//! Dot products and weighted sums head by head: what attention's scores are made of, and their
//! gradients.
//!
//! Loops are `for` loops here and not `for_each`: the function that an iterator hides behind it may
//! stay outside and be compiled for the plainest processor.

use crate::kernels::blocks::{CHUNK, blocks_of, pieces, run};
use crate::kernels::simd::{Isa, array, by_level};
use crate::kernels::work::count;
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};
use std::ops::Range;

/// Rows whose sum one part of [`head_sums`] takes. A constant, so that the bits do not depend on
/// the number of threads.
const SUM_ROWS: usize = 1024;

/// `y_hc += a_h x_hc`; `D` is the number of channels per head where the compiler is to know it,
/// else 0.
#[inline(always)]
pub(super) fn add_heads<F: Scalar, const D: usize>(a: &[F], x: &[F], dim: usize, y: &mut [F]) {
    let dim = if D == 0 { dim } else { D };
    for ((y, x), &a) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(a) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y += a * x;
        }
    }
}

/// `Σ_c a_c b_c`, in eight partial sums.
#[inline(always)]
pub(super) fn dot<F: Scalar>(a: &[F], b: &[F]) -> F {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [F::zero(); 8];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let four: [F; 4] = array(|lane| sums[lane] + sums[lane + 4]);
    let mut tail = F::zero();
    for (&a, &b) in a_tail.iter().zip(b_tail) {
        tail += a * b;
    }
    (four[0] + four[2]) + (four[1] + four[3]) + tail
}

/// `out_h = Σ_c a_hc b_hc`; `D` as in [`add_heads`].
#[inline(always)]
pub(super) fn dots<F: Scalar, const D: usize>(a: &[F], b: &[F], dim: usize, out: &mut [F]) {
    let dim = if D == 0 { dim } else { D };
    for (out, (a, b)) in out.iter_mut().zip(a.chunks_exact(dim).zip(b.chunks_exact(dim))) {
        *out = dot(a, b);
    }
}

/// `out_ih = Σ_c z_ihc a_hc` for each `a`. *Shapes*: `z: [n, heads·dim]`, `a: [heads·dim]`,
/// `out: [n, heads]`.
///
/// # Panics
/// If the shapes do not fit.
pub fn head_dots<F: Scalar, const N: usize>(
    z: ArrayView2<F>,
    att: [&[F]; N],
    mut out: [Array2<F>; N],
) -> [Array2<F>; N] {
    let (n, width) = z.dim();
    let heads = out[0].ncols();
    let fits =
        att.iter().all(|att| att.len() == width) && out.iter().all(|out| out.dim() == (n, heads));
    assert!(
        fits && heads > 0 && width.is_multiple_of(heads),
        "head_dots: z {:?}, {heads} heads",
        z.dim()
    );
    if width == 0 {
        out.iter_mut().for_each(|out| out.fill(F::zero()));
        return out;
    }
    count(N * z.len());
    let z = z.as_standard_layout();
    let z = z.as_slice().expect("a standard layout is a slice");
    let height = CHUNK.div_ceil(width);
    let blocks = blocks_of(n, height);
    let mut parts = out.each_mut().map(|out| {
        pieces(out.as_slice_mut().expect("pool arrays are contiguous"), &blocks, |i| i * heads)
            .into_iter()
    });
    let isa = Isa::best();
    let jobs = blocks
        .iter()
        .map(|block| (block, parts.each_mut().map(|part| part.next().expect("one a block"))))
        .collect();
    run(jobs, n * width, |(block, out): (&Range<usize>, [&mut [F]; N])| {
        let z = &z[block.start * width..block.end * width];
        out.into_iter().zip(att).for_each(|(out, att)| dots_of_rows(isa, z, att, heads, out));
    });
    out
}

crate::scalar::compiled_here! {
    fn dots_of_rows<F>(isa: Isa, z: &'a [F], att: &'a [F], heads: usize, out: &'a mut [F]) = dot_rows
}

by_level! {
    fn dot_rows<F>(z: &[F], att: &[F], heads: usize, out: &mut [F]) = dot_rows_here
}

#[inline(always)]
fn dot_rows_here<F: Scalar>(z: &[F], att: &[F], heads: usize, out: &mut [F]) {
    let dim = att.len() / heads;
    for (z, out) in z.chunks_exact(att.len()).zip(out.chunks_exact_mut(heads)) {
        match dim {
            8 => dots::<F, 8>(z, att, dim, out),
            _ => dots::<F, 0>(z, att, dim, out),
        }
    }
}

crate::scalar::compiled_here! {
    /// `Σ_i s_ih z_ihc`, `[1, heads·dim]`: the gradient of the weights of [`head_dots`]. *Shapes*:
    /// `z: [n, heads·dim]`, `s: [n, heads]`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn head_sums<F>(z: ArrayView2<'a, F>, s: ArrayView2<'a, F>) -> Array2<F> = sums
}

fn sums<F: Scalar>(z: ArrayView2<F>, s: ArrayView2<F>) -> Array2<F> {
    assert!(
        z.nrows() == s.nrows() && z.ncols().is_multiple_of(s.ncols().max(1)),
        "head_sums: z {:?}, s {:?}",
        z.dim(),
        s.dim()
    );
    let (width, heads) = (z.ncols(), s.ncols());
    count(z.len());
    let (z, s) = (z.as_standard_layout(), s.as_standard_layout());
    let (all, scales) =
        (z.as_slice().expect("a standard layout"), s.as_slice().expect("a standard layout"));
    let isa = Isa::best();
    let part = |block: Range<usize>| {
        let mut sum = vec![F::zero(); width];
        let (z, s) = (
            &all[block.start * width..block.end * width],
            &scales[block.start * heads..block.end * heads],
        );
        if width > 0 {
            sum_rows(isa, z, s, heads, &mut sum);
        }
        sum
    };
    let mut total = Array2::zeros((1, width));
    for partial in run(blocks_of(z.nrows(), SUM_ROWS), z.len(), part) {
        total.iter_mut().zip(partial).for_each(|(sum, term)| *sum += term);
    }
    total
}

by_level! {
    fn sum_rows<F>(z: &[F], s: &[F], heads: usize, sum: &mut [F]) = sum_rows_here
}

#[inline(always)]
fn sum_rows_here<F: Scalar>(z: &[F], s: &[F], heads: usize, sum: &mut [F]) {
    let dim = sum.len() / heads;
    for (z, s) in z.chunks_exact(sum.len()).zip(s.chunks_exact(heads)) {
        match dim {
            8 => add_heads::<F, 8>(s, z, dim, sum),
            _ => add_heads::<F, 0>(s, z, dim, sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn sums_of_heads_are_over_all_rows() {
        for (rows, heads, dim) in [(1, 2, 3), (SUM_ROWS, 1, 8), (2 * SUM_ROWS + 7, 3, 5)] {
            let z = Array2::from_shape_fn((rows, heads * dim), |(i, c)| {
                ((i * 7 + c * 3) % 11) as f64 - 4.0
            });
            let s = Array2::from_shape_fn((rows, heads), |(i, h)| ((i * 5 + h) % 7) as f64 - 2.5);
            let expected = Array2::from_shape_fn((1, heads * dim), |(_, c)| {
                (0..rows).map(|i| s[[i, c / dim]] * z[[i, c]]).sum::<f64>()
            });
            assert_relative_eq!(
                head_sums(z.view(), s.view()),
                expected,
                max_relative = 1e-12,
                epsilon = 1e-9
            );
        }
    }
}
