//! What moves parameters.

use crate::nn::{Grads, Model, Param, RowGrads};
use crate::scalar::Scalar;
use ndarray::Array2;

/// Moves parameters down their gradients; it keeps what it remembers of each by its
/// [`id`](Param::id).
///
/// ```
/// use gnn_prune::ndarray::Array2;
/// use gnn_prune::nn::Param;
/// use gnn_prune::train::{Optimizer, Setup};
/// use gnn_prune::{Dataset, Gcn, Trainer};
///
/// /// A step of one size for every weight, in the direction of its gradient's sign.
/// struct Signs(f32);
///
/// impl Optimizer<f32> for Signs {
///     fn step(&mut self, param: &mut Param<f32>, gradient: Option<&Array2<f32>>, factor: f64) {
///         let Some(gradient) = gradient else { return };
///         let step = self.0 * factor as f32;
///         param.value_mut().zip_mut_with(gradient, |w, g| *w -= step * g.signum());
///     }
///
///     fn forget(&mut self) {}
///
///     fn fresh(&self) -> Box<dyn Optimizer<f32>> {
///         Box::new(Signs(self.0))
///     }
/// }
///
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(8).build(0)?;
/// let trainer = Trainer::builder().epochs(5).build()?;
/// let fit = trainer.fit_with(model, &data, Setup::new().optimizer(&mut Signs(0.01)))?;
/// assert_eq!(fit.losses.len(), 5);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub trait Optimizer<F: Scalar>: Send + Sync {
    /// Moves one parameter that trains. `factor` is what the schedule makes of the learning rate;
    /// no gradient is one of zeros.
    fn step(&mut self, param: &mut Param<F>, gradient: Option<&Array2<F>>, factor: f64);

    /// As [`step`](Self::step), where the gradient of all rows but a few is zero. What it does must
    /// be what `step` does with the whole gradient: an optimiser that moves rows without a gradient
    /// too leaves the default, which makes it whole and is slower on large tables.
    fn step_rows(&mut self, param: &mut Param<F>, gradient: &RowGrads<F>, factor: f64) {
        self.step(param, Some(&gradient.to_whole()), factor);
    }

    /// Forgets what it remembers of the parameters: the model has become another.
    fn forget(&mut self);

    /// All that its steps depend on, in one line: what a run that goes on is compared by. Default:
    /// the name of its type.
    fn settings(&self) -> String {
        std::any::type_name::<Self>().into()
    }

    /// One of the same settings that remembers nothing, for another training.
    fn fresh(&self) -> Box<dyn Optimizer<F>>;
}

/// Moves every parameter of `model` that trains; masked entries stay zero.
pub fn step<F: Scalar>(
    optimizer: &mut dyn Optimizer<F>,
    model: &mut Model<F>,
    grads: &Grads<F>,
    factor: f64,
) {
    model.visit_mut(&mut |param| {
        if param.is_trainable() {
            match grads.rows(param.id()) {
                Some(rows) => optimizer.step_rows(param, rows, factor),
                None => optimizer.step(param, grads.get(param.id()), factor),
            }
            param.apply_mask();
        }
    });
}

/// The rows of these numbers, which are ascending.
pub(super) fn rows_at<F>(
    array: &mut Array2<F>,
    rows: impl IntoIterator<Item = usize>,
) -> impl Iterator<Item = &mut [F]> {
    let width = array.ncols();
    let mut rest = array.as_slice_mut().expect("parameters are contiguous");
    let mut next = 0;
    rows.into_iter().map(move |row| {
        rest.split_off_mut(..(row - next) * width).expect("the row is one of the array");
        next = row + 1;
        rest.split_off_mut(..width).expect("the row is one of the array")
    })
}
