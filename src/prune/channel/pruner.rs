//! The channel pruner: criterion, amount and scope make a plan.

use super::group::ChannelUnits;
use super::labels::{ChannelLabels, Group};
use super::plan::ChannelPlan;
use crate::error::{Error, PruneError, Result};
use crate::log;
use crate::nn::{Cx, Model, ParamId};
use crate::prune::amount::{Amount, Budget, Compensation, Scope, num_free_params, share_of};
use crate::prune::criteria::Magnitude;
use crate::prune::criterion::{Choice, Criterion, Needs, Removal, Scores, choosing, scored};
use crate::prune::evidence::{Evidence, Readers};
use crate::prune::units::Units;
use crate::reconstruct::Calibrate;
use crate::rng::{hash, purpose};
use crate::scalar::Scalar;
use crate::task::{Batch, Task};
use std::collections::BTreeMap;

/// Builder of a [`ChannelPruner`]; see [`ChannelPruner::builder`].
#[derive(Debug, Clone)]
pub struct ChannelPrunerBuilder<F: Scalar> {
    choice: Choice<F>,
    scope: Scope,
    round_to: usize,
    compensation: Compensation,
    calibrate: Calibrate,
}

choosing!(ChannelPruner, ChannelPrunerBuilder);

impl<F: Scalar> ChannelPrunerBuilder<F> {
    /// Share of the hidden channels to remove, in [0, 1]; of n units round-half-to-even(ratio·n)
    /// go. Default 0.5.
    #[must_use]
    pub fn ratio(self, ratio: f64) -> Self {
        self.amount(Amount::Share(ratio))
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
        self.choice.amount.check("channel ratio")?;
        if self.round_to == 0 {
            return Err(Error::setting("round_to", 0, "at least 1"));
        }
        Ok(ChannelPruner { settings: self })
    }
}

impl<F: Scalar> std::fmt::Display for ChannelPruner<F> {
    /// All that the outcome depends on, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ChannelPrunerBuilder { choice, scope, round_to, compensation, calibrate } =
            &self.settings;
        let (amount, by) = (choice.amount, choice.criterion.name());
        write!(f, "channels {amount} by {by}, scope {scope:?}, multiples of {round_to}, ")?;
        write!(f, "compensation {compensation:?}, calibrated on {calibrate:?} nodes")?;
        choice.seed.map_or(Ok(()), |seed| write!(f, ", drawn by seed {seed}"))
    }
}

/// Removes hidden channels by a criterion, coupled channels together.
#[derive(Debug, Clone)]
pub struct ChannelPruner<F: Scalar = f32> {
    settings: ChannelPrunerBuilder<F>,
}

impl<F: Scalar> ChannelPruner<F> {
    /// Starts a pruner that removes the units with the lowest scores of `criterion`.
    pub fn builder(criterion: impl Criterion<F> + 'static) -> ChannelPrunerBuilder<F> {
        ChannelPrunerBuilder {
            choice: Choice::new(criterion, Amount::Share(0.5)),
            scope: Scope::Layer,
            round_to: 1,
            compensation: Compensation::Refit,
            calibrate: Calibrate::All,
        }
    }

    /// Which nodes least squares looks at; `None` where neither the criterion nor a refit does.
    pub fn calibrates(&self) -> Option<Calibrate> {
        let looks = self.settings.compensation == Compensation::Refit
            || self.settings.choice.criterion.needs().contains(Needs::READERS);
        looks.then_some(self.settings.calibrate)
    }

    /// Plans and applies in one go: the model without the removed channels, compensated as the
    /// builder says.
    ///
    /// # Errors
    /// As [`ChannelPruner::plan`] and [`ChannelPlan::shrink_refitted`].
    pub fn prune(&self, model: &Model<F>, task: &dyn Task<F>) -> Result<Model<F>> {
        self.apply(&self.plan(model, task)?, model, task)
    }

    /// The model without what `plan` removes, compensated as the builder says.
    pub(super) fn apply(
        &self,
        plan: &ChannelPlan,
        model: &Model<F>,
        task: &dyn Task<F>,
    ) -> Result<Model<F>> {
        let pruned = match self.settings.compensation {
            Compensation::None => plan.shrink(model),
            Compensation::Refit => plan.shrink_refitted(model, task, self.settings.calibrate),
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
    pub fn rehearse(&self, model: &Model<F>, task: &dyn Task<F>) -> Result<Model<F>> {
        let labels = labelled(model)?;
        let units: usize = labels.groups().iter().map(|group| group.units.len()).sum();
        let left_of_all = |gone: usize| units.saturating_sub(gone) < labels.groups().len();
        let bound = match (self.amount(), self.settings.scope) {
            // How many go, training decides.
            (Amount::Threshold(_), _) => return Ok(model.clone()),
            (Amount::Share(share), Scope::Global) => left_of_all(share_of(share, units)),
            (Amount::Count(count), Scope::Global) => left_of_all(count),
            _ => true,
        };
        match self
            .with_criterion(Magnitude::l2())
            .plan(model, task)
            .and_then(|plan| plan.shrink(model))
        {
            Err(error @ Error::Prune(PruneError::NothingToPrune { .. })) => Err(error),
            Err(
                error @ (Error::Prune(PruneError::EmptiesLayer { .. }) | Error::Setting { .. }),
            ) if bound => Err(error),
            // Other weights may fare better.
            Err(_) => Ok(model.clone()),
            Ok(narrow) => Ok(narrow),
        }
    }

    /// Scores the units of `model` and decides which stay. Ties are broken by unit order.
    ///
    /// # Errors
    /// [`PruneError::NothingToPrune`] for a model without hidden channels,
    /// [`PruneError::EmptiesLayer`] where a layer would lose all, [`Error::Setting`] for more units
    /// than a group has and a budget that is out of reach, and what the criterion refuses.
    pub fn plan(&self, model: &Model<F>, task: &dyn Task<F>) -> Result<ChannelPlan> {
        let ChannelPrunerBuilder { choice, calibrate, scope, .. } = &self.settings;
        choice.check("channels")?;
        let labels = labelled(model)?;
        let needs = choice.criterion.needs();
        let whole = task.whole()?;
        let mut evidence = Evidence::of_channels(model, task, &whole, needs, &labels, *calibrate)?;
        let readers = std::mem::take(&mut evidence.readers);
        let looked = Looked { model, whole: &whole, labels: &labels, evidence };
        let units = looked.sizes().sum();
        let counts = match (choice.amount, scope) {
            (Amount::Share(share), Scope::Layer) => {
                looked.sizes().map(|units| share_of(share, units)).collect()
            }
            (Amount::Count(count), Scope::Layer) => looked.each(count)?,
            (Amount::Share(share), Scope::Global) => {
                self.across(share_of(share, units), &looked, &readers)?
            }
            (Amount::Count(count), Scope::Global) => {
                if count > units {
                    let legal = format!("at most {units}, the hidden channels of the model");
                    return Err(Error::setting("channels to remove", count, legal));
                }
                self.across(count, &looked, &readers)?
            }
            (Amount::Threshold(threshold), _) => {
                let under =
                    |scores: Scores| scores.values().iter().filter(|s| **s < threshold).count();
                self.scores(&looked, &readers)?.into_iter().map(under).collect()
            }
            (Amount::Budget(Budget::Params(most)), _) => {
                return self.within(most, &looked, &readers);
            }
        };
        self.plan_of(counts, &looked, readers)
    }

    /// The plan that removes so many units of each group.
    fn plan_of(
        &self,
        counts: Vec<usize>,
        looked: &Looked<F>,
        mut readers: Readers,
    ) -> Result<ChannelPlan> {
        let (groups, criterion) = (looked.labels.groups(), &self.settings.choice.criterion);
        let mut removals = Vec::with_capacity(groups.len());
        for (index, count) in counts.into_iter().enumerate() {
            let units = self.view(index, looked, &readers);
            let removal = criterion.remove(&units, self.count(count, units.len()))?;
            // A reader of several groups has fewer rows for the next one.
            readers.without(
                &removal.order.iter().map(|&unit| groups[index].units[unit]).collect::<Vec<_>>(),
            );
            removals.push(removal);
        }
        let mut keep = vec![true; looked.labels.num_units()];
        for (group, removal) in groups.iter().zip(&removals) {
            removal.order.iter().for_each(|&unit| keep[group.units[unit]] = false);
        }
        Ok(ChannelPlan::new(criterion.name(), looked.model, looked.labels, &keep, removals)?)
    }

    /// The plan that removes fewest units of those that leave at most so many parameters.
    fn within(&self, most: usize, looked: &Looked<F>, readers: &Readers) -> Result<ChannelPlan> {
        let units: usize = looked.sizes().sum();
        let (mut found, mut least) = (None, usize::MAX);
        // Whoever removes more leaves fewer.
        let mut open = 0..units + 1;
        while !open.is_empty() {
            let count = open.start + open.len() / 2;
            let counts = match self.settings.scope {
                Scope::Layer => {
                    let share = count as f64 / units as f64;
                    looked.sizes().map(|units| share_of(share, units)).collect()
                }
                Scope::Global => self.across(count, looked, readers)?,
            };
            match self.plan_of(counts, looked, readers.clone()) {
                Ok(plan) => {
                    let left = num_free_params(&plan.shrink(looked.model)?);
                    least = least.min(left);
                    if left <= most {
                        found = Some(plan);
                        open.end = count;
                    } else {
                        open.start = count + 1;
                    }
                }
                Err(Error::Prune(PruneError::EmptiesLayer { .. })) => open.end = count,
                Err(error) => return Err(error),
            }
        }
        found.ok_or_else(|| {
            let legal = format!("at least {least}, where every layer keeps a channel");
            Error::setting("budget of parameters", most, legal)
        })
    }

    /// The units of one group.
    fn view<'a>(&self, index: usize, looked: &'a Looked<'_, F>, readers: &Readers) -> Units<'a, F> {
        let Looked { model, labels, evidence, .. } = looked;
        let (group, seed) =
            (&labels.groups()[index], self.settings.choice.seed.unwrap_or(model.seed()));
        let seed = hash(seed, &[purpose::RANDOM_CRITERION, index as u64]);
        let units = ChannelUnits::of(model, labels, group, evidence, seed);
        Units::Channels(ChannelUnits { readers: readers.of(&group.units), ..units })
    }

    fn views<'a>(&self, looked: &'a Looked<'_, F>, readers: &Readers) -> Vec<Units<'a, F>> {
        (0..looked.labels.groups().len()).map(|index| self.view(index, looked, readers)).collect()
    }

    /// The scores of each group, each looked at beside all of the others.
    fn scores(&self, looked: &Looked<F>, readers: &Readers) -> Result<Vec<Scores>> {
        let criterion = &*self.settings.choice.criterion;
        self.views(looked, readers).iter().map(|units| scored(criterion, units)).collect()
    }

    /// How many of `units` go where `count` should, rounded so that a multiple stays.
    fn count(&self, count: usize, units: usize) -> usize {
        units - (units - count).next_multiple_of(self.settings.round_to).min(units)
    }

    /// How many units of each group are among `count` if all groups compete, each looked at beside
    /// all of the others.
    fn across(&self, count: usize, looked: &Looked<F>, readers: &Readers) -> Result<Vec<usize>> {
        let criterion = &self.settings.choice.criterion;
        if !criterion.needs().contains(Needs::READERS) {
            return Ok(lowest_of_all::<F>(&self.scores(looked, readers)?, count));
        }
        let views = self.views(looked, readers);
        let orders = views
            .iter()
            .map(|units| criterion.remove(units, units.len()))
            .collect::<Result<Vec<_>>>()?;
        let rows = looked.rows_of_params()?;
        let stored = looked.whole.features().stored();
        let macs: Vec<f64> = views
            .iter()
            .map(|units| match units {
                Units::Channels(group) => group.macs_of_a_unit(looked.model, &rows, stored),
                _ => 0.0,
            })
            .collect();
        Ok(cheapest_of_all(&orders, &macs, count))
    }
}

/// A model with what is known of it.
struct Looked<'a, F: Scalar> {
    model: &'a Model<F>,
    /// What it is run on.
    whole: &'a Batch<F>,
    labels: &'a ChannelLabels,
    evidence: Evidence<'a, F>,
}

impl<F: Scalar> Looked<'_, F> {
    /// How many rows the products of each parameter have.
    fn rows_of_params(&self) -> Result<BTreeMap<ParamId, usize>> {
        let cx = self.whole.on(&Cx::without_graph());
        let rows = self.model.row_spaces(&cx, &self.whole.features())?;
        let mut of_params = BTreeMap::new();
        for ((_, node), (_, rows)) in self.model.iter().zip(&rows[1..]) {
            node.layer().visit(&mut |param| _ = of_params.insert(param.id(), *rows));
        }
        Ok(of_params)
    }

    /// Units of each group.
    fn sizes(&self) -> impl Iterator<Item = usize> + '_ {
        self.labels.groups().iter().map(|group| group.units.len())
    }

    /// `count` of each group.
    fn each(&self, count: usize) -> Result<Vec<usize>> {
        let of = |Group { name, units }: &Group| {
            if count <= units.len() {
                return Ok(count);
            }
            let legal = format!("at most {}, the channels of `{name}`", units.len());
            Err(Error::setting("channels to remove", count, legal))
        };
        self.labels.groups().iter().map(of).collect()
    }
}

/// The labels of a model that has something to prune.
pub(super) fn labelled<F: Scalar>(model: &Model<F>) -> Result<ChannelLabels> {
    let labels = ChannelLabels::of(model);
    if labels.groups().is_empty() {
        let reason = "every channel is an input or a class".into();
        return Err(PruneError::NothingToPrune { reason }.into());
    }
    Ok(labels)
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

/// How many units of each group are among the lowest `count` of all: by scores divided by their
/// group's mean, unless they are comparable as they are.
fn lowest_of_all<F: Scalar>(scores: &[Scores], count: usize) -> Vec<usize> {
    let mut all: Vec<(f64, usize)> = Vec::new();
    for (group, scores) in scores.iter().enumerate() {
        let values = scores.values();
        // Summed in the model's precision, in which the scores were formed.
        let mean = values.mapv(F::of).sum().as_f64() / values.len().max(1) as f64;
        let relative = mean > 0.0 && !scores.is_comparable();
        let scale = if relative { mean.recip() } else { 1.0 };
        all.extend(values.iter().map(|score| (score * scale, group)));
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut counts = vec![0; scores.len()];
    all.into_iter().take(count).for_each(|(_, group)| counts[group] += 1);
    counts
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
