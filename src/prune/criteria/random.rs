//! The control: no criterion at all.

use crate::error::Result;
use crate::prune::{Criterion, Needs, Scores, Units};
use crate::scalar::Scalar;
use ndarray_rand::rand::Rng;

/// Uniform numbers from the pruner's seed, for units of every kind: what every criterion has to
/// beat.
///
/// *Source*: Mittal et al., "Recovering from Random Pruning", WACV 2018.
#[derive(Debug, Clone, Copy, Default)]
pub struct Random;

impl Random {
    /// The criterion.
    pub fn new() -> Self {
        Self
    }
}

impl<F: Scalar> Criterion<F> for Random {
    fn name(&self) -> &str {
        "random"
    }

    fn needs(&self) -> Needs {
        Needs::NOTHING
    }

    fn score(&self, units: &Units<F>) -> Result<Scores> {
        let mut rng = units.generator();
        let mut draw = || rng.random::<f64>();
        Ok(match units {
            // In the model's precision, as other scores of channels are.
            Units::Channels(group) => Scores::new((0..group.units).map(|_| F::of(draw()).as_f64())),
            Units::Weights(all) => {
                // What is masked draws nothing: it goes first whatever its score.
                let mut scores = Vec::with_capacity(units.len());
                for matrix in &all.matrices {
                    let mask = matrix.param.mask();
                    scores.extend(matrix.param.value().indexed_iter().map(|(at, _)| {
                        if mask.is_none_or(|mask| mask[at]) { draw() } else { 0.0 }
                    }));
                }
                Scores::new(scores).comparable()
            }
            _ => Scores::new((0..units.len()).map(|_| draw())),
        })
    }
}
