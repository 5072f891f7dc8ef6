//! What the command line takes.

use clap::{Args, Parser, Subcommand, ValueEnum};
use gnn_prune::{Dataset, Error, FeatureNorm, Gcn, Mlp, Model, Result, Trainer};
use std::path::PathBuf;

/// Makes graph neural networks small and fast on ordinary CPUs.
#[derive(Parser)]
#[command(name = "gnn-prune", version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Train a model and report it.
    Train(TrainArgs),
    /// Train or read a model, make it smaller, and report every stage.
    Compress(CompressArgs),
    /// Write the logits of every node to a .npy file.
    Predict(PredictArgs),
    /// Show what is in a model file.
    Inspect(InspectArgs),
    /// Measure models side by side.
    Bench(BenchArgs),
}

/// DATA and how its features are read.
#[derive(Args)]
pub struct DataArgs {
    /// A file, `digits`, or a generator such as `sbm:nodes=1000,classes=4,degree=8,seed=0`.
    #[arg(default_value = "digits")]
    pub data: String,
    /// How rows of features are normalised: l2, l1, binary or raw [default: l2 where sparse, raw where dense].
    #[arg(long)]
    pub features: Option<FeatureNorm>,
}

impl DataArgs {
    pub fn open(&self) -> Result<Dataset> {
        Dataset::open(&self.data, self.features)
    }

    /// Opens the data with the features that the model was trained on, unless the command line says otherwise.
    pub fn open_for(&self, model: &Model) -> Result<Dataset> {
        let recorded = model.origin().map(|origin| origin.features.parse()).transpose()?;
        let data = Dataset::open(&self.data, self.features.or(recorded))?;
        if let Some(origin) = model.origin().filter(|origin| origin.data != data.name() || origin.nodes != data.num_nodes()) {
            eprintln!(
                "note: the model was trained on `{}` with {} nodes; this is `{}` with {}",
                origin.data,
                origin.nodes,
                data.name(),
                data.num_nodes()
            );
        }
        Ok(data)
    }
}

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
pub struct ModelArgs {
    /// The kind of network.
    #[arg(long, value_enum, default_value = "gcn")]
    pub model: ModelKind,
    /// Width of the hidden layers.
    #[arg(long, default_value_t = 64)]
    pub hidden: usize,
    /// Number of layers, the output layer counted.
    #[arg(long, default_value_t = 2)]
    pub layers: usize,
    /// Add the input of every hidden layer but the first to its output.
    #[arg(long)]
    pub residual: bool,
    /// Jumping knowledge: a linear layer reads all layers.
    #[arg(long, value_enum)]
    pub jumping: Option<Jumping>,
    /// Normalisation after every hidden layer.
    #[arg(long, value_enum, default_value = "none")]
    pub norm: NormKind,
    /// Most epochs of training.
    #[arg(long, default_value_t = 200)]
    pub epochs: usize,
    /// Learning rate of Adam.
    #[arg(long, default_value_t = 0.01)]
    pub lr: f64,
    /// L2 penalty on all parameters.
    #[arg(long, default_value_t = 5e-4)]
    pub weight_decay: f64,
    /// Dropout on the input of every layer.
    #[arg(long, default_value_t = 0.5)]
    pub dropout: f64,
}

fn not_built(what: &str) -> Error {
    Error::Setting { name: "option".into(), value: what.into(), legal: "one that this version has built; this one comes later".into() }
}

impl ModelArgs {
    /// The form of the model for `data`, not yet trained.
    pub fn form(&self, data: &Dataset) -> Result<Model> {
        if self.jumping == Some(Jumping::Max) {
            return Err(not_built("--jumping max"));
        }
        if self.norm != NormKind::None {
            return Err(not_built("--norm"));
        }
        macro_rules! stack {
            ($recipe:ident) => {{
                let mut builder = $recipe::builder(data.num_features(), data.num_classes());
                builder = builder.hidden(self.hidden).layers(self.layers).dropout(self.dropout);
                if self.residual {
                    builder = builder.residual();
                }
                if self.jumping == Some(Jumping::Cat) {
                    builder = builder.jumping_concat();
                }
                builder.build(0)
            }};
        }
        match self.model {
            ModelKind::Gcn => stack!(Gcn),
            ModelKind::Mlp => stack!(Mlp),
            other => {
                let name = other.to_possible_value().expect("no value is hidden");
                Err(not_built(&format!("--model {}", name.get_name())))
            }
        }
    }

    pub fn trainer(&self) -> Result<Trainer> {
        Trainer::builder().epochs(self.epochs).learning_rate(self.lr).weight_decay(self.weight_decay).build()
    }
}

/// Where results go.
#[derive(Args)]
pub struct OutputArgs {
    /// Write the report as JSON to a file, or to stdout with `-`.
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

#[derive(Args)]
pub struct TrainArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Train with the seeds 0 to N-1 and report means.
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,
    /// Write the model with the best validation metric.
    #[arg(long)]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CriterionKind {
    L1,
    L2,
    Taylor,
    Random,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScopeKind {
    Layer,
    Global,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ControlsKind {
    All,
    None,
}

#[derive(Args)]
pub struct CompressArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// Compress this model instead of training one.
    #[arg(long)]
    pub from: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub stages: StageArgs,
    /// What scores the channels that `--channels` removes.
    #[arg(long, value_enum, default_value = "l2")]
    pub criterion: CriterionKind,
    /// Whether `--channels` takes the same share of every layer.
    #[arg(long, value_enum, default_value = "layer")]
    pub scope: ScopeKind,
    /// Which control rows to add.
    #[arg(long, value_enum, default_value = "all")]
    pub controls: ControlsKind,
    /// Train with the seeds 0 to N-1 and report means.
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,
    /// Write the compressed model of the seed with the best validation metric.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Write the report to a .md file.
    #[arg(long)]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Stages, applied in the order given; every amount is the share removed.
#[derive(Args)]
pub struct StageArgs {
    /// Remove this share of the hidden channels, in [0, 1].
    #[arg(long, value_name = "SHARE")]
    pub channels: Vec<f64>,
    /// Train on for this many epochs.
    #[arg(long, value_name = "EPOCHS")]
    pub finetune: Vec<usize>,
    /// Remove this share of the weights, in [0, 1].
    #[arg(long, value_name = "SHARE")]
    pub weights: Vec<f64>,
    /// Remove this share of the edges, in [0, 1].
    #[arg(long, value_name = "SHARE")]
    pub edges: Vec<f64>,
    /// Remove this many layers.
    #[arg(long, value_name = "K")]
    pub drop_layers: Vec<usize>,
    /// Distil into a fresh student (`gcn:16`, `mlp:64`), or `self`.
    #[arg(long, value_name = "STUDENT")]
    pub distill: Vec<String>,
    /// Quantise to this many bits: 8, 4 or 1; always last.
    #[arg(long, value_name = "BITS")]
    pub bits: Option<u8>,
}

#[derive(Args)]
pub struct PredictArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// The model.
    #[arg(long)]
    pub from: PathBuf,
    /// The .npy file to write: one row a node, one column a class.
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Args)]
pub struct InspectArgs {
    /// The model file.
    pub file: PathBuf,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Args)]
pub struct BenchArgs {
    #[command(flatten)]
    pub data: DataArgs,
    /// A model; may be given several times.
    #[arg(long, required = true)]
    pub from: Vec<PathBuf>,
    /// Threads of the second time column [default: one a core].
    #[arg(long)]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub output: OutputArgs,
}
