//! Networks on the command line, and how they are trained.

use crate::args::{MOST_EPOCHS, count, word};
use crate::failure::{Failure, Result};
use crate::fits::Work;
use clap::{Args, ValueEnum, builder::TypedValueParser};
use gnn_prune::models::{self, Normalization, Scored};
use gnn_prune::nn::{Aggregation, Composition, Form, Memory};
use gnn_prune::prune::{Lessons, Prefixes};
use gnn_prune::task::{Candidates, Draws, RankingLoss, Sampler};
use gnn_prune::train::{Schedule, UpdateRule};
use gnn_prune::{AppnpNet, Dataset, Gat, Gcn, Gcn2, Gin, Mlp, Model, Sage, Sgc, Trainer};
use std::ffi::OsString;

/// Most weights of a model: 1 GB, and five times that while it trains.
const MOST_WEIGHTS: u128 = 1 << 28;
/// Channels of a prefix.
const MOST_WIDTH: u64 = 1 << 20;
const MOST_NEGATIVES: usize = 1 << 20;
const MOST_SAMPLED: usize = 1 << 30;

/// Neighbours of a hop where `--sampler neighbors` stands alone, the first for the training nodes:
/// those of GraphSAGE, and as many as its second for every further hop.
const FAN_OUTS: [usize; 2] = [25, 10];

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
    Distmult,
    Complex,
    Rotate,
    Rgcn,
    Compgcn,
    Linear,
    Lightgcn,
    Mf,
}

/// How a node and a relation become a message of compgcn.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompositionKind {
    Sub,
    Mult,
    Corr,
}

impl CompositionKind {
    pub fn composition(self) -> Composition {
        match self {
            CompositionKind::Sub => Composition::Subtraction,
            CompositionKind::Mult => Composition::Product,
            CompositionKind::Corr => Composition::Correlation,
        }
    }
}

/// What scores a link.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DecoderKind {
    Distmult,
    Complex,
    Rotate,
    Dot,
    Mlp,
}

impl DecoderKind {
    pub fn scored(self) -> Scored {
        match self {
            DecoderKind::Distmult => Scored::By(Form::DistMult),
            DecoderKind::Complex => Scored::By(Form::ComplEx),
            DecoderKind::Rotate => Scored::By(Form::RotatE),
            DecoderKind::Dot => Scored::By(Form::Dot),
            DecoderKind::Mlp => Scored::Mlp,
        }
    }
}

/// The loss of a ranking.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RankingKind {
    Softmax,
    Bce,
    Margin,
    Bpr,
    Ccl,
    Ssm,
}

impl RankingKind {
    /// Its settings among the flags.
    fn settings(self) -> &'static [&'static str] {
        match self {
            RankingKind::Softmax | RankingKind::Bce => &["smoothing"],
            RankingKind::Margin => &["margin"],
            RankingKind::Bpr => &[],
            RankingKind::Ccl => &["margin", "negative-weight"],
            RankingKind::Ssm => &["cosine-temperature"],
        }
    }
}

/// The words of a command line, where `--loss` is the loss of a ranking if it names one: distilling
/// has losses of that flag too, and other ones.
pub fn with_ranking_losses(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let ranking = |word: &OsString| {
        word.to_str().is_some_and(|word| RankingKind::from_str(word, false).is_ok())
    };
    let mut words: Vec<OsString> = words.collect();
    for k in 0..words.len() {
        let joined = words[k].to_str().and_then(|word| word.strip_prefix("--loss="));
        if let Some(loss) = joined.map(OsString::from).filter(ranking) {
            words[k] = OsString::from("--ranking-loss=");
            words[k].push(loss);
        } else if words[k] == "--loss" && words.get(k + 1).is_some_and(ranking) {
            words[k] = "--ranking-loss".into();
        }
    }
    words
}

/// Reads how mini-batches of nodes are drawn: `neighbors`, `walks:ROOTS:STEPS`, `edges:N`,
/// `nodes:N`, `clusters:PARTS:N`.
fn memory(text: &str) -> std::result::Result<Memory, String> {
    text.parse().map_err(|_| "whole, 8bit or recompute".into())
}

fn sampler(word: &str) -> std::result::Result<SamplerKind, String> {
    let mut parts = word.split(':');
    let kind = parts.next().unwrap_or_default();
    let counts: Option<Vec<usize>> = parts
        .map(|digits| digits.parse().ok().filter(|n| (1..=MOST_SAMPLED).contains(n)))
        .collect();
    Ok(match (kind, counts.as_deref()) {
        ("neighbors", Some([])) => SamplerKind::Neighbors,
        ("walks", Some(&[roots, steps])) => SamplerKind::Drawn(Sampler::walks(roots, steps)),
        ("edges", Some(&[count])) => SamplerKind::Drawn(Sampler::edges(count)),
        ("nodes", Some(&[count])) => SamplerKind::Drawn(Sampler::nodes(count)),
        ("clusters", Some(&[parts, count])) => SamplerKind::Drawn(Sampler::clusters(parts, count)),
        _ => {
            return Err(format!(
                "`{word}` is not neighbors, walks:ROOTS:STEPS, edges:N, nodes:N or \
                 clusters:PARTS:N, with numbers from 1 to {MOST_SAMPLED}"
            ));
        }
    })
}

/// How mini-batches of nodes are drawn.
#[derive(Clone, PartialEq, Eq)]
pub enum SamplerKind {
    /// Hop by hop; how many, `--fanout` says.
    Neighbors,
    /// All that is to be said stands in the word.
    Drawn(Sampler),
}

/// Reads what stands beside an answer: a number, `shared:N`, `drawn:N`, `all`, `k-vs-all`.
fn candidates(word: &str) -> std::result::Result<Candidates, String> {
    let count = |digits: &str| match digits.parse() {
        Ok(count @ 1..=MOST_NEGATIVES) => Ok(count),
        _ => Err(format!(
            "`{word}` is not all, k-vs-all, shared:N, drawn:N or N, with N from 1 to {MOST_NEGATIVES}"
        )),
    };
    Ok(match (word, word.split_once(':')) {
        ("all", _) => Candidates::All,
        ("k-vs-all", _) => Candidates::AllAtOnce,
        (_, Some(("shared", digits))) => Candidates::Shared(count(digits)?),
        (_, Some(("drawn", digits))) => Candidates::Drawn(count(digits)?),
        (digits, _) => Candidates::Sampled(count(digits)?),
    })
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

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RuleKind {
    Adam,
    LazyAdam,
    Adagrad,
    Sgd,
}

/// What the queries of recommendation are drawn from.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DrawKind {
    Users,
    Interactions,
}

/// How the learning rate changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScheduleKind {
    Constant,
    Cosine,
}

/// The model and how it is trained.
#[derive(Args)]
#[command(next_help_heading = "Model and training")]
pub struct ModelArgs {
    /// Kind of network, see below [default: the first of its task]
    #[arg(long, value_enum, value_name = "MODEL", hide_possible_values = true)]
    pub model: Option<ModelKind>,
    /// Width of hidden layers, of a head, of tables [default: 64 or 256]
    #[arg(long, value_name = "N", value_parser = count(1 << 20))]
    pub hidden: Option<usize>,
    /// Number of layers, the output's counted [default: 2, 3 or 1]
    #[arg(long, value_name = "N", value_parser = count(1000))]
    pub layers: Option<usize>,
    /// Add the input of every hidden layer but the first to its output
    #[arg(long)]
    pub residual: bool,
    /// Jumping knowledge, all layers joined by: cat, max (lightgcn: cat)
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    pub jumping: Option<Jumping>,
    /// Norm of hidden layers: none, batch, layer [default: none or batch]
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    pub norm: Option<NormKind>,
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
    /// Maps kept for backward: whole, 8bit, recompute
    #[arg(long, value_name = "HOW", default_value = "whole", value_parser = memory)]
    pub memory: Memory,
    /// Most epochs of training [default: 200, 40 or 400]
    #[arg(long, value_name = "N", value_parser = count(MOST_EPOCHS))]
    pub epochs: Option<usize>,
    /// Steps: adam, lazy-adam, adagrad, sgd [default: adam or adagrad]
    #[arg(long, value_enum, value_name = "RULE", hide_possible_values = true)]
    pub update_rule: Option<RuleKind>,
    /// Learning rate [default: 0.01, 0.1 or 0.001]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Of the rate: constant, cosine [default: constant; graphs: halved]
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    pub schedule: Option<ScheduleKind>,
    /// L2 penalty on all parameters [default: 0.0005 or 0]
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// Dropout on every layer's input, in [0, 1) [default: 0.5 or 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub dropout: Option<f64>,
    /// What scores links: distmult, complex, rotate, dot, mlp
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    pub decoder: Option<DecoderKind>,
    /// Bases of rgcn, 0 for a matrix per relation
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=1000).map(|n| n as usize))]
    pub bases: usize,
    /// Blocks of the matrices of rgcn, in the place of bases
    #[arg(long, value_name = "N", value_parser = count(1 << 20), conflicts_with = "bases")]
    pub blocks: Option<usize>,
    /// Composition of compgcn: sub, mult, corr
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value = "mult",
        hide_possible_values = true
    )]
    pub composition: CompositionKind,
    /// Dropout on relations that are decoded, in [0, 1)
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, allow_negative_numbers = true)]
    pub relation_dropout: f64,
    /// Leave what a batch asks about out of its graph [default: true]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        hide_possible_values = true
    )]
    pub exclude_asked: Option<bool>,
    /// Or --loss, of rankings: softmax, bce, margin, bpr, ccl, ssm
    #[arg(long, value_enum, value_name = "LOSS", hide_possible_values = true)]
    pub ranking_loss: Option<RankingKind>,
    /// Wrong answers per right one: N, shared:N, drawn:N, all, k-vs-all
    #[arg(long, value_name = "HOW", value_parser = candidates)]
    pub negatives: Option<Candidates>,
    /// Label smoothing of softmax and bce, in [0, 1) [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub smoothing: Option<f64>,
    /// Margin of margin [default: 1] and ccl [default: 0.4]
    #[arg(long, value_name = "MARGIN", allow_negative_numbers = true)]
    pub margin: Option<f64>,
    /// Weight of all wrong answers together in ccl [default: 10]
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub negative_weight: Option<f64>,
    /// Temperature of the cosines in ssm [default: 0.15]
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    pub cosine_temperature: Option<f64>,
    /// Triples, users, graphs or training nodes of a batch
    #[arg(long, value_name = "N", value_parser = count(1 << 24))]
    pub batch: Option<usize>,
    /// Batches whose gradients are added up for one step [default: 1]
    #[arg(long, value_name = "K", value_parser = count(1 << 24))]
    pub accumulate: Option<usize>,
    /// Train on edges drawn by degree, without about this share of them
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub sparsify: Option<f64>,
    /// Batches: neighbors, walks:N:STEPS, edges:N, nodes:N, clusters:N:M
    #[arg(long, value_name = "HOW", value_parser = sampler)]
    pub sampler: Option<SamplerKind>,
    /// Neighbours drawn per hop, the output's first [default: 25,10,10…]
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = count(MOST_SAMPLED as u64))]
    pub fanout: Vec<usize>,
    /// Trains on what validates too, for exactly --epochs epochs
    #[arg(long)]
    pub refit: bool,
    /// What recommendation draws: users, interactions [default: users]
    #[arg(long, value_enum, value_name = "WHAT", hide_possible_values = true)]
    pub draw: Option<DrawKind>,
    /// Penalty on the rows of tables that a batch names
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub penalty: Option<f64>,
    /// Widths whose first channels are to be models, too: 8,16,32
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = count(MOST_WIDTH))]
    pub prefixes: Vec<usize>,
    /// What these learn of wider: scores, mutual, rankings:BEST:OTHERS
    #[arg(long, value_name = "HOW", requires = "prefixes", value_parser = lessons)]
    pub prefix_lessons: Option<Lessons>,
    /// Weight of that beside a width's own loss [default: 1]
    #[arg(long, value_name = "W", requires = "prefix_lessons", allow_negative_numbers = true)]
    pub prefix_lesson_weight: Option<f64>,
    /// Weigh what the next narrower width has not learnt by e^(G·loss)
    #[arg(long, value_name = "G", requires = "prefixes", allow_negative_numbers = true)]
    pub prefix_harder: Option<f64>,
    /// Weigh each width by e^(B·its share of the whole) [default: 0]
    #[arg(long, value_name = "B", requires = "prefixes", allow_negative_numbers = true)]
    pub prefix_balance: Option<f64>,
}

fn lessons(text: &str) -> std::result::Result<Lessons, String> {
    text.parse().map_err(|error: gnn_prune::Error| error.to_string())
}

impl ModelArgs {
    /// Refuses to train again without a number of epochs, which nothing would choose.
    pub fn check_refit(&self) -> Result<()> {
        match self.refit && self.epochs.is_none() {
            true => Err(Failure::RefitFor),
            false => Ok(()),
        }
    }

    /// The prefixes that are trained beside the whole model.
    pub fn prefixes(&self) -> Result<Option<Prefixes>> {
        if self.prefixes.is_empty() {
            return Ok(None);
        }
        let mut prefixes = Prefixes::new(self.prefixes.clone())?;
        if let Some(lessons) = self.prefix_lessons {
            prefixes = prefixes.lessons(lessons, self.prefix_lesson_weight.unwrap_or(1.0))?;
        }
        let prefixes = prefixes.harder(self.prefix_harder.unwrap_or(0.0))?;
        Ok(Some(prefixes.balance(self.prefix_balance.unwrap_or(0.0))?))
    }

    /// The kind of network, for this work.
    pub fn kind(&self, work: Work) -> ModelKind {
        self.model.unwrap_or(work.kinds()[0])
    }

    fn of_nodes(&self) -> ModelKind {
        self.kind(Work::Nodes)
    }

    /// The loss of a ranking: where none is given, the model's.
    pub fn ranking(&self) -> RankingKind {
        let recommends = self.model.is_none_or(|kind| Work::Items.kinds().contains(&kind));
        self.ranking_loss.unwrap_or(if recommends {
            RankingKind::Bpr
        } else {
            RankingKind::Softmax
        })
    }

    /// That loss with its settings.
    ///
    /// # Errors
    /// [`Failure::OfOtherLosses`] for a setting that it does not have.
    pub fn loss_of(&self, kind: RankingKind) -> Result<RankingLoss> {
        let given = [
            ("smoothing", self.smoothing.is_some()),
            ("margin", self.margin.is_some()),
            ("negative-weight", self.negative_weight.is_some()),
            ("cosine-temperature", self.cosine_temperature.is_some()),
        ];
        let unfit = |(flag, given): &(&str, bool)| *given && !kind.settings().contains(flag);
        if let Some((flag, _)) = given.into_iter().find(unfit) {
            let has = |kind: &&RankingKind| kind.settings().contains(&flag);
            let losses = RankingKind::value_variants().iter().filter(has).map(|&kind| word(kind));
            let losses = losses.collect::<Vec<_>>().join(", ");
            return Err(Failure::OfOtherLosses { flag, losses, loss: word(kind) });
        }
        let smoothing = self.smoothing.unwrap_or(0.0);
        Ok(match kind {
            RankingKind::Softmax => RankingLoss::Softmax { smoothing },
            RankingKind::Bce => RankingLoss::Binary { smoothing },
            RankingKind::Margin => RankingLoss::Margin(self.margin.unwrap_or(1.0)),
            RankingKind::Bpr => RankingLoss::Bpr,
            RankingKind::Ssm => {
                RankingLoss::SampledSoftmax { temperature: self.cosine_temperature.unwrap_or(0.15) }
            }
            RankingKind::Ccl => RankingLoss::CosineContrastive {
                margin: self.margin.unwrap_or(0.4),
                weight: self.negative_weight.unwrap_or(10.0),
            },
        })
    }

    /// How mini-batches of nodes are drawn, where they are, for a network of so many hops.
    ///
    /// # Errors
    /// [`Failure::NeedsNeighbors`] for numbers of neighbours beside another sampler.
    pub fn sampler(&self, hops: usize) -> Result<Option<Sampler>> {
        let neighbors = || {
            let usual = FAN_OUTS.into_iter().chain(std::iter::repeat(FAN_OUTS[1])).take(hops);
            let given = if self.fanout.is_empty() { usual.collect() } else { self.fanout.clone() };
            let sampler = Sampler::neighbors(given);
            self.batch.map_or(sampler.clone(), |nodes| sampler.batch(nodes))
        };
        match &self.sampler {
            None if self.fanout.is_empty() => match self.batch {
                None => Ok(None),
                Some(_) => Err(Failure::NeedsNeighbors { flag: "batch".into() }),
            },
            None | Some(SamplerKind::Neighbors) => Ok(Some(neighbors())),
            Some(SamplerKind::Drawn(sampler)) => {
                let flags = [("fanout", !self.fanout.is_empty()), ("batch", self.batch.is_some())];
                match flags.into_iter().find(|(_, given)| *given) {
                    Some((flag, _)) => Err(Failure::NeedsNeighbors { flag: flag.into() }),
                    None => Ok(Some(sampler.clone())),
                }
            }
        }
    }

    /// The norm, where one was asked for.
    pub fn norm(&self) -> Option<Option<Normalization>> {
        self.norm.map(|norm| match norm {
            NormKind::None => None,
            NormKind::Batch => Some(Normalization::Batch),
            NormKind::Layer => Some(Normalization::Layer),
        })
    }

    fn hidden(&self) -> usize {
        self.hidden.unwrap_or(64)
    }

    pub fn layers(&self) -> usize {
        self.layers.unwrap_or(2)
    }

    fn dropout(&self) -> f64 {
        self.dropout.unwrap_or(0.5)
    }

    /// The form of the model for `data`, not yet trained.
    pub fn form(&self, data: &Dataset) -> Result<Model> {
        self.check_size(data)?;
        let (inputs, outputs) = (data.num_features(), data.num_classes());
        let jumping = self.jumping.map(|jumping| match jumping {
            Jumping::Cat => models::Jumping::Concat,
            Jumping::Max => models::Jumping::Max,
        });
        let norm = self.norm().flatten();
        macro_rules! stack {
            ($builder:expr) => {{
                let builder = $builder.hidden(self.hidden()).layers(self.layers());
                let builder = builder.dropout(self.dropout()).residual(self.residual);
                builder.jumping(jumping).norm(norm).build(0)?
            }};
        }
        Ok(match self.of_nodes() {
            ModelKind::Gcn => stack!(Gcn::builder(inputs, outputs)),
            ModelKind::Mlp => stack!(Mlp::builder(inputs, outputs)),
            ModelKind::Sage => stack!(Sage::builder(inputs, outputs).aggregation(self.aggr)),
            ModelKind::Gin => stack!(Gin::builder(inputs, outputs)),
            ModelKind::Gat => stack!(Gat::builder(inputs, outputs).heads(self.heads)),
            ModelKind::Gatv2 => stack!(Gat::builder(inputs, outputs).heads(self.heads).v2(true)),
            ModelKind::Sgc => Sgc::builder(inputs, outputs)
                .hops(self.hops.unwrap_or(2))
                .dropout(self.dropout())
                .build(0)?,
            ModelKind::Appnp => {
                let builder = AppnpNet::builder(inputs, outputs)
                    .hidden(self.hidden())
                    .layers(self.layers())
                    .dropout(self.dropout());
                builder.hops(self.hops.unwrap_or(10)).alpha(self.alpha).build(0)?
            }
            ModelKind::Gcn2 => {
                let builder = Gcn2::builder(inputs, outputs)
                    .hidden(self.hidden())
                    .layers(self.layers())
                    .dropout(self.dropout());
                builder.alpha(self.alpha).build(0)?
            }
            _ => unreachable!("other networks are refused before data are opened"),
        })
    }

    fn heads_of(&self) -> usize {
        if matches!(self.of_nodes(), ModelKind::Gat | ModelKind::Gatv2) { self.heads } else { 1 }
    }

    /// Widths are the user's choice, and their product may be more than any machine holds.
    fn check_size(&self, data: &Dataset) -> Result<()> {
        let [inputs, outputs, hidden, layers] = [
            data.num_features(),
            data.num_classes(),
            self.hidden() * self.heads_of(),
            self.layers(),
        ]
        .map(|width| width as u128);
        // Matrices alone, one per layer: some models have two, or a small one beside.
        let between =
            if self.of_nodes() == ModelKind::Gcn2 { layers } else { layers.saturating_sub(2) };
        let weights = inputs * hidden + between * hidden * hidden + hidden * outputs;
        if layers > 1 && weights > MOST_WEIGHTS {
            return Err(Failure::TooLarge {
                hidden: self.hidden(),
                layers: self.layers(),
                weights,
                most: MOST_WEIGHTS,
            });
        }
        Ok(())
    }

    /// The optimiser that was asked for, or this one.
    pub fn rule(&self, usual: UpdateRule) -> UpdateRule {
        self.update_rule.map_or(usual, |rule| match rule {
            RuleKind::Adam => UpdateRule::Adam,
            RuleKind::LazyAdam => UpdateRule::LazyAdam,
            RuleKind::Adagrad => UpdateRule::Adagrad,
            RuleKind::Sgd => UpdateRule::Sgd { momentum: 0.0 },
        })
    }

    /// What queries are drawn from.
    pub fn draws(&self) -> Draws {
        match self.draw {
            Some(DrawKind::Interactions) => Draws::Interactions,
            Some(DrawKind::Users) | None => Draws::Users,
        }
    }

    /// The schedule that was asked for, or this one.
    pub fn schedule(&self, usual: Schedule) -> Schedule {
        self.schedule.map_or(usual, |schedule| match schedule {
            ScheduleKind::Constant => Schedule::Constant,
            ScheduleKind::Cosine => Schedule::Cosine,
        })
    }

    pub fn trainer(&self) -> gnn_prune::Result<Trainer> {
        Trainer::builder()
            .schedule(self.schedule(Schedule::Constant))
            .rule(self.rule(UpdateRule::Adam))
            .epochs(self.epochs.unwrap_or(200))
            .learning_rate(self.lr.unwrap_or(0.01))
            .weight_decay(self.weight_decay.unwrap_or(5e-4))
            .memory(self.memory)
            .accumulate(self.accumulate.unwrap_or(1))
            .build()
    }
}
