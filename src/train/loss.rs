//! Losses on chosen rows of the output, with their gradients.

use crate::data::{Dataset, Labels};
use crate::error::Result;
use crate::nn::{Grads, Model, NodeId, Trace};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};

/// The loss of a data set on those of `rows` that have a label, and its gradient by the logits:
/// [`cross_entropy`] where nodes have one class each, [`binary_cross_entropy`] where they may have
/// several labels.
///
/// # Panics
/// As these two.
pub fn supervised<F: Scalar>(
    logits: ArrayView2<F>,
    data: &Dataset<F>,
    rows: &[u32],
) -> (F, Array2<F>) {
    let rows = &data.labelled(rows);
    match data.labels() {
        Labels::Several { matrix, .. } => binary_cross_entropy(logits, matrix.view(), rows),
        Labels::Classes(classes) => cross_entropy(logits, classes, rows),
    }
}

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
    assert_eq!(logits.dim(), labels.dim(), "logits and labels");
    let mut gradient = Array2::zeros(logits.dim());
    let mut total = F::zero();
    let weight = F::of(1.0 / (rows.len() * logits.ncols()).max(1) as f64);
    for &i in rows {
        let i = i as usize;
        for ((g, &z), &label) in
            gradient.row_mut(i).iter_mut().zip(logits.row(i)).zip(labels.row(i))
        {
            let y = if label { F::one() } else { F::zero() };
            total += z.max(F::zero()) - z * y + (-z.abs()).exp().ln_1p();
            *g = ((F::one() + (-z).exp()).recip() - y) * weight;
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
    let mut gradient = Array2::zeros(logits.dim());
    let mut total = F::zero();
    let weight = F::of(1.0 / rows.len().max(1) as f64);
    for &i in rows {
        let z = logits.row(i as usize);
        let label = labels[i as usize] as usize;
        let top = z.fold(F::neg_infinity(), |a, &b| a.max(b));
        let sum: F = z.iter().map(|&v| (v - top).exp()).sum();
        total += sum.ln() + top - z[label];
        let mut g = gradient.row_mut(i as usize);
        for (g, &v) in g.iter_mut().zip(z) {
            *g = (v - top).exp() / sum * weight;
        }
        g[label] -= weight;
    }
    (total * weight, gradient)
}

/// Gradients of a loss by the values of some nodes, each of its node's shape `[n, channels]`; those
/// of one node add up.
pub type Seeds<F> = Vec<(NodeId, Array2<F>)>;

/// What a loss makes of one forward pass: its value and its gradients.
///
/// `(value, seeds).into()` is one without gradients by the parameters.
#[derive(Debug, Clone)]
pub struct Objective<F: Scalar> {
    /// The value of the loss.
    pub value: F,
    /// Its gradients by the values of some nodes.
    pub seeds: Seeds<F>,
    /// Gradients by the parameters that no node's value carries; they are added to what the seeds
    /// give.
    pub grads: Option<Grads<F>>,
}

impl<F: Scalar> From<(F, Seeds<F>)> for Objective<F> {
    fn from((value, seeds): (F, Seeds<F>)) -> Self {
        Self { value, seeds, grads: None }
    }
}

/// What one training step minimises: its value, and its gradients by the values of some nodes, or
/// by the parameters themselves.
pub trait Loss<F: Scalar> {
    /// The loss after a forward pass in training mode, at `epoch`, counted from 1.
    ///
    /// # Errors
    /// What its own computation refuses.
    fn loss(&mut self, model: &Model<F>, trace: &Trace<F>, epoch: usize) -> Result<Objective<F>>;
}

/// Any closure that gives a value and the gradients by some nodes is a loss.
impl<F: Scalar, T> Loss<F> for T
where
    T: FnMut(&Model<F>, &Trace<F>, usize) -> Result<(F, Seeds<F>)>,
{
    fn loss(&mut self, model: &Model<F>, trace: &Trace<F>, epoch: usize) -> Result<Objective<F>> {
        self(model, trace, epoch).map(Objective::from)
    }
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
}
