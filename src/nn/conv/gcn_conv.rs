//! The graph convolution of Kipf and Welling.

use super::propagation::{dense_operator, norm_argument, norm_of, random_norm, with_norm};
use crate::error::{Error, ModelError, Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph};
use crate::kernels;
use crate::nn::linear_map::aggregated;
use crate::nn::product::{bias_gradient, product, product_then, then_bias};
use crate::nn::pytorch::py;
use crate::nn::{
    Attrs, Axis, Cx, Grads, Init, Io, KeptMap, Layer, Layout, LinearMap, Lowering, NodeWise, Param,
    Piece, Place, PruneUnits, Python, Reads, Registered, RowSpace, See, Shapes, StageId, Twin,
    Wiring, bias,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// Builder of a [`GcnConv`]; see [`GcnConv::builder`].
#[derive(Debug, Clone)]
pub struct GcnConvBuilder {
    in_channels: usize,
    out_channels: usize,
    bias: bool,
    norm: AdjacencyNorm,
}

impl GcnConvBuilder {
    /// Whether added self-loops weigh 2 on a graph with weights other than 1, as PyTorch
    /// Geometric's `improved` says: [`AdjacencyNorm::SymmetricImproved`] in place of
    /// [`AdjacencyNorm::Symmetric`]. Default: no.
    #[must_use]
    pub fn improved(self, improved: bool) -> Self {
        self.norm(if improved {
            AdjacencyNorm::SymmetricImproved
        } else {
            AdjacencyNorm::Symmetric
        })
    }

    /// How messages are weighed. Default: [`AdjacencyNorm::Symmetric`]; without added self-loops
    /// [`AdjacencyNorm::SymmetricPlain`].
    #[must_use]
    pub fn norm(mut self, norm: AdjacencyNorm) -> Self {
        self.norm = norm;
        self
    }

    /// Whether there is a bias. Default: yes.
    #[must_use]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self
    }

    /// Builds the layer; its parameters are zero until its model draws them.
    ///
    /// # Errors
    /// [`Error::Setting`] for a width of zero.
    pub fn build<F: Scalar>(self) -> Result<GcnConv<F>> {
        if self.in_channels == 0 || self.out_channels == 0 {
            let value = format!("{} -> {}", self.in_channels, self.out_channels);
            return Err(Error::setting("channels of gcn_conv", value, "at least 1 on both sides"));
        }
        let shape = (self.in_channels, self.out_channels);
        let weight = Param::new("weight", shape, [Axis::In(0), Axis::Out], Init::GlorotUniform);
        Ok(GcnConv { weight, bias: self.bias.then(|| bias(self.out_channels)), norm: self.norm })
    }
}

/// `Y = Â·X·W + b` with `Â = D̃^{-1/2}(A+I)D̃^{-1/2}`.
///
/// *Shapes*: `X: [n, in]` dense or sparse, `W: [in, out]`, `b: [1, out]`, `Y: [n, out]`.
/// The product is taken in the cheaper order, `Â(XW)` or `(ÂX)W`.
///
/// *Source*: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks",
/// ICLR 2017, eq. 2 and 8.
///
/// ```
/// use gnn_prune::nn::{GcnConv, Model, NodeId};
/// let mut builder = Model::builder(8);
/// let conv = builder.add("conv1", GcnConv::builder(8, 3).build()?, &[NodeId::INPUT])?;
/// let model = builder.build(conv, 0)?;
/// assert_eq!(model.num_params(), 8 * 3 + 3);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GcnConv<F: Scalar = f32> {
    weight: Param<F>,
    bias: Option<Param<F>>,
    norm: AdjacencyNorm,
}

impl GcnConv<f32> {
    /// Starts a layer from `in_channels` to `out_channels`.
    pub fn builder(in_channels: usize, out_channels: usize) -> GcnConvBuilder {
        GcnConvBuilder { in_channels, out_channels, bias: true, norm: AdjacencyNorm::Symmetric }
    }
}

/// Aggregating first is cheaper where the input is dense and narrower than the output.
fn aggregates_first(sparse: bool, in_channels: usize, out_channels: usize) -> bool {
    !sparse && in_channels < out_channels
}

impl<F: Scalar> Layer<F> for GcnConv<F> {
    /// `ÂX`, where aggregation came first.
    type Cache = Option<KeptMap<F>>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: self.weight.value().ncols(), units: PruneUnits::Single }
    }

    /// The rows of what is aggregated.
    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        RowSpace::joined(inputs).map(RowSpace::aggregated)
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        let w = self.weight.value();
        cx.check(&xs[0], w.nrows())?;
        let topology = cx.topology()?;
        let (targets, operator) = (topology.num_targets(), topology.operator(self.norm)?);
        let bias = then_bias(self.bias.as_ref());
        let (y, cache) = match &xs[0] {
            ValueRef::Dense(x) if aggregates_first(false, w.nrows(), w.ncols()) => {
                let mut h = cx.take((targets, x.ncols()));
                kernels::spmm(operator.forward(), x.view(), h.view_mut());
                (product_then(cx, &ValueRef::Dense(h.view()), w.view(), bias), Some(cx.keep(h)))
            }
            x => {
                let z = product(cx, x, w.view());
                let mut y = cx.take((targets, z.ncols()));
                kernels::spmm_then(operator.forward(), z.view(), y.view_mut(), bias);
                cx.give(z);
                (y, None)
            }
        };
        Ok((Value::Dense(y), cache))
    }

    fn forward_owned(&self, cx: &Cx<F>, x: Array2<F>) -> Result<(Value<F>, Self::Cache)> {
        let w = self.weight.value();
        let topology = cx.topology()?;
        if aggregates_first(false, w.nrows(), w.ncols()) {
            let done = self.forward(cx, &[ValueRef::Dense(x.view())])?;
            cx.give(x);
            return Ok(done);
        }
        cx.check(&ValueRef::Dense(x.view()), w.nrows())?;
        let operator = topology.operator(self.norm)?;
        let bias = then_bias(self.bias.as_ref()).bias;
        let y = cx.aggregated(operator.forward(), cx.mapped(x, w.view()), bias);
        Ok((Value::Dense(y), None))
    }

    /// With `H = ÂX`: `dW = Hᵀ·dY`, `dX = Âᵀ(dY·Wᵀ)`; with `Z = XW`: `dZ = Âᵀ·dY`, `dW = Xᵀ·dZ`,
    /// `dX = dZ·Wᵀ`; `db = Σ_i dY_i`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        self.backward_owned(cx, io, cache, Value::Dense(cx.copy_of(&dy)), grads)
    }

    fn backward_owned(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: Value<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let topology = cx.topology().expect("the forward pass had it");
        let operator = topology.operator(self.norm).expect("the forward pass had it");
        let sources = topology.num_sources();
        let (dy, w) = (dy.into_dense(), self.weight.value().view());
        if let Some(bias) = &self.bias {
            grads.add(bias, bias_gradient(dy.view()));
        }
        if let Some(h) = cache {
            grads.add(&self.weight, h.product_dw(dy.view()));
            // Neither `h` nor `dy` is read once its product is there, and both have the length of
            // what follows.
            let dh = io.wants(0).then(|| {
                let mut dh = h.into_room(cx);
                kernels::matmul_nt(dy.view(), w, dh.view_mut());
                dh
            });
            cx.give(dy);
            let dx = dh.map(|dh| {
                let mut dx = cx.take((sources, dh.ncols()));
                kernels::spmm(operator.transpose(), dh.view(), dx.view_mut());
                cx.give(dh);
                Value::Dense(dx)
            });
            return vec![dx];
        }
        let dz = cx.aggregated(operator.transpose(), dy, None);
        grads.add(&self.weight, io.product_dw(0, dz.view()));
        if !io.wants(0) {
            cx.give(dz);
            return vec![None];
        }
        vec![Some(match io.sparse_input(0) {
            Some(_) => io.product_dx(cx, 0, dz.view(), w),
            None => Value::Dense(cx.mapped(dz, w.t())),
        })]
    }

    /// A dense input that is aggregated first is not read again; a sparse one is kept in any case.
    fn reads(&self) -> Reads {
        let (inputs, outputs) = self.weight.value().dim();
        if aggregates_first(false, inputs, outputs) { Reads::Nothing } else { Reads::Inputs }
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let (in_channels, out_channels) = self.weight.value().dim();
        let y = if aggregates_first(lowering.is_sparse(xs[0]), in_channels, out_channels) {
            let h = lowering.aggregate(xs[0], self.norm)?;
            lowering.linear(h, &self.weight)
        } else {
            let z = lowering.linear(xs[0], &self.weight);
            lowering.aggregate(z, self.norm)?
        };
        Ok(self.bias.as_ref().map_or(y, |bias| lowering.bias(y, bias)))
    }

    fn attrs(&self) -> Attrs {
        match self.norm {
            AdjacencyNorm::SymmetricImproved => Attrs::new().with("improved", true),
            norm => with_norm(Attrs::new(), norm, AdjacencyNorm::Symmetric),
        }
    }

    /// One map: `G = ÂX`.
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        cx.check(&xs[0], self.weight.value().nrows())?;
        let operator = cx.graph()?.operator(self.norm)?;
        let g = aggregated(cx, operator.forward(), F::zero(), &xs[0]);
        see(LinearMap::of_made(g, &mut self.weight).with_bias(self.bias.as_mut()))
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        f(&self.weight);
        self.bias.iter().for_each(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        f(&mut self.weight);
        self.bias.iter_mut().for_each(f);
    }

    fn pieces(&self, sparse: bool) -> Option<Vec<Piece<F>>> {
        let (inputs, outputs) = self.weight.value().dim();
        let (norm, bias) = (self.norm, self.bias.as_ref());
        Some(if aggregates_first(sparse, inputs, outputs) {
            vec![Piece::Hop { norm, bias: None }, Piece::product(&self.weight, bias)]
        } else {
            let hop = Piece::Hop { norm, bias: bias.cloned() };
            vec![Piece::product(&self.weight, None), hop]
        })
    }

    /// `X·W + b`: a node that has nobody but itself, where `Â` is the identity.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        vec![vec![NodeWise::linear(&self.weight, self.bias.as_ref())]]
    }
}

impl<F: Scalar> Registered<F> for GcnConv<F> {
    const KIND: &'static str = "gcn_conv";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["GCNConv"],
        &[("weight", "lin.weight", Layout::Transposed), ("bias", "bias", Layout::Vector)],
    )
    .settings(&["norm", "improved"]));

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let (in_channels, out_channels) = shapes.get("weight")?;
        let improved: bool = attrs.get_or("improved", false)?;
        let norm = match (improved, norm_of(attrs, AdjacencyNorm::Symmetric)?) {
            (false, norm) => norm,
            (true, _) if attrs.iter().all(|(name, _)| name != "norm") => {
                AdjacencyNorm::SymmetricImproved
            }
            (true, norm) => {
                return Err(ModelError::Misfit(format!(
                    "a gcn_conv is `improved` or has the norm {norm:?}; give one of the two"
                ))
                .into());
            }
        };
        let builder = GcnConv::builder(in_channels, out_channels).norm(norm);
        if shapes.find("bias").is_some() { builder.build() } else { builder.bias(false).build() }
    }

    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[in_channels] = widths else { return None };
        let builder = GcnConv::builder(in_channels, out).norm(random_norm(rng));
        if rng.random() { builder.build().ok() } else { builder.bias(false).build().ok() }
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        let norm = match self.norm {
            AdjacencyNorm::SymmetricImproved => ", improved=True",
            norm => norm_argument(norm, AdjacencyNorm::Symmetric)?,
        };
        let made = format!(
            "pyg.GCNConv({}, {}, bias={}{norm})",
            at.in_channels,
            at.out_channels,
            py(self.bias.is_some())
        );
        Ok(at.module(made, &["edge_index", "edge_weight"]))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let y = dense_operator(graph, self.norm).dot(&xs[0].dot(self.weight.value()));
        self.bias.as_ref().map_or(y.clone(), |bias| y + bias.value())
    }
}
