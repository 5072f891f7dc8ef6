//! What the command line takes.

use crate::commands::Width;
use crate::failure::{Failure, Result};
use crate::model_args::ModelArgs;
use crate::output::{Verbosity, remark};
use crate::predictions::Written;
use crate::sources::TaskKind;
use clap::builder::RangedU64ValueParser;
use clap::{
    Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};
use gnn_prune::data::{Purpose, Reader, SplitSource};
use gnn_prune::io::{
    self,
    pyg::{Assumptions, TrainedOn},
};
use gnn_prune::pipeline::{Entry, Key, Words};
use gnn_prune::{Compressed, Dataset, FeatureNorm};
use std::path::{Path, PathBuf};

pub const MOST_EPOCHS: u64 = 1_000_000;
const MOST_SEEDS: u64 = 1000;
const MOST_THREADS: u64 = 1024;
/// Answers of a query that can be asked for.
const MOST_ANSWERS: u64 = 1 << 20;

/// Makes graph neural networks small and fast on ordinary CPUs.
#[derive(Parser)]
#[command(name = "gnn-prune", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub said: SaidArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// How much is said on stderr.
#[derive(Args)]
pub struct SaidArgs {
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say on stderr what is done; twice, every epoch too
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
}

impl SaidArgs {
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Usual,
            (false, 1) => Verbosity::Steps,
            (false, _) => Verbosity::All,
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  gnn-prune compress --one-shot --weights 0.7        see it work, on embedded digits
  gnn-prune train cora.npz --seeds 10 --out model.safetensors
  gnn-prune compress cora.npz --from model.safetensors --channels 0.75 --finetune 50 --report r.html
  gnn-prune help compress";

const TRAIN_EXAMPLES: &str = "\
Examples:
  gnn-prune train cora.npz --features l1 --seeds 10 --out model.safetensors
  gnn-prune train sbm:nodes=1000,classes=4 --model gat --heads 4 --hidden 8
  gnn-prune train --epochs 50 --json - | jq '.rows[0].accuracy.mean'";

const COMPRESS_EXAMPLES: &str = "\
Examples:
  gnn-prune compress cora.npz --one-shot --seeds 10 --report report.html
  gnn-prune compress cora.npz --from model.safetensors --channels 0.75 --finetune 50 --out small
  gnn-prune compress --distill mlp:32 --bits 8 --qat 20 --controls none
  gnn-prune compress cora.npz --recipe recipe.toml --seeds 10 --json report.json";

const PREDICT_EXAMPLES: &str = "\
Examples:
  gnn-prune predict cora.npz --from model.safetensors --out logits.npy
  gnn-prune predict cora.npz --from model.safetensors --write classes --out classes.csv
  gnn-prune predict lastfm --from model.safetensors --top 5 --out recommended.csv
  gnn-prune predict wn18rr --from model.safetensors --ask queries.txt --out answers.csv";

const EXPORT_EXAMPLES: &str = "\
Example:
  gnn-prune export --from model.safetensors --out state.safetensors > load.py";

const INSPECT_EXAMPLES: &str = "\
Examples:
  gnn-prune inspect model.safetensors
  gnn-prune inspect model.safetensors --json - | jq '.nodes[].channels'";

const BENCH_EXAMPLES: &str = "\
Example:
  gnn-prune bench cora.npz --from model.safetensors --from small.safetensors --threads 2";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  gnn-prune completions bash > ~/.local/share/bash-completion/completions/gnn-prune
  gnn-prune completions zsh > ~/.zfunc/_gnn-prune";

const MAN_EXAMPLES: &str = "\
Examples:
  gnn-prune man | man -l -
  gnn-prune man compress > gnn-prune-compress.1";

#[derive(Subcommand)]
pub enum Command {
    /// Train a model and report it
    #[command(after_help = TRAIN_EXAMPLES)]
    Train(Box<TrainArgs>),
    /// Train or read a model, make it smaller, and report every stage
    #[command(after_help = COMPRESS_EXAMPLES)]
    Compress(Box<CompressArgs>),
    /// Write what a model says of every node, or its best answers to queries
    #[command(after_help = PREDICT_EXAMPLES)]
    Predict(PredictArgs),
    /// Write a model for PyTorch Geometric, and print Python for it
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Show what is in a model file
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Measure models side by side
    #[command(after_help = BENCH_EXAMPLES)]
    Bench(BenchArgs),
    /// Print what completes this command line in a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Print the manual page, of the whole or of one command
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),
}

/// The command line as it is built, for completions and manual pages.
pub fn built() -> clap::Command {
    Cli::command()
}

/// The whole command line, with the flags that are known and not built.
pub fn command() -> clap::Command {
    let later = |flag: &'static str| Arg::new(flag).long(flag).action(ArgAction::Append).hide(true);
    let flags = Words::standard().later().iter().map(|flag| later(flag));
    built().mut_subcommand("compress", |command| command.args(flags))
}

/// Refuses the flags that are known and not built.
pub fn refuse_later(flags: &ArgMatches) -> Result<()> {
    let words = Words::standard();
    match flags.ids().map(clap::Id::as_str).find(|flag| words.later().contains(flag)) {
        Some(flag) => Err(not_built(&format!("--{flag}"))),
        None => Ok(()),
    }
}

pub fn not_built(words: &str) -> Failure {
    Failure::NotBuilt { words: words.into() }
}

/// A whole number from 1 to `most`.
pub fn count(most: u64) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=most)
}

/// What a state dict of PyTorch does not tell.
#[derive(Args)]
pub struct NetworkArgs {
    /// What a state dict of PyTorch does not tell: activation=elu,…
    #[arg(long, value_name = "NAME=VALUE", conflicts_with = "network")]
    pub assume: Option<Assumptions>,
    /// Its layers in TOML, as `inspect FILE --network-template` writes
    #[arg(long, value_name = "FILE")]
    pub network: Option<PathBuf>,
}

/// DATA and how its features are read.
#[derive(Args)]
pub struct DataArgs {
    /// A graph in a file, or `digits`, or a generator; see below
    #[arg(default_value = "digits")]
    pub data: String,
    /// What is asked: node, graph, link, recommend [default: as DATA is]
    #[arg(long, value_enum, value_name = "TASK", hide_possible_values = true)]
    pub task: Option<TaskKind>,
    /// Scaling of rows: l2 (default if sparse), l1, binary, raw (if dense)
    #[arg(long, value_name = "HOW")]
    pub features: Option<FeatureNorm>,
    /// Shares 0.6/0.2/0.2, nodes per class 20/30, or a file [default: masks]
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<SplitSource>,
}

impl DataArgs {
    /// Opens the data to train on.
    pub fn open(&self, purpose: Purpose) -> Result<Dataset> {
        let data = self.read(Dataset::word(&self.data).purpose(purpose), self.features)?;
        say_notes(data.name(), data.notes(), &mut Vec::new());
        Ok(data)
    }

    /// Opens the data with the features that the model from `path` was trained on, unless the
    /// command line says otherwise. What was assumed is said, but not what is `said` already.
    pub fn open_for(
        &self,
        model: &Compressed,
        path: &Path,
        purpose: Purpose,
        said: &mut Vec<String>,
    ) -> Result<Dataset> {
        let reader = Dataset::word(&self.data).purpose(purpose).classes(model.out_channels());
        let widths = [Width::Features, Width::Classes];
        let widths = if purpose == Purpose::Predict { &widths[..1] } else { &widths };
        self.read_for(reader, model, path, widths, said)
    }

    /// As [`DataArgs::open_for`], for a model of pairs of nodes, whose outputs are not classes.
    pub fn open_pairs_for(
        &self,
        model: &Compressed,
        path: &Path,
        said: &mut Vec<String>,
    ) -> Result<Dataset> {
        let reader = Dataset::word(&self.data).purpose(Purpose::Predict);
        self.read_for(reader, model, path, &[Width::Features], said)
    }

    fn read_for(
        &self,
        reader: Reader,
        model: &Compressed,
        path: &Path,
        widths: &[Width],
        said: &mut Vec<String>,
    ) -> Result<Dataset> {
        let recorded = model.origin().map(|origin| origin.features.parse()).transpose()?;
        let norm = self.features.or(recorded);
        let data = self.read(reader, norm)?;
        widths.iter().try_for_each(|width| width.check(model, &data, path))?;
        say_notes(data.name(), data.notes(), said);
        if !io::is_own(path)
            && let Some(problem) = TrainedOn::read(path)?.and_then(|told| told.differs(&data))
        {
            say(format!("{}: {problem}", data.name()), said);
        }
        if norm.is_none() && data.feature_norm() != FeatureNorm::Raw {
            let scaling = data.feature_norm();
            say(
                format!(
                    "{}: rows of the features are scaled by {scaling}, which the model does not tell; `--features raw` leaves them",
                    data.name()
                ),
                said,
            );
        }
        Ok(data)
    }

    fn read(&self, mut reader: Reader, norm: Option<FeatureNorm>) -> Result<Dataset> {
        if let Some(norm) = norm {
            reader = reader.features(norm);
        }
        if let Some(split) = &self.split {
            reader = reader.split(split.clone());
        }
        let data = reader.read()?;
        // What the file took while it was read is of no use to the hours that follow.
        gnn_prune::trim();
        Ok(data)
    }
}

/// Says what a reader assumed or did not use, but not what is `said` already.
pub fn say_notes(name: &str, notes: &[String], said: &mut Vec<String>) {
    notes.iter().for_each(|note| say(format!("{name}: {note}"), said));
}

fn say(words: String, said: &mut Vec<String>) {
    if !said.contains(&words) {
        remark(&words);
        said.push(words);
    }
}

/// What DATA may be, below the help of the commands that read it.
const DATA: &str = "DATA is one of
  digits                  handwritten digits, part of the program
  sbm:nodes=1000,...      generated: classes, degree, seed; also powerlaw:nodes=...
  cora.npz                arrays as gnn-benchmark or heterophilous-graphs name them
  graph.safetensors       tensors of a PyG Data: x, edge_index, y, train_mask, ...
  arxiv/                  a folder in OGB's raw layout: raw/edge.csv.gz, ...
  edges.csv               source,target[,weight] (also .tsv, .gz); beside it
                          edges.npy or edges.features.csv, a row a node, and
                          edges.labels.csv or .npy, -1 or empty for no label
  MUTAG/                  many graphs: MUTAG.txt as Xu et al. 2019 write it, or
                          the files of TU Dortmund, MUTAG_A.txt, ...
  wn18rr/                 a knowledge graph: train.txt, valid.txt, test.txt,
                          head relation tail in each line; or links in OGB's
                          layout, split/.../train.pt
  lastfm/                 users and items: train.txt, test.txt, a user and its
                          items in each line; or data1.txt, test1.txt, a user,
                          an item and a weight; or MovieLens' u.data
MODEL, the first is the default, and the other defaults of its task:
  nodes       gcn, sage, gat, gatv2, gin, sgc, appnp, gcn2, mlp
  graphs      gin of 4 layers of 32, mlp without edges: batches of 32 graphs;
              seed k tests on fold k of ten and validates on the next
  links       complex, distmult, rotate: tables of 256, Adagrad at 0.1, dropout
              0, a softmax over shared:4000, cubes of the rows penalised by 0.1;
              gcn, sage, rgcn, compgcn, and linear without messages: Adam at
              0.01, 1 layer, --decoder distmult, batches of 2048, shared:500;
              with --task link on a graph with features gcn, sage: 2 layers of
              64 and --decoder dot
  recommend   lightgcn of 3 layers, mf: Adam at 0.001, bpr, 1 wrong answer,
              squares of the rows penalised by 0.00005; ccl, ssm: cosines,
              drawn:1000, batches of 512, no penalty
SPLIT is 0.6/0.2/0.2 (train/val/test), 20/30 (train/val nodes a class, the
others test), or a .npy or .csv of train, val, test or 0, 1, 2, one a node.";

/// A choice as the command line spells it.
pub fn word(choice: impl ValueEnum) -> String {
    choice.to_possible_value().map_or(String::new(), |value| value.get_name().into())
}

/// Where the report goes.
#[derive(Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Write the report as JSON to a file, or to stdout with `-`
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

/// How a run is kept and goes on.
#[derive(Args)]
#[command(next_help_heading = "Stopping and going on")]
pub struct KeepArgs {
    /// Keep finished stages here [default: FILE.work beside --out, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub work: Option<PathBuf>,
    /// Go on with what the same command has kept before it was stopped
    #[arg(long)]
    pub resume: bool,
}

#[derive(Args)]
#[command(after_help = DATA)]
pub struct TrainArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Train with the seeds 0 to N-1 and report means
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MOST_SEEDS))]
    pub seeds: u64,
    /// Write the model of the seed that is best on validation
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub keep: KeepArgs,
}

/// Which control rows there are.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ControlsKind {
    All,
    None,
}

#[derive(Args)]
#[command(after_help = DATA)]
pub struct CompressArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Compress this model instead of training one
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Train with the seeds 0 to N-1 and report means
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MOST_SEEDS))]
    pub seeds: u64,
    #[command(flatten)]
    pub stages: StageArgs,
    /// Read the stages from a TOML file instead
    #[arg(long, value_name = "FILE")]
    pub recipe: Option<PathBuf>,
    #[command(flatten)]
    pub qualifiers: QualifierArgs,
    /// Control rows (a narrow network, random pruning): all, none
    #[arg(
        long,
        value_enum,
        value_name = "WHICH",
        default_value = "all",
        hide_possible_values = true,
        help_heading = "Output"
    )]
    pub controls: ControlsKind,
    /// Write the last model of the seed that is best on validation
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub out: Option<PathBuf>,
    /// Write the report as a page: .html or .md
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
    #[command(flatten)]
    pub keep: KeepArgs,
}

/// Stages, applied in the order given. Which there are, the library's [`Words`] say, and its
/// recipes read them.
pub struct StageArgs {
    pub one_shot: bool,
}

impl Args for StageArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let words = Words::standard();
        let stage = |entry: &Entry| {
            let stage = Arg::new(entry.word())
                .long(entry.word())
                .action(ArgAction::Append)
                .help(entry.help());
            match entry.amount() {
                Some(amount) => stage.value_name(amount.value()).allow_negative_numbers(true),
                None => stage.num_args(0).default_missing_value("true"),
            }
        };
        let stages: Vec<Arg> = words.stages().map(stage).collect();
        let one_shot = Arg::new(ONE_SHOT)
            .long(ONE_SHOT)
            .action(ArgAction::SetTrue)
            .help("Without labels or epochs: --channels 0.8125 --weights 0.9 --bits 4");
        command
            .next_help_heading("Stages, in the order given [default: --channels 0.5 --finetune 50]")
            .arg(one_shot)
            .args(stages)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for StageArgs {
    fn from_arg_matches(flags: &ArgMatches) -> clap::error::Result<Self> {
        Ok(Self { one_shot: flags.get_flag(ONE_SHOT) })
    }

    fn update_from_arg_matches(&mut self, flags: &ArgMatches) -> clap::error::Result<()> {
        *self = Self::from_arg_matches(flags)?;
        Ok(())
    }
}

/// All stages of a one-shot compression.
pub const ONE_SHOT: &str = "one-shot";

/// Qualifiers of stages, anywhere on the line: all settings of all words.
pub struct QualifierArgs;

impl Args for QualifierArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let words = Words::standard();
        let flag = |key: &Key| {
            Arg::new(key.flag_name())
                .long(key.flag_name())
                .value_name(key.value())
                .allow_negative_numbers(true)
                .help(words.line(key))
        };
        let flags: Vec<Arg> = words.qualifiers().into_iter().map(flag).collect();
        command.next_help_heading("Qualifiers of stages").args(flags)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for QualifierArgs {
    fn from_arg_matches(_: &ArgMatches) -> clap::error::Result<Self> {
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, _: &ArgMatches) -> clap::error::Result<()> {
        Ok(())
    }
}

#[derive(Args)]
#[command(after_help = DATA)]
pub struct PredictArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// The model
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// What to write: logits, probabilities, classes
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        default_value = "logits",
        hide_possible_values = true
    )]
    pub write: Written,
    /// The .npy or .csv file to write: a row per node or graph; or answers
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Answers per user or query [default: 20]
    #[arg(long, value_name = "N", value_parser = count(MOST_ANSWERS))]
    pub top: Option<usize>,
    /// Users, nodes, or triples with one `?`, in lines [default: all, of test]
    #[arg(long, value_name = "FILE")]
    pub ask: Option<PathBuf>,
    /// The model was trained with --refit
    #[arg(long)]
    pub refit: bool,
}

#[derive(Args)]
pub struct ExportArgs {
    /// The model
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// The .safetensors file to write
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct InspectArgs {
    /// The model file
    pub file: PathBuf,
    /// Print the list of layers for `--network`, as far as it is known
    #[arg(long, conflicts_with = "json")]
    pub network_template: bool,
    #[command(flatten)]
    pub network: NetworkArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args)]
#[command(after_help = DATA)]
pub struct BenchArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// A model; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    pub from: Vec<PathBuf>,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Threads of the second time column [default: one per core]
    #[arg(long, value_name = "N", value_parser = count(MOST_THREADS))]
    pub threads: Option<usize>,
    /// The models were trained with --refit
    #[arg(long)]
    pub refit: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

#[derive(Args)]
pub struct ManArgs {
    /// A command; without one, the page of the whole
    pub command: Option<String>,
}
