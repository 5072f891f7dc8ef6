//! Graph convolutions, one per file.

mod appnp;
mod blocks;
mod compgcn_conv;
mod composition;
mod embedding;
mod gat_conv;
mod gatv2_conv;
mod gcn2_conv;
mod gcn_conv;
mod gin_aggregation;
mod gin_conv;
mod gine_aggregation;
mod gine_conv;
mod heads;
mod inner;
mod lg_conv;
mod propagation;
mod relation_table;
mod rgcn_conv;
mod sage_conv;
mod sg_conv;

pub use appnp::Appnp;
pub use compgcn_conv::{CompGcnConv, CompGcnConvBuilder};
pub use composition::Composition;
pub use embedding::Embedding;
pub use gat_conv::{GatConv, GatConvBuilder};
pub use gatv2_conv::{Gatv2Conv, Gatv2ConvBuilder};
pub use gcn_conv::{GcnConv, GcnConvBuilder};
pub use gcn2_conv::Gcn2Conv;
pub use gin_aggregation::GinAggregation;
pub use gin_conv::{GinConv, GinConvBuilder};
pub use gine_aggregation::GineAggregation;
pub use gine_conv::{GineConv, GineConvBuilder};
pub use lg_conv::LgConv;
pub use relation_table::RelationTable;
pub use rgcn_conv::{RgcnConv, RgcnConvBuilder};
pub use sage_conv::{Aggregation, SageConv, SageConvBuilder};
pub use sg_conv::{SgConv, SgConvBuilder};

/// Setting of layers that may count every edge once, whatever it weighs: `false` where they do.
/// Absent, weights are read.
pub(crate) const EDGE_WEIGHTS: &str = "edge_weights";
