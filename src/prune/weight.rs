//! Weight truncation: which weights are held at zero, by a criterion and an amount.

use super::amount::{Amount, Budget, Compensation, Scope, num_free_params, share_of};
use super::criteria::{Magnitude, Random};
use super::criterion::{Choice, Criterion, Needs, Scores, choosing, scored};
use super::evidence::Evidence;
use super::units::{Units, WeightMatrix, WeightUnits};
use crate::error::{Error, PruneError, Result};
use crate::log;
use crate::nn::{Axis, Mask, Model, Node, Param};
use crate::reconstruct::{Calibrate, Settings, Unchanged, WIDEST, solve_again};
use crate::scalar::Scalar;
use crate::task::Task;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;

/// Builder of a [`WeightPruner`]; see [`WeightPruner::builder`].
#[derive(Debug, Clone)]
pub struct WeightPrunerBuilder<F: Scalar = f32> {
    choice: Choice<F>,
    scope: Scope,
    compensation: Compensation,
    calibrate: Calibrate,
    rounds: Option<usize>,
}

choosing!(WeightPruner, WeightPrunerBuilder);

impl<F: Scalar> WeightPrunerBuilder<F> {
    /// By what weights are chosen. Default [`Magnitude`].
    #[must_use]
    pub fn criterion(mut self, criterion: impl Criterion<F> + 'static) -> Self {
        self.choice = Choice::new(criterion, self.choice.amount);
        self
    }

    /// Share of the weights that is zero afterwards, in [0, 1]: of n weights
    /// round-half-to-even(sparsity·n), those that are masked already among them. Default 0.9. Takes
    /// the place of a threshold.
    #[must_use]
    pub fn sparsity(self, sparsity: f64) -> Self {
        self.amount(Amount::Share(sparsity))
    }

    /// Removes every weight whose score, by default `|w|`, is less than `threshold`, a finite
    /// number of at least 0. Takes the place of a sparsity.
    #[must_use]
    pub fn threshold(self, threshold: f64) -> Self {
        self.amount(Amount::Threshold(threshold))
    }

    /// Where weights compete; a threshold is the same everywhere. Default [`Scope::Global`]: the
    /// first layer of a graph network has nearly all the weights, and the same share of the small
    /// last layer costs more than it saves. Magnitudes then compete relative to the larger ones of
    /// their matrix, so that the scale of a matrix does not count; scores that mean the same in
    /// every matrix are compared as they are.
    #[must_use]
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    /// What [`WeightPruner::prune`] does to the weights that are left. Default
    /// [`Compensation::Refit`].
    #[must_use]
    pub fn compensation(mut self, compensation: Compensation) -> Self {
        self.compensation = compensation;
        self
    }

    /// Which nodes the weights that are left are refitted on. Default [`Calibrate::All`].
    #[must_use]
    pub fn calibrate(mut self, calibrate: Calibrate) -> Self {
        self.calibrate = calibrate;
        self
    }

    /// In how many rounds [`WeightPruner::prune`] reaches a sparsity with [`Compensation::Refit`],
    /// at least 1: after each the weights that are left are solved again, and the next one
    /// truncates what that made small. Default: as many as it takes for each to remove at most nine
    /// tenths of what is left, one up to a sparsity of 0.9; one for a network with a matrix of more
    /// than 2,048 inputs.
    #[must_use]
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = Some(rounds);
        self
    }

    /// Builds the pruner.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(self) -> Result<WeightPruner<F>> {
        if self.rounds == Some(0) {
            return Err(Error::setting("rounds", 0, "at least 1"));
        }
        self.choice.amount.check("sparsity")?;
        Ok(WeightPruner { settings: self })
    }
}

/// Truncates weights, by default by magnitude: the smallest `|w|` go, by their number or by a
/// threshold.
///
/// Weights are the parameters with channels on both axes; biases, norms and other vectors stay. A
/// masked weight counts as removed, so that 0.5 and then 0.8 gives 0.8 in total. Of equal
/// magnitudes the first in the order of the model goes first.
///
/// *Source*: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021 (how
/// matrices compete); Han et al., "Learning both Weights and Connections for Efficient Neural
/// Networks", NeurIPS 2015 (magnitude, fine-tuning under the mask); Chen et al., "A Unified Lottery
/// Ticket Hypothesis for Graph Neural Networks", ICML 2021 (the same on graph networks).
///
/// ```
/// use gnn_prune::{Dataset, Gcn, Trainer, WeightPruner};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let pruner = WeightPruner::builder().sparsity(0.9).build()?;
/// println!("{}", pruner.plan(&model)?); // look before acting
/// let sparse = pruner.prune(&model, &data)?;
/// let sparse = Trainer::builder().epochs(5).build()?.fit(sparse, &data)?; // removed weights stay zero
/// assert!(sparse.num_nonzero_params() < model.num_params() / 5);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WeightPruner<F: Scalar = f32> {
    settings: WeightPrunerBuilder<F>,
}

impl WeightPruner {
    /// Whether a model has weights to truncate, which one of tables alone has not.
    pub fn has_weights<F: Scalar>(model: &Model<F>) -> bool {
        let mut found = false;
        model.visit(&mut |_, param| found |= is_weight(param));
        found
    }
}

impl<F: Scalar> WeightPruner<F> {
    /// Starts a pruner that truncates 90 % of all weights by magnitude.
    pub fn builder() -> WeightPrunerBuilder<F> {
        WeightPrunerBuilder {
            choice: Choice::new(Magnitude::l1(), Amount::Share(0.9)),
            scope: Scope::Global,
            compensation: Compensation::Refit,
            calibrate: Calibrate::All,
            rounds: None,
        }
    }

    /// The same amounts, but weights go at random: what magnitude has to beat. A threshold is then
    /// refused: how many weights it takes depends on their sizes.
    #[must_use]
    pub fn at_random(&self) -> Self {
        self.with_criterion(Random::new())
    }

    /// Which nodes least squares looks at; `None` where neither the criterion nor a refit does.
    pub fn calibrates(&self) -> Option<Calibrate> {
        let looks = self.settings.compensation == Compensation::Refit
            || self.settings.choice.criterion.needs().contains(Needs::READERS);
        looks.then_some(self.settings.calibrate)
    }

    /// Share of the weights that goes; `None` where a threshold decides.
    pub fn sparsity(&self) -> Option<f64> {
        self.amount().share()
    }

    /// Plans and applies in one go: the model with the removed weights held at zero, the others
    /// compensated as the builder says.
    ///
    /// With [`Compensation::Refit`] every column of every linear map is solved again on the weights
    /// that are left: those `V`, and the bias, that minimise `‖Z − G·V‖² + λ‖W − V‖²`, where `Z` is
    /// what the map computed in `model` and `G` its inputs as they are now, truncated layers before
    /// it included. That is done in rounds, each of which truncates what the one before made small,
    /// so that other weights may stay than [`WeightPruner::plan`] keeps of `model` at once.
    /// Matrices that no layer shows as a linear map, such as those that edge features pass through,
    /// are truncated and nothing more.
    ///
    /// *Source*: the exact update of Hassibi and Stork, NeurIPS 1993, for all weights of a column
    /// at once; layer by layer as in Frantar and Alistarh, "Optimal Brain Compression", NeurIPS
    /// 2022.
    ///
    /// # Errors
    /// As [`WeightPruner::plan`], and what a forward pass on all of `task` returns.
    pub fn prune(&self, model: &Model<F>, task: &dyn Task<F>) -> Result<Model<F>> {
        if self.settings.compensation == Compensation::None {
            return self.plan_on(model, task)?.apply(model);
        }
        let settings = Settings { calibrate: self.settings.calibrate, grid: None };
        let (mut pruned, mut unchanged) = (model.clone(), Unchanged::default());
        for amount in self.amounts(model)? {
            let mut round = self.clone();
            round.settings.choice.amount = amount;
            let masked = round.plan_on(&pruned, task)?.apply(&pruned)?;
            pruned = solve_again(model, &masked, task, settings, &mut unchanged)?.model;
        }
        log::info!(
            "weights removed: {} of {} parameters are not zero",
            pruned.num_nonzero_params(),
            pruned.num_params()
        );
        Ok(pruned)
    }

    /// Refuses what any weights of this form would be refused for, before `model` is trained.
    ///
    /// # Errors
    /// [`PruneError::NothingToPrune`] for a model without weights, [`Error::Setting`] for a budget
    /// that is out of reach, and [`PruneError::EmptiesLayer`] where an amount is bound to leave a
    /// layer without any; what a threshold or chance leaves is known only afterwards.
    pub fn check(&self, model: &Model<F>) -> Result<()> {
        let Choice { criterion, amount, .. } = &self.settings.choice;
        let bound = !amount.depends_on_scores() && !criterion.needs().is_nothing();
        // Of equal weights those go that would go of any: a matrix keeps its largest until all
        // others of all matrices are gone.
        let mut even = model.clone();
        even.visit_mut(&mut |param| param.value_mut().fill(F::one()));
        let mut plain = self.with_criterion(Magnitude::l1());
        if !bound {
            plain.settings.choice.amount = Amount::Share(0.0);
        }
        plain.plan(&even).map(|_| ())
    }

    /// What is removed after each round: the share that is left falls by the same factor in each.
    fn amounts(&self, model: &Model<F>) -> Result<Vec<Amount>> {
        let Choice { criterion, amount, .. } = &self.settings.choice;
        if amount.depends_on_scores() || criterion.needs().is_nothing() {
            return Ok(vec![*amount]);
        }
        let sparsity = match amount.share() {
            Some(share) => share,
            None => {
                let Total { weights, count } = self.total(model)?;
                count as f64 / weights.max(1) as f64
            }
        };
        if sparsity >= 1.0 {
            return Ok(vec![*amount]);
        }
        let rounds = self.settings.rounds.unwrap_or_else(|| rounds_for(sparsity, model));
        let share = |round: usize| 1.0 - (1.0 - sparsity).powf(round as f64 / rounds as f64);
        Ok((1..rounds).map(|round| Amount::Share(share(round))).chain([*amount]).collect())
    }

    /// Of how many weights of `model` how many go, in [`Scope::Global`].
    fn total(&self, model: &Model<F>) -> Result<Total> {
        let mut weights = 0;
        model.visit(&mut |_, param| {
            weights += if is_weight(param) { param.value().len() } else { 0 };
        });
        let too_many = |count| {
            Error::setting(
                "weights to remove",
                count,
                format!("at most {weights}, all that there are"),
            )
        };
        let count = match self.amount() {
            Amount::Share(share) => share_of(share, weights),
            Amount::Count(count) if count > weights => return Err(too_many(count)),
            Amount::Count(count) => count,
            Amount::Threshold(_) => 0,
            Amount::Budget(Budget::Params(most)) => {
                let others = model.num_params() - weights;
                let legal = format!("at least {others}, those that are no weights");
                let left = most
                    .checked_sub(others)
                    .ok_or_else(|| Error::setting("budget of parameters", most, legal))?;
                // Where nothing has to go, what is masked stays so.
                if num_free_params(model) <= most { 0 } else { weights.saturating_sub(left) }
            }
        };
        Ok(Total { weights, count })
    }

    /// Decides which weights of `model` stay, by a criterion that looks at weights alone.
    ///
    /// # Errors
    /// As [`WeightPruner::plan_on`], and [`PruneError::Unserved`] for a criterion that asks for
    /// more, which data alone can give.
    pub fn plan(&self, model: &Model<F>) -> Result<WeightPlan> {
        let criterion = &self.settings.choice.criterion;
        criterion.needs().within(Needs::WEIGHTS, criterion.name(), "weights without data")?;
        self.planned(model, &Evidence::default())
    }

    /// Decides which weights of `model` stay, with what the criterion looks at on `task`.
    ///
    /// # Errors
    /// [`PruneError::NothingToPrune`] for a model without weights, [`PruneError::EmptiesLayer`]
    /// where a layer would lose all of them, [`Error::NotFinite`] for a weight or a score that is
    /// no number, [`Error::Setting`] for more weights than there are, a budget that is out of reach
    /// and a threshold for what chance draws, and what the criterion refuses.
    pub fn plan_on(&self, model: &Model<F>, task: &dyn Task<F>) -> Result<WeightPlan> {
        let criterion = &self.settings.choice.criterion;
        let offered = Needs::WEIGHTS | Needs::GRADIENTS | Needs::FISHER | Needs::READERS;
        criterion.needs().within(offered, criterion.name(), "weights")?;
        let calibrate = self.settings.calibrate;
        self.planned(model, &Evidence::of_weights(model, task, criterion.needs(), calibrate)?)
    }

    fn planned<'m>(&self, model: &'m Model<F>, evidence: &'m Evidence<F>) -> Result<WeightPlan> {
        let Choice { criterion, amount, seed } = &self.settings.choice;
        self.settings.choice.check("weights")?;
        let params = weights(model)?;
        let matrix = |(name, param): &(String, &'m Param<F>)| WeightMatrix {
            name: name.clone(),
            param,
            gradient: evidence.gradient(param),
            fisher: evidence.fisher(param),
            readers: evidence.maps_of(param.id()),
        };
        let matrices = params.iter().map(matrix).collect();
        let units = Units::Weights(WeightUnits { matrices, seed: seed.unwrap_or(model.seed()) });
        let mut scores = scored(&**criterion, &units)?;
        let adaptive = self.settings.scope == Scope::Global && !scores.is_comparable();
        let mut ranges = Vec::with_capacity(params.len());
        let mut masked = Vec::with_capacity(units.len());
        for (_, param) in &params {
            ranges.push(masked.len()..masked.len() + param.value().len());
            match param.mask() {
                Some(mask) => masked.extend(mask.iter().map(|keep| !keep)),
                None => masked.resize(masked.len() + param.value().len(), false),
            }
        }
        // What is gone already is the first to go, whatever its score.
        for (score, _) in scores.values_mut().iter_mut().zip(&masked).filter(|(_, gone)| **gone) {
            *score = f64::NEG_INFINITY;
        }
        let removed = match (*amount, self.settings.scope) {
            (Amount::Threshold(threshold), _) => {
                scores.values().iter().map(|&score| score < threshold).collect()
            }
            (_, Scope::Global) => {
                if adaptive {
                    ranges.iter().for_each(|range| relative_to_matrix(&mut scores, range, &masked));
                }
                lowest(&scores, [(0..masked.len(), self.total(model)?.count)])
            }
            (_, Scope::Layer) => {
                let counts = ranges.iter().map(|range| self.in_matrix(model, range.len()));
                let counts = counts.collect::<Result<Vec<_>>>()?;
                lowest(&scores, ranges.iter().cloned().zip(counts))
            }
        };
        let mut plan = WeightPlan { rule: self.rule(adaptive), weights: BTreeMap::new() };
        for ((name, param), range) in params.into_iter().zip(ranges) {
            let kept = range.clone().filter(|&k| !removed[k] && !masked[k]);
            let kept = kept.map(|k| k - range.start).collect();
            plan.weights.insert(name, Planned { shape: param.value().dim(), kept });
        }
        plan.apply(model)?;
        Ok(plan)
    }

    /// How many of `len` weights of one matrix go, in [`Scope::Layer`].
    fn in_matrix(&self, model: &Model<F>, len: usize) -> Result<usize> {
        match self.amount() {
            Amount::Share(share) => Ok(share_of(share, len)),
            Amount::Count(count) if count > len => {
                let legal = format!("at most {len}, all of the smallest matrix");
                Err(Error::setting("weights to remove", count, legal))
            }
            Amount::Count(count) => Ok(count),
            Amount::Threshold(_) => Ok(0),
            Amount::Budget(_) => {
                let Total { weights, count } = self.total(model)?;
                Ok((count * len).div_ceil(weights.max(1)))
            }
        }
    }

    /// By what and how much, in words; `adaptive` where scores compete relative to their matrix.
    fn rule(&self, adaptive: bool) -> String {
        let Choice { criterion, amount, .. } = &self.settings.choice;
        let name = match criterion.name() {
            "l1" | "l2" => "magnitude",
            "random" => "chance",
            other => other,
        };
        match (amount, self.settings.scope) {
            (Amount::Threshold(_), _) => format!("{name} {amount}"),
            (_, Scope::Global) if adaptive => {
                format!("layer-adaptive {name}, {amount} of all weights")
            }
            (_, Scope::Global) => format!("{name}, {amount} of all weights"),
            (_, Scope::Layer) => format!("{name}, {amount} of every weight matrix"),
        }
    }
}

/// How many weights there are, and how many of them go.
struct Total {
    weights: usize,
    count: usize,
}

/// The least share of the weights that a round leaves of those before it.
const LEAST_LEFT: f64 = 0.1;

fn rounds_for<F: Scalar>(sparsity: f64, model: &Model<F>) -> usize {
    let mut widest = 0;
    model.visit(&mut |_, param| {
        widest = widest.max(if is_weight(param) { param.value().nrows() } else { 0 })
    });
    // Supports of wide maps are large in the first rounds, and the systems on them with them.
    if widest > WIDEST {
        return 1;
    }
    // 1 − 0.9 is not 0.1.
    let rounds = (1.0 - sparsity).ln() / LEAST_LEFT.ln() - 1e-9;
    (rounds.ceil() as usize).max(1)
}

impl<F: Scalar> std::fmt::Display for WeightPruner<F> {
    /// All that the outcome depends on, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let WeightPrunerBuilder { choice, scope, compensation, calibrate, rounds } = &self.settings;
        write!(f, "weights {}, scope {scope:?}, rounds {rounds:?}, ", self.rule(false))?;
        write!(f, "compensation {compensation:?}, calibrated on {calibrate:?} nodes")?;
        choice.seed.map_or(Ok(()), |seed| write!(f, ", drawn by seed {seed}"))
    }
}

/// Puts `w² / Σ_{v ≥ w} v²` in the place of each score `w` of one matrix, the sum over its scores
/// that are at least as large.
///
/// Within a matrix the order stays. Between matrices the scale of a matrix no longer counts, which
/// solving again and norms change at will, and a matrix loses its largest weight only when all
/// others of all matrices are gone.
///
/// *Source*: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021, eq.
/// 2.
fn relative_to_matrix(scores: &mut Scores, matrix: &Range<usize>, masked: &[bool]) {
    let mut order: Vec<usize> = matrix.clone().filter(|&k| !masked[k]).collect();
    order.sort_by(|&a, &b| scores.compare(b, a).then(b.cmp(&a)));
    let values = scores.values_mut();
    let mut sum = 0.0;
    for k in order {
        let square = values[k] * values[k];
        sum += square;
        values[k] = if sum > 0.0 { square / sum } else { 0.0 };
    }
}

/// The weight matrices of a model that has some, with their names.
fn weights<F: Scalar>(model: &Model<F>) -> Result<Vec<(String, &Param<F>)>> {
    let (mut weights, mut wrong) = (Vec::new(), None);
    model.visit(&mut |name, param| {
        if !is_weight(param) {
            return;
        }
        wrong = wrong.take().or_else(|| {
            param.value().iter().find(|w| !w.is_finite()).map(|w| (name.to_string(), w.as_f64()))
        });
        weights.push((name.to_string(), param));
    });
    if let Some((at, value)) = wrong {
        return Err(Error::NotFinite { at, value });
    }
    if weights.is_empty() {
        let reason = "no parameter has channels on both axes".into();
        return Err(PruneError::NothingToPrune { reason }.into());
    }
    Ok(weights)
}

/// Whether channels are mixed by it: a bias, a norm's scale and an attention vector have a fixed
/// axis, a table of nodes one of nodes.
fn is_weight<F: Scalar>(param: &Param<F>) -> bool {
    !param.axes().iter().any(|axis| matches!(axis, Axis::Fixed | Axis::Nodes))
}

/// Which units are, of each range, the first so many to go; ties are broken by unit order.
fn lowest(scores: &Scores, of: impl IntoIterator<Item = (Range<usize>, usize)>) -> Vec<bool> {
    let mut removed = vec![false; scores.values().len()];
    for (range, count) in of {
        let mut order: Vec<usize> = range.collect();
        if count > 0 {
            order.select_nth_unstable_by(count - 1, |&a, &b| scores.compare(a, b).then(a.cmp(&b)));
            order[..count].iter().for_each(|&k| removed[k] = true);
        }
    }
    removed
}

/// What stays of one weight matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Planned {
    shape: (usize, usize),
    /// Positions of the kept entries, row by row.
    kept: Vec<usize>,
}

impl Planned {
    fn len(&self) -> usize {
        self.shape.0.saturating_mul(self.shape.1)
    }
}

/// Which weights stay: made by a [`WeightPruner`], printed for review, stored as JSON, applied to
/// any model of that form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightPlan {
    rule: String,
    weights: BTreeMap<String, Planned>,
}

impl WeightPlan {
    /// Number of weights before.
    pub fn num_weights(&self) -> usize {
        self.weights.values().map(Planned::len).fold(0, usize::saturating_add)
    }

    /// Number of weights that stay.
    pub fn num_kept(&self) -> usize {
        self.weights.values().map(|planned| planned.kept.len()).sum()
    }

    /// The model with the removed weights at zero and held there by masks; what a mask removed
    /// before stays removed.
    ///
    /// # Errors
    /// [`PruneError::OtherModel`] if the plan was made for another model,
    /// [`PruneError::EmptiesLayer`] where no weight of a layer would stay.
    pub fn apply<F: Scalar>(&self, model: &Model<F>) -> Result<Model<F>> {
        let other = |reason: String| PruneError::OtherModel { reason };
        let mut found = 0;
        let masked = model.rebuilt(|_, node| {
            let mut wrong = None;
            let name = node.name().to_string();
            visit_weights(node, &mut |param| {
                let name = format!("{name}.{}", param.name());
                match self
                    .weights
                    .get(&name)
                    .ok_or_else(|| format!("the plan has no weight `{name}`"))
                    .and_then(|p| p.mask(&name, param))
                {
                    Ok(mask) => param.restrict(&mask),
                    Err(reason) => wrong = wrong.take().or(Some(reason)),
                }
                found += 1;
            });
            wrong.map_or(Ok(()), |reason| Err(other(reason).into())).and_then(|()| check_left(node))
        })?;
        if found != self.weights.len() {
            return Err(other(format!(
                "the plan has {} weight matrices, the model {found}",
                self.weights.len()
            ))
            .into());
        }
        Ok(masked)
    }
}

impl Planned {
    fn mask<F: Scalar>(&self, name: &str, param: &Param<F>) -> Result<Mask, String> {
        if self.shape != param.value().dim() {
            return Err(format!(
                "`{name}` is {:?}, the plan expects {:?}",
                param.value().dim(),
                self.shape
            ));
        }
        let mut mask = vec![false; param.value().len()];
        for &k in &self.kept {
            *mask.get_mut(k).ok_or_else(|| {
                format!("`{name}` has {} weights, the plan keeps number {k}", param.value().len())
            })? = true;
        }
        Ok(Mask::from_shape_vec(self.shape, mask).expect("the mask has one entry a weight"))
    }
}

fn visit_weights<F: Scalar>(node: &mut Node<F>, f: &mut dyn FnMut(&mut Param<F>)) {
    node.layer.visit_mut(&mut |param| {
        if is_weight(param) {
            f(param);
        }
    });
}

/// Refuses a layer whose weights are all masked: what it puts out would no longer depend on what it
/// reads.
fn check_left<F: Scalar>(node: &Node<F>) -> Result<()> {
    let (mut weights, mut left) = (0, 0);
    node.layer().visit(&mut |param| {
        if is_weight(param) {
            weights += param.value().len();
            left += param
                .mask()
                .map_or(param.value().len(), |mask| mask.iter().filter(|keep| **keep).count());
        }
    });
    if weights > 0 && left == 0 {
        return Err(PruneError::EmptiesLayer {
            layer: node.name().into(),
            channels: node.channels(),
        }
        .into());
    }
    Ok(())
}

impl std::fmt::Display for WeightPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "weight plan by {}: {} -> {} weights",
            self.rule,
            self.num_weights(),
            self.num_kept()
        )?;
        for (name, planned) in &self.weights {
            let share = 100.0 * planned.kept.len() as f64 / planned.len().max(1) as f64;
            writeln!(
                f,
                "  {name}: {} -> {} ({share:.1} % stay)",
                planned.len(),
                planned.kept.len()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_leaves_a_tenth_at_least_and_wide_networks_have_one() {
        let model = crate::Gcn::builder(30, 3).hidden(8).build(0).unwrap();
        for (sparsity, rounds) in
            [(0.0, 1), (0.5, 1), (0.9, 1), (0.901, 2), (0.95, 2), (0.99, 2), (0.995, 3)]
        {
            assert_eq!(rounds_for(sparsity, &model), rounds, "{sparsity}");
        }
        let wide = crate::Gcn::builder(WIDEST + 1, 3).hidden(2).build(0).unwrap();
        assert_eq!(rounds_for(0.99, &wide), 1);
    }
}
