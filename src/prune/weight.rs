//! Weight truncation: which weights are held at zero, by threshold or by share.

use super::pruner::{Compensation, Scope};
use super::share_of;
use crate::data::Dataset;
use crate::error::{Error, PruneError, Result};
use crate::log;
use crate::nn::{Axis, Mask, Model, Node, Param};
use crate::reconstruct::{Calibrate, Settings, Unchanged, WIDEST, solve_again};
use crate::rng::{generator, purpose};
use crate::scalar::Scalar;
use ndarray_rand::rand::Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many weights go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    Sparsity(f64),
    Threshold(f64),
}

/// Builder of a [`WeightPruner`]; see [`WeightPruner::builder`].
#[derive(Debug, Clone)]
pub struct WeightPrunerBuilder {
    amount: Amount,
    scope: Scope,
    random: bool,
    /// Seed of what is drawn; without one the model's.
    seed: Option<u64>,
    compensation: Compensation,
    calibrate: Calibrate,
    rounds: Option<usize>,
}

impl WeightPrunerBuilder {
    /// Share of the weights that is zero afterwards, in [0, 1]: of n weights
    /// round-half-to-even(sparsity·n), those that are masked already among them. Default 0.9. Takes
    /// the place of a threshold.
    #[must_use]
    pub fn sparsity(mut self, sparsity: f64) -> Self {
        self.amount = Amount::Sparsity(sparsity);
        self
    }

    /// Removes every weight with `|w| < threshold`, a finite number of at least 0. Takes the place
    /// of a sparsity.
    #[must_use]
    pub fn threshold(mut self, threshold: f64) -> Self {
        self.amount = Amount::Threshold(threshold);
        self
    }

    /// Where weights compete; a threshold is the same everywhere. Default [`Scope::Global`]: the
    /// first layer of a graph network has nearly all the weights, and the same share of the small
    /// last layer costs more than it saves. Magnitudes then compete relative to the larger ones of
    /// their matrix, so that the scale of a matrix does not count.
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
    pub fn build(self) -> Result<WeightPruner> {
        if self.rounds == Some(0) {
            return Err(Error::setting("rounds", 0, "at least 1"));
        }
        match self.amount {
            Amount::Sparsity(sparsity) if !(0.0..=1.0).contains(&sparsity) => {
                Err(Error::setting("sparsity", sparsity, "in [0, 1]"))
            }
            Amount::Threshold(threshold) if !(threshold >= 0.0 && threshold.is_finite()) => {
                Err(Error::setting("threshold", threshold, "a finite number, at least 0"))
            }
            _ => Ok(WeightPruner { settings: self }),
        }
    }
}

/// Truncates weights by magnitude: the smallest `|w|` go, by their number or by a threshold.
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
pub struct WeightPruner {
    settings: WeightPrunerBuilder,
}

impl WeightPruner {
    /// Starts a pruner that truncates 90 % of all weights.
    pub fn builder() -> WeightPrunerBuilder {
        WeightPrunerBuilder {
            amount: Amount::Sparsity(0.9),
            scope: Scope::Global,
            random: false,
            seed: None,
            compensation: Compensation::Refit,
            calibrate: Calibrate::All,
            rounds: None,
        }
    }

    /// The same amounts, but weights go at random: what magnitude has to beat. For a share alone:
    /// how many weights a threshold takes depends on their sizes.
    #[must_use]
    pub fn at_random(&self) -> Self {
        Self { settings: WeightPrunerBuilder { random: true, ..self.settings.clone() } }
    }

    /// The same pruner with a seed for what is drawn at random. Default: the model's, or that of
    /// its stage in a [`Compression`](crate::Compression).
    #[must_use]
    pub fn with_seed(&self, seed: u64) -> Self {
        Self { settings: WeightPrunerBuilder { seed: Some(seed), ..self.settings.clone() } }
    }

    /// The same pruner, with this seed if it has none.
    pub(crate) fn or_seed(&self, seed: u64) -> Self {
        self.with_seed(self.settings.seed.unwrap_or(seed))
    }

    /// Which nodes least squares looks at; `None` where nothing is refitted.
    pub fn calibrates(&self) -> Option<Calibrate> {
        (self.settings.compensation == Compensation::Refit).then_some(self.settings.calibrate)
    }

    /// Share of the weights that goes; `None` where a threshold decides.
    pub fn sparsity(&self) -> Option<f64> {
        match self.settings.amount {
            Amount::Sparsity(sparsity) => Some(sparsity),
            Amount::Threshold(_) => None,
        }
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
    /// As [`WeightPruner::plan`], and what a forward pass on `data` returns.
    pub fn prune<F: Scalar>(&self, model: &Model<F>, data: &Dataset<F>) -> Result<Model<F>> {
        if self.settings.compensation == Compensation::None {
            return self.plan(model)?.apply(model);
        }
        let settings = Settings { calibrate: self.settings.calibrate, grid: None };
        let (mut pruned, mut unchanged) = (model.clone(), Unchanged::default());
        for amount in self.amounts(model) {
            let round = Self { settings: WeightPrunerBuilder { amount, ..self.settings.clone() } };
            let masked = round.plan(&pruned)?.apply(&pruned)?;
            pruned = solve_again(model, &masked, data, settings, &mut unchanged)?.model;
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
    /// [`PruneError::NothingToPrune`] for a model without weights, and [`PruneError::EmptiesLayer`]
    /// where a share is bound to leave a layer without any; what a threshold or chance leaves is
    /// known only afterwards.
    pub fn check<F: Scalar>(&self, model: &Model<F>) -> Result<()> {
        let nothing = Self {
            settings: WeightPrunerBuilder {
                amount: Amount::Sparsity(0.0),
                ..self.settings.clone()
            },
        };
        let bound = matches!(self.settings.amount, Amount::Sparsity(_)) && !self.settings.random;
        // Of equal weights those go that would go of any: a matrix keeps its largest until all
        // others of all matrices are gone.
        let mut even = model.clone();
        even.visit_mut(&mut |param| param.value_mut().fill(F::one()));
        if bound { self } else { &nothing }.plan(&even).map(|_| ())
    }

    /// What is removed after each round: the share that is left falls by the same factor in each.
    fn amounts<F: Scalar>(&self, model: &Model<F>) -> Vec<Amount> {
        match self.settings.amount {
            Amount::Sparsity(sparsity) if sparsity < 1.0 && !self.settings.random => {
                let rounds = self.settings.rounds.unwrap_or_else(|| rounds_for(sparsity, model));
                let share =
                    |round: usize| 1.0 - (1.0 - sparsity).powf(round as f64 / rounds as f64);
                (1..rounds).map(share).chain([sparsity]).map(Amount::Sparsity).collect()
            }
            amount => vec![amount],
        }
    }

    /// Decides which weights of `model` stay.
    ///
    /// # Errors
    /// [`PruneError::NothingToPrune`] for a model without weights, [`PruneError::EmptiesLayer`]
    /// where a layer would lose all of them, [`Error::NotFinite`] for a weight that is no number.
    pub fn plan<F: Scalar>(&self, model: &Model<F>) -> Result<WeightPlan> {
        let mut weights = weights(model)?;
        if self.settings.random {
            shuffle(&mut weights, self.settings.seed.unwrap_or(model.seed()));
        }
        if weights.is_empty() {
            return Err(PruneError::NothingToPrune {
                reason: "no parameter has channels on both axes".into(),
            }
            .into());
        }
        if self.settings.scope == Scope::Global
            && !self.settings.random
            && matches!(self.settings.amount, Amount::Sparsity(_))
        {
            weights.iter_mut().for_each(Magnitudes::relative_to_layer);
        }
        let mut removed = match (self.settings.amount, self.settings.scope) {
            (Amount::Threshold(threshold), _) => weights
                .iter()
                .map(|weight| weight.magnitudes.iter().map(|&m| m < threshold).collect())
                .collect(),
            (Amount::Sparsity(sparsity), Scope::Layer) => weights
                .iter()
                .flat_map(|weight| smallest(std::slice::from_ref(weight), sparsity))
                .collect(),
            (Amount::Sparsity(sparsity), Scope::Global) => smallest(&weights, sparsity),
        };
        let mut plan = WeightPlan { rule: self.to_string(), weights: BTreeMap::new() };
        for (weight, removed) in weights.iter().zip(removed.iter_mut()) {
            removed
                .iter_mut()
                .zip(&weight.magnitudes)
                .for_each(|(removed, &magnitude)| *removed |= magnitude < 0.0);
            let kept = (0..removed.len()).filter(|&k| !removed[k]).collect();
            plan.weights.insert(weight.name.clone(), Planned { shape: weight.shape, kept });
        }
        plan.apply(model)?;
        Ok(plan)
    }
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

/// Puts random numbers in place of the magnitudes; what is masked stays first.
fn shuffle(weights: &mut [Magnitudes], seed: u64) {
    let mut rng = generator(seed, &[purpose::RANDOM_CRITERION]);
    for magnitude in weights
        .iter_mut()
        .flat_map(|weight| &mut weight.magnitudes)
        .filter(|magnitude| **magnitude >= 0.0)
    {
        *magnitude = rng.random();
    }
}

impl std::fmt::Display for WeightPruner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.settings.amount, self.settings.scope) {
            (Amount::Threshold(threshold), _) => write!(f, "magnitude under {threshold}"),
            (Amount::Sparsity(sparsity), _) if self.settings.random => {
                write!(f, "chance, {sparsity} of all weights")
            }
            (Amount::Sparsity(sparsity), Scope::Global) => {
                write!(f, "layer-adaptive magnitude, {sparsity} of all weights")
            }
            (Amount::Sparsity(sparsity), Scope::Layer) => {
                write!(f, "magnitude, {sparsity} of every weight matrix")
            }
        }
    }
}

/// One weight matrix as the pruner sees it.
struct Magnitudes {
    name: String,
    shape: (usize, usize),
    /// `|w|` row by row; -1 where it is masked already, so that it goes first.
    magnitudes: Vec<f64>,
}

impl Magnitudes {
    /// Puts `w² / Σ_{v ≥ w} v²` in the place of each magnitude, the sum over the weights of this
    /// matrix that are at least as large.
    ///
    /// Within a matrix the order stays. Between matrices the scale of a matrix no longer counts,
    /// which solving again and norms change at will, and a matrix loses its largest weight only
    /// when all others of all matrices are gone.
    ///
    /// *Source*: Lee et al., "Layer-adaptive Sparsity for the Magnitude-based Pruning", ICLR 2021,
    /// eq. 2.
    fn relative_to_layer(&mut self) {
        let mut order: Vec<usize> =
            (0..self.magnitudes.len()).filter(|&k| self.magnitudes[k] >= 0.0).collect();
        order.sort_by(|&a, &b| self.magnitudes[b].total_cmp(&self.magnitudes[a]).then(b.cmp(&a)));
        let mut sum = 0.0;
        for k in order {
            let square = self.magnitudes[k] * self.magnitudes[k];
            sum += square;
            self.magnitudes[k] = if sum > 0.0 { square / sum } else { 0.0 };
        }
    }
}

fn weights<F: Scalar>(model: &Model<F>) -> Result<Vec<Magnitudes>> {
    let (mut weights, mut wrong) = (Vec::new(), None);
    model.visit(&mut |name, param| {
        if !is_weight(param) {
            return;
        }
        wrong = wrong.take().or_else(|| {
            param.value().iter().find(|w| !w.is_finite()).map(|w| (name.to_string(), w.as_f64()))
        });
        let kept = |at| param.mask().is_none_or(|mask| mask[at]);
        let magnitudes = param
            .value()
            .indexed_iter()
            .map(|(at, w)| if kept(at) { w.abs().as_f64() } else { -1.0 })
            .collect();
        weights.push(Magnitudes { name: name.into(), shape: param.value().dim(), magnitudes });
    });
    wrong.map_or(Ok(weights), |(at, value)| Err(Error::NotFinite { at, value }))
}

/// Whether channels are mixed by it: a bias, a norm's scale and an attention vector have a fixed
/// axis, a table of nodes one of nodes.
fn is_weight<F: Scalar>(param: &Param<F>) -> bool {
    !param.axes().iter().any(|axis| matches!(axis, Axis::Fixed | Axis::Nodes))
}

/// Which entries are the smallest of all these matrices together.
fn smallest(weights: &[Magnitudes], sparsity: f64) -> Vec<Vec<bool>> {
    let mut order: Vec<(usize, usize)> = weights
        .iter()
        .enumerate()
        .flat_map(|(w, weight)| (0..weight.magnitudes.len()).map(move |k| (w, k)))
        .collect();
    let magnitude = |&(w, k): &(usize, usize)| weights[w].magnitudes[k];
    let count = share_of(sparsity, order.len());
    let mut removed: Vec<Vec<bool>> =
        weights.iter().map(|weight| vec![false; weight.magnitudes.len()]).collect();
    if count > 0 {
        order.select_nth_unstable_by(count - 1, |a, b| {
            magnitude(a).total_cmp(&magnitude(b)).then(a.cmp(b))
        });
        order[..count].iter().for_each(|&(w, k)| removed[w][k] = true);
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
