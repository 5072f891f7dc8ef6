//! Products of 8-bit integers with 32-bit accumulators.
//!
//! Sums of integers are exact in any order as long as they fit, which callers check when they
//! build; so every level of instructions, every cut into blocks and every number of threads gives
//! the same accumulators, and [`Finish`] turns them into the same outputs: its few floating-point
//! operations stand in one fixed order, without fused multiply-adds.
//!
//! Quantisers give integers in ±127; the kernels take −128 as well.

#[cfg(target_arch = "x86_64")]
mod common_x86;
#[cfg(target_arch = "x86_64")]
mod dense_x86;
#[cfg(target_arch = "x86_64")]
mod equal_x86;
mod finish;
#[cfg(target_arch = "x86_64")]
mod finish_x86;
mod input;
mod join;
mod levels;
mod packed;
#[cfg(target_arch = "x86_64")]
mod panels_x86;
mod portable;
mod product;
mod quantize;
mod round;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use finish::{Activate, Finish, Out};
pub use input::{InputWeight, input_int8, quantized_input_int8};
pub use join::{join_int8, join_int8_with};
pub use packed::PackedInt8;
pub use portable::{SparseInt8, Term};
pub use product::{MOST_TERMS, matmul_int8, matmul_int8_with, spmm_int8, spmm_int8_with};
pub use quantize::{first_not_finite, quantize_columns, quantize_rows};
pub use round::{ColumnScales, max_abs, quantize_with, symmetric_scale};
