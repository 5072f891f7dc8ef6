//! The channel pruner: criterion, amount and scope make a plan.

use super::criteria::{Criterion, Magnitude, Needs, Removal};
use super::evidence::Evidence;
use super::group::GroupView;
use super::labels::{ChannelLabels, Group};
use super::plan::ChannelPlan;
use super::share_of;
use crate::data::{Dataset, check_part};
use crate::error::{Error, PruneError, Result};
use crate::log;
use crate::nn::{Cx, Grads, Model};
use crate::reconstruct::Calibrate;
use crate::rng::{hash, purpose};
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
    /// Across the model, groups losing different shares: by scores divided by their group's mean,
    /// or by the loss per multiply-accumulate saved for a criterion that knows losses.
    Global,
}

/// What happens to the weights that are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compensation {
    /// Their rows go, the others stay as they are.
    None,
    /// The others are solved again by least squares; see [`ChannelPlan::shrink_refitted`] and
    /// [`WeightPruner::prune`](super::WeightPruner::prune).
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
    calibrate: Calibrate,
    seed: Option<u64>,
}

impl<F: Scalar> ChannelPrunerBuilder<F> {
    /// Share of the hidden channels to remove, in [0, 1]; of n units round-half-to-even(ratio·n)
    /// go. Default 0.5.
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

    /// Keeps a multiple of this many units in each group, rounded up, at most all of them; at least
    /// 1. Default 1.
    #[must_use]
    pub fn round_to(mut self, multiple: usize) -> Self {
        self.round_to = multiple;
        self
    }

    /// What [`ChannelPruner::prune`] does to the weights that read removed channels. Default
    /// [`Compensation::Refit`].
    #[must_use]
    pub fn compensation(mut self, compensation: Compensation) -> Self {
        self.compensation = compensation;
        self
    }

    /// Which nodes criterion and refit look at. Default [`Calibrate::All`].
    #[must_use]
    pub fn calibrate(mut self, calibrate: Calibrate) -> Self {
        self.calibrate = calibrate;
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

impl<F: Scalar> std::fmt::Display for ChannelPruner<F> {
    /// All that the outcome depends on, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ChannelPrunerBuilder {
            criterion,
            ratio,
            scope,
            round_to,
            compensation,
            calibrate,
            seed,
        } = &self.settings;
        write!(
            f,
            "channels {ratio} by {}, scope {scope:?}, multiples of {round_to}, ",
            criterion.name()
        )?;
        write!(f, "compensation {compensation:?}, calibrated on {calibrate:?} nodes")?;
        seed.map_or(Ok(()), |seed| write!(f, ", drawn by seed {seed}"))
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
            calibrate: Calibrate::All,
            seed: None,
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

    /// Which nodes least squares looks at; `None` where neither the criterion nor a refit does.
    pub fn calibrates(&self) -> Option<Calibrate> {
        let looks = self.settings.compensation == Compensation::Refit
            || self.settings.criterion.needs() == Needs::Readers;
        looks.then_some(self.settings.calibrate)
    }

    /// The same amounts by another criterion.
    #[must_use]
    pub fn with_criterion(&self, criterion: impl Criterion<F> + 'static) -> Self {
        Self {
            settings: ChannelPrunerBuilder {
                criterion: Arc::new(criterion),
                ..self.settings.clone()
            },
        }
    }

    /// The same pruner with a seed for what its criterion draws. Default: the model's, or that of
    /// its stage in a [`Compression`](crate::Compression).
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { settings: ChannelPrunerBuilder { seed: Some(seed), ..self.settings.clone() } }
    }

    /// The same pruner, with this seed if it has none.
    pub(crate) fn or_seed(&self, seed: u64) -> Self {
        self.with_seed(self.settings.seed.unwrap_or(seed))
    }

    /// Plans and applies in one go: the model without the removed channels, compensated as the
    /// builder says.
    ///
    /// # Errors
    /// As [`ChannelPruner::plan`] and [`ChannelPlan::shrink_refitted`].
    pub fn prune(&self, model: &Model<F>, data: &Dataset<F>) -> Result<Model<F>> {
        let plan = self.plan(model, data)?;
        let pruned = match self.settings.compensation {
            Compensation::None => plan.shrink(model),
            Compensation::Refit => plan.shrink_refitted(model, data, self.settings.calibrate),
        }?;
        log::info!(
            "channels removed: {} parameters of {} are left",
            pruned.num_params(),
            model.num_params()
        );
        Ok(pruned)
    }

    /// A model of the shapes that [`ChannelPruner::prune`] gives, made before `model` is trained:
    /// how many channels stay is what it will be, which ones means nothing. In [`Scope::Global`]
    /// training decides how many each layer loses, and the shapes are one possibility.
    ///
    /// # Errors
    /// What any weights would be refused for: [`PruneError::NothingToPrune`] for a model without
    /// hidden channels, and [`PruneError::EmptiesLayer`] where a layer is bound to lose all.
    pub fn rehearse(&self, model: &Model<F>, data: &Dataset<F>) -> Result<Model<F>> {
        let labels = ChannelLabels::of(model);
        let units = labels.groups().iter().map(|group| group.units.len()).sum();
        let bound = match self.settings.scope {
            Scope::Layer => true,
            Scope::Global => units - share_of(self.settings.ratio, units) < labels.groups().len(),
        };
        match self
            .with_criterion(Magnitude::l2())
            .plan(model, data)
            .and_then(|plan| plan.shrink(model))
        {
            Err(error @ Error::Prune(PruneError::NothingToPrune { .. })) => Err(error),
            Err(error @ Error::Prune(PruneError::EmptiesLayer { .. })) if bound => Err(error),
            // Other weights may fare better.
            Err(_) => Ok(model.clone()),
            Ok(narrow) => Ok(narrow),
        }
    }

    /// Scores the units of `model` and decides which stay. Ties are broken by unit order.
    ///
    /// # Errors
    /// [`PruneError::NothingToPrune`] for a model without hidden channels,
    /// [`PruneError::EmptiesLayer`] where a layer would lose all.
    pub fn plan(&self, model: &Model<F>, data: &Dataset<F>) -> Result<ChannelPlan> {
        let ChannelPrunerBuilder { criterion, scope, calibrate, .. } = &self.settings;
        let labels = ChannelLabels::of(model);
        if labels.groups().is_empty() {
            return Err(PruneError::NothingToPrune {
                reason: "every channel is an input or a class".into(),
            }
            .into());
        }
        let grads = match criterion.needs() {
            Needs::Gradients => Some(gradients(model, data)?),
            _ => None,
        };
        let mut evidence = match criterion.needs() {
            Needs::Readers => Evidence::gather(model, data, &labels, *calibrate)?,
            _ => Evidence::default(),
        };
        let groups: Vec<&Group> = labels.groups().iter().collect();
        let seed = self.settings.seed.unwrap_or(model.seed());
        let view = |index: usize, evidence: &Evidence| GroupView {
            readers: evidence.readers(&groups[index].units),
            ..GroupView::of(
                model,
                &labels,
                groups[index],
                grads.as_ref(),
                hash(seed, &[purpose::RANDOM_CRITERION, index as u64]),
            )
        };
        let counts = match scope {
            Scope::Layer => groups
                .iter()
                .map(|group| share_of(self.settings.ratio, group.units.len()))
                .collect(),
            Scope::Global => self.across(
                &(0..groups.len()).map(|index| view(index, &evidence)).collect::<Vec<_>>(),
                model,
                data,
            ),
        };
        let mut removals = Vec::with_capacity(groups.len());
        for (index, count) in counts.into_iter().enumerate() {
            let view = view(index, &evidence);
            let removal = criterion.remove(&view, self.count(count, view.units));
            // A reader of several groups has fewer rows for the next one.
            evidence.without(
                &removal.order.iter().map(|&unit| groups[index].units[unit]).collect::<Vec<_>>(),
            );
            removals.push(removal);
        }
        let mut keep = vec![true; labels.num_units()];
        for (group, removal) in groups.iter().zip(&removals) {
            removal.order.iter().for_each(|&unit| keep[group.units[unit]] = false);
        }
        Ok(ChannelPlan::new(criterion.name(), model, &labels, &keep, removals)?)
    }

    /// How many of `units` go where `count` should, rounded so that a multiple stays.
    fn count(&self, count: usize, units: usize) -> usize {
        units - (units - count).next_multiple_of(self.settings.round_to).min(units)
    }

    /// How many units of each group go if all groups compete, each looked at beside all of the
    /// others.
    fn across(&self, views: &[GroupView<F>], model: &Model<F>, data: &Dataset<F>) -> Vec<usize> {
        let ChannelPrunerBuilder { criterion, ratio, .. } = &self.settings;
        if criterion.needs() != Needs::Readers {
            return lowest_of_all(
                &views.iter().map(|view| criterion.score(view)).collect::<Vec<_>>(),
                *ratio,
            );
        }
        let orders: Vec<Removal> =
            views.iter().map(|view| criterion.remove(view, view.units)).collect();
        let macs: Vec<f64> = views.iter().map(|view| view.macs_of_a_unit(model, data)).collect();
        cheapest_of_all(&orders, &macs, share_of(*ratio, views.iter().map(|view| view.units).sum()))
    }
}

/// How many units of each group go if the removal that loses least per multiply-accumulate comes
/// next, each group keeping its own order.
fn cheapest_of_all(orders: &[Removal], macs: &[f64], count: usize) -> Vec<usize> {
    let mut counts = vec![0; orders.len()];
    for _ in 0..count {
        let next = |group: usize| {
            let losses = &orders[group].losses;
            let at = counts[group];
            let before = if at == 0 { 0.0 } else { losses[at - 1] };
            losses.get(at).map(|loss| ((loss - before) / macs[group].max(1.0), group))
        };
        let Some((_, group)) =
            (0..orders.len()).filter_map(next).min_by(|a, b| a.0.total_cmp(&b.0))
        else {
            break;
        };
        counts[group] += 1;
    }
    counts
}

/// How many units of each group are among the lowest of all.
fn lowest_of_all<F: Scalar>(scores: &[Array1<F>], ratio: f64) -> Vec<usize> {
    let mut all: Vec<(f64, usize)> = Vec::new();
    for (group, scores) in scores.iter().enumerate() {
        let mean = scores.sum().as_f64() / scores.len().max(1) as f64;
        let scale = if mean > 0.0 { mean.recip() } else { 1.0 };
        all.extend(scores.iter().map(|score| (score.as_f64() * scale, group)));
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut counts = vec![0; scores.len()];
    let count = share_of(ratio, all.len());
    all.into_iter().take(count).for_each(|(_, group)| counts[group] += 1);
    counts
}

/// Gradients of cross-entropy on the training nodes, in evaluation mode.
fn gradients<F: Scalar>(model: &Model<F>, data: &Dataset<F>) -> Result<Grads<F>> {
    let train = data.split(model.seed()).train;
    check_part(data.name(), "train", &train)?;
    let cx = Cx::eval(data.graph());
    let trace = model.trace(&cx, data.features())?;
    let (_, seed) = supervised(trace.output(), data, &train);
    model.backward(&cx, trace, &[(model.output(), seed)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_compete_by_what_the_next_removal_adds_for_a_product_saved() {
        let removal = |losses: &[f64]| Removal {
            order: (0..losses.len()).collect(),
            losses: losses.to_vec(),
            loss: None,
        };
        // Added: 2, 1, 1, 10 at one product each, and 5, 5, 5 at two.
        let orders = [removal(&[2.0, 3.0, 4.0, 14.0]), removal(&[5.0, 10.0, 15.0])];
        let expected = [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1], [3, 2], [3, 3], [4, 3], [4, 3]];
        for (count, expected) in expected.iter().enumerate() {
            assert_eq!(cheapest_of_all(&orders, &[1.0, 2.0], count), expected, "{count}");
        }
    }
}
