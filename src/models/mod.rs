//! Recipes: builders of whole models.

mod gat;
mod gcn;
mod gin;
mod gin_graphs;
mod links;
mod mlp;
mod propagating;
mod recommenders;
mod sage;
mod stack;
mod structure_free;

pub use gat::{Gat, GatBuilder};
pub use gcn::{Gcn, GcnBuilder};
pub use gin::{Gin, GinBuilder};
pub use gin_graphs::{GinGraphs, GinGraphsBuilder};
pub use links::{Encoder, Links, LinksBuilder, Scored};
pub use mlp::{Mlp, MlpBuilder};
pub use propagating::{
    AppnpNet, AppnpNetBuilder, DeepGcn, DeepGcnBuilder, Gcn2, Gcn2Builder, Sgc, SgcBuilder,
};
pub use recommenders::{LightGcn, LightGcnBuilder};
pub use sage::{Sage, SageBuilder};
pub use stack::{Jumping, Normalization};
pub use structure_free::{StructureFree, StructureFreeBuilder};
