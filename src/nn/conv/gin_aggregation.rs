//! The aggregation of the graph isomorphism convolution by itself.

use super::EDGE_WEIGHTS;
use super::inner::dot;
use super::propagation::copied;
use crate::error::{Error, Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph};
use crate::kernels;
use crate::nn::product::gradient_like;
use crate::nn::pytorch::py;
use crate::nn::{
    Attrs, Axis, Cx, Evaluated, Grads, Init, Io, Layer, Layout, Lowering, NodeWise, Param, Place,
    Python, Reads, Registered, RowSpace, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, s};
use ndarray_rand::rand::Rng;

/// `Y = (1+ε)·X + A·X`: what [`GinConv`](super::GinConv) does before its inner network, so that any
/// layers may follow as one.
///
/// *Shapes*: `X, Y: [n, c]`, `ε: [1, 1]`.
///
/// *Source*: Xu et al., "How Powerful are Graph Neural Networks?", ICLR 2019, eq. 4.1.
#[derive(Debug, Clone)]
pub struct GinAggregation<F: Scalar = f32> {
    eps: Param<F>,
    norm: AdjacencyNorm,
}

impl<F: Scalar> GinAggregation<F> {
    /// A node weighs `1 + eps` beside its neighbours.
    ///
    /// # Errors
    /// [`Error::Setting`] for an ε that is not finite.
    pub fn new(eps: f64) -> Result<Self> {
        if !eps.is_finite() {
            return Err(Error::setting("eps of gin_aggregation", eps, "a finite number"));
        }
        let mut own = Param::new("eps", (1, 1), [Axis::Fixed, Axis::Fixed], Init::Constant(eps));
        own.value_mut().fill(F::of(eps));
        own.set_trainable(false);
        Ok(Self { eps: own, norm: AdjacencyNorm::Sum })
    }

    /// Whether ε is learned too. Default: no.
    #[must_use]
    pub fn train_eps(mut self, trains: bool) -> Self {
        self.eps.set_trainable(trains);
        self
    }

    /// Whether the sum reads what edges weigh; otherwise every edge counts once. Default: yes.
    #[must_use]
    pub fn edge_weights(mut self, read: bool) -> Self {
        self.norm = if read { AdjacencyNorm::Sum } else { AdjacencyNorm::UnweightedSum };
        self
    }

    fn own(&self) -> F {
        F::one() + self.eps.value()[[0, 0]]
    }
}

impl<F: Scalar> Layer<F> for GinAggregation<F> {
    type Cache = ();

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    /// The rows of what is aggregated.
    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        RowSpace::joined(inputs).map(RowSpace::aggregated)
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        cx.check(&xs[0], xs[0].cols())?;
        let topology = cx.topology()?;
        let operator = topology.operator(self.norm)?;
        let targets = topology.num_targets();
        let mut y = cx.take((targets, xs[0].cols()));
        xs[0].with_dense(|x| {
            kernels::spmm(operator.forward(), x, y.view_mut());
            // The targets are the first of the sources.
            y.scaled_add(self.own(), &x.slice(s![..targets, ..]));
        });
        Ok((Value::Dense(y), ()))
    }

    /// `dε = ⟨dY, X⟩`, `dX = (1+ε)·dY + Aᵀ·dY`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let operator = cx
            .topology()
            .and_then(|topology| topology.operator(self.norm))
            .expect("the forward pass had it");
        let dy = dy.with_dense(|dy| copied(cx, dy));
        let targets = s![..dy.nrows(), ..];
        io.input(0).with_dense(|x| {
            let slope = dot(dy.view(), x.slice(targets));
            grads.add(&self.eps, Array2::from_elem((1, 1), slope));
        });
        let dx = io.wants(0).then(|| {
            let mut dx = cx.take((io.input(0).rows(), dy.ncols()));
            kernels::spmm(operator.transpose(), dy.view(), dx.view_mut());
            dx.slice_mut(targets).scaled_add(self.own(), &dy);
            gradient_like(io.sparse_input(0).map(ValueRef::Sparse), Value::Dense(dx))
        });
        cx.give(dy);
        vec![dx]
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        if lowering.is_sparse(xs[0]) {
            let width = lowering.width(xs[0]);
            let macs = (lowering.operator(self.norm)?.stored() * width) as u64;
            return Ok(lowering.opaque(xs, Evaluated::new(self.clone(), macs), width));
        }
        let moved = lowering.aggregate(xs[0], self.norm)?;
        Ok(lowering.add(&[moved, xs[0]], &[F::one(), self.own()]))
    }

    fn attrs(&self) -> Attrs {
        let eps = if let Init::Constant(eps) = self.eps.init() { eps } else { 0.0 };
        let attrs = Attrs::new().with("eps", eps).with("train_eps", self.eps.is_trainable());
        if self.norm.is_weighted() { attrs } else { attrs.with(EDGE_WEIGHTS, false) }
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        f(&self.eps);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        f(&mut self.eps);
    }

    /// `(1+ε)·X`; ε is no longer learned.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        vec![NodeWise::scaled(self.own())]
    }
}

impl<F: Scalar> Registered<F> for GinAggregation<F> {
    const KIND: &'static str = "gin_aggregation";
    const PYTORCH: std::result::Result<Twin, &'static str> =
        Ok(Twin::new(&[], &[("eps", "eps", Layout::Vector)]).settings(&[
            "eps",
            "train_eps",
            EDGE_WEIGHTS,
        ]));

    fn from_attrs(attrs: &Attrs, _: &Shapes) -> Result<Self> {
        let layer = Self::new(attrs.get_or("eps", 0.0)?)?;
        let layer =
            if attrs.get_or(EDGE_WEIGHTS, true)? { layer } else { layer.edge_weights(false) };
        Ok(if attrs.get_or("train_eps", true)? { layer.train_eps(true) } else { layer })
    }

    fn sample(widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let layer = Self::new(rng.random_range(-0.5..0.5)).ok()?;
        let (trained, weighted) = rng.random();
        let layer = if weighted { layer } else { layer.edge_weights(false) };
        (widths.len() == 1).then_some(if trained { layer.train_eps(true) } else { layer })
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        let made =
            format!("pyg.GINConv(torch.nn.Identity(), train_eps={})", py(self.eps.is_trainable()));
        Ok(at.module(made, &["edge_index"]).without_edge_weights(self.norm.is_weighted()))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let a = if self.norm.is_weighted() {
            crate::nn::dense_adjacency(graph)
        } else {
            crate::nn::dense_counts(graph)
        };
        a.dot(&xs[0]) + &xs[0] * self.own()
    }
}
