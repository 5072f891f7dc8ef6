//! Training a student on what its teacher says.

use super::by_batch::{self, ByBatch};
use super::signals::{mismatch, predictions};
use super::{DistillLoss, Probe, Signals};
use crate::error::{Error, Result};
use crate::nn::{Cx, Grads, Memory, Model};
use crate::scalar::Scalar;
use crate::task::{Batch, Task, cross_entropy};
use crate::train::{
    Epoch, Loss, Objective, OnEpoch, Pass, Schedule, Setup, Trainer, TrainerBuilder,
};
use ndarray::Array2;
use std::sync::Arc;

/// On which nodes the student imitates its teacher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Nodes {
    /// The training nodes.
    Labelled,
    /// All nodes; of those that do not train only features, edges and the teacher's outputs are
    /// used.
    #[default]
    All,
}

/// Builder of a [`Distiller`]; see [`Distiller::builder`].
#[derive(Clone)]
pub struct DistillerBuilder<F: Scalar = f32> {
    losses: Vec<(f64, Arc<dyn DistillLoss<F>>)>,
    labels: f64,
    nodes: Nodes,
    trainer: TrainerBuilder,
}

impl<F: Scalar> std::fmt::Debug for DistillerBuilder<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DistillerBuilder")
            .field("losses", &names(&self.losses))
            .field("labels", &self.labels)
            .field("nodes", &self.nodes)
            .field("trainer", &self.trainer)
            .finish()
    }
}

/// The losses by name, each with its weight.
fn names<F: Scalar>(losses: &[(f64, Arc<dyn DistillLoss<F>>)]) -> Vec<(f64, &'static str)> {
    losses.iter().map(|(weight, loss)| (*weight, loss.name())).collect()
}

impl<F: Scalar> DistillerBuilder<F> {
    /// Starts a distiller of any scalar; see [`Distiller::builder`].
    pub fn new(loss: impl DistillLoss<F> + 'static) -> Self {
        Self {
            losses: vec![(1.0, Arc::new(loss))],
            labels: 0.0,
            nodes: Nodes::All,
            trainer: Trainer::builder().weight_decay(0.0),
        }
    }

    /// Adds `weight` times another loss; the first has weight 1. Legal is any weight of 0 or more.
    #[must_use]
    pub fn also(mut self, weight: f64, loss: impl DistillLoss<F> + 'static) -> Self {
        self.losses.push((weight, Arc::new(loss)));
        self
    }

    /// Weight `λ` of the loss of the task, in [0, 1), for nodes the cross-entropy of those that
    /// train; the losses get `1 − λ`. Default 0.
    #[must_use]
    pub fn labels(mut self, weight: f64) -> Self {
        self.labels = weight;
        self
    }

    /// On which nodes the student imitates its teacher, where nodes are asked about. Default
    /// [`Nodes::All`].
    #[must_use]
    pub fn nodes(mut self, nodes: Nodes) -> Self {
        self.nodes = nodes;
        self
    }

    /// How the student is trained, all of it: what was set before is forgotten. Rankings want what
    /// trained the teacher, [`Trainer::going_on`].
    #[must_use]
    pub fn trainer(mut self, trainer: TrainerBuilder) -> Self {
        self.trainer = trainer;
        self
    }

    /// Most epochs, at least 1. Default 200.
    #[must_use]
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.trainer = self.trainer.epochs(epochs);
        self
    }

    /// Stops after this many epochs without a better validation metric, at least 1. Default 100.
    #[must_use]
    pub fn patience(mut self, patience: usize) -> Self {
        self.trainer = self.trainer.patience(patience);
        self
    }

    /// Step size of Adam, positive. Default 0.01.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.trainer = self.trainer.learning_rate(learning_rate);
        self
    }

    /// L2 penalty on all parameters of the student, at least 0. Default 0: the teacher's soft
    /// labels on all nodes leave little to overfit.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.trainer = self.trainer.weight_decay(weight_decay);
        self
    }

    /// Course of the learning rate. Default [`Schedule::Constant`].
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.trainer = self.trainer.schedule(schedule);
        self
    }

    /// Whether the student as it comes is a candidate too: what healing a pruned model wants.
    /// Default: no, only trained states count.
    #[must_use]
    pub fn keep_start(mut self, keep: bool) -> Self {
        self.trainer = self.trainer.keep_start(keep);
        self
    }

    /// Seed of the student's dropout masks. Default: the student's own.
    #[must_use]
    pub fn dropout_seed(mut self, seed: u64) -> Self {
        self.trainer = self.trainer.dropout_seed(seed);
        self
    }

    /// How the student's maps are kept until backward. Default [`Memory::Whole`].
    #[must_use]
    pub fn memory(mut self, memory: Memory) -> Self {
        self.trainer = self.trainer.memory(memory);
        self
    }

    /// Calls `progress` after each epoch. Default: no callback.
    #[must_use]
    pub fn on_epoch(mut self, progress: impl Fn(Epoch) + Send + Sync + 'static) -> Self {
        self.trainer = self.trainer.on_epoch(progress);
        self
    }

    /// Builds the distiller.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(self) -> Result<Distiller<F>> {
        if !(0.0..1.0).contains(&self.labels) {
            return Err(Error::setting("weight of the labels", self.labels, "in [0, 1)"));
        }
        if let Some((weight, loss)) =
            self.losses.iter().find(|(weight, _)| !(*weight >= 0.0 && weight.is_finite()))
        {
            return Err(Error::setting(format!("weight of {}", loss.name()), weight, "0 or more"));
        }
        Ok(Distiller {
            losses: self.losses,
            labels: self.labels,
            nodes: self.nodes,
            trainer: self.trainer.build()?,
        })
    }
}

/// Trains a student on `λ·L + (1 − λ)·Σ_k w_k·loss_k`: the loss of the task and the outputs of a
/// teacher.
///
/// Of nodes, the teacher runs once, in evaluation mode; where pairs or graphs are asked about, on
/// each training batch, and what is compared are the scores of each query's candidates, or the
/// classes of each graph. The student is a fresh model of any kind, or one that
/// is to be healed, such as a pruned copy of the teacher. Its training is a [`Trainer`]'s: split
/// and randomness follow its own seed, and the best epoch is chosen on the validation nodes.
///
/// *Source*: Hinton et al. 2015 for the sum; Zhang et al., "Graph-less Neural Networks", ICLR 2022,
/// eq. 1, for all nodes and students without a graph, with `λ = 0` as there.
///
/// ```
/// use gnn_prune::{Dataset, Distiller, Gcn, Mlp, SoftLabels, Trainer, nn::Cx};
/// let data = Dataset::digits()?;
/// let teacher = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let teacher = Trainer::builder().epochs(10).build()?.fit(teacher, &data)?;
///
/// let student = Mlp::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let student = Distiller::builder(SoftLabels::default()).epochs(10).build()?.distill(student, &teacher, &data)?;
/// let logits = student.infer(&Cx::without_graph(), data.features())?;
/// assert_eq!(logits.dim(), (data.num_nodes(), data.num_classes()));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Clone)]
pub struct Distiller<F: Scalar = f32> {
    losses: Vec<(f64, Arc<dyn DistillLoss<F>>)>,
    labels: f64,
    nodes: Nodes,
    trainer: Trainer,
}

impl<F: Scalar> std::fmt::Debug for Distiller<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Distiller")
            .field("losses", &names(&self.losses))
            .field("labels", &self.labels)
            .field("nodes", &self.nodes)
            .field("trainer", &self.trainer)
            .finish()
    }
}

impl Distiller<f32> {
    /// Starts from one loss on all nodes, no labels, and the protocol of the [`Trainer`] without
    /// its weight decay.
    pub fn builder(loss: impl DistillLoss<f32> + 'static) -> DistillerBuilder<f32> {
        DistillerBuilder::new(loss)
    }
}

impl<F: Scalar> Distiller<F> {
    /// Trains `student` to do as `teacher` does on `task`, and returns the best of its epochs.
    ///
    /// # Errors
    /// - [`Error::StudentAndTeacher`] where student and teacher differ in features or classes, or
    ///   in the split that their seeds give: a teacher that has seen labels of the student's
    ///   validation or test nodes would pass them on.
    /// - [`Error::Data`] where nodes may have several labels or train by samples, and where data
    ///   have other features or classes than the teacher, or are not those that it was trained on;
    ///   where pairs or graphs are asked about, for a loss that reads more than rows of scores
    ///   ([`DistillLoss::reads_rows_alone`]); for one that reads rankings
    ///   ([`DistillLoss::reads_rankings`]) where the task has none, or fewer candidates.
    /// - [`Error::NotFinite`] for an output of the teacher, [`Error::Diverged`] for a loss of the
    ///   student, and what a loss refuses.
    pub fn distill(
        &self,
        student: Model<F>,
        teacher: &Model<F>,
        task: &dyn Task<F>,
    ) -> Result<Model<F>> {
        self.distill_with(student, teacher, task, &|_| Ok(()))
    }

    /// Refuses what [`Distiller::distill`] refuses before its first epoch; the teacher need not be
    /// trained yet.
    ///
    /// # Errors
    /// [`Error::StudentAndTeacher`] and [`Error::Data`] as [`Distiller::distill`].
    pub fn check(&self, student: &Model<F>, teacher: &Model<F>, task: &dyn Task<F>) -> Result<()> {
        self.check_on(student, teacher, task, &task.whole()?)
    }

    fn check_on(
        &self,
        student: &Model<F>,
        teacher: &Model<F>,
        task: &dyn Task<F>,
        whole: &Batch<F>,
    ) -> Result<()> {
        match whole.asks_about_nodes() {
            true => {
                let ranks = |loss: &dyn DistillLoss<F>| {
                    loss.reads_rankings().is_some() || loss.reads_embeddings()
                };
                if let Some((_, loss)) = self.losses.iter().find(|(_, loss)| ranks(&**loss)) {
                    let problem = "asks about nodes, and the loss compares rankings";
                    let problem = format!("{problem}: `{}` is of items or entities", loss.name());
                    return Err(Error::data(task.name(), problem));
                }
                check_pair(student, teacher, task)
            }
            false => by_batch::check(student, teacher, &self.losses, task, whole),
        }
    }

    /// The losses as they start for one student, each with its weight.
    fn started(&self, seed: u64) -> Vec<(F, Box<dyn DistillLoss<F>>)> {
        let share = 1.0 - self.labels;
        let start = |(weight, loss): &(f64, Arc<dyn DistillLoss<F>>)| {
            (F::of(weight * share), loss.start(seed))
        };
        self.losses.iter().map(start).collect()
    }

    /// As [`Distiller::distill`], and `told` is called after each epoch.
    ///
    /// # Errors
    /// As [`Distiller::distill`], and what `told` returns.
    pub fn distill_with(
        &self,
        student: Model<F>,
        teacher: &Model<F>,
        task: &dyn Task<F>,
        told: OnEpoch,
    ) -> Result<Model<F>> {
        let whole = task.whole()?;
        self.check_on(&student, teacher, task, &whole)?;
        if !whole.asks_about_nodes() {
            let (labels, losses) = (F::of(self.labels), self.started(student.seed()));
            let mut lesson = ByBatch::new(labels, losses, &student, teacher, task)?;
            let setup = Setup::new().loss(&mut lesson).on_epoch(told);
            return self.trainer.fit_with(student, task, setup).map(|fit| fit.model);
        }
        let logits = teacher.infer(&whole.on(&Cx::without_graph()), whole.features())?;
        if let Some((at, value)) = logits.indexed_iter().find(|(_, value)| !value.is_finite()) {
            let at = format!("the teacher's output for node {}, class {}", at.0, at.1);
            return Err(Error::NotFinite { at, value: value.as_f64() });
        }
        let train = task.data().split(student.seed()).train;
        let classes = one_class(task)?;
        let labelled: Vec<(u32, u32)> =
            train.iter().map(|&node| (node, classes[node as usize])).collect();
        let rows = match self.nodes {
            Nodes::Labelled => train.clone(),
            Nodes::All => (0..task.data().num_nodes() as u32).collect(),
        };
        let mut classes = predictions(&logits);
        labelled.iter().for_each(|&(node, class)| classes[node as usize] = class);
        let mut lesson = Lesson {
            losses: self.started(student.seed()),
            labels: F::of(self.labels),
            teacher: Probe::new(teacher, task, &rows, &classes)?,
            logits,
            task,
            train,
            labelled,
            rows: &rows,
            classes: &classes,
        };
        let setup = Setup::new().loss(&mut lesson).on_epoch(told);
        self.trainer.fit_with(student, task, setup).map(|fit| fit.model)
    }
}

/// What one student learns from one teacher.
struct Lesson<'a, F: Scalar> {
    losses: Vec<(F, Box<dyn DistillLoss<F>>)>,
    labels: F,
    teacher: Probe<'a, F>,
    logits: Array2<F>,
    task: &'a dyn Task<F>,
    train: Vec<u32>,
    labelled: Vec<(u32, u32)>,
    rows: &'a [u32],
    /// The labels of the training nodes, and what the teacher predicts for the others.
    classes: &'a [u32],
}

impl<F: Scalar> Loss<F> for Lesson<'_, F> {
    fn loss(&mut self, pass: &Pass<F>) -> Result<Objective<F>> {
        let Pass { model, trace, batch, epoch, .. } = *pass;
        if batch.spaces().node_ids().is_some() || trace.output().nrows() != self.logits.nrows() {
            let problem = "trains on parts of its nodes, and distillation is built for all at once";
            return Err(Error::data(self.task.name(), problem));
        }
        let mut objective = Objective { value: F::zero(), nodes: Vec::new(), params: None };
        if self.labels != F::zero() {
            let (value, gradient) = cross_entropy(trace.output(), self.classes, &self.train);
            objective.value += self.labels * value;
            objective.nodes.push((model.output(), gradient * self.labels));
        }
        let student = Signals::new(model.output(), trace.output(), &self.labelled)?;
        let teacher =
            Signals::new(self.teacher.model().output(), self.logits.view(), &self.labelled)?;
        let probe = Probe::new(model, self.task, self.rows, self.classes)?;
        for (weight, loss) in &mut self.losses {
            loss.observe(&student, &teacher, self.rows, epoch)?;
            let (value, nodes) = loss.loss(&student, &teacher, self.rows)?;
            objective.value += *weight * value;
            objective
                .nodes
                .extend(nodes.into_iter().map(|(node, gradient)| (node, gradient * *weight)));
            if let Some((value, grads)) = loss.direct(&probe, &self.teacher, self.rows)? {
                objective.value += *weight * value;
                objective.params.get_or_insert_with(|| Grads::new(0)).add_scaled(&grads, *weight);
            }
        }
        Ok(objective)
    }
}

/// The class of each node.
///
/// # Errors
/// [`Error::Data`] where nodes may have several labels.
fn one_class<F: Scalar>(task: &dyn Task<F>) -> Result<&[u32]> {
    let problem = "has nodes of several labels, and distillation is built for one class per node";
    task.data().classes().ok_or_else(|| Error::data(task.name(), problem))
}

/// Refuses a student, a teacher and data that do not belong together.
fn check_pair<F: Scalar>(student: &Model<F>, teacher: &Model<F>, task: &dyn Task<F>) -> Result<()> {
    one_class(task)?;
    let data = task.data();
    let counts = [
        ("features", student.in_channels(), teacher.in_channels(), data.num_features()),
        ("classes", student.out_channels(), teacher.out_channels(), data.num_classes()),
    ];
    for (what, student, teacher, _) in counts {
        if student != teacher {
            return Err(mismatch(&format!("{student} {what}"), &teacher.to_string()));
        }
    }
    for (what, _, teacher, own) in counts {
        if own != teacher {
            return Err(Error::data(
                data.name(),
                format!(
                    "has {own} {what}, and the teacher {teacher}; take the data that it was trained on"
                ),
            ));
        }
    }
    if let Some(origin) = teacher.origin() {
        let (nodes, features) = (data.num_nodes(), data.feature_norm().to_string());
        if (origin.nodes, &origin.features) != (nodes, &features) {
            let (of, origin_nodes, origin_features) =
                (&origin.data, origin.nodes, &origin.features);
            let problem = format!(
                "has {nodes} nodes with features {features}, and the teacher was trained on {origin_nodes} nodes with features \
                 {origin_features} (`{of}`); take those, or clear its origin"
            );
            return Err(Error::data(data.name(), problem));
        }
    }
    if student.seed() != teacher.seed() && data.split(student.seed()) != data.split(teacher.seed())
    {
        let seed = |model: &Model<F>| format!("seed {}", model.seed());
        return Err(mismatch(
            &format!("{} and its split", seed(student)),
            &format!(
                "{} and another; build both with one, or let the student be `following` it",
                seed(teacher)
            ),
        ));
    }
    Ok(())
}
