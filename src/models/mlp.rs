//! The multi-layer perceptron, which knows no graph.

use super::stack::{Stack, stack_setters};
use crate::error::Result;
use crate::nn::{Linear, Model};

/// A stack of [`Linear`] layers: what a graph network is distilled into where inference has no
/// graph.
///
/// ```
/// use gnn_prune::Mlp;
/// let model = Mlp::builder(64, 10).hidden(32).build(0)?;
/// assert_eq!(model.num_params(), (64 * 32 + 32) + (32 * 10 + 10));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct Mlp;

impl Mlp {
    /// Starts a network from `in_channels` features to `out_channels` classes.
    pub fn builder(in_channels: usize, out_channels: usize) -> MlpBuilder {
        MlpBuilder { stack: Stack::new(in_channels, out_channels) }
    }
}

/// Builder of a multi-layer perceptron; see [`Mlp::builder`].
#[derive(Debug, Clone)]
pub struct MlpBuilder {
    stack: Stack,
}

impl MlpBuilder {
    stack_setters!();

    /// Builds the model and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a number outside its range.
    pub fn build(self, seed: u64) -> Result<Model> {
        self.stack.build("linear", seed, |i, o| Ok(Box::new(Linear::builder(i, o).build::<f32>()?)))
    }
}
