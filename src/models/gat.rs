//! The graph attention network.

use super::stack::{Stack, stack_setters};
use crate::error::{Error, Result};
use crate::nn::{DynLayer, GatConv, Gatv2Conv, Model};

/// A stack of [`GatConv`] or [`Gatv2Conv`] layers: recipe of Veličković et al., ICLR 2018, with
/// heads side by side in the hidden layers and averaged in the last.
///
/// ```
/// use gnn_prune::Gat;
/// let model = Gat::builder(64, 10).heads(4).hidden(8).output_heads(1).build(0)?;
/// assert_eq!(model.num_params(), (64 * 32 + 3 * 32) + (32 * 10 + 3 * 10));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct Gat;

impl Gat {
    /// Starts a network from `in_channels` features to `out_channels` classes.
    pub fn builder(in_channels: usize, out_channels: usize) -> GatBuilder {
        let stack = Stack { hidden: 8, ..Stack::new(in_channels, out_channels) };
        GatBuilder {
            stack,
            heads: 8,
            output_heads: None,
            v2: false,
            attention_dropout: None,
            whole_heads: false,
            edge_dim: None,
        }
    }
}

/// Builder of a graph attention network; see [`Gat::builder`]. The width of the hidden layers, 8 by
/// default, is that of one head.
#[derive(Debug, Clone)]
pub struct GatBuilder {
    stack: Stack,
    heads: usize,
    output_heads: Option<usize>,
    v2: bool,
    attention_dropout: Option<f64>,
    whole_heads: bool,
    edge_dim: Option<usize>,
}

impl GatBuilder {
    stack_setters!();

    /// Heads of the hidden layers, at least 1. Default 8.
    #[must_use]
    pub fn heads(mut self, heads: usize) -> Self {
        self.heads = heads;
        self
    }

    /// Heads of the last layer, which are averaged, at least 1. Default: as many as the hidden
    /// layers have.
    #[must_use]
    pub fn output_heads(mut self, heads: usize) -> Self {
        self.output_heads = Some(heads);
        self
    }

    /// Whether edges are scored as [`Gatv2Conv`] does, in place of [`GatConv`]. Default: no.
    #[must_use]
    pub fn v2(mut self, v2: bool) -> Self {
        self.v2 = v2;
        self
    }

    /// Dropout of the attention weights, in [0, 1). Default: that of the layers' inputs.
    #[must_use]
    pub fn attention_dropout(mut self, p: f64) -> Self {
        self.attention_dropout = Some(p);
        self
    }

    /// Whether pruning removes whole heads of the hidden layers, in place of the same channel of
    /// every head. Default: no.
    #[must_use]
    pub fn whole_heads(mut self, whole: bool) -> Self {
        self.whole_heads = whole;
        self
    }

    /// Lets features of the edges, this many per edge, take part in the scores. Default: they do
    /// not.
    #[must_use]
    pub fn edge_dim(mut self, channels: usize) -> Self {
        self.edge_dim = Some(channels);
        self
    }

    /// Builds the model and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(mut self, seed: u64) -> Result<Model> {
        let total = self.stack.hidden.checked_mul(self.heads).filter(|&width| width > 0);
        self.stack.hidden = total.ok_or_else(|| {
            Error::setting(
                "width and heads",
                format!("{} of {}", self.heads, self.stack.hidden),
                "at least 1, and no more than fit a number",
            )
        })?;
        self.stack.build_by_place("conv", seed, |i, o, last| self.layer(i, o, last))
    }

    fn layer(
        &self,
        in_channels: usize,
        out_channels: usize,
        last: bool,
    ) -> Result<Box<dyn DynLayer<f32>>> {
        let (heads, dim) = if last {
            (self.output_heads.unwrap_or(self.heads), out_channels)
        } else {
            (self.heads, out_channels / self.heads)
        };
        let dropout = self.attention_dropout.unwrap_or(self.stack.dropout);
        macro_rules! build {
            ($conv:ident) => {{
                let mut builder = $conv::builder(in_channels, dim).heads(heads).dropout(dropout);
                builder = if last { builder.average(true) } else { builder };
                builder =
                    if self.whole_heads && !last { builder.whole_heads(true) } else { builder };
                builder =
                    self.edge_dim.map_or(builder.clone(), |channels| builder.edge_dim(channels));
                Box::new(builder.build::<f32>()?)
            }};
        }
        Ok(if self.v2 { build!(Gatv2Conv) } else { build!(GatConv) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_dropout_have_ranges() {
        assert!(matches!(Gat::builder(4, 2).heads(0).build(0), Err(Error::Setting { .. })));
        assert!(matches!(
            Gat::builder(4, 2).hidden(usize::MAX).build(0),
            Err(Error::Setting { .. })
        ));
        assert!(matches!(Gat::builder(4, 2).output_heads(0).build(0), Err(Error::Setting { .. })));
        assert!(matches!(
            Gat::builder(4, 2).attention_dropout(1.0).build(0),
            Err(Error::Setting { .. })
        ));
    }

    #[test]
    fn with_a_jump_every_layer_has_its_heads_side_by_side() {
        let model = Gat::builder(4, 2)
            .hidden(2)
            .layers(3)
            .jumping(crate::models::Jumping::Concat)
            .v2(true)
            .edge_dim(3)
            .build(0)
            .unwrap();
        assert_eq!(model.channels(model.node("conv3").unwrap()), 16);
        assert_eq!((model.channels(model.node("jump").unwrap()), model.out_channels()), (48, 2));
    }
}
