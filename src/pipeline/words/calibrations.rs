//! The words of the ways in which ranges of activations are found.

use super::{Key, Settings, Word};
use crate::error::Result;
use crate::quant::Calibration;

type Made = Option<Calibration>;

/// Ranges by what the next layer computes.
pub struct Outputs;

/// [`Calibration::MinMax`].
pub struct Max;

/// [`Calibration::Percentile`].
pub struct Percentile;

impl Word for Outputs {
    type Made = Made;
    const WORD: &'static str = "outputs";
    const HELP: &'static str = "The range that loses least of what the next layer computes";

    fn parse(_: &Settings) -> Result<Made> {
        Ok(None)
    }
}

impl Word for Max {
    type Made = Made;
    const WORD: &'static str = "max";
    const HELP: &'static str = "The largest magnitude";

    fn parse(_: &Settings) -> Result<Made> {
        Ok(Some(Calibration::MinMax))
    }
}

impl Word for Percentile {
    type Made = Made;
    const WORD: &'static str = "percentile";
    const HELP: &'static str = "The magnitude that this percentage does not exceed";
    const AMOUNT: Option<Key> = Some(
        Key::number(
            "percentile",
            "above 0 and at most 100",
            |percent| percent > 0.0 && percent <= 100.0,
            "P above 0 and at most 100",
        )
        .value_name("P"),
    );

    fn parse(settings: &Settings) -> Result<Made> {
        Ok(Some(Calibration::Percentile(settings.amount()?)))
    }
}
