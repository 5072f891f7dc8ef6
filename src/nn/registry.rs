//! The registry: by one line in it a layer loads from files and stands under every contract test.

use super::attrs::{Attrs, Shapes};
use super::conv::{
    Appnp, CompGcnConv, Embedding, GatConv, Gatv2Conv, Gcn2Conv, GcnConv, GinAggregation, GinConv,
    GineAggregation, GineConv, LgConv, RelationTable, RgcnConv, SageConv, SgConv,
};
use super::decode::{Decoder, PairProduct};
use super::dense::{Activation, BatchNorm, Dropout, LayerNorm, Linear, Normalize};
use super::erased::DynLayer;
use super::join::{Add, Concat, Max};
use super::model::Model;
use super::model_builder::ModelBuilder;
use super::pytorch::{Place, Python, Twin};
use super::readout::Readout;
use super::registered::Registered;
#[cfg(any(test, feature = "testing"))]
use super::rows::Rows;
use crate::error::{ModelError, Result};
#[cfg(any(test, feature = "testing"))]
use crate::graph::Graph;
#[cfg(any(test, feature = "testing"))]
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
#[cfg(any(test, feature = "testing"))]
use ndarray::Array2;

type Load<F> = fn(&Attrs, &Shapes) -> Result<Box<dyn DynLayer<F>>>;
#[cfg(any(test, feature = "testing"))]
type Sample<F> = fn(&[usize], usize, &mut ChaCha8Rng) -> Option<Box<dyn DynLayer<F>>>;
#[cfg(any(test, feature = "testing"))]
type SampleOn<F> = fn(usize, &[usize], usize, &mut ChaCha8Rng) -> Option<Box<dyn DynLayer<F>>>;
#[cfg(any(test, feature = "testing"))]
type Oracle<F> = fn(&dyn DynLayer<F>, &Graph<F>, &Rows<F>, &[Array2<F>]) -> Option<Array2<F>>;

type ToPython<F> = fn(&dyn DynLayer<F>, &Place) -> std::result::Result<Python, String>;

/// A registered layer without its type.
#[derive(Clone)]
pub struct Entry<F: Scalar> {
    kind: &'static str,
    load: Load<F>,
    // What laws need, and nobody else should compile.
    #[cfg(any(test, feature = "testing"))]
    sample: Sample<F>,
    #[cfg(any(test, feature = "testing"))]
    sample_on: SampleOn<F>,
    #[cfg(any(test, feature = "testing"))]
    oracle: Oracle<F>,
    pytorch: std::result::Result<Twin, &'static str>,
    to_python: ToPython<F>,
}

impl<F: Scalar> std::fmt::Debug for Entry<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Entry").field(&self.kind).finish()
    }
}

impl<F: Scalar> Entry<F> {
    fn of<L: Registered<F>>() -> Self {
        Self {
            kind: L::KIND,
            load: |attrs, shapes| Ok(Box::new(L::from_attrs(attrs, shapes)?)),
            #[cfg(any(test, feature = "testing"))]
            sample: |widths, out, rng| Some(Box::new(L::sample(widths, out, rng)?)),
            #[cfg(any(test, feature = "testing"))]
            sample_on: |nodes, widths, out, rng| {
                Some(Box::new(L::sample_on(nodes, widths, out, rng)?))
            },
            #[cfg(any(test, feature = "testing"))]
            oracle: |layer, graph, rows, xs| {
                Some(layer.as_any().downcast_ref::<L>()?.oracle_on(graph, rows, xs))
            },
            pytorch: L::PYTORCH,
            to_python: |layer, at| match layer.as_any().downcast_ref::<L>() {
                Some(layer) => layer.to_python(at),
                None => Err("of another crate".into()),
            },
        }
    }

    /// The layer's name in files.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// A random instance, for a graph of so many nodes where that is known; see
    /// [`Registered::sample_on`]. With the feature `testing`.
    #[cfg(any(test, feature = "testing"))]
    pub fn sample(
        &self,
        nodes: Option<usize>,
        widths: &[usize],
        out: usize,
        rng: &mut ChaCha8Rng,
    ) -> Option<Box<dyn DynLayer<F>>> {
        match nodes {
            Some(nodes) => (self.sample_on)(nodes, widths, out, rng),
            None => (self.sample)(widths, out, rng),
        }
    }

    /// What it is in PyTorch, or what keeps it from being anything there; see
    /// [`Registered::PYTORCH`].
    ///
    /// # Errors
    /// The reason.
    pub fn pytorch(&self) -> std::result::Result<Twin, &'static str> {
        self.pytorch
    }

    /// `layer` as Python; see [`Registered::to_python`].
    ///
    /// # Errors
    /// What keeps it from being written.
    pub fn to_python(
        &self,
        layer: &dyn DynLayer<F>,
        at: &Place,
    ) -> std::result::Result<Python, String> {
        (self.to_python)(layer, at)
    }

    /// The dense formula of `layer`, see [`Registered::oracle_on`]; `None` if it is of another
    /// kind. With the feature `testing`.
    #[cfg(any(test, feature = "testing"))]
    pub fn oracle(
        &self,
        layer: &dyn DynLayer<F>,
        graph: &Graph<F>,
        rows: &Rows<F>,
        xs: &[Array2<F>],
    ) -> Option<Array2<F>> {
        (self.oracle)(layer, graph, rows, xs)
    }
}

/// The layers that files may name. [`Registry::standard`] has all of the crate; [`Registry::with`]
/// adds one's own.
#[derive(Debug, Clone)]
pub struct Registry<F: Scalar> {
    entries: Vec<Entry<F>>,
}

crate::scalar::compiled_here! {
    fn standard<F>() -> Registry<F> = Registry::standard_layers
}

impl<F: Scalar> Registry<F> {
    /// Every layer of the crate.
    pub fn standard() -> Self {
        standard()
    }

    /// One line each.
    fn standard_layers() -> Self {
        Self { entries: Vec::new() }
            .with::<GcnConv<F>>()
            .with::<SageConv<F>>()
            .with::<GatConv<F>>()
            .with::<Gatv2Conv<F>>()
            .with::<GinConv<F>>()
            .with::<GinAggregation<F>>()
            .with::<GineAggregation<F>>()
            .with::<GineConv<F>>()
            .with::<SgConv<F>>()
            .with::<Gcn2Conv<F>>()
            .with::<RgcnConv<F>>()
            .with::<CompGcnConv<F>>()
            .with::<RelationTable<F>>()
            .with::<Appnp>()
            .with::<LgConv>()
            .with::<Embedding<F>>()
            .with::<Decoder<F>>()
            .with::<PairProduct>()
            .with::<BatchNorm<F>>()
            .with::<LayerNorm<F>>()
            .with::<Normalize>()
            .with::<Max>()
            .with::<Readout>()
            .with::<Linear<F>>()
            .with::<Activation>()
            .with::<Dropout>()
            .with::<Add>()
            .with::<Concat>()
    }

    /// Adds a layer; a later one of the same name takes the place of the earlier.
    #[must_use]
    pub fn with<L: Registered<F>>(mut self) -> Self {
        self.entries.retain(|entry| entry.kind != L::KIND);
        self.entries.push(Entry::of::<L>());
        self
    }

    /// The entry of a kind.
    pub fn entry(&self, kind: &str) -> Option<&Entry<F>> {
        self.entries.iter().find(|entry| entry.kind == kind)
    }

    /// The entries.
    pub fn entries(&self) -> &[Entry<F>] {
        &self.entries
    }

    /// A layer of this kind with all-zero parameters.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) for an unknown kind, a missing setting or a missing
    /// parameter.
    pub fn load(&self, kind: &str, attrs: &Attrs, shapes: &Shapes) -> Result<Box<dyn DynLayer<F>>> {
        let known = || self.entries.iter().map(|entry| entry.kind).collect::<Vec<_>>().join(", ");
        let unknown = || ModelError::UnknownLayer { kind: kind.into(), known: known() };
        (self.entry(kind).ok_or_else(unknown)?.load)(attrs, shapes)
    }
}

impl<F: Scalar> Model<F> {
    /// The same model in another number type, its layers made by the standard registry.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) for a layer that is not in the registry.
    pub fn cast<G: Scalar>(&self) -> Result<Model<G>> {
        self.cast_with(&Registry::standard())
    }

    /// As [`Model::cast`], with layers of one's own in the registry.
    ///
    /// # Errors
    /// As [`Model::cast`].
    pub fn cast_with<G: Scalar>(&self, registry: &Registry<G>) -> Result<Model<G>> {
        let mut builder = ModelBuilder::<G>::new(self.in_channels());
        for node in self.nodes() {
            let mut shapes = Shapes::default();
            let mut params = Vec::new();
            node.layer().visit(&mut |param| {
                shapes.0.insert(param.name().into(), param.value().dim());
                params.push(param.clone());
            });
            let mut layer = registry.load(node.layer().kind(), &node.layer().attrs(), &shapes)?;
            let mut params = params.into_iter();
            layer.visit_mut(&mut |param| {
                let twin = params
                    .next()
                    .expect("a layer rebuilt from its own settings has its own parameters");
                *param.value_mut() = twin.value().mapv(|w| G::of(w.as_f64()));
                param.set_trainable(twin.is_trainable());
                if let Some(mask) = twin.mask() {
                    param.restrict(mask);
                }
            });
            builder.add_boxed(node.name(), layer, node.inputs())?;
        }
        let mut model = builder.build_undrawn(self.output(), self.seed())?;
        model.set_origin(self.origin().cloned());
        Ok(model)
    }
}
