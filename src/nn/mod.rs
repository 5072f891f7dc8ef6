//! Layers, models and their compiled form.
//!
//! Layers are open: anyone may implement [`Layer`]. Stages are closed: every layer lowers to a
//! handful of them, and the compiled [`Program`], quantisation and the cost model know nothing
//! else.

mod attrs;
pub mod conv;
pub mod dense;
mod init;
pub mod join;
mod layer;
mod linear_map;
mod model;
mod param;
mod pool;
mod product;
mod program;
mod pytorch;
mod registry;
mod role;
mod stage;
mod wiring;

pub use attrs::{Attrs, Shapes};
pub use conv::{
    Aggregation, Appnp, Embedding, GatConv, GatConvBuilder, Gatv2Conv, Gatv2ConvBuilder, Gcn2Conv,
    GcnConv, GcnConvBuilder, GinAggregation, GinConv, GinConvBuilder, GineAggregation, GineConv,
    GineConvBuilder, LgConv, RgcnConv, RgcnConvBuilder, SageConv, SageConvBuilder, SgConv,
    SgConvBuilder,
};
pub use dense::{Activation, ActivationFn, BatchNorm, Dropout, LayerNorm, Linear, LinearBuilder};
pub use init::Init;
pub use join::{Add, Concat, Max};
pub use layer::{AnyCache, Cx, DynLayer, Grads, Io, Layer, Mode, Reads};
pub use linear_map::{LinearMap, MapTerm, See};
pub(crate) use model::MOST_CHANNELS;
pub use model::{Model, ModelBuilder, Node, NodeId, Origin, Trace};
pub(crate) use param::with_at_most;
pub use param::{Axis, Mask, Param, ParamId};
pub use program::{Cost, Products, Program, StageTime};
pub use pytorch::{Layout, Place, Python, Twin};
pub use registry::{Entry, Registered, Registry};
pub use role::Role;
pub use stage::{Lowering, Stage, StageId};
pub use wiring::{HeadUnits, Kept, Wiring};

#[cfg(feature = "readers")]
pub(crate) use conv::EDGE_WEIGHTS;
pub(crate) use model::bias;
pub(crate) use program::{Fused, Op, fuse, product_cost};

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
