//! AVX2 and AVX-512 forms of the dense kernel: a block of rows times two or three registers of
//! columns, held in registers over the inner dimension.
#![allow(unsafe_code)]

use super::packed::{GemmBlock, GemmKernel, Panel};
use crate::kernels::buffer::prefetch;
use crate::kernels::simd_x86::{Vector, each};
use std::arch::x86_64::*;

/// One register block: where it reads and where it writes.
#[derive(Clone, Copy)]
struct Tile<V: Vector> {
    a: *const f32,
    row_stride: usize,
    inner_stride: usize,
    b: *const f32,
    inner: usize,
    y: *mut f32,
    width: usize,
    /// Added before the result is stored, where there is one.
    bias: *const f32,
    add: bool,
    relu: bool,
    /// Lanes of the last register.
    mask: V::Mask,
}

/// Numbers of a cache line.
const LINE: usize = 16;

/// `M` rows by `N` registers of columns, of which the last is masked unless the registers are
/// `FULL`. The next rows of the left operand are fetched ahead where they lie row by row.
///
/// # Safety
/// As [`Vector`]; the pointers are valid for the rows, the inner dimension and the columns of the
/// tile.
#[inline(always)]
unsafe fn tile<V: Vector, const M: usize, const N: usize, const FULL: bool>(t: Tile<V>) {
    // SAFETY: as the function's own.
    unsafe {
        // The result, and below the next rows of the left operand: far away in a large product, and
        // not in an order in which the processor fetches by itself.
        for i in 0..M {
            prefetch(t.y.wrapping_add(i * t.width), N * V::LANES);
        }
        let mut sums = [[V::splat(0.0); N]; M];
        let (mut a, mut b) = (t.a, t.b);
        let mut left_over = t.inner;
        while left_over > 0 {
            let steps = left_over.min(LINE);
            if t.inner_stride == 1 {
                for i in M..2 * M {
                    prefetch(a.wrapping_add(i * t.row_stride), LINE);
                }
            }
            for _ in 0..steps {
                let mut right = [V::splat(0.0); N];
                each!(v < N, {
                    right[v] = V::load(b.add(v * V::LANES));
                });
                each!(i < M, {
                    let left = V::splat(*a.add(i * t.row_stride));
                    each!(v < N, {
                        sums[i][v] = left.mul_add(right[v], sums[i][v]);
                    });
                });
                // The last step may leave the operand, and is not read.
                a = a.wrapping_add(t.inner_stride);
                b = b.wrapping_add(N * V::LANES);
            }
            left_over -= steps;
        }
        each!(i < M, {
            each!(v < N, {
                let to = t.y.add(i * t.width + v * V::LANES);
                let mask = if !FULL && v == N - 1 { Some(t.mask) } else { None };
                let mut sum = sums[i][v];
                if t.add {
                    sum = sum.add(load::<V>(to, mask));
                }
                if !t.bias.is_null() {
                    sum = sum.add(load::<V>(t.bias.add(v * V::LANES), mask));
                }
                let sum = if t.relu { sum.relu() } else { sum };
                match mask {
                    Some(mask) => sum.store_part(to, mask),
                    None => sum.store(to),
                }
            });
        });
    }
}

/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn load<V: Vector>(from: *const f32, mask: Option<V::Mask>) -> V {
    // SAFETY: as the function's own.
    unsafe {
        match mask {
            Some(mask) => V::load_part(from, mask),
            None => V::load(from),
        }
    }
}

/// All strips of a panel's block. `M` is the most rows at once.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn strips<V: Vector, const M: usize, const N: usize, const FULL: bool>(
    first: Tile<V>,
    rows: usize,
) {
    let at = |row: usize| Tile {
        a: first.a.wrapping_add(row * first.row_stride),
        y: first.y.wrapping_add(row * first.width),
        ..first
    };
    let mut row = 0;
    // SAFETY: `row` plus the height of the tile stays within `rows`.
    unsafe {
        while row + M <= rows {
            tile::<V, M, N, FULL>(at(row));
            row += M;
        }
        if M > 4 && row + 4 <= rows {
            tile::<V, 4, N, FULL>(at(row));
            row += 4;
        }
        match rows - row {
            1 => tile::<V, 1, N, FULL>(at(row)),
            2 => tile::<V, 2, N, FULL>(at(row)),
            3 => tile::<V, 3, N, FULL>(at(row)),
            _ => (),
        }
    }
}

/// `M` is the most rows at once, `WIDEST` the most registers of a panel: wider forms are not
/// compiled.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn block<V: Vector, const M: usize, const WIDEST: usize>(job: &GemmBlock, y: &mut [f32]) {
    let (width, inner) = (job.b.width, job.b.inner);
    assert_eq!(y.len(), job.rows * width);
    let last =
        job.rows.saturating_sub(1) * job.row_stride + inner.saturating_sub(1) * job.inner_stride;
    assert!(job.rows == 0 || inner == 0 || last < job.a.len(), "the left operand has all rows");
    for part in job.b.inner_parts() {
        for Panel { first, width: columns, vectors, start } in job.b.panels() {
            let t = Tile::<V> {
                a: job.a.as_ptr().wrapping_add(part.begin * job.inner_stride),
                row_stride: job.row_stride,
                inner_stride: job.inner_stride,
                b: job.b.packed[start + part.begin * vectors * V::LANES..].as_ptr(),
                inner: part.len,
                y: y.as_mut_ptr().wrapping_add(first),
                width,
                bias: job
                    .epilogue
                    .bias
                    .filter(|_| part.last)
                    .map_or(std::ptr::null(), |bias| bias[first..].as_ptr()),
                add: job.epilogue.add || part.begin > 0,
                relu: job.epilogue.relu && part.last,
                // SAFETY: the caller has the features.
                mask: unsafe { V::mask(columns - (vectors - 1) * V::LANES) },
            };
            // SAFETY: the caller has the features; the sizes of both operands and of the result
            // were checked above.
            unsafe {
                match (vectors, columns == vectors * V::LANES) {
                    (1, true) => strips::<V, M, 1, true>(t, job.rows),
                    (1, false) => strips::<V, M, 1, false>(t, job.rows),
                    (2, true) => strips::<V, M, 2, true>(t, job.rows),
                    (2, false) => strips::<V, M, 2, false>(t, job.rows),
                    (3, true) if WIDEST > 2 => strips::<V, M, 3, true>(t, job.rows),
                    (3, false) if WIDEST > 2 => strips::<V, M, 3, false>(t, job.rows),
                    _ => unreachable!("a panel of {vectors} registers"),
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn avx2(job: &GemmBlock, y: &mut [f32]) {
    // SAFETY: this function has the features.
    unsafe { block::<__m256, 6, 2>(job, y) }
}

#[target_feature(enable = "avx512f")]
fn avx512(job: &GemmBlock, y: &mut [f32]) {
    // SAFETY: this function has the features.
    unsafe { block::<__m512, 8, 3>(job, y) }
}

// SAFETY of the calls: `Levels::at` hands out a kernel only where the processor has the features.
pub(super) const AVX2: GemmKernel =
    GemmKernel { lanes: 8, vectors: 2, rows: 6, block: |job, y| unsafe { avx2(job, y) } };
pub(super) const AVX512: GemmKernel =
    GemmKernel { lanes: 16, vectors: 3, rows: 8, block: |job, y| unsafe { avx512(job, y) } };
