//! Layers that look at one node at a time, one a file.

mod activation;
mod batch_norm;
mod dropout;
mod layer_norm;
mod linear;

pub use activation::{Activation, ActivationFn};
pub use batch_norm::BatchNorm;
pub(crate) use dropout::Draw;
pub use dropout::Dropout;
pub use layer_norm::LayerNorm;
pub use linear::{Linear, LinearBuilder};
