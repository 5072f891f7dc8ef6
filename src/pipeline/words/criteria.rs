//! The words of the criteria.

use super::{Settings, Word};
use crate::error::Result;
use crate::prune::{Criterion, Magnitude, Random, Subset, Taylor};

type Made = Box<dyn Criterion<f32>>;

macro_rules! word {
    ($of:ty, $word:literal, $help:literal, $make:expr) => {
        impl Word for $of {
            type Made = Made;
            const WORD: &'static str = $word;
            const HELP: &'static str = $help;

            fn parse(_: &Settings) -> Result<Made> {
                Ok(Box::new($make))
            }
        }
    };
}

/// [`Magnitude::l1`].
pub struct L1;

/// [`Magnitude::l2`].
pub struct L2;

word!(Subset, "subset", "What readers would lose that others cannot make up for", Subset::new());
word!(L1, "l1", "Sum of the absolute weights", Magnitude::l1());
word!(L2, "l2", "Euclidean norm of the weights", Magnitude::l2());
word!(Taylor, "taylor", "Change of the loss to first order", Taylor::new());
word!(Random, "random", "Chance", Random::new());
