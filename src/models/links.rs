//! Networks that predict links: a table of entities, with or without message passing, and a
//! decoder.

use super::stack::Normalization;
use crate::error::{Error, Result};
use crate::nn::decode::{Decoder, Form, PairProduct};
use crate::nn::{
    Activation, ActivationFn, CompGcnConv, Composition, Dropout, Embedding, GcnConv, Init, Linear,
    Model, ModelBuilder, NodeId, RelationTable, RgcnConv, SageConv,
};

/// What stands between the table and the decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Encoder {
    /// Nothing: rows of the table are what is decoded.
    #[default]
    None,
    /// [`Linear`], without messages: what the others come to where the neighbours say nothing.
    /// *Source*: Zhang et al., "Rethinking graph convolutional networks in knowledge graph
    /// completion", WWW 2022, §5.
    Linear,
    /// [`GcnConv`], whatever the relation of an edge.
    Gcn,
    /// [`SageConv`], whatever the relation of an edge.
    Sage,
    /// [`RgcnConv`] with so many bases or blocks, a matrix per relation where there are none.
    Rgcn {
        /// How many bases; 0 for none.
        bases: usize,
        /// How many blocks; 0 or 1 for none.
        blocks: usize,
    },
    /// [`CompGcnConv`], whose relations are those of the decoder: a
    /// [`RelationTable`] that every layer updates by a [`Linear`] map.
    CompGcn {
        /// How a node and a relation become a message.
        composition: Composition,
    },
}

impl Encoder {
    /// Whether it hands rows of relations on.
    fn has_relations(self) -> bool {
        matches!(self, Encoder::CompGcn { .. })
    }

    /// The norm after each layer, where none is asked for: the authors' of CompGCN.
    fn usual_norm(self) -> Option<Normalization> {
        self.has_relations().then_some(Normalization::Batch)
    }
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
/// *Source*: with [`Encoder::Rgcn`] Schlichtkrull et al., ESWC 2018, §4; with [`Encoder::CompGcn`]
/// Vashishth et al., ICLR 2020, §5.
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
            norm: None,
            activation: None,
            dropout: 0.0,
            relation_dropout: 0.0,
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
    norm: Option<Option<Normalization>>,
    activation: Option<ActivationFn>,
    dropout: f64,
    relation_dropout: f64,
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

    /// Norm after each layer of the encoder. Default: none, and batch norm with
    /// [`Encoder::CompGcn`].
    #[must_use]
    pub fn norm(mut self, norm: impl Into<Option<Normalization>>) -> Self {
        self.norm = Some(norm.into());
        self
    }

    /// Activation after each layer of the encoder, the last one too. Default: ReLU between layers,
    /// and tanh after each with [`Encoder::CompGcn`].
    #[must_use]
    pub fn activation(mut self, activation: ActivationFn) -> Self {
        self.activation = Some(activation);
        self
    }

    /// Types of the graph's edges, for [`Encoder::Rgcn`] and [`Encoder::CompGcn`], where they are
    /// even in number, those of edges turned round last. Default: twice the relations.
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

    /// Dropout on the rows of relations that the decoder reads, in [0, 1): where it is not 0, they
    /// are a [`RelationTable`] with any encoder. Default 0.
    #[must_use]
    pub fn relation_dropout(mut self, p: f64) -> Self {
        self.relation_dropout = p;
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
        self.check()?;
        let alone = self.encoder == Encoder::None;
        let init = if alone { Init::Normal(self.deviation) } else { Init::GlorotUniform };
        let mut b = ModelBuilder::new(self.features.unwrap_or(1));
        let x = match self.features {
            Some(_) => NodeId::INPUT,
            None => {
                let table = Embedding::drawn(self.entities, self.channels, init)?;
                b.add("table", table, &[NodeId::INPUT])?
            }
        };
        let relations = self.table_of_relations(&mut b, x)?;
        let (x, relations) = self.encoded(&mut b, x, relations)?;
        let x = dropped(&mut b, "dropout", self.dropout, x)?;
        let y = self.scores(&mut b, x, relations)?;
        b.build(y, seed)
    }

    fn check(&self) -> Result<()> {
        let alone = self.encoder == Encoder::None;
        if !alone && self.layers == 0 {
            return Err(Error::setting("layers of the encoder", 0, "at least 1"));
        }
        if self.features.is_some() && alone {
            return Err(Error::setting("encoder on features", "none", "one that makes them rows"));
        }
        if alone && self.norm.is_some() | self.activation.is_some() {
            return Err(Error::setting("norm or activation of the encoder", "set", "an encoder"));
        }
        if self.relation_dropout != 0.0 && !self.decodes_relations() {
            let found = self.relation_dropout;
            return Err(Error::setting("dropout of relations", found, "0 where none are decoded"));
        }
        let types = self.edge_types;
        if self.encoder.has_relations() && (!types.is_multiple_of(2) || types < self.relations) {
            let legal = format!("even, and at least the {} relations", self.relations);
            return Err(Error::setting("types of edges", types, legal));
        }
        Ok(())
    }

    fn decodes_relations(&self) -> bool {
        matches!(self.scored, Scored::By(form) if form.has_relations())
    }

    /// The rows of relations, where they are not a parameter of the decoder.
    fn table_of_relations(&self, b: &mut ModelBuilder, x: NodeId) -> Result<Option<NodeId>> {
        let encoded = self.encoder.has_relations();
        if !encoded && self.relation_dropout == 0.0 {
            return Ok(None);
        }
        // A layer composes them with rows of its input's width.
        let rows = if encoded { self.edge_types } else { self.relations };
        let width = if encoded { b.channels(x) } else { self.channels };
        let init = if encoded { Init::GlorotUniform } else { self.init_of_relations() };
        let table = RelationTable::drawn(rows, width, init)?;
        b.add("relations", table, &[NodeId::INPUT]).map(Some)
    }

    fn init_of_relations(&self) -> Init {
        Init::Normal(if self.encoder == Encoder::None { self.deviation } else { 0.1 })
    }

    /// The rows of nodes and of relations after all layers.
    fn encoded(
        &self,
        b: &mut ModelBuilder,
        mut x: NodeId,
        mut relations: Option<NodeId>,
    ) -> Result<(NodeId, Option<NodeId>)> {
        let layers = if self.encoder == Encoder::None { 0 } else { self.layers };
        let norm = self.norm.unwrap_or(self.encoder.usual_norm());
        for k in 1..=layers {
            x = dropped(b, &format!("dropout{k}"), self.dropout, x)?;
            x = self.layer(b, k, x, relations)?;
            if let Some(norm) = norm {
                x = b.add_boxed(&format!("norm{k}"), norm.layer(self.channels)?, &[x])?;
            }
            let last = k == layers;
            let usual = match self.encoder.has_relations() {
                true => Some(("tanh", ActivationFn::Tanh)),
                false if last => None,
                false => Some(("relu", ActivationFn::Relu)),
            };
            let asked = self.activation.map(|function| (function.word(), function));
            if let Some((word, function)) = asked.or(usual) {
                x = b.add(&format!("{word}{k}"), Activation::new(function), &[x])?;
            }
            // What no later layer and no decoder reads is not updated.
            let read = self.encoder.has_relations() && (!last || self.decodes_relations());
            if let Some(z) = relations.filter(|_| read) {
                let update = Linear::builder(b.channels(z), self.channels).bias(false);
                relations = Some(b.add(&format!("relations{k}"), update.build()?, &[z])?);
            }
        }
        Ok((x, relations))
    }

    fn layer(
        &self,
        b: &mut ModelBuilder,
        k: usize,
        x: NodeId,
        relations: Option<NodeId>,
    ) -> Result<NodeId> {
        let (name, read, width) = (format!("conv{k}"), b.channels(x), self.channels);
        match self.encoder {
            Encoder::None => Ok(x),
            Encoder::Linear => b.add(&name, Linear::builder(read, width).build()?, &[x]),
            Encoder::Gcn => b.add(&name, GcnConv::builder(read, width).build()?, &[x]),
            Encoder::Sage => b.add(&name, SageConv::builder(read, width).build()?, &[x]),
            Encoder::Rgcn { bases, blocks } => {
                let conv = RgcnConv::builder(read, width, self.edge_types).blocks(blocks.max(1));
                let conv = if bases > 0 { conv.bases(bases) } else { conv };
                b.add(&name, conv.build()?, &[x])
            }
            Encoder::CompGcn { composition } => {
                let conv = CompGcnConv::builder(read, width).composition(composition).build()?;
                let relations = relations.expect("an encoder that reads relations has a table");
                b.add(&name, conv, &[x, relations])
            }
        }
    }

    fn scores(&self, b: &mut ModelBuilder, x: NodeId, relations: Option<NodeId>) -> Result<NodeId> {
        let width = self.channels;
        match (self.scored, relations) {
            (Scored::By(form), Some(relations)) if form.has_relations() => {
                let p = self.relation_dropout;
                let relations = dropped(b, "dropout_relations", p, relations)?;
                let decoder = Decoder::builder(form, width).shared(true).build()?;
                b.add("decoder", decoder, &[x, relations])
            }
            (Scored::By(form), _) => {
                let decoder = Decoder::builder(form, width).relations(self.relations);
                let decoder = decoder.init(self.init_of_relations());
                b.add("decoder", decoder.build()?, &[x])
            }
            (Scored::Mlp, _) => {
                let pairs = b.add("pairs", PairProduct, &[x])?;
                let h = b.add("linear1", Linear::builder(width, width).build()?, &[pairs])?;
                let h = b.add("relu", Activation::new(ActivationFn::Relu), &[h])?;
                b.add("linear2", Linear::builder(width, 1).build()?, &[h])
            }
        }
    }
}

fn dropped(b: &mut ModelBuilder, name: &str, p: f64, x: NodeId) -> Result<NodeId> {
    if p == 0.0 { Ok(x) } else { b.add(name, Dropout::new(p)?, &[x]) }
}
