//! What the recipes share: a stack of layers with dropout before each, an activation after each but
//! the last, and its joins.

use crate::error::{Error, Result};
use crate::nn::{
    Activation, ActivationFn, Add, BatchNorm, Concat, Dropout, DynLayer, LayerNorm, Linear, Max,
    Model, ModelBuilder, NodeId,
};

/// How hidden layers are normalised, before their activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Normalization {
    /// Channel by channel, over all nodes ([`BatchNorm`]).
    Batch,
    /// Node by node, over its channels ([`LayerNorm`]).
    Layer,
}

impl Normalization {
    pub(super) fn layer(self, channels: usize) -> Result<Box<dyn DynLayer<f32>>> {
        Ok(match self {
            Normalization::Batch => Box::new(BatchNorm::<f32>::new(channels)?),
            Normalization::Layer => Box::new(LayerNorm::<f32>::per_node(channels)?),
        })
    }
}

/// How a linear layer at the end reads all others.
///
/// *Source*: Xu et al., "Representation Learning on Graphs with Jumping Knowledge Networks", ICML
/// 2018.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jumping {
    /// Their outputs side by side.
    Concat,
    /// The largest of all, channel by channel.
    Max,
}

/// Settings that every recipe has.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    pub in_channels: usize,
    pub out_channels: usize,
    pub hidden: usize,
    pub layers: usize,
    pub dropout: f64,
    pub activation: ActivationFn,
    pub residual: bool,
    pub jumping: Option<Jumping>,
    pub norm: Option<Normalization>,
}

impl Stack {
    pub(super) fn new(in_channels: usize, out_channels: usize) -> Self {
        let (hidden, layers, dropout) = (64, 2, 0.5);
        Self {
            in_channels,
            out_channels,
            hidden,
            layers,
            dropout,
            activation: ActivationFn::Relu,
            residual: false,
            jumping: None,
            norm: None,
        }
    }

    /// Builds the model; `layer(in, out)` makes the k-th layer, whose node is called `{name}{k}`.
    pub(super) fn build(
        &self,
        name: &str,
        seed: u64,
        layer: impl Fn(usize, usize) -> Result<Box<dyn DynLayer<f32>>>,
    ) -> Result<Model> {
        self.build_by_place(name, seed, |i, o, _| layer(i, o))
    }

    /// As [`Stack::build`]; `layer(in, out, last)` is told whether it gives the model's output.
    pub(super) fn build_by_place(
        &self,
        name: &str,
        seed: u64,
        layer: impl Fn(usize, usize, bool) -> Result<Box<dyn DynLayer<f32>>>,
    ) -> Result<Model> {
        self.check()?;
        let mut b = ModelBuilder::new(self.in_channels);
        let mut x = NodeId::INPUT;
        let mut hidden = Vec::new();
        // With jumping knowledge the last layer is hidden too, and a linear layer reads them all.
        let plain_last = if self.jumping.is_some() { self.layers + 1 } else { self.layers };
        for k in 1..=self.layers {
            let out = if k == plain_last { self.out_channels } else { self.hidden };
            let dropped = self.dropped(&mut b, k, x)?;
            let y = b.add_boxed(
                &format!("{name}{k}"),
                layer(b.channels(x), out, k == plain_last)?,
                &[dropped],
            )?;
            if k == plain_last {
                return b.build(y, seed);
            }
            let y = match self.norm {
                Some(norm) => b.add_boxed(&format!("norm{k}"), norm.layer(b.channels(y))?, &[y])?,
                None => y,
            };
            let y = b.add(&format!("act{k}"), Activation::new(self.activation), &[y])?;
            x = match self.residual && k > 1 {
                true => b.add(&format!("add{k}"), Add::new(2)?, &[x, y])?,
                false => y,
            };
            hidden.push(x);
        }
        let joined = match self.jumping {
            Some(Jumping::Max) => b.add("jump", Max::new(hidden.len())?, &hidden)?,
            _ => b.add("jump", Concat::new(), &hidden)?,
        };
        let dropped = self.dropped(&mut b, self.layers + 1, joined)?;
        let out = b.add(
            "out",
            Linear::builder(b.channels(joined), self.out_channels).build()?,
            &[dropped],
        )?;
        b.build(out, seed)
    }

    fn dropped(&self, b: &mut ModelBuilder, k: usize, x: NodeId) -> Result<NodeId> {
        if self.dropout == 0.0 {
            Ok(x)
        } else {
            b.add(&format!("dropout{k}"), Dropout::new(self.dropout)?, &[x])
        }
    }

    fn check(&self) -> Result<()> {
        let counts = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("hidden", self.hidden),
            ("layers", self.layers),
        ];
        counts
            .into_iter()
            .find(|(_, value)| *value == 0)
            .map_or(Ok(()), |(name, _)| Err(Error::setting(name, 0, "at least 1")))
    }
}

/// The setters that every recipe's builder has.
macro_rules! stack_setters {
    () => {
        /// Width of the hidden layers, at least 1. Default 64.
        #[must_use]
        pub fn hidden(mut self, hidden: usize) -> Self {
            self.stack.hidden = hidden;
            self
        }

        /// Number of layers, the output layer counted, at least 1. Default 2.
        #[must_use]
        pub fn layers(mut self, layers: usize) -> Self {
            self.stack.layers = layers;
            self
        }

        /// Dropout on the input of every layer, in [0, 1). Default 0.5.
        #[must_use]
        pub fn dropout(mut self, p: f64) -> Self {
            self.stack.dropout = p;
            self
        }

        /// Activation after every hidden layer. Default
        /// [`ActivationFn::Relu`](crate::nn::ActivationFn::Relu).
        #[must_use]
        pub fn activation(mut self, activation: crate::nn::ActivationFn) -> Self {
            self.stack.activation = activation;
            self
        }

        /// Whether the input of every hidden layer but the first is added to its output. Default:
        /// no.
        #[must_use]
        pub fn residual(mut self, residual: bool) -> Self {
            self.stack.residual = residual;
            self
        }

        /// Makes all layers hidden and lets a linear layer read them all. Default: the last layer
        /// gives the output.
        #[must_use]
        pub fn jumping(mut self, jumping: impl Into<Option<crate::models::Jumping>>) -> Self {
            self.stack.jumping = jumping.into();
            self
        }

        /// How hidden layers are normalised. Default: not at all.
        #[must_use]
        pub fn norm(mut self, norm: impl Into<Option<crate::models::Normalization>>) -> Self {
            self.stack.norm = norm.into();
            self
        }
    };
}
pub(super) use stack_setters;
