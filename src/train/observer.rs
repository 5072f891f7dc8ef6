//! Who watches a training, and may change its course.

use super::loss::Pass;
use crate::error::Result;
use crate::nn::{Model, NodeId};
use crate::scalar::Scalar;
use serde::{Deserialize, Deserializer, Serialize};

/// What is known after each epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Most epochs that there will be.
    pub epochs: usize,
    /// Loss of the epoch's steps, with dropout, a mean over batches.
    pub loss: f64,
    /// Metric on the validation part, of the last epoch that was validated; before the first one
    /// the worst that the metric can be, which is infinite, and NaN where it comes from a file.
    #[serde(deserialize_with = "finite_or_nan")]
    pub validation: f64,
}

/// JSON has no word for what is infinite, and says null.
fn finite_or_nan<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

/// How a training goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flow {
    /// As before.
    On,
    /// With a model of other shapes or other layers: the optimiser starts afresh, and the best
    /// epoch is looked for from here on, the model as it now comes among them.
    Changed,
    /// Not at all: this was the last epoch.
    Stop,
}

/// Watches a training, and may change the model between two epochs.
///
/// ```
/// use gnn_prune::train::{Epoch, Flow, Observer, Setup};
/// use gnn_prune::{Dataset, Gcn, Model, Result, Trainer};
///
/// /// Ends the training where the loss is low enough.
/// struct Below(f64);
///
/// impl Observer<f32> for Below {
///     fn after_epoch(&mut self, at: &Epoch, _: &mut Model) -> Result<Flow> {
///         Ok(if at.loss < self.0 { Flow::Stop } else { Flow::On })
///     }
/// }
///
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let fit = Trainer::protocol().fit_with(model, &data, Setup::new().observer(&mut Below(2.0)))?;
/// assert!(fit.losses.len() < 200);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub trait Observer<F: Scalar> {
    /// Nodes whose values [`Observer::after_forward`] reads of the trace, beside the output.
    /// Default: none.
    fn keeps(&self) -> &[NodeId] {
        &[]
    }

    /// Sees each forward pass in training mode, before its backward pass. Default: looks away.
    ///
    /// # Errors
    /// What ends the training.
    fn after_forward(&mut self, _pass: &Pass<F>) -> Result<()> {
        Ok(())
    }

    /// Sees each epoch, after it has been judged, and may change the model.
    ///
    /// # Errors
    /// What ends the training; [`Error::Interrupted`](crate::Error::Interrupted) is there for
    /// whoever wants it to stop without a result.
    fn after_epoch(&mut self, at: &Epoch, model: &mut Model<F>) -> Result<Flow>;
}

/// A function that is told of every epoch, and whose error ends the training.
pub type OnEpoch<'a> = &'a (dyn Fn(Epoch) -> Result<()> + Sync);

/// A function as an observer.
pub(super) struct Told<'a>(pub OnEpoch<'a>);

impl<F: Scalar> Observer<F> for Told<'_> {
    fn after_epoch(&mut self, at: &Epoch, _: &mut Model<F>) -> Result<Flow> {
        (self.0)(*at).map(|()| Flow::On)
    }
}
