//! Parts of a graph, drawn by a seed: neighbours hop by hop, walks, edges, nodes, clusters.

mod clusters;
mod coverage;
mod neighbors;
mod subgraphs;

pub use clusters::Clusters;
pub use coverage::Coverage;
pub use neighbors::NeighborSampler;
pub use subgraphs::SubgraphSampler;

/// Second word of the key of a draw: what it draws. The first is
/// [`SAMPLE`](crate::rng::purpose::SAMPLE).
mod draws {
    pub(super) const NEIGHBORS: u64 = 1;
    pub(super) const SUBGRAPH: u64 = 2;
    pub(super) const COVERAGE: u64 = 3;
    pub(super) const CLUSTERS: u64 = 4;
}
