//! The graph attention layer of Brody et al.

use super::heads::{
    Heads, dense_attention, dense_features, edge_features, heads_setters, numbers, numbers_mut,
    slice,
};
use super::propagation::copied;
use crate::error::{PruneError, Result, Unsupported};
use crate::graph::{AttentionEdges, Graph};
use crate::kernels::{self, Attend, ChannelScores};
use crate::nn::product::{bias_gradient, product};
use crate::nn::{
    Attrs, Axis, Cx, Evaluated, Grads, Init, Io, Kept, Layer, Layout, LinearMap, Lowering,
    NodeWise, Param, Place, Python, Reads, Registered, See, Shapes, StageId, Twin, Wiring, bias,
    remade,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// Builder of a [`Gatv2Conv`]; see [`Gatv2Conv::builder`].
#[derive(Debug, Clone)]
pub struct Gatv2ConvBuilder {
    in_channels: usize,
    dim: usize,
    settings: Heads,
    edge_dim: Option<usize>,
    bias: bool,
    end_bias: bool,
    shared: bool,
}

impl Gatv2ConvBuilder {
    heads_setters!();

    /// Whether the two linear maps have biases. Default: yes.
    #[must_use]
    pub fn end_bias(mut self, bias: bool) -> Self {
        self.end_bias = bias;
        self
    }

    /// Whether both ends of an edge are mapped by the same weight. Default: no.
    #[must_use]
    pub fn share_weights(mut self, shared: bool) -> Self {
        self.shared = shared;
        self
    }

    /// Builds the layer; its parameters are zero until its model draws them.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a width of zero, a setting outside its range,
    /// and whole heads that are averaged.
    pub fn build<F: Scalar>(self) -> Result<Gatv2Conv<F>> {
        let Self { in_channels, dim, settings, edge_dim, .. } = self;
        settings.check(Gatv2Conv::<F>::KIND, in_channels, dim, edge_dim)?;
        let width = settings.heads * dim;
        let end = |weight, bias| End {
            weight: Param::new(
                weight,
                (in_channels, width),
                [Axis::In(0), settings.axis()],
                Init::GlorotUniform,
            ),
            bias: self.end_bias.then(|| settings.row(bias, width, Init::Zeros)),
        };
        Ok(Gatv2Conv {
            src: end("weight_src", "bias_src"),
            dst: (!self.shared).then(|| end("weight_dst", "bias_dst")),
            att: settings.row("att", width, Init::GlorotUniform),
            edge_weight: edge_dim.map(|edge_dim| settings.edge_weight(edge_dim, width)),
            bias: self.bias.then(|| bias(settings.out_channels(width))),
            settings,
        })
    }
}

/// `y_i = ‖_h Σ_j α_ijh p_jh + b` or the mean over the heads, with `p = x·W_src + b_src`,
/// `q = x·W_dst + b_dst` and `α_ijh = softmax_j a_h·leaky_relu(p_jh + q_ih + (W_e e_ij)_h)`.
///
/// *Shapes*: `X: [n, in]` dense or sparse, `W_src, W_dst: [in, heads·dim]`,
/// `b_src, b_dst, a: [1, heads·dim]`, `W_e: [edge_dim, heads·dim]`, `b: [1, out]`, `Y: [n, out]`,
/// where `out` is `heads·dim`, or `dim` where heads are averaged. Self-loops of the graph are
/// replaced by one per node, whose edge features are the mean of those into the node; edge weights
/// are not read.
///
/// *Source*: Brody, Alon and Yahav, "How Attentive are Graph Attention Networks?", ICLR 2022, eq.
/// 7; loops and edge features as in PyTorch Geometric's `GATv2Conv`.
///
/// ```
/// use gnn_prune::nn::{Gatv2Conv, Model, NodeId};
/// let mut builder = Model::builder(8);
/// let conv = builder.add("conv1", Gatv2Conv::builder(8, 4).heads(2).average(true).build()?, &[NodeId::INPUT])?;
/// let model = builder.build(conv, 0)?;
/// assert_eq!((model.out_channels(), model.num_params()), (4, 2 * (8 * 8 + 8) + 8 + 4));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Gatv2Conv<F: Scalar = f32> {
    src: End<F>,
    /// As `src` where the weights are shared.
    dst: Option<End<F>>,
    att: Param<F>,
    edge_weight: Option<Param<F>>,
    bias: Option<Param<F>>,
    settings: Heads,
}

/// The linear map of one end of the edges.
#[derive(Debug, Clone)]
struct End<F: Scalar> {
    weight: Param<F>,
    bias: Option<Param<F>>,
}

impl<F: Scalar> End<F> {
    fn of(&self, cx: &Cx<F>, x: &ValueRef<F>) -> Array2<F> {
        let mut z = product(cx, x, self.weight.value().view());
        if let Some(bias) = &self.bias {
            kernels::add_bias(z.view_mut(), slice(bias));
        }
        z
    }

    /// Adds the gradients of the map and returns that of `X`.
    fn back(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        dz: &Array2<F>,
        grads: &mut Grads<F>,
    ) -> Option<Value<F>> {
        grads.add(&self.weight, io.product_dw(0, dz.view()));
        if let Some(bias) = &self.bias {
            grads.add(bias, bias_gradient(dz.view()));
        }
        io.wants(0).then(|| io.product_dx(cx, 0, dz.view(), self.weight.value().view()))
    }
}

impl Gatv2Conv<f32> {
    /// Starts a layer from `in_channels` to heads of `dim` channels.
    pub fn builder(in_channels: usize, dim: usize) -> Gatv2ConvBuilder {
        Gatv2ConvBuilder {
            in_channels,
            dim,
            settings: Heads::new(),
            edge_dim: None,
            bias: true,
            end_bias: true,
            shared: false,
        }
    }
}

impl<F: Scalar> Gatv2Conv<F> {
    fn scores<'a>(
        &'a self,
        edges: &'a AttentionEdges<F>,
        p: &'a Array2<F>,
        q: &'a Array2<F>,
    ) -> ChannelScores<'a, F> {
        let edge = self.edge_weight.as_ref().map(|weight| {
            let features = edges.features().expect("the width of the edge features was checked");
            (features.to_slice().expect("edge features are contiguous"), slice(weight))
        });
        let (heads, slope) = (self.settings.heads, F::of(self.settings.negative_slope));
        ChannelScores {
            source: numbers(p),
            target: numbers(q),
            edge,
            att: slice(&self.att),
            heads,
            slope,
        }
    }
}

impl<F: Scalar> Layer<F> for Gatv2Conv<F> {
    /// `p` and `q`.
    type Cache = [Array2<F>; 2];

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        self.settings.wiring(self.att.value().ncols())
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        cx.check(&xs[0], self.src.weight.value().nrows())?;
        let edges = self.settings.edges(cx.graph()?);
        self.settings.check_draws(cx)?;
        if let Some(weight) = &self.edge_weight {
            edge_features(cx, &edges, weight.value().nrows())?;
        }
        let p = self.src.of(cx, &xs[0]);
        let q = match &self.dst {
            Some(dst) => dst.of(cx, &xs[0]),
            None => copied(cx, p.view()),
        };
        let thin = self.settings.thin(cx);
        let mut wide = cx.take(p.dim());
        let attend = Attend {
            edges: edges.neighbourhoods(),
            scores: &self.scores(&edges, &p, &q),
            heads: self.settings.heads,
            dim: p.ncols() / self.settings.heads,
            z: numbers(&p),
            dropout: thin.as_ref().map(|thin| thin as &(dyn Fn(usize, &mut [F]) + Sync)),
            bias: self.settings.wide_bias(&self.bias),
        };
        attend.forward(numbers_mut(&mut wide));
        Ok((Value::Dense(self.settings.joined(cx, wide, &self.bias)), [p, q]))
    }

    fn infer(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Value<F>> {
        let (y, used) = self.forward(cx, xs)?;
        used.into_iter().for_each(|used| cx.give(used));
        Ok(y)
    }

    /// With `du_ij = ds_ij a ⊙ leaky_relu'(u_ij)`: `dp_j = Σ_i α_ij dy_i + du_ij`,
    /// `dq_i = Σ_j du_ij`, `da = Σ ds_ij leaky_relu(u_ij)`, `dW_e = Σ e_ijᵀ du_ij`, then as for two
    /// linear maps.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        [p, q]: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let edges = self.settings.edges(cx.graph().expect("the forward pass had a graph"));
        let (heads, width) = (self.settings.heads, p.ncols());
        let dy = dy.with_dense(|dy| {
            if let Some(bias) = &self.bias {
                grads.add(bias, bias_gradient(dy));
            }
            self.settings.spread(cx, dy)
        });
        let thin = self.settings.thin(cx);
        let attend = Attend {
            edges: edges.neighbourhoods(),
            scores: &self.scores(&edges, &p, &q),
            heads,
            dim: width / heads,
            z: numbers(&p),
            dropout: thin.as_ref().map(|thin| thin as &(dyn Fn(usize, &mut [F]) + Sync)),
            bias: None,
        };
        let mut pairs = cx.take((edges.num_edges(), 2 * heads));
        let (mut dp, mut dq) = (cx.take(p.dim()), cx.take(p.dim()));
        let shared = attend.to_targets(numbers(&dy), numbers_mut(&mut pairs), numbers_mut(&mut dq));
        attend.to_sources(
            numbers(&dy),
            numbers(&pairs),
            numbers(&dq),
            numbers_mut(&mut dp),
            &mut [],
        );
        let (datt, dweight) = shared.split_at(width);
        let shaped = |param: &Param<F>, numbers: &[F]| {
            Array2::from_shape_vec(param.value().dim(), numbers.to_vec())
        };
        grads.add(&self.att, shaped(&self.att, datt).expect("it has a number a channel"));
        if let Some(weight) = &self.edge_weight {
            grads.add(weight, shaped(weight, dweight).expect("it has the numbers of the weight"));
        }
        if self.dst.is_none() {
            dp += &dq;
        }
        let mut dx = self.src.back(cx, io, &dp, grads);
        let other = self.dst.as_ref().and_then(|dst| dst.back(cx, io, &dq, grads));
        if let (Some(dx), Some(other)) = (&mut dx, other) {
            dx.accumulate(other).expect("both are gradients of the same input");
        }
        [dy, pairs, dp, dq, p, q].into_iter().for_each(|used| cx.give(used));
        vec![dx]
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let width = self.att.value().ncols();
        let edges = self.settings.edges(lowering.graph()?).num_edges();
        let of_edges = self.edge_weight.as_ref().map_or(0, |weight| weight.value().nrows());
        let ends = 1 + usize::from(self.dst.is_some());
        let macs = ends * lowering.stored(xs[0]) * width + edges * width * (2 + of_edges);
        Ok(lowering.opaque(
            xs,
            Evaluated::new(self.clone(), macs as u64),
            self.settings.out_channels(width),
        ))
    }

    fn attrs(&self) -> Attrs {
        self.settings.attrs()
    }

    /// A map for each end of the edges, both with `G = X`: scores, softmax and sum are functions of
    /// them.
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        cx.check(&xs[0], self.src.weight.value().nrows())?;
        for end in std::iter::once(&mut self.src).chain(&mut self.dst) {
            see(LinearMap::of(xs[0].reborrow(), &mut end.weight).with_bias(end.bias.as_mut()))?;
        }
        Ok(())
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        let Self { src, dst, att, edge_weight, bias, .. } = self;
        for end in [Some(src), dst.as_ref()].into_iter().flatten() {
            f(&end.weight);
            end.bias.iter().for_each(&mut *f);
        }
        [att].into_iter().chain(edge_weight).chain(bias).for_each(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        let Self { src, dst, att, edge_weight, bias, .. } = self;
        for end in [Some(src), dst.as_mut()].into_iter().flatten() {
            f(&mut end.weight);
            end.bias.iter_mut().for_each(&mut *f);
        }
        [att].into_iter().chain(edge_weight).chain(bias).for_each(f);
    }

    fn reshaped(&mut self, kept: &Kept) -> Result<(), PruneError> {
        self.settings.reshaped(Self::KIND, kept)
    }

    /// `X·W_src + b_src + b`, averaged over the heads where they are: all attention is on the node
    /// itself.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        let weight = self.settings.averaged(&self.src.weight);
        let own = self.src.bias.as_ref().map(|bias| self.settings.averaged(bias));
        let bias = match (own, &self.bias) {
            (Some(own), Some(bias)) => {
                Some(remade(bias, own.value() + bias.value(), &[&own, bias]))
            }
            (own, bias) => own.or(bias.clone()),
        };
        vec![vec![NodeWise::Linear { weight, bias }]]
    }
}

impl<F: Scalar> Registered<F> for Gatv2Conv<F> {
    const KIND: &'static str = "gatv2_conv";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["GATv2Conv"],
        &[
            ("weight_src", "lin_l.weight", Layout::Transposed),
            ("bias_src", "lin_l.bias", Layout::Vector),
            ("weight_dst", "lin_r.weight", Layout::Transposed),
            ("bias_dst", "lin_r.bias", Layout::Vector),
            ("att", "att", Layout::Heads),
            ("edge_weight", "lin_edge.weight", Layout::Transposed),
            ("bias", "bias", Layout::Vector),
        ],
    )
    .settings(&["heads", "average", "negative_slope", "dropout", "self_loops", "units"]));

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let (in_channels, width) = shapes.get("weight_src")?;
        let (settings, dim) = Heads::from_attrs(attrs, width)?;
        let edge_dim = shapes.find("edge_weight").map(|shape| shape.0);
        let has = |name| shapes.find(name).is_some();
        let (bias, end_bias, shared) = (has("bias"), has("bias_src"), !has("weight_dst"));
        Gatv2ConvBuilder { in_channels, dim, settings, edge_dim, bias, end_bias, shared }.build()
    }

    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[in_channels] = widths else { return None };
        let (settings, dim, edge_dim) = Heads::sample(out, rng);
        let (bias, end_bias, shared) = rng.random();
        Gatv2ConvBuilder { in_channels, dim, settings, edge_dim, bias, end_bias, shared }
            .build()
            .ok()
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        if self.src.bias.is_some() != self.bias.is_some() {
            return Err("with some of its biases".into());
        }
        let edge_dim = self.edge_weight.as_ref().map(|weight| weight.value().nrows());
        let shared = if self.dst.is_none() { ", share_weights=True" } else { "" };
        Ok(self.settings.to_python(
            at,
            "GATv2Conv",
            self.src.weight.value().ncols(),
            edge_dim,
            shared,
            self.bias.is_some(),
        ))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let linear = |end: &End<F>| {
            let z = xs[0].dot(end.weight.value());
            end.bias.as_ref().map_or(z.clone(), |bias| z + bias.value())
        };
        let (p, q) = (linear(&self.src), linear(self.dst.as_ref().unwrap_or(&self.src)));
        let dim = p.ncols() / self.settings.heads;
        let slope = F::of(self.settings.negative_slope);
        let score = |i: usize, j: usize, h: usize| {
            let features = dense_features(graph, &self.settings, i, j)?;
            let of_channel = |c: usize| {
                let mut u = p[[j, c]] + q[[i, c]];
                if let Some(weight) = &self.edge_weight {
                    u +=
                        features.iter().enumerate().map(|(k, &f)| f * weight.value()[[k, c]]).sum();
                }
                self.att.value()[[0, c]] * (u.max(F::zero()) + slope * u.min(F::zero()))
            };
            Some((h * dim..(h + 1) * dim).map(of_channel).sum())
        };
        dense_attention(&self.settings, &p, score, self.bias.as_ref().map(Param::value))
    }
}
