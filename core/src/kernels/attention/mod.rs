//! Attention over in-neighbours: scores, softmax, weighted sums, and their gradients.

mod backward;
mod doors;
mod edges;
mod forward;
mod heads;
mod scores;
mod softmax;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use edges::{Edge, InEdges, Neighbourhoods, Scores, TargetGrads, WeightDropout};
pub use forward::Attend;
pub use heads::{head_dots, head_sums};
pub use scores::{AdditiveScores, ChannelScores};
