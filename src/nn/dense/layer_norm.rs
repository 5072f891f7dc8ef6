//! Layer normalisation.

use crate::error::{Error, ModelError, PruneError, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::product::gradient_like;
use crate::nn::{
    Attrs, Axis, Cx, Grads, Init, Io, Kept, Layer, Layout, Lowering, Param, Piece, Place, Python,
    Reads, Registered, RowNorm, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2};
use ndarray_rand::rand::Rng;

/// `Y = X̂·w + b` with mean 0 and variance 1 over the channels of each node, or over all entries of
/// the graph.
///
/// Per node `x̂ = (x − μ) / sqrt(σ² + 1e-5)` as `torch.nn.LayerNorm`; per graph
/// `x̂ = (x − μ) / (σ + 1e-5)` as PyTorch Geometric's `LayerNorm` is by default. While channels are
/// masked, mean and variance are those of the others.
///
/// *Shapes*: `X, Y: [n, c]`; weight and bias `[1, c]`.
///
/// *Source*: Ba et al., "Layer Normalization", 2016, eq. 3 and 4.
#[derive(Debug, Clone)]
pub struct LayerNorm<F: Scalar = f32> {
    weight: Param<F>,
    bias: Param<F>,
    per_graph: bool,
    /// The channels that are not masked; all of them if there is no list.
    kept: Option<Vec<usize>>,
}

impl<F: Scalar> LayerNorm<F> {
    /// A norm of `channels` channels over each node.
    ///
    /// # Errors
    /// [`Error::Setting`] for none.
    pub fn per_node(channels: usize) -> Result<Self> {
        Self::build(channels, false, None)
    }

    /// A norm of `channels` channels over all nodes of the graph together.
    ///
    /// # Errors
    /// [`Error::Setting`] for none.
    pub fn per_graph(channels: usize) -> Result<Self> {
        Self::build(channels, true, None)
    }

    fn build(channels: usize, per_graph: bool, kept: Option<Vec<usize>>) -> Result<Self> {
        if channels == 0 {
            return Err(Error::setting("channels of layer_norm", 0, "at least 1"));
        }
        if kept.iter().flatten().any(|&c| c >= channels) || kept.as_ref().is_some_and(Vec::is_empty)
        {
            return Err(ModelError::Misfit(format!(
                "kept channels of a layer_norm are not among its {channels}"
            ))
            .into());
        }
        let param = |name, init| Param::new(name, (1, channels), [Axis::Fixed, Axis::In(0)], init);
        let mut weight = param("weight", Init::Ones);
        weight.value_mut().fill(F::one());
        Ok(Self { weight, bias: param("bias", Init::Zeros), per_graph, kept })
    }

    fn norm(&self) -> RowNorm {
        let all = || (0..self.weight.value().ncols()).collect();
        let channels = self.kept.clone().unwrap_or_else(all);
        if self.per_graph { RowNorm::over_all(channels) } else { RowNorm::per_row(channels) }
    }
}

/// `X̂`, zero where a channel is masked.
fn hat<F: Scalar>(norm: &RowNorm, x: ArrayView2<F>, statistics: &[(F, F)]) -> Array2<F> {
    let mut hat = Array2::zeros(x.dim());
    norm.hat(x, statistics, hat.view_mut());
    hat
}

impl<F: Scalar> Layer<F> for LayerNorm<F> {
    type Cache = Vec<(F, F)>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        cx.check(&xs[0], self.weight.value().ncols())?;
        Ok(xs[0].with_dense(|x| {
            let norm = self.norm();
            let statistics = norm.statistics(x);
            let y = hat(&norm, x, &statistics) * self.weight.value() + self.bias.value();
            (Value::Dense(y), statistics)
        }))
    }

    /// With `g = dy·w`, means over what the statistics are over and `s` the inverse deviation:
    /// `dx = s·(g − mean g − x̂·k·mean(g·x̂))`, `k = 1` per node and `(σ + ε)/σ` per graph, where ε
    /// stands outside the root.
    fn backward(
        &self,
        _: &Cx<F>,
        io: &Io<F>,
        statistics: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let norm = self.norm();
        let channels = norm.channels();
        let hat = io.input(0).with_dense(|x| hat(&norm, x, &statistics));
        dy.with_dense(|dy| {
            let columns = |terms: &Array2<F>| {
                let mut sums = Array2::zeros((1, terms.ncols()));
                kernels::column_sums(
                    terms.view(),
                    sums.as_slice_mut().expect("a new array is contiguous"),
                );
                sums
            };
            grads.add(&self.weight, columns(&(&hat * &dy)));
            grads.add(&self.bias, columns(&dy.to_owned()));
            let dx = io.wants(0).then(|| {
                let g = &dy * self.weight.value();
                let products = &g * &hat;
                let mut dx = Array2::zeros(g.dim());
                let graph = self.per_graph.then(|| {
                    let count = F::of((channels.len() * g.nrows()).max(1) as f64);
                    let total = |terms: &Array2<F>| {
                        let sums = columns(terms);
                        channels.iter().map(|&c| sums[[0, c]]).sum::<F>() / count
                    };
                    let inverse = statistics[0].1;
                    let deviation = inverse.recip() - F::of(RowNorm::EPS);
                    let k = if deviation > F::zero() {
                        (inverse * deviation).recip()
                    } else {
                        F::zero()
                    };
                    (total(&g), total(&products) * k)
                });
                kernels::map_rows(dx.view_mut(), |i, row| {
                    let count = F::of(channels.len() as f64);
                    let mean = |terms: &Array2<F>| {
                        channels.iter().map(|&c| terms[[i, c]]).sum::<F>() / count
                    };
                    let (level, slope) = graph.unwrap_or_else(|| (mean(&g), mean(&products)));
                    let inverse = statistics[if self.per_graph { 0 } else { i }].1;
                    channels.iter().for_each(|&c| {
                        row[c] = inverse * (g[[i, c]] - level - hat[[i, c]] * slope)
                    });
                });
                gradient_like(io.sparse_input(0).map(ValueRef::Sparse), Value::Dense(dx))
            });
            vec![dx]
        })
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn pieces(&self, _: bool) -> Option<Vec<Piece<F>>> {
        (!self.per_graph).then(|| vec![Piece::Itself])
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let y = lowering.row_norm(xs[0], self.norm(), &self.weight);
        Ok(lowering.bias(y, &self.bias))
    }

    fn attrs(&self) -> Attrs {
        let attrs = Attrs::new().with("per_graph", self.per_graph);
        match &self.kept {
            Some(kept) => attrs.with("kept", kept),
            None => attrs,
        }
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        [&self.weight, &self.bias].into_iter().for_each(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        [&mut self.weight, &mut self.bias].into_iter().for_each(f);
    }

    fn reshaped(&mut self, kept: &Kept) -> Result<(), PruneError> {
        // What was masked before may be gone, or may have moved.
        self.kept = self
            .kept
            .take()
            .map(|old| (0..kept.output.len()).filter(|&c| old.contains(&kept.output[c])).collect());
        Ok(())
    }

    fn masked(&mut self, kept: &Kept) -> Result<(), PruneError> {
        let before = self.norm().channels().to_vec();
        self.kept = Some(before.into_iter().filter(|c| kept.output.contains(c)).collect());
        Ok(())
    }
}

impl<F: Scalar> Registered<F> for LayerNorm<F> {
    const KIND: &'static str = "layer_norm";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["LayerNorm"],
        &[("weight", "weight", Layout::Vector), ("bias", "bias", Layout::Vector)],
    )
    .settings(&["per_graph", "kept"]));

    fn from_attrs(attrs: &Attrs, shapes: &Shapes) -> Result<Self> {
        Self::build(shapes.get("weight")?.1, attrs.get("per_graph")?, attrs.get("kept").ok())
    }

    fn sample(widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let &[channels] = widths else { return None };
        Self::build(channels, rng.random(), None).ok()
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        if self.kept.is_some() {
            return Err("of which channels are masked".into());
        }
        let mode = if self.per_graph { "graph" } else { "node" };
        Ok(at.module(format!("pyg.LayerNorm({}, mode='{mode}')", at.in_channels), &[]))
    }

    fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let x = &xs[0];
        let moments = |values: Vec<F>| {
            let count = F::of(values.len() as f64);
            let mean = values.iter().copied().sum::<F>() / count;
            (mean, values.iter().map(|&v| (v - mean) * (v - mean)).sum::<F>() / count)
        };
        let (mean, variance) = moments(x.iter().copied().collect());
        let hat = Array2::from_shape_fn(x.dim(), |(i, c)| match self.per_graph {
            true => (x[[i, c]] - mean) / (variance.sqrt() + F::of(RowNorm::EPS)),
            false => {
                let (mean, variance) = moments(x.row(i).to_vec());
                (x[[i, c]] - mean) / (variance + F::of(RowNorm::EPS)).sqrt()
            }
        });
        hat * self.weight.value() + self.bias.value()
    }
}
