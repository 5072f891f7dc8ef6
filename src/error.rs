//! Errors of the crate: what a caller can get wrong is a value of [`enum@Error`], with the numbers
//! and the place.

use std::fmt::{self, Display, Formatter, Write};
use std::path::PathBuf;

/// Result of every fallible function of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, with the numbers and the place.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An array has another shape than its place asks for.
    #[error("{}: expected shape {}x{}, found {}x{}", OneLine(at), expected.0, expected.1, found.0, found.1)]
    ShapeMismatch {
        /// Where: a node of the model, a parameter, an array of a file.
        at: String,
        /// Rows and columns that the place asks for.
        expected: (usize, usize),
        /// Rows and columns that were given.
        found: (usize, usize),
    },
    /// An index points past the end of what it indexes.
    #[error("{}: index {index} is out of range, there are {len}", OneLine(at))]
    IndexOutOfRange {
        /// Where the index stands.
        at: String,
        /// The index itself.
        index: usize,
        /// How many there are.
        len: usize,
    },
    /// A number that must be finite is not.
    #[error("{}: value {value} is not finite", OneLine(at))]
    NotFinite {
        /// Where the number stands.
        at: String,
        /// The number.
        value: f64,
    },
    /// A setting is outside its legal range.
    #[error("{} is {}, it must be {}", OneLine(name), OneLine(value), OneLine(legal))]
    Setting {
        /// Name of the setting.
        name: String,
        /// The value that was given.
        value: String,
        /// The legal range, in words.
        legal: String,
    },
    /// Two edges connect the same pair with different weights.
    #[error(
        "edge {from} -> {to} is listed with different weights; choose `Duplicates::Sum` or list it once"
    )]
    ConflictingEdge {
        /// Source node of the edge.
        from: usize,
        /// Target node of the edge.
        to: usize,
    },
    /// A norm of a graph has no value at a node.
    #[error("node {node} has the weighted degree {degree}, of which the {norm} norm has no value; {}", no_value(*degree))]
    Degree {
        /// The first such node.
        node: usize,
        /// The sum of the weights of its incoming edges, a self-loop that the norm adds counted.
        degree: f64,
        /// The norm, in a word.
        norm: &'static str,
    },
    /// A layer was given the wrong number of inputs.
    #[error("{}: takes {} inputs, found {found}", OneLine(at), from_to(*least, *most))]
    InputCount {
        /// The node of the model.
        at: String,
        /// The fewest that it takes.
        least: usize,
        /// The most that it takes.
        most: usize,
        /// How many it was given.
        found: usize,
    },
    /// A layer that aggregates over neighbours ran without a graph.
    #[error("{}: needs a graph, and none was given", OneLine(at))]
    NoGraph {
        /// The node of the model.
        at: String,
    },
    /// A layer that pools over the nodes of each graph ran where nobody says which those are.
    #[error(
        "{}: pools over the graphs of a batch, and the batch does not say the graph of each node; give `Rows::graphs`",
        OneLine(at)
    )]
    NoGraphs {
        /// The node of the model.
        at: String,
    },
    /// A layer that runs on whole graphs was given the hops of a sample.
    #[error("{}: runs on whole graphs only, and was given the hops of a sample", OneLine(at))]
    OnlyAHop {
        /// The node of the model.
        at: String,
    },
    /// A layer that scores pairs was run on a batch that asks about none.
    #[error("{}: scores pairs of nodes, and the batch asks about none", OneLine(at))]
    NoQueries {
        /// The node of the model.
        at: String,
    },
    /// What a layer draws by edges was asked for on a batch, whose edges nobody knows.
    #[error("{}: dropout of attention is drawn on whole graphs only, not on a batch", OneLine(at))]
    DrawsByEdge {
        /// The node of the model.
        at: String,
    },
    /// A model is put together wrongly.
    #[error("model: {}", OneLine(.0))]
    Model(#[from] ModelError),
    /// A network of PyTorch cannot be read, or a model not be written as one.
    #[error("model: {}", OneLine(.0))]
    Network(String),
    /// Student and teacher do not belong together.
    #[error(
        "model: student and teacher do not match: the student has {}, its teacher {}",
        OneLine(student),
        OneLine(teacher)
    )]
    StudentAndTeacher {
        /// What the student has.
        student: String,
        /// What its teacher has in that place.
        teacher: String,
    },
    /// What code outside of the crate refuses, in its own words.
    #[error("{}", OneLine(.0))]
    Other(String),
    /// A data set cannot be used as it is.
    #[error("{}: {}", OneLine(name), OneLine(problem))]
    Data {
        /// Name of the data set or its file.
        name: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A file cannot be read or written, or is not what it should be.
    #[error("{}: {}", OneLine(path.display()), OneLine(problem))]
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
    /// Whoever listens to the work asked it to stop; see [`Observer`](crate::train::Observer) and
    /// [`Compression::stop_when`](crate::Compression::stop_when).
    #[error("interrupted before the work was done")]
    Interrupted,
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

/// What is wrong with how a model is put together, or with what a file says of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Two nodes of one name.
    #[error("node name `{0}` is taken")]
    NameTaken(String),
    /// A name that no node may have.
    #[error("node name `{0}` is empty, `input`, or has a dot in it")]
    NameIllegal(String),
    /// A node reads one that comes later, or that there is not.
    #[error("node `{node}` reads node {input}, which is not there yet")]
    UnknownInput {
        /// The node that reads.
        node: String,
        /// What it reads.
        input: usize,
    },
    /// The output is the input, or no node at all.
    #[error("the output must be one of the model's layers")]
    NoOutput,
    /// A node that leads nowhere.
    #[error("nothing reads node `{0}`")]
    Unread(String),
    /// A node whose inputs have rows of different kinds.
    #[error("node `{node}` cannot join rows of {}", rows.join(" with rows of "))]
    RowsDiffer {
        /// The node.
        node: String,
        /// What the rows of its inputs are.
        rows: Vec<String>,
    },
    /// A node without output channels.
    #[error("node `{0}` has no output channels")]
    NoChannels(String),
    /// A node that joins its inputs to more channels than a model may have.
    #[error("node `{node}` joins its inputs to more than {most} channels")]
    TooManyChannels {
        /// The node.
        node: String,
        /// The most that there may be.
        most: usize,
    },
    /// A node that adds up inputs of different widths.
    #[error("node `{node}` joins {} channels with {}; all its inputs need the same width", widths[0], widths[1])]
    WidthsDiffer {
        /// The node.
        node: String,
        /// The width of its first input, and another.
        widths: [usize; 2],
    },
    /// A kind of layer that the registry does not have.
    #[error("unknown layer `{kind}`; known are {known}")]
    UnknownLayer {
        /// The kind.
        kind: String,
        /// What the registry has.
        known: String,
    },
    /// A setting that a layer needs is not there.
    #[error("setting `{0}` of a layer is missing")]
    MissingSetting(String),
    /// A setting of a layer that cannot be read.
    #[error("setting `{name}` of a layer is `{value}`: {reason}")]
    WrongSetting {
        /// Its name.
        name: String,
        /// What it is.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A parameter that a layer needs is not there.
    #[error("parameter `{0}` of a layer is missing")]
    MissingParam(String),
    /// The settings of a layer do not go with its parameters, or with each other.
    #[error("{0}")]
    Misfit(String),
    /// A layer whose maps cannot be made again some rows at a time.
    #[error(
        "maps of `{node}` ({kind}) cannot be recomputed: {reason}; keep them whole or in 8 bits"
    )]
    KeepsMaps {
        /// The node.
        node: String,
        /// Its kind.
        kind: String,
        /// What it does that stands against it.
        reason: String,
    },
    /// A liveness was worked out for something else.
    #[error("the liveness is of another model, mode or pass")]
    OtherLiveness,
    /// Two gradients of one node that cannot be added up.
    #[error("two gradients of one node differ in shape or storage")]
    GradientsDiffer,
    /// The stages of a quantised model do not fit each other.
    #[error("{0}")]
    Stages(String),
    /// Bytes that are no model, or a damaged one.
    #[error("{0}")]
    Damaged(String),
}

/// `2`, `1 to 3`, `at least 2`.
fn from_to(least: usize, most: usize) -> String {
    match most {
        _ if least == most => least.to_string(),
        usize::MAX => format!("at least {least}"),
        most => format!("{least} to {most}"),
    }
}

/// Words that came from a file or a user, in one line: what would break it, or do something to a
/// terminal, is escaped.
struct OneLine<T>(T);

impl<T: Display> Display for OneLine<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        struct Escaping<'a, 'f>(&'a mut Formatter<'f>);
        impl fmt::Write for Escaping<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.chars().try_for_each(|c| match c {
                    // The separators of lines and of paragraphs are no control characters.
                    '\u{2028}' | '\u{2029}' => write!(self.0, "{}", c.escape_unicode()),
                    c if c.is_control() => write!(self.0, "{}", c.escape_default()),
                    c => self.0.write_char(c),
                })
            }
        }
        write!(Escaping(f), "{}", self.0)
    }
}

/// Why a norm has no value at a degree, and what to do.
fn no_value(degree: f64) -> &'static str {
    if degree < 0.0 {
        "a negative degree has no root: shift or drop the negative weights, or use a layer that does not divide by degrees"
    } else {
        "its weights cancel: drop them, or aggregate by a sum"
    }
}

impl Error {
    /// An [`Error::Setting`] from anything that prints.
    pub(crate) fn setting(
        name: impl Into<String>,
        value: impl std::fmt::Display,
        legal: impl Into<String>,
    ) -> Self {
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
    #[error(
        "the plan would leave nothing of the {channels} channels of `{}`; remove a smaller share",
        OneLine(layer)
    )]
    EmptiesLayer {
        /// Name of the model's node.
        layer: String,
        /// How many channels it has.
        channels: usize,
    },
    /// There is no channel that may be removed.
    #[error("there is no hidden channel to prune: {}", OneLine(reason))]
    NothingToPrune {
        /// Why not.
        reason: String,
    },
    /// There is no encoder whose rows could be kept.
    #[error("there is no encoder to run once: {}", OneLine(reason))]
    NothingToPrecompute {
        /// Why not.
        reason: String,
    },
    /// A plan was made for another model.
    #[error("the plan does not fit the model: {}", OneLine(reason))]
    OtherModel {
        /// What differs.
        reason: String,
    },
    /// A layer refuses the channels that a plan leaves it.
    #[error("`{}` refuses the plan: {}", OneLine(layer), OneLine(reason))]
    Refused {
        /// Name of the model's node.
        layer: String,
        /// Why.
        reason: String,
    },
    /// A criterion does not score units of this kind.
    #[error("the criterion `{}` does not score {units}: {}", OneLine(criterion), OneLine(reason))]
    Unserved {
        /// The criterion.
        criterion: String,
        /// The kind of units.
        units: &'static str,
        /// Why not, and what to do.
        reason: String,
    },
}

/// A layer, or a setting of it, that has no form in compiled stages.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{}` cannot be compiled: {}", OneLine(layer), OneLine(reason))]
pub struct Unsupported {
    /// Name of the model's node.
    pub layer: String,
    /// What has no stage.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_words_it_is_given() {
        let words = || "a\nb\r\u{1b}[2J\u{85}\u{2028}c".to_string();
        let prune = [
            PruneError::EmptiesLayer { layer: words(), channels: 3 },
            PruneError::NothingToPrune { reason: words() },
            PruneError::OtherModel { reason: words() },
            PruneError::Refused { layer: words(), reason: words() },
            PruneError::Unserved { criterion: words(), units: "edges", reason: words() },
        ];
        let errors = [
            Error::ShapeMismatch { at: words(), expected: (1, 2), found: (3, 4) },
            Error::IndexOutOfRange { at: words(), index: 1, len: 1 },
            Error::NotFinite { at: words(), value: f64::NAN },
            Error::setting(words(), words(), words()),
            Error::InputCount { at: words(), least: 1, most: 2, found: 3 },
            Error::NoGraph { at: words() },
            Error::NoGraphs { at: words() },
            ModelError::NameTaken(words()).into(),
            ModelError::Damaged(words()).into(),
            Error::Network(words()),
            Error::Other(words()),
            Error::StudentAndTeacher { student: words(), teacher: words() },
            Error::data(words(), words()),
            Error::file(words(), words()),
            Unsupported { layer: words(), reason: words() }.into(),
        ];
        let plain = |message: &str| {
            !message.chars().any(|c| c.is_control() || "\u{2028}\u{2029}".contains(c))
        };
        for message in
            errors.iter().map(Error::to_string).chain(prune.iter().map(PruneError::to_string))
        {
            assert!(
                plain(&message) && message.contains("a\\nb\\r\\u{1b}[2J\\u{85}\\u{2028}c"),
                "{message:?}"
            );
        }
    }
}
