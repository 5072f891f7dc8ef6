//! The whole way from a dense model to a small one.

use super::checkpoints::{Checkpoints, Store};
use super::controls::Controls;
use super::step::Step;
use crate::error::{Error, Result};
use crate::nn::Model;
use crate::prune::{Dspar, Prefixes};
use crate::quant::{QuantModel, Quantizer};
use crate::report::Report;
use crate::task::Task;
use crate::train::{Epoch, Trainer};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::Arc;

/// What a listener hears while a compression runs.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Progress {
    /// What is to come, told first: the stages in their order, each with how often it will run.
    /// What only the result decides, as a control of the final bytes, is not in it.
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
    /// The stage at hand was finished by an earlier run: its epochs are told again, at once.
    Kept {
        /// How long it took then.
        seconds: f64,
    },
    /// An epoch of training ended.
    Epoch(Epoch),
    /// Something went otherwise than it should, and the work goes on.
    Note {
        /// What, in one line.
        text: String,
    },
    /// A row is being measured.
    Measure {
        /// Name of the row.
        name: String,
    },
}

/// Where the dense models come from.
pub(super) enum Start {
    /// One trained model; its seed is the only one.
    Trained(Model),
    /// A form, trained anew for every seed.
    Train { form: Model, trainer: Trainer, seeds: Vec<u64> },
}

/// What a compression gives.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome<M> {
    /// The model after the last step, of the seed with the best validation metric, or of the first
    /// where validation does not choose ([`Task::chooses`]).
    pub model: M,
    /// A row for the dense model, one per step, and the controls.
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
    pub(super) start: Start,
    pub(super) task: &'a dyn Task<f32>,
    pub(super) steps: Vec<Box<dyn Step>>,
    pub(super) quantizer: Option<Quantizer>,
    pub(super) controls: Controls,
    pub(super) trainer: Trainer,
    pub(super) sparsify: Option<Dspar>,
    pub(super) prefixes: Option<Prefixes>,
    pub(super) threads: usize,
    pub(super) listener: Arc<dyn Fn(Progress) + Send + Sync>,
    pub(super) stop: Arc<dyn Fn() -> bool + Send + Sync>,
    pub(super) checkpoints: Option<Checkpoints>,
    /// There while it runs with checkpoints.
    pub(super) store: Option<Store>,
    pub(super) out: Option<PathBuf>,
    ends_in: PhantomData<fn() -> M>,
}

impl<M> std::fmt::Debug for Compression<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let steps: Vec<String> = self.steps.iter().map(|step| step.settings()).collect();
        f.debug_struct("Compression")
            .field("task", &self.task)
            .field("steps", &steps)
            .field("quantizer", &self.quantizer)
            .field("controls", &self.controls)
            .field("trainer", &self.trainer)
            .finish_non_exhaustive()
    }
}

impl<'a> Compression<'a> {
    /// Compresses one trained model.
    pub fn of(model: Model, task: &'a dyn Task<f32>) -> Self {
        Self::start(Start::Trained(model), task)
    }

    /// Trains a model of this form with each of the seeds `0..seeds` first, and compresses each;
    /// the report has means over them.
    ///
    /// # Errors
    /// [`Error::Setting`] for no seeds.
    pub fn train(
        form: Model,
        trainer: Trainer,
        seeds: u64,
        task: &'a dyn Task<f32>,
    ) -> Result<Self> {
        if seeds == 0 {
            return Err(Error::setting("seeds", 0, "at least 1"));
        }
        Ok(Self::start(Start::Train { form, trainer, seeds: (0..seeds).collect() }, task))
    }

    fn start(start: Start, task: &'a dyn Task<f32>) -> Self {
        let trainer = match &start {
            Start::Trained(_) => Trainer::protocol(),
            Start::Train { trainer, .. } => trainer.clone(),
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (steps, listener, stop) = (Vec::new(), Arc::new(|_| ()), Arc::new(|| false));
        let (quantizer, controls, checkpoints, store, out) =
            (None, Controls::All, None, None, None);
        Self {
            start,
            task,
            steps,
            quantizer,
            controls,
            trainer,
            sparsify: None,
            prefixes: None,
            threads,
            listener,
            stop,
            checkpoints,
            store,
            out,
            ends_in: PhantomData,
        }
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
        let mut all = self.ending_in();
        all.quantizer = Some(quantizer);
        all
    }

    /// Runs all steps for all seeds, then measures.
    ///
    /// What a step or the quantiser cannot do with a network of this form is refused before the
    /// first epoch.
    ///
    /// # Errors
    /// [`Error::Setting`] for steps in an order that makes no sense, and what training, a step or a
    /// measurement returns; [`Error::Interrupted`] where [`Compression::stop_when`] says so, and
    /// [`Error::File`] where a model or a stage cannot be written, or the folder of the stages
    /// holds another run.
    pub fn run(self) -> Result<Outcome<Model>> {
        let (last, report) = self.ending_in::<()>().execute()?;
        Ok(Outcome { model: last.subject.into_model(), report })
    }
}

impl Compression<'_, QuantModel> {
    /// Runs all steps for all seeds, quantises, then measures.
    ///
    /// # Errors
    /// As for a compression that ends in floats, and what the quantiser returns.
    pub fn run(self) -> Result<Outcome<QuantModel>> {
        let (last, report) = self.ending_in::<()>().execute()?;
        let model = last
            .integers
            .expect("a compression of this type has a quantiser, and its stage is the last");
        Ok(Outcome { model, report })
    }
}

impl<'a, M> Compression<'a, M> {
    /// Which control rows the report gets. Default [`Controls::All`].
    #[must_use]
    pub fn controls(mut self, controls: Controls) -> Self {
        self.controls = controls;
        self
    }

    /// How controls are trained beside a model that came trained. Default: by
    /// [`Trainer::protocol`], which is for nodes; rankings want what trained the model. Where the
    /// dense models are trained here, controls are trained as these.
    #[must_use]
    pub fn controls_by(mut self, trainer: Trainer) -> Self {
        if matches!(self.start, Start::Trained(_)) {
            self.trainer = trainer;
        }
        self
    }

    /// Trains what is trained from scratch, the dense models and the narrow controls, on edges that
    /// are drawn for each seed. Every row is judged and measured on all edges, and steps such as
    /// fine-tuning train on all of them, too. Default: all edges.
    ///
    /// ```
    /// use gnn_prune::prune::Dspar;
    /// use gnn_prune::{Compression, Dataset, Gcn, Trainer};
    /// let data = Dataset::digits()?;
    /// let form = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
    /// let trainer = Trainer::builder().epochs(5).build()?;
    /// let out = Compression::train(form, trainer, 2, &data)?.sparsify(Dspar::new(0.5)?).run()?;
    /// assert!(out.report.training_graph.unwrap().starts_with("trained on "));
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    #[must_use]
    pub fn sparsify(mut self, sparsify: Dspar) -> Self {
        self.sparsify = Some(sparsify);
        self
    }

    /// Trains the dense models so that these prefixes of them are models, too; controls are trained
    /// without. Of a model that is read nothing is trained, and the run then refuses them. Default:
    /// on the task's loss alone.
    #[must_use]
    pub fn prefixes(mut self, prefixes: Prefixes) -> Self {
        self.prefixes = Some(prefixes);
        self
    }

    /// Threads of the second latency column, at least 1. Default: one per core.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }

    /// Calls `listener` as the work goes on. Default: no callback.
    #[must_use]
    pub fn on_progress(mut self, listener: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.listener = Arc::new(listener);
        self
    }

    /// Keeps every finished stage in a folder, and takes from there what an earlier run of the same
    /// settings has finished. Default: nothing is kept.
    #[must_use]
    pub fn keep(mut self, checkpoints: Checkpoints) -> Self {
        self.checkpoints = Some(checkpoints);
        self
    }

    /// Asked after every epoch and every stage; where it says `true`, [`run`](Compression::run)
    /// returns [`Error::Interrupted`]. A stage that has no epochs, or has just had its last, comes
    /// to its end. Default: never.
    #[must_use]
    pub fn stop_when(mut self, stop: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.stop = Arc::new(stop);
        self
    }

    /// Writes the model to a file as soon as it is known, before controls are trained and anything
    /// is measured. Default: nowhere.
    #[must_use]
    pub fn save_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.out = Some(path.into());
        self
    }

    /// Which control rows the report gets.
    pub(super) fn wanted_controls(&self) -> Controls {
        self.controls
    }

    fn ending_in<N>(self) -> Compression<'a, N> {
        Compression {
            start: self.start,
            task: self.task,
            steps: self.steps,
            quantizer: self.quantizer,
            controls: self.controls,
            trainer: self.trainer,
            sparsify: self.sparsify,
            prefixes: self.prefixes,
            threads: self.threads,
            listener: self.listener,
            stop: self.stop,
            checkpoints: self.checkpoints,
            store: self.store,
            out: self.out,
            ends_in: PhantomData,
        }
    }
}
