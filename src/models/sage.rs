//! GraphSAGE.

use super::stack::{Stack, stack_setters};
use crate::error::Result;
use crate::nn::{Aggregation, Model, SageConv};

/// A stack of [`SageConv`] layers: recipe of Hamilton et al., NeurIPS 2017, on the whole graph
/// instead of sampled neighbours.
///
/// ```
/// use gnn_prune::Sage;
/// let model = Sage::builder(64, 10).hidden(32).build(0)?;
/// assert_eq!(model.num_params(), (2 * 64 * 32 + 32) + (2 * 32 * 10 + 10));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct Sage;

impl Sage {
    /// Starts a network from `in_channels` features to `out_channels` classes.
    pub fn builder(in_channels: usize, out_channels: usize) -> SageBuilder {
        SageBuilder { stack: Stack::new(in_channels, out_channels), aggregation: Aggregation::Mean }
    }
}

/// Builder of a GraphSAGE network; see [`Sage::builder`].
#[derive(Debug, Clone)]
pub struct SageBuilder {
    stack: Stack,
    aggregation: Aggregation,
}

impl SageBuilder {
    stack_setters!();

    /// What a node takes from its in-neighbours. Default: [`Aggregation::Mean`].
    #[must_use]
    pub fn aggregation(mut self, aggregation: Aggregation) -> Self {
        self.aggregation = aggregation;
        self
    }

    /// Builds the model and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a number outside its range.
    pub fn build(self, seed: u64) -> Result<Model> {
        let aggregation = self.aggregation;
        self.stack.build("conv", seed, |i, o| {
            Ok(Box::new(SageConv::builder(i, o).aggregation(aggregation).build::<f32>()?))
        })
    }
}
