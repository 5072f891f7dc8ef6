//! The graph convolution of GCNII.

use super::propagation::{copied, dense_symmetric};
use crate::error::{Error, Result, Unsupported};
use crate::graph::{Graph, Norm};
use crate::kernels;
use crate::nn::product::gradient_like;
use crate::nn::{Attrs, Axis, Cx, Grads, Init, Io, Layer, Lowering, Param, Reads, Registered, Shapes, StageId, Wiring};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// `H = (1−α)·Â·X + α·X₀`, `Y = (1−β)·H + β·H·W`: an initial residual and an identity in the weight.
///
/// The inputs are `X` and `X₀`, the output of the first layer. In layer `l` of a network `β = ln(θ/l + 1)`.
///
/// *Shapes*: `X, X₀: [n, c]`, `W: [c, c]`, `Y: [n, c]`; `Â` as in [`GcnConv`](super::GcnConv).
///
/// *Source*: Chen et al., "Simple and Deep Graph Convolutional Networks", ICML 2020, eq. 5.
#[derive(Debug, Clone)]
pub struct Gcn2Conv<F: Scalar = f32> {
    weight: Param<F>,
    alpha: f64,
    beta: f64,
}

impl<F: Scalar> Gcn2Conv<F> {
    /// A layer of `channels` channels; `alpha` and `beta` in [0, 1].
    ///
    /// # Errors
    /// [`Error::Setting`] for no channels or a number out of range.
    pub fn new(channels: usize, alpha: f64, beta: f64) -> Result<Self> {
        if channels == 0 {
            return Err(Error::setting("channels of gcn2_conv", channels, "at least 1"));
        }
        for (name, value) in [("alpha of gcn2_conv", alpha), ("beta of gcn2_conv", beta)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::setting(name, value, "0 to 1"));
            }
        }
        let weight = Param::new("weight", (channels, channels), [Axis::In(0), Axis::Out], Init::GlorotUniform);
        Ok(Self { weight, alpha, beta })
    }
}

impl<F: Scalar> Layer<F> for Gcn2Conv<F> {
    /// `H`.
    type Cache = Array2<F>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn arity(&self) -> (usize, usize) {
        (2, 2)
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        let w = self.weight.value();
        xs.iter().try_for_each(|x| cx.check(x, w.nrows()))?;
        let operator = cx.graph()?.operator(Norm::Symmetric);
        let mut h = cx.take(xs[0].shape());
        xs[0].with_dense(|x| kernels::spmm(operator.forward(), x, h.view_mut()));
        h *= F::of(1.0 - self.alpha);
        xs[1].with_dense(|x| h.scaled_add(F::of(self.alpha), &x));
        let mut y = cx.take(h.dim());
        kernels::matmul(h.view(), w.view(), y.view_mut());
        y *= F::of(self.beta);
        y.scaled_add(F::of(1.0 - self.beta), &h);
        Ok((Value::Dense(y), h))
    }

    /// `dW = β·Hᵀ·dY`, `dH = (1−β)·dY + β·dY·Wᵀ`, `dX = (1−α)·Âᵀ·dH`, `dX₀ = α·dH`.
    fn backward(&self, cx: &Cx<F>, io: &Io<F>, h: Self::Cache, dy: ValueRef<F>, grads: &mut Grads<F>) -> Vec<Option<Value<F>>> {
        let operator = cx.graph().expect("the forward pass had a graph").operator(Norm::Symmetric);
        let w = self.weight.value();
        dy.with_dense(|dy| {
            let mut dw = Array2::zeros(w.dim());
            kernels::matmul_tn(h.view(), dy, dw.view_mut());
            grads.add(&self.weight, dw * F::of(self.beta));
            let mut dh = h;
            kernels::matmul_nt(dy, w.view(), dh.view_mut());
            dh *= F::of(self.beta);
            dh.scaled_add(F::of(1.0 - self.beta), &dy);
            let like = |k: usize, dx: Array2<F>| gradient_like(io.sparse_input(k).map(ValueRef::Sparse), Value::Dense(dx));
            let dx = io.wants(0).then(|| {
                let mut dx = cx.take(dh.dim());
                kernels::spmm(operator.transpose(), dh.view(), dx.view_mut());
                dx *= F::of(1.0 - self.alpha);
                like(0, dx)
            });
            let dx0 = io.wants(1).then(|| like(1, copied(cx, dh.view()) * F::of(self.alpha)));
            cx.give(dh);
            vec![dx, dx0]
        })
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let width = self.weight.value().nrows();
        if xs.iter().any(|&x| lowering.is_sparse(x)) {
            let edges = lowering.graph()?.operator(Norm::Symmetric).stored();
            let macs = (edges * width + lowering.rows() * width * width) as u64;
            return Ok(lowering.whole(xs, self.clone(), width, macs));
        }
        let moved = lowering.aggregate(xs[0], Norm::Symmetric)?;
        let h = lowering.add(&[moved, xs[1]], &[F::of(1.0 - self.alpha), F::of(self.alpha)]);
        let z = lowering.linear(h, &self.weight);
        Ok(lowering.add(&[h, z], &[F::of(1.0 - self.beta), F::of(self.beta)]))
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with("alpha", self.alpha).with("beta", self.beta)
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        f(&self.weight);
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Param<F>)) {
        f(&mut self.weight);
    }
}

impl<F: Scalar> Registered<F> for Gcn2Conv<F> {
    const KIND: &'static str = "gcn2_conv";

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        Self::new(shapes.get("weight")?.0, attrs.get("alpha")?, attrs.get("beta")?)
    }

    fn sample(widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        match widths {
            &[a, b] if a == b => Self::new(a, rng.random_range(0.0..1.0), rng.random_range(0.0..1.0)).ok(),
            _ => None,
        }
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let a = dense_symmetric(graph, Some(F::one()));
        let h = a.dot(&xs[0]) * F::of(1.0 - self.alpha) + &xs[1] * F::of(self.alpha);
        &h * F::of(1.0 - self.beta) + h.dot(self.weight.value()) * F::of(self.beta)
    }
}
