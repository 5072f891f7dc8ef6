//! Which dense kernel each level of instructions has; the portable form is a library's.

use super::packed::GemmKernel;
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::kernels::simd::{Isa, Levels};

static LEVELS: Levels<Option<GemmKernel>> = Levels {
    portable: None,
    #[cfg(target_arch = "x86_64")]
    avx2: Some(x86::AVX2),
    #[cfg(target_arch = "x86_64")]
    avx512: Some(x86::AVX512),
    #[cfg(target_arch = "x86_64")]
    vnni: Some(x86::AVX512),
};

/// The kernel of one level, where it has one.
///
/// # Panics
/// If the processor does not have the level.
pub(super) fn gemm(isa: Isa) -> Option<&'static GemmKernel> {
    LEVELS.at(isa).as_ref()
}
