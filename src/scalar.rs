//! The two number types that the crate computes in.

#[doc(inline)]
pub use gnn_prune_core::scalar::Scalar;
pub(crate) use gnn_prune_core::scalar::compiled_here;
