//! Gradients by the input.

use super::signals::mismatch;
use super::{DistillLoss, Probe, Signals};
use crate::error::{Error, Result};
use crate::nn::Grads;
use crate::scalar::Scalar;
use crate::train::NodeGrads;
use crate::value::{Value, ValueRef};
use ndarray::Array2;

/// `½‖g_S − g_T‖²` with `g = ∂L/∂X`, over the stored entries of `X` in the chosen rows: the student
/// is to be moved by the same features as its teacher. `L` is the cross-entropy of a [`Probe`].
///
/// Its gradient is `∇_θ ⟨g_S, v⟩ = d/dt ∇_θ L_S(X + t·v)` at `t = 0`, with `v = g_S − g_T` held
/// fixed: the central difference of two ordinary backward passes, all without dropout. It is good
/// to about 1e-9 in f64 and 1e-4 in f32 where the activation is smooth; at the kinks of a ReLU it
/// is only as good as the difference. An epoch costs three more forward and backward passes.
///
/// *Source*: Czarnecki et al., "Sobolev Training for Neural Networks", NeurIPS 2017, eq. 1, for
/// inputs; Pearlmutter, "Fast Exact Multiplication by the Hessian", 1994, for the directional
/// derivative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InputGradients;

impl InputGradients {
    /// The loss; it has no settings.
    pub fn new() -> Self {
        Self
    }
}

impl<F: Scalar> DistillLoss<F> for InputGradients {
    fn name(&self) -> &'static str {
        "input_gradients"
    }

    fn start(&self, _: u64) -> Box<dyn DistillLoss<F>> {
        Box::new(*self)
    }

    /// Nothing: all of it is [`DistillLoss::direct`].
    fn loss(&self, _: &Signals<F>, _: &Signals<F>, _: &[u32]) -> Result<(F, NodeGrads<F>)> {
        Ok((F::zero(), Vec::new()))
    }

    fn direct(
        &self,
        student: &Probe<F>,
        teacher: &Probe<F>,
        rows: &[u32],
    ) -> Result<Option<(F, Grads<F>)>> {
        let x = student.features();
        let v = difference(student.input_gradient()?, teacher.input_gradient()?, rows)?;
        let value = F::of(0.5) * entries(v.view()).map(|v| v * v).sum();
        let (largest_x, largest_v) = (largest(x), largest(v.view()));
        if largest_v == F::zero() || !value.is_finite() {
            return Ok(Some((value, Grads::new(0))));
        }
        // The error of a central difference, `t²` by its formula and `ε/t` by rounding, is smallest
        // at the cube root of `ε`, measured in units of `X`.
        let scale = if largest_x > F::zero() { largest_x } else { F::one() };
        let step = F::epsilon().cbrt() * scale / largest_v;
        let mut grads = student.parameter_gradients(moved(x, &v, step).view())?;
        let back = student.parameter_gradients(moved(x, &v, -step).view())?;
        grads.add_scaled(&back, -F::one());
        let mut derivative = Grads::new(0);
        derivative.add_scaled(&grads, (step + step).recip());
        Ok(Some((value, derivative)))
    }
}

/// `a − b` in `rows`, zero in the others.
fn difference<F: Scalar>(a: &Value<F>, b: &Value<F>, rows: &[u32]) -> Result<Value<F>> {
    if a.shape() != b.shape() || a.stored() != b.stored() {
        let words = |x: &Value<F>| {
            format!("input gradients of {} nodes by {} features", x.shape().0, x.shape().1)
        };
        return Err(mismatch(&words(a), &words(b)));
    }
    let mut chosen = vec![false; a.shape().0];
    for &row in rows {
        let len = chosen.len();
        *chosen.get_mut(row as usize).ok_or(Error::IndexOutOfRange {
            at: "row to distil on".into(),
            index: row as usize,
            len,
        })? = true;
    }
    let part = |row: usize, a: F, b: F| if chosen[row] { a - b } else { F::zero() };
    Ok(match (a, b) {
        (Value::Dense(a), Value::Dense(b)) => {
            Value::Dense(Array2::from_shape_fn(a.dim(), |at| part(at.0, a[at], b[at])))
        }
        (Value::Sparse(a), Value::Sparse(b)) => {
            let mut v = a.clone();
            let indptr = a.indptr().raw_storage().to_vec();
            for (row, ends) in indptr.windows(2).enumerate() {
                for k in ends[0]..ends[1] {
                    v.data_mut()[k] = part(row, a.data()[k], b.data()[k]);
                }
            }
            Value::Sparse(v)
        }
        _ => return Err(mismatch("input gradients of one storage", "of another")),
    })
}

/// `x + t·v`; `v` stores what `x` stores.
fn moved<F: Scalar>(x: ValueRef<F>, v: &Value<F>, t: F) -> Value<F> {
    let mut moved = x.to_owned();
    match (&mut moved, v) {
        (Value::Dense(x), Value::Dense(v)) => x.scaled_add(t, v),
        (Value::Sparse(x), Value::Sparse(v)) => {
            x.data_mut().iter_mut().zip(v.data()).for_each(|(x, &v)| *x += t * v)
        }
        _ => unreachable!("the gradient of an input is stored as the input is"),
    }
    moved
}

fn entries<'a, F: Scalar>(x: ValueRef<'a, F>) -> Box<dyn Iterator<Item = F> + 'a> {
    match x {
        ValueRef::Dense(x) => Box::new(x.into_iter().copied()),
        ValueRef::Sparse(x) => Box::new(x.data().to_vec().into_iter()),
    }
}

fn largest<F: Scalar>(x: ValueRef<F>) -> F {
    entries(x).fold(F::zero(), |top, v| top.max(v.abs()))
}
