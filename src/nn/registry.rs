//! The registry: by one line in it a layer loads from files and stands under every contract test.

use super::attrs::{Attrs, Shapes};
use super::conv::{
    Appnp, Embedding, GatConv, Gatv2Conv, Gcn2Conv, GcnConv, GinAggregation, GinConv,
    GineAggregation, GineConv, LgConv, RgcnConv, SageConv, SgConv,
};
use super::dense::{Activation, BatchNorm, Dropout, LayerNorm, Linear};
use super::join::{Add, Concat, Max};
use super::layer::{DynLayer, Layer};
use super::model::{Model, ModelBuilder};
use super::pytorch::{Place, Python, Twin};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use ndarray::Array2;

/// What a layer gives so that it can be loaded from files and tested by contract.
///
/// With it a layer of one's own is loaded from files, and stands under the laws of
/// [`testing`](crate::testing):
///
/// ```
/// # use gnn_prune::ndarray::Array2;
/// # use gnn_prune::nn::{Cx, Grads, Io, Layer, Lowering, Reads, StageId, Wiring};
/// # use gnn_prune::{Result, Unsupported, Value, ValueRef};
/// use gnn_prune::nn::{Attrs, ModelBuilder, NodeId, Place, Python, Registered, Registry, Shapes, Twin};
/// use gnn_prune::rng::ChaCha8Rng;
/// use gnn_prune::{Graph, Model, Scalar};
///
/// /// `Y = k·X`.
/// #[derive(Clone)]
/// struct Times(f64);
/// # impl<F: Scalar> Layer<F> for Times {
/// #     type Cache = ();
/// #     fn kind(&self) -> &'static str { "times" }
/// #     fn wiring(&self) -> Wiring { Wiring::Same }
/// #     fn forward(&self, _: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
/// #         Ok((Value::Dense(xs[0].to_dense() * F::of(self.0)), ()))
/// #     }
/// #     fn reads(&self) -> Reads { Reads::Nothing }
/// #     fn backward(&self, _: &Cx<F>, _: &Io<F>, _: (), dy: ValueRef<F>, _: &mut Grads<F>) -> Vec<Option<Value<F>>> {
/// #         vec![Some(Value::Dense(dy.to_dense() * F::of(self.0)))]
/// #     }
/// #     fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> std::result::Result<StageId, Unsupported> {
/// #         Ok(lowering.add(&[xs[0]], &[F::of(self.0)]))
/// #     }
/// #     fn attrs(&self) -> Attrs { Attrs::new().with("k", self.0) }
/// # }
///
/// impl<F: Scalar> Registered<F> for Times {
///     const KIND: &'static str = "times";
///     const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::EXPRESSION.settings(&["k"]));
///
///     fn from_attrs(attrs: &Attrs, _: &Shapes) -> gnn_prune::Result<Self> {
///         Ok(Self(attrs.get("k")?))
///     }
///
///     fn sample(widths: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
///         (widths.len() == 1).then_some(Self(0.5))
///     }
///
///     fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
///         Ok(Python::expression(format!("{} * {}", self.0, at.inputs[0])))
///     }
///
///     fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
///         &xs[0] * F::of(self.0)
///     }
/// }
///
/// let mut builder = ModelBuilder::new(2);
/// let twice = builder.add("twice", Times(2.0), &[NodeId::INPUT])?;
/// let model: Model = builder.build(twice, 0)?;
/// let registry = Registry::standard().with::<Times>();
/// gnn_prune::testing::check_save_load(&model, &registry).expect("it is loaded as it was saved");
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub trait Registered<F: Scalar>: Layer<F> {
    /// The layer's name in files.
    const KIND: &'static str;

    /// What the layer is in PyTorch; or what keeps it from being anything there.
    /// [`io::pyg`](crate::io::pyg) reads and writes the layers of [`Registry::standard`] by it.
    const PYTORCH: std::result::Result<Twin, &'static str>;

    /// A layer of these settings, with parameters of these shapes, all zero.
    ///
    /// # Errors
    /// [`Error::Model`] where a setting or a parameter is missing or out of range.
    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self>;

    /// A random instance that accepts inputs of these widths and, where it may choose, puts out
    /// about `out` channels; `None` if it accepts no such inputs.
    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self>;

    /// As [`sample`](Self::sample), to run on a graph of `nodes` nodes; for a layer that fits one
    /// graph only and has no sample without it.
    fn sample_on(nodes: usize, widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let _ = nodes;
        Self::sample(widths, out, rng)
    }

    /// The layer as Python, with the module of [`PYTORCH`](Self::PYTORCH) and the tensors of it.
    ///
    /// # Errors
    /// What keeps a layer of these settings from being anything there, as in "a gcn_conv *by
    /// another norm*".
    fn to_python(&self, at: &Place) -> std::result::Result<Python, String>;

    /// The layer's formula on dense matrices in evaluation mode, written without the crate's
    /// kernels.
    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F>;
}

type Load<F> = fn(&Attrs, &Shapes) -> Result<Box<dyn DynLayer<F>>>;
type Sample<F> = fn(&[usize], usize, &mut ChaCha8Rng) -> Option<Box<dyn DynLayer<F>>>;
type SampleOn<F> = fn(usize, &[usize], usize, &mut ChaCha8Rng) -> Option<Box<dyn DynLayer<F>>>;
type Oracle<F> = fn(&dyn DynLayer<F>, &Graph<F>, &[Array2<F>]) -> Option<Array2<F>>;

type ToPython<F> = fn(&dyn DynLayer<F>, &Place) -> std::result::Result<Python, String>;

/// A registered layer without its type.
#[derive(Clone)]
pub struct Entry<F: Scalar> {
    kind: &'static str,
    load: Load<F>,
    sample: Sample<F>,
    sample_on: SampleOn<F>,
    oracle: Oracle<F>,
    pytorch: std::result::Result<Twin, &'static str>,
    to_python: ToPython<F>,
}

impl<F: Scalar> Entry<F> {
    fn of<L: Registered<F>>() -> Self {
        Self {
            kind: L::KIND,
            load: |attrs, shapes| Ok(Box::new(L::from_attrs(attrs, shapes)?)),
            sample: |widths, out, rng| Some(Box::new(L::sample(widths, out, rng)?)),
            sample_on: |nodes, widths, out, rng| {
                Some(Box::new(L::sample_on(nodes, widths, out, rng)?))
            },
            oracle: |layer, graph, xs| Some(layer.as_any().downcast_ref::<L>()?.oracle(graph, xs)),
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
    /// [`Registered::sample_on`].
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

    /// The dense formula of `layer`, see [`Registered::oracle`]; `None` if it is of another kind.
    pub fn oracle(
        &self,
        layer: &dyn DynLayer<F>,
        graph: &Graph<F>,
        xs: &[Array2<F>],
    ) -> Option<Array2<F>> {
        (self.oracle)(layer, graph, xs)
    }
}

/// The layers that files may name. [`Registry::standard`] has all of the crate; [`Registry::with`]
/// adds one's own.
#[derive(Clone)]
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
            .with::<Appnp>()
            .with::<LgConv>()
            .with::<Embedding<F>>()
            .with::<BatchNorm<F>>()
            .with::<LayerNorm<F>>()
            .with::<Max>()
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
    /// [`Error::Model`] for an unknown kind, a missing setting or a missing parameter.
    pub fn load(&self, kind: &str, attrs: &Attrs, shapes: &Shapes) -> Result<Box<dyn DynLayer<F>>> {
        let known = || self.entries.iter().map(|entry| entry.kind).collect::<Vec<_>>().join(", ");
        (self
            .entry(kind)
            .ok_or_else(|| Error::Model(format!("unknown layer `{kind}`; known are {}", known())))?
            .load)(attrs, shapes)
    }
}

impl<F: Scalar> Model<F> {
    /// The same model in another number type, its layers made by the standard registry.
    ///
    /// # Errors
    /// [`Error::Model`] for a layer that is not in the registry.
    pub fn cast<G: Scalar>(&self) -> Result<Model<G>> {
        let registry = Registry::<G>::standard();
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
