//! Which form of the look-ups each level of instructions has.

use super::portable::{LookupKernels, bytes, halves};
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::kernels::simd::{Isa, Levels};

static LEVELS: Levels<LookupKernels> = Levels {
    portable: LookupKernels { bytes, halves },
    // A table of 256 does not fit into the registers of AVX2.
    #[cfg(target_arch = "x86_64")]
    avx2: LookupKernels { bytes, halves: x86::halves_avx2 },
    #[cfg(target_arch = "x86_64")]
    avx512: LookupKernels { bytes, halves: x86::halves_avx2 },
    #[cfg(target_arch = "x86_64")]
    vnni: LookupKernels { bytes: x86::bytes_vbmi_or_portable, halves: x86::halves_avx512 },
};

/// The kernels of one level.
///
/// # Panics
/// If the processor does not have it.
pub(super) fn kernels(isa: Isa) -> &'static LookupKernels {
    LEVELS.at(isa)
}

/// Whether a level looks up in registers.
pub(super) fn is_fast(isa: Isa, halves: bool) -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        isa >= Isa::Avx2 && (halves || (isa == Isa::Vnni && x86::has_vbmi()))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = (isa, halves);
        false
    }
}
