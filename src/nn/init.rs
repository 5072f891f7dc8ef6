//! How parameters are drawn before training.

use crate::error::{Error, Result};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use ndarray::Array2;
use ndarray_rand::RandomExt;
use ndarray_rand::rand_distr::{Normal, Uniform};
use serde::{Deserialize, Serialize};

/// Initialisation of a parameter of shape `[rows, cols]` = `[fan in, fan out]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Init {
    /// Uniform in ±`sqrt(6 / (rows + cols))` (Glorot and Bengio 2010, eq. 16).
    GlorotUniform,
    /// Uniform in ±`1 / sqrt(rows)`: what `torch.nn.Linear` draws.
    FanInUniform,
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// This number everywhere.
    Constant(f64),
    /// Uniform in ± this bound, which is positive.
    Uniform(f64),
    /// Normal with mean 0 and this deviation, which is positive.
    Normal(f64),
    /// As [`Init::GlorotUniform`], for `count` matrices one below the other.
    GlorotStacked {
        /// How many.
        count: usize,
    },
}

impl Init {
    /// Checks its numbers, which whoever makes a layer may have chosen.
    ///
    /// # Errors
    /// [`Error::Setting`] for a bound or a deviation that is not positive.
    pub fn check(self) -> Result<()> {
        let (name, number) = match self {
            Init::Uniform(bound) => ("bound of the first values", bound),
            Init::Normal(deviation) => ("deviation of the first values", deviation),
            _ => return Ok(()),
        };
        match number > 0.0 && number.is_finite() {
            true => Ok(()),
            false => Err(Error::setting(name, number, "a positive number")),
        }
    }

    /// Draws a matrix. The numbers are drawn as `f64` and rounded once, so that f32 and f64 twins
    /// start alike.
    pub fn draw<F: Scalar>(self, shape: (usize, usize), rng: &mut ChaCha8Rng) -> Array2<F> {
        let (rows, cols) = shape;
        let bound = match self {
            Init::Zeros => return Array2::zeros(shape),
            Init::Ones => return Array2::ones(shape),
            Init::Constant(value) => return Array2::from_elem(shape, F::of(value)),
            Init::Normal(deviation) => {
                let normal = Normal::new(0.0, deviation).expect("the deviation is finite");
                return Array2::random_using(shape, normal, rng).mapv(F::of);
            }
            Init::Uniform(bound) => bound,
            Init::GlorotStacked { count } => {
                (6.0 / (rows / count.max(1) + cols).max(1) as f64).sqrt()
            }
            Init::GlorotUniform => (6.0 / (rows + cols).max(1) as f64).sqrt(),
            Init::FanInUniform => (rows.max(1) as f64).sqrt().recip(),
        };
        let range =
            Uniform::new_inclusive(-bound, bound).expect("the bound is finite and positive");
        Array2::random_using(shape, range, rng).mapv(F::of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::generator;

    #[test]
    fn glorot_fills_its_range_and_both_precisions_agree() {
        let draw = Init::GlorotUniform.draw::<f64>((30, 20), &mut generator(1, &[]));
        let bound = (6.0f64 / 50.0).sqrt();
        assert!(draw.iter().all(|w| w.abs() <= bound));
        assert!(draw.iter().any(|w| *w > 0.8 * bound) && draw.iter().any(|w| *w < -0.8 * bound));
        let single = Init::GlorotUniform.draw::<f32>((30, 20), &mut generator(1, &[]));
        assert_eq!(single, draw.mapv(|w| w as f32));
    }

    #[test]
    fn every_rule_fills_its_bound_and_no_more() {
        for (rule, bound) in [
            (Init::GlorotUniform, (6.0f64 / (60.0 + 8.0)).sqrt()),
            (Init::FanInUniform, 60.0f64.sqrt().recip()),
            // Three matrices of twenty rows.
            (Init::GlorotStacked { count: 3 }, (6.0f64 / (20.0 + 8.0)).sqrt()),
        ] {
            let largest = rule
                .draw::<f64>((60, 8), &mut generator(2, &[]))
                .iter()
                .fold(0.0, |most: f64, w| most.max(w.abs()));
            assert!(largest <= bound && largest > 0.95 * bound, "{rule:?}: {largest} of {bound}");
        }
    }

    #[test]
    fn bounds_and_deviations_that_are_not_positive_are_refused() {
        for number in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(
                Init::Normal(number).check().is_err() && Init::Uniform(number).check().is_err()
            );
        }
        assert!(Init::Normal(0.1).check().is_ok() && Init::Zeros.check().is_ok());
    }
}
