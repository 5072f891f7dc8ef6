//! What a pruner asks: which of its units matter least.

use super::amount::Amount;
use super::units::{Units, unserved};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use ndarray::Array1;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// What a criterion looks at: a set, joined by `|`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs(u8);

impl Needs {
    /// Nothing at all.
    pub const NOTHING: Needs = Needs(0);
    /// The units themselves: weights, or edges.
    pub const WEIGHTS: Needs = Needs(1);
    /// Gradients of the loss on the training nodes, in evaluation mode.
    pub const GRADIENTS: Needs = Needs(1 << 1);
    /// The diagonal of the empirical Fisher information: the mean over the training nodes of the
    /// square of each node's own gradient. A forward and a backward pass for every training node.
    pub const FISHER: Needs = Needs(1 << 2);
    /// The values of the nodes that carry the units, on all nodes of the graph, in evaluation mode.
    pub const ACTIVATIONS: Needs = Needs(1 << 3);
    /// What reads the units: linear maps with the Gram matrix of what they see and their weights.
    pub const READERS: Needs = Needs(1 << 4);

    /// Whether all of `other` is in it.
    pub const fn contains(self, other: Needs) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is looked at.
    pub const fn is_nothing(self) -> bool {
        self.0 == 0
    }

    const NAMED: [(Needs, &'static str); 5] = [
        (Needs::WEIGHTS, "weights"),
        (Needs::GRADIENTS, "gradients"),
        (Needs::FISHER, "the Fisher diagonal"),
        (Needs::ACTIVATIONS, "activations"),
        (Needs::READERS, "readers"),
    ];

    /// Refuses what is not `offered` to a criterion of this name by units of a kind.
    pub(super) fn within(self, offered: Needs, criterion: &str, units: &'static str) -> Result<()> {
        let lacking =
            Needs::NAMED.iter().find(|(need, _)| self.contains(*need) && !offered.contains(*need));
        lacking.map_or(Ok(()), |(_, name)| {
            let reason = format!("it asks for {name}, which {units} do not have");
            Err(unserved(criterion, units, reason))
        })
    }
}

impl std::ops::BitOr for Needs {
    type Output = Needs;

    fn bitor(self, other: Needs) -> Needs {
        Needs(self.0 | other.0)
    }
}

/// A score per unit; the lowest go first.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    values: Array1<f64>,
    /// What decides between equal values.
    ties: Option<Array1<f64>>,
    comparable: bool,
}

impl Scores {
    /// Scores that stand for something only beside those of the same group or matrix.
    pub fn new(values: impl IntoIterator<Item = f64>) -> Self {
        Self { values: values.into_iter().collect(), ties: None, comparable: false }
    }

    /// The same, and of units with equal scores that with the smaller of these goes first.
    #[must_use]
    pub fn then_by(mut self, ties: impl IntoIterator<Item = f64>) -> Self {
        self.ties = Some(ties.into_iter().collect());
        self
    }

    /// The same, and they mean the same in every group and matrix: where units compete across the
    /// model, they are compared as they are.
    #[must_use]
    pub fn comparable(mut self) -> Self {
        self.comparable = true;
        self
    }

    /// The scores, by unit.
    pub fn values(&self) -> &Array1<f64> {
        &self.values
    }

    pub(super) fn values_mut(&mut self) -> &mut Array1<f64> {
        &mut self.values
    }

    pub(super) fn is_comparable(&self) -> bool {
        self.comparable
    }

    /// Which of two units goes first.
    pub(super) fn compare(&self, a: usize, b: usize) -> Ordering {
        let by = |scores: &Array1<f64>| scores[a].total_cmp(&scores[b]);
        by(&self.values).then_with(|| self.ties.as_ref().map_or(Ordering::Equal, by))
    }

    /// The `count` units that go first, in their order; ties are broken by unit order.
    pub(super) fn lowest(&self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.values.len()).collect();
        order.sort_by(|&a, &b| self.compare(a, b));
        order.truncate(count);
        order
    }
}

impl<F: Scalar> From<Array1<F>> for Scores {
    fn from(values: Array1<F>) -> Self {
        Self::new(values.into_iter().map(Scalar::as_f64))
    }
}

/// Which units go.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Removal {
    /// The units that go, in the order in which they go.
    pub order: Vec<usize>,
    /// For a criterion that knows it, what all removals up to each cost together: the share of what
    /// the readers compute that the units that are left cannot make up for. Of a criterion that
    /// improves on its own order afterwards, the curve of the order.
    pub losses: Vec<f64>,
    /// The same for the units that go in the end.
    pub loss: Option<f64>,
}

/// Scores the units of a pruner, of whatever kind: channels (whole heads among them), weights,
/// residual blocks, edges. The lowest go first.
///
/// A criterion serves the kinds that its formula makes sense for, and refuses the others by
/// [`Units::unserved`]. The largest weight of a unit, in any of the parameters that it has a slice
/// of:
///
/// ```
/// use gnn_prune::ndarray::{Array1, Axis};
/// use gnn_prune::prune::{Criterion, Scores, Units};
/// use gnn_prune::{ChannelPruner, Dataset, Gcn, Result, Scalar};
///
/// struct Largest;
///
/// impl<F: Scalar> Criterion<F> for Largest {
///     fn name(&self) -> &str {
///         "largest"
///     }
///
///     fn score(&self, units: &Units<F>) -> Result<Scores> {
///         let Units::Channels(group) = units else { return Err(units.unserved("largest")) };
///         let mut scores = Array1::zeros(group.units);
///         for member in &group.members {
///             for (slice, unit) in member.param.value().axis_iter(Axis(member.axis)).zip(&member.unit_of) {
///                 if let Some(unit) = *unit {
///                     scores[unit] = slice.iter().fold(scores[unit], |most: F, w| most.max(w.abs()));
///                 }
///             }
///         }
///         Ok(scores.into())
///     }
/// }
///
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).layers(2).build(0)?;
/// let small = ChannelPruner::builder(Largest).ratio(0.5).build()?.plan(&model, &data)?.shrink(&model)?;
/// assert_eq!(small.num_params(), 64 * 8 + 8 + 8 * 10 + 10);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub trait Criterion<F: Scalar>: Send + Sync {
    /// Its word in recipes, on the command line and in reports.
    fn name(&self) -> &str;

    /// What it looks at. Default: the weights.
    fn needs(&self) -> Needs {
        Needs::WEIGHTS
    }

    /// One score per unit, all of them at once.
    ///
    /// # Errors
    /// [`PruneError::Unserved`](crate::error::PruneError::Unserved) for a kind of units that it
    /// does not serve, and what it finds wrong with those that it does.
    fn score(&self, units: &Units<F>) -> Result<Scores>;

    /// Which `count` units go: those with the lowest scores, ties broken by unit order, unless the
    /// criterion knows better.
    ///
    /// # Errors
    /// As [`Criterion::score`].
    fn remove(&self, units: &Units<F>, count: usize) -> Result<Removal> {
        let order = scored(self, units)?.lowest(count);
        Ok(Removal { order, ..Removal::default() })
    }
}

/// One that is shared, or chosen at run time.
impl<F: Scalar, C: Criterion<F> + ?Sized> Criterion<F> for Arc<C> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn needs(&self) -> Needs {
        (**self).needs()
    }

    fn score(&self, units: &Units<F>) -> Result<Scores> {
        (**self).score(units)
    }

    fn remove(&self, units: &Units<F>, count: usize) -> Result<Removal> {
        (**self).remove(units, count)
    }
}

/// One that is chosen at run time.
impl<F: Scalar, C: Criterion<F> + ?Sized> Criterion<F> for Box<C> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn needs(&self) -> Needs {
        (**self).needs()
    }

    fn score(&self, units: &Units<F>) -> Result<Scores> {
        (**self).score(units)
    }

    fn remove(&self, units: &Units<F>, count: usize) -> Result<Removal> {
        (**self).remove(units, count)
    }
}

/// The scores, refused where they are not one number per unit.
pub(super) fn scored<F: Scalar, C: Criterion<F> + ?Sized>(
    criterion: &C,
    units: &Units<F>,
) -> Result<Scores> {
    let scores = criterion.score(units)?;
    let at = || format!("scores of {} by `{}`", units.name(), criterion.name());
    let lengths = [Some(scores.values.len()), scores.ties.as_ref().map(Array1::len)];
    if let Some(found) = lengths.into_iter().flatten().find(|&len| len != units.len()) {
        let (expected, found) = ((units.len(), 1), (found, 1));
        return Err(Error::ShapeMismatch { at: at(), expected, found });
    }
    match scores.values.iter().find(|score| score.is_nan()) {
        Some(&value) => Err(Error::NotFinite { at: at(), value }),
        None => Ok(scores),
    }
}

/// What every pruner is told: by what units are chosen, how many go, and what is drawn.
pub(super) struct Choice<F: Scalar> {
    pub criterion: Arc<dyn Criterion<F>>,
    pub amount: Amount,
    /// Seed of what the criterion draws; without one the model's, or that of the stage.
    pub seed: Option<u64>,
}

impl<F: Scalar> Choice<F> {
    pub(super) fn new(criterion: impl Criterion<F> + 'static, amount: Amount) -> Self {
        Self { criterion: Arc::new(criterion), amount, seed: None }
    }

    /// Refuses a threshold for what does not look at the units: how many go depends on what they
    /// are.
    pub(super) fn check(&self, units: &str) -> Result<()> {
        if self.amount.depends_on_scores() && self.criterion.needs().is_nothing() {
            let legal = format!("a share or a count: `{}` looks at nothing", self.criterion.name());
            return Err(Error::setting(format!("amount of {units}"), self.amount, legal));
        }
        Ok(())
    }
}

impl<F: Scalar> Clone for Choice<F> {
    fn clone(&self) -> Self {
        Self { criterion: self.criterion.clone(), ..*self }
    }
}

impl<F: Scalar> fmt::Debug for Choice<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {}", self.amount, self.criterion.name())?;
        self.seed.map_or(Ok(()), |seed| write!(f, ", drawn by seed {seed}"))
    }
}

/// What all pruners have alike; each holds its builder as `settings`, and that a [`Choice`].
macro_rules! choosing {
    ($pruner:ident, $builder:ident) => {
        impl<F: $crate::scalar::Scalar> $builder<F> {
            /// How much goes. Default: see the builder's first function.
            #[must_use]
            pub fn amount(mut self, amount: $crate::prune::Amount) -> Self {
                self.choice.amount = amount;
                self
            }
        }

        impl<F: $crate::scalar::Scalar> $pruner<F> {
            /// How much goes.
            pub fn amount(&self) -> $crate::prune::Amount {
                self.settings.choice.amount
            }

            /// The criterion's name.
            pub fn criterion(&self) -> &str {
                self.settings.choice.criterion.name()
            }

            /// The same amount by another criterion.
            #[must_use]
            pub fn with_criterion(
                &self,
                criterion: impl $crate::prune::Criterion<F> + 'static,
            ) -> Self {
                let mut other = self.clone();
                other.settings.choice.criterion = std::sync::Arc::new(criterion);
                other
            }

            /// The same pruner with another amount.
            ///
            /// # Errors
            /// [`Error::Setting`](crate::Error::Setting) for an amount out of range.
            pub fn with_amount(
                &self,
                amount: $crate::prune::Amount,
            ) -> $crate::error::Result<Self> {
                self.settings.clone().amount(amount).build()
            }

            /// The same pruner with a seed for what its criterion draws. Default: the model's, or
            /// that of its stage in a [`Compression`](crate::Compression).
            #[must_use]
            pub fn with_seed(&self, seed: u64) -> Self {
                let mut other = self.clone();
                other.settings.choice.seed = Some(seed);
                other
            }

            /// The same pruner, with this seed if it has none.
            pub(crate) fn or_seed(&self, seed: u64) -> Self {
                self.with_seed(self.settings.choice.seed.unwrap_or(seed))
            }
        }
    };
}
pub(super) use choosing;
