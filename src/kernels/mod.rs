//! The products that layers are made of, on slices and views; no graph and no model is known here.

#[cfg(test)]
mod cases;
mod dense;
mod edge_dot;
mod isa;
pub mod reference;
mod rows;
mod spmm;
mod spmm_t;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use dense::{add_bias, column_sums, matmul, matmul_nt, matmul_tn};
pub use edge_dot::edge_dot;
pub use rows::{CHUNK, for_each_chunk, map_rows};
#[allow(unused_imports)]
pub(crate) use rows::{blocks_by_nonzeros, blocks_of, for_row_blocks};
pub use spmm::spmm;
pub use spmm_t::spmm_t;

#[doc(hidden)]
pub use edge_dot::edge_dot_with;
#[doc(hidden)]
pub use isa::Isa;
#[doc(hidden)]
pub use spmm::spmm_with;
#[doc(hidden)]
pub use spmm_t::spmm_t_with;
