//! Personalised propagation.

use super::propagation::{copied, dense_operator, norm_argument, norm_of, random_norm, with_norm};
use crate::error::{Error, Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph};
use crate::kernels;
use crate::nn::product::gradient_like;
use crate::nn::{
    Attrs, Cx, Evaluated, Grads, Io, Layer, Lowering, NodeWise, Place, Python, Reads, Registered,
    Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// Most hops: further ones change nothing that a float can tell.
const MOST_HOPS: usize = 1000;

/// `Z₀ = X`, `Z_{k+1} = (1−α)·Â·Z_k + α·X`, `Y = Z_K`: personalised PageRank on the features,
/// without parameters.
///
/// *Shapes*: `X: [n, c]`, `Y: [n, c]`; `Â` as in [`GcnConv`](super::GcnConv).
///
/// *Source*: Gasteiger et al., "Predict then Propagate", ICLR 2019, eq. 5 (without its last
/// softmax).
#[derive(Debug, Clone)]
pub struct Appnp {
    hops: usize,
    alpha: f64,
    norm: AdjacencyNorm,
}

impl Appnp {
    /// Propagates `hops` times, 1 to 1000, and returns to the input with probability `alpha`, in
    /// [0, 1].
    ///
    /// # Errors
    /// [`Error::Setting`] for a number out of range.
    pub fn new(hops: usize, alpha: f64) -> Result<Self> {
        if !(1..=MOST_HOPS).contains(&hops) {
            return Err(Error::setting("hops of appnp", hops, "1 to 1000"));
        }
        if !(0.0..=1.0).contains(&alpha) {
            return Err(Error::setting("alpha of appnp", alpha, "0 to 1"));
        }
        Ok(Self { hops, alpha, norm: AdjacencyNorm::Symmetric })
    }

    /// How messages are weighed. Default: [`AdjacencyNorm::Symmetric`]; without added self-loops
    /// [`AdjacencyNorm::SymmetricPlain`].
    #[must_use]
    pub fn norm(mut self, norm: AdjacencyNorm) -> Self {
        self.norm = norm;
        self
    }
}

impl<F: Scalar> Layer<F> for Appnp {
    type Cache = ();

    fn kind(&self) -> &'static str {
        <Self as Registered<F>>::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        cx.check(&xs[0], xs[0].cols())?;
        let operator = cx.graph()?.operator(self.norm)?;
        let (stay, back) = (F::of(1.0 - self.alpha), F::of(self.alpha));
        Ok(xs[0].with_dense(|x| {
            let mut z = copied(cx, x.view());
            for _ in 0..self.hops {
                let mut next = cx.take(z.dim());
                kernels::spmm(operator.forward(), z.view(), next.view_mut());
                next *= stay;
                next.scaled_add(back, &x);
                cx.give(std::mem::replace(&mut z, next));
            }
            (Value::Dense(z), ())
        }))
    }

    /// `dX = α·Σ_{k<K} G_k + G_K` with `G_0 = dY`, `G_{k+1} = (1−α)·Âᵀ·G_k`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        if !io.wants(0) {
            return vec![None];
        }
        let operator = cx
            .graph()
            .and_then(|graph| graph.operator(self.norm))
            .expect("the forward pass had it");
        let (stay, back) = (F::of(1.0 - self.alpha), F::of(self.alpha));
        let dx = dy.with_dense(|dy| {
            let mut g = copied(cx, dy);
            let mut dx = cx.take(dy.dim());
            dx.fill(F::zero());
            for _ in 0..self.hops {
                dx.scaled_add(back, &g);
                let mut next = cx.take(g.dim());
                kernels::spmm(operator.transpose(), g.view(), next.view_mut());
                next *= stay;
                cx.give(std::mem::replace(&mut g, next));
            }
            dx += &g;
            cx.give(g);
            dx
        });
        vec![Some(gradient_like(io.sparse_input(0).map(ValueRef::Sparse), Value::Dense(dx)))]
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let width = lowering.width(xs[0]);
        if lowering.is_sparse(xs[0]) {
            let macs = (lowering.operator(self.norm)?.stored() * width * self.hops) as u64;
            return Ok(lowering.opaque(xs, Evaluated::new(self.clone(), macs), width));
        }
        let mut z = xs[0];
        for _ in 0..self.hops {
            let moved = lowering.aggregate(z, self.norm)?;
            z = lowering.add(&[moved, xs[0]], &[F::of(1.0 - self.alpha), F::of(self.alpha)]);
        }
        Ok(z)
    }

    fn attrs(&self) -> Attrs {
        with_norm(
            Attrs::new().with("hops", self.hops).with("alpha", self.alpha),
            self.norm,
            AdjacencyNorm::Symmetric,
        )
    }

    /// The input: `(1−α)·X + α·X`, however often.
    fn without_hop(&self) -> Vec<Vec<NodeWise<F>>> {
        vec![Vec::new()]
    }
}

impl<F: Scalar> Registered<F> for Appnp {
    const KIND: &'static str = "appnp";
    const PYTORCH: std::result::Result<Twin, &'static str> =
        Ok(Twin::new(&["APPNP"], &[]).settings(&["hops", "alpha", "norm"]));

    fn from_attrs(attrs: &Attrs, _: &Shapes) -> Result<Self> {
        Ok(Self::new(attrs.get("hops")?, attrs.get("alpha")?)?
            .norm(norm_of(attrs, AdjacencyNorm::Symmetric)?))
    }

    fn sample(widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let layer = || {
            Some(
                Self::new(rng.random_range(1..=4), rng.random_range(0.0..1.0))
                    .ok()?
                    .norm(random_norm(rng)),
            )
        };
        (widths.len() == 1).then(layer).flatten()
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        let made = format!(
            "pyg.APPNP({}, {:?}{})",
            self.hops,
            self.alpha,
            norm_argument(self.norm, AdjacencyNorm::Symmetric)?
        );
        Ok(at.module(made, &["edge_index", "edge_weight"]))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let a = dense_operator(graph, self.norm);
        (0..self.hops).fold(xs[0].clone(), |z, _| {
            a.dot(&z) * F::of(1.0 - self.alpha) + &xs[0] * F::of(self.alpha)
        })
    }
}
