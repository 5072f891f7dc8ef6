//! What is asked of a reader.

use super::norm::FeatureNorm;
use super::purpose::Purpose;
use super::split::SplitSource;

/// What was said about how to read.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub norm: Option<FeatureNorm>,
    pub purpose: Purpose,
    pub classes: Option<usize>,
    pub split: Option<SplitSource>,
}
