//! What a layer gives to be loaded from files and held to its contract.

use super::attrs::{Attrs, Shapes};
use super::layer::Layer;
use super::pytorch::{Place, Python, Twin};
use super::rows::Rows;
use crate::error::Result;
use crate::graph::Graph;
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use ndarray::Array2;

/// What a layer gives so that it can be loaded from files and tested by contract.
///
/// With it a layer of one's own is loaded from files, and stands under the laws of `testing`, which
/// is there with the feature of that name:
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
/// let registry = Registry::<f32>::standard().with::<Times>();
/// # #[cfg(feature = "testing")]
/// gnn_prune::testing::check_save_load(&model, &registry).expect("it is loaded as it was saved");
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub trait Registered<F: Scalar>: Layer<F> {
    /// The layer's name in files.
    const KIND: &'static str;

    /// What the layer is in PyTorch; or what keeps it from being anything there.
    /// [`io::pyg`](crate::io::pyg) reads and writes the layers of
    /// [`Registry::standard`](super::Registry::standard) by it.
    const PYTORCH: std::result::Result<Twin, &'static str>;

    /// A layer of these settings, with parameters of these shapes, all zero.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) where a setting or a parameter is missing or out of
    /// range.
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

    /// As [`oracle`](Self::oracle), on a batch that has more than a graph; for a layer whose rows
    /// are pairs or graphs.
    fn oracle_on(&self, graph: &Graph<F>, rows: &Rows<F>, xs: &[Array2<F>]) -> Array2<F> {
        let _ = rows;
        self.oracle(graph, xs)
    }
}
