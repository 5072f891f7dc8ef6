//! Criteria: how much a unit matters, one per file.

mod magnitude;
mod random;
mod subset;
mod taylor;

pub use magnitude::Magnitude;
pub use random::Random;
pub use subset::Subset;
pub use taylor::Taylor;

use super::group::GroupView;
use crate::scalar::Scalar;
use ndarray::Array1;

/// What a criterion looks at beside the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Needs {
    /// Nothing.
    Weights,
    /// Gradients of the loss on the training nodes, in evaluation mode.
    Gradients,
    /// What reads the units, with the values that it sees: [`GroupView::readers`].
    Readers,
}

/// Which units of a group go.
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

/// Scores the units of a coupled group; the lowest go first.
///
/// The largest weight of a unit, in any of the parameters that it has a slice of:
///
/// ```
/// use gnn_prune::ndarray::{Array1, Axis};
/// use gnn_prune::prune::{Criterion, GroupView};
/// use gnn_prune::{ChannelPruner, Dataset, Gcn, Scalar};
///
/// struct Largest;
///
/// impl<F: Scalar> Criterion<F> for Largest {
///     fn name(&self) -> &'static str {
///         "largest"
///     }
///
///     fn score(&self, group: &GroupView<F>) -> Array1<F> {
///         let mut scores = Array1::zeros(group.units);
///         for member in &group.members {
///             for (slice, unit) in member.param.value().axis_iter(Axis(member.axis)).zip(&member.unit_of) {
///                 if let Some(unit) = *unit {
///                     scores[unit] = slice.iter().fold(scores[unit], |most: F, w| most.max(w.abs()));
///                 }
///             }
///         }
///         scores
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
    /// Its word on the command line and in reports.
    fn name(&self) -> &'static str;

    /// What it looks at.
    fn needs(&self) -> Needs {
        Needs::Weights
    }

    /// One score per unit, all units of the group at once.
    fn score(&self, group: &GroupView<F>) -> Array1<F>;

    /// Which `count` units go: those with the lowest scores, ties broken by unit order, unless the
    /// criterion knows better.
    fn remove(&self, group: &GroupView<F>, count: usize) -> Removal {
        let scores = self.score(group);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].as_f64().total_cmp(&scores[b].as_f64()));
        order.truncate(count);
        Removal { order, ..Removal::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Axis, Init, Param};
    use crate::prune::Member;
    use ndarray::{Array2, array};

    fn group<'a>(param: &'a Param<f64>, gradient: &'a Array2<f64>) -> GroupView<'a, f64> {
        let member = Member {
            param,
            gradient: Some(gradient),
            axis: 1,
            unit_of: vec![Some(0), None, Some(1)],
            reads_input: false,
        };
        GroupView { name: "g", units: 2, members: vec![member], readers: Vec::new(), seed: 1 }
    }

    #[test]
    fn criteria_are_their_formulas_on_the_slices_of_each_unit() {
        let mut param = Param::new("weight", (2, 3), [Axis::In(0), Axis::Out], Init::Zeros);
        *param.value_mut() = array![[3.0, 9.0, 1.0], [-4.0, 9.0, 2.0]];
        let gradient = array![[1.0, 5.0, -2.0], [1.0, 5.0, 1.0]];
        let group = group(&param, &gradient);
        assert_eq!(Magnitude::l1().score(&group), array![7.0, 3.0]);
        assert_eq!(Magnitude::l2().score(&group), array![5.0, 5.0f64.sqrt()]);
        assert_eq!(Taylor::new().score(&group), array![1.0, 0.0]);
        assert_eq!(Random::new().score(&group), Random::new().score(&group));
    }
}
