//! Layers and models.
//!
//! Layers are open: anyone may implement [`Layer`]. Stages are closed: every layer lowers to a
//! handful of them, and compiled programs, quantisation and the cost model know nothing else.

mod activation_fn;
mod attrs;
mod back;
mod by_rows;
pub mod conv;
mod cx;
pub mod decode;
pub mod dense;
mod erased;
mod evaluated;
mod grads;
mod ids;
mod in_place;
mod init;
pub mod join;
mod kept_map;
mod layer;
mod linear_map;
mod liveness;
mod memory;
mod model;
mod model_builder;
mod node_wise;
mod oracle;
mod param;
mod piece;
mod pooling;
pub mod product;
mod pytorch;
mod queries;
mod readout;
mod registered;
mod registry;
mod role;
mod row_norm;
mod rows;
mod run;
mod stage;
mod strips;
mod wiring;
mod workspace;

pub use activation_fn::ActivationFn;
pub use attrs::{Attrs, Shapes};
pub use conv::{
    Aggregation, Appnp, CompGcnConv, CompGcnConvBuilder, Composition, Embedding, GatConv,
    GatConvBuilder, Gatv2Conv, Gatv2ConvBuilder, Gcn2Conv, GcnConv, GcnConvBuilder, GinAggregation,
    GinConv, GinConvBuilder, GineAggregation, GineConv, GineConvBuilder, LgConv, RelationTable,
    RgcnConv, RgcnConvBuilder, SageConv, SageConvBuilder, SgConv, SgConvBuilder,
};
pub use cx::{Cx, Mode};
pub use decode::{Decoder, DecoderBuilder, Form, PairProduct};
pub use dense::{Activation, BatchNorm, Dropout, LayerNorm, Linear, LinearBuilder, Normalize};
pub use erased::{AnyCache, DynLayer};
pub use evaluated::Evaluated;
pub use grads::{Grads, Io, Reads, RowGrads};
pub use ids::{NodeId, ParamId, StageId};
pub use in_place::InPlace;
pub use init::Init;
pub use join::{Add, Concat, Max};
pub use kept_map::KeptMap;
pub use layer::Layer;
pub use linear_map::{LinearMap, MapTerm, See};
pub use liveness::Liveness;
pub use memory::Memory;
pub use model::{Model, Node, Origin};
pub(crate) use model_builder::MOST_CHANNELS;
pub use model_builder::ModelBuilder;
pub use node_wise::NodeWise;
pub(crate) use node_wise::remade;
pub use param::{Axis, Mask, Param};
pub(crate) use param::{bias, with_at_most};
pub use piece::Piece;
pub use pooling::Pooling;
pub use pytorch::{Layout, Place, Python, Twin};
pub use queries::{Candidates, Queries, Query};
pub use readout::Readout;
pub use registered::Registered;
pub use registry::{Entry, Registry};
pub use role::Role;
pub use row_norm::RowNorm;
pub use rows::{RowSpace, Rows};
pub use run::Trace;
pub use stage::{Lowering, Opaque, Stage};
pub use wiring::{Kept, PruneUnits, Wiring};

#[cfg(feature = "readers")]
pub(crate) use conv::EDGE_WEIGHTS;
pub(crate) use oracle::{dense_adjacency, dense_counts};
pub(crate) use workspace::Workspace;
