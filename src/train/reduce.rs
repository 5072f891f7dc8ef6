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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Split, Splits};
    use crate::train::{Setup, Trainer};
    use crate::{Gcn, Model};
    use std::sync::{Arc, Barrier, Mutex};

    /// Two threads as two processes.
    struct Pair {
        sums: Arc<Mutex<Vec<Vec<f64>>>>,
        barrier: Arc<Barrier>,
    }

    impl Reduce<f64> for Pair {
        fn processes(&self) -> usize {
            2
        }

        fn sum(&self, numbers: &mut [&mut [f64]]) -> Result<()> {
            let mut sums = self.sums.lock().unwrap();
            if sums.is_empty() {
                *sums = numbers.iter().map(|own| own.to_vec()).collect();
            } else {
                for (sum, own) in sums.iter_mut().zip(numbers.iter()) {
                    sum.iter_mut().zip(own.iter()).for_each(|(sum, own)| *sum += own);
                }
            }
            drop(sums);
            self.barrier.wait();
            let sums = self.sums.lock().unwrap();
            numbers.iter_mut().zip(sums.iter()).for_each(|(own, sum)| own.copy_from_slice(sum));
            drop(sums);
            if self.barrier.wait().is_leader() {
                self.sums.lock().unwrap().clear();
            }
            self.barrier.wait();
            Ok(())
        }
    }

    fn weights(model: &Model<f64>) -> Vec<f64> {
        let mut all = Vec::new();
        model.visit(&mut |_, param| all.extend(param.value().iter().copied()));
        all
    }

    #[test]
    fn two_processes_with_parts_of_unequal_size_learn_what_one_with_all_does() {
        let data = Dataset::sbm(300, 3).features(6).seed(2).build().unwrap().cast::<f64>();
        let Split { train, val, test } = data.split(0);
        let on = |train: &[u32]| {
            let split = Split { train: train.to_vec(), val: val.clone(), test: test.clone() };
            data.clone().with_splits(Splits::Fixed(split)).unwrap()
        };
        let model = Gcn::builder(6, 3).hidden(8).dropout(0.0).build(0).unwrap();
        let model = model.cast::<f64>().unwrap();
        let trainer = Trainer::builder().epochs(5).clip_norm(0.05).build().unwrap();
        let alone = trainer.fit_with(model.clone(), &on(&train), Setup::new()).unwrap();
        let (sums, barrier) = (Arc::default(), Arc::new(Barrier::new(2)));
        let parts = [&train[..11], &train[11..]];
        let fits: Vec<_> = std::thread::scope(|scope| {
            let threads = parts.map(|part| {
                let pair = Pair { sums: Arc::clone(&sums), barrier: Arc::clone(&barrier) };
                let (data, model, trainer) = (on(part), model.clone(), &trainer);
                scope.spawn(move || {
                    trainer.fit_with(model, &data, Setup::new().reduce(&pair)).unwrap()
                })
            });
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(weights(&fits[0].model), weights(&fits[1].model));
        for fit in &fits {
            let pairs = weights(&alone.model).into_iter().zip(weights(&fit.model));
            // Sums of the same terms in another order.
            assert!(pairs.clone().all(|(a, b)| (a - b).abs() < 1e-9));
            assert!(alone.losses.iter().zip(&fit.losses).all(|(a, b)| (a - b).abs() < 1e-9));
        }
    }
}
