//! Channels that go while the network trains, as soon as it is clear which.

use super::plan::ChannelPlan;
use super::pruner::ChannelPruner;
use crate::error::{Error, Result};
use crate::log;
use crate::nn::Model;
use crate::scalar::Scalar;
use crate::task::Task;
use crate::train::{Epoch, Flow, Observer};

/// Builder of an [`EarlyBird`]; see [`EarlyBird::builder`].
#[derive(Debug, Clone)]
pub struct EarlyBirdBuilder<F: Scalar = f32> {
    pruner: ChannelPruner<F>,
    within: f64,
    over: usize,
    latest: f64,
}

impl<F: Scalar> EarlyBirdBuilder<F> {
    /// The set has settled when two plans differ in less than this share of all channels
    /// ([`ChannelPlan::distance`]), in (0, 1]. Default 0.1: where few channels stay any two sets
    /// are that close, and the second plan is the one that is carried out.
    #[must_use]
    pub fn within(mut self, share: f64) -> Self {
        self.within = share;
        self
    }

    /// Over how many epochs: the pruner plans after every so many, and compares with its plan
    /// before; at least 1. Default 5.
    #[must_use]
    pub fn over(mut self, epochs: usize) -> Self {
        self.over = epochs;
        self
    }

    /// After which share of the epochs it prunes at the latest, settled or not, in (0, 1). Default
    /// 0.1.
    #[must_use]
    pub fn latest(mut self, share: f64) -> Self {
        self.latest = share;
        self
    }

    /// Builds what watches one training after another.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(self) -> Result<EarlyBird<F>> {
        if !(self.within > 0.0 && self.within <= 1.0) {
            return Err(Error::setting("distance of two plans", self.within, "in (0, 1]"));
        }
        if self.over == 0 {
            return Err(Error::setting("epochs between two plans", 0, "at least 1"));
        }
        if !(self.latest > 0.0 && self.latest < 1.0) {
            return Err(Error::setting("latest share of the epochs", self.latest, "in (0, 1)"));
        }
        Ok(EarlyBird { settings: self })
    }
}

impl<F: Scalar> std::fmt::Display for EarlyBird<F> {
    /// All that the outcome depends on, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let EarlyBirdBuilder { pruner, within, over, latest } = &self.settings;
        write!(f, "early bird: {pruner}; within {within} over {over} epochs, latest {latest}")
    }
}

/// Prunes channels early in a training: which will go is known long before the network is trained,
/// and what is trained from then on is small.
///
/// The set of channels that a [`ChannelPruner`] would keep is compared every few epochs; once it
/// changes little, the network is shrunk, what reads it is refitted, and its training goes on.
///
/// *Source*: You et al., "Drawing Early-Bird Tickets", ICLR 2020, algorithm 1 (distance of masks
/// under 0.1 over five epochs); You et al., "Early-Bird GCNs", AAAI 2022. Here a plan is made every
/// five epochs and not after each, since least squares costs as much as some epochs.
///
/// ```
/// use gnn_prune::{ChannelPruner, Dataset, EarlyBird, Gcn, Subset, Trainer};
/// use gnn_prune::train::Setup;
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(32).build(0)?;
/// let pruner = ChannelPruner::builder(Subset::new()).ratio(0.75).build()?;
/// let bird = EarlyBird::builder(pruner).latest(0.5).build()?;
/// let mut watch = bird.watch(&data);
/// let trainer = Trainer::builder().epochs(30).build()?;
/// let fit = trainer.fit_with(model, &data, Setup::new().observer(&mut watch))?;
/// assert!(fit.model.nodes().iter().any(|node| node.channels() == 8));
/// assert!(watch.pruned().is_some_and(|pruned| pruned.epoch <= 15));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct EarlyBird<F: Scalar = f32> {
    settings: EarlyBirdBuilder<F>,
}

impl<F: Scalar> EarlyBird<F> {
    /// Starts from a pruner with every default.
    pub fn builder(pruner: ChannelPruner<F>) -> EarlyBirdBuilder<F> {
        EarlyBirdBuilder { pruner, within: 0.1, over: 5, latest: 0.1 }
    }

    /// The pruner.
    pub fn pruner(&self) -> &ChannelPruner<F> {
        &self.settings.pruner
    }

    /// The last of so many epochs after which it prunes; one is left to train what was pruned.
    pub fn latest_of(&self, epochs: usize) -> usize {
        ((epochs as f64 * self.settings.latest) as usize).clamp(1, epochs.max(2) - 1)
    }

    /// The same with another pruner.
    #[must_use]
    pub fn with_pruner(&self, pruner: ChannelPruner<F>) -> Self {
        Self { settings: EarlyBirdBuilder { pruner, ..self.settings.clone() } }
    }

    /// An observer of one training on `task`.
    pub fn watch<'a>(&'a self, task: &'a dyn Task<F>) -> Watch<'a, F> {
        Watch { bird: self, task, last: None, pruned: None }
    }
}

/// When channels went.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Pruned {
    /// After this epoch.
    pub epoch: usize,
    /// How far the plan was from the one before; `None` where there was none yet.
    pub distance: Option<f64>,
    /// Whether the set had settled; else it was the latest epoch.
    pub settled: bool,
}

/// Watches one training for its [`EarlyBird`].
#[derive(Debug)]
pub struct Watch<'a, F: Scalar> {
    bird: &'a EarlyBird<F>,
    task: &'a dyn Task<F>,
    last: Option<ChannelPlan>,
    pruned: Option<Pruned>,
}

impl<F: Scalar> Watch<'_, F> {
    /// When the channels went; `None` where the training ended before.
    pub fn pruned(&self) -> Option<Pruned> {
        self.pruned
    }
}

impl<F: Scalar> Observer<F> for Watch<'_, F> {
    fn after_epoch(&mut self, at: &Epoch, model: &mut Model<F>) -> Result<Flow> {
        let EarlyBirdBuilder { pruner, within, over, .. } = &self.bird.settings;
        let most = self.bird.latest_of(at.epochs);
        let due = at.epoch == most || (at.epoch < most && at.epoch.is_multiple_of(*over));
        if self.pruned.is_some() || !due {
            return Ok(Flow::On);
        }
        let plan = pruner.plan(model, self.task)?;
        let distance = self.last.as_ref().map(|last| plan.distance(last));
        let settled = distance.is_some_and(|distance| distance < *within);
        if !settled && at.epoch < most {
            self.last = Some(plan);
            return Ok(Flow::On);
        }
        *model = pruner.apply(&plan, model, self.task)?;
        self.pruned = Some(Pruned { epoch: at.epoch, distance, settled });
        log::info!(
            "channels removed after epoch {} of {}: {}",
            at.epoch,
            at.epochs,
            match (settled, distance) {
                (true, Some(distance)) => format!("settled, at a distance of {distance:.3}"),
                (_, Some(distance)) =>
                    format!("not settled, at a distance of {distance:.3}, but the latest"),
                (_, None) => "nothing to compare with yet, but the latest".into(),
            }
        );
        Ok(Flow::Changed)
    }
}
