//! AVX2 form of sparse integer products for rows whose entries are all one number: means, sums, and
//! features that are there or not.
//!
//! `Σ_j a·x_jc = a·Σ_j x_jc`: bytes are widened and added, and nothing is multiplied or
//! interleaved. 16 bits hold 258 of them.
#![allow(unsafe_code)]

use super::common_x86::distance;
use super::finish::Out;
use super::finish_x86::{Tile, finish};
use super::portable::SparseJob;
use crate::kernels::buffer::prefetch;
use std::arch::x86_64::*;
use std::ops::Range;

/// Numbers of a register, and the least width of a row.
pub(super) const LANES: usize = 16;
/// Registers of sums of one pass over a row's entries.
const MOST: usize = 8;
/// Terms of a 16-bit sum: `256·127 < 2¹⁵`, and `−256·128` is the least that 16 bits hold.
const TERMS: usize = 256;
/// Row `i`, whose entries are all `value`; `ahead` says that rows are to be fetched before their
/// turn.
///
/// # Safety
/// The processor has AVX2 and FMA; all columns of the row are rows of `x`, which are at least
/// [`LANES`] wide.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn row(
    job: &SparseJob,
    i: usize,
    value: i8,
    ahead: bool,
    out: &mut Out,
    at: usize,
) {
    let width = job.width;
    let edges = job.a.starts[i]..job.a.starts[i + 1];
    let mut acc = [0i32; MOST * LANES];
    let mut begin = 0;
    while begin < width {
        // What is left may be less than a register: then it begins earlier, and some channels are
        // computed twice.
        let first = begin.min(width - LANES);
        let count = (width - first).min(MOST * LANES);
        macro_rules! part {
            ($($n:literal)*) => {
                match count.div_ceil(LANES) {
                    // SAFETY: as the function says; the channels lie within a row.
                    $($n => unsafe { sum::<$n>(job, edges.clone(), first, count, ahead, &mut acc) },)*
                    _ => unreachable!("a pass has at most eight registers"),
                }
            };
        }
        part!(1 2 3 4 5 6 7 8);
        for sum in &mut acc[..count] {
            *sum = sum.wrapping_mul(i32::from(value));
        }
        // What was computed before is not written again: it may have been added to.
        let fresh = &acc[begin - first..count];
        let tile = Tile {
            acc: fresh,
            stride: fresh.len(),
            rows: 1,
            count: fresh.len(),
            i,
            first: begin,
            at: at * width + begin,
            width,
        };
        finish(&job.finish, &tile, out);
        begin = first + count;
    }
}

/// Sums of `count` channels from `first` on, in `N` registers of which the last two may overlap.
///
/// # Safety
/// As [`row`]; there are at least [`LANES`] channels, and at most as many as `N` registers hold.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn sum<const N: usize>(
    job: &SparseJob,
    edges: Range<usize>,
    first: usize,
    count: usize,
    ahead: bool,
    acc: &mut [i32],
) {
    let (cols, width) = (job.a.cols, job.width);
    let base = job.x.as_ptr().wrapping_add(first);
    let (last, distance) = (count - LANES, distance(width));
    // Bytes that begin within a cache line may end on one more.
    let split = !(base.addr().is_multiple_of(64) && width.is_multiple_of(64));
    let mut wide = [[_mm256_setzero_si256(); 2]; N];
    let mut begin = edges.start;
    while begin < edges.end {
        let end = edges.end.min(begin + TERMS);
        let mut sums = [_mm256_setzero_si256(); N];
        for e in begin..end {
            if ahead {
                let next =
                    base.wrapping_add(cols[(e + distance).min(cols.len() - 1)] as usize * width);
                prefetch(next, count);
                if split {
                    prefetch(next.wrapping_add(count - 1), 1);
                }
            }
            // SAFETY: as the function says; `e` is an entry, and every register ends within the
            // row.
            unsafe {
                let from = base.add(*cols.get_unchecked(e) as usize * width);
                for (n, sum) in sums.iter_mut().enumerate() {
                    let from = from.add(if n + 1 == N { last } else { n * LANES });
                    *sum =
                        _mm256_add_epi16(*sum, _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())));
                }
            }
        }
        for (wide, sum) in wide.iter_mut().zip(sums) {
            wide[0] = _mm256_add_epi32(wide[0], _mm256_cvtepi16_epi32(_mm256_castsi256_si128(sum)));
            wide[1] = _mm256_add_epi32(
                wide[1],
                _mm256_cvtepi16_epi32(_mm256_extracti128_si256::<1>(sum)),
            );
        }
        begin = end;
    }
    for (n, wide) in wide.into_iter().enumerate() {
        let to = &mut acc[if n + 1 == N { last } else { n * LANES }..][..LANES];
        // SAFETY: sixteen numbers.
        unsafe {
            _mm256_storeu_si256(to.as_mut_ptr().cast(), wide[0]);
            _mm256_storeu_si256(to.as_mut_ptr().add(LANES / 2).cast(), wide[1]);
        }
    }
}
