//! What one seed has come to.

use super::step::Subject;
use crate::quant::QuantModel;

/// The state of one seed after a stage.
#[derive(Clone)]
pub(super) struct SeedState {
    pub(super) subject: Subject,
    /// There after quantisation.
    pub(super) integers: Option<QuantModel>,
}
