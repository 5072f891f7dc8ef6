//! Which form of the integer kernels each level of instructions has.

use super::portable::{Int8Kernels, join_rows, matmul_rows, spmm_rows};
use super::round::{quantize_columns_row, quantize_row};
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::kernels::simd::{Isa, Levels};

static LEVELS: Levels<Int8Kernels> = Levels {
    portable: Int8Kernels {
        spmm: spmm_rows,
        matmul: matmul_rows,
        join: join_rows::<false>,
        quantize_row: quantize_row::<false>,
        quantize_columns: quantize_columns_row::<false>,
    },
    #[cfg(target_arch = "x86_64")]
    avx2: x86::AVX2,
    // AVX-512F alone has no instructions for bytes.
    #[cfg(target_arch = "x86_64")]
    avx512: x86::AVX2,
    #[cfg(target_arch = "x86_64")]
    vnni: x86::VNNI,
};

/// The kernels of one level.
///
/// # Panics
/// If the processor does not have it.
pub(super) fn kernels(isa: Isa) -> &'static Int8Kernels {
    LEVELS.at(isa)
}
