//! The graph isomorphism network for graphs.

use crate::error::{Error, Result};
use crate::nn::{
    Activation, ActivationFn, Add, BatchNorm, Dropout, GinAggregation, Linear, Model, ModelBuilder,
    NodeId, Pooling, Readout,
};

/// The graph isomorphism network as a classifier of graphs.
///
/// Each of its layers aggregates, then has a network of two linear maps with batch norm and ReLU
/// between them, then batch norm and ReLU. The features and what each layer puts out are pooled
/// over the nodes of a graph; each pooled value passes dropout and a linear map to the classes, and
/// the sum of these is the output:
///
/// `h⁰ = X`, `hᵏ = relu(bn(relu(bn(((1+ε)·hᵏ⁻¹ + A·hᵏ⁻¹)·W₁))·W₂))`,
/// `y_g = Σ_k dropout(pool_{i∈g} hᵏ_i)·Vₖ`.
///
/// *Shapes*: input `[nodes, in_channels]`, output `[graphs, out_channels]`; it runs on batches
/// whose rows are told by [`Rows::graphs`](crate::nn::Rows::graphs).
///
/// *Source*: Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019, eq. 4.1, 4.2 and §7;
/// their code drops what the linear maps `Vₖ` put out, where this drops what goes in.
///
/// ```
/// use gnn_prune::GinGraphs;
/// let model = GinGraphs::builder(7, 2).hidden(32).layers(4).build(0)?;
/// // Four layers by name, and a readout of the input and of each.
/// assert!(model.node("aggregate4").is_some() && model.node("readout0").is_some());
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct GinGraphs;

impl GinGraphs {
    /// Starts a network from `in_channels` features per node to `out_channels` classes per graph.
    pub fn builder(in_channels: usize, out_channels: usize) -> GinGraphsBuilder {
        GinGraphsBuilder {
            in_channels,
            out_channels,
            hidden: 32,
            layers: 4,
            dropout: 0.5,
            train_eps: false,
            pooling: Pooling::Sum,
        }
    }
}

/// Builder of a graph isomorphism network for graphs; see [`GinGraphs::builder`].
#[derive(Debug, Clone)]
pub struct GinGraphsBuilder {
    in_channels: usize,
    out_channels: usize,
    hidden: usize,
    layers: usize,
    dropout: f64,
    train_eps: bool,
    pooling: Pooling,
}

impl GinGraphsBuilder {
    /// Width of the hidden layers, at least 1. Default 32; the paper has 64 for social networks.
    #[must_use]
    pub fn hidden(mut self, hidden: usize) -> Self {
        self.hidden = hidden;
        self
    }

    /// Number of layers that aggregate, at least 1. Default 4, which the paper calls 5, counting
    /// the input.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Dropout before the linear maps to the classes, in [0, 1). Default 0.5.
    #[must_use]
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// Whether ε is learned in each layer; it begins at 0. Default: no, it stays 0 (the paper's
    /// GIN-0).
    #[must_use]
    pub fn train_eps(mut self, trains: bool) -> Self {
        self.train_eps = trains;
        self
    }

    /// What a graph takes from its nodes. Default: [`Pooling::Sum`].
    #[must_use]
    pub fn pooling(mut self, pooling: Pooling) -> Self {
        self.pooling = pooling;
        self
    }

    /// Builds the model and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(self, seed: u64) -> Result<Model> {
        if self.layers == 0 {
            return Err(Error::setting("layers", 0, "at least 1"));
        }
        let mut b = ModelBuilder::new(self.in_channels);
        let (mut x, mut scores) = (NodeId::INPUT, vec![self.score(&mut b, 0, NodeId::INPUT)?]);
        for k in 1..=self.layers {
            x = self.layer(&mut b, k, x)?;
            scores.push(self.score(&mut b, k, x)?);
        }
        let y = b.add("sum", Add::new(scores.len())?, &scores)?;
        b.build(y, seed)
    }

    fn layer(&self, b: &mut ModelBuilder, k: usize, x: NodeId) -> Result<NodeId> {
        let aggregation = GinAggregation::<f32>::new(0.0)?.train_eps(self.train_eps);
        let mut x = b.add(&format!("aggregate{k}"), aggregation, &[x])?;
        for part in ["inner", "outer"] {
            let linear = Linear::builder(b.channels(x), self.hidden).build::<f32>()?;
            x = b.add(&format!("{part}{k}"), linear, &[x])?;
            let norm = BatchNorm::<f32>::new(self.hidden)?;
            x = b.add(&format!("{part}_norm{k}"), norm, &[x])?;
            let relu = Activation::new(ActivationFn::Relu);
            x = b.add(&format!("{part}_act{k}"), relu, &[x])?;
        }
        Ok(x)
    }

    /// What layer `k` has to say of the classes.
    fn score(&self, b: &mut ModelBuilder, k: usize, x: NodeId) -> Result<NodeId> {
        let mut pooled = b.add(&format!("readout{k}"), Readout::new(self.pooling), &[x])?;
        if self.dropout != 0.0 {
            pooled = b.add(&format!("dropout{k}"), Dropout::new(self.dropout)?, &[pooled])?;
        }
        let linear = Linear::builder(b.channels(x), self.out_channels).build::<f32>()?;
        b.add(&format!("score{k}"), linear, &[pooled])
    }
}
