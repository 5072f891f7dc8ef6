//! How the range of an activation is found.

use crate::error::{Error, Result};
use crate::kernels::max_abs;
use serde::{Deserialize, Serialize};

/// What the largest integer of an activation stands for, of all values that the calibration data give it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Calibration {
    /// The largest magnitude: nothing is clipped.
    #[default]
    MinMax,
    /// The magnitude that this percentage of the values does not exceed (nearest rank), in (0, 100]: a few large values are clipped, and
    /// all others have finer steps (Wu et al., "Integer Quantization for Deep Learning Inference", 2020, §5).
    Percentile(f64),
}

impl Calibration {
    /// # Errors
    /// [`Error::Setting`] for a percentage outside (0, 100].
    pub(super) fn check(self) -> Result<()> {
        match self {
            Calibration::Percentile(p) if !(p > 0.0 && p <= 100.0) => Err(Error::setting("percentile", p, "above 0 and at most 100")),
            _ => Ok(()),
        }
    }

    /// The magnitude that the largest integer stands for; NaN if there is one among the values, and 0 of nothing.
    pub fn range(self, values: &[f32]) -> f32 {
        match self {
            Calibration::Percentile(p) if p < 100.0 && !values.is_empty() => {
                let mut magnitudes: Vec<u32> = values.iter().map(|v| v.to_bits() & 0x7fff_ffff).collect();
                let rank = (p / 100.0 * values.len() as f64).ceil() as usize;
                let (_, at, _) = magnitudes.select_nth_unstable(rank.clamp(1, values.len()) - 1);
                // A percentile of zero would clip everything: such a tensor is mostly zeros, and what else is in it counts.
                if *at == 0 { max_abs(values) } else { f32::from_bits(*at) }
            }
            _ => max_abs(values),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_by_nearest_rank() {
        let values: Vec<f32> = (1..=100).map(|k| if k % 2 == 0 { k as f32 } else { -(k as f32) }).collect();
        assert_eq!(Calibration::MinMax.range(&values), 100.0);
        assert_eq!(Calibration::Percentile(99.0).range(&values), 99.0);
        assert_eq!(Calibration::Percentile(0.5).range(&values), 1.0);
        assert_eq!(Calibration::Percentile(100.0).range(&values), 100.0);
        assert_eq!(Calibration::Percentile(98.1).range(&values), 99.0, "the nearest rank is the one above");
    }

    #[test]
    fn nothing_and_nearly_nothing_have_a_range() {
        assert_eq!(Calibration::Percentile(50.0).range(&[]), 0.0);
        assert_eq!(Calibration::Percentile(50.0).range(&[0.0, 0.0, 0.0, 2.0]), 2.0);
        assert!(Calibration::MinMax.range(&[1.0, f32::NAN]).is_nan());
        assert!(Calibration::Percentile(0.0).check().is_err() && Calibration::Percentile(f64::NAN).check().is_err());
    }
}
