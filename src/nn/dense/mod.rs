//! Layers that look at one node at a time, one a file.

mod activation;
mod dropout;
mod linear;

pub use activation::{Activation, ActivationFn};
pub(crate) use dropout::Draw;
pub use dropout::Dropout;
pub use linear::{Linear, LinearBuilder};
