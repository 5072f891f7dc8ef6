//! Gradients of several batches that become one step.

use crate::nn::Grads;
use crate::scalar::Scalar;

/// The mean loss and gradient over the examples of the batches of one step:
/// `g = Σ_b n_b·g_b / Σ_b n_b`, which is that of one batch with the rows of all. Gradients of rows
/// stay rows.
#[derive(Debug)]
pub(super) struct Gathered<F: Scalar> {
    sum: Option<(F, Grads<F>)>,
    batches: usize,
    examples: usize,
}

impl<F: Scalar> Gathered<F> {
    pub(super) fn nothing() -> Self {
        Self { sum: None, batches: 0, examples: 0 }
    }

    /// How many batches there are.
    pub(super) fn batches(&self) -> usize {
        self.batches
    }

    /// Adds the mean loss and gradient over so many examples. One batch alone stays what it is, to
    /// the bit.
    pub(super) fn add(&mut self, value: F, grads: Grads<F>, examples: usize) {
        match &mut self.sum {
            None => self.sum = Some((value, grads)),
            Some((total, sum)) => {
                if self.batches == 1 {
                    let first = F::of(self.examples as f64);
                    *total *= first;
                    sum.scale(first);
                }
                let weight = F::of(examples as f64);
                *total += value * weight;
                sum.add_scaled(&grads, weight);
            }
        }
        self.batches += 1;
        self.examples += examples;
    }

    /// Mean loss, mean gradient and the number of examples, if there is any batch; nothing is left.
    pub(super) fn take(&mut self) -> Option<(F, Grads<F>, usize)> {
        let Self { sum, batches, examples } = std::mem::replace(self, Self::nothing());
        let (mut value, mut grads) = sum?;
        if batches > 1 {
            let share = F::of(1.0 / examples.max(1) as f64);
            value *= share;
            grads.scale(share);
        }
        Some((value, grads, examples))
    }
}
