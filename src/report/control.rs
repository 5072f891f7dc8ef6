//! What a report says of a control.

use serde::Serialize;

/// A control of a report in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Control {
    /// Name of its row.
    pub name: String,
    /// What it is.
    pub meaning: String,
    /// How it does against the last stage: `does worse by 3.60 ± 0.20 points`.
    pub verdict: String,
}
