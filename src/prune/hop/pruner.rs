//! The pruner of hops: criterion and amount make a plan.

use super::alone::{Hop, closest, hops, reads_graph};
use super::plan::HopPlan;
use super::removed::RemovedHop;
use crate::error::{Error, PruneError, Result};
use crate::log;
use crate::nn::Model;
use crate::prune::amount::{Amount, Compensation, share_of};
use crate::prune::criterion::{Choice, Criterion, Needs, choosing, scored};
use crate::prune::units::{HopUnits, Units};
use crate::reconstruct::Calibrate;
use crate::scalar::Scalar;
use crate::task::Task;

/// Builder of a [`HopPruner`]; see [`HopPruner::builder`].
#[derive(Debug, Clone)]
pub struct HopPrunerBuilder<F: Scalar = f32> {
    choice: Choice<F>,
    compensation: Compensation,
    calibrate: Calibrate,
}

choosing!(HopPruner, HopPrunerBuilder);

impl<F: Scalar> HopPrunerBuilder<F> {
    /// How many hops go, at least 1. Default: all.
    #[must_use]
    pub fn remove(self, hops: usize) -> Self {
        self.amount(Amount::Count(hops))
    }

    /// What [`HopPruner::prune`] does to the weights that read something new. Default
    /// [`Compensation::Refit`].
    #[must_use]
    pub fn compensation(mut self, compensation: Compensation) -> Self {
        self.compensation = compensation;
        self
    }

    /// Which nodes the refit looks at. Default [`Calibrate::All`].
    #[must_use]
    pub fn calibrate(mut self, calibrate: Calibrate) -> Self {
        self.calibrate = calibrate;
        self
    }

    /// Builds the pruner.
    ///
    /// # Errors
    /// [`Error::Setting`] for no hops, for a number outside its range, and for a budget of
    /// parameters, which a hop has none of.
    pub fn build(self) -> Result<HopPruner<F>> {
        self.choice.amount.check("share of the hops")?;
        match self.choice.amount {
            Amount::Count(0) => Err(Error::setting("hops to remove", 0, "at least 1, or all")),
            Amount::Budget(_) => {
                let legal = "a count, a share or a threshold: a hop has no parameters";
                Err(Error::setting("hops to remove", self.choice.amount, legal))
            }
            _ => Ok(HopPruner { settings: self }),
        }
    }
}

impl<F: Scalar> std::fmt::Display for HopPruner<F> {
    /// All that the outcome depends on, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let HopPrunerBuilder { choice, compensation, calibrate } = &self.settings;
        write!(f, "hops {} by {}, ", choice.amount, choice.criterion.name())?;
        write!(f, "compensation {compensation:?}, calibrated on {calibrate:?} nodes")?;
        choice.seed.map_or(Ok(()), |seed| write!(f, ", drawn by seed {seed}"))
    }
}

/// Takes from the layers that aggregate what comes over the edges, and leaves what they make of a
/// node: the hops that matter least, one by one, those that are left scored anew after each.
///
/// A GCN layer becomes a linear map with its weight, attention the map that it weighs, GIN its
/// inner network, LightGCN's hop nothing at all; GraphSAGE has two forms, of which the closer one
/// is taken. A model without any hop needs no graph to serve.
///
/// ```
/// use gnn_prune::prune::HopPruner;
/// use gnn_prune::{Ablation, Dataset, Gcn};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).layers(3).build(0)?;
/// let pruner = HopPruner::builder(Ablation::new()).remove(1).build()?;
/// println!("{}", pruner.plan(&model, &data)?);
/// let model = pruner.prune(&model, &data)?;
/// let kinds = model.nodes().iter().map(|node| node.layer().kind());
/// assert_eq!(kinds.filter(|kind| *kind == "gcn_conv").count(), 2);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct HopPruner<F: Scalar = f32> {
    settings: HopPrunerBuilder<F>,
}

impl<F: Scalar> HopPruner<F> {
    /// Starts a pruner that removes all hops; of fewer those that `criterion` scores lowest.
    pub fn builder(criterion: impl Criterion<F> + 'static) -> HopPrunerBuilder<F> {
        HopPrunerBuilder {
            choice: Choice::new(criterion, Amount::Share(1.0)),
            compensation: Compensation::Refit,
            calibrate: Calibrate::All,
        }
    }

    /// Which nodes least squares looks at; `None` where nothing is solved again.
    pub fn calibrates(&self) -> Option<Calibrate> {
        (self.settings.compensation == Compensation::Refit).then_some(self.settings.calibrate)
    }

    /// Whether every hop goes, so that nothing is chosen.
    pub fn removes_all(&self) -> bool {
        self.amount() == Amount::Share(1.0)
    }

    /// Plans and applies in one go: the model without the removed hops, compensated as the builder
    /// says.
    ///
    /// # Errors
    /// As [`HopPruner::plan`] and [`HopPlan::remove_refitted`].
    pub fn prune(&self, model: &Model<F>, task: &dyn Task<F>) -> Result<Model<F>> {
        let plan = self.plan(model, task)?;
        log::info!("{}", plan.to_string().trim_end().replace('\n', ";"));
        match self.settings.compensation {
            Compensation::None => plan.remove(model),
            Compensation::Refit => plan.remove_refitted(model, task, self.settings.calibrate),
        }
    }

    /// A model of a shape that [`HopPruner::plan`] leads to, made before `model` is trained: which
    /// hops are gone means nothing, and how many, where that depends on scores.
    ///
    /// # Errors
    /// [`Error::Setting`] where the model has fewer hops than shall go, and
    /// [`PruneError::Refused`] for a layer that cannot do without where all shall go.
    pub fn rehearse(&self, model: &Model<F>, task: &dyn Task<F>) -> Result<Model<F>> {
        let (found, wanted) = self.wanted(model)?;
        let hop = |hop: &Hop<F>| RemovedHop { name: hop.name.clone(), form: 0, score: None };
        let removed = found.iter().take(wanted.unwrap_or(0)).map(hop).collect();
        let left = HopPlan::new(self.criterion(), removed).remove(model)?;
        self.check(&left, task)?;
        Ok(left)
    }

    /// Decides which hops of `model` go, and scores those that are left anew after each. Ties are
    /// broken by layer order. A share is one of the hops that can go; where all go, nobody is
    /// asked.
    ///
    /// # Errors
    /// As [`HopPruner::rehearse`], [`Error::ShapeMismatch`] or [`Error::Model`] where model and
    /// task do not fit, and what the criterion refuses.
    pub fn plan(&self, model: &Model<F>, task: &dyn Task<F>) -> Result<HopPlan> {
        let Choice { criterion, amount, seed } = &self.settings.choice;
        criterion.needs().within(Needs::WEIGHTS, criterion.name(), "hops")?;
        self.settings.choice.check("hops")?;
        task.check(model)?;
        let (found, wanted) = self.wanted(model)?;
        let mut open: Vec<RemovedHop> = (found.iter().zip(closest(model, &found, task)?))
            .map(|(hop, form)| RemovedHop { name: hop.name.clone(), form, score: None })
            .collect();
        if wanted == Some(open.len()) && self.removes_all() {
            let plan = HopPlan::new(criterion.name(), open);
            self.check(&plan.remove(model)?, task)?;
            return Ok(plan);
        }
        let (mut removed, mut scored_before) = (Vec::<RemovedHop>::new(), 0);
        while wanted != Some(removed.len()) {
            let without = |hop: &RemovedHop| {
                let gone = removed.iter().chain([hop]).cloned().collect();
                HopPlan::new(criterion.name(), gone).remove(model)
            };
            let units = Units::Hops(HopUnits {
                whole: model,
                task,
                names: open.iter().map(|hop| hop.name.clone()).collect(),
                without: open.iter().map(without).collect::<Result<_>>()?,
                seed: seed.unwrap_or(model.seed()),
                scored: scored_before,
            });
            let scores = scored(&**criterion, &units)?;
            let Some(&k) = scores.lowest(1).first() else { break };
            let score = scores.values()[k];
            if matches!(*amount, Amount::Threshold(threshold) if score >= threshold) {
                break;
            }
            scored_before += open.len();
            removed.push(RemovedHop { score: Some(score), ..open.remove(k) });
        }
        Ok(HopPlan::new(criterion.name(), removed))
    }

    /// The hops of a model, and how many of them go, where that does not depend on scores.
    fn wanted(&self, model: &Model<F>) -> Result<(Vec<Hop<F>>, Option<usize>)> {
        let found = hops(model);
        let wanted = match self.amount() {
            Amount::Share(share) => Some(share_of(share, found.len())),
            Amount::Count(count) => Some(count),
            Amount::Threshold(_) | Amount::Budget(_) => None,
        };
        let legal =
            |most: usize| format!("at most {most}, the layers that can do without neighbours");
        match (self.amount(), wanted) {
            (Amount::Count(count), _) if count > found.len() => {
                Err(Error::setting("hops to remove", count, legal(found.len())))
            }
            (Amount::Share(share), Some(_)) if share > 0.0 && found.is_empty() => {
                let value = if self.removes_all() { "all".into() } else { share.to_string() };
                Err(Error::setting("hops to remove", value, legal(0)))
            }
            _ => Ok((found, wanted)),
        }
    }

    /// Where all hops shall go, no layer may read the graph any more.
    fn check(&self, left: &Model<F>, task: &dyn Task<F>) -> Result<()> {
        let reader = if self.removes_all() { reads_graph(left, task)? } else { None };
        let Some(layer) = reader else { return Ok(()) };
        let kind = left.node(&layer).map_or("layer", |id| left[id].layer().kind());
        let reason = format!("it reads the graph, and its kind, {kind}, has no form that does not");
        Err(PruneError::Refused { layer, reason }.into())
    }
}
