//! Graph convolutions, one a file.

mod gcn_conv;

pub use gcn_conv::{GcnConv, GcnConvBuilder};
