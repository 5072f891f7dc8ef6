//! What the command line takes.

use crate::commands::Width;
use crate::failure::{Failure, Result};
use crate::output::{Verbosity, remark};
use clap::builder::RangedU64ValueParser;
use clap::parser::ValueSource;
use clap::{
    Arg, ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
};
use gnn_prune::data::{Purpose, Reader, SplitSource};
use gnn_prune::io::{
    self,
    pyg::{Assumptions, TrainedOn},
};
use gnn_prune::models::{self, Normalization};
use gnn_prune::nn::Aggregation;
use gnn_prune::pipeline::{Entry, Key, Words};
use gnn_prune::{
    AppnpNet, Compressed, Dataset, FeatureNorm, Gat, Gcn, Gcn2, Gin, Mlp, Model, Sage, Sgc, Trainer,
};
use std::path::{Path, PathBuf};

/// Most weights of a model: 1 GB, and five times that while it trains.
const MOST_WEIGHTS: u128 = 1 << 28;
const MOST_EPOCHS: u64 = 1_000_000;
const MOST_SEEDS: u64 = 1000;
const MOST_THREADS: u64 = 1024;

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
  gnn-prune predict cora.npz --from model.safetensors --write classes --out classes.csv";

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
    Train(TrainArgs),
    /// Train or read a model, make it smaller, and report every stage
    #[command(after_help = COMPRESS_EXAMPLES)]
    Compress(Box<CompressArgs>),
    /// Write what a model says of every node: logits, probabilities or classes
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

/// Refuses to choose the form of a model that is read, or how it is trained.
pub fn refuse_form(flags: &ArgMatches) -> Result<()> {
    let form = ModelArgs::augment_args(clap::Command::new("model"));
    let given =
        |arg: &&Arg| flags.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    match form.get_arguments().find(given) {
        Some(arg) => {
            Err(Failure::WithFrom { flag: arg.get_long().expect("these flags are long").into() })
        }
        None => Ok(()),
    }
}

/// Refuses a setting of other networks than the one that is trained: it would change nothing.
pub fn refuse_unfit(flags: &ArgMatches, model: ModelKind) -> Result<()> {
    use ModelKind::{Appnp, Gat, Gatv2, Gcn, Gcn2, Gin, Mlp, Sage, Sgc};
    let wide = &[Gcn, Sage, Gat, Gatv2, Gin, Appnp, Gcn2, Mlp][..];
    let of: [(&str, &[ModelKind]); 6] = [
        ("hidden", wide),
        ("layers", wide),
        ("heads", &[Gat, Gatv2]),
        ("aggr", &[Sage]),
        ("hops", &[Sgc, Appnp]),
        ("alpha", &[Appnp, Gcn2]),
    ];
    let given = |flag: &str| flags.value_source(flag) == Some(ValueSource::CommandLine);
    match of.into_iter().find(|(flag, kinds)| given(flag) && !kinds.contains(&model)) {
        Some((flag, kinds)) => {
            let kinds = kinds.iter().map(|&kind| word(kind)).collect::<Vec<_>>().join(", ");
            Err(Failure::Unfit { flag, kinds, model: word(model) })
        }
        None => Ok(()),
    }
}

fn not_built(words: &str) -> Failure {
    Failure::NotBuilt { words: words.into() }
}

/// A whole number from 1 to `most`.
fn count(most: u64) -> RangedU64ValueParser<usize> {
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
    /// Scaling of rows: l2 (default if sparse), l1, binary, raw (if dense)
    #[arg(long, value_name = "HOW")]
    pub features: Option<FeatureNorm>,
    /// Shares 0.6/0.2/0.2, nodes per class 20/30, or a file [default: masks]
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<SplitSource>,
}

impl DataArgs {
    /// Opens the data to train on.
    pub fn open(&self) -> Result<Dataset> {
        let data = self.read(Dataset::word(&self.data), self.features)?;
        remark_on(&data, &mut Vec::new());
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
        let recorded = model.origin().map(|origin| origin.features.parse()).transpose()?;
        let norm = self.features.or(recorded);
        let data = self
            .read(Dataset::word(&self.data).purpose(purpose).classes(model.out_channels()), norm)?;
        Width::Features.check(model, &data, path)?;
        if purpose != Purpose::Predict {
            Width::Classes.check(model, &data, path)?;
        }
        remark_on(&data, said);
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

fn remark_on(data: &Dataset, said: &mut Vec<String>) {
    data.notes().iter().for_each(|note| say(format!("{}: {note}", data.name()), said));
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
SPLIT is 0.6/0.2/0.2 (train/val/test), 20/30 (train/val nodes a class, the
others test), or a .npy or .csv of train, val, test or 0, 1, 2, one a node.";

/// The kind of network.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ModelKind {
    Gcn,
    Sage,
    Gat,
    Gatv2,
    Gin,
    Sgc,
    Appnp,
    Gcn2,
    Mlp,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Jumping {
    Cat,
    Max,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NormKind {
    None,
    Batch,
    Layer,
}

/// The model and how it is trained.
#[derive(Args)]
#[command(next_help_heading = "Model and training")]
pub struct ModelArgs {
    /// gcn, sage, gat, gatv2, gin, sgc, appnp, gcn2, mlp
    #[arg(long, value_enum, default_value = "gcn", hide_possible_values = true)]
    pub model: ModelKind,
    /// Width of the hidden layers, for gat of one head
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count(1 << 20))]
    pub hidden: usize,
    /// Number of layers, the output layer counted
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = count(1000))]
    pub layers: usize,
    /// Add the input of every hidden layer but the first to its output
    #[arg(long)]
    pub residual: bool,
    /// Jumping knowledge, all layers joined by: cat, max
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    pub jumping: Option<Jumping>,
    /// Norm after every hidden layer: none, batch, layer
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value = "none",
        hide_possible_values = true
    )]
    pub norm: NormKind,
    /// Heads of gat and gatv2
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = count(1024))]
    pub heads: usize,
    /// Aggregation of sage: mean, max, sum
    #[arg(long, value_name = "HOW", default_value = "mean")]
    pub aggr: Aggregation,
    /// Hops of sgc (default 2), appnp (default 10)
    #[arg(long, value_name = "K", value_parser = count(1000))]
    pub hops: Option<usize>,
    /// Share of the first features in appnp and gcn2
    #[arg(long, value_name = "SHARE", default_value_t = 0.1, allow_negative_numbers = true)]
    pub alpha: f64,
    /// Most epochs of training
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = count(MOST_EPOCHS))]
    pub epochs: usize,
    /// Learning rate of Adam
    #[arg(long, value_name = "RATE", default_value_t = 0.01, allow_negative_numbers = true)]
    pub lr: f64,
    /// L2 penalty on all parameters
    #[arg(long, value_name = "FACTOR", default_value_t = 5e-4, allow_negative_numbers = true)]
    pub weight_decay: f64,
    /// Dropout on the input of every layer, in [0, 1)
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, allow_negative_numbers = true)]
    pub dropout: f64,
}

impl ModelArgs {
    /// The form of the model for `data`, not yet trained.
    pub fn form(&self, data: &Dataset) -> Result<Model> {
        self.check_size(data)?;
        let (inputs, outputs) = (data.num_features(), data.num_classes());
        let jumping = self.jumping.map(|jumping| match jumping {
            Jumping::Cat => models::Jumping::Concat,
            Jumping::Max => models::Jumping::Max,
        });
        let norm = match self.norm {
            NormKind::None => None,
            NormKind::Batch => Some(Normalization::Batch),
            NormKind::Layer => Some(Normalization::Layer),
        };
        macro_rules! stack {
            ($builder:expr) => {{
                let builder = $builder.hidden(self.hidden).layers(self.layers);
                let builder = builder.dropout(self.dropout).residual(self.residual);
                builder.jumping(jumping).norm(norm).build(0)?
            }};
        }
        if matches!(self.model, ModelKind::Sgc | ModelKind::Appnp | ModelKind::Gcn2) {
            let given = [
                ("residual", self.residual),
                ("jumping", self.jumping.is_some()),
                ("norm", self.norm != NormKind::None),
            ];
            if let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) {
                return Err(not_built(&format!("--{flag} with --model {}", word(self.model))));
            }
        }
        Ok(match self.model {
            ModelKind::Gcn => stack!(Gcn::builder(inputs, outputs)),
            ModelKind::Mlp => stack!(Mlp::builder(inputs, outputs)),
            ModelKind::Sage => stack!(Sage::builder(inputs, outputs).aggregation(self.aggr)),
            ModelKind::Gin => stack!(Gin::builder(inputs, outputs)),
            ModelKind::Gat => stack!(Gat::builder(inputs, outputs).heads(self.heads)),
            ModelKind::Gatv2 => stack!(Gat::builder(inputs, outputs).heads(self.heads).v2(true)),
            ModelKind::Sgc => Sgc::builder(inputs, outputs)
                .hops(self.hops.unwrap_or(2))
                .dropout(self.dropout)
                .build(0)?,
            ModelKind::Appnp => {
                let builder = AppnpNet::builder(inputs, outputs)
                    .hidden(self.hidden)
                    .layers(self.layers)
                    .dropout(self.dropout);
                builder.hops(self.hops.unwrap_or(10)).alpha(self.alpha).build(0)?
            }
            ModelKind::Gcn2 => {
                let builder = Gcn2::builder(inputs, outputs)
                    .hidden(self.hidden)
                    .layers(self.layers)
                    .dropout(self.dropout);
                builder.alpha(self.alpha).build(0)?
            }
        })
    }

    fn heads_of(&self) -> usize {
        if matches!(self.model, ModelKind::Gat | ModelKind::Gatv2) { self.heads } else { 1 }
    }

    /// Widths are the user's choice, and their product may be more than any machine holds.
    fn check_size(&self, data: &Dataset) -> Result<()> {
        let [inputs, outputs, hidden, layers] =
            [data.num_features(), data.num_classes(), self.hidden * self.heads_of(), self.layers]
                .map(|width| width as u128);
        // Matrices alone, one per layer: some models have two, or a small one beside.
        let between = if self.model == ModelKind::Gcn2 { layers } else { layers.saturating_sub(2) };
        let weights = inputs * hidden + between * hidden * hidden + hidden * outputs;
        if layers > 1 && weights > MOST_WEIGHTS {
            return Err(Failure::TooLarge {
                hidden: self.hidden,
                layers: self.layers,
                weights,
                most: MOST_WEIGHTS,
            });
        }
        Ok(())
    }

    pub fn trainer(&self) -> Result<Trainer> {
        Ok(Trainer::builder()
            .epochs(self.epochs)
            .learning_rate(self.lr)
            .weight_decay(self.weight_decay)
            .build()?)
    }
}

/// A choice as the command line spells it.
fn word(choice: impl ValueEnum) -> String {
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
    /// Write the model of the seed with the best validation metric
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
    /// Write the last model of the seed with the best validation metric
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
            Arg::new(entry.word())
                .long(entry.word())
                .value_name(entry.amount().map_or("true", Key::value))
                .allow_negative_numbers(true)
                .action(ArgAction::Append)
                .help(entry.help())
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

/// What is written of each node.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Written {
    Logits,
    Probabilities,
    Classes,
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
    /// The .npy or .csv file to write: one row per node
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
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
