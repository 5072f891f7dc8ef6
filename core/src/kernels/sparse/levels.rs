//! Which form of the sparse kernels each level of instructions has.

use super::portable::{self, SparseKernels};
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::kernels::simd::{Isa, Levels};

static LEVELS: Levels<SparseKernels> = Levels {
    portable: SparseKernels { spmm: portable::rows, edge_dot: portable::edges },
    #[cfg(target_arch = "x86_64")]
    avx2: x86::AVX2,
    #[cfg(target_arch = "x86_64")]
    avx512: x86::AVX512,
    #[cfg(target_arch = "x86_64")]
    vnni: x86::AVX512,
};

/// The kernels of one level.
///
/// # Panics
/// If the processor does not have it.
pub(super) fn kernels(isa: Isa) -> &'static SparseKernels {
    LEVELS.at(isa)
}
