//! What rounding, training for it and conversion are told.

use super::bits::Bits;
use super::calibration::Calibration;
use super::model::QuantModel;
use super::tables::TableStore;
use crate::reconstruct::Calibrate;

/// How a weight matrix is brought to integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Rounding {
    /// Each weight to the nearest integer, the largest magnitude of a column standing for the
    /// largest integer.
    Nearest,
    /// Column by column so that the outputs of the map change least on the data: the scale by the
    /// smallest squared error, what rounding one weight breaks made up for by those that are not
    /// rounded yet, every later layer solved against the float network's outputs before it is
    /// rounded, biases corrected. Never worse on the data than [`Rounding::Nearest`], in squared
    /// error and map by map.
    ///
    /// *Source*: Frantar et al., "GPTQ", ICLR 2023; the descent over single integers as Behdin et
    /// al., "QuantEase", 2023.
    #[default]
    Compensated,
}

/// Settings of a conversion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub weights: Bits,
    pub activations: Bits,
    /// Without one each activation has its own, chosen by the outputs.
    pub calibration: Option<Calibration>,
    /// Which nodes weights are rounded on.
    pub calibrate: Calibrate,
    pub rounding: Rounding,
    /// What large tables of rows become in the place of integers.
    pub tables: Option<TableStore>,
}

/// The calibration of every value that has scales: of the input where a join or an aggregation
/// reads it, and of each stage but the last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Calibrations {
    pub input: Option<Calibration>,
    pub stages: Vec<Calibration>,
}

impl Calibrations {
    pub(super) fn of(small: &QuantModel) -> Self {
        Self {
            input: small.input_calibration,
            stages: small.stages.iter().filter_map(|stage| stage.calibration).collect(),
        }
    }
}
