//! The training loop.

use super::accumulate::Gathered;
use super::loss::{Loss, Objective, OfTask, Pass};
use super::observer::{Epoch, Flow, Observer, OnEpoch, Told};
use super::optimizer::{Optimizer, step};
use super::penalty::Penalty;
use super::reduce::{Alone, Reduce, means};
use super::rule::UpdateRule;
use super::schedule::Schedule;
use crate::error::{Error, Result};
use crate::log;
use crate::nn::{Cx, Liveness, Memory, Mode, Model, NodeId};
use crate::scalar::Scalar;
use crate::task::{Batches, Part, Tally, Task};
use std::sync::Arc;

/// What training sees of a model; see [`Setup::view`].
pub type WeightView<'a, F> = &'a dyn Fn(&Model<F>) -> Model<F>;

type Progress = Arc<dyn Fn(Epoch) + Send + Sync>;

/// Builder of a [`Trainer`]; see [`Trainer::builder`].
#[derive(Clone)]
pub struct TrainerBuilder {
    epochs: usize,
    learning_rate: f64,
    weight_decay: f64,
    rule: UpdateRule,
    schedule: Schedule,
    warmup: usize,
    clip_norm: Option<f64>,
    accumulate: usize,
    patience: usize,
    validate_every: usize,
    penalty: Option<Penalty>,
    keep_start: bool,
    dropout_seed: Option<u64>,
    memory: Memory,
    progress: Option<Progress>,
}

impl std::fmt::Debug for TrainerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let trainer = Trainer { settings: self.clone() };
        f.debug_tuple("TrainerBuilder").field(&format_args!("{trainer}")).finish()
    }
}

impl TrainerBuilder {
    /// Most epochs, at least 1. Default 200.
    #[must_use]
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    /// Step size, positive. Default 0.01.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// L2 penalty on all parameters, at least 0. Default 5e-4.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Which optimiser makes the steps. Default [`UpdateRule::Adam`].
    #[must_use]
    pub fn rule(mut self, rule: UpdateRule) -> Self {
        self.rule = rule;
        self
    }

    /// Course of the learning rate. Default [`Schedule::Constant`].
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Epochs in which the learning rate grows to its full size before the schedule begins, fewer
    /// than there are; see [`Schedule::factor_after`]. Default 0.
    #[must_use]
    pub fn warmup(mut self, epochs: usize) -> Self {
        self.warmup = epochs;
        self
    }

    /// Longest gradient, a positive number: where the Euclidean norm of all gradients together is
    /// larger, they are scaled down to it before the optimiser sees them, as
    /// `torch.nn.utils.clip_grad_norm_` does (Pascanu et al., ICML 2013, algorithm 1). Default:
    /// any.
    #[must_use]
    pub fn clip_norm(mut self, largest: f64) -> Self {
        self.clip_norm = Some(largest);
        self
    }

    /// Adds up the gradients of so many batches before each step, at least 1: the step is that of
    /// one batch with the rows of all of them, in the memory of one, where the loss is a mean over
    /// rows or queries. The last step of an epoch may have fewer batches. Batch norms see each
    /// batch by itself, and dropout draws for each. Default 1.
    #[must_use]
    pub fn accumulate(mut self, batches: usize) -> Self {
        self.accumulate = batches;
        self
    }

    /// Stops after this many epochs without a better validation metric, at least 1. Default 100.
    #[must_use]
    pub fn patience(mut self, patience: usize) -> Self {
        self.patience = patience;
        self
    }

    /// Judges the validation part after every so many epochs and after the last, at least 1; the
    /// others are told of with the metric of the last one that was judged. Default 1.
    #[must_use]
    pub fn validate_every(mut self, epochs: usize) -> Self {
        self.validate_every = epochs;
        self
    }

    /// A penalty on the rows of tables that a batch names. Default: none.
    #[must_use]
    pub fn penalty(mut self, penalty: Penalty) -> Self {
        self.penalty = Some(penalty);
        self
    }

    /// Whether the model as it comes is a candidate too: what fine-tuning wants. Default: no, only
    /// trained states count.
    #[must_use]
    pub fn keep_start(mut self, keep: bool) -> Self {
        self.keep_start = keep;
        self
    }

    /// Seed of the dropout masks. Default: the model's own.
    #[must_use]
    pub fn dropout_seed(mut self, seed: u64) -> Self {
        self.dropout_seed = Some(seed);
        self
    }

    /// How maps are kept until backward has read them. Default [`Memory::Whole`].
    #[must_use]
    pub fn memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// Calls `progress` after each epoch. Default: no callback.
    #[must_use]
    pub fn on_epoch(mut self, progress: impl Fn(Epoch) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Refuses to add up what there is one of.
    fn check_batches(&self, of_an_epoch: usize) -> Result<()> {
        if self.accumulate > 1 && of_an_epoch <= 1 {
            let legal = "1 where an epoch is one batch: there is nothing to add up";
            return Err(Error::setting("batches of a step", self.accumulate, legal));
        }
        Ok(())
    }

    /// Builds the trainer.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(self) -> Result<Trainer> {
        if self.epochs == 0 {
            return Err(Error::setting("epochs", 0, "at least 1"));
        }
        if self.patience == 0 {
            return Err(Error::setting("patience", 0, "at least 1"));
        }
        if self.validate_every == 0 {
            return Err(Error::setting("epochs between validations", 0, "at least 1"));
        }
        if self.accumulate == 0 {
            return Err(Error::setting("batches of a step", 0, "at least 1"));
        }
        if self.warmup >= self.epochs {
            let legal = format!("fewer than the {} epochs", self.epochs);
            return Err(Error::setting("epochs of the warm-up", self.warmup, legal));
        }
        if let Some(largest) = self.clip_norm.filter(|norm| !(*norm > 0.0 && norm.is_finite())) {
            return Err(Error::setting(
                "largest norm of the gradients",
                largest,
                "a positive number",
            ));
        }
        self.schedule.check()?;
        self.rule.start::<f32>(self.learning_rate, self.weight_decay)?;
        Ok(Trainer { settings: self })
    }
}

/// Trains a model on a task; keeps the first epoch with the strictly best metric on the validation
/// part.
///
/// Split, dropout and initial weights all follow the model's own seed.
///
/// ```
/// use gnn_prune::{Dataset, Gcn, Trainer};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(8).build(0)?;
/// let model = Trainer::builder().epochs(5).build()?.fit(model, &data)?;
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Clone)]
pub struct Trainer {
    settings: TrainerBuilder,
}

/// What a training does otherwise than by default: see [`Trainer::fit_with`].
#[derive(Default)]
pub struct Setup<'a, F: Scalar> {
    loss: Option<&'a mut dyn Loss<F>>,
    view: Option<WeightView<'a, F>>,
    optimizer: Option<&'a mut dyn Optimizer<F>>,
    reduce: Option<&'a dyn Reduce<F>>,
    observers: Vec<&'a mut dyn Observer<F>>,
    on_epoch: Option<OnEpoch<'a>>,
}

impl<F: Scalar> std::fmt::Debug for Setup<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("loss", &self.loss.is_some())
            .field("view", &self.view.is_some())
            .field("optimizer", &self.optimizer.is_some())
            .field("reduce", &self.reduce.is_some())
            .field("observers", &self.observers.len())
            .field("on_epoch", &self.on_epoch.is_some())
            .finish()
    }
}

impl<'a, F: Scalar> Setup<'a, F> {
    /// Every default.
    pub fn new() -> Self {
        Self {
            loss: None,
            view: None,
            optimizer: None,
            reduce: None,
            observers: Vec::new(),
            on_epoch: None,
        }
    }

    /// Trains on another loss; the choice of the epoch stays with the task's metric. Default: the
    /// task's loss.
    #[must_use]
    pub fn loss(mut self, loss: &'a mut dyn Loss<F>) -> Self {
        self.loss = Some(loss);
        self
    }

    /// Sees the model through `view`: what it makes of the model (the same layers with other values
    /// in the parameters) runs forward and backward and is validated, and its gradients move the
    /// model itself. This is the straight-through estimator of training with quantised weights
    /// (Bengio et al. 2013). Default: the model as it is.
    #[must_use]
    pub fn view(mut self, view: WeightView<'a, F>) -> Self {
        self.view = Some(view);
        self
    }

    /// Steps by another optimiser, which has a learning rate and a weight decay of its own.
    /// Default: the trainer's [`UpdateRule`].
    #[must_use]
    pub fn optimizer(mut self, optimizer: &'a mut dyn Optimizer<F>) -> Self {
        self.optimizer = Some(optimizer);
        self
    }

    /// Adds gradients up over several processes. Default: [`Alone`].
    #[must_use]
    pub fn reduce(mut self, reduce: &'a dyn Reduce<F>) -> Self {
        self.reduce = Some(reduce);
        self
    }

    /// Adds an observer; they see the training in the order in which they were added.
    #[must_use]
    pub fn observer(mut self, observer: &'a mut dyn Observer<F>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Tells a function of every epoch, after all observers; an error that it returns is what the
    /// training returns. Default: no callback.
    ///
    /// ```
    /// use gnn_prune::train::{Epoch, Setup};
    /// use gnn_prune::{Dataset, Error, Gcn, Trainer};
    /// let data = Dataset::digits()?;
    /// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(8).build(0)?;
    /// let three = |at: Epoch| if at.epoch < 3 { Ok(()) } else { Err(Error::Interrupted) };
    /// let stopped = Trainer::protocol().fit_with(model, &data, Setup::new().on_epoch(&three));
    /// assert!(matches!(stopped, Err(Error::Interrupted)));
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn on_epoch(mut self, told: OnEpoch<'a>) -> Self {
        self.on_epoch = Some(told);
        self
    }
}

/// A trained model and how it got there.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Fit<F: Scalar> {
    /// The model of the best epoch.
    pub model: Model<F>,
    /// Its metric on the validation part.
    pub validation: f64,
    /// Which epoch it was; 0 is the model as it came.
    pub best_epoch: usize,
    /// Loss of each epoch's steps, each before its step, a mean over batches.
    pub losses: Vec<f64>,
}

impl std::fmt::Debug for Trainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Trainer").field(&format_args!("{self}")).finish()
    }
}

impl std::fmt::Display for Trainer {
    /// All that the outcome depends on, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TrainerBuilder { epochs, learning_rate, weight_decay, schedule, patience, .. } =
            &self.settings;
        write!(
            f,
            "{epochs} epochs, learning rate {learning_rate} ({schedule:?}), weight decay {weight_decay}, patience {patience}"
        )?;
        if self.settings.rule != UpdateRule::default() {
            write!(f, ", by {}", self.settings.rule)?;
        }
        if self.settings.warmup > 0 {
            write!(f, ", {} epochs of warm-up", self.settings.warmup)?;
        }
        if self.settings.validate_every > 1 {
            write!(f, ", validated every {} epochs", self.settings.validate_every)?;
        }
        if let Some(penalty) = self.settings.penalty {
            write!(f, ", {penalty:?}")?;
        }
        if let Some(largest) = self.settings.clip_norm {
            write!(f, ", gradients of norm {largest} at most")?;
        }
        match self.settings.memory {
            Memory::Whole => {}
            Memory::Recompute => f.write_str(", maps recomputed")?,
            memory => write!(f, ", maps in {memory}")?,
        }
        if self.settings.accumulate > 1 {
            write!(f, ", {} batches a step", self.settings.accumulate)?;
        }
        f.write_str(if self.settings.keep_start { ", the start a candidate" } else { "" })?;
        self.settings.dropout_seed.map_or(Ok(()), |seed| write!(f, ", dropout by seed {seed}"))
    }
}

impl Trainer {
    /// Starts from the protocol: 200 epochs, Adam at 0.01, weight decay 5e-4, patience 100.
    pub fn builder() -> TrainerBuilder {
        TrainerBuilder {
            epochs: 200,
            learning_rate: 0.01,
            weight_decay: 5e-4,
            rule: UpdateRule::Adam,
            schedule: Schedule::Constant,
            warmup: 0,
            clip_norm: None,
            accumulate: 1,
            patience: 100,
            validate_every: 1,
            penalty: None,
            keep_start: false,
            dropout_seed: None,
            memory: Memory::Whole,
            progress: None,
        }
    }

    /// The settings of this trainer, for another model that is trained from the start; its progress
    /// is told to nobody.
    pub fn anew(&self) -> TrainerBuilder {
        TrainerBuilder { progress: None, ..self.settings.clone() }
    }

    /// A trainer that goes on where this one ended: the same settings for `epochs` epochs, the
    /// model as it comes a candidate too, at the learning rate that this one begins with and
    /// without its schedule.
    pub fn going_on(&self, epochs: usize) -> TrainerBuilder {
        let validate_every = self.settings.validate_every.min(epochs.max(1));
        TrainerBuilder {
            epochs,
            validate_every,
            schedule: Schedule::Constant,
            warmup: 0,
            keep_start: true,
            progress: None,
            ..self.settings.clone()
        }
    }

    /// The trainer of the protocol: [`Trainer::builder`] with every default.
    pub fn protocol() -> Self {
        Trainer { settings: Self::builder() }
    }

    /// How it keeps maps until backward.
    pub(crate) fn memory(&self) -> Memory {
        self.settings.memory
    }

    /// Most epochs, and after how many without a better one it ends.
    pub(crate) fn lasts(&self) -> (usize, usize) {
        (self.settings.epochs, self.settings.patience)
    }

    /// Whether it may end before its last epoch.
    pub(super) fn may_stop_early(&self) -> bool {
        self.settings.patience < self.settings.epochs
    }

    /// The same, which goes on to its last epoch whatever validation says.
    pub(super) fn without_patience(&self) -> Self {
        let settings = TrainerBuilder { patience: self.settings.epochs, ..self.settings.clone() };
        Self { settings }
    }

    /// Trains on the loss of `task` and returns the best model. A [`Dataset`](crate::Dataset) is a
    /// task: the one that its labels define.
    ///
    /// # Errors
    /// [`Error::Diverged`] where the loss is no longer finite, [`Error::ShapeMismatch`] where model
    /// and task do not fit, [`Error::Data`] for a task without examples to train or to validate on,
    /// [`Error::Setting`] for several batches a step where an epoch is one batch.
    pub fn fit<F: Scalar>(&self, model: Model<F>, task: &dyn Task<F>) -> Result<Model<F>> {
        self.fit_with(model, task, Setup::new()).map(|fit| fit.model)
    }

    /// As [`Trainer::fit`], with another loss, optimiser, or whatever `setup` says, and with the
    /// course of the training.
    ///
    /// # Errors
    /// As [`Trainer::fit`], and what the parts of `setup` return.
    pub fn fit_with<F: Scalar>(
        &self,
        model: Model<F>,
        task: &dyn Task<F>,
        setup: Setup<F>,
    ) -> Result<Fit<F>> {
        task.check(&model)?;
        let seed = model.seed();
        let training = task.batches(Part::Train, seed)?;
        let validation = task.batches(Part::Validation, seed)?;
        if training.are_one() {
            self.settings.check_batches(1)?;
        }
        Run { settings: &self.settings, task, training, validation }.run(model, setup)
    }
}

/// One training.
struct Run<'a, F: Scalar> {
    settings: &'a TrainerBuilder,
    task: &'a dyn Task<F>,
    training: Batches<'a, F>,
    validation: Batches<'a, F>,
}

impl<F: Scalar> Run<'_, F> {
    fn run(&self, mut model: Model<F>, setup: Setup<F>) -> Result<Fit<F>> {
        let (settings, metric) = (self.settings, self.task.metric());
        let Setup { loss, view, optimizer, reduce, observers, on_epoch } = setup;
        let mut of_task = OfTask(self.task);
        let loss: &mut dyn Loss<F> = match loss {
            Some(loss) => loss,
            None => &mut of_task,
        };
        let mut by_rule = settings.rule.start(settings.learning_rate, settings.weight_decay)?;
        let optimizer: &mut dyn Optimizer<F> = match optimizer {
            Some(optimizer) => optimizer,
            None => &mut *by_rule,
        };
        let reduce = reduce.unwrap_or(&Alone);
        let mut told = on_epoch.map(Told);
        let watched = !observers.is_empty();
        let mut all: Vec<&mut dyn Observer<F>> = Vec::new();
        for observer in observers {
            all.push(observer);
        }
        if let Some(told) = &mut told {
            all.push(told);
        }
        let mut observers = all;

        let dropout_seed = settings.dropout_seed.unwrap_or(model.seed());
        // One pool of buffers for the whole training.
        let pool = Cx::without_graph();
        // Packed maps are for backward alone; what is done some rows at a time validates so, too.
        let pool = match settings.memory {
            Memory::Recompute => pool.with_memory(settings.memory),
            _ => pool,
        };
        let mut seen = view.map(|view| view(&model));
        let chooses = self.task.chooses();
        let start = match settings.keep_start && chooses {
            true => self.validate(seen.as_ref().unwrap_or(&model), &pool)?,
            false => metric.worst(),
        };
        let mut best =
            Fit { model: model.clone(), validation: start, best_epoch: 0, losses: Vec::new() };
        let mut plans = Plans::default();
        let (mut steps, mut validation) = (0, start);
        for epoch in 1..=settings.epochs {
            let factor = settings.schedule.factor_after(settings.warmup, epoch, settings.epochs);
            let (mut total, mut batches) = (0.0, 0u32);
            let (mut gathered, mut of_epoch) = (Gathered::nothing(), 0);
            let mut rest = self.training.epoch(epoch).peekable();
            while let Some(batch) = rest.next() {
                let batch = batch?;
                (steps, of_epoch) = (steps + 1, of_epoch + 1);
                let mode = Mode::Train { seed: dropout_seed, step: steps };
                let cx = batch.on(&pool).with_mode(mode).with_memory(settings.memory);
                let running = seen.as_ref().unwrap_or(&model);
                let keeps: Vec<NodeId> = observers
                    .iter()
                    .flat_map(|observer| observer.keeps())
                    .chain(loss.keeps())
                    .copied()
                    .collect();
                let liveness = plans.of_trace(running, mode, keeps);
                let trace = running.trace_with(&liveness, &cx, batch.features())?;
                let memory = settings.memory;
                let pass =
                    Pass { model: running, trace: &trace, batch: &batch, epoch, mode, memory };
                observers.iter_mut().try_for_each(|observer| observer.after_forward(&pass))?;
                let Objective { mut value, nodes, params } = loss.loss(&pass)?;
                if !value.is_finite() {
                    return Err(Error::Diverged { epoch, loss: value.as_f64() });
                }
                model.absorb(&trace);
                let running = seen.as_ref().unwrap_or(&model);
                let mut grads = running.backward(&cx, trace, nodes)?;
                params.iter().for_each(|params| grads.add_scaled(params, F::one()));
                if let Some(penalty) = &settings.penalty {
                    value += penalty.add(running, &batch, &mut grads);
                }
                gathered.add(value, grads, batch.examples());
                // Nothing is asked of what draws batches before its turn, but where there may be
                // one too few.
                if gathered.batches() < settings.accumulate && rest.peek().is_some() {
                    continue;
                }
                let Some((mut value, mut grads, examples)) = gathered.take() else { continue };
                means(reduce, &model, examples, &mut value, &mut grads)?;
                settings.clip_norm.iter().for_each(|&largest| grads.clip(largest));
                step(optimizer, &mut model, &grads, factor);
                seen = view.map(|view| view(&model));
                (total, batches) = (total + value.as_f64(), batches + 1);
            }
            settings.check_batches(of_epoch)?;
            let due = epoch % settings.validate_every == 0 || epoch == settings.epochs;
            let judged = due && chooses;
            if judged {
                validation = self.validate(seen.as_ref().unwrap_or(&model), &pool)?;
            }
            let loss = total / f64::from(batches.max(1));
            best.losses.push(loss);
            if judged && metric.is_better(validation, best.validation) {
                // A last step too large would else be kept: the loss that shows it would only come
                // with the next epoch.
                if !is_finite(&model) {
                    return Err(Error::Diverged { epoch, loss: f64::NAN });
                }
                (best.validation, best.best_epoch) = (validation, epoch);
                best.model.clone_from(&model);
            }
            let at = Epoch { epoch, epochs: settings.epochs, loss, validation };
            let known = validation.is_finite();
            let known = if known { format!(", validation {validation:.2}") } else { String::new() };
            log::debug!("epoch {epoch} of {}: loss {loss:.4}{known}", settings.epochs);
            settings.progress.iter().for_each(|listener| listener(at));
            let (mut flow, mut changed) = (Flow::On, false);
            for observer in &mut observers {
                match observer.after_epoch(&at, &mut model)? {
                    Flow::On => {}
                    Flow::Changed => changed = true,
                    Flow::Stop => flow = Flow::Stop,
                }
            }
            if changed {
                self.task.check(&model)?;
                optimizer.forget();
            }
            if watched {
                plans = Plans::default();
                seen = view.map(|view| view(&model));
            }
            if changed && chooses {
                // What was best is no longer what is trained: the changed model as it comes is the
                // first candidate.
                best.validation = self.validate(seen.as_ref().unwrap_or(&model), &pool)?;
                best.best_epoch = epoch;
                best.model.clone_from(&model);
            }
            let patient = !chooses || epoch - best.best_epoch < settings.patience;
            if flow == Flow::Stop || !patient {
                break;
            }
        }
        if !chooses {
            let epoch = best.losses.len();
            if !is_finite(&model) {
                return Err(Error::Diverged { epoch, loss: f64::NAN });
            }
            // An observer may have changed the model after the last epoch.
            if watched {
                self.task.check(&model)?;
                seen = view.map(|view| view(&model));
            }
            best.validation = self.validate(seen.as_ref().unwrap_or(&model), &pool)?;
            (best.best_epoch, best.model) = (epoch, model);
        }
        best.model.set_origin(self.task.origin());
        log::info!(
            "trained seed {} on {} for {} epochs: epoch {} is kept, validation {:.2}",
            best.model.seed(),
            self.task.name(),
            best.losses.len(),
            best.best_epoch,
            best.validation,
        );
        Ok(best)
    }

    fn validate(&self, model: &Model<F>, pool: &Cx<F>) -> Result<f64> {
        let mut tally = Tally::new();
        for batch in self.validation.epoch(0) {
            let batch = batch?;
            let cx = batch.on(pool);
            let y = model.infer(&cx, batch.features())?;
            self.task.judge(y.view(), &batch, &mut tally)?;
            cx.give(y);
        }
        Ok(self.task.metric().of(tally))
    }
}

/// What is alive when, worked out once for all passes of one kind.
#[derive(Default)]
struct Plans {
    trace: Option<(Vec<NodeId>, Liveness)>,
}

impl Plans {
    /// Of a trace that keeps these nodes.
    fn of_trace<F: Scalar>(
        &mut self,
        model: &Model<F>,
        mode: Mode,
        keeps: Vec<NodeId>,
    ) -> Liveness {
        match &self.trace {
            Some((known, liveness)) if *known == keeps => liveness.clone(),
            _ => {
                let liveness = Liveness::of_trace(model, mode, &keeps);
                self.trace = Some((keeps, liveness.clone()));
                liveness
            }
        }
    }
}

fn is_finite<F: Scalar>(model: &Model<F>) -> bool {
    let mut finite = true;
    model.visit(&mut |_, param| finite &= param.value().iter().all(|w| w.is_finite()));
    finite
}
