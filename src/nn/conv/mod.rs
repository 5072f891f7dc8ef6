//! Graph convolutions, one a file.

mod gat_conv;
mod gatv2_conv;
mod gcn_conv;
mod heads;

pub use gat_conv::{GatConv, GatConvBuilder};
pub use gatv2_conv::{Gatv2Conv, Gatv2ConvBuilder};
pub use gcn_conv::{GcnConv, GcnConvBuilder};
