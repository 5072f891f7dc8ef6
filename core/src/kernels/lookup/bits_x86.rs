//! Bits that differ, in registers. The safe twin stands in `bits.rs`.
//!
//! A byte of a register counts those of one row, up to 31 columns of 8 bits, and is widened then.
#![allow(unsafe_code)]

use super::LANES;
use super::x86::store;
use crate::kernels::simd::Isa;
use std::arch::x86_64::*;

/// Columns whose bits fit into a byte.
const COLUMNS: usize = 31;

/// Whether the processor counts the bits of bytes; the level of VNNI does not say so.
fn has_bitalg() -> bool {
    Isa::Vnni.available() && is_x86_feature_detected!("avx512bitalg")
}

pub(super) fn differences(isa: Isa, codes: &[[u8; LANES]], query: &[u8], y: &mut [[u16; LANES]]) {
    assert!(Isa::Avx2.available(), "this processor has no AVX2");
    let counts_bytes = isa == Isa::Vnni && has_bitalg();
    for (codes, y) in codes.chunks_exact(query.len()).zip(y) {
        // SAFETY: the processor has the features.
        unsafe {
            match counts_bytes {
                true => bitalg(codes, query, y),
                false => avx2(codes, query, y),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512bitalg")]
fn bitalg(codes: &[[u8; LANES]], query: &[u8], y: &mut [u16; LANES]) {
    let zero = _mm512_setzero_si512();
    let (mut low, mut high) = (zero, zero);
    for (codes, query) in codes.chunks(COLUMNS).zip(query.chunks(COLUMNS)) {
        let mut bytes = zero;
        for (codes, &query) in codes.iter().zip(query) {
            // SAFETY: 64 bytes.
            let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
            let differ = _mm512_xor_si512(codes, _mm512_set1_epi8(query as i8));
            bytes = _mm512_add_epi8(bytes, _mm512_popcnt_epi8(differ));
        }
        low = _mm512_add_epi16(low, _mm512_unpacklo_epi8(bytes, zero));
        high = _mm512_add_epi16(high, _mm512_unpackhi_epi8(bytes, zero));
    }
    store(low, high, y);
}

#[target_feature(enable = "avx2")]
fn avx2(codes: &[[u8; LANES]], query: &[u8], y: &mut [u16; LANES]) {
    let (zero, low_half) = (_mm256_setzero_si256(), _mm256_set1_epi8(15));
    let counts =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    for (half, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (mut low, mut high) = (zero, zero);
        for (codes, query) in codes.chunks(COLUMNS).zip(query.chunks(COLUMNS)) {
            let mut bytes = zero;
            for (codes, &query) in codes.iter().zip(query) {
                // SAFETY: 32 bytes of a half.
                let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().add(32 * half).cast()) };
                let differ = _mm256_xor_si256(codes, _mm256_set1_epi8(query as i8));
                let first = _mm256_shuffle_epi8(counts, _mm256_and_si256(differ, low_half));
                let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(differ), low_half);
                let both = _mm256_add_epi8(first, _mm256_shuffle_epi8(counts, upper));
                bytes = _mm256_add_epi8(bytes, both);
            }
            low = _mm256_add_epi16(low, _mm256_unpacklo_epi8(bytes, zero));
            high = _mm256_add_epi16(high, _mm256_unpackhi_epi8(bytes, zero));
        }
        let (first, last) = (
            _mm256_permute2x128_si256::<0x20>(low, high),
            _mm256_permute2x128_si256::<0x31>(low, high),
        );
        // SAFETY: 32 sums.
        unsafe {
            _mm256_storeu_si256(y.as_mut_ptr().cast(), first);
            _mm256_storeu_si256(y.as_mut_ptr().add(16).cast(), last);
        }
    }
}
