//! The graph convolution of GCNII.

use super::propagation::{copied, dense_operator, norm_argument, norm_of, random_norm, with_norm};
use crate::error::{Error, Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph};
use crate::kernels;
use crate::nn::linear_map::aggregated;
use crate::nn::product::{gradient_like, with_rows_below};
use crate::nn::pytorch::py;
use crate::nn::{
    Attrs, Axis, Cx, Evaluated, Grads, Init, Io, Layer, Layout, LinearMap, Lowering, Param, Place,
    Python, Reads, Registered, RowSpace, See, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2};
use ndarray_rand::rand::Rng;

/// `H = (1−α)·Â·X + α·X₀`, `Y = (1−β)·H + β·H·W`: an initial residual and an identity in the
/// weight; by choice with another weight for the part of `X₀` (GCNII*).
///
/// The inputs are `X` and `X₀`, the output of the first layer. In layer `l` of a network
/// `β = ln(θ/l + 1)`.
///
/// *Shapes*: `X, X₀: [n, c]`, `W: [c, c]`, twice where it is not shared, `Y: [n, c]`; `Â` as in
/// [`GcnConv`](super::GcnConv).
///
/// *Source*: Chen et al., "Simple and Deep Graph Convolutional Networks", ICML 2020, eq. 5.
#[derive(Debug, Clone)]
pub struct Gcn2Conv<F: Scalar = f32> {
    weight: Param<F>,
    /// Of the part of `X₀`.
    initial: Option<Param<F>>,
    alpha: f64,
    beta: f64,
    norm: AdjacencyNorm,
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
        let weight = Param::new(
            "weight",
            (channels, channels),
            [Axis::In(0), Axis::Out],
            Init::GlorotUniform,
        );
        Ok(Self { weight, initial: None, alpha, beta, norm: AdjacencyNorm::Symmetric })
    }

    /// Whether the part of `X₀` has a weight of its own; otherwise they share one. Default: no.
    #[must_use]
    pub fn two_weights(mut self, two: bool) -> Self {
        let shape = self.weight.value().dim();
        let axes = [Axis::In(1), Axis::Out];
        self.initial = two.then(|| Param::new("initial", shape, axes, Init::GlorotUniform));
        self
    }

    /// How messages are weighed. Default: [`AdjacencyNorm::Symmetric`]; without added self-loops
    /// [`AdjacencyNorm::SymmetricPlain`].
    #[must_use]
    pub fn norm(mut self, norm: AdjacencyNorm) -> Self {
        self.norm = norm;
        self
    }

    /// `Y` of a part `H` and its weight, added to `y`.
    fn add_part(&self, cx: &Cx<F>, h: &Array2<F>, weight: &Param<F>, y: &mut Array2<F>) {
        let mut z = cx.take(h.dim());
        kernels::matmul(h.view(), weight.value().view(), z.view_mut());
        y.scaled_add(F::of(self.beta), &z);
        y.scaled_add(F::of(1.0 - self.beta), h);
        cx.give(z);
    }

    /// `dH` of a part, which is overwritten by it, and the gradient of its weight.
    fn part_back(
        &self,
        mut h: Array2<F>,
        weight: &Param<F>,
        dy: ArrayView2<F>,
        grads: &mut Grads<F>,
    ) -> Array2<F> {
        let mut dw = Array2::zeros(weight.value().dim());
        kernels::matmul_tn(h.view(), dy, dw.view_mut());
        grads.add(weight, dw * F::of(self.beta));
        kernels::matmul_nt(dy, weight.value().view(), h.view_mut());
        h *= F::of(self.beta);
        h.scaled_add(F::of(1.0 - self.beta), &dy);
        h
    }
}

impl<F: Scalar> Layer<F> for Gcn2Conv<F> {
    /// `H`, or its two parts.
    type Cache = (Array2<F>, Option<Array2<F>>);

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn arity(&self) -> (usize, usize) {
        (2, 2)
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    /// The rows of what is aggregated.
    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        RowSpace::joined(inputs).map(RowSpace::aggregated)
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        let w = self.weight.value();
        xs.iter().try_for_each(|x| cx.check(x, w.nrows()))?;
        let topology = cx.topology()?;
        let operator = topology.operator(self.norm)?;
        let mut h = cx.take((topology.num_targets(), w.nrows()));
        // The targets are the first of the sources.
        let start = xs[1].head(h.nrows());
        xs[0].with_dense(|x| kernels::spmm(operator.forward(), x, h.view_mut()));
        h *= F::of(1.0 - self.alpha);
        let mut y = cx.take(h.dim());
        y.fill(F::zero());
        let other = self.initial.as_ref().map(|initial| {
            let part = start.to_dense() * F::of(self.alpha);
            self.add_part(cx, &part, initial, &mut y);
            part
        });
        if other.is_none() {
            start.with_dense(|x| h.scaled_add(F::of(self.alpha), &x));
        }
        self.add_part(cx, &h, &self.weight, &mut y);
        Ok((Value::Dense(y), (h, other)))
    }

    /// `dW = β·Hᵀ·dY`, `dH = (1−β)·dY + β·dY·Wᵀ`, `dX = (1−α)·Âᵀ·dH`, `dX₀ = α·dH`, each of its own
    /// part where there are two.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        cache: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let topology = cx.topology().expect("the forward pass had it");
        let operator = topology.operator(self.norm).expect("the forward pass had it");
        let sources = topology.num_sources();
        let (h, other) = cache;
        dy.with_dense(|dy| {
            let dh = self.part_back(h, &self.weight, dy, grads);
            let dother = self
                .initial
                .as_ref()
                .zip(other)
                .map(|(initial, part)| self.part_back(part, initial, dy, grads));
            let like = |k: usize, dx: Array2<F>| {
                gradient_like(io.sparse_input(k).map(ValueRef::Sparse), Value::Dense(dx))
            };
            let dx = io.wants(0).then(|| {
                let mut dx = cx.take((sources, dh.ncols()));
                kernels::spmm(operator.transpose(), dh.view(), dx.view_mut());
                dx *= F::of(1.0 - self.alpha);
                like(0, dx)
            });
            let dx0 = io.wants(1).then(|| {
                let own = copied(cx, dother.as_ref().unwrap_or(&dh).view()) * F::of(self.alpha);
                like(1, with_rows_below(Value::Dense(own), sources).into_dense())
            });
            dother.into_iter().chain([dh]).for_each(|used| cx.give(used));
            vec![dx, dx0]
        })
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let width = self.weight.value().nrows();
        if xs.iter().any(|&x| lowering.is_sparse(x)) {
            let edges = lowering.operator(self.norm)?.stored();
            let macs = (edges * width + lowering.rows(xs[0]) * width * width) as u64;
            return Ok(lowering.opaque(xs, Evaluated::new(self.clone(), macs), width));
        }
        let moved = lowering.aggregate(xs[0], self.norm)?;
        if let Some(initial) = &self.initial {
            let (z, z0) = (lowering.linear(moved, &self.weight), lowering.linear(xs[1], initial));
            let coefficients =
                [(1.0 - self.alpha) * (1.0 - self.beta), (1.0 - self.alpha) * self.beta];
            let of_first = [self.alpha * (1.0 - self.beta), self.alpha * self.beta];
            return Ok(lowering.add(
                &[moved, z, xs[1], z0],
                &[coefficients, of_first].concat().into_iter().map(F::of).collect::<Vec<_>>(),
            ));
        }
        let h = lowering.add(&[moved, xs[1]], &[F::of(1.0 - self.alpha), F::of(self.alpha)]);
        let z = lowering.linear(h, &self.weight);
        Ok(lowering.add(&[h, z], &[F::of(1.0 - self.beta), F::of(self.beta)]))
    }

    fn attrs(&self) -> Attrs {
        with_norm(
            Attrs::new().with("alpha", self.alpha).with("beta", self.beta),
            self.norm,
            AdjacencyNorm::Symmetric,
        )
    }

    /// One map: `G = β·H`, or its two parts; the identity in the weight is what no weight reaches.
    fn linear_maps(&mut self, cx: &Cx<F>, xs: &[ValueRef<F>], see: &mut See<F>) -> Result<()> {
        xs.iter().try_for_each(|x| cx.check(x, self.weight.value().nrows()))?;
        let operator = cx.graph()?.operator(self.norm)?;
        let mut h = aggregated(cx, operator.forward(), F::zero(), &xs[0]).into_dense()
            * F::of(1.0 - self.alpha);
        let start = xs[1].to_dense() * F::of(self.alpha);
        let (beta, rest) = (F::of(self.beta), (&h + &start) * F::of(1.0 - self.beta));
        if self.initial.is_none() {
            h += &start;
        }
        let mut map = LinearMap::of_made(Value::Dense(h * beta), &mut self.weight);
        if let Some(initial) = &mut self.initial {
            map = map.and(LinearMap::of_made(Value::Dense(start * beta), initial));
        }
        see(map.with_rest(rest))
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        f(&self.weight);
        self.initial.iter().for_each(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        f(&mut self.weight);
        self.initial.iter_mut().for_each(f);
    }
}

impl<F: Scalar> Registered<F> for Gcn2Conv<F> {
    const KIND: &'static str = "gcn2_conv";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["GCN2Conv"],
        &[("weight", "weight1", Layout::Same), ("initial", "weight2", Layout::Same)],
    )
    .settings(&["alpha", "beta", "norm"]));

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        let layer = Self::new(shapes.get("weight")?.0, attrs.get("alpha")?, attrs.get("beta")?)?
            .norm(norm_of(attrs, AdjacencyNorm::Symmetric)?);
        Ok(if shapes.find("initial").is_some() { layer.two_weights(true) } else { layer })
    }

    fn sample(widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        match widths {
            &[a, b] if a == b => {
                let layer = Self::new(a, rng.random_range(0.0..1.0), rng.random_range(0.0..1.0))
                    .ok()?
                    .norm(random_norm(rng));
                Some(if rng.random() { layer.two_weights(true) } else { layer })
            }
            _ => None,
        }
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        // With layer 1, β = ln(θ + 1).
        let (alpha, theta) = (self.alpha, self.beta.exp_m1());
        let (shared, norm) =
            (py(self.initial.is_none()), norm_argument(self.norm, AdjacencyNorm::Symmetric)?);
        let made = format!(
            "pyg.GCN2Conv({}, {alpha:?}, {theta:?}, 1, shared_weights={shared}{norm})",
            at.in_channels
        );
        Ok(at.module(made, &["edge_index", "edge_weight"]))
    }

    fn oracle(&self, graph: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let a = dense_operator(graph, self.norm);
        let (h, h0) = (a.dot(&xs[0]) * F::of(1.0 - self.alpha), &xs[1] * F::of(self.alpha));
        let part = |h: &Array2<F>, w: &Param<F>| {
            h * F::of(1.0 - self.beta) + h.dot(w.value()) * F::of(self.beta)
        };
        part(&h, &self.weight) + part(&h0, self.initial.as_ref().unwrap_or(&self.weight))
    }
}
