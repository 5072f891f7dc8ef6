//! Products with a sparse operand: aggregation over in-neighbours, sparse features, pruned weights.

mod edge_dot;
mod levels;
mod max;
mod portable;
mod sparse_weight;
mod spgemm;
mod spmm;
mod spmm_t;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use edge_dot::{edge_dot, edge_dot_with};
pub use max::{NO_NEIGHBOUR, spmm_max, spmm_max_t, spmm_max_t_with, spmm_max_with};
pub use sparse_weight::matmul_sparse;
pub use spgemm::{spgemm, stored_entries};
pub use spmm::{spmm, spmm_then, spmm_with};
pub use spmm_t::spmm_t;
