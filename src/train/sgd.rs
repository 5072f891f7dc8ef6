//! Stochastic gradient descent.

use super::optimizer::Optimizer;
use super::rates::check_rates;
use crate::error::{Error, Result};
use crate::nn::Param;
use crate::scalar::Scalar;
use ndarray::{Array2, Zip};
use std::collections::BTreeMap;

/// Builder of [`Sgd`]; see [`Sgd::builder`].
#[derive(Debug, Clone)]
pub struct SgdBuilder {
    learning_rate: f64,
    weight_decay: f64,
    momentum: f64,
}

impl SgdBuilder {
    /// Step size, positive. Default 0.01.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// L2 penalty added to the gradient as `λ·w`, at least 0. Default 0.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Share of the last step that goes into the next, in [0, 1). Default 0.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Builds the optimiser.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build<F: Scalar>(self) -> Result<Sgd<F>> {
        check_rates(self.learning_rate, self.weight_decay)?;
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Error::setting("momentum", self.momentum, "in [0, 1)"));
        }
        Ok(Sgd { settings: self, steps: BTreeMap::new() })
    }
}

/// Gradient descent with momentum, as `torch.optim.SGD`: `g ← g + λw`, `v ← μv + g`, where the
/// first `v` is `g`, and `w ← w − η·v`.
///
/// *Source*: Polyak, "Some methods of speeding up the convergence of iteration methods", 1964, in
/// the form of Sutskever et al., ICML 2013, without the learning rate in `v`.
#[derive(Debug, Clone)]
pub struct Sgd<F: Scalar> {
    settings: SgdBuilder,
    steps: BTreeMap<usize, Array2<F>>,
}

impl Sgd<f32> {
    /// Starts from PyTorch's defaults, with a learning rate of 0.01.
    pub fn builder() -> SgdBuilder {
        SgdBuilder { learning_rate: 0.01, weight_decay: 0.0, momentum: 0.0 }
    }
}

impl<F: Scalar> Optimizer<F> for Sgd<F> {
    fn step(&mut self, param: &mut Param<F>, gradient: Option<&Array2<F>>, factor: f64) {
        let SgdBuilder { learning_rate, weight_decay, momentum } = self.settings;
        let (rate, decay) = (F::of(learning_rate * factor), F::of(weight_decay));
        let mut step = match gradient {
            Some(gradient) => gradient.to_owned(),
            None => Array2::zeros(param.value().dim()),
        };
        if weight_decay > 0.0 {
            step.scaled_add(decay, param.value());
        }
        if momentum > 0.0 {
            let last = self.steps.entry(param.id().0).or_insert_with(|| Array2::zeros((0, 0)));
            if last.dim() == step.dim() {
                let momentum = F::of(momentum);
                Zip::from(&mut step).and(&*last).for_each(|v, &last| *v = momentum * last + *v);
            }
            last.clone_from(&step);
        }
        param.value_mut().scaled_add(-rate, &step);
    }

    fn forget(&mut self) {
        self.steps.clear();
    }

    fn settings(&self) -> String {
        format!("{:?}", self.settings)
    }

    fn fresh(&self) -> Box<dyn Optimizer<F>> {
        Box::new(Self { settings: self.settings.clone(), steps: BTreeMap::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, Model, NodeId};
    use crate::train::optimizer;
    use approx::assert_relative_eq;
    use ndarray::array;

    fn line() -> Model<f64> {
        let mut builder = crate::nn::ModelBuilder::<f64>::new(1);
        let out = Linear::builder(1, 2).bias(false).build().unwrap();
        let out = builder.add("out", out, &[NodeId::INPUT]).unwrap();
        builder.build(out, 3).unwrap()
    }

    fn weight(model: &Model<f64>) -> Array2<f64> {
        let mut found = None;
        model.visit(&mut |_, param| found = Some(param.value().clone()));
        found.unwrap()
    }

    /// PyTorch's documented recurrence, written out for three steps of one gradient.
    #[test]
    fn momentum_is_that_of_pytorch() {
        let mut model = line();
        let mut expected = weight(&model);
        let gradient = array![[2.0, -0.5]];
        let mut grads = crate::nn::Grads::new(1);
        model.visit(&mut |_, param| grads.add(param, gradient.clone()));
        let (rate, decay, momentum) = (0.1, 0.01, 0.9);
        let mut sgd = Sgd::builder()
            .learning_rate(rate)
            .weight_decay(decay)
            .momentum(momentum)
            .build::<f64>()
            .unwrap();
        let mut velocity: Option<Array2<f64>> = None;
        for _ in 0..3 {
            optimizer::step(&mut sgd, &mut model, &grads, 0.5);
            let g = &gradient + &(&expected * decay);
            let v = velocity.map_or(g.clone(), |v| v * momentum + &g);
            expected = &expected - &(&v * (rate * 0.5));
            velocity = Some(v);
            assert_relative_eq!(weight(&model), expected, epsilon = 1e-12);
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for wrong in [1.0, -0.1, f64::NAN] {
            assert!(Sgd::builder().momentum(wrong).build::<f32>().is_err());
        }
        assert!(Sgd::builder().learning_rate(0.0).build::<f32>().is_err());
        assert!(Sgd::builder().weight_decay(-1.0).build::<f32>().is_err());
    }
}
