//! The Adam optimiser.

use crate::error::{Error, Result};
use crate::nn::{Grads, Model};
use crate::scalar::Scalar;
use ndarray::{Array2, Zip};

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
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(Error::setting("learning rate", self.learning_rate, "a positive number"));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return Err(Error::setting("weight decay", self.weight_decay, "0 or more"));
        }
        let (first, second) = self.betas;
        if !((0.0..1.0).contains(&first) && (0.0..1.0).contains(&second)) {
            return Err(Error::setting("betas", format!("({first}, {second})"), "each in [0, 1)"));
        }
        Ok(Adam { settings: self, moments: Vec::new(), step: 0 })
    }
}

/// Adam with the L2 penalty in the gradient, as `torch.optim.Adam(weight_decay=λ)`:
/// `g ← g + λw`, `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`, `w ← w − η·m̂ / (√v̂ + ε)`.
///
/// A masked entry of a parameter has no gradient and stays zero; a parameter that is not trainable
/// stays as it is.
///
/// *Source*: Kingma and Ba, "Adam", ICLR 2015, algorithm 1.
#[derive(Debug, Clone)]
pub struct Adam<F: Scalar> {
    settings: AdamBuilder,
    moments: Vec<Option<(Array2<F>, Array2<F>)>>,
    step: i32,
}

impl Adam<f32> {
    /// Starts from PyTorch's defaults, with the protocol's learning rate and weight decay.
    pub fn builder() -> AdamBuilder {
        AdamBuilder { learning_rate: 0.01, weight_decay: 5e-4, betas: (0.9, 0.999), epsilon: 1e-8 }
    }
}

impl<F: Scalar> Adam<F> {
    /// Changes the step size, for schedules.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.settings.learning_rate = learning_rate;
    }

    /// Moves the parameters of `model` one step down the gradient.
    pub fn step(&mut self, model: &mut Model<F>, grads: &Grads<F>) {
        self.step += 1;
        let AdamBuilder { learning_rate, weight_decay, betas, epsilon } = self.settings;
        let correction = |beta: f64| 1.0 - beta.powi(self.step);
        let (beta1, beta2) = (F::of(betas.0), F::of(betas.1));
        let step_size = F::of(learning_rate / correction(betas.0));
        let root_correction = F::of(correction(betas.1).sqrt());
        let (decay, epsilon, one) = (F::of(weight_decay), F::of(epsilon), F::one());
        let moments = &mut self.moments;
        model.visit_mut(&mut |param| {
            if !param.is_trainable() {
                return;
            }
            let index = param.id().0;
            if moments.len() <= index {
                moments.resize(index + 1, None);
            }
            let shape = param.value().dim();
            let (m, v) =
                moments[index].get_or_insert_with(|| (Array2::zeros(shape), Array2::zeros(shape)));
            let update = |w: &mut F, g: F, m: &mut F, v: &mut F| {
                let g = g + decay * *w;
                *m = beta1 * *m + (one - beta1) * g;
                *v = beta2 * *v + (one - beta2) * g * g;
                *w -= step_size * *m / (v.sqrt() / root_correction + epsilon);
            };
            match grads.get(param.id()) {
                Some(gradient) => Zip::from(param.value_mut())
                    .and(gradient)
                    .and(m)
                    .and(v)
                    .for_each(|w, &g, m, v| update(w, g, m, v)),
                None => Zip::from(param.value_mut())
                    .and(m)
                    .and(v)
                    .for_each(|w, m, v| update(w, F::zero(), m, v)),
            }
            param.apply_mask();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, NodeId};
    use approx::assert_relative_eq;
    use ndarray::array;

    fn line() -> Model<f64> {
        let mut builder = crate::nn::ModelBuilder::<f64>::new(1);
        let out = builder
            .add("out", Linear::builder(1, 2).no_bias().build().unwrap(), &[NodeId::INPUT])
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
        adam.step(&mut model, &grads);
        assert_relative_eq!(weight(&model), before + array![[-0.1, 0.1]], epsilon = 1e-7);
    }

    #[test]
    fn masked_entries_stay_zero() {
        let mut model = line();
        model.visit_mut(&mut |param| param.restrict(&array![[true, false]]));
        let mut grads = Grads::new(1);
        model.visit(&mut |_, param| grads.add(param, array![[1.0, 1.0]]));
        Adam::builder().build().unwrap().step(&mut model, &grads);
        assert_eq!(weight(&model)[[0, 1]], 0.0);
        assert!(weight(&model)[[0, 0]] != 0.0);
    }
}
