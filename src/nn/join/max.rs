//! The largest of several inputs.

use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::nn::product::gradient_like;
use crate::nn::{
    Attrs, Cx, Grads, Io, Layer, Lowering, Place, Python, Reads, Registered, Shapes, StageId, Twin,
    Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, Zip};

/// `y_ic = max_k x_k,ic`: jumping knowledge by maximum.
///
/// *Shapes*: every `X_k: [n, c]`, `Y: [n, c]`. The gradient goes to the first of the largest.
///
/// *Source*: Xu et al., "Representation Learning on Graphs with Jumping Knowledge Networks", ICML
/// 2018, §4.1.
#[derive(Debug, Clone)]
pub struct Max {
    inputs: usize,
}

impl Max {
    /// The largest of `inputs` inputs, at least one.
    ///
    /// # Errors
    /// [`Error::Setting`] for none.
    pub fn new(inputs: usize) -> Result<Self> {
        if inputs == 0 {
            Err(Error::setting("inputs of max", 0, "at least 1"))
        } else {
            Ok(Self { inputs })
        }
    }
}

impl<F: Scalar> Layer<F> for Max {
    type Cache = ();

    fn kind(&self) -> &'static str {
        <Self as Registered<F>>::KIND
    }

    fn arity(&self) -> (usize, usize) {
        (self.inputs, self.inputs)
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        let mut y = cx.take(xs[0].shape());
        xs[0].with_dense(|x| y.assign(&x));
        for x in &xs[1..] {
            cx.check(x, y.ncols())?;
            x.with_dense(|x| {
                Zip::from(&mut y).and(x).for_each(|y, &x| *y = if x > *y { x } else { *y })
            });
        }
        Ok((Value::Dense(y), ()))
    }

    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let y = io.output().to_dense();
        // What no input before has taken.
        let mut left = dy.to_dense();
        let mut gradient = |k: usize| {
            let mut dx = cx.take(y.dim());
            io.input(k).with_dense(|x| {
                Zip::from(&mut dx).and(&mut left).and(&y).and(x).for_each(|dx, left, &y, &x| {
                    *dx = if x == y { std::mem::replace(left, F::zero()) } else { F::zero() };
                });
            });
            io.wants(k)
                .then(|| gradient_like(io.sparse_input(k).map(ValueRef::Sparse), Value::Dense(dx)))
        };
        (0..io.len()).map(&mut gradient).collect()
    }

    fn reads(&self) -> Reads {
        Reads::InputsAndOutput
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        Ok(lowering.max(xs))
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with("inputs", self.inputs)
    }
}

impl<F: Scalar> Registered<F> for Max {
    const KIND: &'static str = "max";
    const PYTORCH: std::result::Result<Twin, &'static str> = Ok(Twin::EXPRESSION);

    fn from_attrs(attrs: &Attrs, _: &Shapes) -> Result<Self> {
        Self::new(attrs.get("inputs")?)
    }

    fn sample(widths: &[usize], _: usize, _: &mut ChaCha8Rng) -> Option<Self> {
        widths
            .iter()
            .all(|width| *width == widths[0])
            .then(|| Self::new(widths.len()).ok())
            .flatten()
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        Ok(Python::expression(format!("torch.stack([{}]).amax(0)", at.inputs.join(", "))))
    }

    fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        Array2::from_shape_fn(xs[0].dim(), |at| {
            xs.iter().map(|x| x[at]).fold(F::neg_infinity(), F::max)
        })
    }
}
