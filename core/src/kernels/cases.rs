//! Awkward operands for the tests of the kernels, and what "agrees" means.

use super::reference;
use crate::scalar::Scalar;
use crate::seed::generator;
use crate::value::{Csr, CsrView};
use ndarray::{Array2, ArrayView2};
use rand_chacha::rand_core::RngCore;

/// A sum of `k` products is within `k·ε·Σ|a·b|` of the exact one in any order of addition, rounded
/// products or not: the textbook bound is `γ_k = k·u / (1 - k·u)` with `u = ε / 2` (Higham 2002,
/// §3.1), so a factor of one leaves half of it as margin.
pub(super) const ERROR_FACTOR: f64 = 1.0;

/// Widths around every register block, and those that models have.
pub(super) fn widths() -> impl Iterator<Item = usize> {
    (1..=40).chain([63, 64, 65, 96, 127, 128, 130, 192, 200, 256, 257, 300])
}

/// Numbers in [-1, 1).
pub(super) fn dense<F: Scalar>(rows: usize, cols: usize, seed: u64) -> Array2<F> {
    let mut rng = generator(seed, &[rows as u64, cols as u64]);
    Array2::from_shape_simple_fn((rows, cols), || {
        F::of(f64::from(rng.next_u32()) / f64::from(1u32 << 31) - 1.0)
    })
}

/// A matrix whose rows have 0 to `2·degree` entries, every fifth none, and row 1 (if there is one)
/// all of them.
pub(super) fn sparse<F: Scalar>(rows: usize, cols: usize, degree: usize, seed: u64) -> Csr<F> {
    let mut rng = generator(seed, &[rows as u64, cols as u64, 1]);
    let mut draw = |bound: usize| rng.next_u64() as usize % bound.max(1);
    let (mut starts, mut indices) = (vec![0], Vec::new());
    for i in 0..rows {
        let wanted = if i % 5 == 4 { 0 } else { draw(2 * degree + 1) };
        let mut row: Vec<u32> = if i == 1 {
            (0..cols as u32).collect()
        } else {
            (0..wanted.min(cols)).map(|_| draw(cols) as u32).collect()
        };
        row.sort_unstable();
        row.dedup();
        indices.extend(row);
        starts.push(indices.len());
    }
    let values = dense(1, indices.len(), seed).into_raw_vec_and_offset().0;
    Csr::new((rows, cols), starts, indices, values)
}

/// Rows, columns and mean degree of matrices of every kind: empty, one row, one column, tall, wide,
/// hub rows.
pub(super) const SHAPES: [(usize, usize, usize); 9] = [
    (0, 0, 0),
    (0, 5, 0),
    (5, 0, 0),
    (1, 1, 1),
    (7, 1, 1),
    (1, 9, 4),
    (40, 30, 6),
    (13, 200, 20),
    (300, 70, 5),
];

/// Asserts that `found` is within `ERROR_FACTOR·k·ε` of `exact`, both over the sum of magnitudes.
pub(super) fn assert_close<F: Scalar>(
    found: ArrayView2<F>,
    exact: ArrayView2<f64>,
    magnitude: ArrayView2<f64>,
    terms: usize,
    what: &str,
) {
    let factor = ERROR_FACTOR * terms.max(1) as f64 * F::epsilon().as_f64();
    for ((at, &found), (&exact, &magnitude)) in
        found.indexed_iter().zip(exact.iter().zip(&magnitude))
    {
        let error = (found.as_f64() - exact).abs();
        assert!(
            error <= factor * magnitude,
            "{what} at {at:?}: {found} is {error:e} from {exact}, allowed {:e}",
            factor * magnitude
        );
    }
}

/// The same matrix in `f64`.
pub(super) fn wide<F: Scalar>(a: CsrView<F>) -> Csr<f64> {
    a.map(|v| v.as_f64())
}

/// [`wide`] for dense arrays.
pub(super) fn wide_dense<F: Scalar>(x: ArrayView2<F>) -> Array2<f64> {
    x.mapv(Scalar::as_f64)
}

/// Asserts that `y` is `A·X` within rounding, by the reference in `f64`.
pub(super) fn assert_is_product<F: Scalar>(
    a: CsrView<F>,
    x: ArrayView2<F>,
    y: ArrayView2<F>,
    what: &str,
) {
    let (a, x) = (wide(a), wide_dense(x));
    let (mut exact, mut magnitude) = (Array2::zeros(y.dim()), Array2::zeros(y.dim()));
    reference::spmm(a.view(), x.view(), exact.view_mut());
    reference::spmm(a.map(|v| v.abs()).view(), x.mapv(f64::abs).view(), magnitude.view_mut());
    let terms = (0..a.rows()).map(|i| a.indptr().nnz_in_outer_sz(i)).max().unwrap_or(0);
    assert_close(y, exact.view(), magnitude.view(), terms, what);
}

/// Asserts that `work` gives the same bits in pools of 1, 2, 3 and 7 threads.
pub(super) fn assert_same_in_all_pools<R: Send + PartialEq>(work: impl Fn() -> R + Sync) {
    let run = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a small pool")
            .install(&work)
    };
    let alone = run(1);
    for threads in [2, 3, 7] {
        assert!(run(threads) == alone, "{threads} threads give other bits than one");
    }
}
