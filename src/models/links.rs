//! Networks that predict links: a table of entities, with or without message passing, and a
//! decoder.

use crate::error::{Error, Result};
use crate::nn::decode::{Decoder, Form, PairProduct};
use crate::nn::{
    Activation, ActivationFn, Dropout, Embedding, GcnConv, Init, Linear, Model, ModelBuilder,
    NodeId, RgcnConv, SageConv,
};

/// What stands between the table and the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Encoder {
    /// Nothing: rows of the table are what is decoded.
    #[default]
    None,
    /// [`GcnConv`], whatever the relation of an edge.
    Gcn,
    /// [`SageConv`], whatever the relation of an edge.
    Sage,
    /// [`RgcnConv`] with so many bases, a matrix per relation where there are none.
    Rgcn {
        /// How many; 0 for none.
        bases: usize,
    },
}

/// What scores a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scored {
    /// A [`Decoder`].
    By(Form),
    /// A network of two layers that reads the product of both rows; it knows no relations.
    Mlp,
}

/// A model of a knowledge graph: a table of entities, an [`Encoder`], and what scores.
///
/// *Source*: with [`Encoder::Rgcn`] Schlichtkrull et al., ESWC 2018, §4.
///
/// ```
/// use gnn_prune::models::{Encoder, Links, Scored};
/// use gnn_prune::nn::Form;
/// let model = Links::builder(100, 4).channels(8).scored(Scored::By(Form::ComplEx)).build(0)?;
/// assert_eq!(model.num_params(), 100 * 8 + 4 * 8);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct Links;

impl Links {
    /// Starts a model of so many entities, whose decoder has so many relations (see
    /// [`LinkTask::relations`](crate::task::LinkTask::relations)).
    pub fn builder(entities: usize, relations: usize) -> LinksBuilder {
        LinksBuilder {
            entities,
            relations,
            edge_types: 2 * relations,
            features: None,
            channels: 256,
            scored: Scored::By(Form::DistMult),
            encoder: Encoder::None,
            layers: 1,
            dropout: 0.0,
            deviation: 1e-3,
        }
    }
}

/// Builder of a [`Links`] model; see [`Links::builder`].
#[derive(Debug, Clone)]
pub struct LinksBuilder {
    entities: usize,
    relations: usize,
    edge_types: usize,
    features: Option<usize>,
    channels: usize,
    scored: Scored,
    encoder: Encoder,
    layers: usize,
    dropout: f64,
    deviation: f64,
}

impl LinksBuilder {
    /// Numbers per row, even where they are complex. Default 256.
    #[must_use]
    pub fn channels(mut self, channels: usize) -> Self {
        self.channels = channels;
        self
    }

    /// Reads so many features of each node in the place of a table; there must be an encoder.
    #[must_use]
    pub fn on_features(mut self, features: usize) -> Self {
        self.features = Some(features);
        self
    }

    /// What scores. Default [`Form::DistMult`].
    #[must_use]
    pub fn scored(mut self, scored: Scored) -> Self {
        self.scored = scored;
        self
    }

    /// What stands between table and decoder. Default [`Encoder::None`].
    #[must_use]
    pub fn encoder(mut self, encoder: Encoder) -> Self {
        self.encoder = encoder;
        self
    }

    /// Layers of the encoder, at least 1 where there is one. Default 1.
    #[must_use]
    pub fn layers(mut self, layers: usize) -> Self {
        self.layers = layers;
        self
    }

    /// Types of the graph's edges, for [`Encoder::Rgcn`]. Default: twice the relations.
    #[must_use]
    pub fn edge_types(mut self, types: usize) -> Self {
        self.edge_types = types;
        self
    }

    /// Dropout on what each layer of the encoder and the decoder read, in [0, 1). Default 0.
    #[must_use]
    pub fn dropout(mut self, p: f64) -> Self {
        self.dropout = p;
        self
    }

    /// Deviation of the normal numbers that table and relations begin with, positive; with an
    /// encoder the table is drawn by [`Init::GlorotUniform`] instead. Default 0.001.
    #[must_use]
    pub fn deviation(mut self, deviation: f64) -> Self {
        self.deviation = deviation;
        self
    }

    /// Builds the model and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(self, seed: u64) -> Result<Model> {
        if self.encoder != Encoder::None && self.layers == 0 {
            return Err(Error::setting("layers of the encoder", 0, "at least 1"));
        }
        if self.features.is_some() && self.encoder == Encoder::None {
            return Err(Error::setting("encoder on features", "none", "one that makes them rows"));
        }
        let width = self.channels;
        let alone = self.encoder == Encoder::None;
        let normal = Init::Normal(self.deviation);
        let init = if alone { normal } else { Init::GlorotUniform };
        let mut b = ModelBuilder::new(self.features.unwrap_or(1));
        let mut x = match self.features {
            Some(_) => NodeId::INPUT,
            None => {
                b.add("table", Embedding::drawn(self.entities, width, init)?, &[NodeId::INPUT])?
            }
        };
        let layers = if alone { 0 } else { self.layers };
        for k in 1..=layers {
            x = self.dropped(&mut b, &format!("dropout{k}"), x)?;
            let name = format!("conv{k}");
            let read = b.channels(x);
            x = match self.encoder {
                Encoder::None => x,
                Encoder::Gcn => b.add(&name, GcnConv::builder(read, width).build()?, &[x])?,
                Encoder::Sage => b.add(&name, SageConv::builder(read, width).build()?, &[x])?,
                Encoder::Rgcn { bases } => {
                    let conv = RgcnConv::builder(read, width, self.edge_types);
                    let conv = if bases > 0 { conv.bases(bases) } else { conv };
                    b.add(&name, conv.build()?, &[x])?
                }
            };
            if k < layers {
                x = b.add(&format!("relu{k}"), Activation::new(ActivationFn::Relu), &[x])?;
            }
        }
        x = self.dropped(&mut b, "dropout", x)?;
        let y = match self.scored {
            Scored::By(form) => {
                let decoder = Decoder::builder(form, width).relations(self.relations);
                let init = if alone { normal } else { Init::Normal(0.1) };
                b.add("decoder", decoder.init(init).build()?, &[x])?
            }
            Scored::Mlp => {
                let pairs = b.add("pairs", PairProduct, &[x])?;
                let h = b.add("linear1", Linear::builder(width, width).build()?, &[pairs])?;
                let h = b.add("relu", Activation::new(ActivationFn::Relu), &[h])?;
                b.add("linear2", Linear::builder(width, 1).build()?, &[h])?
            }
        };
        b.build(y, seed)
    }

    fn dropped(&self, b: &mut ModelBuilder, name: &str, x: NodeId) -> Result<NodeId> {
        if self.dropout == 0.0 { Ok(x) } else { b.add(name, Dropout::new(self.dropout)?, &[x]) }
    }
}
