//! What classifies graphs without a look at their edges.

use crate::error::Result;
use crate::nn::{
    Activation, ActivationFn, Dropout, Linear, Model, ModelBuilder, NodeId, Pooling, Readout,
};

/// The control of graph classification: a graph is the sum of its nodes, and its edges are not
/// read. A graph network that is no better has learned nothing from the structure.
///
/// `y_g = relu((Σ_{i∈g} x_i)·W₁ + b₁)·W₂ + b₂`, for molecules, whose one-hot features it counts; or
/// with a layer for each node in front, `h_i = relu(x_i·W₀ + b₀)` in the place of `x_i`, for
/// others.
///
/// *Shapes*: input `[nodes, in_channels]`, output `[graphs, out_channels]`.
///
/// *Source*: Errica et al., "A Fair Comparison of Graph Neural Networks for Graph Classification",
/// ICLR 2020, §4: baselines for chemical and for other sets.
///
/// ```
/// use gnn_prune::StructureFree;
/// let model = StructureFree::builder(7, 2).hidden(32).build(0)?;
/// assert_eq!(model.num_params(), (7 * 32 + 32) + (32 * 2 + 2));
/// let model = StructureFree::builder(7, 2).hidden(32).node_layer(true).build(0)?;
/// assert_eq!(model.num_params(), (7 * 32 + 32) + (32 * 32 + 32) + (32 * 2 + 2));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct StructureFree;

impl StructureFree {
    /// Starts a network from `in_channels` features per node to `out_channels` classes per graph.
    pub fn builder(in_channels: usize, out_channels: usize) -> StructureFreeBuilder {
        let (hidden, dropout, node_layer) = (32, 0.0, false);
        StructureFreeBuilder { in_channels, out_channels, hidden, dropout, node_layer }
    }
}

/// Builder of a network without structure; see [`StructureFree::builder`].
#[derive(Debug, Clone)]
pub struct StructureFreeBuilder {
    in_channels: usize,
    out_channels: usize,
    hidden: usize,
    dropout: f64,
    node_layer: bool,
}

impl StructureFreeBuilder {
    /// Width of the hidden layers, at least 1. Default 32.
    #[must_use]
    pub fn hidden(mut self, hidden: usize) -> Self {
        self.hidden = hidden;
        self
    }

    /// Dropout before the last linear map, in [0, 1). Default 0.
    #[must_use]
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// Whether each node passes a layer before the sum. Default: no.
    #[must_use]
    pub fn node_layer(mut self, has: bool) -> Self {
        self.node_layer = has;
        self
    }

    /// Builds the model and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a number outside its range.
    pub fn build(self, seed: u64) -> Result<Model> {
        let mut b = ModelBuilder::new(self.in_channels);
        let hidden = |b: &mut ModelBuilder, name: &str, x: NodeId| -> Result<NodeId> {
            let linear = Linear::builder(b.channels(x), self.hidden).build::<f32>()?;
            let x = b.add(name, linear, &[x])?;
            b.add(&format!("{name}_act"), Activation::new(ActivationFn::Relu), &[x])
        };
        let mut x = NodeId::INPUT;
        if self.node_layer {
            x = hidden(&mut b, "node", x)?;
        }
        let x = b.add("readout", Readout::new(Pooling::Sum), &[x])?;
        let mut x = hidden(&mut b, "hidden", x)?;
        if self.dropout != 0.0 {
            x = b.add("dropout", Dropout::new(self.dropout)?, &[x])?;
        }
        let out = Linear::builder(self.hidden, self.out_channels).build::<f32>()?;
        let y = b.add("out", out, &[x])?;
        b.build(y, seed)
    }
}
