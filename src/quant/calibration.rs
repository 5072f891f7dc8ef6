//! How the range of an activation is found.

use crate::error::{Error, Result};
use crate::kernels::max_abs;
use serde::{Deserialize, Serialize};

/// What the largest integer of an activation stands for, of all values that the calibration data
/// give it.
///
/// In the words of the command line: `max`, and `percentile:99.5`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Calibration {
    /// The largest magnitude: nothing is clipped.
    #[default]
    MinMax,
    /// The magnitude that this percentage of the values does not exceed (nearest rank), in (0,
    /// 100]: a few large values are clipped, and all others have finer steps (Wu et al., "Integer
    /// Quantization for Deep Learning Inference", 2020, §5).
    Percentile(f64),
}

impl Calibration {
    /// # Errors
    /// [`Error::Setting`] for a percentage outside (0, 100].
    pub(crate) fn check(self) -> Result<()> {
        match self {
            Calibration::Percentile(p) if !(p > 0.0 && p <= 100.0) => {
                Err(Error::setting("percentile", p, "above 0 and at most 100"))
            }
            _ => Ok(()),
        }
    }

    /// The magnitude that the largest integer stands for; not finite where one of the values is
    /// not, and 0 of nothing.
    pub fn range(self, values: &[f32]) -> f32 {
        ranges(&[self], values)[0]
    }

    /// Whether values can lie past the largest integer.
    pub(super) fn clips(self) -> bool {
        matches!(self, Calibration::Percentile(p) if p < 100.0)
    }
}

/// The ranges of several calibrations: each percentile is looked for among what lies above the one
/// before.
pub(super) fn ranges(calibrations: &[Calibration], values: &[f32]) -> Vec<f32> {
    let max = max_abs(values);
    let mut ranges = vec![max; calibrations.len()];
    let rank = |calibration: &Calibration| match *calibration {
        Calibration::Percentile(p) => (p / 100.0 * values.len() as f64).ceil() as usize,
        Calibration::MinMax => values.len(),
    };
    let mut ranks: Vec<(usize, usize)> =
        calibrations.iter().map(rank).enumerate().map(|(k, rank)| (rank.max(1), k)).collect();
    // What no rank clips is known already; and beside a value that is not finite no percentile says
    // what the others are worth.
    ranks.retain(|&(rank, _)| rank < values.len() && max.is_finite());
    if ranks.is_empty() {
        return ranges;
    }
    ranks.sort_unstable();
    let mut magnitudes: Vec<u32> = values.iter().map(|v| v.to_bits() & 0x7fff_ffff).collect();
    let mut below = 0;
    for (rank, k) in ranks {
        let (_, at, _) = magnitudes[below..].select_nth_unstable(rank - 1 - below);
        // A percentile of zero would clip everything: such a tensor is mostly zeros, and what else
        // is in it counts.
        ranges[k] = if *at == 0 { max } else { f32::from_bits(*at) };
        below = rank - 1;
    }
    ranges
}

impl std::fmt::Display for Calibration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Calibration::MinMax => f.write_str("max"),
            Calibration::Percentile(p) => write!(f, "percentile:{p}"),
        }
    }
}

impl std::str::FromStr for Calibration {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let illegal = || {
            Error::setting(
                "`calibration`",
                format!("`{word}`"),
                "max or percentile:P with P above 0 and at most 100",
            )
        };
        let calibration = match word.split_once(':') {
            None if word == "max" => Calibration::MinMax,
            Some(("percentile", p)) => Calibration::Percentile(p.parse().map_err(|_| illegal())?),
            _ => return Err(illegal()),
        };
        calibration.check().map_err(|_| illegal())?;
        Ok(calibration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_by_nearest_rank() {
        let values: Vec<f32> =
            (1..=100).map(|k| if k % 2 == 0 { k as f32 } else { -(k as f32) }).collect();
        assert_eq!(Calibration::MinMax.range(&values), 100.0);
        assert_eq!(Calibration::Percentile(99.0).range(&values), 99.0);
        assert_eq!(Calibration::Percentile(0.5).range(&values), 1.0);
        assert_eq!(Calibration::Percentile(100.0).range(&values), 100.0);
        assert_eq!(
            Calibration::Percentile(98.1).range(&values),
            99.0,
            "the nearest rank is the one above"
        );
    }

    #[test]
    fn nothing_and_nearly_nothing_have_a_range() {
        assert_eq!(Calibration::Percentile(50.0).range(&[]), 0.0);
        assert_eq!(Calibration::Percentile(50.0).range(&[0.0, 0.0, 0.0, 2.0]), 2.0);
        assert!(Calibration::MinMax.range(&[1.0, f32::NAN]).is_nan());
        // No percentile hides what is not a number.
        let mut values = vec![1.0; 1000];
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            values[500] = bad;
            assert!(!Calibration::Percentile(99.0).range(&values).is_finite(), "{bad}");
        }
        assert!(
            Calibration::Percentile(0.0).check().is_err()
                && Calibration::Percentile(f64::NAN).check().is_err()
        );
    }

    #[test]
    fn several_ranges_are_those_that_each_has_by_itself() {
        let percentages = [99.0, 50.0, 100.0, 99.99, 0.1, 50.0, 97.5];
        let of: Vec<Calibration> = std::iter::once(Calibration::MinMax)
            .chain(percentages.map(Calibration::Percentile))
            .collect();
        for count in [1usize, 2, 7, 100, 1013] {
            let values: Vec<f32> = (0..count)
                .map(|k| ((k * 7919) % 601) as f32 - 300.0)
                .map(|v| if v < -150.0 { 0.0 } else { v })
                .collect();
            let mut sorted: Vec<f32> = values.iter().map(|v| v.abs()).collect();
            sorted.sort_by(f32::total_cmp);
            let found = ranges(&of, &values);
            for (calibration, found) in of.iter().zip(found) {
                let p = if let Calibration::Percentile(p) = calibration { *p } else { 100.0 };
                let at = sorted[((p / 100.0 * count as f64).ceil() as usize).max(1) - 1];
                assert_eq!(
                    found,
                    if at == 0.0 { sorted[count - 1] } else { at },
                    "{calibration} of {count}"
                );
                assert_eq!(found, calibration.range(&values), "{calibration} of {count}");
            }
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for calibration in
            [Calibration::MinMax, Calibration::Percentile(99.5), Calibration::Percentile(100.0)]
        {
            assert_eq!(calibration.to_string().parse::<Calibration>().unwrap(), calibration);
        }
        for wrong in [
            "",
            "min",
            "percentile",
            "percentile:",
            "percentile:0",
            "percentile:101",
            "percentile:nan",
            "max:1",
        ] {
            let error = wrong.parse::<Calibration>().unwrap_err().to_string();
            assert!(
                error.contains(&format!("`{wrong}`")) && error.contains("percentile:P"),
                "{error}"
            );
        }
    }
}
