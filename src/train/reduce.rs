//! How the gradients of several processes become one.

use crate::error::Result;
use crate::nn::{Grads, Model};
use crate::scalar::Scalar;

/// Adds up numbers over all processes that train one model together, each on its own batches.
///
/// A training step weighs each process's loss and gradients by its number of examples, so that the
/// sum is the mean over the examples of all.
pub trait Reduce<F: Scalar>: Send + Sync {
    /// How many processes there are.
    fn processes(&self) -> usize;

    /// Replaces each number by its sum over all processes, the same on each of them. All call it
    /// equally often, with slices of the same lengths.
    ///
    /// # Errors
    /// Where another process could not be reached.
    fn sum(&self, numbers: &mut [&mut [F]]) -> Result<()>;
}

/// One process, whose sums are what it has.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl<F: Scalar> Reduce<F> for Alone {
    fn processes(&self) -> usize {
        1
    }

    fn sum(&self, _: &mut [&mut [F]]) -> Result<()> {
        Ok(())
    }
}

/// Makes of one process's loss and gradients, of `examples` examples, the means over all processes.
pub(super) fn means<F: Scalar>(
    reduce: &dyn Reduce<F>,
    model: &Model<F>,
    examples: usize,
    loss: &mut F,
    grads: &mut Grads<F>,
) -> Result<()> {
    if reduce.processes() == 1 {
        return Ok(());
    }
    let own = F::of(examples as f64);
    let mut sums = [*loss * own, own];
    // A gradient that one process has and another has not would be waited for in vain.
    model.visit(&mut |_, param| {
        grads.of_mut(param);
    });
    grads.scale(own);
    let mut numbers: Vec<&mut [F]> = vec![&mut sums];
    numbers.extend(grads.slices_mut());
    reduce.sum(&mut numbers)?;
    let [total, all] = sums;
    *loss = total / all;
    grads.scale(all.recip());
    Ok(())
}
