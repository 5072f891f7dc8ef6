//! The optimisers that a trainer makes by itself.

use super::adagrad::Adagrad;
use super::adam::Adam;
use super::optimizer::Optimizer;
use super::sgd::Sgd;
use crate::error::Result;
use crate::scalar::Scalar;

/// The optimisers that a [`Trainer`](super::Trainer) makes by itself, with its own learning rate
/// and weight decay; others are given to it by [`Setup::optimizer`](super::Setup::optimizer).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum UpdateRule {
    /// [`Adam`] with its default moments.
    #[default]
    Adam,
    /// [`Adam`] that moves no row without a gradient:
    /// [`AdamBuilder::lazy`](super::AdamBuilder::lazy).
    LazyAdam,
    /// [`Adagrad`].
    Adagrad,
    /// [`Sgd`].
    Sgd {
        /// Share of the last step that goes into the next, in [0, 1).
        momentum: f64,
    },
}

impl UpdateRule {
    pub(super) fn start<F: Scalar>(
        self,
        learning_rate: f64,
        weight_decay: f64,
    ) -> Result<Box<dyn Optimizer<F>>> {
        Ok(match self {
            UpdateRule::Adam | UpdateRule::LazyAdam => {
                let adam = Adam::builder().learning_rate(learning_rate).weight_decay(weight_decay);
                Box::new(adam.lazy(self == UpdateRule::LazyAdam).build()?)
            }
            UpdateRule::Adagrad => {
                let rule = Adagrad::builder().learning_rate(learning_rate);
                Box::new(rule.weight_decay(weight_decay).build()?)
            }
            UpdateRule::Sgd { momentum } => Box::new(
                Sgd::builder()
                    .learning_rate(learning_rate)
                    .weight_decay(weight_decay)
                    .momentum(momentum)
                    .build()?,
            ),
        })
    }
}

impl std::fmt::Display for UpdateRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UpdateRule::Adam => f.write_str("Adam"),
            UpdateRule::LazyAdam => f.write_str("lazy Adam"),
            UpdateRule::Adagrad => f.write_str("Adagrad"),
            UpdateRule::Sgd { momentum } => write!(f, "SGD with momentum {momentum}"),
        }
    }
}
