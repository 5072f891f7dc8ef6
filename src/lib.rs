//! Makes graph neural networks small and fast on ordinary CPUs.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod error;
pub mod files;
pub mod graph;
pub mod rng;
pub mod scalar;
pub mod value;

pub use error::{Error, PruneError, Result, Unsupported};
pub use graph::{Graph, Norm};
pub use scalar::Scalar;

pub use ndarray;
pub use sprs;
