//! Errors of the crate: what a caller can get wrong is a value of [`enum@Error`], with the numbers and the place.

use std::path::PathBuf;

/// Result of every fallible function of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, with the numbers and the place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An array has another shape than its place asks for.
    #[error("{at}: expected shape {}x{}, found {}x{}", expected.0, expected.1, found.0, found.1)]
    ShapeMismatch {
        /// Where: a node of the model, a parameter, an array of a file.
        at: String,
        /// Rows and columns that the place asks for.
        expected: (usize, usize),
        /// Rows and columns that were given.
        found: (usize, usize),
    },
    /// An index points past the end of what it indexes.
    #[error("{at}: index {index} is out of range, there are {len}")]
    IndexOutOfRange {
        /// Where the index stands.
        at: String,
        /// The index itself.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// A number that must be finite is not.
    #[error("{at}: value {value} is not finite")]
    NotFinite {
        /// Where the number stands.
        at: String,
        /// The number.
        value: f64,
    },
    /// A setting is outside its legal range.
    #[error("{name} is {value}, it must be {legal}")]
    Setting {
        /// Name of the setting.
        name: String,
        /// The value that was given.
        value: String,
        /// The legal range, in words.
        legal: String,
    },
    /// Two edges connect the same pair with different weights.
    #[error("edge {from} -> {to} is listed with different weights; choose `Duplicates::Sum` or list it once")]
    ConflictingEdge {
        /// Source node of the edge.
        from: usize,
        /// Target node of the edge.
        to: usize,
    },
    /// A layer was given the wrong number of inputs.
    #[error("{at}: takes {expected} inputs, found {found}")]
    InputCount {
        /// The node of the model.
        at: String,
        /// What the layer takes, in words.
        expected: String,
        /// How many it was given.
        found: usize,
    },
    /// A layer that aggregates over neighbours ran without a graph.
    #[error("{at}: needs a graph, and none was given")]
    NoGraph {
        /// The node of the model.
        at: String,
    },
    /// A model is put together wrongly.
    #[error("model: {0}")]
    Model(String),
    /// A data set cannot be used as it is.
    #[error("{name}: {problem}")]
    Data {
        /// Name of the data set or its file.
        name: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A file cannot be read or written, or is not what it should be.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The loss stopped being a finite number.
    #[error("training diverged at epoch {epoch}: the loss is {loss}; try a smaller learning rate")]
    Diverged {
        /// Epoch, counted from 1.
        epoch: usize,
        /// The loss at that epoch.
        loss: f64,
    },
    /// A pruning plan cannot be made or applied.
    #[error(transparent)]
    Prune(#[from] PruneError),
    /// A layer has no form in compiled stages.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The thread pool for a measurement could not be made.
    #[error("thread pool: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

impl Error {
    /// An [`Error::Setting`] from anything that prints.
    pub(crate) fn setting(name: impl Into<String>, value: impl std::fmt::Display, legal: impl Into<String>) -> Self {
        Error::Setting { name: name.into(), value: value.to_string(), legal: legal.into() }
    }

    /// An [`Error::File`] for `path`.
    pub(crate) fn file(path: impl Into<PathBuf>, problem: impl std::fmt::Display) -> Self {
        Error::File { path: path.into(), problem: problem.to_string() }
    }

    /// An [`Error::Data`] for the data set `name`.
    pub(crate) fn data(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Data { name: name.into(), problem: problem.into() }
    }
}

/// Why a pruning plan cannot be made or applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// The plan would leave a layer without channels.
    #[error("the plan would leave nothing of the {channels} channels of `{layer}`; remove a smaller share")]
    EmptiesLayer {
        /// Name of the model's node.
        layer: String,
        /// How many channels it has.
        channels: usize,
    },
    /// There is no channel that may be removed.
    #[error("there is no hidden channel to prune: {reason}")]
    NothingToPrune {
        /// Why not.
        reason: String,
    },
    /// A plan was made for another model.
    #[error("the plan does not fit the model: {reason}")]
    OtherModel {
        /// What differs.
        reason: String,
    },
    /// A layer refuses the channels that a plan leaves it.
    #[error("`{layer}` refuses the plan: {reason}")]
    Refused {
        /// Name of the model's node.
        layer: String,
        /// Why.
        reason: String,
    },
}

/// A layer, or a setting of it, that has no form in compiled stages.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{layer}` cannot be compiled: {reason}")]
pub struct Unsupported {
    /// Name of the model's node.
    pub layer: String,
    /// What has no stage.
    pub reason: String,
}
