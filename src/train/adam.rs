//! The Adam optimiser.

use super::optimizer::{Optimizer, rows_at};
use super::rates::check_rates;
use crate::error::{Error, Result};
use crate::kernels::{self, CHUNK};
use crate::nn::{Param, RowGrads};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView1, ArrayView2};
use std::collections::BTreeMap;

/// Builder of [`Adam`]; see [`Adam::builder`].
#[derive(Debug, Clone)]
pub struct AdamBuilder {
    learning_rate: f64,
    weight_decay: f64,
    betas: (f64, f64),
    epsilon: f64,
    lazy: bool,
}

impl AdamBuilder {
    /// Step size, positive. Default 0.01.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// L2 penalty added to the gradient as `λ·w`, at least 0. Default 5e-4.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Decay of the two moments, each in [0, 1). Default (0.9, 0.999).
    #[must_use]
    pub fn betas(mut self, first: f64, second: f64) -> Self {
        self.betas = (first, second);
        self
    }

    /// Whether a row whose gradient is zero throughout stays as it is, and its moments too, in the
    /// place of moving on by what it remembers. Of a large table, of which a batch names few rows,
    /// a step is then as cheap as these. Default: not.
    ///
    /// *Source*: `torch.optim.SparseAdam`, which also moves a row that a batch names and that has a
    /// gradient of zero.
    #[must_use]
    pub fn lazy(mut self, lazy: bool) -> Self {
        self.lazy = lazy;
        self
    }

    /// Builds the optimiser.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build<F: Scalar>(self) -> Result<Adam<F>> {
        check_rates(self.learning_rate, self.weight_decay)?;
        let (first, second) = self.betas;
        if !((0.0..1.0).contains(&first) && (0.0..1.0).contains(&second)) {
            return Err(Error::setting("betas", format!("({first}, {second})"), "each in [0, 1)"));
        }
        Ok(Adam { settings: self, moments: BTreeMap::new() })
    }
}

/// Adam with the L2 penalty in the gradient, as `torch.optim.Adam(weight_decay=λ)`:
/// `g ← g + λw`, `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, `w ← w − η·m̂ / (√v̂ + ε)`.
///
/// *Source*: Kingma and Ba, "Adam", ICLR 2015, algorithm 1.
#[derive(Debug, Clone)]
pub struct Adam<F: Scalar> {
    settings: AdamBuilder,
    moments: BTreeMap<usize, Moments<F>>,
}

/// What Adam remembers of a parameter.
#[derive(Debug, Clone)]
struct Moments<F: Scalar> {
    first: Array2<F>,
    second: Array2<F>,
    steps: i32,
}

impl Adam<f32> {
    /// Starts from PyTorch's defaults, with the protocol's learning rate and weight decay.
    pub fn builder() -> AdamBuilder {
        AdamBuilder {
            learning_rate: 0.01,
            weight_decay: 5e-4,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            lazy: false,
        }
    }
}

/// The numbers of one step.
struct Step<F> {
    betas: (F, F),
    size: F,
    root_correction: F,
    decay: F,
    epsilon: F,
}

impl<F: Scalar> Step<F> {
    /// In place, so that a loop of it becomes vectors.
    #[inline(always)]
    fn update(&self, w: &mut F, g: F, m: &mut F, v: &mut F) {
        let (beta1, beta2) = self.betas;
        let g = g + self.decay * *w;
        *m = beta1 * *m + (F::one() - beta1) * g;
        *v = beta2 * *v + (F::one() - beta2) * g * g;
        *w -= self.size * *m / (v.sqrt() / self.root_correction + self.epsilon);
    }
}

/// A row of a parameter with its two moments, and its gradient.
type Row<'a, F> = ((&'a mut [F], (&'a mut [F], &'a mut [F])), ArrayView1<'a, F>);

impl<F: Scalar> Adam<F> {
    /// Counts a step of a parameter: its numbers, and what is remembered.
    fn begin(&mut self, param: &Param<F>, factor: f64) -> (Step<F>, &mut Moments<F>) {
        let AdamBuilder { learning_rate, weight_decay, betas, epsilon, .. } = self.settings;
        let shape = param.value().dim();
        let zeros =
            || Moments { first: Array2::zeros(shape), second: Array2::zeros(shape), steps: 0 };
        let moments = self.moments.entry(param.id().0).or_insert_with(zeros);
        moments.steps += 1;
        let correction = |beta: f64| 1.0 - beta.powi(moments.steps);
        let step = Step {
            betas: (F::of(betas.0), F::of(betas.1)),
            size: F::of(learning_rate * factor / correction(betas.0)),
            root_correction: F::of(correction(betas.1).sqrt()),
            decay: F::of(weight_decay),
            epsilon: F::of(epsilon),
        };
        (step, moments)
    }

    /// Moves rows of a parameter whose gradients are not zero throughout; `rows` are ascending.
    fn lazily(
        &mut self,
        param: &mut Param<F>,
        rows: impl Iterator<Item = usize> + Clone,
        gradient: ArrayView2<F>,
        factor: f64,
    ) {
        let (step, moments) = self.begin(param, factor);
        let Moments { first, second, .. } = moments;
        let remembered = rows_at(first, rows.clone()).zip(rows_at(second, rows.clone()));
        let all = rows_at(param.value_mut(), rows).zip(remembered);
        let jobs: Vec<Row<F>> = all.zip(gradient.rows()).collect();
        kernels::run(jobs, gradient.len(), |((w, (m, v)), gradient)| {
            if gradient.iter().any(|&g| g != F::zero()) {
                let all = w.iter_mut().zip(m).zip(v).zip(gradient);
                all.for_each(|(((w, m), v), &g)| step.update(w, g, m, v));
            }
        });
    }
}

impl<F: Scalar> Optimizer<F> for Adam<F> {
    fn step(&mut self, param: &mut Param<F>, gradient: Option<&Array2<F>>, factor: f64) {
        if self.settings.lazy {
            let Some(gradient) = gradient else { return };
            return self.lazily(param, 0..gradient.nrows(), gradient.view(), factor);
        }
        let (step, moments) = self.begin(param, factor);
        let gradient = gradient.map(|gradient| gradient.as_standard_layout());
        let whole = "parameters and moments are contiguous";
        let gradient = gradient.as_ref().map(|gradient| gradient.as_slice().expect(whole));
        let weights = param.value_mut().as_slice_mut().expect(whole);
        let firsts = moments.first.as_slice_mut().expect(whole);
        let seconds = moments.second.as_slice_mut().expect(whole);
        let work = weights.len();
        let moments = firsts.chunks_mut(CHUNK).zip(seconds.chunks_mut(CHUNK));
        let jobs = weights.chunks_mut(CHUNK).zip(moments).enumerate().collect();
        kernels::run(jobs, work, |(k, (w, (m, v)))| {
            let all = w.iter_mut().zip(m).zip(v);
            match gradient {
                Some(gradient) => {
                    let own = &gradient[k * CHUNK..];
                    all.zip(own).for_each(|(((w, m), v), &g)| step.update(w, g, m, v));
                }
                None => all.for_each(|((w, m), v)| step.update(w, F::zero(), m, v)),
            }
        });
    }

    fn step_rows(&mut self, param: &mut Param<F>, gradient: &RowGrads<F>, factor: f64) {
        if !self.settings.lazy {
            return self.step(param, Some(&gradient.to_whole()), factor);
        }
        let rows = gradient.rows().iter().map(|&row| row as usize);
        self.lazily(param, rows, gradient.values().view(), factor);
    }

    fn forget(&mut self) {
        self.moments.clear();
    }

    fn settings(&self) -> String {
        format!("{:?}", self.settings)
    }

    fn fresh(&self) -> Box<dyn Optimizer<F>> {
        Box::new(Self { settings: self.settings.clone(), moments: BTreeMap::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Grads, Linear, Model, NodeId};
    use crate::train::optimizer::step;
    use approx::assert_relative_eq;
    use ndarray::array;

    fn line() -> Model<f64> {
        let mut builder = crate::nn::ModelBuilder::<f64>::new(1);
        let out = builder
            .add("out", Linear::builder(1, 2).bias(false).build().unwrap(), &[NodeId::INPUT])
            .unwrap();
        builder.build(out, 3).unwrap()
    }

    fn weight(model: &Model<f64>) -> Array2<f64> {
        let mut found = None;
        model.visit(&mut |_, param| found = Some(param.value().clone()));
        found.unwrap()
    }

    #[test]
    fn the_first_step_is_the_learning_rate_in_the_direction_of_the_gradient() {
        let mut model = line();
        let before = weight(&model);
        let mut grads = Grads::new(1);
        model.visit(&mut |_, param| grads.add(param, array![[2.0, -0.5]]));
        let mut adam = Adam::builder().learning_rate(0.1).weight_decay(0.0).build().unwrap();
        step(&mut adam, &mut model, &grads, 1.0);
        assert_relative_eq!(weight(&model), before + array![[-0.1, 0.1]], epsilon = 1e-7);
    }

    #[test]
    fn masked_entries_stay_zero() {
        let mut model = line();
        model.visit_mut(&mut |param| param.restrict(&array![[true, false]]));
        let mut grads = Grads::new(1);
        model.visit(&mut |_, param| grads.add(param, array![[1.0, 1.0]]));
        step(&mut Adam::builder().build().unwrap(), &mut model, &grads, 1.0);
        assert_eq!(weight(&model)[[0, 1]], 0.0);
        assert!(weight(&model)[[0, 0]] != 0.0);
    }

    /// PyTorch's `SparseAdam` written out, for gradients that name other rows in each step.
    #[test]
    fn lazy_steps_move_the_rows_that_have_a_gradient_and_no_others() {
        let table = || {
            let mut builder = crate::nn::ModelBuilder::<f64>::new(1);
            let table = crate::nn::Embedding::new(3, 2).unwrap();
            let out = builder.add("table", table, &[NodeId::INPUT]).unwrap();
            builder.build(out, 3).unwrap()
        };
        let (mut whole, mut rows) = (table(), table());
        let build = || Adam::builder().learning_rate(0.1).weight_decay(0.0).lazy(true).build();
        let (mut first, mut second) = (build().unwrap(), build().unwrap());
        let mut expected = weight(&whole);
        let (mut m, mut v) = (Array2::<f64>::zeros((3, 2)), Array2::<f64>::zeros((3, 2)));
        for (t, named) in [(1, [0, 2]), (2, [2, 1]), (3, [0, 1])] {
            let values = array![[1.0, -0.5], [0.25 * f64::from(t), 2.0]];
            let mut gradient = Array2::<f64>::zeros((3, 2));
            for (&row, value) in named.iter().zip(values.rows()) {
                gradient.row_mut(row as usize).assign(&value);
                for c in 0..2 {
                    let at = [row as usize, c];
                    m[at] = 0.9 * m[at] + 0.1 * value[c];
                    v[at] = 0.999 * v[at] + 0.001 * value[c] * value[c];
                    let (low, high) = (1.0 - 0.9f64.powi(t), 1.0 - 0.999f64.powi(t));
                    expected[at] -= 0.1 / low * m[at] / ((v[at] / high).sqrt() + 1e-8);
                }
            }
            let (mut a, mut b) = (Grads::new(1), Grads::new(1));
            whole.visit(&mut |_, param| {
                a.add(param, gradient.clone());
                b.add_rows(param, &named, values.view());
            });
            step(&mut first, &mut whole, &a, 1.0);
            step(&mut second, &mut rows, &b, 1.0);
            assert_relative_eq!(weight(&whole), expected, epsilon = 1e-12);
            assert_eq!(weight(&whole), weight(&rows));
        }
    }
}
