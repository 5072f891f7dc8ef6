//! The convolution of GraphSAGE.

use super::EDGE_WEIGHTS;
use crate::error::{Error, Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph, Topology};
use crate::kernels::{self, Epilogue};
use crate::nn::linear_map::aggregated;
use crate::nn::product::{
    bias_gradient, gradient_like, product, product_dw, product_dx, then_bias, with_rows_below,
};
use crate::nn::pytorch::py;
use crate::nn::{
    Attrs, Axis, Cx, Evaluated, Grads, Init, Io, Layer, Layout, LinearMap, Lowering, NodeWise,
    Param, Place, PruneUnits, Python, Reads, Registered, RowSpace, See, Shapes, StageId, Twin,
    Wiring, bias, remade,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2};
use ndarray_rand::rand::Rng;
use serde::{Deserialize, Serialize};

/// What a node takes from its in-neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Aggregation {
    /// Their mean, by the edges' weights.
    #[default]
    Mean,
    /// Their sum, by the edges' weights.
    #[serde(alias = "add")]
    Sum,
    /// The largest of each channel; weights are not read.
    Max,
}

impl Aggregation {
    /// The operator, where there is one.
    fn norm(self, weighted: bool) -> Option<AdjacencyNorm> {
        let norm = match self {
            Aggregation::Mean => AdjacencyNorm::Mean,
            Aggregation::Sum => AdjacencyNorm::Sum,
            Aggregation::Max => return None,
        };
        Some(if weighted { norm } else { norm.unweighted() })
    }
}

impl std::str::FromStr for Aggregation {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "mean" => Ok(Self::Mean),
            "sum" | "add" => Ok(Self::Sum),
            "max" => Ok(Self::Max),
            _ => Err(Error::setting("aggregation", word, "mean, sum or max")),
        }
    }
}

/// Shortest length that rows are divided by, as in `torch.nn.functional.normalize`.
const SHORTEST: f64 = 1e-12;

/// Builder of a [`SageConv`]; see [`SageConv::builder`].
#[derive(Debug, Clone)]
pub struct SageConvBuilder {
    in_channels: usize,
    out_channels: usize,
    aggregation: Aggregation,
    root: bool,
    normalize: bool,
    bias: bool,
    weighted: bool,
}

impl SageConvBuilder {
    /// What a node takes from its in-neighbours. Default: [`Aggregation::Mean`].
    #[must_use]
    pub fn aggregation(mut self, aggregation: Aggregation) -> Self {
        self.aggregation = aggregation;
        self
    }

    /// Whether a node gives something to itself, by a weight of its own. Default: yes.
    #[must_use]
    pub fn root(mut self, root: bool) -> Self {
        self.root = root;
        self
    }

    /// Whether every row of the output is divided by its length. Default: no.
    #[must_use]
    pub fn normalize(mut self, normalize: bool) -> Self {
        self.normalize = normalize;
        self
    }

    /// Whether means and sums read what edges weigh; PyTorch Geometric's `SAGEConv` counts every
    /// edge once. Default: yes.
    #[must_use]
    pub fn edge_weights(mut self, read: bool) -> Self {
        self.weighted = read;
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
    pub fn build<F: Scalar>(self) -> Result<SageConv<F>> {
        if self.in_channels == 0 || self.out_channels == 0 {
            let value = format!("{} -> {}", self.in_channels, self.out_channels);
            return Err(Error::setting("channels of sage_conv", value, "at least 1 on both sides"));
        }
        let weight = |name| {
            Param::new(
                name,
                (self.in_channels, self.out_channels),
                [Axis::In(0), Axis::Out],
                Init::GlorotUniform,
            )
        };
        Ok(SageConv {
            weight: weight("weight"),
            root: self.root.then(|| weight("root")),
            bias: self.bias.then(|| bias(self.out_channels)),
            aggregation: self.aggregation,
            normalize: self.normalize,
            weighted: self.weighted,
        })
    }
}

/// `Y = X·W_root + AGG(X)·W + b`, by choice with rows divided by their lengths; a node without
/// in-neighbours takes zero from them.
///
/// *Shapes*: `X: [n, in]` dense or sparse, `W, W_root: [in, out]`, `b: [1, out]`, `Y: [n, out]`.
/// The product is taken where it is cheaper, except after a maximum, which comes first.
///
/// *Source*: Hamilton et al., "Inductive Representation Learning on Large Graphs", NeurIPS 2017,
/// algorithm 1, with the sum of two products in place of one of the concatenation.
#[derive(Debug, Clone)]
pub struct SageConv<F: Scalar = f32> {
    weight: Param<F>,
    root: Option<Param<F>>,
    bias: Option<Param<F>>,
    aggregation: Aggregation,
    normalize: bool,
    weighted: bool,
}

impl SageConv<f32> {
    /// Starts a layer from `in_channels` to `out_channels`.
    pub fn builder(in_channels: usize, out_channels: usize) -> SageConvBuilder {
        let (root, normalize, bias, weighted) = (true, false, true, true);
        SageConvBuilder {
            in_channels,
            out_channels,
            aggregation: Aggregation::Mean,
            root,
            normalize,
            bias,
            weighted,
        }
    }
}

/// What the backward pass of a [`SageConv`] needs.
#[derive(Debug)]
pub struct SageCache<F> {
    /// `AGG(X)`, where aggregation came first.
    aggregated: Option<Array2<F>>,
    /// Whose channel was the largest.
    largest: Option<Array2<u32>>,
    /// Length of each row before it was divided by it.
    lengths: Option<Vec<F>>,
}

impl<F: Scalar> SageConv<F> {
    fn norm(&self) -> Option<AdjacencyNorm> {
        self.aggregation.norm(self.weighted)
    }

    fn aggregates_first(&self, sparse: bool) -> bool {
        let (inputs, outputs) = self.weight.value().dim();
        self.aggregation == Aggregation::Max || (!sparse && inputs < outputs)
    }

    /// The backward pass but for the division by the lengths.
    fn back(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: SageCache<F>,
        dy: ArrayView2<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let topology = cx.topology().expect("the forward pass had it");
        let (sources, targets) = (topology.num_sources(), topology.num_targets());
        let operator = |norm| topology.operator(norm).expect("the forward pass had it");
        let (x, w) = (io.input(0), self.weight.value().view());
        if let Some(bias) = &self.bias {
            grads.add(bias, bias_gradient(dy));
        }
        let mut dx = self.root.as_ref().and_then(|root| {
            let own = x.head(targets);
            grads.add(root, product_dw(&own, dy));
            io.wants(0).then(|| {
                let dx = product_dx(cx, &own, dy, root.value().view());
                gradient_like(Some(x), with_rows_below(dx, sources))
            })
        });
        let term = match cache.aggregated {
            Some(h) => {
                grads.add(&self.weight, product_dw(&ValueRef::Dense(h.view()), dy));
                let term = io.wants(0).then(|| {
                    let mut dh = cx.take(h.dim());
                    kernels::matmul_nt(dy, w, dh.view_mut());
                    let dx = match (self.norm(), &cache.largest) {
                        (Some(norm), _) => {
                            let mut dx = cx.take((sources, dh.ncols()));
                            kernels::spmm(operator(norm).transpose(), dh.view(), dx.view_mut());
                            dx
                        }
                        (None, largest) => {
                            let largest =
                                largest.as_ref().expect("a maximum remembers whose it was");
                            kernels::spmm_max_t(
                                operator(AdjacencyNorm::Sum).transpose(),
                                largest,
                                dh.view(),
                            )
                        }
                    };
                    cx.give(dh);
                    gradient_like(Some(x), Value::Dense(dx))
                });
                cx.give(h);
                term
            }
            None => {
                let norm = self.norm().expect("a maximum comes first");
                let mut dz = cx.take((sources, dy.ncols()));
                kernels::spmm(operator(norm).transpose(), dy, dz.view_mut());
                grads.add(&self.weight, product_dw(&x, dz.view()));
                let term = match &mut dx {
                    Some(Value::Dense(dx)) => {
                        kernels::matmul_nt_then(
                            dz.view(),
                            w,
                            dx.view_mut(),
                            Epilogue { add: true, ..Epilogue::NONE },
                        );
                        None
                    }
                    _ => io.wants(0).then(|| product_dx(cx, &x, dz.view(), w)),
                };
                cx.give(dz);
                term
            }
        };
        match (&mut dx, term) {
            (Some(dx), Some(term)) => dx.accumulate(term).expect("both are gradients of one input"),
            (None, term) => dx = term,
            (Some(_), None) => (),
        }
        vec![dx]
    }
}

/// Divides every row by its length and returns the lengths.
fn normalized<F: Scalar>(y: &mut Array2<F>) -> Vec<F> {
    let length = |row: ndarray::ArrayView1<F>| {
        row.iter().map(|&v| v * v).sum::<F>().sqrt().max(F::of(SHORTEST))
    };
    let lengths: Vec<F> = y.outer_iter().map(length).collect();
    kernels::map_rows(y.view_mut(), |i, row| row.iter_mut().for_each(|y| *y /= lengths[i]));
    lengths
}

/// `dX = (dY − Y·⟨Y, dY⟩) / length`; a row shorter than the shortest was divided by a constant.
fn normalized_gradient<F: Scalar>(y: ArrayView2<F>, lengths: &[F], dy: ArrayView2<F>) -> Array2<F> {
    let mut dx = dy.to_owned();
    kernels::map_rows(dx.view_mut(), |i, row| {
        let dot: F = if lengths[i] > F::of(SHORTEST) {
            row.iter().zip(y.row(i)).map(|(&dy, &y)| dy * y).sum()
        } else {
            F::zero()
        };
        row.iter_mut().zip(y.row(i)).for_each(|(dx, &y)| *dx = (*dx - y * dot) / lengths[i]);
    });
    dx
}

impl<F: Scalar> Layer<F> for SageConv<F> {
    type Cache = SageCache<F>;

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
        let (x, w) = (&xs[0], self.weight.value());
        cx.check(x, w.nrows())?;
        let topology = cx.topology()?;
        let targets = topology.num_targets();
        let mut cache = SageCache { aggregated: None, largest: None, lengths: None };
        // The root's term is written first, and the neighbours' is added to it on the way out.
        let mut y = match &self.root {
            Some(root) => product(cx, &x.head(targets), root.value().view()),
            None => cx.take((targets, w.ncols())),
        };
        let then = Epilogue { add: self.root.is_some(), ..then_bias(self.bias.as_ref()) };
        match self.norm() {
            None => {
                let (h, largest) = match topology {
                    Topology::Square(graph) => {
                        x.with_dense(|x| kernels::spmm_max(graph.adjacency(), x))
                    }
                    Topology::Hop(_) => {
                        let operator = topology.operator(AdjacencyNorm::Sum)?;
                        x.with_dense(|x| kernels::spmm_max(operator.forward(), x))
                    }
                };
                kernels::matmul_then(h.view(), w.view(), y.view_mut(), then);
                (cache.aggregated, cache.largest) = (Some(h), Some(largest));
            }
            Some(norm) if self.aggregates_first(matches!(x, ValueRef::Sparse(_))) => {
                let mut h = cx.take((targets, x.cols()));
                let operator = topology.operator(norm)?;
                x.with_dense(|x| kernels::spmm(operator.forward(), x, h.view_mut()));
                kernels::matmul_then(h.view(), w.view(), y.view_mut(), then);
                cache.aggregated = Some(h);
            }
            Some(norm) => {
                let z = product(cx, x, w.view());
                kernels::spmm_then(
                    topology.operator(norm)?.forward(),
                    z.view(),
                    y.view_mut(),
                    then,
                );
                cx.give(z);
            }
        }
        cache.lengths = self.normalize.then(|| normalized(&mut y));
        Ok((Value::Dense(y), cache))
    }

    fn infer(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Value<F>> {
        let (y, cache) = self.forward(cx, xs)?;
        cache.aggregated.into_iter().for_each(|used| cx.give(used));
        Ok(y)
    }

    /// `dW_root = Xᵀ·dY`; with `H = AGG(X)`: `dW = Hᵀ·dY`, `dH = dY·Wᵀ`; with `Z = XW`:
    /// `dZ = Âᵀ·dY`, `dW = Xᵀ·dZ`; the terms of `dX` add up.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        dy.with_dense(|dy| match &cache.lengths {
            Some(lengths) => {
                let unscaled = io.output().with_dense(|y| normalized_gradient(y, lengths, dy));
                self.back(cx, io, cache, unscaled.view(), grads)
            }
            None => self.back(cx, io, cache, dy, grads),
        })
    }

    fn reads(&self) -> Reads {
        if self.normalize { Reads::InputsAndOutput } else { Reads::Inputs }
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let (inputs, outputs) = self.weight.value().dim();
        let first = self.aggregates_first(lowering.is_sparse(xs[0]));
        let norm = match self.norm() {
            Some(norm) if !self.normalize => norm,
            _ => {
                let edges = lowering.graph()?.num_edges();
                let products =
                    lowering.stored(xs[0]) * outputs * (1 + usize::from(self.root.is_some()));
                let macs = edges * if first { inputs } else { outputs } + products;
                let operation = Evaluated::new(self.clone(), macs as u64);
                return Ok(lowering.opaque(xs, operation, outputs));
            }
        };
        let mut y = if first {
            let h = lowering.aggregate(xs[0], norm)?;
            lowering.linear(h, &self.weight)
        } else {
            let z = lowering.linear(xs[0], &self.weight);
            lowering.aggregate(z, norm)?
        };
        if let Some(root) = &self.root {
            let own = lowering.linear(xs[0], root);
            y = lowering.add(&[y, own], &[F::one(), F::one()]);
        }
        Ok(self.bias.as_ref().map_or(y, |bias| lowering.bias(y, bias)))
    }

    fn attrs(&self) -> Attrs {
        let attrs =
            Attrs::new().with("aggregation", self.aggregation).with("normalize", self.normalize);
        if self.weighted { attrs } else { attrs.with(EDGE_WEIGHTS, false) }
    }

    /// One map of two terms: `G = [AGG(X), X]`. A maximum is taken channel by channel, so that it
    /// is part of `G` like a mean.
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        let x = &xs[0];
        cx.check(x, self.weight.value().nrows())?;
        let graph = cx.graph()?;
        let g = match self.norm() {
            Some(norm) => aggregated(cx, graph.operator(norm)?.forward(), F::zero(), x),
            None => Value::Dense(x.with_dense(|x| kernels::spmm_max(graph.adjacency(), x)).0),
        };
        let mut map = LinearMap::of_made(g, &mut self.weight);
        if let Some(root) = &mut self.root {
            map = map.and(LinearMap::of(x.reborrow(), root));
        }
        see(map.with_bias(self.bias.as_mut()))
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        f(&self.weight);
        [&self.root, &self.bias].into_iter().flatten().for_each(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        f(&mut self.weight);
        [&mut self.root, &mut self.bias].into_iter().flatten().for_each(f);
    }

    /// `X·W_root + b`, without what came from the neighbours, or `X·(W_root + W) + b`, with the
    /// node in their place.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        let form = |weight: Param<F>| {
            let linear = NodeWise::Linear { weight, bias: self.bias.clone() };
            [linear].into_iter().chain(self.normalize.then_some(NodeWise::Normalize)).collect()
        };
        match &self.root {
            None => vec![form(self.weight.clone())],
            Some(root) => {
                let sum = root.value() + self.weight.value();
                vec![form(root.clone()), form(remade(root, sum, &[root, &self.weight]))]
            }
        }
    }
}

impl<F: Scalar> Registered<F> for SageConv<F> {
    const KIND: &'static str = "sage_conv";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["SAGEConv"],
        &[
            ("weight", "lin_l.weight", Layout::Transposed),
            ("bias", "lin_l.bias", Layout::Vector),
            ("root", "lin_r.weight", Layout::Transposed),
        ],
    )
    .settings(&["aggregation", "normalize", EDGE_WEIGHTS]));

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let (in_channels, out_channels) = shapes.get("weight")?;
        let builder = SageConvBuilder {
            in_channels,
            out_channels,
            aggregation: attrs.get("aggregation")?,
            root: shapes.find("root").is_some(),
            normalize: attrs.get("normalize")?,
            bias: shapes.find("bias").is_some(),
            weighted: attrs.get_or(EDGE_WEIGHTS, true)?,
        };
        builder.build()
    }

    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[in_channels] = widths else { return None };
        let aggregation =
            [Aggregation::Mean, Aggregation::Sum, Aggregation::Max][rng.random_range(0..3)];
        let (root, normalize, bias, weighted) = rng.random();
        SageConvBuilder {
            in_channels,
            out_channels: out,
            aggregation,
            root,
            normalize,
            bias,
            weighted,
        }
        .build()
        .ok()
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        let aggregation = format!("{:?}", self.aggregation).to_lowercase();
        let made = format!(
            "pyg.SAGEConv({}, {}, aggr={aggregation:?}, normalize={}, root_weight={}, bias={})",
            at.in_channels,
            at.out_channels,
            py(self.normalize),
            py(self.root.is_some()),
            py(self.bias.is_some())
        );
        Ok(at
            .module(made, &["edge_index"])
            .without_edge_weights(self.weighted && self.aggregation != Aggregation::Max))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let (n, x) = (graph.num_nodes(), &xs[0]);
        let a = if self.weighted {
            crate::nn::dense_adjacency(graph)
        } else {
            crate::nn::dense_counts(graph)
        };
        let h = match self.aggregation {
            Aggregation::Sum => a.dot(x),
            Aggregation::Mean => {
                let degrees = a.sum_axis(ndarray::Axis(1));
                let mean = |(i, j): (usize, usize)| {
                    if degrees[i] == F::zero() { F::zero() } else { a[[i, j]] / degrees[i] }
                };
                Array2::from_shape_fn((n, n), mean).dot(x)
            }
            Aggregation::Max => Array2::from_shape_fn(x.dim(), |(i, c)| {
                let neighbours = (0..n).filter(|&j| graph.adjacency().get(i, j).is_some());
                neighbours.map(|j| x[[j, c]]).reduce(F::max).unwrap_or(F::zero())
            }),
        };
        let mut y = h.dot(self.weight.value());
        if let Some(root) = &self.root {
            y += &x.dot(root.value());
        }
        if let Some(bias) = &self.bias {
            y += bias.value();
        }
        if self.normalize {
            for mut row in y.outer_iter_mut() {
                let length = row.dot(&row).sqrt().max(F::of(SHORTEST));
                row.mapv_inplace(|v| v / length);
            }
        }
        y
    }
}
