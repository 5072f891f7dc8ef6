//! The whole way from a dense model to a small one.

use super::step::{Env, Step, Subject};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::io::stored_bytes;
use crate::nn::Model;
use crate::prune::{ChannelPruner, Magnitude};
use crate::quant::{QuantModel, Quantizer};
use crate::report::{Account, Curve, LayerWidth, Report, Row, Servable, Summary};
use crate::rng::{hash, purpose};
use crate::train::{Epoch, Metric, Trainer, evaluate};
use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

/// Which control rows the report gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Controls {
    /// A network of the final shape trained from scratch, and the same amounts by a random criterion.
    #[default]
    All,
    /// None.
    None,
}

impl Controls {
    /// The word that it is read from.
    pub(super) fn word(self) -> &'static str {
        match self {
            Controls::All => "all",
            Controls::None => "none",
        }
    }
}

impl std::str::FromStr for Controls {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "all" => Ok(Controls::All),
            "none" => Ok(Controls::None),
            _ => Err(Error::setting("`controls`", format!("`{word}`"), "all or none")),
        }
    }
}

/// What a listener hears while a compression runs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// The whole job, told first: the names of the stages to come, each with how often it will run. What is only known on the way, such as
    /// a control of the final bytes, is not in it.
    Plan {
        /// Name of a stage, and its number of runs.
        stages: Vec<(String, usize)>,
    },
    /// A stage begins: its row's name, its seed, and how many seeds there are.
    Stage {
        /// Name of the row; in the random control it begins with `random control: `.
        name: String,
        /// The seed.
        seed: u64,
        /// Number of seeds.
        seeds: usize,
    },
    /// An epoch of training ended.
    Epoch(Epoch),
    /// A row is being measured.
    Measure {
        /// Name of the row.
        name: String,
    },
}

/// Where the dense models come from.
enum Start {
    /// One trained model; its seed is the only one.
    Trained(Model),
    /// A form, trained anew for every seed.
    Train { form: Model, trainer: Trainer, seeds: Vec<u64> },
}

/// What a compression gives.
#[derive(Debug)]
pub struct Outcome<M> {
    /// The model after the last step, of the seed with the best validation metric.
    pub model: M,
    /// A row for the dense model, one a step, and the controls.
    pub report: Report,
}

/// Runs steps on a model and reports after each what it cost and what it won.
///
/// `M` is what it ends in: a [`Model`], or after [`Compression::quantize`] a [`QuantModel`].
///
/// ```
/// use gnn_prune::{Bits, ChannelPruner, Compression, Controls, Dataset, FineTune, Gcn, Magnitude, Quantizer, Trainer};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let model = Trainer::builder().epochs(10).build()?.fit(model, &data)?;
/// let out = Compression::of(model, &data)
///     .step(ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build()?)
///     .step(FineTune::epochs(5))
///     .quantize(Quantizer::builder(Bits::Eight).build()?)
///     .controls(Controls::None)
///     .run()?;
/// assert_eq!(out.report.rows.len(), 4);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub struct Compression<'a, M = Model> {
    start: Start,
    data: &'a Dataset,
    steps: Vec<Box<dyn Step>>,
    quantizer: Option<Quantizer>,
    controls: Controls,
    trainer: Trainer,
    threads: usize,
    listener: Arc<dyn Fn(Progress) + Send + Sync>,
    ends_in: PhantomData<fn() -> M>,
}

/// The state of one seed after a stage.
#[derive(Clone)]
struct Stage {
    subject: Subject,
    /// There after quantisation.
    integers: Option<QuantModel>,
}

/// Results of one chain of steps over all seeds.
struct Chain {
    /// Name and per-seed metric of every stage.
    metrics: Vec<(String, Vec<f64>)>,
    /// The stages of the seed with the best validation metric after the last.
    best: Vec<Stage>,
}

impl<'a> Compression<'a> {
    /// Compresses one trained model.
    pub fn of(model: Model, data: &'a Dataset) -> Self {
        Self::start(Start::Trained(model), data)
    }

    /// Trains a model of this form with each of the seeds `0..seeds` first, and compresses each; the report has means over them.
    ///
    /// # Errors
    /// [`Error::Setting`] for no seeds.
    pub fn train(form: Model, trainer: Trainer, seeds: u64, data: &'a Dataset) -> Result<Self> {
        if seeds == 0 {
            return Err(Error::setting("seeds", 0, "at least 1"));
        }
        Ok(Self::start(Start::Train { form, trainer, seeds: (0..seeds).collect() }, data))
    }

    fn start(start: Start, data: &'a Dataset) -> Self {
        let trainer = match &start {
            Start::Trained(_) => Trainer::protocol(),
            Start::Train { trainer, .. } => trainer.clone(),
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (steps, listener) = (Vec::new(), Arc::new(|_| ()));
        Self { start, data, steps, quantizer: None, controls: Controls::All, trainer, threads, listener, ends_in: PhantomData }
    }

    /// Adds a step.
    #[must_use]
    pub fn step(self, step: impl Step + 'static) -> Self {
        self.boxed_step(Box::new(step))
    }

    /// Adds a boxed step.
    #[must_use]
    pub fn boxed_step(mut self, step: Box<dyn Step>) -> Self {
        self.steps.push(step);
        self
    }

    /// Ends in integers; nothing but the run comes after it.
    #[must_use]
    pub fn quantize(self, quantizer: Quantizer) -> Compression<'a, QuantModel> {
        let Self { start, data, steps, controls, trainer, threads, listener, .. } = self;
        Compression { start, data, steps, quantizer: Some(quantizer), controls, trainer, threads, listener, ends_in: PhantomData }
    }

    /// Runs all steps for all seeds, then measures.
    ///
    /// # Errors
    /// [`Error::Setting`] for steps in an order that makes no sense, and what training, a step or a measurement returns.
    pub fn run(self) -> Result<Outcome<Model>> {
        let (last, report) = self.execute()?;
        Ok(Outcome { model: last.subject.model, report })
    }
}

impl Compression<'_, QuantModel> {
    /// Runs all steps for all seeds, quantises, then measures.
    ///
    /// # Errors
    /// As for a compression that ends in floats, and what the quantiser returns.
    pub fn run(self) -> Result<Outcome<QuantModel>> {
        let (last, report) = self.execute()?;
        let model = last.integers.expect("a compression of this type has a quantiser, and its stage is the last");
        Ok(Outcome { model, report })
    }
}

impl<M> Compression<'_, M> {
    /// Which control rows the report gets. Default [`Controls::All`].
    #[must_use]
    pub fn controls(mut self, controls: Controls) -> Self {
        self.controls = controls;
        self
    }

    /// Threads of the second latency column, at least 1. Default: one a core.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Calls `listener` as the work goes on. Default: nobody hears.
    #[must_use]
    pub fn on_progress(mut self, listener: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.listener = Arc::new(listener);
        self
    }

    fn execute(mut self) -> Result<(Stage, Report)> {
        if let Some(late) = self.steps.iter().skip(1).find(|step| step.starts_over()) {
            let legal = "the first step: it starts a fresh model, and what came before would be lost";
            return Err(Error::setting(format!("`{}`", late.name()), "a later step", legal));
        }
        let curves = self.record();
        (self.listener)(Progress::Plan { stages: self.plan() });
        let dense = self.dense_models()?;
        let seeds: Vec<u64> = dense.iter().map(Model::seed).collect();
        let steps: Vec<&dyn Step> = self.steps.iter().map(|step| &**step).collect();
        let chain = self.chain(&dense, &steps, "")?;
        let mut rows = Vec::new();
        for ((name, metric), stage) in chain.metrics.iter().zip(&chain.best) {
            rows.push(self.row(name, metric.clone(), stage)?);
        }
        let last = chain.best.last().expect("the dense model is the first stage").clone();
        if self.controls == Controls::All && chain.metrics.len() > 1 {
            let narrow = dense_form(&last.subject.model, self.data)?;
            rows.push(self.narrow_control("narrow control", &narrow, &last.subject.graph, &dense[0], &rows[0], &seeds)?);
            let (bytes, of_narrow) = (chain_bytes(&last), stored_bytes(&narrow));
            if (bytes as f64) < EQUAL_BYTES * of_narrow as f64 {
                let form = nearest_form(&narrow, self.data, bytes, stored_bytes)?;
                rows.push(self.narrow_control("bytes control", &form, &last.subject.graph, &dense[0], &rows[0], &seeds)?);
            }
            rows.extend(self.random_control(&dense)?);
        }
        let mut report = Report::new(self.data, seeds, rows);
        let calibrates =
            self.steps.iter().filter_map(|step| step.calibrates_on()).chain(self.quantizer.iter().filter_map(Quantizer::calibrates));
        let calibrates: BTreeSet<String> = calibrates.map(|nodes| nodes.in_words().to_string()).collect();
        report.calibration = (!calibrates.is_empty()).then(|| calibrates.into_iter().collect::<Vec<_>>().join(" and "));
        let best = &chain.best.first().expect("the dense model is the first stage").subject.model;
        report.channels = LayerWidth::between(best, &last.subject.model);
        report.curves = std::mem::take(&mut *curves.lock().unwrap_or_else(PoisonError::into_inner));
        report.recipe = chain.metrics.iter().skip(1).map(|(name, _)| name.clone()).collect();
        Ok((last, report))
    }

    /// Which control rows the report gets.
    pub(super) fn wanted_controls(&self) -> Controls {
        self.controls
    }

    /// Writes down every epoch that the listener hears of from now on.
    fn record(&mut self) -> Arc<Mutex<Vec<Curve>>> {
        let curves: Arc<Mutex<Vec<Curve>>> = Arc::default();
        let (kept, listener) = (Arc::clone(&curves), Arc::clone(&self.listener));
        self.listener = Arc::new(move |progress| {
            let mut curves = kept.lock().unwrap_or_else(PoisonError::into_inner);
            match &progress {
                Progress::Stage { name, seed, .. } => curves.push(Curve { stage: name.clone(), seed: *seed, epochs: Vec::new() }),
                Progress::Epoch(epoch) => curves.last_mut().into_iter().for_each(|curve| curve.epochs.push(*epoch)),
                _ => {}
            }
            drop(curves);
            listener(progress);
        });
        curves
    }

    /// The stages that will run, and how often each.
    fn plan(&self) -> Vec<(String, usize)> {
        let seeds = match &self.start {
            Start::Trained(_) => 1,
            Start::Train { seeds, .. } => seeds.len(),
        };
        let steps: Vec<&dyn Step> = self.steps.iter().map(|step| &**step).collect();
        let names = self.names(&steps, "");
        let trains = matches!(self.start, Start::Train { .. });
        let mut stages: Vec<String> = names.into_iter().skip(usize::from(!trains)).collect();
        if self.controls == Controls::All && (!steps.is_empty() || self.quantizer.is_some()) {
            stages.push("narrow control".into());
            if steps.iter().any(|step| step.control().is_some()) {
                stages.extend(self.names(&steps, RANDOM).into_iter().skip(1));
            }
        }
        stages.into_iter().map(|name| (name, seeds)).collect()
    }

    /// The names of the stages of `steps`, after `of`, the dense model first.
    fn names(&self, steps: &[&dyn Step], of: &str) -> Vec<String> {
        let names = std::iter::once("dense".to_string()).chain(steps.iter().map(|step| step.name()));
        let names = names.chain(self.quantizer.iter().map(|quantizer| format!("bits {}", quantizer.bits().count())));
        names.map(|name| format!("{of}{name}")).collect()
    }

    fn dense_models(&self) -> Result<Vec<Model>> {
        match &self.start {
            Start::Trained(model) => Ok(vec![model.clone()]),
            Start::Train { form, seeds, .. } => {
                seeds.iter().map(|&seed| self.trained("dense", form, self.data, seed, seeds.len())).collect()
            }
        }
    }

    fn trained(&self, name: &str, form: &Model, data: &Dataset, seed: u64, seeds: usize) -> Result<Model> {
        self.tell(name, seed, seeds);
        self.trainer.fit_heard(form.fresh(seed), data, &|epoch| (self.listener)(Progress::Epoch(epoch)))
    }

    fn tell(&self, name: &str, seed: u64, seeds: usize) {
        log::info!("{name}, seed {seed}");
        (self.listener)(Progress::Stage { name: name.into(), seed, seeds });
    }

    /// Runs `steps` and the quantiser on every dense model and judges every stage on the test nodes; names begin with `of`.
    fn chain(&self, dense: &[Model], steps: &[&dyn Step], of: &str) -> Result<Chain> {
        let mut metrics: Vec<(String, Vec<f64>)> = self.names(steps, of).into_iter().map(|name| (name, Vec::new())).collect();
        let mut best: (f64, Vec<Stage>) = (f64::NEG_INFINITY, Vec::new());
        for model in dense {
            let split = self.data.split(model.seed());
            let stages = self.stages_of(model, steps, &metrics, dense.len())?;
            for (stage, (_, metric)) in stages.iter().zip(&mut metrics) {
                metric.push(self.judge(stage, &split.test)?);
            }
            let validation = self.judge(stages.last().expect("dense is there"), &split.val)?;
            if validation > best.0 {
                best = (validation, stages);
            }
        }
        Ok(Chain { metrics, best: best.1 })
    }

    fn stages_of(&self, model: &Model, steps: &[&dyn Step], names: &[(String, Vec<f64>)], seeds: usize) -> Result<Vec<Stage>> {
        let mut stages = vec![Stage { subject: Subject { model: model.clone(), graph: self.data.graph().clone() }, integers: None }];
        for (k, step) in steps.iter().enumerate() {
            self.tell(&names[k + 1].0, model.seed(), seeds);
            let env = Env {
                data: self.data,
                dense: model,
                seed: hash(model.seed(), &[purpose::STAGE, k as u64]),
                on_epoch: &|epoch| (self.listener)(Progress::Epoch(epoch)),
            };
            stages.push(Stage { subject: step.run(stages[k].subject.clone(), &env)?, integers: None });
        }
        if let Some(quantizer) = &self.quantizer {
            self.tell(&names[names.len() - 1].0, model.seed(), seeds);
            let subject = stages[stages.len() - 1].subject.clone();
            let hear = |epoch| (self.listener)(Progress::Epoch(epoch));
            let integers = quantizer.quantize_heard(&subject.model, &self.on(&subject.graph)?, &hear)?;
            stages.push(Stage { subject, integers: Some(integers) });
        }
        Ok(stages)
    }

    fn judge(&self, stage: &Stage, rows: &[u32]) -> Result<f64> {
        let data = self.on(&stage.subject.graph)?;
        match &stage.integers {
            None => evaluate(&stage.subject.model, &data, rows),
            Some(integers) => {
                let mut program = integers.compile(data.graph(), data.features())?;
                Ok(Metric::of(&data).measure(program.run(data.features())?, &data, rows))
            }
        }
    }

    fn on(&self, graph: &Graph) -> Result<Dataset> {
        self.data.with_graph(graph.clone())
    }

    fn row(&self, name: &str, metric: Vec<f64>, stage: &Stage) -> Result<Row> {
        (self.listener)(Progress::Measure { name: name.into() });
        let model: &dyn Servable = match &stage.integers {
            Some(integers) => integers,
            None => &stage.subject.model,
        };
        let account = Account::of(model, &stage.subject.graph, &self.data.features(), self.threads)?;
        Ok(Row { name: name.into(), metric: Metric::of(self.data), accuracy: Summary::of(metric), account })
    }

    /// A shape trained from scratch by the protocol; what is the dense shape has been trained already.
    fn narrow_control(&self, name: &str, form: &Model, graph: &Graph, dense: &Model, dense_row: &Row, seeds: &[u64]) -> Result<Row> {
        if matches!(self.start, Start::Train { .. }) && same_shapes(form, dense) {
            return Ok(Row { name: name.into(), ..dense_row.clone() });
        }
        let data = self.on(graph)?;
        let mut metric = Vec::new();
        let mut first = None;
        for &seed in seeds {
            let model = self.trained(name, form, &data, seed, seeds.len())?;
            metric.push(evaluate(&model, &data, &data.split(seed).test)?);
            first.get_or_insert(model);
        }
        let model = first.expect("there is at least one seed");
        self.row(name, metric, &Stage { subject: Subject { model, graph: graph.clone() }, integers: None })
    }

    /// The same amounts and fine-tuning by a random criterion, where any step chooses by one.
    fn random_control(&self, dense: &[Model]) -> Result<Option<Row>> {
        let controls: Vec<_> = self.steps.iter().map(|step| step.control()).collect();
        if controls.iter().all(Option::is_none) {
            return Ok(None);
        }
        let steps: Vec<&dyn Step> = self.steps.iter().zip(&controls).map(|(step, control)| control.as_deref().unwrap_or(&**step)).collect();
        let chain = self.chain(dense, &steps, RANDOM)?;
        let (Some((_, metric)), Some(stage)) = (chain.metrics.last(), chain.best.last()) else { return Ok(None) };
        self.row("random control", metric.clone(), stage).map(Some)
    }
}

/// What the names of the random control's stages begin with.
const RANDOM: &str = "random control: ";

/// A dense network of about as many parameters as `model` has that are not masked: of its own shape where nothing is masked, else of
/// the width whose number of parameters comes nearest.
fn dense_form(model: &Model, data: &Dataset) -> Result<Model> {
    let mut free = 0;
    model.visit(&mut |_, param| free += param.mask().map_or(param.value().len(), |mask| mask.iter().filter(|keep| **keep).count()));
    if free == model.num_params() {
        return Ok(model.clone());
    }
    nearest_form(&model.fresh(model.seed()), data, free as u64, |model| model.num_params() as u64)
}

/// A final stage with less than this share of the bytes of the narrow control gets a control of its own bytes.
const EQUAL_BYTES: f64 = 0.9;

fn chain_bytes(last: &Stage) -> u64 {
    last.integers.as_ref().map_or_else(|| stored_bytes(&last.subject.model), QuantModel::stored_bytes)
}

/// The network of this form, drawn anew, of the width whose size comes nearest.
fn nearest_form(form: &Model, data: &Dataset, wanted: u64, size: impl Fn(&Model) -> u64) -> Result<Model> {
    let unmasked = form.fresh(form.seed());
    let model = &unmasked;
    let widest = model.nodes().iter().map(|node| node.channels()).max().unwrap_or(1);
    let mut nearest = unmasked.clone();
    for kept in 1..widest {
        let ratio = 1.0 - kept as f64 / widest as f64;
        let Ok(plan) = ChannelPruner::builder(Magnitude::l2()).ratio(ratio).build()?.plan(&unmasked, data) else { continue };
        let narrow = plan.shrink(&unmasked)?;
        if size(&narrow).abs_diff(wanted) < size(&nearest).abs_diff(wanted) {
            nearest = narrow;
        }
    }
    Ok(nearest)
}

fn same_shapes(a: &Model, b: &Model) -> bool {
    let shapes = |model: &Model| {
        let mut shapes = Vec::new();
        model.visit(&mut |name, param| shapes.push((name.to_string(), param.value().dim())));
        shapes
    };
    shapes(a) == shapes(b)
}
