//! The graph isomorphism convolution.

use super::EDGE_WEIGHTS;
use super::inner::{Inner, InnerSettings, dot};
use crate::error::{Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph};
use crate::kernels;
use crate::nn::linear_map::aggregated;
use crate::nn::product::product;
use crate::nn::pytorch::py;
use crate::nn::{
    ActivationFn, Attrs, Cx, Grads, Io, Layer, Layout, Lowering, NodeWise, Param, Place,
    PruneUnits, Python, Reads, Registered, RowSpace, See, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, s};
use ndarray_rand::rand::Rng;

/// Builder of a [`GinConv`]; see [`GinConv::builder`].
#[derive(Debug, Clone)]
pub struct GinConvBuilder {
    settings: InnerSettings,
}

impl GinConvBuilder {
    /// What a node weighs above its neighbours. Default 0.
    #[must_use]
    pub fn eps(mut self, eps: f64) -> Self {
        self.settings.eps = eps;
        self
    }

    /// Whether ε is learned too. Default: no.
    #[must_use]
    pub fn train_eps(mut self, trains: bool) -> Self {
        self.settings.train_eps = trains;
        self
    }

    /// Whether the sum reads what edges weigh; PyTorch Geometric's `GINConv` counts every edge
    /// once. Default: yes.
    #[must_use]
    pub fn edge_weights(mut self, read: bool) -> Self {
        self.settings.weighted = read;
        self
    }

    /// Builds the layer; its parameters are zero until its model draws them.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a width of zero or an ε that is not finite.
    pub fn build<F: Scalar>(self) -> Result<GinConv<F>> {
        let norm =
            if self.settings.weighted { AdjacencyNorm::Sum } else { AdjacencyNorm::UnweightedSum };
        Ok(GinConv { inner: self.settings.build("gin_conv")?, norm })
    }
}

/// `Y = relu(((1+ε)·X + A·X)·W₁ + b₁)·W₂ + b₂`; the first product is taken before aggregation,
/// which changes nothing.
///
/// *Shapes*: `X: [n, in]` dense or sparse, `W₁: [in, hidden]`, `b₁: [1, hidden]`,
/// `W₂: [hidden, out]`, `b₂: [1, out]`, `Y: [n, out]`.
///
/// *Source*: Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019, eq. 4.1.
#[derive(Debug, Clone)]
pub struct GinConv<F: Scalar = f32> {
    inner: Inner<F>,
    norm: AdjacencyNorm,
}

impl GinConv<f32> {
    /// Starts a layer from `in_channels` over `hidden` to `out_channels`.
    pub fn builder(in_channels: usize, hidden: usize, out_channels: usize) -> GinConvBuilder {
        GinConvBuilder {
            settings: InnerSettings {
                in_channels,
                hidden,
                out_channels,
                eps: 0.0,
                train_eps: false,
                weighted: true,
            },
        }
    }
}

impl<F: Scalar> Layer<F> for GinConv<F> {
    /// `Z = X·W₁` and `relu(U)`.
    type Cache = (Array2<F>, Array2<F>);

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: self.inner.weight2.value().ncols(), units: PruneUnits::Single }
    }

    /// The rows of what is aggregated.
    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        RowSpace::joined(inputs).map(RowSpace::aggregated)
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        let w = self.inner.weight1.value();
        cx.check(&xs[0], w.nrows())?;
        let topology = cx.topology()?;
        let operator = topology.operator(self.norm)?;
        let z = product(cx, &xs[0], w.view());
        let targets = topology.num_targets();
        let mut u = cx.take((targets, z.ncols()));
        kernels::spmm(operator.forward(), z.view(), u.view_mut());
        // The targets are the first of the sources.
        u.scaled_add(self.inner.own(), &z.slice(s![..targets, ..]));
        let y = self.inner.finish(cx, &mut u);
        Ok((Value::Dense(y), (z, u)))
    }

    /// `dε = ⟨dU, Z⟩`, `dZ = (1+ε)·dU + Aᵀ·dU`, `dW₁ = Xᵀ·dZ`, `dX = dZ·W₁ᵀ`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let operator = cx
            .topology()
            .and_then(|topology| topology.operator(self.norm))
            .expect("the forward pass had it");
        let (z, h) = cache;
        let du = dy.with_dense(|dy| self.inner.back(h, dy, grads));
        let targets = s![..du.nrows(), ..];
        grads.add(&self.inner.eps, Array2::from_elem((1, 1), dot(du.view(), z.slice(targets))));
        let mut dz = z;
        kernels::spmm(operator.transpose(), du.view(), dz.view_mut());
        dz.slice_mut(targets).scaled_add(self.inner.own(), &du);
        grads.add(&self.inner.weight1, io.product_dw(0, dz.view()));
        let dx =
            io.wants(0).then(|| io.product_dx(cx, 0, dz.view(), self.inner.weight1.value().view()));
        cx.give(dz);
        vec![dx]
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let z = lowering.linear(xs[0], &self.inner.weight1);
        let moved = lowering.aggregate(z, self.norm)?;
        let u = lowering.add(&[moved, z], &[F::one(), self.inner.own()]);
        let u = lowering.bias(u, &self.inner.bias1);
        let h = lowering.activation(u, ActivationFn::Relu);
        let y = lowering.linear(h, &self.inner.weight2);
        Ok(lowering.bias(y, &self.inner.bias2))
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new()
            .with("eps", self.inner.init_eps())
            .with("train_eps", self.inner.eps.is_trainable());
        if self.norm.is_weighted() { attrs } else { attrs.with(EDGE_WEIGHTS, false) }
    }

    /// Two maps: `G = (1+ε)·X + A·X`, then `relu(U)`.
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        cx.check(&xs[0], self.inner.weight1.value().nrows())?;
        let operator = cx.graph()?.operator(self.norm)?;
        let g = aggregated(cx, operator.forward(), self.inner.own(), &xs[0]);
        self.inner.linear_maps(g, see)
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        self.inner.visit(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        self.inner.visit_mut(f);
    }

    /// The inner network of `(1+ε)·X`; ε is no longer learned.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        vec![self.inner.without_hop()]
    }
}

impl<F: Scalar> Registered<F> for GinConv<F> {
    const KIND: &'static str = "gin_conv";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["GINConv"],
        &[
            ("eps", "eps", Layout::Vector),
            ("weight1", "nn.lins.0.weight", Layout::Transposed),
            ("bias1", "nn.lins.0.bias", Layout::Vector),
            ("weight2", "nn.lins.1.weight", Layout::Transposed),
            ("bias2", "nn.lins.1.bias", Layout::Vector),
        ],
    )
    .settings(&["eps", "train_eps", EDGE_WEIGHTS]));

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        GinConvBuilder { settings: InnerSettings::from_shapes(shapes, attrs)? }.build()
    }

    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[in_channels] = widths else { return None };
        let (eps, train_eps, weighted) = (rng.random_range(-0.5..0.5), rng.random(), rng.random());
        let settings = InnerSettings {
            in_channels,
            hidden: rng.random_range(2..=5),
            out_channels: out,
            eps,
            train_eps,
            weighted,
        };
        GinConvBuilder { settings }.build().ok()
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        let made = format!(
            "pyg.GINConv({}, train_eps={})",
            self.inner.to_python(),
            py(self.inner.eps.is_trainable())
        );
        Ok(at.module(made, &["edge_index"]).without_edge_weights(self.norm.is_weighted()))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let a = if self.norm.is_weighted() {
            crate::nn::dense_adjacency(graph)
        } else {
            crate::nn::dense_counts(graph)
        };
        let sums = a.dot(&xs[0]);
        self.inner.oracle(&(sums + &xs[0] * self.inner.own()))
    }
}
