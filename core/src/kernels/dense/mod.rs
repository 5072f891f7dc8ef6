//! Products of dense matrices, and a bias.

mod bias;
mod levels;
mod matmul;
mod overwrite;
mod packed;
mod weight;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use bias::{add_bias, column_sums};
pub use matmul::{
    matmul, matmul_nt, matmul_nt_then, matmul_packed, matmul_then, matmul_tn, matmul_tn_with,
    matmul_with,
};
pub use overwrite::{matmul_over, spmm_over};
pub use weight::PackedWeight;
