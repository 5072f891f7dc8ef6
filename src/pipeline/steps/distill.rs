//! Distillation as a stage: into the model itself, or into a fresh student.

use crate::distill::{DistillLoss, Distiller, SoftLabels};
use crate::error::{Error, Result};
use crate::models::{Gcn, Mlp};
use crate::nn::Model;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::pipeline::words::{Key, Kind, Settings, Word};
use crate::task::Task;
use crate::train::TrainerBuilder;
use std::fmt;
use std::sync::Arc;

/// Which model is the student.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Student {
    /// The current model goes on, healed by its teacher.
    Itself,
    /// A fresh graph convolutional network of two layers.
    Gcn {
        /// Width of its hidden layer.
        hidden: usize,
    },
    /// A fresh perceptron of two layers, which needs no graph at inference.
    Mlp {
        /// Width of its hidden layer.
        hidden: usize,
    },
}

impl std::str::FromStr for Student {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let illegal = || {
            Error::setting("`distill`", format!("`{text}`"), "`self`, `gcn:WIDTH` or `mlp:WIDTH`")
        };
        if text == "self" {
            return Ok(Student::Itself);
        }
        let (kind, width) = text.split_once(':').ok_or_else(illegal)?;
        match (kind, width.parse().ok().filter(|width| *width > 0)) {
            ("gcn", Some(hidden)) => Ok(Student::Gcn { hidden }),
            ("mlp", Some(hidden)) => Ok(Student::Mlp { hidden }),
            _ => Err(illegal()),
        }
    }
}

impl fmt::Display for Student {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Student::Itself => f.write_str("self"),
            Student::Gcn { hidden } => write!(f, "gcn:{hidden}"),
            Student::Mlp { hidden } => write!(f, "mlp:{hidden}"),
        }
    }
}

/// Trains a student on what the dense model says of all nodes: by its softened logits, or by a
/// loss of one's choice, alone or beside them.
///
/// ```
/// use gnn_prune::pipeline::{Distill, Student};
/// use gnn_prune::{Adversarial, Step};
/// let heal = Distill::into(Student::Itself);
/// let student = Distill::into(Student::Gcn { hidden: 16 })
///     .beside_soft_labels(0.1, Adversarial::<f32>::builder().build()?)
///     .epochs(100);
/// assert_eq!((heal.name(), student.name()), ("distill self".into(), "distill gcn:16".into()));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Clone)]
pub struct Distill {
    student: Student,
    /// Each with its weight, the first with 1.
    losses: Vec<(f64, Arc<dyn DistillLoss<f32>>)>,
    epochs: Option<usize>,
}

/// Most epochs of a student that starts from scratch.
const FRESH_EPOCHS: usize = 500;
/// Most epochs of a model that heals.
const HEALING_EPOCHS: usize = 100;

impl Distill {
    /// Distils into `student` by soft labels of temperature 1, for at most 500 epochs, or 100 where
    /// the student is the model itself.
    pub fn into(student: Student) -> Self {
        Self { student, losses: vec![(1.0, Arc::new(SoftLabels::default()))], epochs: None }
    }

    /// By this loss alone. Default: [`SoftLabels`] of temperature 1.
    #[must_use]
    pub fn loss(self, loss: impl DistillLoss<f32> + 'static) -> Self {
        Self { losses: vec![(1.0, Arc::new(loss))], ..self }
    }

    /// By soft labels of temperature 1 and `weight` times this loss; a weight is 0 or more.
    #[must_use]
    pub fn beside_soft_labels(self, weight: f64, loss: impl DistillLoss<f32> + 'static) -> Self {
        let losses: Vec<(f64, Arc<dyn DistillLoss<f32>>)> =
            vec![(1.0, Arc::new(SoftLabels::default())), (weight, Arc::new(loss))];
        Self { losses, ..self }
    }

    /// Most epochs, at least 1. Default: 500, of the model itself 100.
    #[must_use]
    pub fn epochs(self, epochs: usize) -> Self {
        Self { epochs: Some(epochs), ..self }
    }

    /// The student where `model` stands, and how it is trained.
    fn lesson(&self, model: Model, task: &dyn Task<f32>, env: &Env) -> Result<(Model, Distiller)> {
        let mut losses = self.losses.iter();
        let (_, first) = losses.next().expect("there is a first loss");
        let builder = losses.fold(Distiller::builder(first.clone()), |builder, (weight, loss)| {
            builder.also(*weight, loss.clone())
        });
        if !env.task().whole()?.asks_about_nodes() {
            let builder = builder.trainer(self.trainer_of_batches(task, env)?);
            return Ok((model, builder.build()?));
        }
        let builder = builder.dropout_seed(env.seed());
        let (inputs, classes, seed) = (task.inputs(), task.outputs(), model.seed());
        let epochs = |most: usize| self.epochs.unwrap_or(most);
        let (student, builder) = match self.student {
            Student::Itself => (model, builder.epochs(epochs(HEALING_EPOCHS)).keep_start(true)),
            Student::Gcn { hidden } => (
                Gcn::builder(inputs, classes).hidden(hidden).build(seed)?,
                builder.epochs(epochs(FRESH_EPOCHS)),
            ),
            Student::Mlp { hidden } => (
                Mlp::builder(inputs, classes).hidden(hidden).build(seed)?,
                builder.epochs(epochs(FRESH_EPOCHS)),
            ),
        };
        Ok((student, builder.build()?))
    }
}

impl Distill {
    /// Pairs and graphs are learnt as the dense model learnt them, by the model itself.
    fn trainer_of_batches(&self, task: &dyn Task<f32>, env: &Env) -> Result<TrainerBuilder> {
        if !matches!(self.student, Student::Itself) {
            let problem = format!(
                "asks about pairs or graphs, and {} is a network of nodes; the student is `self`",
                self.student
            );
            return Err(Error::data(task.name(), problem));
        }
        let epochs = self.epochs.unwrap_or(HEALING_EPOCHS);
        Ok(env.going_on(epochs).dropout_seed(env.seed()))
    }
}

impl fmt::Debug for Distill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.settings())
    }
}

impl Step for Distill {
    fn name(&self) -> String {
        format!("distill {}", self.student)
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let task = env.task_of(&subject)?;
        let (student, distiller) = self.lesson(subject.model().clone(), &*task, env)?;
        let model = distiller.distill_with(student, env.dense(), &*task, env.listener())?;
        Ok(subject.with_model(model))
    }

    fn rehearse(&self, subject: &Subject, env: &Env) -> Result<Option<Subject>> {
        let task = env.task_of(subject)?;
        let (model, distiller) = self.lesson(subject.model().clone(), &*task, env)?;
        distiller.check(&model, env.dense(), &*task)?;
        Ok(Some(subject.with_model(model)))
    }

    fn settings(&self) -> String {
        let losses: Vec<String> = self
            .losses
            .iter()
            .map(|(weight, loss)| format!("{weight}·{}", loss.settings()))
            .collect();
        format!("{} by {}, epochs {:?}", self.name(), losses.join(" + "), self.epochs)
    }

    fn starts_over(&self) -> bool {
        self.student != Student::Itself
    }

    fn control(&self) -> Control {
        Control::ChoosesNothing
    }
}

impl Word for Distill {
    type Made = Box<dyn Step>;
    const WORD: &'static str = "distill";
    const HELP: &'static str =
        "Distil from the dense model: `self`, or a fresh gcn:WIDTH or mlp:WIDTH";
    const AMOUNT: Option<Key> = Some(
        Key::text("distill", |text| Ok(text.parse::<Student>()?.to_string()), "The student")
            .value_name("STUDENT"),
    );
    const KEYS: &'static [Key] = &[
        Key::word("loss", Kind::Loss, "Loss").default("soft-labels").unwritten(),
        Key::number(
            "loss-weight",
            "0 or more",
            |weight| weight >= 0.0,
            "Weight of that loss beside soft labels",
        )
        .value_name("W")
        .default_words("it stands alone")
        .unwritten(),
        Key::count(
            "epochs",
            1,
            "a whole number of epochs, at least 1",
            "Most epochs of `--distill`",
        )
        .flag("distill-epochs")
        .default_words("500, of `self` 100")
        .unwritten(),
    ];

    fn parse(settings: &Settings) -> Result<Self::Made> {
        let student = Distill::into(settings.amount()?);
        let loss: Box<dyn DistillLoss<f32>> = settings.made("loss")?;
        let distill = match settings.get("loss-weight")? {
            Some(weight) => student.beside_soft_labels(weight, loss),
            None => student.loss(loss),
        };
        Ok(Box::new(match settings.get("epochs")? {
            Some(epochs) => distill.epochs(epochs),
            None => distill,
        }))
    }
}
