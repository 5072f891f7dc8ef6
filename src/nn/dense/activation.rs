//! Activation functions.

use crate::error::{Result, Unsupported};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::{
    ActivationFn, Attrs, Cx, Grads, InPlace, Io, Layer, Lowering, Piece, Place, Python, Reads,
    Registered, Shapes, StageId, Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::seq::IndexedRandom;

/// `Y = f(X)`, entry by entry.
///
/// *Shapes*: `X, Y: [n, c]`. A sparse `X` becomes dense.
///
/// *Source*: the papers at [`ActivationFn`].
#[derive(Debug, Clone)]
pub struct Activation {
    function: ActivationFn,
}

impl Activation {
    /// Applies `function`.
    pub fn new(function: ActivationFn) -> Self {
        Self { function }
    }
}

impl<F: Scalar> InPlace<F> for Activation {
    fn forward_in_place(&self, _: &Cx<F>, x: &mut Array2<F>) {
        kernels::for_each_chunk(
            x.as_slice_mut().expect("a standard layout is a slice"),
            |_, chunk| self.function.apply(chunk),
        );
    }
}

impl<F: Scalar> Layer<F> for Activation {
    type Cache = ();

    fn kind(&self) -> &'static str {
        <Self as Registered<F>>::KIND
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        cx.check(&xs[0], xs[0].cols())?;
        let mut y = cx.copy_of(&xs[0]);
        self.forward_in_place(cx, &mut y);
        Ok((Value::Dense(y), ()))
    }

    fn in_place(&self) -> Option<&dyn InPlace<F>> {
        Some(self)
    }

    /// `dX = dY ⊙ f'(X)`, and `f'` follows from `Y`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        grads: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        self.backward_owned(cx, io, (), Value::Dense(cx.copy_of(&dy)), grads)
    }

    fn backward_owned(
        &self,
        _: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: Value<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let dy = dy.into_dense();
        let mut dx =
            if dy.is_standard_layout() { dy } else { dy.as_standard_layout().into_owned() };
        if let Some(y) = io.packed_output() {
            y.for_each_row(dx.view_mut(), |y, dx| self.function.scale_by_derivative(y, dx));
            return vec![Some(Value::Dense(dx))];
        }
        io.output().with_dense(|y| {
            let y = y.as_slice().expect("outputs are contiguous");
            kernels::for_each_chunk(
                dx.as_slice_mut().expect("a standard layout is a slice"),
                |start, chunk| {
                    self.function.scale_by_derivative(&y[start..][..chunk.len()], chunk);
                },
            );
        });
        vec![Some(Value::Dense(dx))]
    }

    fn reads(&self) -> Reads {
        match self.function {
            ActivationFn::Relu | ActivationFn::LeakyRelu => Reads::SignOfOutput,
            _ => Reads::Output,
        }
    }

    fn pieces(&self, _: bool) -> Option<Vec<Piece<F>>> {
        Some(vec![Piece::Itself])
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        Ok(lowering.activation(xs[0], self.function))
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with("function", self.function)
    }
}

impl<F: Scalar> Registered<F> for Activation {
    const KIND: &'static str = "activation";
    const PYTORCH: std::result::Result<Twin, &'static str> =
        Ok(Twin::EXPRESSION.settings(&["function"]));

    fn from_attrs(attrs: &Attrs, _: &Shapes) -> Result<Self> {
        Ok(Self::new(attrs.get("function")?))
    }

    fn sample(widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        (widths.len() == 1)
            .then(|| Self::new(*ActivationFn::ALL.choose(rng).expect("there are functions")))
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        Ok(Python::expression(format!(
            "torch.nn.functional.{}({})",
            self.function.word(),
            at.inputs[0]
        )))
    }

    fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        let zero = F::zero();
        xs[0].mapv(|x| match self.function {
            ActivationFn::Relu => x.max(zero),
            ActivationFn::LeakyRelu => x.max(zero) + F::of(0.01) * x.min(zero),
            ActivationFn::Elu => x.max(zero) + (x.min(zero).exp() - F::one()),
            ActivationFn::Tanh => (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
            ActivationFn::Sigmoid => x.exp() / (x.exp() + F::one()),
        })
    }
}
