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
//! | [`matmul_over`], [`spmm_over`] | `X ← X·W`, `X ← A·X` | maps and aggregation where memory is short |
//! | [`PackedRows`] | `x ≈ s_i·c_ij` | maps kept in 8 bits until backward reads them |
//! | [`matmul_sparse`] | `X·W` over the stored `w_ko` | a linear map with a pruned weight |
//! | [`weighted_sum`] | `Y = Σ_k a_k·X_k` | joining branches |
//! | [`add_bias`], [`column_sums`] | `y_ic += b_c`, `Σ_i dy_ic` | a bias and its gradient |
//! | [`Attend`] | `y_ih = Σ_j α_ijh z_jh` | attention, scored by [`AdditiveScores`] or [`ChannelScores`] |
//! | [`head_dots`], [`head_sums`] | `z_ih·a_h`, `Σ_i s_ih z_ih` | a score of each head and its gradient |
//! | [`elu`] | `x` or `e^x − 1` | an activation |
//! | [`softmax_terms`] | `e^{v − max}` and their sum | a loss over many candidates |
//! | [`DropMask`] | `y_k = m_k x_k / (1 − p)` | dropout and its gradient |
//! | [`map_rows`], [`for_each_chunk`] | | element-wise work |
//! | [`spmm_int8`], [`matmul_int8`], [`input_int8`], [`join_int8`] | integer products and joins | quantised models |
//! | [`nearest_words`] | `argmin_k |x_i − w_k|²` | rows that become codes |
//! | [`sign_scores`] | `y_i = Σ_p s_p·(c − 2·|bits_p xor bits_ip|)·t_ip` | scores of rows of one bit |
//! | [`lookup_sums`] | `y_i = Σ_m t_m[code_im]` | scores of rows that are codes |
//!
//! All of them overwrite their output unless their name says otherwise, check shapes once at entry
//! (also in release, since a mismatch is a bug of the caller), run on rayon's ambient pool and give
//! the same bits for any number of threads: every output number has one writer and one order of
//! summation. Arrays that are not in standard layout are copied. Each has a naive serial twin in
//! [`reference`](mod@reference).
//!
//! Each family is a folder. Where it has forms for several levels of instructions, its `levels.rs`
//! is the table of them, `portable.rs` the safe forms and what every form reads, and `x86.rs` the
//! others. To add such a kernel: a field of the family's table, a portable form, the other forms.
//! What the compiler turns into wide vectors by itself goes through `simd::by_level` instead.

// Nobody but the library sees them.
#![allow(missing_debug_implementations)]

mod allocated;
mod attention;
mod blocks;
pub mod buffer;
#[cfg(test)]
mod cases;
mod dense;
mod elementwise;
mod epilogue;
mod int8;
mod lookup;
pub mod reference;
mod simd;
#[cfg(target_arch = "x86_64")]
mod simd_x86;
mod sparse;
mod work;

pub use allocated::{CountingAllocator, allocated, forget_most, most_allocated};
pub use attention::{
    AdditiveScores, Attend, ChannelScores, Edge, InEdges, Neighbourhoods, Scores, TargetGrads,
    WeightDropout, head_dots, head_sums,
};
pub use blocks::{CHUNK, copy_rows, for_each_chunk, map_rows, run};
pub use buffer::trim;
pub use dense::*;
pub use elementwise::{DropMask, PackedRows, elu, elu_with, relu, softmax_terms, weighted_sum};
pub use epilogue::Epilogue;
pub use int8::*;
pub use lookup::{
    LANES as LOOKUP_LANES, LookupTables, MOST as LOOKUP_MOST, MOST_TABLES as LOOKUP_TABLES,
    SignQuery, SignRows, code_scores, looks_up_fast, lookup_sums, nearest_words,
    nearest_words_with, sign_scores,
};
pub use simd::Isa;
pub use sparse::*;
pub use work::{count, multiply_adds};
