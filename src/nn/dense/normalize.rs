//! Rows of length 1.

use crate::error::{Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::{
    Attrs, Cx, Evaluated, Grads, Io, Layer, Lowering, Piece, Place, Python, Reads, Registered,
    Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;

/// Shortest length that rows are divided by.
const SHORTEST: f64 = 1e-12;

/// `y_i = x_i / max(|x_i|, 10⁻¹²)`.
///
/// *Shapes*: `X, Y: [n, c]`.
///
/// *Source*: `torch.nn.functional.normalize`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Normalize;

/// What a row is divided by.
pub(crate) fn length<F: Scalar>(row: &[F]) -> F {
    row.iter().map(|&x| x * x).sum::<F>().sqrt().max(F::of(SHORTEST))
}

impl<F: Scalar> Layer<F> for Normalize {
    /// The lengths of the inputs' rows.
    type Cache = Vec<F>;

    fn kind(&self) -> &'static str {
        <Self as Registered<F>>::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Vec<F>)> {
        let mut y = cx.copy_of(&xs[0]);
        let lengths = y.rows().into_iter().map(|row| {
            length(row.as_slice().expect("arrays of the workspace are in standard layout"))
        });
        let lengths: Vec<F> = lengths.collect();
        kernels::map_rows(y.view_mut(), |i, row| row.iter_mut().for_each(|y| *y /= lengths[i]));
        Ok((Value::Dense(y), lengths))
    }

    /// `dx_i = (dy_i − y_i·⟨y_i, dy_i⟩) / |x_i|`, and `dy_i` over the shortest length where `x_i`
    /// is shorter.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        lengths: Vec<F>,
        dy: ValueRef<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let mut dx = cx.copy_of(&dy);
        io.output().with_dense(|y| {
            kernels::map_rows(dx.view_mut(), |i, dx| {
                let y = y.row(i);
                let along = if lengths[i] > F::of(SHORTEST) {
                    dx.iter().zip(y).map(|(&d, &y)| d * y).sum()
                } else {
                    F::zero()
                };
                dx.iter_mut().zip(y).for_each(|(d, &y)| *d = (*d - y * along) / lengths[i]);
            });
        });
        vec![Some(Value::Dense(dx))]
    }

    fn reads(&self) -> Reads {
        Reads::Output
    }

    fn pieces(&self, _: bool) -> Option<Vec<Piece<F>>> {
        Some(vec![Piece::Itself])
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let width = lowering.width(xs[0]);
        Ok(lowering.opaque(xs, Evaluated::new(*self, 0), width))
    }
}

impl<F: Scalar> Registered<F> for Normalize {
    const KIND: &'static str = "normalize";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::EXPRESSION);

    fn from_attrs(_: &Attrs, _: &Shapes) -> Result<Self> {
        Ok(Self)
    }

    fn sample(widths: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        (widths.len() == 1).then_some(Self)
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        Ok(Python::expression(format!("torch.nn.functional.normalize({}, dim=-1)", at.inputs[0])))
    }

    fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let mut y = xs[0].clone();
        for mut row in y.rows_mut() {
            let length = row.dot(&row).sqrt();
            if length > F::zero() {
                row /= length;
            }
        }
        y
    }
}
