//! Functions of one number that activations and programs apply.

use crate::kernels;
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};

/// A function applied to every entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ActivationFn {
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, else `0.01·x` (Maas et al. 2013).
    LeakyRelu,
    /// `x` where positive, else `e^x − 1` (Clevert et al. 2016).
    Elu,
    /// The hyperbolic tangent.
    Tanh,
    /// `1 / (1 + e^{−x})`.
    Sigmoid,
}

impl ActivationFn {
    /// Slope of [`ActivationFn::LeakyRelu`] below zero: PyTorch's default.
    pub const LEAKY_SLOPE: f64 = 0.01;

    /// All of them.
    pub const ALL: [ActivationFn; 5] = [
        ActivationFn::Relu,
        ActivationFn::LeakyRelu,
        ActivationFn::Elu,
        ActivationFn::Tanh,
        ActivationFn::Sigmoid,
    ];

    /// Its name in files.
    pub fn word(self) -> &'static str {
        match self {
            ActivationFn::Relu => "relu",
            ActivationFn::LeakyRelu => "leaky_relu",
            ActivationFn::Elu => "elu",
            ActivationFn::Tanh => "tanh",
            ActivationFn::Sigmoid => "sigmoid",
        }
    }

    /// `f(x)`.
    #[inline]
    pub fn of<F: Scalar>(self, x: F) -> F {
        match self {
            // As PyTorch, NaN stays NaN, so that a diverged model does not look healthy.
            ActivationFn::Relu => {
                if x <= F::zero() {
                    F::zero()
                } else {
                    x
                }
            }
            ActivationFn::LeakyRelu => {
                if x > F::zero() {
                    x
                } else {
                    x * F::of(Self::LEAKY_SLOPE)
                }
            }
            ActivationFn::Elu => {
                if x > F::zero() {
                    x
                } else {
                    x.exp_m1()
                }
            }
            ActivationFn::Tanh => x.tanh(),
            ActivationFn::Sigmoid => (F::one() + (-x).exp()).recip(),
        }
    }

    /// `f'(x)` given `y = f(x)`.
    #[inline]
    pub fn derivative<F: Scalar>(self, y: F) -> F {
        let positive_or = |other| if y > F::zero() { F::one() } else { other };
        match self {
            ActivationFn::Relu => positive_or(F::zero()),
            ActivationFn::LeakyRelu => positive_or(F::of(Self::LEAKY_SLOPE)),
            ActivationFn::Elu => positive_or(y + F::one()),
            ActivationFn::Tanh => F::one() - y * y,
            ActivationFn::Sigmoid => y * (F::one() - y),
        }
    }

    /// `d ← d·f'(x)` given `y = f(x)`.
    pub(super) fn scale_by_derivative<F: Scalar>(self, y: &[F], d: &mut [F]) {
        let both = d.iter_mut().zip(y);
        // One loop per function, so that each can be vectorised.
        match self {
            ActivationFn::Relu => {
                both.for_each(|(d, &y)| *d = if y > F::zero() { *d } else { F::zero() })
            }
            other => both.for_each(|(d, &y)| *d *= other.derivative(y)),
        }
    }

    /// Applies the function in place.
    pub fn apply<F: Scalar>(self, values: &mut [F]) {
        // One loop per function, so that each can be vectorised.
        match self {
            ActivationFn::Relu => values.iter_mut().for_each(|x| *x = ActivationFn::Relu.of(*x)),
            ActivationFn::Elu => kernels::elu(values),
            other => values.iter_mut().for_each(|x| *x = other.of(*x)),
        }
    }
}
