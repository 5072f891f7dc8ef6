//! The Adam optimiser.

use super::optimizer::Optimizer;
use super::rates::check_rates;
use crate::error::{Error, Result};
use crate::kernels::{self, CHUNK};
use crate::nn::Param;
use crate::scalar::Scalar;
use ndarray::Array2;
use std::collections::BTreeMap;

/// Builder of [`Adam`]; see [`Adam::builder`].
#[derive(Debug, Clone)]
pub struct AdamBuilder {
    learning_rate: f64,
    weight_decay: f64,
    betas: (f64, f64),
    epsilon: f64,
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
        AdamBuilder { learning_rate: 0.01, weight_decay: 5e-4, betas: (0.9, 0.999), epsilon: 1e-8 }
    }
}

impl<F: Scalar> Optimizer<F> for Adam<F> {
    fn step(&mut self, param: &mut Param<F>, gradient: Option<&Array2<F>>, factor: f64) {
        let AdamBuilder { learning_rate, weight_decay, betas, epsilon } = self.settings;
        let shape = param.value().dim();
        let zeros =
            || Moments { first: Array2::zeros(shape), second: Array2::zeros(shape), steps: 0 };
        let moments = self.moments.entry(param.id().0).or_insert_with(zeros);
        moments.steps += 1;
        let correction = |beta: f64| 1.0 - beta.powi(moments.steps);
        let (beta1, beta2) = (F::of(betas.0), F::of(betas.1));
        let step_size = F::of(learning_rate * factor / correction(betas.0));
        let root_correction = F::of(correction(betas.1).sqrt());
        let (decay, epsilon, one) = (F::of(weight_decay), F::of(epsilon), F::one());
        let update = |w: &mut F, g: F, m: &mut F, v: &mut F| {
            let g = g + decay * *w;
            *m = beta1 * *m + (one - beta1) * g;
            *v = beta2 * *v + (one - beta2) * g * g;
            *w -= step_size * *m / (v.sqrt() / root_correction + epsilon);
        };
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
                    all.zip(own).for_each(|(((w, m), v), &g)| update(w, g, m, v));
                }
                None => all.for_each(|((w, m), v)| update(w, F::zero(), m, v)),
            }
        });
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
}
