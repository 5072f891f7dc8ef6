//! The graph convolutional network.

use super::stack::{Stack, stack_setters};
use crate::error::Result;
use crate::nn::{GcnConv, Model};

/// A stack of [`GcnConv`] layers: recipe of Kipf and Welling, ICLR 2017, with dropout, residual and
/// jumping connections by choice.
///
/// ```
/// use gnn_prune::Gcn;
/// let model = Gcn::builder(64, 10).hidden(32).layers(3).residual(true).build(0)?;
/// assert_eq!(model.num_params(), (64 * 32 + 32) + (32 * 32 + 32) + (32 * 10 + 10));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct Gcn;

impl Gcn {
    /// Starts a network from `in_channels` features to `out_channels` classes.
    pub fn builder(in_channels: usize, out_channels: usize) -> GcnBuilder {
        GcnBuilder { stack: Stack::new(in_channels, out_channels) }
    }
}

/// Builder of a graph convolutional network; see [`Gcn::builder`].
#[derive(Debug, Clone)]
pub struct GcnBuilder {
    stack: Stack,
}

impl GcnBuilder {
    stack_setters!();

    /// Builds the model and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a number outside its range.
    pub fn build(self, seed: u64) -> Result<Model> {
        self.stack.build("conv", seed, |i, o| Ok(Box::new(GcnConv::builder(i, o).build::<f32>()?)))
    }
}
