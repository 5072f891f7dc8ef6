//! The Adagrad optimiser.

use super::optimizer::{Optimizer, rows_at};
use super::rates::check_rates;
use crate::error::Result;
use crate::kernels;
use crate::nn::{Param, RowGrads};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView1};
use std::collections::BTreeMap;

/// Added to the root that gradients are divided by, as PyTorch does.
const EPSILON: f64 = 1e-10;

/// Builder of [`Adagrad`]; see [`Adagrad::builder`].
#[derive(Debug, Clone)]
pub struct AdagradBuilder {
    learning_rate: f64,
    weight_decay: f64,
}

impl AdagradBuilder {
    /// Step size, positive. Default 0.1.
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

    /// Builds the optimiser.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a number outside its range.
    pub fn build<F: Scalar>(self) -> Result<Adagrad<F>> {
        check_rates(self.learning_rate, self.weight_decay)?;
        Ok(Adagrad { settings: self, squares: BTreeMap::new() })
    }
}

/// Adagrad as `torch.optim.Adagrad`: `g ← g + λw`, `s ← s + g²`, `w ← w − η·g / (√s + ε)`. Without
/// weight decay, rows of a table that have no gradient are not touched.
///
/// *Source*: Duchi et al., "Adaptive subgradient methods", JMLR 2011, with a diagonal matrix.
#[derive(Debug, Clone)]
pub struct Adagrad<F: Scalar> {
    settings: AdagradBuilder,
    /// Sums of squares, by parameter.
    squares: BTreeMap<usize, Array2<F>>,
}

impl Adagrad<f32> {
    /// Starts from a learning rate of 0.1 and no weight decay.
    pub fn builder() -> AdagradBuilder {
        AdagradBuilder { learning_rate: 0.1, weight_decay: 0.0 }
    }
}

/// A row of a parameter with its sums of squares and its gradient.
type Row<'a, F> = ((&'a mut [F], &'a mut [F]), ArrayView1<'a, F>);

fn update<F: Scalar>(((w, squares), gradient): Row<F>, rate: F, decay: F) {
    let epsilon = F::of(EPSILON);
    for ((w, s), &g) in w.iter_mut().zip(squares).zip(gradient) {
        let g = g + decay * *w;
        *s += g * g;
        *w -= rate * g / (s.sqrt() + epsilon);
    }
}

impl<F: Scalar> Adagrad<F> {
    fn squares_of(&mut self, param: &Param<F>) -> &mut Array2<F> {
        let zeros = || Array2::zeros(param.value().dim());
        self.squares.entry(param.id().0).or_insert_with(zeros)
    }
}

impl<F: Scalar> Optimizer<F> for Adagrad<F> {
    fn step(&mut self, param: &mut Param<F>, gradient: Option<&Array2<F>>, factor: f64) {
        let rate = F::of(self.settings.learning_rate * factor);
        let decay = F::of(self.settings.weight_decay);
        let zeros;
        let gradient = match gradient {
            Some(gradient) => gradient,
            None if decay == F::zero() => return,
            None => {
                zeros = Array2::zeros(param.value().dim());
                &zeros
            }
        };
        let squares = self.squares_of(param);
        let (rows, all) = (gradient.nrows(), gradient.len());
        let weights = rows_at(param.value_mut(), 0..rows).zip(rows_at(squares, 0..rows));
        let jobs = weights.zip(gradient.rows()).collect();
        kernels::run(jobs, all, |row| update(row, rate, decay));
    }

    fn step_rows(&mut self, param: &mut Param<F>, gradient: &RowGrads<F>, factor: f64) {
        if self.settings.weight_decay > 0.0 {
            return self.step(param, Some(&gradient.to_whole()), factor);
        }
        let rate = F::of(self.settings.learning_rate * factor);
        let squares = self.squares_of(param);
        let rows = || gradient.rows().iter().map(|&row| row as usize);
        let weights = rows_at(param.value_mut(), rows()).zip(rows_at(squares, rows()));
        let jobs = weights.zip(gradient.values().rows()).collect();
        kernels::run(jobs, gradient.values().len(), |row| update(row, rate, F::zero()));
    }

    fn forget(&mut self) {
        self.squares.clear();
    }

    fn settings(&self) -> String {
        format!("{:?}", self.settings)
    }

    fn fresh(&self) -> Box<dyn Optimizer<F>> {
        Box::new(Self { settings: self.settings.clone(), squares: BTreeMap::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Embedding, Grads, Model, ModelBuilder, NodeId};
    use crate::train::optimizer;
    use approx::assert_relative_eq;
    use ndarray::array;

    fn table() -> Model<f64> {
        let mut builder = ModelBuilder::<f64>::new(1);
        let out = builder.add("table", Embedding::new(3, 2).unwrap(), &[NodeId::INPUT]).unwrap();
        builder.build(out, 3).unwrap()
    }

    fn weight(model: &Model<f64>) -> Array2<f64> {
        let mut found = None;
        model.visit(&mut |_, param| found = Some(param.value().clone()));
        found.unwrap()
    }

    /// PyTorch's documented recurrence, written out for three steps.
    #[test]
    fn steps_are_those_of_pytorch_and_the_same_for_rows() {
        for decay in [0.0, 0.1] {
            let (mut whole, mut rows) = (table(), table());
            let build = || Adagrad::builder().learning_rate(0.5).weight_decay(decay).build();
            let (mut first, mut second) = (build().unwrap(), build().unwrap());
            let mut expected = weight(&whole);
            let gradient = array![[2.0, -0.5], [0.0, 0.0], [1.0, 0.0]];
            let mut sums = Array2::<f64>::zeros((3, 2));
            for _ in 0..3 {
                let (mut a, mut b) = (Grads::new(1), Grads::new(1));
                whole.visit(&mut |_, param| {
                    a.add(param, gradient.clone());
                    b.add_rows(param, &[2, 0], array![[1.0, 0.0], [2.0, -0.5]].view());
                });
                optimizer::step(&mut first, &mut whole, &a, 1.0);
                optimizer::step(&mut second, &mut rows, &b, 1.0);
                let g = &gradient + &(&expected * decay);
                sums = sums + g.mapv(|g| g * g);
                expected = expected - 0.5 * &g / (sums.mapv(f64::sqrt) + 1e-10);
                assert_relative_eq!(weight(&whole), expected, epsilon = 1e-12);
                assert_eq!(weight(&whole), weight(&rows));
            }
        }
    }
}
