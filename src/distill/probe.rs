//! A model on its task, asked for gradients in evaluation mode.

use crate::error::{Error, Result};
use crate::nn::{Cx, Grads, Model};
use crate::scalar::Scalar;
use crate::task::{Batch, Task, cross_entropy};
use crate::value::{Value, ValueRef};
use std::sync::OnceLock;

/// A model with all of its task, and the loss
/// `L(X) = |R|^(−1/2) Σ_{i∈R} CE(softmax(z_i(X)), y_i)` without dropout.
///
/// `R` are the rows to distil on. A [`Distiller`](super::Distiller) sets `y` to the labels of the
/// training nodes, and for every other node to the class that the teacher predicts: no other label
/// is read. With the factor `|R|^(−1/2)` squared gradients are means over `R`, whatever its size.
///
/// *Shapes*: `X: [n, features]` dense or sparse, `y`: one per node, of which those of `R` are read.
pub struct Probe<'a, F: Scalar> {
    model: &'a Model<F>,
    whole: Batch<F>,
    rows: &'a [u32],
    classes: &'a [u32],
    gradient: OnceLock<Value<F>>,
}

impl<F: Scalar> std::fmt::Debug for Probe<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (nodes, rows) = (self.whole.features().rows(), self.rows.len());
        f.debug_struct("Probe").field("nodes", &nodes).field("rows", &rows).finish_non_exhaustive()
    }
}

impl<'a, F: Scalar> Probe<'a, F> {
    /// Asks `model` about `rows` of all of `task`, whose nodes are taken to be of `classes`.
    ///
    /// # Errors
    /// [`Error::Data`] where `classes` has not one entry per node, [`Error::IndexOutOfRange`] for a
    /// row or a class that is not there.
    pub fn new(
        model: &'a Model<F>,
        task: &dyn Task<F>,
        rows: &'a [u32],
        classes: &'a [u32],
    ) -> Result<Self> {
        let (nodes, width) = (task.data().num_nodes(), model.out_channels());
        if classes.len() != nodes {
            return Err(Error::data(
                task.name(),
                format!("has {nodes} nodes, and a probe was given {} classes", classes.len()),
            ));
        }
        for &row in rows {
            let (row, class) =
                (row as usize, classes.get(row as usize).map_or(0, |class| *class as usize));
            for (at, index, len) in
                [("row to distil on", row, nodes), ("class of a row", class, width)]
            {
                if index >= len {
                    return Err(Error::IndexOutOfRange { at: at.into(), index, len });
                }
            }
        }
        Ok(Self { model, whole: task.whole()?, rows, classes, gradient: OnceLock::new() })
    }

    /// The model.
    pub fn model(&self) -> &'a Model<F> {
        self.model
    }

    /// The features `X`.
    pub fn features(&self) -> ValueRef<'_, F> {
        self.whole.features()
    }

    /// `g = ∂L/∂X` at the features, on their stored entries; computed once.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where model and data do not fit.
    pub fn input_gradient(&self) -> Result<&Value<F>> {
        if let Some(gradient) = self.gradient.get() {
            return Ok(gradient);
        }
        let gradient = self.gradients(self.whole.features())?.1;
        Ok(self.gradient.get_or_init(|| gradient))
    }

    /// `∇_θ L` at other features `x`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for an `x` of another shape.
    pub fn parameter_gradients(&self, x: ValueRef<F>) -> Result<Grads<F>> {
        let expected = self.whole.features().shape();
        if x.shape() != expected {
            return Err(Error::ShapeMismatch {
                at: "features of a probe".into(),
                expected,
                found: x.shape(),
            });
        }
        Ok(self.gradients(x)?.0)
    }

    fn gradients(&self, x: ValueRef<F>) -> Result<(Grads<F>, Value<F>)> {
        let cx = self.whole.on(&Cx::without_graph());
        let trace = self.model.trace(&cx, x)?;
        let (_, mut seed) = cross_entropy(trace.output(), self.classes, self.rows);
        // The mean over the rows becomes their sum divided by the root of their number.
        seed *= F::of((self.rows.len() as f64).sqrt());
        self.model.backward_to_input(&cx, trace, &[(self.model.output(), seed)])
    }
}
