//! Distillation as a stage: into the model itself, or into a fresh student.

use crate::data::Dataset;
use crate::distill::{Distiller, SoftLabels};
use crate::error::{Error, Result};
use crate::models::{Gcn, Mlp};
use crate::nn::Model;
use crate::pipeline::step::{Control, Env, Step, Subject};
use std::fmt;

/// Who learns from the dense model.
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

/// Trains a student on the softened logits of the dense model, on all nodes.
#[derive(Debug, Clone, Copy)]
pub struct Distill {
    student: Student,
}

/// Temperature of the softened logits.
const TEMPERATURE: f64 = 1.0;
/// Most epochs of a student that starts from scratch.
const FRESH_EPOCHS: usize = 500;
/// Most epochs of a model that heals.
const HEALING_EPOCHS: usize = 100;

impl Distill {
    /// Distils into `student`.
    pub fn into(student: Student) -> Self {
        Self { student }
    }

    /// Who learns where `model` stands, and how.
    fn lesson(&self, model: Model, data: &Dataset, env: &Env) -> Result<(Model, Distiller)> {
        let builder = Distiller::builder(SoftLabels::new(TEMPERATURE)?).dropout_seed(env.seed);
        let (inputs, classes, seed) = (data.num_features(), data.num_classes(), model.seed());
        let (student, builder) = match self.student {
            Student::Itself => (model, builder.epochs(HEALING_EPOCHS).keep_start()),
            Student::Gcn { hidden } => (
                Gcn::builder(inputs, classes).hidden(hidden).build(seed)?,
                builder.epochs(FRESH_EPOCHS),
            ),
            Student::Mlp { hidden } => (
                Mlp::builder(inputs, classes).hidden(hidden).build(seed)?,
                builder.epochs(FRESH_EPOCHS),
            ),
        };
        Ok((student, builder.build()?))
    }
}

impl Step for Distill {
    fn name(&self) -> String {
        format!("distill {}", self.student)
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let data = env.data.with_graph(subject.graph.clone())?;
        let (student, distiller) = self.lesson(subject.model, &data, env)?;
        let model = distiller.distill_with(student, env.dense, &data, env.on_epoch)?;
        Ok(Subject { model, ..subject })
    }

    fn rehearse(&self, subject: &Subject, env: &Env) -> Result<Option<Subject>> {
        let data = env.data.with_graph(subject.graph.clone())?;
        let (model, distiller) = self.lesson(subject.model.clone(), &data, env)?;
        distiller.check(&model, env.dense, &data)?;
        Ok(Some(Subject { model, graph: subject.graph.clone() }))
    }

    fn starts_over(&self) -> bool {
        self.student != Student::Itself
    }

    fn control(&self) -> Control {
        Control::ChoosesNothing
    }
}
