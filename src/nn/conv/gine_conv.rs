//! The graph isomorphism convolution with edge features.

use super::gine_aggregation::Messages;
use super::inner::{Inner, InnerSettings, dot};
use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::pytorch::py;
use crate::nn::{
    Attrs, Cx, Evaluated, Grads, Io, Layer, Layout, Lowering, NodeWise, Param, Place, PruneUnits,
    Python, Reads, Registered, See, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// Builder of a [`GineConv`]; see [`GineConv::builder`].
#[derive(Debug, Clone)]
pub struct GineConvBuilder {
    settings: InnerSettings,
    edge_channels: usize,
}

impl GineConvBuilder {
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

    /// Builds the layer; its parameters are zero until its model draws them.
    ///
    /// # Errors
    /// [`Error::Setting`] for a width of zero or an ε that is not finite.
    pub fn build<F: Scalar>(self) -> Result<GineConv<F>> {
        if self.edge_channels == 0 {
            return Err(Error::setting("edge channels of gine_conv", 0, "at least 1"));
        }
        let messages = Messages::mapped(self.edge_channels, self.settings.in_channels);
        Ok(GineConv { inner: self.settings.build("gine_conv")?, messages })
    }
}

/// `Y = relu(H·W₁ + b₁)·W₂ + b₂` with `h_i = (1+ε)·x_i + Σ_j relu(x_j + e_ji·W_e + b_e)`.
///
/// *Shapes*: `X: [n, in]`, edge features `[edges, d]`, `W_e: [d, in]`, `b_e: [1, in]`, the others
/// as in [`GinConv`](super::GinConv). A message is kept for every edge, `edges·in` numbers.
///
/// *Source*: Hu et al., "Strategies for Pre-training Graph Neural Networks", ICLR 2020, appendix A,
/// as PyTorch Geometric's `GINEConv`.
#[derive(Debug, Clone)]
pub struct GineConv<F: Scalar = f32> {
    inner: Inner<F>,
    messages: Messages<F>,
}

impl GineConv<f32> {
    /// Starts a layer from `in_channels` over `hidden` to `out_channels`, for edges of
    /// `edge_channels` features.
    pub fn builder(
        in_channels: usize,
        hidden: usize,
        out_channels: usize,
        edge_channels: usize,
    ) -> GineConvBuilder {
        GineConvBuilder {
            settings: InnerSettings {
                in_channels,
                hidden,
                out_channels,
                eps: 0.0,
                train_eps: false,
                weighted: true,
            },
            edge_channels,
        }
    }
}

/// What the backward pass of a [`GineConv`] needs.
#[derive(Debug)]
pub struct GineCache<F> {
    /// A message per edge.
    messages: Array2<F>,
    /// What goes into the inner network.
    gathered: Array2<F>,
    /// `relu(U)`.
    hidden: Array2<F>,
}

impl<F: Scalar> Layer<F> for GineConv<F> {
    type Cache = GineCache<F>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: self.inner.weight2.value().ncols(), units: PruneUnits::Single }
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        let w = self.inner.weight1.value();
        cx.check(&xs[0], w.nrows())?;
        let (messages, gathered) = self.messages.gather(cx, &xs[0], self.inner.own())?;
        let mut hidden = cx.take((gathered.nrows(), w.ncols()));
        kernels::matmul(gathered.view(), w.view(), hidden.view_mut());
        let y = self.inner.finish(cx, &mut hidden);
        Ok((Value::Dense(y), GineCache { messages, gathered, hidden }))
    }

    /// With `dH` by the gathered rows: `dε = ⟨dH, X⟩`, and by a message `dM_e = dH_i` where it is
    /// positive; `dX_j` is the sum of its messages' and `(1+ε)·dH_j`, `dW_e = Eᵀ·dM`,
    /// `db_e = Σ dM`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let GineCache { messages, gathered, hidden } = cache;
        let du = dy.with_dense(|dy| self.inner.back(hidden, dy, grads));
        let mut dw = Array2::zeros(self.inner.weight1.value().dim());
        kernels::matmul_tn(gathered.view(), du.view(), dw.view_mut());
        grads.add(&self.inner.weight1, dw);
        let mut dh = gathered;
        kernels::matmul_nt(du.view(), self.inner.weight1.value().view(), dh.view_mut());
        io.input(0).with_dense(|x| {
            grads.add(&self.inner.eps, Array2::from_elem((1, 1), dot(dh.view(), x)))
        });
        vec![self.messages.back(cx, io, messages, dh, self.inner.own(), grads)]
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let (inputs, hidden) = self.inner.weight1.value().dim();
        let rows = lowering.rows(xs[0]);
        let width = self.inner.weight2.value().ncols();
        let macs = self.messages.macs(lowering.graph()?, inputs)
            + (rows * hidden * (inputs + width)) as u64;
        Ok(lowering.opaque(xs, Evaluated::new(self.clone(), macs), width))
    }

    fn attrs(&self) -> Attrs {
        Attrs::new()
            .with("eps", self.inner.init_eps())
            .with("train_eps", self.inner.eps.is_trainable())
    }

    /// Two maps: what was gathered, then `relu(U)`. A message depends on its own channel alone.
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        cx.check(&xs[0], self.inner.weight1.value().nrows())?;
        let (_, gathered) = self.messages.gather(cx, &xs[0], self.inner.own())?;
        self.inner.linear_maps(Value::Dense(gathered), see)
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        self.inner.visit(&mut *f);
        self.messages.visit(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        self.inner.visit_mut(&mut *f);
        self.messages.visit_mut(f);
    }

    /// The inner network of `(1+ε)·X`; ε is no longer learned.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        vec![self.inner.without_hop()]
    }
}

impl<F: Scalar> Registered<F> for GineConv<F> {
    const KIND: &'static str = "gine_conv";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["GINEConv"],
        &[
            ("eps", "eps", Layout::Vector),
            ("weight1", "nn.lins.0.weight", Layout::Transposed),
            ("bias1", "nn.lins.0.bias", Layout::Vector),
            ("weight2", "nn.lins.1.weight", Layout::Transposed),
            ("bias2", "nn.lins.1.bias", Layout::Vector),
            ("edge_weight", "lin.weight", Layout::Transposed),
            ("edge_bias", "lin.bias", Layout::Vector),
        ],
    )
    .settings(&["eps", "train_eps"]));

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let edge_channels = shapes.get("edge_weight")?.0;
        GineConvBuilder { settings: InnerSettings::from_shapes(shapes, attrs)?, edge_channels }
            .build()
    }

    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[in_channels] = widths else { return None };
        let (eps, train_eps) = (rng.random_range(-0.5..0.5), rng.random());
        let settings = InnerSettings {
            in_channels,
            hidden: rng.random_range(2..=5),
            out_channels: out,
            eps,
            train_eps,
            weighted: true,
        };
        // As many as the edges of random graphs have.
        GineConvBuilder { settings, edge_channels: 3 }.build().ok()
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        let trains = py(self.inner.eps.is_trainable());
        let made = format!(
            "pyg.GINEConv({}, train_eps={trains}{})",
            self.inner.to_python(),
            self.messages.edge_dim()
        );
        Ok(at.module(made, &["edge_index", "edge_attr"]))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        self.inner.oracle(&self.messages.oracle(graph, &xs[0], self.inner.own()))
    }
}
