//! What a layer is made of, for whoever runs it some rows at a time.

use super::erased::DynLayer;
use super::param::Param;
use crate::graph::AdjacencyNorm;
use crate::scalar::Scalar;

/// One of the steps that a layer is made of; see [`Layer::pieces`](super::Layer::pieces).
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there are a handful of pieces at a time")]
#[non_exhaustive]
pub enum Piece<F: Scalar> {
    /// A layer of one input whose row `i` follows from row `i` of that alone; what it draws for a
    /// row follows [`Cx::ids`](super::Cx::ids). Its parameters are copies that have the ids of
    /// those they stand for.
    Rows(Box<dyn DynLayer<F>>),
    /// `Y = Â·X + b`: what a node gets of its neighbours.
    Hop {
        /// How messages are weighed.
        norm: AdjacencyNorm,
        /// `b`, `[1, channels]`, with the id of the parameter that it stands for.
        bias: Option<Param<F>>,
    },
}
