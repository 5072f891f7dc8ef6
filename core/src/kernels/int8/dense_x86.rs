//! AVX2 and AVX-512 VNNI forms of the dense integer product. Their safe portable twin stands in
//! `portable.rs`.
//!
//! The right operand is packed into panels of some registers of columns, and a panel stays in the
//! cache near the core while a block of rows passes. AVX2 multiplies 16-bit numbers in pairs and
//! adds the two products in 32 bits (`pmaddwd`): nothing saturates, and no signs move. VNNI's
//! `dpbusd` multiplies unsigned by signed bytes, four at a time: the left operand is shifted by
//! 128, and `128·Σ` of the right one is taken off again.
#![allow(unsafe_code)]

use super::common_x86::four;
use super::finish::Out;
use super::finish_x86::{Tile, finish};
use super::panels_x86::{Columns, FOURS, NARROW, PAIRS, WORDS};
use super::portable::DenseJob;
use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

/// Rows of a register block.
const PAIR_ROWS: usize = 6;
const FOUR_ROWS: usize = 4;

thread_local! {
    /// Room for the left operand of a block, kept from one block to the next.
    static WIDENED: RefCell<Vec<i16>> = const { RefCell::new(Vec::new()) };
}

/// Rows `block` of a product with at most [`NARROW`] columns.
#[target_feature(enable = "avx2,fma")]
fn matmul_narrow(job: &DenseJob, block: Range<usize>, mut out: Out) {
    let (inner, width, w) = (job.w.inner, job.w.width, job.w.columns());
    for (at, i) in block.enumerate() {
        let x = &job.x[i * inner..][..inner];
        let mut acc = [0i32; NARROW];
        macro_rules! dots {
            ($($n:literal)*) => {
                match width {
                    // SAFETY: this function has the features; there are `n` columns of the padded
                    // length, at least that of the row.
                    $($n => unsafe { dots::<$n>(x, w, &mut acc) },)*
                    _ => unreachable!("a narrow product has one to eight columns"),
                }
            };
        }
        dots!(1 2 3 4 5 6 7 8);
        finish(
            &job.finish,
            &Tile {
                acc: &acc,
                stride: width,
                rows: 1,
                count: width,
                i,
                first: 0,
                at: at * width,
                width,
            },
            &mut out,
        );
    }
}

/// Sums of a row's products with `N` columns.
///
/// # Safety
/// The processor has AVX2; there are `N` columns, filled up to whole registers, and the row is no
/// longer than they are.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn dots<const N: usize>(x: &[i8], w: &Columns, acc: &mut [i32; NARROW]) {
    let mut sums = [_mm256_setzero_si256(); N];
    let (registers, tail) = x.as_chunks::<WORDS>();
    let mut last = [0i8; WORDS];
    last[..tail.len()].copy_from_slice(tail);
    let from = w.data.as_ptr();
    let mut add = |k: usize, x: &[i8; WORDS]| {
        // SAFETY: sixteen bytes, and sixteen numbers of every column from `k` on.
        unsafe {
            let x = _mm256_cvtepi8_epi16(_mm_loadu_si128(x.as_ptr().cast()));
            for (c, sum) in sums.iter_mut().enumerate() {
                let w = _mm256_loadu_si256(from.add(c * w.padded + k).cast());
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, w));
            }
        }
    };
    for (g, x) in registers.iter().enumerate() {
        add(g * WORDS, x);
    }
    if !tail.is_empty() {
        add(registers.len() * WORDS, &last);
    }
    for (acc, sum) in acc.iter_mut().zip(sums) {
        let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        *acc = _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)));
    }
}

/// Rows `block` of a dense product.
#[target_feature(enable = "avx2,fma")]
pub(super) fn matmul_avx2(job: &DenseJob, block: Range<usize>, mut out: Out) {
    if job.w.width <= NARROW {
        return matmul_narrow(job, block, out);
    }
    let (inner, width, w) = (job.w.inner, job.w.width, job.w.pairs());
    let mut x = WIDENED.take();
    // Padding meets zeros of the right operand, whatever it is.
    x.resize(block.len() * w.inner, 0);
    for (to, from) in x
        .chunks_exact_mut(w.inner.max(1))
        .zip(job.x[block.start * inner..].chunks_exact(inner.max(1)))
    {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = i16::from(from);
        }
    }
    let mut acc = [0i32; PAIR_ROWS * PAIRS.lanes * PAIRS.registers];
    for panel in w.panels() {
        let columns = panel.registers * PAIRS.lanes;
        let right = &w.data[panel.start..][..w.inner * columns];
        for top in (0..block.len()).step_by(PAIR_ROWS) {
            let rows = PAIR_ROWS.min(block.len() - top);
            // A missing row is the last one again, and is not written.
            let mut left = [&x[..0]; PAIR_ROWS];
            for (r, left) in left.iter_mut().enumerate() {
                *left = &x[(top + r.min(rows - 1)) * w.inner..][..w.inner];
            }
            // SAFETY: this function has the features; all left rows and the panel are as long as
            // the inner dimension says.
            unsafe {
                match panel.registers {
                    1 => pair_tile::<1>(left, right, &mut acc),
                    _ => pair_tile::<2>(left, right, &mut acc),
                }
            }
            let count = columns.min(width - panel.first);
            let (i, first, at) = (block.start + top, panel.first, top * width + panel.first);
            finish(
                &job.finish,
                &Tile { acc: &acc, stride: columns, rows, count, i, first, at, width },
                &mut out,
            );
        }
    }
    WIDENED.set(x);
}

/// Six rows by `N` registers of columns.
///
/// # Safety
/// The processor has AVX2; every row of `left` is of one even length, and `right` holds `8·N`
/// numbers for each of them.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn pair_tile<const N: usize>(left: [&[i16]; PAIR_ROWS], right: &[i16], acc: &mut [i32]) {
    assert!(acc.len() >= PAIR_ROWS * N * PAIRS.lanes);
    let mut sums = [[_mm256_setzero_si256(); N]; PAIR_ROWS];
    let mut left_at = [std::ptr::null::<i32>(); PAIR_ROWS];
    for (at, row) in left_at.iter_mut().zip(left) {
        *at = row.as_ptr().cast();
    }
    let mut from = right.as_ptr().cast::<__m256i>();
    for g in 0..left[0].len() / PAIRS.depth {
        // SAFETY: as the function says: `g` is a pair of each row, and a register of each of the
        // `N` of the panel.
        unsafe {
            let mut w = [_mm256_setzero_si256(); N];
            for (n, w) in w.iter_mut().enumerate() {
                *w = _mm256_loadu_si256(from.add(n));
            }
            from = from.add(N);
            for (sums, row) in sums.iter_mut().zip(left_at) {
                let x = _mm256_set1_epi32(row.add(g).read_unaligned());
                for (sum, &w) in sums.iter_mut().zip(&w) {
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(x, w));
                }
            }
        }
    }
    for (sum, to) in sums.as_flattened().iter().zip(acc.as_chunks_mut::<{ PAIRS.lanes }>().0) {
        // SAFETY: eight numbers each.
        unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), *sum) };
    }
}

/// Rows `block` of a dense product.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
pub(super) fn matmul_vnni(job: &DenseJob, block: Range<usize>, mut out: Out) {
    let (inner, width) = (job.w.inner, job.w.width);
    let (w, shift) = job.w.fours();
    let mut acc = [0i32; FOUR_ROWS * FOURS.lanes * FOURS.registers];
    for panel in w.panels() {
        let columns = panel.registers * FOURS.lanes;
        let right = &w.data[panel.start..][..w.inner * columns];
        let count = columns.min(width - panel.first);
        for top in (0..block.len()).step_by(FOUR_ROWS) {
            let rows = FOUR_ROWS.min(block.len() - top);
            // A missing row is the last one again, and is not written.
            let mut left = [&job.x[..0]; FOUR_ROWS];
            for (r, left) in left.iter_mut().enumerate() {
                *left = &job.x[(block.start + top + r.min(rows - 1)) * inner..][..inner];
            }
            // SAFETY: this function has the features; the panel holds all groups of the inner
            // dimension.
            unsafe {
                match panel.registers {
                    1 => four_tile::<1>(left, right, &mut acc),
                    2 => four_tile::<2>(left, right, &mut acc),
                    3 => four_tile::<3>(left, right, &mut acc),
                    _ => four_tile::<4>(left, right, &mut acc),
                }
            }
            for acc in acc.chunks_exact_mut(columns).take(rows) {
                for (sum, shift) in acc.iter_mut().zip(&shift[panel.first..]) {
                    *sum = sum.wrapping_add(*shift);
                }
            }
            let (i, first, at) = (block.start + top, panel.first, top * width + panel.first);
            finish(
                &job.finish,
                &Tile { acc: &acc, stride: columns, rows, count, i, first, at, width },
                &mut out,
            );
        }
    }
}

/// Four rows by `N` registers of columns, the rows shifted by 128.
///
/// # Safety
/// The processor has VNNI; all rows of `left` have one length, and `right` holds `64·N` bytes for
/// every four of it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn four_tile<const N: usize>(left: [&[i8]; FOUR_ROWS], right: &[i8], acc: &mut [i32]) {
    assert!(acc.len() >= FOUR_ROWS * N * FOURS.lanes);
    let mut sums = [[_mm512_setzero_si512(); N]; FOUR_ROWS];
    for (g, group) in right.chunks_exact(N * FOURS.lanes * FOURS.depth).enumerate() {
        let k = g * FOURS.depth;
        let mut w = [_mm512_setzero_si512(); N];
        for (n, w) in w.iter_mut().enumerate() {
            // SAFETY: a group holds `N` registers.
            *w = unsafe { _mm512_loadu_si512(group.as_ptr().cast::<__m512i>().add(n)) };
        }
        for (sums, x) in sums.iter_mut().zip(left) {
            // SAFETY: the four bytes lie within the row.
            let x = if k + 4 <= x.len() {
                unsafe { x.as_ptr().add(k).cast::<i32>().read_unaligned() }
            } else {
                four(x, k)
            };
            let x = _mm512_xor_si512(_mm512_set1_epi32(x), _mm512_set1_epi8(-128));
            for (sum, &w) in sums.iter_mut().zip(&w) {
                *sum = _mm512_dpbusd_epi32(*sum, x, w);
            }
        }
    }
    for (sum, to) in sums.as_flattened().iter().zip(acc.as_chunks_mut::<{ FOURS.lanes }>().0) {
        // SAFETY: sixteen numbers each.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), *sum) };
    }
}
