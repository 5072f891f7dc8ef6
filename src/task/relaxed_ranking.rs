//! How unlikely scores make it that given answers come first, in their order.

use crate::kernels;
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};

/// `ln(e^a + e^b)`.
fn log_sum<F: Scalar>(a: F, b: F) -> F {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if high == F::neg_infinity() { high } else { high + (low - high).exp().ln_1p() }
}

/// The loss of one query, `K` times; its gradient, `K` times, is written to `gradient`.
fn of_list<F: Scalar>(scores: &[F], best: usize, gradient: &mut [F]) -> F {
    // ln Z_k, from the last one on.
    let mut below = scores[best..].iter().fold(F::neg_infinity(), |sum, &s| log_sum(sum, s));
    let mut value = F::zero();
    for k in (0..best).rev() {
        below = log_sum(below, scores[k]);
        value += below - scores[k];
        gradient[k] = below;
    }
    // ln Σ_{k≤j} 1/Z_k.
    let mut shares = F::neg_infinity();
    for j in 0..best {
        shares = log_sum(shares, -gradient[j]);
        gradient[j] = (scores[j] + shares).exp() - F::one();
    }
    for (g, &s) in gradient[best..].iter_mut().zip(&scores[best..]) {
        *g = (s + shares).exp();
    }
    value
}

/// `−1/K · Σ_{k≤K} [s_k − ln(Σ_{j=k..K} e^{s_j} + Σ_{l>K} e^{s_l})]` with `K = best`, the mean over
/// rows, and its gradient by the scores.
///
/// *Source*: Kang et al., "DE-RRD", CIKM 2020, eqs. 6 and 7.
pub(crate) fn relaxed_ranking<F: Scalar>(scores: ArrayView2<F>, best: usize) -> (F, Array2<F>) {
    let mut gradient = Array2::zeros(scores.dim());
    let mut values = vec![F::zero(); scores.nrows()];
    let (scores, count) = (scores.as_standard_layout(), scores.ncols());
    let own = scores.as_slice().expect("standard layout");
    let weight = F::of(1.0 / (best * scores.nrows().max(1)) as f64);
    let gradients = gradient.as_slice_mut().expect("a new array is contiguous");
    let jobs = gradients.chunks_exact_mut(count).zip(&mut values).enumerate();
    kernels::run(jobs.collect(), own.len(), |(i, (gradient, value))| {
        *value = of_list(&own[i * count..][..count], best, gradient);
        gradient.iter_mut().for_each(|g| *g *= weight);
    });
    (values.into_iter().sum::<F>() * weight, gradient)
}
