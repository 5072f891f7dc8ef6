//! The control: no criterion at all.

use super::Criterion;
use crate::prune::GroupView;
use crate::rng::generator;
use crate::scalar::Scalar;
use ndarray::Array1;
use ndarray_rand::rand::Rng;

/// Uniform numbers from the model's seed: what every criterion has to beat.
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
    fn name(&self) -> &'static str {
        "random"
    }

    fn score(&self, group: &GroupView<F>) -> Array1<F> {
        let mut rng = generator(group.seed, &[]);
        Array1::from_shape_simple_fn(group.units, || F::of(rng.random()))
    }
}
