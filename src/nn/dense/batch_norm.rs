//! Batch normalisation.

use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::product::gradient_like;
use crate::nn::{
    Attrs, Axis, Cx, Grads, Init, Io, Layer, Layout, Lowering, Mode, Param, Place, Python, Reads,
    Registered, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2};

/// Added to the variance.
const EPS: f64 = 1e-5;
/// Share of the running statistics that a batch replaces.
const MOMENTUM: f64 = 0.1;

/// `y_ic = (x_ic − μ_c) / sqrt(σ²_c + 1e-5)·w_c + b_c`, with the mean and the (biased) variance
/// over the nodes in training, and running ones in evaluation, of which a batch replaces a tenth
/// (the variance unbiased).
///
/// *Shapes*: `X, Y: [n, c]`; weight, bias, running mean and running variance `[1, c]`.
///
/// *Source*: Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 1 and 2; constants as
/// `torch.nn.BatchNorm1d`.
#[derive(Debug, Clone)]
pub struct BatchNorm<F: Scalar = f32> {
    weight: Param<F>,
    bias: Param<F>,
    running_mean: Param<F>,
    running_var: Param<F>,
}

/// The statistics of one batch.
#[derive(Debug, Clone)]
pub struct BatchStatistics<F> {
    mean: Vec<F>,
    inverse: Vec<F>,
    /// Unbiased.
    variance: Vec<F>,
}

impl<F: Scalar> BatchNorm<F> {
    /// A norm of `channels` channels.
    ///
    /// # Errors
    /// [`Error::Setting`] for none.
    pub fn new(channels: usize) -> Result<Self> {
        if channels == 0 {
            return Err(Error::setting("channels of batch_norm", 0, "at least 1"));
        }
        let param = |name, init| Param::new(name, (1, channels), [Axis::Fixed, Axis::In(0)], init);
        let fixed = |name, init| {
            let mut param = param(name, init);
            param.set_trainable(false);
            param
        };
        let mut norm = Self {
            weight: param("weight", Init::Ones),
            bias: param("bias", Init::Zeros),
            running_mean: fixed("running_mean", Init::Zeros),
            running_var: fixed("running_var", Init::Ones),
        };
        norm.weight.value_mut().fill(F::one());
        norm.running_var.value_mut().fill(F::one());
        Ok(norm)
    }

    fn running(&self) -> (Vec<F>, Vec<F>) {
        let inverse = |v: &F| (*v + F::of(EPS)).sqrt().recip();
        (
            self.running_mean.value().iter().copied().collect(),
            self.running_var.value().iter().map(inverse).collect(),
        )
    }
}

fn statistics<F: Scalar>(x: ArrayView2<F>) -> BatchStatistics<F> {
    let (n, channels) = x.dim();
    let count = F::of(n.max(1) as f64);
    let mut mean = vec![F::zero(); channels];
    kernels::column_sums(x, &mut mean);
    mean.iter_mut().for_each(|m| *m /= count);
    let mut squares = x.to_owned();
    kernels::map_rows(squares.view_mut(), |_, row| {
        row.iter_mut().zip(&mean).for_each(|(x, &m)| *x = (*x - m) * (*x - m))
    });
    let mut variance = vec![F::zero(); channels];
    kernels::column_sums(squares.view(), &mut variance);
    let inverse = variance.iter().map(|&v| (v / count + F::of(EPS)).sqrt().recip()).collect();
    // One node has no unbiased variance; zero is its biased one.
    variance.iter_mut().for_each(|v| *v /= F::of((n.max(2) - 1) as f64));
    BatchStatistics { mean, inverse, variance }
}

impl<F: Scalar> Layer<F> for BatchNorm<F> {
    /// Statistics of the batch, in training.
    type Cache = Option<BatchStatistics<F>>;

    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        cx.check(&xs[0], self.weight.value().ncols())?;
        let mut y = cx.take(xs[0].shape());
        xs[0].with_dense(|x| y.assign(&x));
        let batch = matches!(cx.mode(), Mode::Train { .. }).then(|| statistics(y.view()));
        let (mean, inverse) = batch
            .as_ref()
            .map_or_else(|| self.running(), |batch| (batch.mean.clone(), batch.inverse.clone()));
        let (w, b) = (self.weight.value().row(0), self.bias.value().row(0));
        kernels::map_rows(y.view_mut(), |_, row| {
            for (c, y) in row.iter_mut().enumerate() {
                *y = (*y - mean[c]) * inverse[c] * w[c] + b[c];
            }
        });
        Ok((Value::Dense(y), batch))
    }

    /// With `x̂ = (x − μ)·s`: `db = Σ dy`, `dw = Σ dy·x̂`, `dx = w·s·dy` in evaluation and
    /// `w·s·(dy − db/n − x̂·dw/n)` in training.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        batch: Self::Cache,
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let (mean, inverse) = batch
            .as_ref()
            .map_or_else(|| self.running(), |batch| (batch.mean.clone(), batch.inverse.clone()));
        let channels = self.weight.value().ncols();
        let count = F::of(dy.rows().max(1) as f64);
        let mut hat = io.input(0).to_dense();
        kernels::map_rows(hat.view_mut(), |_, row| {
            row.iter_mut().enumerate().for_each(|(c, x)| *x = (*x - mean[c]) * inverse[c])
        });
        dy.with_dense(|dy| {
            let mut sums = Array2::zeros((2, channels));
            let [db, dw] = [dy.to_owned(), &hat * &dy].map(|terms| {
                let mut sum = vec![F::zero(); channels];
                kernels::column_sums(terms.view(), &mut sum);
                sum
            });
            sums.row_mut(0).assign(&ndarray::aview1(&db));
            sums.row_mut(1).assign(&ndarray::aview1(&dw));
            grads.add(&self.bias, sums.slice(ndarray::s![0..1, ..]).to_owned());
            grads.add(&self.weight, sums.slice(ndarray::s![1..2, ..]).to_owned());
            let dx = io.wants(0).then(|| {
                let w = self.weight.value().row(0);
                let mut dx = cx.take(dy.dim());
                let trains = batch.is_some();
                kernels::map_rows(dx.view_mut(), |i, row| {
                    for (c, dx) in row.iter_mut().enumerate() {
                        let centred = if trains {
                            dy[[i, c]] - (db[c] + hat[[i, c]] * dw[c]) / count
                        } else {
                            dy[[i, c]]
                        };
                        *dx = w[c] * inverse[c] * centred;
                    }
                });
                gradient_like(io.sparse_input(0).map(ValueRef::Sparse), Value::Dense(dx))
            });
            vec![dx]
        })
    }

    fn reads(&self) -> Reads {
        Reads::Inputs
    }

    fn absorb(&mut self, batch: &Self::Cache) {
        let Some(batch) = batch else { return };
        let keep = F::of(1.0 - MOMENTUM);
        for (running, new) in
            [(&mut self.running_mean, &batch.mean), (&mut self.running_var, &batch.variance)]
        {
            running
                .value_mut()
                .iter_mut()
                .zip(new)
                .for_each(|(old, &new)| *old = *old * keep + new * F::of(MOMENTUM));
            running.apply_mask();
        }
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let (mean, inverse) = self.running();
        let scale: Vec<F> =
            self.weight.value().iter().zip(&inverse).map(|(&w, &s)| w * s).collect();
        let shift = self
            .bias
            .value()
            .iter()
            .zip(&mean)
            .zip(&scale)
            .map(|((&b, &m), &s)| b - m * s)
            .collect();
        let scaled = lowering.scale(xs[0], scale);
        Ok(lowering.shift(scaled, shift))
    }

    fn visit<'a>(&'a self, f: &mut dyn FnMut(&'a Param<F>)) {
        [&self.weight, &self.bias, &self.running_mean, &self.running_var].into_iter().for_each(f);
    }

    fn visit_mut<'a>(&'a mut self, f: &mut dyn FnMut(&'a mut Param<F>)) {
        [&mut self.weight, &mut self.bias, &mut self.running_mean, &mut self.running_var]
            .into_iter()
            .for_each(f);
    }
}

impl<F: Scalar> Registered<F> for BatchNorm<F> {
    const KIND: &'static str = "batch_norm";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::new(
        &["BatchNorm", "BatchNorm1d", "SyncBatchNorm"],
        &[
            ("weight", "weight", Layout::Vector),
            ("bias", "bias", Layout::Vector),
            ("running_mean", "running_mean", Layout::Vector),
            ("running_var", "running_var", Layout::Vector),
        ],
    ));

    fn from_attrs(_: &Attrs, shapes: &Shapes) -> Result<Self> {
        Self::new(shapes.get("weight")?.1)
    }

    fn sample(widths: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        let &[channels] = widths else { return None };
        Self::new(channels).ok()
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        Ok(at.module(format!("torch.nn.BatchNorm1d({})", at.in_channels), &[]))
    }

    fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let deviation = self.running_var.value().mapv(|v| (v + F::of(EPS)).sqrt());
        (&xs[0] - self.running_mean.value()) / &deviation * self.weight.value() + self.bias.value()
    }
}
