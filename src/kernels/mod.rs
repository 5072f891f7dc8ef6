//! The products that layers are made of, on slices and views; no graph and no model is known here.
//!
//! | kernel | formula | used for |
//! |---|---|---|
//! | [`spmm`](fn@spmm) | `Y = A·X` | aggregation, sparse features times weights |
//! | [`spgemm`](fn@spgemm) | `Y = s·X + A·X`, all sparse | sparse features as a layer's weights see them |
//! | [`spmm_t`](fn@spmm_t) | `dX = Aᵀ·dY` | weight gradient of sparse features |
//! | [`spmm_max`], [`spmm_max_t`] | `y_ic = max_j x_jc` and its gradient | aggregation by maximum |
//! | [`edge_dot`](fn@edge_dot) | `out_e = a_i·b_j` | gradient of edge weights and of sparse features |
//! | [`matmul`], [`matmul_nt`], [`matmul_tn`] | `X·W`, `dY·Wᵀ`, `Xᵀ·dY` | a linear map and its two gradients |
//! | [`matmul_sparse`] | `X·W` over the stored `w_ko` | a linear map with a pruned weight |
//! | [`weighted_sum`] | `Y = Σ_k a_k·X_k` | joining branches |
//! | [`add_bias`], [`column_sums`] | `y_ic += b_c`, `Σ_i dy_ic` | a bias and its gradient |
//! | [`Attend`] | `y_ih = Σ_j α_ijh z_jh` | attention, scored by [`AdditiveScores`] or [`ChannelScores`] |
//! | [`head_dots`], [`head_sums`] | `z_ih·a_h`, `Σ_i s_ih z_ih` | a score of each head and its gradient |
//! | [`elu`] | `x` or `e^x − 1` | an activation |
//! | [`DropMask`] | `y_k = m_k x_k / (1 − p)` | dropout and its gradient |
//! | [`map_rows`], [`for_each_chunk`] | | element-wise work |
//! | [`spmm_int8`], [`matmul_int8`], [`input_int8`], [`join_int8`] | integer products and joins | quantised models |
//!
//! All of them overwrite their output unless their name says otherwise, check shapes once at entry
//! (also in release, since a mismatch is a bug of the caller), run on rayon's ambient pool and give
//! the same bits for any number of threads: every output number has one writer and one order of
//! summation. Arrays that are not in standard layout are copied. Each has a naive serial twin in
//! [`reference`](mod@reference).
//!
//! The `f32` forms of some are picked at run time from a table, one per level of instructions. To
//! add a kernel to it: a field of `isa::Kernels`, a portable form beside the kernel's entry, the
//! other forms in `x86.rs`.

mod attention;
mod attention_back;
mod attention_scores;
#[cfg(test)]
mod cases;
mod dense;
mod drop_mask;
mod edge_dot;
mod exp;
mod gemm;
mod heads;
mod int8;
#[cfg(target_arch = "x86_64")]
mod int8_dense_x86;
#[cfg(target_arch = "x86_64")]
mod int8_equal_x86;
#[cfg(target_arch = "x86_64")]
mod int8_finish_x86;
mod int8_input;
#[cfg(target_arch = "x86_64")]
mod int8_x86;
mod isa;
mod max;
pub mod pages;
mod quantize;
pub mod reference;
mod rows;
mod sparse_weight;
mod spgemm;
mod spmm;
mod spmm_t;
mod weighted_sum;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_attention;
#[cfg(target_arch = "x86_64")]
mod x86_gemm;

pub use attention::{Attend, Edge, Neighbourhoods, Own, Row, Scores, Thin};
pub use attention_scores::{AdditiveScores, ChannelScores};
pub use dense::{
    add_bias, column_sums, matmul, matmul_nt, matmul_nt_then, matmul_packed, matmul_then, matmul_tn,
};
pub use drop_mask::DropMask;
pub use edge_dot::edge_dot;
pub use exp::elu;
pub use gemm::{Epilogue, PackedWeight};
pub use heads::{head_dots, head_sums};
pub use int8::{
    Activate, Finish, MOST_TERMS, Out, PackedInt8, SparseInt8, Term, join_int8, matmul_int8,
    spmm_int8,
};
pub use int8_input::{InputWeight, input_int8, quantized_input_int8};
pub use max::{NOBODY, spmm_max, spmm_max_t};
pub use quantize::{
    ColumnScales, first_not_finite, max_abs, quantize_columns, quantize_rows, quantize_with,
    symmetric_scale,
};
pub use rows::{CHUNK, copy_rows, for_each_chunk, map_rows};
pub use sparse_weight::matmul_sparse;
pub use spgemm::{spgemm, stored_entries};
pub use spmm::{spmm, spmm_then};
pub use spmm_t::spmm_t;
pub use weighted_sum::weighted_sum;

#[allow(unused_imports, reason = "for layers with element-wise work over their own blocks")]
pub(crate) use rows::{blocks_by_nonzeros, blocks_of, for_row_blocks};

#[doc(hidden)]
pub use {
    dense::{matmul_tn_with, matmul_with},
    edge_dot::edge_dot_with,
    exp::elu_with,
    int8::{join_int8_with, matmul_int8_with, spmm_int8_with},
    isa::Isa,
    max::{spmm_max_t_with, spmm_max_with},
    spmm::spmm_with,
};
