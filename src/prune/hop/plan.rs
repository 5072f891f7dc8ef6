//! Which hops go.

use super::alone::{replaced, taken_apart};
use super::removed::RemovedHop;
use crate::error::Result;
use crate::nn::Model;
use crate::reconstruct::{Calibrate, Settings, Unchanged, solve_again};
use crate::scalar::Scalar;
use crate::task::Task;
use serde::{Deserialize, Serialize};

/// Which hops go, in this order: made by a [`HopPruner`](super::HopPruner) or by name, printed for
/// review, stored as JSON, applied to any model that has them.
///
/// ```
/// use gnn_prune::nn::Cx;
/// use gnn_prune::prune::HopPlan;
/// use gnn_prune::{Dataset, Gcn};
/// let data = Dataset::sbm(200, 3).features(8).build()?;
/// let model = Gcn::builder(8, 3).hidden(16).build(0)?;
/// let alone = HopPlan::of(["conv1", "conv2"]).remove(&model)?;
/// assert_eq!(alone.num_params(), model.num_params());
/// assert!(alone.infer(&Cx::without_graph(), data.features()).is_ok());
/// let refused = HopPlan::of(["dropout1"]).remove(&model).unwrap_err();
/// assert!(refused.to_string().contains("has no form that reads no neighbours"));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HopPlan {
    criterion: String,
    removed: Vec<RemovedHop>,
}

impl HopPlan {
    /// Takes their neighbours from these layers; the first form of each takes its place.
    pub fn of<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let hop = |name: S| RemovedHop { name: name.into(), form: 0, score: None };
        Self::new("choice", names.into_iter().map(hop).collect())
    }

    pub(super) fn new(criterion: &str, removed: Vec<RemovedHop>) -> Self {
        Self { criterion: criterion.into(), removed }
    }

    /// The hops that go.
    pub fn removed(&self) -> &[RemovedHop] {
        &self.removed
    }

    /// The model without these hops; all layers keep their names, and of a layer that becomes
    /// several the last has it.
    ///
    /// # Errors
    /// [`PruneError::Refused`](crate::error::PruneError::Refused) with the layer's name where it is
    /// none of the model, or cannot do without its neighbours.
    pub fn remove<F: Scalar>(&self, model: &Model<F>) -> Result<Model<F>> {
        taken_apart(&replaced(model, &self.removed)?)
    }

    /// As [`HopPlan::remove`], and every linear map that reads something new is solved again by
    /// least squares, from the input to the output, against what it computed with its neighbours:
    /// a layer that is one map for what the layer put out, bias and attention included, one of two
    /// maps (GIN) map by map. What no map follows, such as LightGCN's, stays as it is.
    ///
    /// The neighbours' means are then foretold from the nodes' own features, for the nodes that
    /// `calibrate` says; no label is read.
    ///
    /// *Source*: the reconstruction of He et al., ICCV 2017, eq. 1, as in
    /// [`ChannelPlan::shrink_refitted`](crate::ChannelPlan::shrink_refitted).
    ///
    /// # Errors
    /// As [`HopPlan::remove`], and what a forward pass on all of `task` returns.
    pub fn remove_refitted<F: Scalar>(
        &self,
        model: &Model<F>,
        task: &dyn Task<F>,
        calibrate: Calibrate,
    ) -> Result<Model<F>> {
        let settings = Settings { calibrate, grid: None };
        let start = replaced(model, &self.removed)?;
        let solved = solve_again(model, &start, task, settings, &mut Unchanged::default())?;
        taken_apart(&solved.model)
    }
}

impl std::fmt::Display for HopPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "hop plan by {}: {} hops go", self.criterion, self.removed.len())?;
        for RemovedHop { name, form, score } in &self.removed {
            write!(f, "  {name}, form {form}")?;
            match score {
                Some(score) => writeln!(f, ": {score:.4}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
