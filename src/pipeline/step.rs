//! One stage of a compression.

use crate::data::Dataset;
use crate::error::Result;
use crate::graph::Graph;
use crate::nn::Model;
use crate::reconstruct::Calibrate;
use crate::train::OnEpoch;

/// What a step changes: a model and the graph that it runs on.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The model.
    pub model: Model,
    /// The graph.
    pub graph: Graph,
}

/// What a step may look at.
pub struct Env<'a> {
    /// The data, on its own full graph.
    pub data: &'a Dataset,
    /// The dense model that the compression started from.
    pub dense: &'a Model,
    /// Seed of this stage.
    pub seed: u64,
    /// Hears of every epoch of training, and may end it.
    pub on_epoch: OnEpoch<'a>,
}

impl std::fmt::Debug for Env<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let data = self.data.name();
        f.debug_struct("Env").field("data", &data).field("seed", &self.seed).finish_non_exhaustive()
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
///         subject.model.visit_mut(&mut |param| param.value_mut().mapv_inplace(|w| if w.abs() < self.0 { 0.0 } else { w }));
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
