//! Distillation as a stage: into the model itself, or into a fresh student.

use crate::distill::{DistanceExperts, DistillLoss, Distiller, SoftLabels};
use crate::error::{Error, Result};
use crate::models::{Gcn, LightGcn, Mlp};
use crate::nn::{Form, Model};
use crate::pipeline::step::{Control, Env, FRESH_EPOCHS, Step, Subject};
use crate::pipeline::words::{Key, Kind, Settings, Word};
use crate::prune::ChannelPlan;
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
    /// A fresh model of the dense model's own form, narrower: the first `channels` channels of
    /// every group of coupled ones ([`ChannelPlan::prefix`]), drawn anew.
    Narrow {
        /// Width of its widest groups.
        channels: usize,
    },
    /// A fresh table with a row for each node, scored by dot products, which needs no graph at
    /// inference; cosines, where the dense model has those.
    Table {
        /// Numbers of a row.
        channels: usize,
    },
}

impl Student {
    /// Whether it is a network of nodes, which knows no pairs and no graphs.
    fn is_of_nodes(self) -> bool {
        matches!(self, Student::Gcn { .. } | Student::Mlp { .. })
    }
}

impl std::str::FromStr for Student {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let illegal = || {
            let legal = "`self`, `narrow:WIDTH`, `table:WIDTH`, `gcn:WIDTH` or `mlp:WIDTH`";
            Error::setting("`distill`", format!("`{text}`"), legal)
        };
        if text == "self" {
            return Ok(Student::Itself);
        }
        let (kind, width) = text.split_once(':').ok_or_else(illegal)?;
        match (kind, width.parse().ok().filter(|width| *width > 0)) {
            ("gcn", Some(hidden)) => Ok(Student::Gcn { hidden }),
            ("mlp", Some(hidden)) => Ok(Student::Mlp { hidden }),
            ("narrow", Some(channels)) => Ok(Student::Narrow { channels }),
            ("table", Some(channels)) => Ok(Student::Table { channels }),
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
            Student::Narrow { channels } => write!(f, "narrow:{channels}"),
            Student::Table { channels } => write!(f, "table:{channels}"),
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
    labels: f64,
    epochs: Option<usize>,
}

/// Most epochs of a model that heals.
const HEALING_EPOCHS: usize = 100;

impl Distill {
    /// Distils into `student` by soft labels of temperature 1, for at most 500 epochs, or 100 where
    /// the student is the model itself; see [`Distill::epochs`].
    pub fn into(student: Student) -> Self {
        let losses: Vec<(f64, Arc<dyn DistillLoss<f32>>)> =
            vec![(1.0, Arc::new(SoftLabels::default()))];
        Self { student, losses, labels: 0.0, epochs: None }
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

    /// Beside the losses that are there, `weight` times this one; a weight is 0 or more.
    #[must_use]
    pub fn also(mut self, weight: f64, loss: impl DistillLoss<f32> + 'static) -> Self {
        self.losses.push((weight, Arc::new(loss)));
        self
    }

    /// Weight of the task's own loss, in [0, 1); the losses of distilling get the rest. Default 0.
    #[must_use]
    pub fn labels(self, weight: f64) -> Self {
        Self { labels: weight, ..self }
    }

    /// Most epochs, at least 1. Default: 500, of the model itself 100; of a fresh model of pairs or
    /// graphs as many as trained the dense model.
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
        let builder = builder.labels(self.labels);
        if !env.task().whole()?.asks_about_nodes() {
            let builder = builder.trainer(self.trainer_of_batches(task, env)?);
            return Ok((self.student_of_batches(model, task)?, builder.build()?));
        }
        let builder = builder.dropout_seed(env.seed()).memory(env.memory());
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
            Student::Narrow { channels } => {
                (narrowed(&model, channels)?, builder.epochs(epochs(FRESH_EPOCHS)))
            }
            Student::Table { .. } => {
                let problem = "asks about nodes, and a table scores pairs";
                return Err(Error::data(task.name(), problem));
            }
        };
        Ok((student, builder.build()?))
    }
}

impl Distill {
    /// Pairs and graphs are learnt as the dense model learnt them.
    fn trainer_of_batches(&self, task: &dyn Task<f32>, env: &Env) -> Result<TrainerBuilder> {
        if self.student.is_of_nodes() {
            let problem = format!(
                "asks about pairs or graphs, and {} is a network of nodes; the student is `self` or \
                 `narrow:WIDTH`",
                self.student
            );
            return Err(Error::data(task.name(), problem));
        }
        let builder = match self.student {
            Student::Itself => env.going_on(self.epochs.unwrap_or(HEALING_EPOCHS)),
            _ => env.anew(self.epochs),
        };
        Ok(builder.dropout_seed(env.seed()))
    }

    fn student_of_batches(&self, model: Model, task: &dyn Task<f32>) -> Result<Model> {
        match self.student {
            Student::Narrow { channels } => narrowed(&model, channels),
            Student::Table { channels } => table_for(&model, channels, task),
            _ => Ok(model),
        }
    }
}

/// The form of a model, narrower, drawn by its seed.
fn narrowed(model: &Model, channels: usize) -> Result<Model> {
    Ok(ChannelPlan::prefix(model, channels)?.shrink(model)?.fresh(model.seed()))
}

/// A table that is scored as the model scores what it encodes: by dot products, of rows of length 1
/// where it has those.
fn table_for(model: &Model, channels: usize, task: &dyn Task<f32>) -> Result<Model> {
    let refused = |why: &str| {
        let problem =
            format!("{why}, and a table is scored by dot products; let it be `narrow:WIDTH`");
        Error::data(task.name(), problem)
    };
    if task.rankings().is_none() {
        return Err(refused("ranks nothing for its queries"));
    }
    let last = &model.nodes()[model.output().index() - 1];
    let is_dot = || last.layer().attrs().get("form").is_ok_and(|form: Form| form == Form::Dot);
    if last.layer().kind() != "decoder" || !is_dot() {
        return Err(refused("has a model whose scores are no dot products"));
    }
    let before = last.inputs()[0].index();
    let cosine = before > 0 && model.nodes()[before - 1].layer().kind() == "normalize";
    let nodes = task.data().num_nodes();
    let table = LightGcn::builder(nodes).layers(0).channels(channels).cosine(cosine);
    table.build(model.seed())
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
        let labels = match self.labels {
            0.0 => String::new(),
            share => format!(", {share} of the task's own loss"),
        };
        format!("{} by {}{labels}, epochs {:?}", self.name(), losses.join(" + "), self.epochs)
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
        "Distil into self, narrow:WIDTH, table:WIDTH, gcn:WIDTH or mlp:WIDTH";
    const AMOUNT: Option<Key> = Some(
        Key::text("distill", |text| Ok(text.parse::<Student>()?.to_string()), "The student")
            .value_name("STUDENT"),
    );
    const KEYS: &'static [Key] = &[
        // Help has no room for more words.
        Key::word("loss", Kind::Loss, "Loss [first]")
            .default("soft-labels")
            .default_words("")
            .unwritten(),
        Key::number(
            "loss-weight",
            "0 or more",
            |weight| weight >= 0.0,
            "Weight of that loss beside soft labels",
        )
        .value_name("W")
        .default_words("it stands alone")
        .unwritten(),
        Key::number(
            "own-loss",
            "in [0, 1)",
            |share| (0.0..1.0).contains(&share),
            "Share of the task's own loss beside what is distilled",
        )
        .value_name("SHARE")
        .default("0")
        .unwritten(),
        Key::number(
            "experts-weight",
            "0 or more",
            |weight| weight >= 0.0,
            "Weight of experts that map rows to the dense model's",
        )
        .value_name("W")
        .default_words("none")
        .unwritten(),
        Key::count("experts", 1, "a whole number from 1 on", "How many experts")
            .default_words("10")
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
        let distill = match (settings.get("experts-weight")?, settings.get("experts")?) {
            (Some(weight), count) => {
                distill.also(weight, DistanceExperts::new(count.unwrap_or(10))?)
            }
            (None, Some(count)) => {
                let found = format!("{count}, without `experts-weight`");
                return Err(Error::setting("`experts`", found, "beside their weight"));
            }
            (None, None) => distill,
        };
        let distill = distill.labels(settings.value("own-loss")?);
        Ok(Box::new(match settings.get("epochs")? {
            Some(epochs) => distill.epochs(epochs),
            None => distill,
        }))
    }
}
