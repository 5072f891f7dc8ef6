//! How the learning rate goes from the first epoch to the last.

use crate::error::{Error, Result};
use std::f64::consts::PI;

/// How the learning rate goes from the first epoch to the last.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// `η_t = η·(1 + cos(π·t/T))/2` for epochs `t = 0 … T−1` (Loshchilov and Hutter, ICLR 2017, eq.
    /// 5, one cycle).
    Cosine,
    /// It is multiplied by `factor` after every `every` epochs, as
    /// `torch.optim.lr_scheduler.StepLR`.
    Step {
        /// Epochs between two changes, at least 1.
        every: usize,
        /// What it is multiplied by, in (0, 1].
        factor: f64,
    },
}

impl Schedule {
    /// The factor of the learning rate at `epoch`, counted from 1, of `epochs`.
    pub fn factor(self, epoch: usize, epochs: usize) -> f64 {
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine => (1.0 + (PI * (epoch - 1) as f64 / epochs as f64).cos()) / 2.0,
            Schedule::Step { every, factor } => factor.powf(((epoch - 1) / every) as f64),
        }
    }

    /// As [`Schedule::factor`], after a warm-up: in the first `warmup` epochs the rate grows by the
    /// same amount in each, from `1/warmup` to 1, and the schedule has the epochs after them
    /// (Goyal et al., "Accurate, Large Minibatch SGD", 2017, §2.2).
    pub fn factor_after(self, warmup: usize, epoch: usize, epochs: usize) -> f64 {
        if epoch <= warmup {
            epoch as f64 / warmup as f64
        } else {
            self.factor(epoch - warmup, epochs - warmup)
        }
    }

    pub(super) fn check(self) -> Result<()> {
        let Schedule::Step { every, factor } = self else { return Ok(()) };
        if every == 0 {
            return Err(Error::setting("epochs of a step of the schedule", every, "at least 1"));
        }
        if !(factor > 0.0 && factor <= 1.0) {
            return Err(Error::setting("factor of a step of the schedule", factor, "in (0, 1]"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_have_the_values_of_their_formulas() {
        let all = |schedule: Schedule, warmup, epochs| -> Vec<f64> {
            (1..=epochs).map(|epoch| schedule.factor_after(warmup, epoch, epochs)).collect()
        };
        assert_eq!(all(Schedule::Constant, 0, 3), [1.0; 3]);
        assert_eq!(all(Schedule::Constant, 4, 5), [0.25, 0.5, 0.75, 1.0, 1.0]);
        let halves = Schedule::Step { every: 2, factor: 0.5 };
        assert_eq!(all(halves, 0, 5), [1.0, 1.0, 0.5, 0.5, 0.25]);
        assert_eq!(all(halves, 1, 5), [1.0, 1.0, 1.0, 0.5, 0.5]);
        let cosine = all(Schedule::Cosine, 2, 6);
        assert_eq!(cosine[..3], [0.5, 1.0, 1.0]);
        assert!((cosine[4] - 0.5).abs() < 1e-12 && cosine[5] > 0.0);
    }

    #[test]
    fn steps_out_of_range_are_refused() {
        for (every, factor) in [(0, 0.5), (1, 0.0), (1, 1.5), (1, f64::NAN)] {
            assert!(Schedule::Step { every, factor }.check().is_err());
        }
    }
}
