//! What DATA asks: classes of nodes, links of a knowledge graph, items for users.

use crate::args::{DataArgs, say_notes, word};
use crate::failure::{Failure, Result};
use crate::fits::{self, Work};
use crate::model_args::{DecoderKind, Jumping, ModelArgs, ModelKind, RankingKind};
use crate::output::remark;
use clap::{ArgMatches, ValueEnum};
use gnn_prune::data::{EdgeSplit, GraphSet, Interactions, Purpose, Triples};
use gnn_prune::models::{Encoder, Links, Scored};
use gnn_prune::nn::Form;
use gnn_prune::prune::Precompute;
use gnn_prune::task::{Candidates, EdgeTask, LinkTask, RecommendTask, Sampled, Task};
use gnn_prune::train::{Penalty, Schedule, UpdateRule};
use gnn_prune::{
    Compressed, Dataset, GinGraphs, GraphTask, LightGcn, Model, StructureFree, Trainer,
};
use std::path::Path;

/// What is asked of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TaskKind {
    Node,
    Graph,
    Link,
    Recommend,
}

impl TaskKind {
    /// What DATA itself asks.
    fn of(data: &str) -> Self {
        let path = Path::new(data);
        if Triples::are_in(path) || EdgeSplit::are_in(path) {
            TaskKind::Link
        } else if Interactions::are_in(path) {
            TaskKind::Recommend
        } else if GraphSet::are_in(path) {
            TaskKind::Graph
        } else {
            TaskKind::Node
        }
    }

    /// What is asked of a network for it.
    fn work(self, data: &str) -> Work {
        match self {
            TaskKind::Node => Work::Nodes,
            TaskKind::Graph => Work::Graphs,
            TaskKind::Link if Triples::are_in(Path::new(data)) => Work::Links,
            TaskKind::Link => Work::Edges,
            TaskKind::Recommend => Work::Items,
        }
    }
}

/// Data with what is asked of them.
pub enum Source {
    Nodes(Dataset),
    /// Nodes that train by mini-batches.
    Sampled(Sampled),
    Graphs(GraphTask),
    Links(LinkTask),
    /// Links, and the data with those that the task hides.
    Edges(EdgeTask, Dataset),
    Recommend(RecommendTask),
}

impl Source {
    /// Opens DATA to train on, as the flags of the model say; nodes have the features that the
    /// model `read` from a path was trained on, where there is one.
    pub fn open(
        data: &DataArgs,
        model: &ModelArgs,
        flags: &ArgMatches,
        read: Option<(&Compressed, &Path)>,
    ) -> Result<Self> {
        let (kind, work) = asked_of(data);
        let said = &mut Vec::new();
        fits::check(work, model.model, flags)?;
        check_reading(data, kind, work)?;
        Ok(match (work, read) {
            (Work::Nodes, None) => nodes(data.open(Purpose::Learn)?, model, model.layers())?,
            (Work::Nodes, Some((read, path))) => {
                let hops = match read {
                    Compressed::Float(read) => read.num_hops().max(1),
                    Compressed::Integer(_) => 1,
                };
                nodes(data.open_for(read, path, Purpose::Learn, said)?, model, hops)?
            }
            (Work::Graphs, _) => {
                let set = GraphSet::read(&data.data)?;
                say_notes(set.name(), set.notes(), said);
                let task = GraphTask::builder(&set).batch_size(model.batch.unwrap_or(32));
                Source::Graphs(task.build()?)
            }
            (Work::Edges, None) => edge_task(data, data.open(Purpose::Predict)?, said)?,
            (Work::Edges, Some((read, path))) => {
                edge_task(data, data.open_pairs_for(read, path, said)?, said)?
            }
            (Work::Links, _) => {
                let facts = Triples::read(&data.data)?;
                say_notes(facts.name(), facts.notes(), said);
                Source::Links(link_task(facts, model, read.map(|(read, _)| read))?)
            }
            (Work::Items, _) => {
                let taken = Interactions::read(&data.data)?;
                say_notes(taken.name(), taken.notes(), said);
                Source::Recommend(recommend_task(taken, model, read.map(|(read, _)| read))?)
            }
        })
    }

    /// Opens DATA for the model from `path`, where it does not ask about nodes; `refit` says if
    /// it was trained on what validates too. What is `said` already is not said again.
    pub fn served(
        data: &DataArgs,
        refit: bool,
        model: &Compressed,
        path: &Path,
        said: &mut Vec<String>,
    ) -> Result<Option<Self>> {
        let (kind, work) = asked_of(data);
        if refit && work != Work::Items {
            return Err(Failure::OfAnotherTask { flag: "refit".into(), task: word(kind) });
        }
        check_reading(data, kind, work)?;
        Ok(match work {
            Work::Nodes => None,
            Work::Graphs => {
                let set = GraphSet::read(&data.data)?;
                say_notes(set.name(), set.notes(), said);
                Some(Source::Graphs(GraphTask::builder(&set).build()?))
            }
            Work::Edges => Some(edge_task(data, data.open_pairs_for(model, path, said)?, said)?),
            Work::Links => {
                let facts = Triples::read(&data.data)?;
                say_notes(facts.name(), facts.notes(), said);
                Some(Source::Links(LinkTask::builder(facts).reciprocal(true).build()?))
            }
            Work::Items => {
                let taken = Interactions::read(&data.data)?;
                say_notes(taken.name(), taken.notes(), said);
                Some(Source::Recommend(RecommendTask::builder(taken).refit(refit).build()?))
            }
        })
    }

    /// The task.
    pub fn task(&self) -> &dyn Task<f32> {
        match self {
            Source::Nodes(data) => data,
            Source::Sampled(task) => task,
            Source::Graphs(task) => task,
            Source::Links(task) => task,
            Source::Edges(task, _) => task,
            Source::Recommend(task) => task,
        }
    }

    /// Says what training beside a model that is read asks, where the line does not: its file does
    /// not tell how it was trained.
    pub fn remark_on_asking(&self, model: &ModelArgs) {
        let usual = match self {
            Source::Links(_) => RankingKind::Softmax,
            Source::Recommend(_) => RankingKind::Bpr,
            _ => return,
        };
        let loss = format!("--loss {}", word(usual));
        let settings = [
            (loss.as_str(), model.ranking_loss.is_some()),
            ("--negatives", model.negatives.is_some()),
            ("--batch", model.batch.is_some()),
        ];
        let assumed: Vec<&str> =
            settings.iter().filter(|(_, given)| !given).map(|(flag, _)| *flag).collect();
        if !assumed.is_empty() {
            remark(&format!(
                "{}: the file does not tell how the model was trained; as for a new one: {}",
                self.task().name(),
                assumed.join(", ")
            ));
        }
    }

    /// Says how controls beside a model that is read are trained, whose file does not tell how it
    /// was.
    pub fn remark_on_controls(&self, trainer: &Trainer) {
        if matches!(self, Source::Links(_) | Source::Recommend(_)) {
            remark(&format!(
                "{}: controls beside `--from` are trained as a new model is: {trainer}",
                self.task().name()
            ));
        }
    }

    /// The form of the model, not yet trained.
    pub fn form(&self, model: &ModelArgs) -> Result<Model> {
        match self {
            Source::Nodes(data) => model.form(data),
            Source::Sampled(task) => model.form(task.data()),
            Source::Graphs(task) => graphs(task, model),
            Source::Links(task) => links(task, model),
            Source::Edges(task, _) => edges(task, model),
            Source::Recommend(task) => recommender(task, model),
        }
    }

    /// How a new one is trained, where the command line does not say otherwise.
    pub fn trainer(&self, model: &ModelArgs) -> Result<Trainer> {
        self.trainer_of(model, encoder(model) != Encoder::None)
    }

    /// How one like `read` is trained, of which the command line says nothing.
    pub fn trainer_like(&self, model: &ModelArgs, read: &Model) -> Result<Trainer> {
        self.trainer_of(model, Precompute::has_encoder(read))
    }

    fn trainer_of(&self, model: &ModelArgs, encodes: bool) -> Result<Trainer> {
        match self {
            Source::Nodes(_) | Source::Sampled(_) | Source::Edges(..) => model.trainer(),
            // A fold that validates is small and soon all right: every epoch is looked at.
            Source::Graphs(_) => Trainer::builder()
                .epochs(model.epochs.unwrap_or(100))
                .patience(model.epochs.unwrap_or(100))
                .memory(model.memory)
                .rule(model.rule(UpdateRule::Adam))
                .learning_rate(model.lr.unwrap_or(0.01))
                .weight_decay(model.weight_decay.unwrap_or(0.0))
                .schedule(model.schedule(Schedule::Step { every: 50, factor: 0.5 }))
                .accumulate(model.accumulate.unwrap_or(1))
                .build(),
            Source::Links(_) => {
                let epochs = model.epochs.unwrap_or(40);
                let power = if encodes { 2 } else { 3 };
                let usual = if power == 3 { 0.1 } else { 0.0 };
                let rule = if power == 3 { UpdateRule::Adagrad } else { UpdateRule::Adam };
                let rule = model.rule(rule);
                let rate = if rule == UpdateRule::Adagrad { 0.1 } else { 0.01 };
                ranked(model, epochs, rate, 5)
                    .rule(rule)
                    .penalty(Penalty::new(model.penalty.unwrap_or(usual), power)?)
                    .build()
            }
            Source::Recommend(_) => {
                let epochs = model.epochs.unwrap_or(400);
                let usual = if model.ranking() == RankingKind::Bpr { 5e-5 } else { 0.0 };
                ranked(model, epochs, 0.001, 10)
                    .rule(model.rule(UpdateRule::Adam))
                    .penalty(Penalty::new(model.penalty.unwrap_or(usual), 2)?)
                    .build()
            }
        }
        .map_err(Into::into)
    }
}

/// What is asked of DATA, and of a network for it.
fn asked_of(data: &DataArgs) -> (TaskKind, Work) {
    let kind = data.task.unwrap_or_else(|| TaskKind::of(&data.data));
    (kind, kind.work(&data.data))
}

/// Refuses settings of reading that these data do not have.
fn check_reading(data: &DataArgs, kind: TaskKind, work: Work) -> Result<()> {
    let of_nodes = matches!(work, Work::Nodes | Work::Edges);
    if data.split.is_some() && kind != TaskKind::Node || data.features.is_some() && !of_nodes {
        let flag = if data.split.is_some() { "split" } else { "features" };
        return Err(Failure::OfNodesAlone { flag: flag.into() });
    }
    Ok(())
}

/// Links of a graph, hidden as the data say or by seed 0.
fn edge_task(data: &DataArgs, graph: Dataset, said: &mut Vec<String>) -> Result<Source> {
    let path = Path::new(&data.data);
    if !EdgeSplit::are_in(path) {
        return Ok(Source::Edges(EdgeTask::new(&graph, 0)?, graph));
    }
    let split = EdgeSplit::read(path)?;
    say_notes(split.name(), split.notes(), said);
    Ok(Source::Edges(EdgeTask::with_split(&graph, &split)?, graph))
}

/// Nodes that train all at once or, where the command line says so, by mini-batches: of so many
/// hops where it does not say how many.
fn nodes(data: Dataset, model: &ModelArgs, hops: usize) -> Result<Source> {
    Ok(match model.sampler(hops)? {
        None => Source::Nodes(data),
        Some(sampler) => Source::Sampled(sampler.over(&data)?),
    })
}

/// What trainings of rankings have in common: no decay of whole tables, and a validation that costs
/// more than an epoch only now and then.
fn ranked(
    model: &ModelArgs,
    epochs: usize,
    rate: f64,
    every: usize,
) -> gnn_prune::train::TrainerBuilder {
    Trainer::builder()
        .epochs(epochs)
        .schedule(model.schedule(Schedule::Constant))
        .learning_rate(model.lr.unwrap_or(rate))
        .weight_decay(model.weight_decay.unwrap_or(0.0))
        .validate_every(every.min(epochs))
        .patience(epochs)
        .memory(model.memory)
        .accumulate(model.accumulate.unwrap_or(1))
}

/// A network of graphs; seed k stands on fold k.
fn graphs(task: &GraphTask, model: &ModelArgs) -> Result<Model> {
    let (inputs, outputs) = (task.data().num_features(), task.set().num_classes());
    let (hidden, dropout) = (model.hidden.unwrap_or(32), model.dropout.unwrap_or(0.5));
    Ok(match model.kind(Work::Graphs) {
        ModelKind::Mlp => {
            StructureFree::builder(inputs, outputs).hidden(hidden).dropout(dropout).build(0)?
        }
        _ => {
            let builder = GinGraphs::builder(inputs, outputs).hidden(hidden).dropout(dropout);
            builder.layers(model.layers.unwrap_or(4)).build(0)?
        }
    })
}

fn form_of(model: &ModelArgs) -> Scored {
    match (model.kind(Work::Links), model.decoder) {
        (ModelKind::Complex, _) => Scored::By(Form::ComplEx),
        (ModelKind::Rotate, _) => Scored::By(Form::RotatE),
        (ModelKind::Distmult, _) => Scored::By(Form::DistMult),
        (_, Some(decoder)) => decoder.scored(),
        (_, None) => Scored::By(Form::DistMult),
    }
}

fn encoder(model: &ModelArgs) -> Encoder {
    match model.kind(Work::Links) {
        ModelKind::Gcn => Encoder::Gcn,
        ModelKind::Sage => Encoder::Sage,
        ModelKind::Rgcn => {
            let blocks = model.blocks.unwrap_or(1);
            Encoder::Rgcn { bases: if model.blocks.is_some() { 0 } else { model.bases }, blocks }
        }
        ModelKind::Compgcn => Encoder::CompGcn { composition: model.composition.composition() },
        ModelKind::Linear => Encoder::Linear,
        _ => Encoder::None,
    }
}

/// Layers whose rows are made of no other node's.
const ROW_BY_ROW: [&str; 12] = [
    "activation",
    "add",
    "concat",
    "decoder",
    "dropout",
    "embedding",
    "layer_norm",
    "linear",
    "max",
    "normalize",
    "pair_product",
    "relation_table",
];

/// Whether every row that is scored is made of the table's row of that node and nothing else, and
/// whether it may be made of those of its neighbours.
fn row_by_row(model: &ModelArgs, read: Option<&Compressed>) -> (bool, bool) {
    match read {
        Some(Compressed::Float(read)) => {
            let has =
                |is: fn(&str) -> bool| read.nodes().iter().any(|node| is(node.layer().kind()));
            let reads_edges = has(|kind| !ROW_BY_ROW.contains(&kind) && kind != "batch_norm");
            (!reads_edges && !has(|kind| kind == "batch_norm"), reads_edges)
        }
        Some(Compressed::Integer(_)) => (false, true),
        None => {
            let reads_edges = !matches!(encoder(model), Encoder::None | Encoder::Linear);
            // A batch norm is over all rows.
            let normed = model.norm().flatten().is_some();
            (!reads_edges && !normed, reads_edges)
        }
    }
}

fn link_task(facts: Triples, model: &ModelArgs, read: Option<&Compressed>) -> Result<LinkTask> {
    let (alone, reads_edges) = row_by_row(model, read);
    let drawn = if alone { 4000 } else { 500 };
    let candidates = model.negatives.unwrap_or(Candidates::Shared(drawn));
    let named = !matches!(candidates, Candidates::All | Candidates::AllAtOnce);
    if model.exclude_asked.is_some() && read.is_some() && !reads_edges {
        return Err(Failure::NoEdges { flag: "exclude-asked".into() });
    }
    let excludes = reads_edges && candidates != Candidates::AllAtOnce;
    let builder = LinkTask::builder(facts)
        .candidates(candidates)
        .loss(model.loss_of(model.ranking_loss.unwrap_or(RankingKind::Softmax))?)
        .reciprocal(true)
        .exclude_asked(model.exclude_asked.unwrap_or(excludes))
        .tables_alone(alone && named);
    // With message passing the whole graph runs in every batch.
    let batch = if alone { 1024 } else { 2048 };
    Ok(builder.batch(model.batch.unwrap_or(batch)).build()?)
}

fn links(task: &LinkTask, model: &ModelArgs) -> Result<Model> {
    let builder = Links::builder(task.entities() as usize, task.relations())
        .channels(model.hidden.unwrap_or(256))
        .scored(form_of(model))
        .encoder(encoder(model))
        .edge_types(2 * task.triples().num_relations())
        .layers(model.layers.unwrap_or(1))
        .relation_dropout(model.relation_dropout);
    let builder = match model.norm() {
        Some(norm) => builder.norm(norm),
        None => builder,
    };
    Ok(builder.dropout(model.dropout.unwrap_or(0.0)).build(0)?)
}

/// An encoder of features and what scores pairs: of GCN, where no model is given.
fn edges(task: &EdgeTask, model: &ModelArgs) -> Result<Model> {
    let encoder = if model.model == Some(ModelKind::Sage) { Encoder::Sage } else { Encoder::Gcn };
    let scored = model.decoder.map_or(Scored::By(Form::Dot), DecoderKind::scored);
    let builder = Links::builder(task.data().num_nodes(), 1)
        .on_features(task.data().num_features())
        .encoder(encoder)
        .scored(scored)
        .channels(model.hidden.unwrap_or(64))
        .layers(model.layers.unwrap_or(2));
    Ok(builder.dropout(model.dropout.unwrap_or(0.0)).build(0)?)
}

fn recommend_task(
    taken: Interactions,
    model: &ModelArgs,
    read: Option<&Compressed>,
) -> Result<RecommendTask> {
    let bpr = model.ranking() == RankingKind::Bpr;
    let usual = if bpr { Candidates::Sampled(1) } else { Candidates::Drawn(1000) };
    let candidates = model.negatives.unwrap_or(usual);
    let name = taken.name().to_string();
    let builder =
        RecommendTask::builder(taken).candidates(candidates).loss(model.loss_of(model.ranking())?);
    let builder = builder.draws(model.draws());
    let named = !matches!(candidates, Candidates::All | Candidates::AllAtOnce);
    let alone = match read {
        Some(_) => row_by_row(model, read).0,
        None => model.model == Some(ModelKind::Mf),
    };
    let batch = model.batch.unwrap_or(if bpr { 2048 } else { 512 });
    if model.refit {
        remark(&format!("{name}: what validates trains too: every training keeps its last epoch"));
    }
    Ok(builder.tables_alone(alone && named).batch(batch).refit(model.refit).build()?)
}

fn recommender(task: &RecommendTask, model: &ModelArgs) -> Result<Model> {
    let taken = task.taken();
    let layers = if model.model == Some(ModelKind::Mf) { 0 } else { model.layers.unwrap_or(3) };
    let builder = LightGcn::builder(taken.num_users() + taken.num_items())
        .channels(model.hidden.unwrap_or(64))
        .layers(layers)
        .apart(match model.jumping {
            None => false,
            Some(Jumping::Cat) => true,
            Some(Jumping::Max) => {
                return Err(Failure::Unfit {
                    flag: "jumping max".into(),
                    kinds: "networks of nodes".into(),
                    model: "lightgcn".into(),
                });
            }
        });
    // A cosine is of directions alone, and rows that begin short turn sooner.
    let builder = match model.ranking() {
        RankingKind::Ccl | RankingKind::Ssm => builder.cosine(true).deviation(0.01),
        _ => builder,
    };
    Ok(builder.build(0)?)
}
