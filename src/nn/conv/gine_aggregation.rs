//! The aggregation of the graph isomorphism convolution with edge features by itself.

use super::inner::dot;
use super::propagation::copied;
use crate::error::{Error, PruneError, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::product::{bias_gradient, gradient_like};
use crate::nn::pytorch::py;
use crate::nn::{
    ActivationFn, Attrs, Axis, Cx, Evaluated, Grads, Init, Io, Kept, Layer, Layout, Lowering,
    NodeWise, Param, Place, Python, Reads, Registered, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2};
use ndarray_rand::rand::Rng;

/// What comes over the edges: `relu(x_j + e_ji·W_e + b_e)`, or without a map `relu(x_j + e_ji)`.
#[derive(Debug, Clone)]
pub(super) struct Messages<F: Scalar> {
    /// `W_e` and `b_e`.
    map: Option<(Param<F>, Param<F>)>,
    /// Without a map: which feature of an edge is added to which channel.
    columns: Vec<usize>,
}

impl<F: Scalar> Messages<F> {
    /// The argument of PyTorch Geometric that says how many features of edges are mapped.
    pub(super) fn edge_dim(&self) -> String {
        self.map
            .as_ref()
            .map(|(weight, _)| format!(", edge_dim={}", weight.value().nrows()))
            .unwrap_or_default()
    }

    /// With a map from `edge_channels` to `channels`.
    pub(super) fn mapped(edge_channels: usize, channels: usize) -> Self {
        let weight = Param::new(
            "edge_weight",
            (edge_channels, channels),
            [Axis::Fixed, Axis::In(0)],
            Init::GlorotUniform,
        );
        let bias = Param::new("edge_bias", (1, channels), [Axis::Fixed, Axis::In(0)], Init::Zeros);
        Self { map: Some((weight, bias)), columns: Vec::new() }
    }

    fn channels(&self) -> usize {
        self.map.as_ref().map_or(self.columns.len(), |(weight, _)| weight.value().ncols())
    }

    fn features<'g>(&self, cx: &Cx<'g, F>) -> Result<ArrayView2<'g, F>> {
        let graph = cx.graph()?;
        let features = graph
            .edge_features()
            .ok_or_else(|| Error::data(cx.place(), "the graph's edges have no features"))?;
        let fits = match &self.map {
            Some((weight, _)) => weight.value().nrows() == features.ncols(),
            None => self.columns.iter().all(|&column| column < features.ncols()),
        };
        if fits {
            return Ok(features);
        }
        let channels = self.map.as_ref().map_or_else(
            || self.columns.iter().max().map_or(0, |&c| c.saturating_add(1)),
            |map| map.0.value().nrows(),
        );
        let expected = (graph.edge_list().1.len(), channels);
        Err(Error::ShapeMismatch {
            at: format!("{}: edge features", cx.place()),
            expected,
            found: features.dim(),
        })
    }

    /// A message per edge, and `own·x_i` with those into each node.
    pub(super) fn gather(
        &self,
        cx: &Cx<F>,
        x: &ValueRef<F>,
        own: F,
    ) -> Result<(Array2<F>, Array2<F>)> {
        let features = self.features(cx)?;
        let graph = cx.graph()?;
        let (starts, sources) = graph.edge_list();
        let mut messages = Array2::zeros((sources.len(), self.channels()));
        match &self.map {
            Some((weight, bias)) => {
                kernels::matmul(features, weight.value().view(), messages.view_mut());
                kernels::add_bias(
                    messages.view_mut(),
                    bias.value().as_slice().expect("parameters are contiguous"),
                );
            }
            None => messages.assign(&features.select(ndarray::Axis(1), &self.columns)),
        }
        let mut gathered = x.to_dense();
        x.with_dense(|x| {
            kernels::map_rows(messages.view_mut(), |e, message| {
                let sent = x.row(sources[e] as usize);
                message.iter_mut().zip(sent).for_each(|(m, &x)| *m = ActivationFn::Relu.of(*m + x));
            });
        });
        kernels::map_rows(gathered.view_mut(), |i, row| {
            row.iter_mut().for_each(|x| *x *= own);
            for e in starts[i]..starts[i + 1] {
                row.iter_mut().zip(messages.row(e)).for_each(|(x, &m)| *x += m);
            }
        });
        Ok((messages, gathered))
    }

    /// From `dh`, the gradient of what was gathered, that of `x`: by a message `dm_e = dh_i` where
    /// it is positive, `dx_j` the sum of its messages' and `own·dh_j`; `dW_e = Eᵀ·dM`,
    /// `db_e = Σ dM`.
    pub(super) fn back(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        messages: Array2<F>,
        dh: Array2<F>,
        own: F,
        grads: &mut Grads<F>,
    ) -> Option<Value<F>> {
        let graph = cx.graph().expect("the forward pass had a graph");
        let (starts, sources) = graph.edge_list();
        let mut dm = messages;
        for i in 0..graph.num_nodes() {
            for e in starts[i]..starts[i + 1] {
                dm.row_mut(e).zip_mut_with(&dh.row(i), |m, &dh| {
                    *m = if *m > F::zero() { dh } else { F::zero() }
                });
            }
        }
        if let Some((weight, bias)) = &self.map {
            let features = graph.edge_features().expect("the forward pass had them");
            let mut dw = Array2::zeros(weight.value().dim());
            kernels::matmul_tn(features, dm.view(), dw.view_mut());
            grads.add(weight, dw);
            grads.add(bias, bias_gradient(dm.view()));
        }
        io.wants(0).then(|| {
            let mut dx = dh * own;
            for (e, &j) in sources.iter().enumerate() {
                dx.row_mut(j as usize).scaled_add(F::one(), &dm.row(e));
            }
            gradient_like(io.sparse_input(0).map(ValueRef::Sparse), Value::Dense(dx))
        })
    }

    pub(super) fn macs(&self, graph: &Graph<F>, channels: usize) -> u64 {
        let edge_channels = self.map.as_ref().map_or(0, |(weight, _)| weight.value().nrows());
        (graph.edge_list().1.len() * channels * (edge_channels + 1)) as u64
    }

    pub(super) fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        self.map.iter().for_each(|(weight, bias)| [weight, bias].into_iter().for_each(&mut *f));
    }

    pub(super) fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        self.map.iter_mut().for_each(|(weight, bias)| [weight, bias].into_iter().for_each(&mut *f));
    }

    /// What [`Messages::gather`] gathers, for oracles.
    pub(super) fn oracle(&self, graph: &Graph<F>, x: &Array2<F>, own: F) -> Array2<F> {
        let mut gathered = x * own;
        let features = graph.edge_features().expect("random graphs have them");
        let moved = match &self.map {
            Some((weight, bias)) => features.dot(weight.value()) + bias.value(),
            None => features.select(ndarray::Axis(1), &self.columns),
        };
        for (e, (_, (i, j))) in graph.adjacency().iter().enumerate() {
            let message = (&x.row(j as usize) + &moved.row(e)).mapv(|v| v.max(F::zero()));
            gathered.row_mut(i as usize).scaled_add(F::one(), &message);
        }
        gathered
    }
}

/// `y_i = (1+ε)·x_i + Σ_j relu(x_j + e_ji·W_e + b_e)`, or without a map `relu(x_j + e_ji)`: what
/// [`GineConv`](super::GineConv) does before its inner network, so that any layers may follow as
/// one.
///
/// *Shapes*: `X, Y: [n, c]`, edge features `[edges, d]`, `W_e: [d, c]`, `b_e: [1, c]`, `ε: [1, 1]`.
/// A message is kept for every edge.
///
/// *Source*: Hu et al., "Strategies for Pre-training Graph Neural Networks", ICLR 2020, appendix A,
/// as PyTorch Geometric's `GINEConv`.
#[derive(Debug, Clone)]
pub struct GineAggregation<F: Scalar = f32> {
    eps: Param<F>,
    messages: Messages<F>,
}

impl<F: Scalar> GineAggregation<F> {
    /// For nodes of `channels` channels; edges of `edge_channels` features are mapped to those, and
    /// without a number must have as many.
    ///
    /// # Errors
    /// [`Error::Setting`] for a width of zero or an ε that is not finite.
    pub fn new(channels: usize, edge_channels: Option<usize>, eps: f64) -> Result<Self> {
        if channels == 0 || edge_channels == Some(0) {
            return Err(Error::setting("channels of gine_aggregation", 0, "at least 1"));
        }
        let messages = match edge_channels {
            Some(edge_channels) => Messages::mapped(edge_channels, channels),
            None => Messages { map: None, columns: (0..channels).collect() },
        };
        Self::of(messages, eps)
    }

    fn of(messages: Messages<F>, eps: f64) -> Result<Self> {
        if !eps.is_finite() {
            return Err(Error::setting("eps of gine_aggregation", eps, "a finite number"));
        }
        let mut own = Param::new("eps", (1, 1), [Axis::Fixed, Axis::Fixed], Init::Constant(eps));
        own.value_mut().fill(F::of(eps));
        own.set_trainable(false);
        Ok(Self { eps: own, messages })
    }

    /// Whether ε is learned too. Default: no.
    #[must_use]
    pub fn train_eps(mut self, trains: bool) -> Self {
        self.eps.set_trainable(trains);
        self
    }

    fn own(&self) -> F {
        F::one() + self.eps.value()[[0, 0]]
    }
}

impl<F: Scalar> Layer<F> for GineAggregation<F> {
    /// The messages.
    type Cache = Array2<F>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        cx.check(&xs[0], self.messages.channels())?;
        let (messages, gathered) = self.messages.gather(cx, &xs[0], self.own())?;
        Ok((Value::Dense(gathered), messages))
    }

    /// `dε = ⟨dY, X⟩`; the rest as of the messages.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        messages: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let dy = dy.with_dense(|dy| copied(cx, dy));
        io.input(0)
            .with_dense(|x| grads.add(&self.eps, Array2::from_elem((1, 1), dot(dy.view(), x))));
        vec![self.messages.back(cx, io, messages, dy, self.own(), grads)]
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let width = self.messages.channels();
        let macs = self.messages.macs(lowering.graph()?, width);
        Ok(lowering.opaque(xs, Evaluated::new(self.clone(), macs), width))
    }

    fn attrs(&self) -> Attrs {
        let eps = if let Init::Constant(eps) = self.eps.init() { eps } else { 0.0 };
        let attrs = Attrs::new().with("eps", eps).with("train_eps", self.eps.is_trainable());
        if self.messages.map.is_some() {
            attrs
        } else {
            attrs.with("columns", &self.messages.columns)
        }
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        f(&self.eps);
        self.messages.visit(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        f(&mut self.eps);
        self.messages.visit_mut(f);
    }

    fn reshaped(&mut self, kept: &Kept) -> Result<(), PruneError> {
        if self.messages.map.is_some() {
            return Ok(());
        }
        let known = self.messages.columns.len();
        let columns = kept
            .output
            .iter()
            .map(|&c| self.messages.columns.get(c).copied())
            .collect::<Option<_>>();
        // A file may say fewer than the layer before puts out; such a network does not run either.
        self.messages.columns = columns.ok_or_else(|| PruneError::Refused {
            layer: <Self as Registered<F>>::KIND.into(),
            reason: format!("it has columns for {known} channels, and {} come in", kept.out_width),
        })?;
        Ok(())
    }

    /// `(1+ε)·X`; ε is no longer learned.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        vec![NodeWise::scaled(F::one() + self.eps.value()[[0, 0]])]
    }
}

impl<F: Scalar> Registered<F> for GineAggregation<F> {
    const KIND: &'static str = "gine_aggregation";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &[],
        &[
            ("eps", "eps", Layout::Vector),
            ("edge_weight", "lin.weight", Layout::Transposed),
            ("edge_bias", "lin.bias", Layout::Vector),
        ],
    )
    .settings(&["eps", "train_eps", "columns"]));

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let messages = match shapes.find("edge_weight") {
            Some((edge_channels, channels)) => Messages::mapped(edge_channels, channels),
            None => Messages { map: None, columns: attrs.get("columns")? },
        };
        let layer = Self::of(messages, attrs.get_or("eps", 0.0)?)?;
        Ok(if attrs.get_or("train_eps", true)? { layer.train_eps(true) } else { layer })
    }

    fn sample(widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[channels] = widths else { return None };
        // As many features as the edges of random graphs have.
        let messages = match rng.random() {
            true => Messages::mapped(3, channels),
            false => Messages {
                map: None,
                columns: (0..channels).map(|_| rng.random_range(0..3)).collect(),
            },
        };
        let layer = Self::of(messages, rng.random_range(-0.5..0.5)).ok()?;
        Some(if rng.random() { layer.train_eps(true) } else { layer })
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        let trains = py(self.eps.is_trainable());
        if self.messages.map.is_none()
            && !self.messages.columns.iter().copied().eq(0..self.messages.columns.len())
        {
            return Err("of some columns of the features of edges".into());
        }
        // Without a width that it tells, the class of PyTorch Geometric cannot map the features of
        // edges to it.
        let inner = format!(
            "type('Identity', (torch.nn.Identity,), {{'in_features': {}}})()",
            at.in_channels
        );
        let made = format!("pyg.GINEConv({inner}, train_eps={trains}{})", self.messages.edge_dim());
        Ok(at.module(made, &["edge_index", "edge_attr"]))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        self.messages.oracle(graph, &xs[0], self.own())
    }
}
