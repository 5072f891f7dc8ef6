//! AVX2 and AVX-512 VNNI forms of the integer kernels. Their safe portable twins stand in
//! `portable.rs`.
//!
//! Four rows of the right operand are interleaved byte by byte, so that one instruction multiplies
//! four pairs and adds them to a 32-bit accumulator. VNNI's `dpbusd` multiplies unsigned by signed
//! bytes: one operand is shifted by 128, and `128·Σ` of the other is taken off again. AVX2 has
//! `maddubs`, whose 16-bit sums saturate: with `w = w⁺ − w⁻`, both at most 128, a sum of two
//! products lies in ±2·128² and never does; shifted operands of up to 255 would. Wrapping sums on
//! the way are harmless, since the final value fits.
#![allow(unsafe_code)]

use super::common_x86::{distance, four};
use super::finish::Out;
use super::finish_x86::{Tile, finish};
use super::portable::{Int8Kernels, JoinJob, SparseJob, join_rows};
use super::round::{self, ColumnScales};
use super::{dense_x86, equal_x86};
use crate::kernels::buffer::prefetch;
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of the right operand that are interleaved.
const GROUP: usize = 4;

/// A register of bytes, seen as 128-bit lanes.
///
/// # Safety
/// The methods may only be called inside a function with the features of the level (and not from a
/// closure, which would be compiled without them); a pointer must be valid for all bytes, or for
/// the first `count` in [`Bytes::load_part`].
trait Bytes: Copy {
    /// Bytes of a register.
    const BYTES: usize;
    /// Most registers of bytes of one pass: four times as many accumulators.
    const MOST: usize;
    /// Whether the register operand of [`Bytes::dot4`] is taken as shifted by 128.
    const SHIFTS: bool;

    unsafe fn zero() -> Self;
    unsafe fn load(from: *const i8) -> Self;
    /// Bytes from `count` on are of no account.
    unsafe fn load_part(from: *const i8, count: usize) -> Self;
    /// Four bytes in every 32 bits.
    unsafe fn splat4(four: i32) -> Self;
    unsafe fn low8(self, other: Self) -> Self;
    unsafe fn high8(self, other: Self) -> Self;
    unsafe fn low16(self, other: Self) -> Self;
    unsafe fn high16(self, other: Self) -> Self;
    /// `acc + Σ_t x_t·w_t` over the four bytes of every 32 bits, with `x + 128` for `x` if it
    /// shifts.
    unsafe fn dot4(acc: Self, x: Self, w: Self) -> Self;
    /// `acc + Σ_t x_t·w_t` over the four bytes of every 32 bits, where no `w` is negative.
    unsafe fn dot4_by_unsigned(acc: Self, x: Self, w: Self) -> Self;
    /// Writes four registers of accumulators of interleaved rows, lane by lane, in the order of
    /// channels.
    unsafe fn store4(acc: [Self; 4], to: *mut i32);
}

macro_rules! bytes {
    ($name:ident, $register:ty, $bytes:literal, $most:literal, $shifts:literal,
     $zero:ident, $load:ident, $splat:ident, $low8:ident, $high8:ident, $low16:ident, $high16:ident,
     part: |$from:ident, $count:ident| $part:expr, dot: |$acc:ident, $x:ident, $w:ident| $dot:expr,
     by_unsigned: |$uacc:ident, $ux:ident, $uw:ident| $by_unsigned:expr, store4: |$sacc:ident, $to:ident| $store4:expr) => {
        #[derive(Clone, Copy)]
        struct $name($register);

        impl Bytes for $name {
            const BYTES: usize = $bytes;
            const MOST: usize = $most;
            const SHIFTS: bool = $shifts;

            #[inline(always)]
            unsafe fn zero() -> Self {
                // SAFETY: the caller has the features, here and in all methods below.
                unsafe { Self($zero()) }
            }
            #[inline(always)]
            unsafe fn load(from: *const i8) -> Self {
                // SAFETY: as above, and the pointer is valid for all bytes.
                unsafe { Self($load(from.cast())) }
            }
            #[inline(always)]
            unsafe fn load_part($from: *const i8, $count: usize) -> Self {
                // SAFETY: as above, and the pointer is valid for `count` bytes.
                unsafe { Self($part) }
            }
            #[inline(always)]
            unsafe fn splat4(four: i32) -> Self {
                // SAFETY: as above.
                unsafe { Self($splat(four)) }
            }
            #[inline(always)]
            unsafe fn low8(self, other: Self) -> Self {
                // SAFETY: as above.
                unsafe { Self($low8(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn high8(self, other: Self) -> Self {
                // SAFETY: as above.
                unsafe { Self($high8(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn low16(self, other: Self) -> Self {
                // SAFETY: as above.
                unsafe { Self($low16(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn high16(self, other: Self) -> Self {
                // SAFETY: as above.
                unsafe { Self($high16(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn dot4($acc: Self, $x: Self, $w: Self) -> Self {
                let ($acc, $x, $w) = ($acc.0, $x.0, $w.0);
                // SAFETY: as above.
                unsafe { Self($dot) }
            }
            #[inline(always)]
            unsafe fn dot4_by_unsigned($uacc: Self, $ux: Self, $uw: Self) -> Self {
                let ($uacc, $ux, $uw) = ($uacc.0, $ux.0, $uw.0);
                // SAFETY: as above.
                unsafe { Self($by_unsigned) }
            }
            #[inline(always)]
            unsafe fn store4($sacc: [Self; 4], $to: *mut i32) {
                // SAFETY: as above; `to` is valid for four registers.
                unsafe { $store4 }
            }
        }
    };
}

/// The first `count` bytes, by way of an array of their own.
///
/// # Safety
/// The pointer is valid for `count` bytes, at most 16.
#[inline(always)]
unsafe fn copied(from: *const i8, count: usize) -> __m128i {
    let mut bytes = [0i8; 16];
    // SAFETY: as the function says; SSE2 is part of x86-64.
    unsafe {
        std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), count);
        _mm_loadu_si128(bytes.as_ptr().cast())
    }
}

bytes!(
    Avx2Wide, __m256i, 32, 2, false,
    _mm256_setzero_si256, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_unpacklo_epi8, _mm256_unpackhi_epi8, _mm256_unpacklo_epi16,
    _mm256_unpackhi_epi16,
    part: |from, count| {
        let low = copied(from, count.min(16));
        let high = copied(from.add(count.min(16)), count - count.min(16));
        _mm256_set_m128i(high, low)
    },
    dot: |acc, x, w| {
        let zero = _mm256_setzero_si256();
        let positive = _mm256_maddubs_epi16(_mm256_max_epi8(w, zero), x);
        let negative = _mm256_maddubs_epi16(_mm256_sub_epi8(zero, _mm256_min_epi8(w, zero)), x);
        let ones = _mm256_set1_epi16(1);
        _mm256_add_epi32(acc, _mm256_sub_epi32(_mm256_madd_epi16(positive, ones), _mm256_madd_epi16(negative, ones)))
    },
    by_unsigned: |acc, x, w| _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1))),
    store4: |acc, to| {
        // Interleaving worked within lanes of 128 bits.
        let [a, b, c, d] = [acc[0].0, acc[1].0, acc[2].0, acc[3].0];
        _mm256_storeu_si256(to.cast(), _mm256_permute2x128_si256::<0x20>(a, b));
        _mm256_storeu_si256(to.add(8).cast(), _mm256_permute2x128_si256::<0x20>(c, d));
        _mm256_storeu_si256(to.add(16).cast(), _mm256_permute2x128_si256::<0x31>(a, b));
        _mm256_storeu_si256(to.add(24).cast(), _mm256_permute2x128_si256::<0x31>(c, d));
    }
);

bytes!(
    Avx2Narrow, __m128i, 16, 1, false,
    _mm_setzero_si128, _mm_loadu_si128, _mm_set1_epi32, _mm_unpacklo_epi8, _mm_unpackhi_epi8, _mm_unpacklo_epi16, _mm_unpackhi_epi16,
    part: |from, count| copied(from, count),
    dot: |acc, x, w| {
        let zero = _mm_setzero_si128();
        let positive = _mm_maddubs_epi16(_mm_max_epi8(w, zero), x);
        let negative = _mm_maddubs_epi16(_mm_sub_epi8(zero, _mm_min_epi8(w, zero)), x);
        let ones = _mm_set1_epi16(1);
        _mm_add_epi32(acc, _mm_sub_epi32(_mm_madd_epi16(positive, ones), _mm_madd_epi16(negative, ones)))
    },
    by_unsigned: |acc, x, w| _mm_add_epi32(acc, _mm_madd_epi16(_mm_maddubs_epi16(w, x), _mm_set1_epi16(1))),
    store4: |acc, to| {
        for (k, acc) in acc.iter().enumerate() {
            _mm_storeu_si128(to.add(4 * k).cast(), acc.0);
        }
    }
);

bytes!(
    VnniWide, __m512i, 64, 4, true,
    _mm512_setzero_si512, _mm512_loadu_si512, _mm512_set1_epi32, _mm512_unpacklo_epi8, _mm512_unpackhi_epi8, _mm512_unpacklo_epi16,
    _mm512_unpackhi_epi16,
    part: |from, count| _mm512_maskz_loadu_epi8((1u64 << count) - 1, from),
    dot: |acc, x, w| _mm512_dpbusd_epi32(acc, _mm512_xor_si512(x, _mm512_set1_epi8(-128)), w),
    by_unsigned: |acc, x, w| _mm512_dpbusd_epi32(acc, w, x),
    store4: |acc, to| {
        let mut raw = [[0i32; 16]; 4];
        for (acc, raw) in acc.iter().zip(&mut raw) {
            _mm512_storeu_si512(raw.as_mut_ptr().cast(), acc.0);
        }
        // Interleaving worked within lanes of 128 bits: lane `l` of register `k` holds channels
        // `16·l + 4·k` and on.
        for lane in 0..4 {
            for (k, raw) in raw.iter().enumerate() {
                let four = _mm_loadu_si128(raw.as_ptr().add(4 * lane).cast());
                _mm_storeu_si128(to.add(16 * lane + 4 * k).cast(), four);
            }
        }
    }
);

bytes!(
    VnniNarrow, __m128i, 16, 1, true,
    _mm_setzero_si128, _mm_loadu_si128, _mm_set1_epi32, _mm_unpacklo_epi8, _mm_unpackhi_epi8, _mm_unpacklo_epi16, _mm_unpackhi_epi16,
    part: |from, count| _mm_maskz_loadu_epi8(((1u32 << count) - 1) as __mmask16, from),
    dot: |acc, x, w| _mm_dpbusd_epi32(acc, _mm_xor_si128(x, _mm_set1_epi8(-128)), w),
    by_unsigned: |acc, x, w| _mm_dpbusd_epi32(acc, w, x),
    store4: |acc, to| {
        for (k, acc) in acc.iter().enumerate() {
            _mm_storeu_si128(to.add(4 * k).cast(), acc.0);
        }
    }
);

/// Most channels of one pass over a row's entries: four registers of 64.
const PASS: usize = 256;

/// ... and from what size of the gathered matrix on.
const CACHE_BYTES: usize = 4 << 20;

/// How a sparse product gathers.
struct Gather<const UNSIGNED: bool>;

/// `UNSIGNED` if no entry of the row is negative, `ahead` if rows are fetched ahead: a branch that
/// is always taken or never costs less than what a second copy of every loop takes to compile.
impl<const UNSIGNED: bool> Gather<UNSIGNED> {
    /// Channels from `first` on of one row in `N` registers of bytes, the last one of `tail` bytes
    /// if that is not zero.
    ///
    /// # Safety
    /// As [`Bytes`]; all columns are rows of `x`, the channels lie within a row, and `to` is valid
    /// for `N` registers of bytes as 32-bit numbers.
    #[inline(always)]
    unsafe fn part<V: Bytes, const N: usize, const TAIL: bool>(
        job: &SparseJob,
        edges: Range<usize>,
        first: usize,
        tail: usize,
        ahead: bool,
        to: *mut i32,
    ) {
        let (cols, vals, width) = (job.a.cols, job.a.vals, job.width);
        // SAFETY: the caller has the features. Entries are within their slices, columns within `x`,
        // and `load_part` reads within the row.
        unsafe {
            let base = job.x.as_ptr().add(first);
            let distance = distance(width);
            let bytes = if TAIL { (N - 1) * V::BYTES + tail } else { N * V::BYTES };
            // Bytes that begin within a cache line may end on one more.
            let split = !(base.addr().is_multiple_of(64) && width.is_multiple_of(64));
            let mut acc = [[V::zero(); 4]; N];
            let row = |e: usize| base.add(*cols.get_unchecked(e) as usize * width);
            let mut e = edges.start;
            while e + GROUP <= edges.end {
                if ahead {
                    for t in 0..GROUP {
                        let next = base.wrapping_add(
                            *cols.get_unchecked((e + distance + t).min(cols.len() - 1)) as usize
                                * width,
                        );
                        prefetch(next, bytes);
                        if split {
                            prefetch(next.wrapping_add(bytes - 1), 1);
                        }
                    }
                }
                let weights = vals.as_ptr().add(e).cast::<i32>().read_unaligned();
                Self::add_four::<V, N, TAIL>(
                    [row(e), row(e + 1), row(e + 2), row(e + 3)],
                    weights,
                    tail,
                    &mut acc,
                );
                e += GROUP;
            }
            if e < edges.end {
                // A missing entry has weight zero, and reads the row of the last one.
                let row = |t: usize| row((e + t).min(edges.end - 1));
                Self::add_four::<V, N, TAIL>(
                    [row(0), row(1), row(2), row(3)],
                    four(&vals[..edges.end], e),
                    tail,
                    &mut acc,
                );
            }
            for (k, acc) in acc.into_iter().enumerate() {
                V::store4(acc, to.add(k * V::BYTES));
            }
        }
    }

    /// Adds four rows times their weights, one per byte.
    ///
    /// # Safety
    /// As [`Gather::part`].
    #[inline(always)]
    unsafe fn add_four<V: Bytes, const N: usize, const TAIL: bool>(
        rows: [*const i8; GROUP],
        weights: i32,
        tail: usize,
        acc: &mut [[V; 4]; N],
    ) {
        // SAFETY: as the function says.
        unsafe {
            let weights = V::splat4(weights);
            for (k, acc) in acc.iter_mut().enumerate() {
                let mut x = [V::zero(); 4];
                for (x, row) in x.iter_mut().zip(rows) {
                    let from = row.add(k * V::BYTES);
                    *x = if TAIL && k + 1 == N { V::load_part(from, tail) } else { V::load(from) };
                }
                let (ab_low, ab_high) = (x[0].low8(x[1]), x[0].high8(x[1]));
                let (cd_low, cd_high) = (x[2].low8(x[3]), x[2].high8(x[3]));
                let fours = [
                    ab_low.low16(cd_low),
                    ab_low.high16(cd_low),
                    ab_high.low16(cd_high),
                    ab_high.high16(cd_high),
                ];
                for (acc, four) in acc.iter_mut().zip(fours) {
                    *acc = if UNSIGNED {
                        V::dot4_by_unsigned(*acc, four, weights)
                    } else {
                        V::dot4(*acc, four, weights)
                    };
                }
            }
        }
    }

    /// Row `i` of a sparse product, row `at` of `out`; `acc` is at hand for accumulators.
    ///
    /// # Safety
    /// As [`spmm`]; all columns are rows of `x`.
    #[inline(always)]
    unsafe fn row<W: Bytes, S: Bytes>(
        job: &SparseJob,
        i: usize,
        ahead: bool,
        acc: &mut [i32; PASS],
        out: &mut Out,
        at: usize,
    ) {
        let width = job.width;
        let most = W::MOST * W::BYTES;
        let edges = job.a.starts[i]..job.a.starts[i + 1];
        let shifts = W::SHIFTS && !UNSIGNED;
        let shift = if shifts {
            job.a.vals[edges.clone()].iter().map(|&q| i32::from(q)).sum::<i32>().wrapping_mul(128)
        } else {
            0
        };
        let mut begin = 0;
        while begin < width {
            let left = width - begin;
            // Without masks a part of a register is slow to read: what is left begins earlier, and
            // some channels are computed twice.
            let whole = !W::SHIFTS && width >= S::BYTES;
            let narrow = left <= S::BYTES || (whole && left < W::BYTES);
            let register = if narrow { S::BYTES } else { W::BYTES };
            let first = if whole && left < S::BYTES { width - S::BYTES } else { begin };
            let most = if narrow { S::BYTES } else { most };
            let count = match (width - first).min(most) {
                count if whole => count / register * register,
                count => count,
            };
            let tail = count % register;
            let (edges, to) = (edges.clone(), acc.as_mut_ptr());
            // What a level never does is not compiled: without masks a wide register is never read
            // in part, and there may be fewer of them.
            macro_rules! part {
                ($register:ty, $n:literal, $in_part:expr) => {
                    if $in_part && tail != 0 {
                        Self::part::<$register, $n, true>(job, edges, first, tail, ahead, to)
                    } else {
                        Self::part::<$register, $n, false>(job, edges, first, tail, ahead, to)
                    }
                };
            }
            // SAFETY: as the function says; the registers end within the row, or in a last one of
            // which only `tail` bytes are read.
            unsafe {
                match (narrow, count.div_ceil(register)) {
                    (true, _) => part!(S, 1, true),
                    (_, 1) => part!(W, 1, W::SHIFTS),
                    (_, 2) => part!(W, 2, W::SHIFTS),
                    (_, 3) if W::MOST > 2 => part!(W, 3, W::SHIFTS),
                    (_, 4) if W::MOST > 2 => part!(W, 4, W::SHIFTS),
                    (_, registers) => unreachable!("{registers} registers of one pass"),
                }
            }
            // What was computed before is not written again: it may have been added to.
            let sums = &mut acc[begin - first..count];
            if shifts {
                sums.iter_mut().for_each(|sum| *sum = sum.wrapping_sub(shift));
            }
            let fresh = sums.len();
            let tile = Tile {
                acc: sums,
                stride: fresh,
                rows: 1,
                count: fresh,
                i,
                first: begin,
                at: at * width + begin,
                width,
            };
            // SAFETY: every level with this form has AVX2.
            unsafe { finish(&job.finish, &tile, out) };
            begin = first + count;
        }
    }
}

/// What [`Gather`] relies on.
///
/// # Panics
/// If a column is not below `rows`.
#[inline(always)]
fn assert_columns(cols: &[u32], rows: usize) {
    // The largest of all instead of the first that fails: this runs on whole registers.
    let largest = cols.iter().fold(0, |largest: u32, &j| largest.max(j));
    assert!(
        cols.is_empty() || (largest as usize) < rows,
        "integer product: index {largest} of a right operand of {rows} rows"
    );
}

/// Whether all numbers are the first one.
#[inline(always)]
fn all_equal(vals: &[i8]) -> bool {
    let Some(&first) = vals.first() else { return true };
    vals.iter().fold(0, |differ, &q| differ | (q ^ first)) == 0
}

/// Rows `block` of a sparse product, in registers `W`, and `S` for what is left of a row.
///
/// # Safety
/// As [`Bytes`], for both.
#[inline(always)]
unsafe fn spmm<W: Bytes, S: Bytes>(job: &SparseJob, block: Range<usize>, mut out: Out) {
    let a = &job.a;
    assert_columns(&a.cols[a.starts[block.start]..a.starts[block.end]], job.x.len() / job.width);
    let ahead = job.x.len() > CACHE_BYTES;
    let mut acc = [0i32; PASS];
    for (at, i) in block.enumerate() {
        let vals = &a.vals[a.starts[i]..a.starts[i + 1]];
        if !W::SHIFTS && job.width >= equal_x86::LANES && all_equal(vals) {
            // SAFETY: the caller has the features, and the columns have been checked.
            unsafe {
                equal_x86::row(job, i, vals.first().copied().unwrap_or(0), ahead, &mut out, at)
            };
            continue;
        }
        let unsigned = vals.iter().fold(0, |all, q| all | q) >= 0;
        // SAFETY: the caller has the features, and the columns have been checked.
        unsafe {
            if unsigned {
                Gather::<true>::row::<W, S>(job, i, ahead, &mut acc, &mut out, at)
            } else {
                Gather::<false>::row::<W, S>(job, i, ahead, &mut acc, &mut out, at)
            }
        }
    }
}

/// The functions of one level, compiled with its features, and the table of them.
macro_rules! level {
    ($module:ident, $table:ident, $wide:ty, $narrow:ty, $matmul:path, $features:literal) => {
        mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            fn spmm(job: &SparseJob, block: Range<usize>, out: Out) {
                // SAFETY: this function has the features.
                unsafe { super::spmm::<$wide, $narrow>(job, block, out) }
            }

            #[target_feature(enable = $features)]
            fn quantize_row(x: &[f32], qmax: i8, q: &mut [i8]) -> f32 {
                round::quantize_row::<true>(x, qmax, q)
            }

            #[target_feature(enable = $features)]
            fn quantize_columns(x: &[f32], by: &ColumnScales, q: &mut [i8]) -> bool {
                round::quantize_columns_row::<true>(x, by, q)
            }

            #[target_feature(enable = $features)]
            fn join(job: &JoinJob, block: Range<usize>, out: Out) {
                join_rows::<true>(job, block, out)
            }

            // SAFETY of the calls: `Levels::at` hands out this table only where the processor has
            // the features.
            pub(in super::super) const TABLE: Int8Kernels = Int8Kernels {
                // SAFETY: see above.
                spmm: |job, block, out| unsafe { spmm(job, block, out) },
                // SAFETY: see above.
                matmul: |job, block, out| unsafe { $matmul(job, block, out) },
                // SAFETY: see above.
                join: |job, block, out| unsafe { join(job, block, out) },
                // SAFETY: see above.
                quantize_row: |x, qmax, q| unsafe { quantize_row(x, qmax, q) },
                // SAFETY: see above.
                quantize_columns: |x, by, q| unsafe { quantize_columns(x, by, q) },
            };
        }
        pub(super) use $module::TABLE as $table;
    };
}

level!(avx2, AVX2, Avx2Wide, Avx2Narrow, dense_x86::matmul_avx2, "avx2,fma");
level!(
    vnni,
    VNNI,
    VnniWide,
    VnniNarrow,
    dense_x86::matmul_vnni,
    "avx512f,avx512bw,avx512vl,avx512vnni"
);
