//! Residual connections.

use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::kernels::{self, Epilogue};
use crate::nn::{
    Attrs, Cx, Grads, Io, Layer, Lowering, Place, Python, Reads, Registered, Role, Shapes, StageId,
    Twin, Wiring,
};
use crate::rng::ChaCha8Rng;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// `Y = Σ_k a_k·X_k`: a residual connection where `a` is all ones.
///
/// *Shapes*: every `X_k: [n, c]`, `Y: [n, c]`.
///
/// *Source*: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, eq. 1.
#[derive(Debug, Clone)]
pub struct Add {
    coefficients: Vec<f64>,
}

impl Add {
    /// The plain sum of `terms` inputs, at least one.
    ///
    /// # Errors
    /// [`Error::Setting`] for no terms.
    pub fn new(terms: usize) -> Result<Self> {
        Self::with_coefficients(vec![1.0; terms])
    }

    /// One finite coefficient per input, at least one.
    ///
    /// # Errors
    /// [`Error::Setting`] for none, or one that is not finite.
    pub fn with_coefficients(coefficients: Vec<f64>) -> Result<Self> {
        if coefficients.is_empty() || coefficients.iter().any(|a| !a.is_finite()) {
            return Err(Error::setting(
                "coefficients of add",
                format!("{coefficients:?}"),
                "finite numbers, at least one",
            ));
        }
        Ok(Self { coefficients })
    }
}

impl<F: Scalar> Layer<F> for Add {
    type Cache = ();

    fn kind(&self) -> &'static str {
        <Self as Registered<F>>::KIND
    }

    fn arity(&self) -> (usize, usize) {
        (self.coefficients.len(), self.coefficients.len())
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, ())> {
        let mut y = cx.take(xs[0].shape());
        xs.iter().try_for_each(|x| cx.check(x, y.ncols()))?;
        let weights: Vec<F> = self.coefficients.iter().map(|&a| F::of(a)).collect();
        kernels::weighted_sum(xs, &weights, y.view_mut(), Epilogue::NONE);
        Ok((Value::Dense(y), ()))
    }

    /// `dX_k = a_k·dY`.
    fn backward(
        &self,
        cx: &Cx<F>,
        io: &Io<F>,
        (): (),
        dy: ValueRef<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
        let gradient = |(k, &a): (usize, &f64)| {
            io.wants(k).then(|| {
                let mut dx = cx.take(dy.shape());
                dy.with_dense(|dy| dx.assign(&dy));
                if a != 1.0 {
                    dx *= F::of(a);
                }
                Value::Dense(dx)
            })
        };
        self.coefficients.iter().enumerate().map(gradient).collect()
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    fn lower(&self, lowering: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        let coefficients: Vec<F> = self.coefficients.iter().map(|&a| F::of(a)).collect();
        Ok(lowering.add(xs, &coefficients))
    }

    fn role(&self) -> Role {
        Role::Sum(self.coefficients.clone())
    }

    fn attrs(&self) -> Attrs {
        Attrs::new().with("coefficients", &self.coefficients)
    }
}

impl<F: Scalar> Registered<F> for Add {
    const KIND: &'static str = "add";
    const PYTORCH: std::result::Result<Twin, &'static str> =
        Ok(Twin::EXPRESSION.settings(&["coefficients"]));

    fn from_attrs(attrs: &Attrs, _: &Shapes) -> Result<Self> {
        Self::with_coefficients(attrs.get("coefficients")?)
    }

    fn sample(widths: &[usize], _: usize, rng: &mut ChaCha8Rng) -> Option<Self> {
        let same = widths.iter().all(|width| *width == widths[0]);
        if same {
            Self::with_coefficients(widths.iter().map(|_| rng.random_range(-2.0..2.0)).collect())
                .ok()
        } else {
            None
        }
    }

    fn to_python(&self, at: &Place) -> std::result::Result<Python, String> {
        let term = |(input, &a): (&String, &f64)| {
            if a == 1.0 { input.clone() } else { format!("{a} * {input}") }
        };
        Ok(Python::expression(
            at.inputs.iter().zip(&self.coefficients).map(term).collect::<Vec<_>>().join(" + "),
        ))
    }

    fn oracle(&self, _: &Graph<F>, xs: &[Array2<F>]) -> Array2<F> {
        xs.iter()
            .zip(&self.coefficients)
            .fold(Array2::zeros(xs[0].dim()), |sum, (x, &a)| sum + x * F::of(a))
    }
}
