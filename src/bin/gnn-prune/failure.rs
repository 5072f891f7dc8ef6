//! What ends a command, in words that fit one line.

use std::io;
use std::path::{Path, PathBuf};

/// Result of every command.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The library refuses.
    #[error(transparent)]
    Library(#[from] gnn_prune::Error),
    /// The system gives no threads.
    #[error(
        "threads cannot be started: {0}; RAYON_NUM_THREADS=1 asks for fewer, and `ulimit -v` or `-u` may be too small"
    )]
    Threads(rayon::ThreadPoolBuildError),
    /// The words are known and mean nothing yet.
    #[error(
        "`{words}` is not built yet; leave it out, `gnn-prune help COMMAND` lists what there is"
    )]
    NotBuilt { words: String },
    /// A setting that the model does not have.
    #[error(
        "`--{flag}` is a setting of {kinds}, and `{model}` has none; leave it out, or choose one of these by `--model`"
    )]
    Unfit { flag: String, kinds: String, model: String },
    /// A network that does not do what is asked.
    #[error(
        "`{model}` is no network for the task `{task}`, which has {kinds}; choose one of these by `--model`, or another task by `--task`"
    )]
    OtherTask { model: String, task: String, kinds: String },
    /// A setting of other tasks.
    #[error("`--{flag}` changes nothing in the task `{task}`; leave it out")]
    OfAnotherTask { flag: String, task: String },
    /// A line of `--ask` that names nothing.
    #[error("{}: line {line}: there is no {what} `{word}`; give one number a line", path.display())]
    Asked { path: PathBuf, line: usize, what: &'static str, word: String },
    /// A file for `--ask` without a query.
    #[error("{}: nothing is asked; give one query a line", path.display())]
    NothingAsked { path: PathBuf },
    /// What is asked in training, where nothing trains.
    #[error(
        "`--{flag}` says what training asks, and nothing trains here; leave it out, or add `--finetune`"
    )]
    NothingTrains { flag: String },
    /// A setting of messages beside a model without.
    #[error("`--{flag}` is about messages over edges, and the model has none; leave it out")]
    NoEdges { flag: String },
    /// A second training that is not said to end.
    #[error(
        "`--refit` trains for exactly `--epochs` epochs, those that validation chose before; give it too"
    )]
    RefitFor,
    /// A model of tables of other nodes.
    #[error("{}: has rows for {model} nodes, and `{data}` has {found}", path.display())]
    OtherNodes { path: PathBuf, model: usize, data: String, found: usize },
    /// A table that could not be made.
    #[error("the table: {0}")]
    Table(String),
    /// A setting of data about nodes.
    #[error("`--{flag}` is of data whose nodes have classes; leave it out")]
    OfNodesAlone { flag: String },
    /// A setting of mini-batches of neighbours.
    #[error(
        "`--{flag}` is of mini-batches of neighbours: it goes with `--sampler neighbors` or `--fanout`"
    )]
    NeedsNeighbors { flag: String },
    /// A setting of other losses.
    #[error(
        "`--{flag}` is a setting of the losses {losses}, and `{loss}` has none; leave it out, or choose one of these by `--loss`"
    )]
    OfOtherLosses { flag: &'static str, losses: String, loss: String },
    /// More weights than a run could hold.
    #[error(
        "`--hidden {hidden} --layers {layers}` makes {weights} weights or more, at most {most} are allowed; choose a smaller model"
    )]
    TooLarge { hidden: usize, layers: usize, weights: u128, most: u128 },
    /// A model and data of other widths.
    #[error("{}: the model has {model} {what}, and `{data}` has {found}; give the data that it was trained on{trained}", path.display())]
    Misfit {
        path: PathBuf,
        what: &'static str,
        model: usize,
        data: String,
        found: usize,
        trained: String,
    },
    /// A model that is read is what it is.
    #[error(
        "`--{flag}` cannot go with `--from`: that model has its form, its training and its seed; leave one of the two out"
    )]
    WithFrom { flag: String },
    /// A file of this crate tells everything.
    #[error("{}: is no checkpoint of PyTorch Geometric, so there is nothing to `--assume`; leave it out", path.display())]
    NothingToAssume { path: PathBuf },
    /// Integers cannot be changed further.
    #[error("{}: is a quantised model, which cannot be compressed further; give the float model", path.display())]
    Quantised { path: PathBuf },
    /// Integers have no twin in PyTorch.
    #[error("{}: is a quantised model, and PyTorch Geometric has no layers of integers; export the float model", path.display())]
    NotExported { path: PathBuf },
    /// A recipe has all stages.
    #[error(
        "`--{flag}` cannot go with `--recipe`: the recipe has the stages and their qualifiers; leave one of the two out"
    )]
    WithRecipe { flag: String },
    /// A result that could not be written after the work is done.
    #[error("{}: {problem}", path.display())]
    Output { path: PathBuf, problem: &'static str },
    /// Two results, of which one would be lost.
    #[error("{}: {flags} cannot both be written there; give two names", path.display())]
    OnePlace { path: PathBuf, flags: String },
    /// A page of a command that there is not.
    #[error("there is no command `{name}`; give one of {known}")]
    NoCommand { name: String, known: String },
    /// Nothing says where stages are kept.
    #[error(
        "`--resume` goes on with what a run has kept; give the `--out` or `--work` of that run"
    )]
    NothingToResume,
    /// Ctrl-C, while stages are kept: no mistake, and an exit code of its own.
    #[error("{}", interrupted(*kept, folder, command))]
    Interrupted { kept: usize, folder: PathBuf, command: String },
    /// Python that belongs to a file, and standard output takes no more.
    #[error(
        "the file is written; how Python loads it goes to standard output, which cannot be written: {0}"
    )]
    Listing(io::Error),
    /// Standard output takes no more.
    #[error("standard output cannot be written: {0}")]
    Stdout(io::Error),
}

fn interrupted(kept: usize, folder: &Path, command: &str) -> String {
    match kept {
        0 => "before the first stage was finished; nothing is kept".into(),
        1 => format!("1 finished stage is kept in {}; go on with `{command}`", folder.display()),
        _ => format!(
            "{kept} finished stages are kept in {}; go on with `{command}`",
            folder.display()
        ),
    }
}
