//! Look-ups in registers: tables of 16 by the shuffles of AVX2 and AVX-512, tables of 256 by those
//! of AVX-512 VBMI. Their safe twins stand in `portable.rs`.
//!
//! Two numbers are added as bytes, since they are at most 127, and widened to 16 bits together.
#![allow(unsafe_code)]

use super::{Codes, Halves, Sums, portable};
use crate::kernels::simd::Isa;
use std::arch::x86_64::*;

/// Blocks that are looked up with the tables of a column in registers.
const TOGETHER: usize = 4;

/// Whether the processor has the shuffles of whole registers of bytes; the level of VNNI does not
/// say so.
pub(super) fn has_vbmi() -> bool {
    Isa::Vnni.available() && is_x86_feature_detected!("avx512vbmi")
}

pub(super) fn halves_avx2(codes: &[Codes], tables: &[Halves], y: &mut [Sums]) {
    assert!(Isa::Avx2.available(), "this processor has no AVX2");
    // SAFETY: it has.
    unsafe { avx2(codes, tables, y) }
}

#[target_feature(enable = "avx2")]
fn avx2(codes: &[Codes], tables: &[Halves], y: &mut [Sums]) {
    let (zero, low_half) = (_mm256_setzero_si256(), _mm256_set1_epi8(15));
    for (codes, y) in codes.chunks_exact(tables.len()).zip(y) {
        let mut acc = [zero; 4];
        for (codes, [low, high]) in codes.iter().zip(tables) {
            // SAFETY: 16 bytes of each table, and 64 of the codes.
            let (low, high, codes) = unsafe {
                let from = codes.as_ptr();
                (
                    _mm256_broadcastsi128_si256(_mm_loadu_si128(low.as_ptr().cast())),
                    _mm256_broadcastsi128_si256(_mm_loadu_si128(high.as_ptr().cast())),
                    [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())],
                )
            };
            for (k, code) in codes.into_iter().enumerate() {
                let first = _mm256_shuffle_epi8(low, _mm256_and_si256(code, low_half));
                let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(code), low_half);
                let sum = _mm256_add_epi8(first, _mm256_shuffle_epi8(high, upper));
                acc[2 * k] = _mm256_add_epi16(acc[2 * k], _mm256_unpacklo_epi8(sum, zero));
                acc[2 * k + 1] = _mm256_add_epi16(acc[2 * k + 1], _mm256_unpackhi_epi8(sum, zero));
            }
        }
        for (k, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (a, b) = (acc[2 * k], acc[2 * k + 1]);
            let (first, last) =
                (_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b));
            // SAFETY: 32 sums.
            unsafe {
                _mm256_storeu_si256(y.as_mut_ptr().cast(), first);
                _mm256_storeu_si256(y.as_mut_ptr().add(16).cast(), last);
            }
        }
    }
}

pub(super) fn halves_avx512(codes: &[Codes], tables: &[Halves], y: &mut [Sums]) {
    assert!(Isa::Vnni.available(), "this processor has no AVX-512 of bytes");
    // SAFETY: it has.
    unsafe { avx512(codes, tables, y) }
}

/// The sums of a block in the order of its rows, out of the lower and the upper halves of 128-bit
/// lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn in_order(low: __m512i, high: __m512i) -> (__m512i, __m512i) {
    // Of the 128-bit lanes 0 to 3 of `low` and 4 to 7 of `high`: 0 4 1 5 and 2 6 3 7.
    let first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    let last = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    (_mm512_permutex2var_epi64(low, first, high), _mm512_permutex2var_epi64(low, last, high))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store(low: __m512i, high: __m512i, y: &mut Sums) {
    let (first, last) = in_order(low, high);
    // SAFETY: 64 sums.
    unsafe {
        _mm512_storeu_si512(y.as_mut_ptr().cast(), first);
        _mm512_storeu_si512(y.as_mut_ptr().add(32).cast(), last);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn avx512(codes: &[Codes], tables: &[Halves], y: &mut [Sums]) {
    let (zero, low_half) = (_mm512_setzero_si512(), _mm512_set1_epi8(15));
    for (codes, y) in codes.chunks_exact(tables.len()).zip(y) {
        let (mut acc_low, mut acc_high) = (zero, zero);
        for (codes, [low, high]) in codes.iter().zip(tables) {
            // SAFETY: 16 bytes of each table, and 64 of the codes.
            let (low, high, code) = unsafe {
                (
                    _mm512_broadcast_i32x4(_mm_loadu_si128(low.as_ptr().cast())),
                    _mm512_broadcast_i32x4(_mm_loadu_si128(high.as_ptr().cast())),
                    _mm512_loadu_si512(codes.as_ptr().cast()),
                )
            };
            let first = _mm512_shuffle_epi8(low, _mm512_and_si512(code, low_half));
            let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(code), low_half);
            let sum = _mm512_add_epi8(first, _mm512_shuffle_epi8(high, upper));
            acc_low = _mm512_add_epi16(acc_low, _mm512_unpacklo_epi8(sum, zero));
            acc_high = _mm512_add_epi16(acc_high, _mm512_unpackhi_epi8(sum, zero));
        }
        store(acc_low, acc_high, y);
    }
}

pub(super) fn bytes_vbmi_or_portable(codes: &[Codes], tables: &[[u8; 256]], y: &mut [Sums]) {
    if !has_vbmi() {
        return portable::bytes(codes, tables, y);
    }
    // SAFETY: the processor has the features.
    unsafe { vbmi(codes, tables, y) }
}

/// A table of 256 in four registers.
type Table = [__m512i; 4];

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(table: &[u8; 256]) -> Table {
    let from = table.as_ptr();
    // SAFETY: 256 bytes.
    unsafe {
        [
            _mm512_loadu_si512(from.cast()),
            _mm512_loadu_si512(from.add(64).cast()),
            _mm512_loadu_si512(from.add(128).cast()),
            _mm512_loadu_si512(from.add(192).cast()),
        ]
    }
}

/// The numbers of 64 codes: the upper bit says which half of the table.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn look_up(table: &Table, codes: &Codes) -> __m512i {
    // SAFETY: 64 bytes.
    let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().cast()) };
    let first = _mm512_permutex2var_epi8(table[0], codes, table[1]);
    let last = _mm512_permutex2var_epi8(table[2], codes, table[3]);
    _mm512_mask_blend_epi8(_mm512_movepi8_mask(codes), first, last)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn vbmi(codes: &[Codes], tables: &[[u8; 256]], y: &mut [Sums]) {
    let columns = tables.len();
    for (codes, y) in codes.chunks(TOGETHER * columns).zip(y.chunks_mut(TOGETHER)) {
        match y.len() {
            TOGETHER => vbmi_of::<TOGETHER>(codes, tables, y),
            _ => {
                for (codes, y) in codes.chunks(columns).zip(y.chunks_mut(1)) {
                    vbmi_of::<1>(codes, tables, y);
                }
            }
        }
    }
}

/// The sums of `N` blocks.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn vbmi_of<const N: usize>(codes: &[Codes], tables: &[[u8; 256]], y: &mut [Sums]) {
    let (columns, zero) = (tables.len(), _mm512_setzero_si512());
    let (mut low, mut high) = ([zero; N], [zero; N]);
    let (pairs, rest) = tables.as_chunks::<2>();
    for (m, [one, two]) in pairs.iter().enumerate() {
        let (one, two) = (load(one), load(two));
        for k in 0..N {
            let at = k * columns + 2 * m;
            let sum = _mm512_add_epi8(look_up(&one, &codes[at]), look_up(&two, &codes[at + 1]));
            low[k] = _mm512_add_epi16(low[k], _mm512_unpacklo_epi8(sum, zero));
            high[k] = _mm512_add_epi16(high[k], _mm512_unpackhi_epi8(sum, zero));
        }
    }
    if let [last] = rest {
        let last = load(last);
        for k in 0..N {
            let number = look_up(&last, &codes[k * columns + columns - 1]);
            low[k] = _mm512_add_epi16(low[k], _mm512_unpacklo_epi8(number, zero));
            high[k] = _mm512_add_epi16(high[k], _mm512_unpackhi_epi8(number, zero));
        }
    }
    for k in 0..N {
        store(low[k], high[k], &mut y[k]);
    }
}
