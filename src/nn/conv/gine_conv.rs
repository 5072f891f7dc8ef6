//! The graph isomorphism convolution with edge features.

use super::inner::{Inner, InnerSettings, dot};
use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::product::{bias_gradient, gradient_like};
use crate::nn::{Attrs, Axis, Cx, Grads, HeadUnits, Init, Io, Layer, Lowering, Param, Reads, Registered, Shapes, StageId, Wiring};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2};
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

    /// Learns ε too. Default: it stays.
    #[must_use]
    pub fn train_eps(mut self) -> Self {
        self.settings.train_eps = true;
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
        let inputs = self.settings.in_channels;
        Ok(GineConv {
            inner: self.settings.build("gine_conv")?,
            edge_weight: Param::new("edge_weight", (self.edge_channels, inputs), [Axis::Fixed, Axis::In(0)], Init::GlorotUniform),
            edge_bias: Param::new("edge_bias", (1, inputs), [Axis::Fixed, Axis::In(0)], Init::Zeros),
        })
    }
}

/// `Y = relu(H·W₁ + b₁)·W₂ + b₂` with `h_i = (1+ε)·x_i + Σ_j relu(x_j + e_ji·W_e + b_e)`.
///
/// *Shapes*: `X: [n, in]`, edge features `[edges, d]`, `W_e: [d, in]`, `b_e: [1, in]`, the others as in [`GinConv`](super::GinConv).
/// A message is kept for every edge, `edges·in` numbers.
///
/// *Source*: Hu et al., "Strategies for Pre-training Graph Neural Networks", ICLR 2020, appendix A, as PyTorch Geometric's `GINEConv`.
#[derive(Debug, Clone)]
pub struct GineConv<F: Scalar = f32> {
    inner: Inner<F>,
    edge_weight: Param<F>,
    edge_bias: Param<F>,
}

impl GineConv<f32> {
    /// Starts a layer from `in_channels` over `hidden` to `out_channels`, for edges of `edge_channels` features.
    pub fn builder(in_channels: usize, hidden: usize, out_channels: usize, edge_channels: usize) -> GineConvBuilder {
        GineConvBuilder { settings: InnerSettings { in_channels, hidden, out_channels, eps: 0.0, train_eps: false }, edge_channels }
    }
}

/// What the backward pass of a [`GineConv`] needs.
#[derive(Debug)]
pub struct GineCache<F> {
    /// A message an edge.
    messages: Array2<F>,
    /// What goes into the inner network.
    gathered: Array2<F>,
    /// `relu(U)`.
    hidden: Array2<F>,
}

impl<F: Scalar> GineConv<F> {
    fn edge_features<'g>(&self, cx: &Cx<'g, F>) -> Result<ArrayView2<'g, F>> {
        let channels = self.edge_weight.value().nrows();
        let graph = cx.graph()?;
        let features = graph.edge_features().ok_or_else(|| Error::data(cx.place(), "the graph's edges have no features"))?;
        let (expected, found) = ((graph.edge_list().1.len(), channels), features.dim());
        if expected == found {
            Ok(features)
        } else {
            Err(Error::ShapeMismatch { at: format!("{}: edge features", cx.place()), expected, found })
        }
    }
}

impl<F: Scalar> Layer<F> for GineConv<F> {
    type Cache = GineCache<F>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: self.inner.weight2.value().ncols(), units: HeadUnits::Single }
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        let w = self.inner.weight1.value();
        cx.check(&xs[0], w.nrows())?;
        let features = self.edge_features(cx)?;
        let graph = cx.graph()?;
        let mut messages = Array2::zeros((graph.edge_list().1.len(), w.nrows()));
        kernels::matmul(features, self.edge_weight.value().view(), messages.view_mut());
        kernels::add_bias(messages.view_mut(), self.edge_bias.value().as_slice().expect("parameters are contiguous"));
        let mut gathered = xs[0].to_dense();
        let (starts, cols) = graph.edge_list();
        xs[0].with_dense(|x| {
            kernels::map_rows(messages.view_mut(), |e, message| {
                let own = x.row(cols[e] as usize);
                message.iter_mut().zip(own).for_each(|(m, &x)| *m = (*m + x).max(F::zero()));
            });
        });
        let own = self.inner.own();
        kernels::map_rows(gathered.view_mut(), |i, row| {
            row.iter_mut().for_each(|x| *x *= own);
            for e in starts[i]..starts[i + 1] {
                row.iter_mut().zip(messages.row(e)).for_each(|(x, &m)| *x += m);
            }
        });
        let mut hidden = cx.take((gathered.nrows(), w.ncols()));
        kernels::matmul(gathered.view(), w.view(), hidden.view_mut());
        let y = self.inner.finish(cx, &mut hidden);
        Ok((Value::Dense(y), GineCache { messages, gathered, hidden }))
    }

    /// With `dH` by the gathered rows: `dε = ⟨dH, X⟩`, and by a message `dM_e = dH_i` where it is positive; `dX_j` is the sum of its messages' and
    /// `(1+ε)·dH_j`, `dW_e = Eᵀ·dM`, `db_e = Σ dM`.
    fn backward(&self, cx: &Cx<F>, io: &Io<F>, cache: Self::Cache, dy: ValueRef<F>, grads: &mut Grads<F>) -> Vec<Option<Value<F>>> {
        let graph = cx.graph().expect("the forward pass had a graph");
        let GineCache { messages, gathered, hidden } = cache;
        let du = dy.with_dense(|dy| self.inner.back(hidden, dy, grads));
        let mut dw = Array2::zeros(self.inner.weight1.value().dim());
        kernels::matmul_tn(gathered.view(), du.view(), dw.view_mut());
        grads.add(&self.inner.weight1, dw);
        let mut dh = gathered;
        kernels::matmul_nt(du.view(), self.inner.weight1.value().view(), dh.view_mut());
        io.input(0).with_dense(|x| grads.add(&self.inner.eps, Array2::from_elem((1, 1), dot(dh.view(), x))));
        let mut dm = messages;
        let (starts, cols) = graph.edge_list();
        for i in 0..graph.num_nodes() {
            for e in starts[i]..starts[i + 1] {
                dm.row_mut(e).zip_mut_with(&dh.row(i), |m, &dh| *m = if *m > F::zero() { dh } else { F::zero() });
            }
        }
        let features = graph.edge_features().expect("the forward pass had them");
        let mut dw = Array2::zeros(self.edge_weight.value().dim());
        kernels::matmul_tn(features, dm.view(), dw.view_mut());
        grads.add(&self.edge_weight, dw);
        grads.add(&self.edge_bias, bias_gradient(dm.view()));
        let dx = io.wants(0).then(|| {
            let mut dx = dh * self.inner.own();
            for (e, &j) in cols.iter().enumerate() {
                dx.row_mut(j as usize).scaled_add(F::one(), &dm.row(e));
            }
            gradient_like(io.sparse_input(0).map(ValueRef::Sparse), Value::Dense(dx))
        });
        vec![dx]
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let ((inputs, hidden), (edge_channels, _)) = (self.inner.weight1.value().dim(), self.edge_weight.value().dim());
        let (edges, rows) = (lowering.graph()?.num_edges(), lowering.rows());
        let width = self.inner.weight2.value().ncols();
        let macs = edges * inputs * (edge_channels + 1) + rows * hidden * (inputs + width);
        Ok(lowering.whole(xs, self.clone(), width, macs as u64))
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with("eps", self.inner.init_eps()).with("train_eps", self.inner.eps.is_trainable())
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        self.inner.visit(f);
        f(&self.edge_weight);
        f(&self.edge_bias);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Param<F>)) {
        self.inner.visit_mut(f);
        f(&mut self.edge_weight);
        f(&mut self.edge_bias);
    }
}

impl<F: Scalar> Registered<F> for GineConv<F> {
    const KIND: &'static str = "gine_conv";

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let edge_channels = shapes.get("edge_weight")?.0;
        GineConvBuilder { settings: InnerSettings::from_shapes(shapes, attrs)?, edge_channels }.build()
    }

    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[in_channels] = widths else { return None };
        let (eps, train_eps) = (rng.random_range(-0.5..0.5), rng.random());
        let settings = InnerSettings { in_channels, hidden: rng.random_range(2..=5), out_channels: out, eps, train_eps };
        // As many as the edges of random graphs have.
        GineConvBuilder { settings, edge_channels: 3 }.build().ok()
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let mut gathered = &xs[0] * self.inner.own();
        let features = graph.edge_features().expect("random graphs have them");
        let moved = features.dot(self.edge_weight.value()) + self.edge_bias.value();
        let mut e = 0;
        for (i, row) in graph.adjacency().outer_iterator().enumerate() {
            for (j, _) in row.iter() {
                let message = (&xs[0].row(j) + &moved.row(e)).mapv(|v| v.max(F::zero()));
                gathered.row_mut(i).scaled_add(F::one(), &message);
                e += 1;
            }
        }
        self.inner.oracle(&gathered)
    }
}
