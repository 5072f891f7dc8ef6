//! What a data set is asked for.

/// What data are read for: nothing more is asked of a file than that reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Purpose {
    /// Running a network: features and edges. Labels and masks are not looked at: no node has a
    /// label, and every part of the split is empty.
    Predict,
    /// Measuring a network: labels and a test part beside. The other parts are only looked at for
    /// nodes that test too.
    Measure,
    /// Training, and all that chooses by validation: everything.
    #[default]
    Learn,
}
