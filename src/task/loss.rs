//! Losses on chosen rows of an output, with their gradients.

use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};

/// Cross-entropy of a sigmoid per label, mean over `rows` and labels:
/// `max(z, 0) − z·y + ln(1 + e^{−|z|})`, and its gradient by the logits.
///
/// *Shapes*: `logits`, `labels`, gradient: `[n, labels]`, the gradient zero outside `rows`.
///
/// *Source*: `torch.nn.functional.binary_cross_entropy_with_logits` with mean reduction.
///
/// # Panics
/// If a row is out of range or the shapes differ; a [`Dataset`](crate::Dataset) has none such.
pub fn binary_cross_entropy<F: Scalar>(
    logits: ArrayView2<F>,
    labels: ArrayView2<bool>,
    rows: &[u32],
) -> (F, Array2<F>) {
    binary_cross_entropy_by(logits, labels, rows, None)
}

/// Huber's function of δ = 1, `x²/2` for `|x| ≤ 1` and `|x| − ½` elsewhere, and its slope.
///
/// *Source*: Huber, "Robust estimation of a location parameter", 1964.
pub(crate) fn huber<F: Scalar>(off: F) -> (F, F) {
    let (one, half) = (F::one(), F::of(0.5));
    let value = if off.abs() <= one { half * off * off } else { off.abs() - half };
    (value, off.max(-one).min(one))
}

/// A mean over rows of which each may count so many times.
pub(super) type Weights<'a, F> = Option<&'a [F]>;

/// How often row `k` of those that count does.
fn times<F: Scalar>(weights: Weights<F>, k: usize) -> F {
    weights.map_or(F::one(), |weights| weights[k])
}

/// As [`binary_cross_entropy`], each row counted so many times.
pub(super) fn binary_cross_entropy_by<F: Scalar>(
    logits: ArrayView2<F>,
    labels: ArrayView2<bool>,
    rows: &[u32],
    weights: Weights<F>,
) -> (F, Array2<F>) {
    assert_eq!(logits.dim(), labels.dim(), "logits and labels");
    let mut gradient = Array2::zeros(logits.dim());
    let mut total = F::zero();
    let weight = F::of(1.0 / (rows.len() * logits.ncols()).max(1) as f64);
    for (k, &i) in rows.iter().enumerate() {
        let (i, times) = (i as usize, times(weights, k));
        for ((g, &z), &label) in
            gradient.row_mut(i).iter_mut().zip(logits.row(i)).zip(labels.row(i))
        {
            let y = if label { F::one() } else { F::zero() };
            total += (z.max(F::zero()) - z * y + (-z.abs()).exp().ln_1p()) * times;
            *g = ((F::one() + (-z).exp()).recip() - y) * weight * times;
        }
    }
    (total * weight, gradient)
}

/// Cross-entropy of softmax, mean over `rows`: `−1/|rows| Σ_i log softmax(z_i)[y_i]`, and its
/// gradient by the logits.
///
/// *Shapes*: `logits: [n, classes]`, `labels`: one per node, gradient `[n, classes]`, zero outside
/// `rows`.
///
/// *Source*: `torch.nn.functional.cross_entropy` with mean reduction.
///
/// # Panics
/// If a row or a label is out of range; a [`Dataset`](crate::Dataset) has none such.
pub fn cross_entropy<F: Scalar>(
    logits: ArrayView2<F>,
    labels: &[u32],
    rows: &[u32],
) -> (F, Array2<F>) {
    cross_entropy_by(logits, labels, rows, None)
}

/// As [`cross_entropy`], each row counted so many times.
pub(super) fn cross_entropy_by<F: Scalar>(
    logits: ArrayView2<F>,
    labels: &[u32],
    rows: &[u32],
    weights: Weights<F>,
) -> (F, Array2<F>) {
    let mut gradient = Array2::zeros(logits.dim());
    let mut total = F::zero();
    let weight = F::of(1.0 / rows.len().max(1) as f64);
    for (k, &i) in rows.iter().enumerate() {
        let times = times(weights, k);
        let z = logits.row(i as usize);
        let label = labels[i as usize] as usize;
        let top = z.fold(F::neg_infinity(), |a, &b| a.max(b));
        let sum: F = z.iter().map(|&v| (v - top).exp()).sum();
        total += (sum.ln() + top - z[label]) * times;
        let mut g = gradient.row_mut(i as usize);
        for (g, &v) in g.iter_mut().zip(z) {
            *g = (v - top).exp() / sum * weight * times;
        }
        g[label] -= weight * times;
    }
    (total * weight, gradient)
}

/// Squared error, mean over `rows` and outputs: `1/(|rows|·k) Σ (z − y)²`, and its gradient by `z`.
///
/// *Shapes*: `z`, `values`, gradient: `[n, k]`, the gradient zero outside `rows`.
///
/// *Source*: `torch.nn.functional.mse_loss` with mean reduction.
///
/// # Panics
/// If a row is out of range or the shapes differ; a [`Dataset`](crate::Dataset) has none such.
pub fn squared_error<F: Scalar>(
    z: ArrayView2<F>,
    values: ArrayView2<f64>,
    rows: &[u32],
) -> (F, Array2<F>) {
    squared_error_by(z, values, rows, None)
}

/// As [`squared_error`], each row counted so many times.
pub(super) fn squared_error_by<F: Scalar>(
    z: ArrayView2<F>,
    values: ArrayView2<f64>,
    rows: &[u32],
    weights: Weights<F>,
) -> (F, Array2<F>) {
    deviation(z, values, rows, weights, |off| (off * off, off + off))
}

/// Absolute error, mean over `rows` and outputs: `1/(|rows|·k) Σ |z − y|`, and its gradient by `z`,
/// 0 where they are equal.
///
/// *Shapes*: as [`squared_error`].
///
/// *Source*: `torch.nn.functional.l1_loss` with mean reduction.
///
/// # Panics
/// As [`squared_error`].
pub fn absolute_error<F: Scalar>(
    z: ArrayView2<F>,
    values: ArrayView2<f64>,
    rows: &[u32],
) -> (F, Array2<F>) {
    absolute_error_by(z, values, rows, None)
}

/// As [`absolute_error`], each row counted so many times.
pub(super) fn absolute_error_by<F: Scalar>(
    z: ArrayView2<F>,
    values: ArrayView2<f64>,
    rows: &[u32],
    weights: Weights<F>,
) -> (F, Array2<F>) {
    let sign = |off: F| if off == F::zero() { off } else { off.signum() };
    deviation(z, values, rows, weights, |off| (off.abs(), sign(off)))
}

/// The mean of what `of` makes of `z − y` in the given rows, and its gradient: `of` gives a value
/// and a derivative.
fn deviation<F: Scalar>(
    z: ArrayView2<F>,
    values: ArrayView2<f64>,
    rows: &[u32],
    weights: Weights<F>,
    of: impl Fn(F) -> (F, F),
) -> (F, Array2<F>) {
    assert_eq!(z.dim(), values.dim(), "outputs and the numbers that are known");
    let mut gradient = Array2::zeros(z.dim());
    let mut total = F::zero();
    let weight = F::of(1.0 / (rows.len() * z.ncols()).max(1) as f64);
    for (k, i) in rows.iter().map(|&i| i as usize).enumerate() {
        let times = times(weights, k);
        let pairs = z.row(i).into_iter().zip(values.row(i));
        for (g, (&z, &known)) in gradient.row_mut(i).iter_mut().zip(pairs) {
            let (value, derivative) = of(z - F::of(known));
            total += value * times;
            *g = derivative * weight * times;
        }
    }
    (total * weight, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;
    use ndarray::array;

    /// Central differences in f64 are good to about 1e-9 here.
    const TOLERANCE: f64 = 1e-7;

    #[test]
    fn binary_cross_entropy_has_its_value_and_its_gradient() {
        let logits = array![[1.0, -2.0], [0.5, 900.0], [0.0, -900.0]];
        let labels = array![[true, false], [false, true], [true, true]];
        let (loss, gradient) = binary_cross_entropy(logits.view(), labels.view(), &[0, 1]);
        let expected =
            ((-1.0f64).exp().ln_1p() + (-2.0f64).exp().ln_1p() + 0.5f64.exp().ln_1p()) / 4.0;
        assert_relative_eq!(loss, expected, epsilon = 1e-12);
        assert!(
            gradient.row(2).iter().all(|&g| g == 0.0),
            "rows that are not asked for have no gradient"
        );
        for (i, c) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let at = |h: f64| {
                let mut moved = logits.clone();
                moved[[i, c]] += h;
                binary_cross_entropy(moved.view(), labels.view(), &[0, 1]).0
            };
            assert_relative_eq!(
                gradient[[i, c]],
                (at(1e-5) - at(-1e-5)) / 2e-5,
                epsilon = TOLERANCE
            );
        }
    }

    #[test]
    fn a_row_that_counts_twice_counts_as_two_in_every_loss() {
        let z = array![[1.0, -2.0], [0.5, 0.3], [0.1, 0.2]];
        let several = array![[true, false], [false, true], [true, true]];
        let values = array![[0.3, 0.4], [1.0, -1.0], [0.0, 2.0]];
        let losses = |rows: &[u32], weights: Weights<f64>| {
            [
                cross_entropy_by(z.view(), &[1, 0, 0], rows, weights),
                binary_cross_entropy_by(z.view(), several.view(), rows, weights),
                squared_error_by(z.view(), values.view(), rows, weights),
                absolute_error_by(z.view(), values.view(), rows, weights),
            ]
        };
        // The mean over two rows of which one counts 2 and the other 4 times.
        let weighted = losses(&[0, 2], Some(&[2.0, 4.0]));
        let ones = [losses(&[0], None), losses(&[2], None)];
        for (k, (value, gradient)) in weighted.iter().enumerate() {
            let [(first, d_first), (second, d_second)] = &[&ones[0][k], &ones[1][k]];
            assert_relative_eq!(*value, first + 2.0 * second, epsilon = 1e-12);
            let expected = d_first + &(d_second * 2.0);
            assert!(gradient.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{k}");
        }
    }

    #[test]
    fn cross_entropy_has_its_value_and_its_gradient() {
        let logits = array![[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [800.0, -800.0, 0.0]];
        let labels = [1, 0, 0];
        let (loss, gradient) = cross_entropy(logits.view(), &labels, &[0, 1]);
        let expected =
            (((1.0f64 - 2.0).exp() + 1.0 + (0.5f64 - 2.0).exp()).ln() + 3.0f64.ln()) / 2.0;
        assert_relative_eq!(loss, expected, epsilon = 1e-12);
        assert!(
            gradient.row(2).iter().all(|&g| g == 0.0),
            "rows that are not asked for have no gradient"
        );
        for i in 0..2 {
            for c in 0..3 {
                let at = |h: f64| {
                    let mut moved = logits.clone();
                    moved[[i, c]] += h;
                    cross_entropy(moved.view(), &labels, &[0, 1]).0
                };
                assert_relative_eq!(
                    gradient[[i, c]],
                    (at(1e-5) - at(-1e-5)) / 2e-5,
                    epsilon = TOLERANCE
                );
            }
        }
        assert!(
            cross_entropy(logits.view(), &labels, &[2]).0.abs() < 1e-12,
            "large logits must not overflow"
        );
    }

    #[test]
    fn deviations_have_their_values_and_their_gradients() {
        let z = array![[1.0, -2.0], [0.5, 3.0], [9.0, 9.0]];
        let known = array![[0.0, -2.5], [1.0, 1.0], [0.0, 0.0]];
        type Loss = fn(ArrayView2<f64>, ArrayView2<f64>, &[u32]) -> (f64, Array2<f64>);
        let cases: [(Loss, f64); 2] = [
            (squared_error, (1.0 + 0.25 + 0.25 + 4.0) / 4.0),
            (absolute_error, (1.0 + 0.5 + 0.5 + 2.0) / 4.0),
        ];
        for (loss, expected) in cases {
            let (value, gradient) = loss(z.view(), known.view(), &[0, 1]);
            assert_relative_eq!(value, expected, epsilon = 1e-12);
            assert!(gradient.row(2).iter().all(|&g| g == 0.0));
            for at in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                let moved = |h: f64| {
                    let mut moved = z.clone();
                    moved[at] += h;
                    loss(moved.view(), known.view(), &[0, 1]).0
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert_relative_eq!(gradient[at], slope, epsilon = TOLERANCE);
            }
            assert_eq!(loss(known.view(), known.view(), &[0]).1, Array2::<f64>::zeros((3, 2)));
        }
    }
}
