//! Layers and models.
//!
//! Layers are open: anyone may implement [`Layer`]. Stages are closed: every layer lowers to a
//! handful of them, and compiled programs, quantisation and the cost model know nothing else.

mod activation_fn;
mod attrs;
mod back;
pub mod conv;
mod cx;
pub mod dense;
mod erased;
mod evaluated;
mod grads;
mod ids;
mod in_place;
mod init;
pub mod join;
mod layer;
mod linear_map;
mod liveness;
mod model;
mod model_builder;
mod param;
mod product;
mod pytorch;
mod registered;
mod registry;
mod role;
mod row_norm;
mod run;
mod stage;
mod wiring;
mod workspace;

pub use activation_fn::ActivationFn;
pub use attrs::{Attrs, Shapes};
pub use conv::{
    Aggregation, Appnp, Embedding, GatConv, GatConvBuilder, Gatv2Conv, Gatv2ConvBuilder, Gcn2Conv,
    GcnConv, GcnConvBuilder, GinAggregation, GinConv, GinConvBuilder, GineAggregation, GineConv,
    GineConvBuilder, LgConv, RgcnConv, RgcnConvBuilder, SageConv, SageConvBuilder, SgConv,
    SgConvBuilder,
};
pub use cx::{Cx, Mode};
pub use dense::{Activation, BatchNorm, Dropout, LayerNorm, Linear, LinearBuilder};
pub use erased::{AnyCache, DynLayer};
pub use evaluated::Evaluated;
pub use grads::{Grads, Io, Reads};
pub use ids::{NodeId, ParamId, StageId};
pub use in_place::InPlace;
pub use init::Init;
pub use join::{Add, Concat, Max};
pub use layer::Layer;
pub use linear_map::{LinearMap, MapTerm, See};
pub use liveness::Liveness;
pub use model::{Model, Node, Origin};
pub(crate) use model_builder::MOST_CHANNELS;
pub use model_builder::ModelBuilder;
pub use param::{Axis, Mask, Param};
pub(crate) use param::{bias, with_at_most};
pub use pytorch::{Layout, Place, Python, Twin};
pub use registered::Registered;
pub use registry::{Entry, Registry};
pub use role::Role;
pub use row_norm::RowNorm;
pub use run::Trace;
pub use stage::{Lowering, Opaque, Stage};
pub use wiring::{HeadUnits, Kept, Wiring};

pub(crate) use conv::EDGE_WEIGHTS;
pub(crate) use workspace::Workspace;

/// The number of edges at each place, for oracles.
pub(crate) fn dense_counts<F: crate::Scalar>(graph: &crate::Graph<F>) -> ndarray::Array2<F> {
    let mut counts = ndarray::Array2::zeros((graph.num_nodes(), graph.num_nodes()));
    let (starts, sources) = graph.edge_list();
    for (i, bounds) in starts.windows(2).enumerate() {
        sources[bounds[0]..bounds[1]].iter().for_each(|&j| counts[[i, j as usize]] += F::one());
    }
    counts
}

/// The adjacency matrix of a graph with every zero written out, for oracles.
pub(crate) fn dense_adjacency<F: crate::Scalar>(graph: &crate::Graph<F>) -> ndarray::Array2<F> {
    crate::value::ValueRef::Sparse(graph.adjacency()).to_dense()
}
