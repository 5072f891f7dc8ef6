//! What [gnn-prune](https://docs.rs/gnn-prune) stands on: its number types, its draws and its
//! kernels, a crate of their own so that they are compiled once and beside everything else.
//!
//! **Use `gnn-prune`.** It shows what of this is meant for others; anything else here may change at
//! any time.
#![deny(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]

#[doc(hidden)]
pub mod kernels;
pub mod scalar;
pub mod seed;
pub mod value;
