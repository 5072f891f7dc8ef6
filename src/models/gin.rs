//! The graph isomorphism network.

use super::stack::{Stack, stack_setters};
use crate::error::Result;
use crate::nn::{GinConv, Model};

/// A stack of [`GinConv`] layers with a learned ε: recipe of Xu et al., ICLR 2019, for node tasks;
/// [`GinGraphs`](super::GinGraphs) classifies graphs.
///
/// ```
/// use gnn_prune::Gin;
/// let model = Gin::builder(64, 10).hidden(32).build(0)?;
/// assert_eq!(model.num_params(), (1 + 64 * 32 + 32 + 32 * 32 + 32) + (1 + 32 * 32 + 32 + 32 * 10 + 10));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct Gin;

impl Gin {
    /// Starts a network from `in_channels` features to `out_channels` classes.
    pub fn builder(in_channels: usize, out_channels: usize) -> GinBuilder {
        GinBuilder { stack: Stack::new(in_channels, out_channels) }
    }
}

/// Builder of a graph isomorphism network; see [`Gin::builder`].
#[derive(Debug, Clone)]
pub struct GinBuilder {
    stack: Stack,
}

impl GinBuilder {
    stack_setters!();

    /// Builds the model and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a number outside its range.
    pub fn build(self, seed: u64) -> Result<Model> {
        let hidden = self.stack.hidden;
        self.stack.build("conv", seed, |i, o| {
            Ok(Box::new(GinConv::builder(i, hidden, o).train_eps(true).build::<f32>()?))
        })
    }
}
