//! What a layer is made of, for whoever runs it some rows at a time.

use super::param::Param;
use crate::graph::AdjacencyNorm;
use crate::scalar::Scalar;

/// One of the steps that a layer is made of; see [`Layer::pieces`](super::Layer::pieces).
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there are a handful of pieces at a time")]
#[non_exhaustive]
pub enum Piece<F: Scalar> {
    /// The layer itself: it has one input, row `i` of its output follows from row `i` of that
    /// alone, and what it draws for a row follows [`Cx::ids`](super::Cx::ids).
    Itself,
    /// `Y = X·W + b`, of copies that have the ids of the parameters that they stand for.
    Product {
        /// `W`, `[in, out]`.
        weight: Param<F>,
        /// `b`, `[1, out]`.
        bias: Option<Param<F>>,
    },
    /// `Y = Â·X + b`: what a node gets of its neighbours.
    Hop {
        /// How messages are weighed.
        norm: AdjacencyNorm,
        /// `b`, `[1, channels]`, with the id of the parameter that it stands for.
        bias: Option<Param<F>>,
    },
}

impl<F: Scalar> Piece<F> {
    /// A product with copies of a weight and of a bias.
    pub fn product(weight: &Param<F>, bias: Option<&Param<F>>) -> Self {
        Self::Product { weight: weight.clone(), bias: bias.cloned() }
    }
}
