//! Simplified graph convolution.

use super::propagation::{
    copied, dense_operator, norm_argument, norm_of, propagated, random_norm, with_norm,
};
use crate::error::{Error, Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph};
use crate::kernels;
use crate::nn::linear_map::aggregated;
use crate::nn::product::{bias_gradient, product, product_dw};
use crate::nn::pytorch::py;
use crate::nn::{
    Attrs, Axis, Cx, Grads, Init, Io, Layer, Layout, LinearMap, Lowering, NodeWise, Param, Piece,
    Place, PruneUnits, Python, Reads, Registered, See, Shapes, StageId, Twin, Wiring, bias,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// Most hops: further ones change nothing that a float can tell.
const MOST_HOPS: usize = 1000;

/// Builder of an [`SgConv`]; see [`SgConv::builder`].
#[derive(Debug, Clone)]
pub struct SgConvBuilder {
    in_channels: usize,
    out_channels: usize,
    hops: usize,
    norm: AdjacencyNorm,
    bias: bool,
}

impl SgConvBuilder {
    /// How often features are aggregated, 1 to 1000. Default 2.
    #[must_use]
    pub fn hops(mut self, hops: usize) -> Self {
        self.hops = hops;
        self
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
    /// [`Error::Setting`] for a width of zero or a number of hops out of range.
    pub fn build<F: Scalar>(self) -> Result<SgConv<F>> {
        if self.in_channels == 0 || self.out_channels == 0 {
            let value = format!("{} -> {}", self.in_channels, self.out_channels);
            return Err(Error::setting("channels of sg_conv", value, "at least 1 on both sides"));
        }
        if !(1..=MOST_HOPS).contains(&self.hops) {
            return Err(Error::setting("hops of sg_conv", self.hops, "1 to 1000"));
        }
        let weight = Param::new(
            "weight",
            (self.in_channels, self.out_channels),
            [Axis::In(0), Axis::Out],
            Init::GlorotUniform,
        );
        Ok(SgConv {
            weight,
            bias: self.bias.then(|| bias(self.out_channels)),
            hops: self.hops,
            norm: self.norm,
        })
    }
}

/// `Y = Â^K·X·W + b`, with `Â` as in [`GcnConv`](super::GcnConv).
///
/// *Shapes*: `X: [n, in]` dense or sparse, `W: [in, out]`, `b: [1, out]`, `Y: [n, out]`. The
/// product is taken where it is cheaper.
///
/// *Source*: Wu et al., "Simplifying Graph Convolutional Networks", ICML 2019, eq. 8.
#[derive(Debug, Clone)]
pub struct SgConv<F: Scalar = f32> {
    weight: Param<F>,
    bias: Option<Param<F>>,
    hops: usize,
    norm: AdjacencyNorm,
}

impl SgConv<f32> {
    /// Starts a layer from `in_channels` to `out_channels`.
    pub fn builder(in_channels: usize, out_channels: usize) -> SgConvBuilder {
        SgConvBuilder {
            in_channels,
            out_channels,
            hops: 2,
            norm: AdjacencyNorm::Symmetric,
            bias: true,
        }
    }
}

impl<F: Scalar> SgConv<F> {
    fn aggregates_first(&self, sparse: bool) -> bool {
        !sparse && self.weight.value().nrows() < self.weight.value().ncols()
    }
}

impl<F: Scalar> Layer<F> for SgConv<F> {
    /// `Â^K·X`, where aggregation came first.
    type Cache = Option<Array2<F>>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Fresh { channels: self.weight.value().ncols(), units: PruneUnits::Single }
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        let w = self.weight.value();
        cx.check(&xs[0], w.nrows())?;
        let operator = cx.graph()?.operator(self.norm)?;
        let (mut y, cache) = match &xs[0] {
            ValueRef::Dense(x) if self.aggregates_first(false) => {
                let h = propagated(cx, operator.forward(), copied(cx, x.view()), self.hops);
                (product(cx, &ValueRef::Dense(h.view()), w.view()), Some(h))
            }
            x => (propagated(cx, operator.forward(), product(cx, x, w.view()), self.hops), None),
        };
        if let Some(bias) = &self.bias {
            kernels::add_bias(
                y.view_mut(),
                bias.value().as_slice().expect("parameters are contiguous"),
            );
        }
        Ok((Value::Dense(y), cache))
    }

    /// As for one hop, with `Âᵀ` applied as often as `Â` was.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let operator = cx
            .graph()
            .and_then(|graph| graph.operator(self.norm))
            .expect("the forward pass had it");
        let w = self.weight.value().view();
        dy.with_dense(|dy| {
            if let Some(bias) = &self.bias {
                grads.add(bias, bias_gradient(dy));
            }
            let dx = match cache {
                Some(mut h) => {
                    grads.add(&self.weight, product_dw(&ValueRef::Dense(h.view()), dy));
                    io.wants(0).then(|| {
                        kernels::matmul_nt(dy, w, h.view_mut());
                        Value::Dense(propagated(cx, operator.transpose(), h, self.hops))
                    })
                }
                None => {
                    let dz = propagated(cx, operator.transpose(), copied(cx, dy), self.hops);
                    grads.add(&self.weight, io.product_dw(0, dz.view()));
                    let dx = io.wants(0).then(|| io.product_dx(cx, 0, dz.view(), w));
                    cx.give(dz);
                    dx
                }
            };
            vec![dx]
        })
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn pieces(&self, sparse: bool) -> Option<Vec<Piece<F>>> {
        let (norm, bias, first) = (self.norm, self.bias.as_ref(), self.aggregates_first(sparse));
        let product = Piece::product(&self.weight, bias.filter(|_| first));
        let mut pieces: Vec<_> = (1..=self.hops)
            .map(|k| {
                let last = k == self.hops && !first;
                Piece::Hop { norm, bias: bias.filter(|_| last).cloned() }
            })
            .collect();
        pieces.insert(if first { self.hops } else { 0 }, product);
        Some(pieces)
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let first = self.aggregates_first(lowering.is_sparse(xs[0]));
        let mut y = xs[0];
        if !first {
            y = lowering.linear(y, &self.weight);
        }
        for _ in 0..self.hops {
            y = lowering.aggregate(y, self.norm)?;
        }
        if first {
            y = lowering.linear(y, &self.weight);
        }
        Ok(self.bias.as_ref().map_or(y, |bias| lowering.bias(y, bias)))
    }

    fn attrs(&self) -> Attrs {
        with_norm(Attrs::new().with("hops", self.hops), self.norm, AdjacencyNorm::Symmetric)
    }

    /// One map: `G = Â^K·X`.
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        cx.check(&xs[0], self.weight.value().nrows())?;
        let operator = cx.graph()?.operator(self.norm)?;
        let mut g = aggregated(cx, operator.forward(), F::zero(), &xs[0]);
        for _ in 1..self.hops {
            g = aggregated(cx, operator.forward(), F::zero(), &g.view());
        }
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

    /// `X·W + b`: a node that has nobody but itself, where `Â` is the identity.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        vec![vec![NodeWise::linear(&self.weight, self.bias.as_ref())]]
    }
}

impl<F: Scalar> Registered<F> for SgConv<F> {
    const KIND: &'static str = "sg_conv";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["SGConv"],
        &[("weight", "lin.weight", Layout::Transposed), ("bias", "lin.bias", Layout::Vector)],
    )
    .settings(&["hops", "norm"]));

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let (in_channels, out_channels) = shapes.get("weight")?;
        let builder = SgConv::builder(in_channels, out_channels)
            .hops(attrs.get("hops")?)
            .norm(norm_of(attrs, AdjacencyNorm::Symmetric)?);
        if shapes.find("bias").is_some() { builder.build() } else { builder.bias(false).build() }
    }

    fn sample(widths: &[usize], out: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[in_channels] = widths else { return None };
        let builder =
            SgConv::builder(in_channels, out).hops(rng.random_range(1..=3)).norm(random_norm(rng));
        if rng.random() { builder.build().ok() } else { builder.bias(false).build().ok() }
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        if self.norm == AdjacencyNorm::Sum {
            return Err("by the norm Sum".into());
        }
        let (bias, norm) =
            (py(self.bias.is_some()), norm_argument(self.norm, AdjacencyNorm::Symmetric)?);
        let made = format!(
            "pyg.SGConv({}, {}, K={}, bias={bias}{norm})",
            at.in_channels, at.out_channels, self.hops
        );
        Ok(at.module(made, &["edge_index", "edge_weight"]))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let a = dense_operator(graph, self.norm);
        let h = (0..self.hops).fold(xs[0].clone(), |h, _| a.dot(&h));
        let y = h.dot(self.weight.value());
        self.bias.as_ref().map_or(y.clone(), |bias| y + bias.value())
    }
}
