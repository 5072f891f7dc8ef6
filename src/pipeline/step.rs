//! One stage of a compression.

use crate::data::Dataset;
use crate::error::Result;
use crate::graph::Graph;
use crate::log;
use crate::nn::{Memory, Model};
use crate::prune::{Amount, Dspar};
use crate::reconstruct::Calibrate;
use crate::task::{Task, TrainedOn};
use crate::train::{OnEpoch, Trainer, TrainerBuilder};
use std::ops::Deref;

/// What a step changes: a model and the graph that it runs on.
#[derive(Debug, Clone)]
pub struct Subject {
    model: Model,
    graph: Graph,
}

impl Subject {
    /// A model that runs on a graph.
    pub fn new(model: Model, graph: Graph) -> Self {
        Self { model, graph }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, to be changed in place.
    pub fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    /// The model alone.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Another model on the same graph.
    #[must_use]
    pub fn with_model(&self, model: Model) -> Self {
        Self { model, graph: self.graph.clone() }
    }

    /// The same model on another graph.
    #[must_use]
    pub fn with_graph(self, graph: Graph) -> Self {
        Self { graph, ..self }
    }
}

/// A task on the graph of a subject: the task itself, where no step has changed that.
pub struct OnGraph<'a>(Kind<'a>);

enum Kind<'a> {
    Same(&'a dyn Task<f32>),
    Other(Box<dyn Task<f32> + 'a>),
}

impl<'a> OnGraph<'a> {
    pub(super) fn of(task: &'a dyn Task<f32>, graph: &Graph) -> Result<Self> {
        Ok(Self(match graph.is_clone_of(task.data().graph()) {
            true => Kind::Same(task),
            false => Kind::Other(task.with_graph(graph.clone())?),
        }))
    }
}

impl<'a> Deref for OnGraph<'a> {
    type Target = dyn Task<f32> + 'a;

    fn deref(&self) -> &Self::Target {
        match &self.0 {
            Kind::Same(task) => *task,
            Kind::Other(task) => &**task,
        }
    }
}

impl std::fmt::Debug for OnGraph<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

/// Most epochs of a model that starts from scratch, where nothing says how it is trained.
pub(crate) const FRESH_EPOCHS: usize = 500;

/// What a step may look at.
pub struct Env<'a> {
    task: &'a dyn Task<f32>,
    dense: &'a Model,
    seed: u64,
    on_epoch: OnEpoch<'a>,
    trainer: Option<&'a Trainer>,
    sparsify: Option<Dspar>,
    prefixes: bool,
}

impl<'a> Env<'a> {
    /// The surroundings of a stage: the task on its own full graph, the dense model that the
    /// compression started from, and the seed of the stage. Nothing hears of epochs.
    pub fn new(task: &'a dyn Task<f32>, dense: &'a Model, seed: u64) -> Self {
        Self {
            task,
            dense,
            seed,
            on_epoch: &|_| Ok(()),
            trainer: None,
            sparsify: None,
            prefixes: false,
        }
    }

    /// The same, where the dense model was trained by `trainer`.
    #[must_use]
    pub fn trained_by(self, trainer: Option<&'a Trainer>) -> Self {
        Self { trainer, ..self }
    }

    /// The same, where what is trained from scratch sees edges that are drawn by this.
    pub(super) fn sparsified(self, sparsify: Option<Dspar>) -> Self {
        Self { sparsify, ..self }
    }

    /// The same, where the dense model was trained for prefixes of it too, or not.
    pub(super) fn with_prefixes(self, prefixes: bool) -> Self {
        Self { prefixes, ..self }
    }

    /// Whether the dense model was trained for prefixes of it, too.
    pub(super) fn has_prefixes(&self) -> bool {
        self.prefixes
    }

    /// `task` as a network of this seed is trained on it from scratch: on the edges that were drawn
    /// for the dense model, where they were. `None` where that is `task` itself.
    ///
    /// # Errors
    /// As [`Task::with_graph`].
    pub fn from_scratch<'t>(
        &self,
        task: &'t dyn Task<f32>,
        seed: u64,
    ) -> Result<Option<TrainedOn<'t, f32>>> {
        drawn(self.sparsify, task, seed)
    }

    /// What trained the dense model, where the compression did.
    pub fn trainer(&self) -> Option<&'a Trainer> {
        self.trainer
    }

    /// How what trained the dense model keeps maps.
    pub(crate) fn memory(&self) -> Memory {
        self.trainer.map_or(Memory::Whole, Trainer::memory)
    }

    /// How pairs and graphs are trained on for so many epochs, whose tables and norms want other
    /// settings than the protocol's: as what trained the dense model, or without decay at least.
    pub(crate) fn going_on(&self, epochs: usize) -> TrainerBuilder {
        match self.trainer {
            Some(trainer) => trainer.going_on(epochs),
            None => Trainer::builder().epochs(epochs).keep_start(true).weight_decay(0.0),
        }
    }

    /// How a fresh model of pairs or graphs is trained: as the dense model was, or for 500 epochs
    /// without decay where that is not known; for so many epochs where they are given.
    pub(crate) fn anew(&self, epochs: Option<usize>) -> TrainerBuilder {
        let builder = match self.trainer {
            Some(trainer) => trainer.anew(),
            None => {
                log::info!(
                    "how the dense model was trained is not known: a fresh one by Adam at 0.01"
                );
                Trainer::builder().epochs(FRESH_EPOCHS).weight_decay(0.0)
            }
        };
        match epochs {
            Some(epochs) => builder.epochs(epochs),
            None => builder,
        }
    }

    /// The same, and `on_epoch` is called after every epoch of training, which it may end.
    #[must_use]
    pub fn on_epoch(self, on_epoch: OnEpoch<'a>) -> Self {
        Self { on_epoch, ..self }
    }

    /// The task, on its own full graph.
    pub fn task(&self) -> &'a dyn Task<f32> {
        self.task
    }

    /// The data of the task, on their own full graph.
    pub fn data(&self) -> &'a Dataset {
        self.task.data()
    }

    /// The task on the graph of a subject.
    ///
    /// # Errors
    /// A graph of another number of nodes, and any other than its own for a task whose graph cannot
    /// be changed.
    pub fn task_of(&self, subject: &Subject) -> Result<OnGraph<'a>> {
        OnGraph::of(self.task, &subject.graph)
    }

    /// The dense model that the compression started from.
    pub fn dense(&self) -> &'a Model {
        self.dense
    }

    /// Seed of this stage.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What is told of every epoch of training, and may end it.
    pub fn listener(&self) -> OnEpoch<'a> {
        self.on_epoch
    }
}

/// `task`, trained on edges that are drawn for a seed.
pub(super) fn drawn(
    sparsify: Option<Dspar>,
    task: &dyn Task<f32>,
    seed: u64,
) -> Result<Option<TrainedOn<'_, f32>>> {
    let Some(thin) = sparsify else { return Ok(None) };
    let graph = thin.sample(task.data().graph(), seed)?.into_graph();
    TrainedOn::new(task, graph).map(Some)
}

impl std::fmt::Debug for Env<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stage of seed {} on {}", self.seed, self.task.name())
    }
}

/// A stage of a compression: anyone may add one.
///
/// One that makes all weights below a bound zero, and chooses nothing:
///
/// ```
/// use gnn_prune::pipeline::{Control, Env, Subject};
/// use gnn_prune::{Compression, Controls, Dataset, Gcn, Result, Step};
///
/// struct Below(f32);
///
/// impl Step for Below {
///     fn name(&self) -> String {
///         format!("below {}", self.0)
///     }
///
///     fn run(&self, mut subject: Subject, _: &Env) -> Result<Subject> {
///         subject.model_mut().visit_mut(&mut |param| param.value_mut().mapv_inplace(|w| if w.abs() < self.0 { 0.0 } else { w }));
///         Ok(subject)
///     }
///
///     fn control(&self) -> Control {
///         Control::ChoosesNothing
///     }
/// }
///
/// let data = Dataset::sbm(200, 2).build()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(8).layers(2).build(0)?;
/// let out = Compression::of(model, &data).step(Below(0.1)).controls(Controls::None).run()?;
/// assert_eq!(out.report.rows[1].name, "below 0.1");
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub trait Step: Send + Sync {
    /// The stage's words on the command line, which name its row: `channels 0.75`.
    fn name(&self) -> String;

    /// Changes the subject.
    ///
    /// # Errors
    /// What the step refuses.
    fn run(&self, subject: Subject, env: &Env) -> Result<Subject>;

    /// What the step would make of a subject of this form, tried before any epoch of training: the
    /// shapes are those that [`run`](Self::run) will give, the numbers mean nothing. `None` where
    /// that cannot be told, and what comes after is not tried. Default: `None`.
    ///
    /// # Errors
    /// What `run` is bound to refuse, whatever training makes of the numbers.
    fn rehearse(&self, _subject: &Subject, _env: &Env) -> Result<Option<Subject>> {
        Ok(None)
    }

    /// All that the outcome depends on beside the subject and the seed, in one line: what a run
    /// that goes on is compared by. Default: the name.
    fn settings(&self) -> String {
        self.name()
    }

    /// Whether the step replaces the model by a fresh one, so that every step before it would be
    /// lost; it must then be the first.
    fn starts_over(&self) -> bool {
        false
    }

    /// Which nodes the step's least squares looks at, which the report says; `None` for a step
    /// without.
    fn calibrates_on(&self) -> Option<Calibrate> {
        None
    }

    /// The same step with another amount: what a search turns. `None` for a step without an amount.
    /// Default: `None`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for an amount out of range.
    fn at(&self, _amount: Amount) -> Result<Option<Box<dyn Step>>> {
        Ok(None)
    }

    /// What stands in this step's place where the report's random control runs. It has no default,
    /// so that a step that chooses cannot forget it.
    fn control(&self) -> Control;
}

/// What a [`Step`] does where choices are left to chance.
#[non_exhaustive]
pub enum Control {
    /// This step instead: the same amount, chosen at random.
    Random(Box<dyn Step>),
    /// The step itself: it chooses nothing, or nothing that chance could choose as much of.
    ChoosesNothing,
}

impl Control {
    /// The random step, where there is one.
    pub fn random(self) -> Option<Box<dyn Step>> {
        match self {
            Control::Random(step) => Some(step),
            Control::ChoosesNothing => None,
        }
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Control::Random(step) => f.debug_tuple("Random").field(&step.settings()).finish(),
            Control::ChoosesNothing => f.write_str("ChoosesNothing"),
        }
    }
}
