//! What makes scores of pairs of nodes out of the values of nodes.
//!
//! A batch asks about pairs by [`Queries`](crate::nn::Queries): a decoder scores them, one row per
//! pair. [`Decoder`] scores by a [`Form`]; [`PairProduct`] hands the channels of a pair on to other
//! layers, which may be any.

mod decoder;
mod form;
mod pair_product;
mod parts;
mod score;

pub use decoder::{Decoder, DecoderBuilder};
pub use form::Form;
pub use pair_product::PairProduct;
pub(crate) use score::{Match, scores};
