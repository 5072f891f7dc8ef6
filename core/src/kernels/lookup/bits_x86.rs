//! Scores of rows of signs in registers. The safe twin stands in `bits.rs`.
//!
//! A byte of a register counts the differences of one row, up to 31 columns of 8 bits, and is
//! widened then. With AVX-512 a few queries are compared with a block while it is read once, and
//! nothing but scores is written.
#![allow(unsafe_code)]

use super::bits::{Compared, SignQuery};
use super::x86::in_order;
use super::{Codes, LANES, Sums};
use crate::kernels::simd::{Isa, array};
use std::arch::x86_64::*;
use std::ops::Range;

/// Columns whose bits fit into a byte.
const COLUMNS: usize = 31;

/// Queries that a block is compared with at once.
const QUERIES: usize = 4;

/// Whether the processor counts the bits of bytes; the level of VNNI does not say so.
fn has_bitalg() -> bool {
    Isa::Vnni.available() && is_x86_feature_detected!("avx512bitalg")
}

pub(super) fn scores(isa: Isa, of: &Compared, queries: &[&SignQuery], y: &mut [&mut [f32]]) {
    assert!(Isa::Avx2.available(), "this processor has no AVX2");
    if isa < Isa::Vnni || !has_bitalg() {
        // SAFETY: the processor has the features.
        return unsafe { avx2(of, queries, y) };
    }
    let (queries, rest) = queries.as_chunks::<QUERIES>();
    let (y, y_rest) = y.as_chunks_mut::<QUERIES>();
    for (queries, y) in queries.iter().zip(y) {
        // SAFETY: the processor has the features.
        unsafe { bitalg(of, queries, y) }
    }
    for (query, y) in rest.as_chunks::<1>().0.iter().zip(y_rest.as_chunks_mut::<1>().0) {
        // SAFETY: the processor has the features.
        unsafe { bitalg(of, query, y) }
    }
}

/// The scores of some queries, a block at a time.
#[target_feature(enable = "avx512f,avx512bw,avx512bitalg")]
fn bitalg<const Q: usize>(of: &Compared, queries: &[&SignQuery; Q], y: &mut [&mut [f32]; Q]) {
    let (columns, zero) = (of.columns, _mm512_setzero_si512());
    let width = _mm512_set1_ps(of.width as f32);
    let minus_two = _mm512_set1_ps(-2.0);
    let count = y.first().map_or(0, |y| y.len()) as isize;
    for block in 0..of.blocks {
        let first = (block * LANES) as isize - of.skip as isize;
        // Which rows of each register are scored: all but those before and after.
        let masks = [0, 16, 32, 48].map(|row| rows_within(first + row, count));
        let mut scores = [[_mm512_setzero_ps(); 4]; Q];
        for (p, part) in of.rows.iter().enumerate() {
            let codes = &part.codes[block * columns..][..columns];
            let words = array::<&[u32], Q>(|q| &queries[q].words[p * columns..][..columns]);
            // Sums of up to so many columns are bytes until they become numbers.
            let is_narrow = columns <= COLUMNS;
            let mut bytes = [zero; Q];
            let (mut low, mut high) = ([zero; Q], [zero; Q]);
            for start in (0..columns).step_by(COLUMNS) {
                // SAFETY: every query has so many columns.
                bytes = unsafe { of_columns(codes, words, start..columns.min(start + COLUMNS)) };
                if is_narrow {
                    break;
                }
                for q in 0..Q {
                    low[q] = _mm512_add_epi16(low[q], _mm512_unpacklo_epi8(bytes[q], zero));
                    high[q] = _mm512_add_epi16(high[q], _mm512_unpackhi_epi8(bytes[q], zero));
                }
            }
            let mut scales = [_mm512_setzero_ps(); 4];
            for (r, scales) in scales.iter_mut().enumerate() {
                let from = part.scales.as_ptr().wrapping_offset(first + 16 * r as isize);
                // SAFETY: the rows of the mask have scales.
                *scales = unsafe { _mm512_maskz_loadu_ps(masks[r], from) };
            }
            for q in 0..Q {
                let scale = _mm512_set1_ps(queries[q].scales[p]);
                let sums = match is_narrow {
                    true => widened_bytes(bytes[q]),
                    false => widened(low[q], high[q]),
                };
                for r in 0..4 {
                    // Whole numbers, so that nothing is rounded.
                    let dot = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r]), minus_two, width);
                    let score = _mm512_mul_ps(_mm512_mul_ps(dot, scale), scales[r]);
                    scores[q][r] = if p == 0 { score } else { _mm512_add_ps(scores[q][r], score) };
                }
            }
        }
        for (y, scores) in y.iter_mut().zip(&scores) {
            for r in 0..4 {
                let to = y.as_mut_ptr().wrapping_offset(first + 16 * r as isize);
                // SAFETY: the rows of the mask have scores.
                unsafe { _mm512_mask_storeu_ps(to, masks[r], scores[r]) }
            }
        }
    }
}

/// In how many bits the rows of a block differ from some others, in at most [`COLUMNS`] columns.
///
/// # Safety
/// The columns are there in all of `words`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bitalg")]
unsafe fn of_columns<const Q: usize>(
    codes: &[Codes],
    words: [&[u32]; Q],
    columns: Range<usize>,
) -> [__m512i; Q] {
    let mut bytes = [_mm512_setzero_si512(); Q];
    for (m, codes) in columns.clone().zip(&codes[columns]) {
        // SAFETY: 64 bytes, and what the caller says.
        unsafe {
            let codes = _mm512_loadu_si512(codes.as_ptr().cast());
            for q in 0..Q {
                let word = _mm512_set1_epi32(*words[q].get_unchecked(m) as i32);
                let differ = _mm512_popcnt_epi8(_mm512_xor_si512(codes, word));
                bytes[q] = _mm512_add_epi8(bytes[q], differ);
            }
        }
    }
    bytes
}

/// Which of 16 rows from `start` on are among the first `count`.
#[inline(always)]
fn rows_within(start: isize, count: isize) -> __mmask16 {
    let before = (-start).clamp(0, 16) as u32;
    let after = (start + 16 - count).clamp(0, 16) as u32;
    (0xFFFFu32 << before & 0xFFFF >> after) as u16
}

/// The sums of a block in 32 bits, which are bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn widened_bytes(bytes: __m512i) -> [__m512i; 4] {
    [
        _mm512_cvtepu8_epi32(_mm512_castsi512_si128(bytes)),
        _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<1>(bytes)),
        _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<2>(bytes)),
        _mm512_cvtepu8_epi32(_mm512_extracti32x4_epi32::<3>(bytes)),
    ]
}

/// The sums of a block in 32 bits, whose registers hold the lower and the upper halves of 128-bit
/// lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn widened(low: __m512i, high: __m512i) -> [__m512i; 4] {
    let (first, last) = in_order(low, high);
    [
        _mm512_cvtepu16_epi32(_mm512_castsi512_si256(first)),
        _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(first)),
        _mm512_cvtepu16_epi32(_mm512_castsi512_si256(last)),
        _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(last)),
    ]
}

#[target_feature(enable = "avx2")]
fn avx2(of: &Compared, queries: &[&SignQuery], y: &mut [&mut [f32]]) {
    of.block_by_block(queries, y, |codes, words, sums| differences(codes, words, sums));
}

#[inline]
#[target_feature(enable = "avx2")]
fn differences(codes: &[Codes], words: &[u32], y: &mut Sums) {
    let (zero, low_half) = (_mm256_setzero_si256(), _mm256_set1_epi8(15));
    let counts =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    for (half, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (mut low, mut high) = (zero, zero);
        for (codes, words) in codes.chunks(COLUMNS).zip(words.chunks(COLUMNS)) {
            let mut bytes = zero;
            for (codes, &word) in codes.iter().zip(words) {
                // SAFETY: 32 bytes of a half.
                let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().add(32 * half).cast()) };
                let differ = _mm256_xor_si256(codes, _mm256_set1_epi32(word as i32));
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
