//! What words stand for.

/// What a word stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A stage that changes a model or its graph.
    Step,
    /// A stage that ends in integers.
    Quantizer,
    /// What scores units.
    Criterion,
    /// What a student imitates.
    Loss,
    /// How the range of an activation is found.
    Calibration,
    /// What moves parameters.
    Optimizer,
}
