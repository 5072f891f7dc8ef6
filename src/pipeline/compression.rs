//! The whole way from a dense model to a small one.

use super::step::{Env, Step, Subject};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::nn::Model;
use crate::report::{Account, Report, Row, Summary};
use crate::rng::{hash, purpose};
use crate::train::{Epoch, Metric, Trainer, evaluate};
use std::sync::Arc;

/// Which control rows the report gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Controls {
    /// A network of the final shape trained from scratch, and the same amounts by a random criterion.
    #[default]
    All,
    /// None.
    None,
}

/// What a listener hears while a compression runs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// A stage begins: its row's name, its seed, and how many seeds there are.
    Stage {
        /// Name of the row.
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
/// ```
/// use gnn_prune::{ChannelPruner, Compression, Dataset, FineTune, Gcn, Magnitude, Trainer};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let model = Trainer::builder().epochs(10).build()?.fit(model, &data)?;
/// let out = Compression::of(model, &data)
///     .step(ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build()?)
///     .step(FineTune::epochs(5))
///     .controls(gnn_prune::Controls::None)
///     .run()?;
/// assert_eq!(out.report.rows.len(), 3);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub struct Compression<'a> {
    start: Start,
    data: &'a Dataset,
    steps: Vec<Box<dyn Step>>,
    controls: Controls,
    trainer: Trainer,
    threads: usize,
    listener: Arc<dyn Fn(Progress) + Send + Sync>,
}

/// Results of one chain of steps over all seeds.
struct Chain {
    /// Name and per-seed metric of every stage.
    stages: Vec<(String, Vec<f64>)>,
    /// The subjects of the seed with the best validation metric after the last stage.
    best: Vec<Subject>,
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
        Self { start, data, steps: Vec::new(), controls: Controls::All, trainer, threads, listener: Arc::new(|_| ()) }
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

    /// Runs all steps for all seeds, then measures.
    ///
    /// # Errors
    /// What training, a step or a measurement returns.
    pub fn run(self) -> Result<Outcome<Model>> {
        let dense = self.dense_models()?;
        let seeds: Vec<u64> = dense.iter().map(Model::seed).collect();
        let steps: Vec<&dyn Step> = self.steps.iter().map(|step| &**step).collect();
        let chain = self.chain(&dense, &steps)?;
        let mut rows = Vec::new();
        for ((name, metric), subject) in chain.stages.iter().zip(&chain.best) {
            rows.push(self.row(name, metric.clone(), subject)?);
        }
        let last = chain.best.last().expect("the dense model is the first stage").clone();
        if self.controls == Controls::All && !self.steps.is_empty() {
            rows.push(self.narrow_control(&last, &seeds)?);
            rows.extend(self.random_control(&dense)?);
        }
        Ok(Outcome { model: last.model, report: Report::new(self.data, seeds, rows) })
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
        (self.listener)(Progress::Stage { name: name.into(), seed, seeds });
    }

    /// Runs `steps` on every dense model and judges every stage on the test nodes.
    fn chain(&self, dense: &[Model], steps: &[&dyn Step]) -> Result<Chain> {
        let names = std::iter::once("dense".to_string()).chain(steps.iter().map(|step| step.name()));
        let mut stages: Vec<(String, Vec<f64>)> = names.map(|name| (name, Vec::new())).collect();
        let mut best: (f64, Vec<Subject>) = (f64::NEG_INFINITY, Vec::new());
        for model in dense {
            let split = self.data.split(model.seed());
            let mut subjects = vec![Subject { model: model.clone(), graph: self.data.graph().clone() }];
            for (k, step) in steps.iter().enumerate() {
                self.tell(&stages[k + 1].0, model.seed(), dense.len());
                let env = Env {
                    data: self.data,
                    dense: model,
                    seed: hash(model.seed(), &[purpose::STAGE, k as u64]),
                    on_epoch: &|epoch| (self.listener)(Progress::Epoch(epoch)),
                };
                subjects.push(step.run(subjects[k].clone(), &env)?);
            }
            for (subject, (_, metric)) in subjects.iter().zip(&mut stages) {
                metric.push(self.judge(subject, &split.test)?);
            }
            let validation = self.judge(subjects.last().expect("dense is there"), &split.val)?;
            if validation > best.0 {
                best = (validation, subjects);
            }
        }
        Ok(Chain { stages, best: best.1 })
    }

    fn judge(&self, subject: &Subject, rows: &[u32]) -> Result<f64> {
        evaluate(&subject.model, &self.on(&subject.graph)?, rows)
    }

    fn on(&self, graph: &Graph) -> Result<Dataset> {
        self.data.with_graph(graph.clone())
    }

    fn row(&self, name: &str, metric: Vec<f64>, subject: &Subject) -> Result<Row> {
        (self.listener)(Progress::Measure { name: name.into() });
        let account = Account::of(&subject.model, &subject.graph, &self.data.features(), self.threads)?;
        Ok(Row { name: name.into(), metric: Metric::of(self.data), accuracy: Summary::of(metric), account })
    }

    /// The final shape, trained from scratch by the protocol.
    fn narrow_control(&self, last: &Subject, seeds: &[u64]) -> Result<Row> {
        let name = "narrow control";
        let data = self.on(&last.graph)?;
        let mut metric = Vec::new();
        let mut first = None;
        for &seed in seeds {
            let model = self.trained(name, &last.model, &data, seed, seeds.len())?;
            metric.push(evaluate(&model, &data, &data.split(seed).test)?);
            first.get_or_insert(model);
        }
        let model = first.expect("there is at least one seed");
        self.row(name, metric, &Subject { model, graph: last.graph.clone() })
    }

    /// The same amounts and fine-tuning by a random criterion, where any step chooses by one.
    fn random_control(&self, dense: &[Model]) -> Result<Option<Row>> {
        let controls: Vec<_> = self.steps.iter().map(|step| step.control()).collect();
        if controls.iter().all(Option::is_none) {
            return Ok(None);
        }
        let steps: Vec<&dyn Step> = self.steps.iter().zip(&controls).map(|(step, control)| control.as_deref().unwrap_or(&**step)).collect();
        let chain = self.chain(dense, &steps)?;
        let (Some((_, metric)), Some(subject)) = (chain.stages.last(), chain.best.last()) else { return Ok(None) };
        self.row("random control", metric.clone(), subject).map(Some)
    }
}
