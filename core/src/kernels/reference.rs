//! The naive serial twin of every kernel: the formula and nothing else. Tests and benches compare
//! with it; nothing calls it in earnest.
//!
//! Shapes are those of the kernels of the same name and are not checked beyond what indexing
//! checks.

use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::{ArrayView2, ArrayViewMut2};

/// `y_ic = Σ_j a_ij x_jc`
pub fn spmm<F: Scalar>(a: CsrView<F>, x: ArrayView2<F>, mut y: ArrayViewMut2<F>) {
    y.fill(F::zero());
    for (i, row) in a.outer_iterator().enumerate() {
        for (j, &weight) in row.iter() {
            for c in 0..x.ncols() {
                y[[i, c]] += weight * x[[j, c]];
            }
        }
    }
}

/// `dx_jc = Σ_i a_ij dy_ic`
pub fn spmm_t<F: Scalar>(a: CsrView<F>, dy: ArrayView2<F>, mut dx: ArrayViewMut2<F>) {
    dx.fill(F::zero());
    for (i, row) in a.outer_iterator().enumerate() {
        for (j, &weight) in row.iter() {
            for c in 0..dy.ncols() {
                dx[[j, c]] += weight * dy[[i, c]];
            }
        }
    }
}

/// `acc_ic = Σ_j a_ij x_jc` in 32-bit integers; `starts`, `cols` and `vals` are the rows of `a`.
pub fn spmm_int8(starts: &[usize], cols: &[u32], vals: &[i8], x: &[i8], width: usize) -> Vec<i32> {
    let mut acc = vec![0; (starts.len() - 1) * width];
    for i in 0..starts.len() - 1 {
        for e in starts[i]..starts[i + 1] {
            for c in 0..width {
                acc[i * width + c] +=
                    i32::from(vals[e]) * i32::from(x[cols[e] as usize * width + c]);
            }
        }
    }
    acc
}

/// `acc_ic = Σ_k x_ik w_kc` in 32-bit integers.
pub fn matmul_int8(x: &[i8], w: &[i8], inner: usize, width: usize) -> Vec<i32> {
    let rows = x.len() / inner.max(1);
    let at = |i: usize, c: usize| {
        (0..inner).map(|k| i32::from(x[i * inner + k]) * i32::from(w[k * width + c])).sum()
    };
    (0..rows).flat_map(|i| (0..width).map(move |c| (i, c))).map(|(i, c)| at(i, c)).collect()
}

/// `y_i = Σ_m t_m[code_im]` of rows in blocks of 64, column after column.
pub fn lookup_sums(codes: &[u8], tables: &[[u8; 256]], blocks: usize) -> Vec<u16> {
    let code = |i: usize, m: usize| codes[(i / 64 * tables.len() + m) * 64 + i % 64];
    let sum = |i: usize| (0..tables.len()).map(|m| u16::from(tables[m][code(i, m) as usize])).sum();
    (0..64 * blocks).map(sum).collect()
}

/// The bits of a part of a row of signs, of which a set one is −1, and its scale.
type Signs<'a> = (&'a [u8], f32);

/// `Σ_p (s_p · Σ_c ±1·±1) · t_p` of the parts of two rows of signs.
pub fn sign_score<'a>(parts: impl Iterator<Item = (Signs<'a>, Signs<'a>)>, width: usize) -> f32 {
    let sign = |bits: &[u8], c: usize| 1 - 2 * i32::from(bits[c / 8] >> (c % 8) & 1);
    let part = |((a, s), (b, t)): (Signs, Signs)| {
        (s * (0..width).map(|c| sign(a, c) * sign(b, c)).sum::<i32>() as f32) * t
    };
    parts.map(part).reduce(|sum, part| sum + part).unwrap_or(0.0)
}

/// `y = acc·(row·col)`, then `y + bias` where there is one.
pub fn rescale(acc: i32, row: f32, col: f32, bias: Option<f32>) -> f32 {
    let y = acc as f32 * (row * col);
    bias.map_or(y, |bias| y + bias)
}

/// `round_ties_even(y / scale)` clamped to ±`most`.
pub fn requantize(y: f32, scale: f32, most: i8) -> i8 {
    (y / scale).round_ties_even().clamp(-f32::from(most), f32::from(most)) as i8
}

/// `out_e = Σ_c a_ic b_jc` for every stored entry `e = (i, j)` of `pattern`, in CSR order.
pub fn edge_dot<F: Scalar>(pattern: CsrView<F>, a: ArrayView2<F>, b: ArrayView2<F>, out: &mut [F]) {
    let mut e = 0;
    for (i, row) in pattern.outer_iterator().enumerate() {
        for (j, _) in row.iter() {
            out[e] = (0..a.ncols()).map(|c| a[[i, c]] * b[[j, c]]).sum();
            e += 1;
        }
    }
}

/// `y_io = Σ_k x_ik w_ko`
pub fn matmul<F: Scalar>(x: ArrayView2<F>, w: ArrayView2<F>, mut y: ArrayViewMut2<F>) {
    for ((i, o), y) in y.indexed_iter_mut() {
        *y = (0..x.ncols()).map(|k| x[[i, k]] * w[[k, o]]).sum();
    }
}

/// `dx_ik = Σ_o dy_io w_ko`
pub fn matmul_nt<F: Scalar>(dy: ArrayView2<F>, w: ArrayView2<F>, mut dx: ArrayViewMut2<F>) {
    for ((i, k), dx) in dx.indexed_iter_mut() {
        *dx = (0..dy.ncols()).map(|o| dy[[i, o]] * w[[k, o]]).sum();
    }
}

/// `dw_ko = Σ_i x_ik dy_io`
pub fn matmul_tn<F: Scalar>(x: ArrayView2<F>, dy: ArrayView2<F>, mut dw: ArrayViewMut2<F>) {
    for ((k, o), dw) in dw.indexed_iter_mut() {
        *dw = (0..x.nrows()).map(|i| x[[i, k]] * dy[[i, o]]).sum();
    }
}

/// `y_io = Σ_k x_ik w_ko`, `wt = Wᵀ`
pub fn matmul_sparse<F: Scalar>(x: ArrayView2<F>, wt: CsrView<F>, mut y: ArrayViewMut2<F>) {
    y.fill(F::zero());
    for (o, row) in wt.outer_iterator().enumerate() {
        for (k, &weight) in row.iter() {
            for i in 0..x.nrows() {
                y[[i, o]] += x[[i, k]] * weight;
            }
        }
    }
}

/// `out_c = Σ_i dy_ic`
pub fn column_sums<F: Scalar>(dy: ArrayView2<F>, out: &mut [F]) {
    for (c, out) in out.iter_mut().enumerate() {
        *out = dy.column(c).iter().copied().sum();
    }
}

/// `y_ic += bias_c`
pub fn add_bias<F: Scalar>(mut y: ArrayViewMut2<F>, bias: &[F]) {
    for ((_, c), y) in y.indexed_iter_mut() {
        *y += bias[c];
    }
}

/// `y_ih = Σ_e softmax_e(s_eh) z_jh` over the edges `e = (j, i)` into each target;
/// `s: [edges, heads]`.
pub fn attend<F: Scalar>(
    starts: &[usize],
    sources: &[u32],
    s: &[F],
    z: &[F],
    heads: usize,
) -> Vec<F> {
    let n = starts.len() - 1;
    let (width, mut y) = (z.len() / n.max(1), vec![F::zero(); z.len()]);
    for i in 0..n {
        for c in 0..width {
            let h = c * heads / width;
            let total: F = (starts[i]..starts[i + 1]).map(|e| s[e * heads + h].exp()).sum();
            for e in starts[i]..starts[i + 1] {
                y[i * width + c] +=
                    s[e * heads + h].exp() / total * z[sources[e] as usize * width + c];
            }
        }
    }
    y
}
