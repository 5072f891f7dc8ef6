//! Networks that propagate far with few parameters: SGC, APPNP and GCNII, and deep residual stacks.

use super::stack::{Normalization, Stack};
use crate::error::{Error, Result};
use crate::nn::{
    Activation, ActivationFn, Add, Appnp, Dropout, Gcn2Conv, GcnConv, Linear, Model, ModelBuilder,
    NodeId, SgConv,
};

fn dropped(b: &mut ModelBuilder, name: &str, p: f64, x: NodeId) -> Result<NodeId> {
    if p == 0.0 { Ok(x) } else { b.add(name, Dropout::new(p)?, &[x]) }
}

/// One [`SgConv`], dropout before it: recipe of Wu et al., ICML 2019. It has no hidden layer to
/// prune.
///
/// ```
/// use gnn_prune::Sgc;
/// assert_eq!(Sgc::builder(64, 10).build(0)?.num_params(), 64 * 10 + 10);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct Sgc;

impl Sgc {
    /// Starts a network from `in_channels` features to `out_channels` classes.
    pub fn builder(in_channels: usize, out_channels: usize) -> SgcBuilder {
        SgcBuilder { in_channels, out_channels, hops: 2, dropout: 0.5 }
    }
}

/// Builder of a simplified graph convolution; see [`Sgc::builder`].
#[derive(Debug, Clone)]
pub struct SgcBuilder {
    in_channels: usize,
    out_channels: usize,
    hops: usize,
    dropout: f64,
}

impl SgcBuilder {
    /// How often features are aggregated. Default 2.
    #[must_use]
    pub fn hops(mut self, hops: usize) -> Self {
        self.hops = hops;
        self
    }

    /// Dropout on the features, in [0, 1). Default 0.5.
    #[must_use]
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// Builds the model and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(self, seed: u64) -> Result<Model> {
        let mut b = ModelBuilder::new(self.in_channels);
        let x = dropped(&mut b, "dropout1", self.dropout, NodeId::INPUT)?;
        let y = b.add(
            "conv1",
            SgConv::builder(self.in_channels, self.out_channels).hops(self.hops).build::<f32>()?,
            &[x],
        )?;
        b.build(y, seed)
    }
}

/// A perceptron whose logits an [`Appnp`] propagates: recipe of Gasteiger et al., ICLR 2019.
///
/// ```
/// use gnn_prune::AppnpNet;
/// assert_eq!(AppnpNet::builder(64, 10).hidden(32).build(0)?.num_params(), (64 * 32 + 32) + (32 * 10 + 10));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct AppnpNet;

impl AppnpNet {
    /// Starts a network from `in_channels` features to `out_channels` classes.
    pub fn builder(in_channels: usize, out_channels: usize) -> AppnpNetBuilder {
        AppnpNetBuilder {
            in_channels,
            out_channels,
            hidden: 64,
            layers: 2,
            hops: 10,
            alpha: 0.1,
            dropout: 0.5,
        }
    }
}

/// Builder of an APPNP network; see [`AppnpNet::builder`].
#[derive(Debug, Clone)]
pub struct AppnpNetBuilder {
    in_channels: usize,
    out_channels: usize,
    hidden: usize,
    layers: usize,
    hops: usize,
    alpha: f64,
    dropout: f64,
}

impl AppnpNetBuilder {
    /// Width of the hidden layers, at least 1. Default 64.
    #[must_use]
    pub fn hidden(mut self, hidden: usize) -> Self {
        self.hidden = hidden;
        self
    }

    /// Layers of the perceptron, at least 1. Default 2.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// How often logits are propagated. Default 10.
    #[must_use]
    pub fn hops(mut self, hops: usize) -> Self {
        self.hops = hops;
        self
    }

    /// Probability to return, in [0, 1]. Default 0.1.
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Dropout on the input of every layer, in [0, 1). Default 0.5.
    #[must_use]
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
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
        let mut x = NodeId::INPUT;
        for k in 1..=self.layers {
            x = dropped(&mut b, &format!("dropout{k}"), self.dropout, x)?;
            let out = if k == self.layers { self.out_channels } else { self.hidden };
            x = b.add(
                &format!("linear{k}"),
                Linear::builder(b.channels(x), out).build::<f32>()?,
                &[x],
            )?;
            if k < self.layers {
                x = b.add(&format!("act{k}"), Activation::new(ActivationFn::Relu), &[x])?;
            }
        }
        let y = b.add("propagation", Appnp::new(self.hops, self.alpha)?, &[x])?;
        b.build(y, seed)
    }
}

/// Deep [`Gcn2Conv`] layers between two linear ones: recipe of Chen et al., "GCNII", ICML 2020.
///
/// ```
/// use gnn_prune::Gcn2;
/// let model = Gcn2::builder(64, 10).hidden(32).layers(8).build(0)?;
/// assert_eq!(model.num_params(), (64 * 32 + 32) + 8 * 32 * 32 + (32 * 10 + 10));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct Gcn2;

impl Gcn2 {
    /// Starts a network from `in_channels` features to `out_channels` classes.
    pub fn builder(in_channels: usize, out_channels: usize) -> Gcn2Builder {
        Gcn2Builder {
            in_channels,
            out_channels,
            hidden: 64,
            layers: 16,
            alpha: 0.1,
            theta: 0.5,
            dropout: 0.5,
        }
    }
}

/// Builder of a GCNII; see [`Gcn2::builder`].
#[derive(Debug, Clone)]
pub struct Gcn2Builder {
    in_channels: usize,
    out_channels: usize,
    hidden: usize,
    layers: usize,
    alpha: f64,
    theta: f64,
    dropout: f64,
}

impl Gcn2Builder {
    /// Width of the hidden layers, at least 1. Default 64.
    #[must_use]
    pub fn hidden(mut self, hidden: usize) -> Self {
        self.hidden = hidden;
        self
    }

    /// Number of graph convolutions, at least 1. Default 16.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Weight of the initial residual, in [0, 1]. Default 0.1.
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// θ of `β_l = ln(θ/l + 1)`, from 0 to e − 1. Default 0.5.
    #[must_use]
    pub fn theta(mut self, theta: f64) -> Self {
        self.theta = theta;
        self
    }

    /// Dropout on the input of every layer, in [0, 1). Default 0.5.
    #[must_use]
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
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
        let x = dropped(&mut b, "dropout_in", self.dropout, NodeId::INPUT)?;
        let x = b.add(
            "linear_in",
            Linear::builder(self.in_channels, self.hidden).build::<f32>()?,
            &[x],
        )?;
        let first = b.add("act_in", Activation::new(ActivationFn::Relu), &[x])?;
        let mut x = first;
        for k in 1..=self.layers {
            let y = dropped(&mut b, &format!("dropout{k}"), self.dropout, x)?;
            let beta = (self.theta / k as f64 + 1.0).ln();
            let y = b.add(
                &format!("conv{k}"),
                Gcn2Conv::<f32>::new(self.hidden, self.alpha, beta)?,
                &[y, first],
            )?;
            x = b.add(&format!("act{k}"), Activation::new(ActivationFn::Relu), &[y])?;
        }
        let x = dropped(&mut b, "dropout_out", self.dropout, x)?;
        let y = b.add(
            "linear_out",
            Linear::builder(self.hidden, self.out_channels).build::<f32>()?,
            &[x],
        )?;
        b.build(y, seed)
    }
}

/// Deep residual graph convolutions with pre-activation: norm, activation, dropout, convolution,
/// sum, as often as there are layers.
///
/// *Source*: Li et al., "DeeperGCN", 2020, §4 ("res+" blocks).
///
/// ```
/// use gnn_prune::DeepGcn;
/// let model = DeepGcn::builder(64, 10).hidden(32).layers(8).build(0)?;
/// assert_eq!(model.out_channels(), 10);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct DeepGcn;

impl DeepGcn {
    /// Starts a network from `in_channels` features to `out_channels` classes.
    pub fn builder(in_channels: usize, out_channels: usize) -> DeepGcnBuilder {
        let stack = Stack {
            layers: 8,
            norm: Some(Normalization::Layer),
            ..Stack::new(in_channels, out_channels)
        };
        DeepGcnBuilder { stack }
    }
}

/// Builder of a deep residual network; see [`DeepGcn::builder`].
#[derive(Debug, Clone)]
pub struct DeepGcnBuilder {
    stack: Stack,
}

impl DeepGcnBuilder {
    /// Width of the hidden layers, at least 1. Default 64.
    #[must_use]
    pub fn hidden(mut self, hidden: usize) -> Self {
        self.stack.hidden = hidden;
        self
    }

    /// Number of residual blocks, at least 1; 8 to 64 are usual. Default 8.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.stack.layers = layers;
        self
    }

    /// Dropout on the input of every convolution, in [0, 1). Default 0.5.
    #[must_use]
    pub fn dropout(mut self, p: f64) -> Self {
        self.stack.dropout = p;
        self
    }

    /// How every layer but the first is normalised. Default: [`Normalization::Layer`].
    #[must_use]
    pub fn norm(mut self, norm: Normalization) -> Self {
        self.stack.norm = Some(norm);
        self
    }

    /// Builds the model and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(self, seed: u64) -> Result<Model> {
        let Stack { in_channels, out_channels, hidden, layers, dropout, activation, norm, .. } =
            self.stack;
        if layers == 0 {
            return Err(Error::setting("layers", 0, "at least 1"));
        }
        let mut b = ModelBuilder::new(in_channels);
        let x = dropped(&mut b, "dropout_in", dropout, NodeId::INPUT)?;
        let mut x =
            b.add("linear_in", Linear::builder(in_channels, hidden).build::<f32>()?, &[x])?;
        let activated = |b: &mut ModelBuilder, place: &str, x: NodeId| -> Result<NodeId> {
            let x = match norm {
                Some(norm) => b.add_boxed(&format!("norm{place}"), norm.layer(hidden)?, &[x])?,
                None => x,
            };
            let x = b.add(&format!("act{place}"), Activation::new(activation), &[x])?;
            dropped(b, &format!("dropout{place}"), dropout, x)
        };
        for k in 1..=layers {
            let y = activated(&mut b, &k.to_string(), x)?;
            let y =
                b.add(&format!("conv{k}"), GcnConv::builder(hidden, hidden).build::<f32>()?, &[y])?;
            x = b.add(&format!("add{k}"), Add::new(2)?, &[x, y])?;
        }
        let x = activated(&mut b, "_out", x)?;
        let y = b.add("linear_out", Linear::builder(hidden, out_channels).build::<f32>()?, &[x])?;
        b.build(y, seed)
    }
}
