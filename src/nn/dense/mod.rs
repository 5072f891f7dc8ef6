//! Layers that look at one node at a time, one per file.

mod activation;
mod batch_norm;
mod dropout;
mod layer_norm;
mod linear;
mod normalize;

pub use activation::Activation;
pub use batch_norm::BatchNorm;
pub use dropout::Dropout;
pub(crate) use dropout::drop_mask;
pub use layer_norm::LayerNorm;
pub use linear::{Linear, LinearBuilder};
pub use normalize::Normalize;
pub(crate) use normalize::length;
