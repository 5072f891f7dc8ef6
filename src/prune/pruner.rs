//! The channel pruner: criterion, amount and scope make a plan.

use super::criteria::{Criterion, Needs};
use super::group::GroupView;
use super::labels::ChannelLabels;
use super::plan::ChannelPlan;
use super::share_of;
use crate::data::Dataset;
use crate::error::{Error, PruneError, Result};
use crate::nn::{Cx, Grads, Model};
use crate::scalar::Scalar;
use crate::train::supervised;
use ndarray::Array1;
use std::sync::Arc;

/// Where units compete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// Within each coupled group: every group loses the same share.
    #[default]
    Layer,
    /// Across the model, by scores divided by their group's mean; groups lose different shares.
    Global,
}

/// What happens to the weights that read removed channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compensation {
    /// Their rows go, the others stay as they are.
    None,
    /// The others are refitted by least squares; see [`ChannelPlan::shrink_refitted`].
    #[default]
    Refit,
}

/// Builder of a [`ChannelPruner`]; see [`ChannelPruner::builder`].
#[derive(Clone)]
pub struct ChannelPrunerBuilder<F: Scalar> {
    criterion: Arc<dyn Criterion<F>>,
    ratio: f64,
    scope: Scope,
    round_to: usize,
    compensation: Compensation,
}

impl<F: Scalar> ChannelPrunerBuilder<F> {
    /// Share of the hidden channels to remove, in [0, 1]; of n units round-half-to-even(ratio·n) go. Default 0.5.
    #[must_use]
    pub fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = ratio;
        self
    }

    /// Where units compete. Default [`Scope::Layer`].
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// Keeps a multiple of this many units in each group, rounded up, at most all of them; at least 1. Default 1.
    #[must_use]
    pub fn round_to(mut self, multiple: usize) -> Self {
        self.round_to = multiple;
        self
    }

    /// What [`ChannelPruner::prune`] does to the weights that read removed channels. Default [`Compensation::Refit`].
    #[must_use]
    pub fn compensation(mut self, compensation: Compensation) -> Self {
        self.compensation = compensation;
        self
    }

    /// Builds the pruner.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(self) -> Result<ChannelPruner<F>> {
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err(Error::setting("channel ratio", self.ratio, "in [0, 1]"));
        }
        if self.round_to == 0 {
            return Err(Error::setting("round_to", 0, "at least 1"));
        }
        Ok(ChannelPruner { settings: self })
    }
}

/// Removes hidden channels by a criterion, coupled channels together.
#[derive(Clone)]
pub struct ChannelPruner<F: Scalar = f32> {
    settings: ChannelPrunerBuilder<F>,
}

impl<F: Scalar> ChannelPruner<F> {
    /// Starts a pruner that removes the units with the lowest scores of `criterion`.
    pub fn builder(criterion: impl Criterion<F> + 'static) -> ChannelPrunerBuilder<F> {
        ChannelPrunerBuilder {
            criterion: Arc::new(criterion),
            ratio: 0.5,
            scope: Scope::Layer,
            round_to: 1,
            compensation: Compensation::Refit,
        }
    }

    /// Share of the hidden channels that goes.
    pub fn ratio(&self) -> f64 {
        self.settings.ratio
    }

    /// The criterion's name.
    pub fn criterion(&self) -> &'static str {
        self.settings.criterion.name()
    }

    /// The same amounts by another criterion.
    #[must_use]
    pub fn with_criterion(&self, criterion: impl Criterion<F> + 'static) -> Self {
        Self { settings: ChannelPrunerBuilder { criterion: Arc::new(criterion), ..self.settings.clone() } }
    }

    /// Plans and applies in one go: the model without the removed channels, compensated as the builder says.
    ///
    /// # Errors
    /// As [`ChannelPruner::plan`] and [`ChannelPlan::shrink_refitted`].
    pub fn prune(&self, model: &Model<F>, data: &Dataset<F>) -> Result<Model<F>> {
        let plan = self.plan(model, data)?;
        match self.settings.compensation {
            Compensation::None => plan.shrink(model),
            Compensation::Refit => plan.shrink_refitted(model, data),
        }
    }

    /// Scores the units of `model` and decides which stay. Of equal scores the first unit goes first.
    ///
    /// # Errors
    /// [`PruneError::NothingToPrune`] for a model without hidden channels, [`PruneError::EmptiesLayer`] where a layer would lose all.
    pub fn plan(&self, model: &Model<F>, data: &Dataset<F>) -> Result<ChannelPlan> {
        let ChannelPrunerBuilder { criterion, ratio, scope, round_to, .. } = &self.settings;
        let labels = ChannelLabels::of(model);
        if labels.groups().is_empty() {
            return Err(PruneError::NothingToPrune { reason: "every channel is an input or a class".into() }.into());
        }
        let grads = match criterion.needs() {
            Needs::Weights => None,
            Needs::Gradients => Some(gradients(model, data)?),
        };
        let groups = labels.groups().iter().enumerate();
        let scores: Vec<Array1<F>> =
            groups.map(|(index, group)| criterion.score(&GroupView::of(model, &labels, group, index, grads.as_ref()))).collect();
        let removed = match scope {
            Scope::Layer => scores.iter().map(|scores| lowest(scores, share_of(*ratio, scores.len()))).collect(),
            Scope::Global => lowest_of_all(&scores, *ratio),
        };
        let mut keep = vec![true; labels.num_units()];
        for ((group, scores), mut removed) in labels.groups().iter().zip(&scores).zip(removed) {
            let kept = (scores.len() - removed.len()).next_multiple_of(*round_to).min(scores.len());
            removed.truncate(scores.len() - kept);
            removed.iter().for_each(|&k| keep[group.units[k]] = false);
        }
        Ok(ChannelPlan::new(criterion.name(), model, &labels, &keep)?)
    }
}

/// Positions of the `count` lowest scores, lowest first.
fn lowest<F: Scalar>(scores: &Array1<F>, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].as_f64().total_cmp(&scores[b].as_f64()));
    order.truncate(count);
    order
}

/// For each group the positions of its units among the lowest of all, lowest first.
fn lowest_of_all<F: Scalar>(scores: &[Array1<F>], ratio: f64) -> Vec<Vec<usize>> {
    let mut all: Vec<(f64, usize, usize)> = Vec::new();
    for (group, scores) in scores.iter().enumerate() {
        let mean = scores.sum().as_f64() / scores.len().max(1) as f64;
        let scale = if mean > 0.0 { mean.recip() } else { 1.0 };
        all.extend(scores.iter().enumerate().map(|(k, score)| (score.as_f64() * scale, group, k)));
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut removed = vec![Vec::new(); scores.len()];
    let count = share_of(ratio, all.len());
    all.into_iter().take(count).for_each(|(_, group, k)| removed[group].push(k));
    removed
}

/// Gradients of cross-entropy on the training nodes, in evaluation mode.
fn gradients<F: Scalar>(model: &Model<F>, data: &Dataset<F>) -> Result<Grads<F>> {
    let cx = Cx::eval(data.graph());
    let trace = model.trace(&cx, data.features())?;
    let (_, seed) = supervised(trace.output(), data, &data.split(model.seed()).train);
    model.backward(&cx, trace, &[(model.output(), seed)])
}
