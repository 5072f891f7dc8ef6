//! The graph attention layer of Veličković et al.

use super::heads::{
    Heads, dense_attention, dense_features, edge_features, heads_setters, numbers, numbers_mut,
    slice,
};
use crate::error::{PruneError, Result, Unsupported};
use crate::graph::{AttentionEdges, Graph};
use crate::kernels::{self, AdditiveScores, Attend};
use crate::nn::product::{bias_gradient, product};
use crate::nn::{
    Attrs, Axis, Cx, Evaluated, Grads, Init, Io, Kept, Layer, Layout, LinearMap, Lowering,
    NodeWise, Param, Place, Python, Reads, Registered, See, Shapes, StageId, Twin, Wiring, bias,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, s};
use ndarray_rand::rand::Rng;

/// Builder of a [`GatConv`]; see [`GatConv::builder`].
#[derive(Debug, Clone)]
pub struct GatConvBuilder {
    in_channels: usize,
    dim: usize,
    settings: Heads,
    edge_dim: Option<usize>,
    bias: bool,
}

impl GatConvBuilder {
    heads_setters!();

    /// Builds the layer; its parameters are zero until its model draws them.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a width of zero, a setting outside its range,
    /// and whole heads that are averaged.
    pub fn build<F: Scalar>(self) -> Result<GatConv<F>> {
        let Self { in_channels, dim, settings, edge_dim, .. } = self;
        settings.check(GatConv::<F>::KIND, in_channels, dim, edge_dim)?;
        let width = settings.heads * dim;
        let att = |name| settings.row(name, width, Init::GlorotUniform);
        let edge = edge_dim.map(|edge_dim| EdgeTerm {
            weight: settings.edge_weight(edge_dim, width),
            att: att("att_edge"),
        });
        Ok(GatConv {
            weight: Param::new(
                "weight",
                (in_channels, width),
                [Axis::In(0), settings.axis()],
                Init::GlorotUniform,
            ),
            att_src: att("att_src"),
            att_dst: att("att_dst"),
            edge,
            bias: self.bias.then(|| bias(settings.out_channels(width))),
            settings,
        })
    }
}

/// `y_i = ‖_h Σ_j α_ijh z_jh + b` or the mean over the heads, with `z = x·W` and
/// `α_ijh = softmax_j leaky_relu(a_src,h·z_jh + a_dst,h·z_ih + a_edge,h·(W_e e_ij)_h)`.
///
/// *Shapes*: `X: [n, in]` dense or sparse, `W: [in, heads·dim]`,
/// `a_src, a_dst, a_edge: [1, heads·dim]`, `W_e: [edge_dim, heads·dim]`, `b: [1, out]`,
/// `Y: [n, out]`, where `out` is `heads·dim`, or `dim` where heads are averaged. Self-loops of the
/// graph are replaced by one per node, whose edge features are the mean of those into the node;
/// edge weights are not read.
///
/// *Source*: Veličković et al., "Graph Attention Networks", ICLR 2018, eq. 1 to 6; loops and edge
/// features as in PyTorch Geometric's `GATConv`.
///
/// ```
/// use gnn_prune::nn::{GatConv, Model, NodeId};
/// let mut builder = Model::builder(8);
/// let conv = builder.add("conv1", GatConv::builder(8, 4).heads(2).build()?, &[NodeId::INPUT])?;
/// let model = builder.build(conv, 0)?;
/// assert_eq!((model.out_channels(), model.num_params()), (8, 8 * 8 + 3 * 8));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GatConv<F: Scalar = f32> {
    weight: Param<F>,
    att_src: Param<F>,
    att_dst: Param<F>,
    edge: Option<EdgeTerm<F>>,
    bias: Option<Param<F>>,
    settings: Heads,
}

/// What edges add to the scores.
#[derive(Debug, Clone)]
struct EdgeTerm<F: Scalar> {
    weight: Param<F>,
    att: Param<F>,
}

impl<F: Scalar> EdgeTerm<F> {
    /// `v_kh = Σ_c W_e,khc a_hc`, `[edge_dim, heads]`: the term of an edge is `e·v`.
    fn folded(&self, heads: usize) -> Array2<F> {
        let empty = Array2::zeros((self.weight.value().nrows(), heads));
        let [v] = kernels::head_dots(self.weight.value().view(), [slice(&self.att)], [empty]);
        v
    }

    /// `dW_e,khc = dv_kh a_hc`, `da_hc = Σ_k dv_kh W_e,khc`.
    fn add_gradients(&self, dv: &Array2<F>, grads: &mut Grads<F>) {
        let weight = self.weight.value();
        let dim = weight.ncols() / dv.ncols();
        let att = slice(&self.att);
        grads.add(
            &self.weight,
            Array2::from_shape_fn(weight.dim(), |(k, c)| dv[[k, c / dim]] * att[c]),
        );
        grads.add(&self.att, kernels::head_sums(weight.view(), dv.view()));
    }
}

impl GatConv<f32> {
    /// Starts a layer from `in_channels` to heads of `dim` channels.
    pub fn builder(in_channels: usize, dim: usize) -> GatConvBuilder {
        GatConvBuilder { in_channels, dim, settings: Heads::new(), edge_dim: None, bias: true }
    }
}

/// What backward needs of the forward pass.
#[derive(Debug)]
pub struct GatCache<F> {
    /// `XW`.
    z: Array2<F>,
    /// The terms of sources, targets and edges, a column per head.
    source: Array2<F>,
    target: Array2<F>,
    edge: Option<Array2<F>>,
}

impl<F: Scalar> GatConv<F> {
    fn scores<'a>(&'a self, terms: &'a GatCache<F>) -> AdditiveScores<'a, F> {
        AdditiveScores {
            source: numbers(&terms.source),
            target: numbers(&terms.target),
            edge: terms.edge.as_ref().map(numbers),
            att_source: slice(&self.att_src),
            att_target: slice(&self.att_dst),
            heads: self.settings.heads,
            slope: F::of(self.settings.negative_slope),
        }
    }

    fn terms(&self, cx: &Cx<F>, edges: &AttentionEdges<F>, x: &ValueRef<F>) -> Result<GatCache<F>> {
        let heads = self.settings.heads;
        let edge = match &self.edge {
            None => None,
            Some(edge) => {
                let features = edge_features(cx, edges, edge.weight.value().nrows())?;
                let mut terms = cx.take((edges.num_edges(), heads));
                kernels::matmul(features, edge.folded(heads).view(), terms.view_mut());
                Some(terms)
            }
        };
        let z = product(cx, x, self.weight.value().view());
        let empty = [(); 2].map(|()| cx.take((z.nrows(), heads)));
        let [source, target] =
            kernels::head_dots(z.view(), [slice(&self.att_src), slice(&self.att_dst)], empty);
        Ok(GatCache { z, source, target, edge })
    }
}

impl<F: Scalar> Layer<F> for GatConv<F> {
    type Cache = GatCache<F>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        self.settings.wiring(self.weight.value().ncols())
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        cx.check(&xs[0], self.weight.value().nrows())?;
        let edges = self.settings.edges(cx.graph()?);
        self.settings.check_draws(cx)?;
        let cache = self.terms(cx, &edges, &xs[0])?;
        let thin = self.settings.thin(cx);
        let mut wide = cx.take(cache.z.dim());
        let attend = Attend {
            edges: edges.neighbourhoods(),
            scores: &self.scores(&cache),
            heads: self.settings.heads,
            dim: cache.z.ncols() / self.settings.heads,
            z: numbers(&cache.z),
            dropout: thin.as_ref().map(|thin| thin as &(dyn Fn(usize, &mut [F]) + Sync)),
            bias: self.settings.wide_bias(&self.bias),
        };
        attend.forward(numbers_mut(&mut wide));
        Ok((Value::Dense(self.settings.joined(cx, wide, &self.bias)), cache))
    }

    fn infer(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Value<F>> {
        let (y, cache) = self.forward(cx, xs)?;
        [cache.z, cache.source, cache.target]
            .into_iter()
            .chain(cache.edge)
            .for_each(|used| cx.give(used));
        Ok(y)
    }

    /// With `dp, dq, dr` of the three terms: `dz_j = Σ_i α_ij dy_i + dp_j a_src + dq_j a_dst`,
    /// `da_src = Σ_j dp_j z_j`, `da_dst = Σ_i dq_i z_i`, `dv = eᵀ dr`, `dW = Xᵀ·dZ`, `dX = dZ·Wᵀ`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let edges = self.settings.edges(cx.graph().expect("the forward pass had a graph"));
        let (heads, n) = (self.settings.heads, cache.z.nrows());
        let dy = dy.with_dense(|dy| {
            if let Some(bias) = &self.bias {
                grads.add(bias, bias_gradient(dy));
            }
            self.settings.spread(cx, dy)
        });
        let thin = self.settings.thin(cx);
        let attend = Attend {
            edges: edges.neighbourhoods(),
            scores: &self.scores(&cache),
            heads,
            dim: cache.z.ncols() / heads,
            z: numbers(&cache.z),
            dropout: thin.as_ref().map(|thin| thin as &(dyn Fn(usize, &mut [F]) + Sync)),
            bias: None,
        };
        let mut pairs = cx.take((edges.num_edges(), 2 * heads));
        let (mut dp, mut dq, mut dz) =
            (cx.take((n, heads)), cx.take((n, heads)), cx.take(cache.z.dim()));
        attend.to_targets(numbers(&dy), numbers_mut(&mut pairs), numbers_mut(&mut dq));
        attend.to_sources(
            numbers(&dy),
            numbers(&pairs),
            numbers(&dq),
            numbers_mut(&mut dz),
            numbers_mut(&mut dp),
        );
        grads.add(&self.att_src, kernels::head_sums(cache.z.view(), dp.view()));
        grads.add(&self.att_dst, kernels::head_sums(cache.z.view(), dq.view()));
        if let Some(edge) = &self.edge {
            let features = edges.features().expect("the forward pass had edge features");
            let mut dv = Array2::zeros((features.ncols(), heads));
            kernels::matmul_tn(features, pairs.slice(s![.., heads..]), dv.view_mut());
            edge.add_gradients(&dv, grads);
        }
        grads.add(&self.weight, io.product_dw(0, dz.view()));
        let dx = io.wants(0).then(|| io.product_dx(cx, 0, dz.view(), self.weight.value().view()));
        [dy, pairs, dp, dq, dz, cache.z, cache.source, cache.target]
            .into_iter()
            .chain(cache.edge)
            .for_each(|used| cx.give(used));
        vec![dx]
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let width = self.weight.value().ncols();
        let edges = self.settings.edges(lowering.graph()?).num_edges();
        let of_edges =
            self.edge.as_ref().map_or(0, |edge| edge.weight.value().nrows() * self.settings.heads);
        let macs = lowering.stored(xs[0]) * width + edges * (2 * width + of_edges);
        Ok(lowering.opaque(
            xs,
            Evaluated::new(self.clone(), macs as u64),
            self.settings.out_channels(width),
        ))
    }

    fn attrs(&self) -> Attrs {
        self.settings.attrs()
    }

    /// One map, `G = X`: scores, softmax and sum are functions of `X·W`.
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        cx.check(&xs[0], self.weight.value().nrows())?;
        see(LinearMap::of(xs[0].reborrow(), &mut self.weight))
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        [&self.weight, &self.att_src, &self.att_dst].into_iter().for_each(&mut *f);
        self.edge.iter().for_each(|edge| [&edge.weight, &edge.att].into_iter().for_each(&mut *f));
        self.bias.iter().for_each(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        [&mut self.weight, &mut self.att_src, &mut self.att_dst].into_iter().for_each(&mut *f);
        self.edge
            .iter_mut()
            .for_each(|edge| [&mut edge.weight, &mut edge.att].into_iter().for_each(&mut *f));
        self.bias.iter_mut().for_each(f);
    }

    fn reshaped(&mut self, kept: &Kept) -> Result<(), PruneError> {
        self.settings.reshaped(Self::KIND, kept)
    }

    /// `X·W + b`, averaged over the heads where they are: all attention is on the node itself.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        vec![vec![NodeWise::linear(&self.settings.averaged(&self.weight), self.bias.as_ref())]]
    }
}

impl<F: Scalar> Registered<F> for GatConv<F> {
    const KIND: &'static str = "gat_conv";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["GATConv"],
        &[
            ("weight", "lin.weight", Layout::Transposed),
            ("att_src", "att_src", Layout::Heads),
            ("att_dst", "att_dst", Layout::Heads),
            ("edge_weight", "lin_edge.weight", Layout::Transposed),
            ("att_edge", "att_edge", Layout::Heads),
            ("bias", "bias", Layout::Vector),
        ],
    )
    .settings(&["heads", "average", "negative_slope", "dropout", "self_loops", "units"]));

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let (in_channels, width) = shapes.get("weight")?;
        let (settings, dim) = Heads::from_attrs(attrs, width)?;
        let edge_dim = shapes.find("edge_weight").map(|shape| shape.0);
        GatConvBuilder { in_channels, dim, settings, edge_dim, bias: shapes.find("bias").is_some() }
            .build()
    }

    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[in_channels] = widths else { return None };
        let (settings, dim, edge_dim) = Heads::sample(out, rng);
        GatConvBuilder { in_channels, dim, settings, edge_dim, bias: rng.random() }.build().ok()
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        let edge_dim = self.edge.as_ref().map(|edge| edge.weight.value().nrows());
        Ok(self.settings.to_python(
            at,
            "GATConv",
            self.weight.value().ncols(),
            edge_dim,
            "",
            self.bias.is_some(),
        ))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let z = xs[0].dot(self.weight.value());
        let dim = z.ncols() / self.settings.heads;
        let slope = F::of(self.settings.negative_slope);
        let score = |i: usize, j: usize, h: usize| {
            let features = dense_features(graph, &self.settings, i, j)?;
            let head = h * dim..(h + 1) * dim;
            let mut score: F = head
                .clone()
                .map(|c| {
                    self.att_src.value()[[0, c]] * z[[j, c]]
                        + self.att_dst.value()[[0, c]] * z[[i, c]]
                })
                .sum();
            if let Some(edge) = &self.edge {
                for c in head {
                    let projected: F = features
                        .iter()
                        .enumerate()
                        .map(|(k, &f)| f * edge.weight.value()[[k, c]])
                        .sum();
                    score += edge.att.value()[[0, c]] * projected;
                }
            }
            Some(score.max(F::zero()) + slope * score.min(F::zero()))
        };
        dense_attention(&self.settings, &z, score, self.bias.as_ref().map(Param::value))
    }
}
