//! AVX2 and AVX-512 forms of the sparse kernels in `f32`. Every function has a safe twin in
//! `portable.rs`.
//!
//! One generic body per kernel, over a small trait of vector registers, is compiled once per level
//! inside a `#[target_feature]` function. The products keep the numbers of one output row in
//! registers over all its entries; a masked last register takes widths that are no multiple of the
//! register.
#![allow(unsafe_code)]

use super::portable::{EdgeDot, SparseKernels, Spmm};
use crate::kernels::buffer::prefetch;
use crate::kernels::simd_x86::Vector;
use std::arch::x86_64::*;
use std::ops::Range;

/// Numbers that are fetched ahead of those being added: a narrow row takes less time than memory
/// does to answer, so more of them are under way at once.
const AHEAD: usize = 512;

/// How many entries ahead a row of this width is fetched.
fn distance(width: usize) -> usize {
    (AHEAD / width.max(1)).clamp(8, 32)
}

/// Fetching ahead pays where the gathered array exceeds the cache near the core (1 MB and more on
/// server cores) ...
const CACHE_BYTES: usize = 1 << 20;

/// ... and up to this width; a wider row keeps the processor's own prefetcher busy.
const MAX_AHEAD_WIDTH: usize = 256;

fn fetch_ahead(gathered: &[f32], width: usize) -> bool {
    width <= MAX_AHEAD_WIDTH && size_of_val(gathered) > CACHE_BYTES
}

/// `N` registers of one output row from channel `first` on; the last one holds only the lanes of
/// `mask` if `TAIL`.
///
/// # Safety
/// As [`Vector`]; `to` is valid for those channels.
#[inline(always)]
unsafe fn row_part<V: Vector, const N: usize, const TAIL: bool, const AHEAD: bool>(
    job: &Spmm<f32>,
    edges: Range<usize>,
    first: usize,
    mask: V::Mask,
    to: *mut f32,
) {
    // The last register of a row may have fewer lanes than a register. Masked loads neither read
    // nor fault outside of the mask, so that a tail needs no copy and no second loop; whole
    // registers are not masked, since AVX2 pays for it.
    let whole = if TAIL { N - 1 } else { N };
    let distance = distance(job.width);
    let last = job.cols.len().saturating_sub(1);
    let base = job.x.as_ptr().wrapping_add(first);
    // A row that begins within a cache line may end on one more.
    let split = !base.addr().is_multiple_of(64) || !job.width.is_multiple_of(16);
    // SAFETY: the caller has the features. `j` is checked against the rows of `x`, and `first` and
    // `mask` stay within a row.
    unsafe {
        let mut sums = [V::splat(0.0); N];
        if job.epilogue.add {
            for (k, sum) in sums.iter_mut().enumerate().take(whole) {
                *sum = V::load(to.add(k * V::LANES));
            }
            if TAIL {
                sums[N - 1] = V::load_part(to.add(whole * V::LANES), mask);
            }
        }
        for (e, (&j, &weight)) in
            edges.clone().zip(job.cols[edges.clone()].iter().zip(&job.vals[edges]))
        {
            if AHEAD {
                let next = base.wrapping_add(
                    *job.cols.get_unchecked((e + distance).min(last)) as usize * job.width,
                );
                prefetch(next, N * V::LANES);
                if split {
                    prefetch(next.wrapping_add(N * V::LANES - 1), 1);
                }
            }
            let x = job.x[j as usize * job.width..][..job.width].as_ptr().add(first);
            let weight = V::splat(weight);
            for (k, sum) in sums.iter_mut().enumerate().take(whole) {
                *sum = V::load(x.add(k * V::LANES)).mul_add(weight, *sum);
            }
            if TAIL {
                sums[N - 1] =
                    V::load_part(x.add(whole * V::LANES), mask).mul_add(weight, sums[N - 1]);
            }
        }
        if let Some(bias) = job.epilogue.bias {
            let bias = bias[first..].as_ptr();
            for (k, sum) in sums.iter_mut().enumerate().take(whole) {
                *sum = sum.add(V::load(bias.add(k * V::LANES)));
            }
            if TAIL {
                sums[N - 1] = sums[N - 1].add(V::load_part(bias.add(whole * V::LANES), mask));
            }
        }
        if job.epilogue.relu {
            for sum in &mut sums {
                *sum = sum.relu();
            }
        }
        for (k, sum) in sums.iter().enumerate().take(whole) {
            sum.store(to.add(k * V::LANES));
        }
        if TAIL {
            sums[N - 1].store_part(to.add(whole * V::LANES), mask);
        }
    }
}

/// Rows `block` of a product.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn spmm_rows<V: Vector, const AHEAD: bool>(
    job: &Spmm<f32>,
    block: Range<usize>,
    y: &mut [f32],
) {
    assert_eq!(y.len(), block.len() * job.width);
    let lanes_left = job.width % V::LANES;
    // SAFETY: the caller has the features.
    let mask = unsafe { V::mask(lanes_left) };
    for (i, y) in block.zip(y.chunks_exact_mut(job.width)) {
        let edges = job.starts[i]..job.starts[i + 1];
        if edges.is_empty() && job.epilogue.bias.is_none() && !job.epilogue.add {
            y.fill(0.0);
            continue;
        }
        let mut first = 0;
        while first < job.width {
            let left = (job.width - first).div_ceil(V::LANES);
            let count = match left.min(V::MOST) {
                16 => 16,
                12.. => 12,
                8.. => 8,
                fewer => fewer,
            };
            let tail = count == left && lanes_left != 0;
            // SAFETY: `first + count · LANES` ends within the row, or within its masked lanes if
            // `tail`.
            unsafe {
                let to = y.as_mut_ptr().add(first);
                let edges = edges.clone();
                macro_rules! part {
                    ($($n:literal)*) => {
                        match (count, tail) {
                            $(($n, false) if $n <= V::MOST => row_part::<V, $n, false, AHEAD>(job, edges, first, mask, to),
                              ($n, true) if $n <= V::MOST => row_part::<V, $n, true, AHEAD>(job, edges, first, mask, to),)*
                            _ => unreachable!("counts are those above"),
                        }
                    };
                }
                part!(1 2 3 4 5 6 7 8 12 16);
            }
            first += count * V::LANES;
        }
    }
}

/// The dot products of edges `block`.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn dots<V: Vector>(job: &EdgeDot<f32>, block: Range<usize>, out: &mut [f32]) {
    /// Registers of sums of one dot product.
    const N: usize = 4;
    let ahead = fetch_ahead(job.b, job.width);
    let begin = block.start;
    let (width, last) = (job.width, job.cols.len().saturating_sub(1));
    // SAFETY: the caller has the features.
    let mask = unsafe { V::mask(width % V::LANES) };
    for (i, edges) in job.rows(block) {
        let a = &job.a[i * width..][..width];
        for e in edges {
            let b = &job.b[job.cols[e] as usize * width..][..width];
            // SAFETY: the caller has the features; both rows hold `width` numbers.
            unsafe {
                if ahead {
                    let next = job
                        .b
                        .as_ptr()
                        .wrapping_add(job.cols[(e + distance(width)).min(last)] as usize * width);
                    prefetch(next, width);
                }
                let (a, b) = (a.as_ptr(), b.as_ptr());
                let mut sums = [V::splat(0.0); N];
                let mut c = 0;
                while c + N * V::LANES <= width {
                    for (k, sum) in sums.iter_mut().enumerate() {
                        let c = c + k * V::LANES;
                        *sum = V::load(a.add(c)).mul_add(V::load(b.add(c)), *sum);
                    }
                    c += N * V::LANES;
                }
                while c + V::LANES <= width {
                    sums[0] = V::load(a.add(c)).mul_add(V::load(b.add(c)), sums[0]);
                    c += V::LANES;
                }
                if c < width {
                    sums[1] =
                        V::load_part(a.add(c), mask).mul_add(V::load_part(b.add(c), mask), sums[1]);
                }
                out[e - begin] = sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum();
            }
        }
    }
}

/// The functions of one level, compiled with its features, and the table of them.
macro_rules! level {
    ($module:ident, $table:ident, $vector:ty, $features:literal) => {
        mod $module {
            use super::*;

            #[target_feature(enable = $features)]
            fn spmm(job: &Spmm<f32>, block: Range<usize>, y: &mut [f32]) {
                // SAFETY: this function has the features.
                unsafe {
                    if fetch_ahead(job.x, job.width) {
                        spmm_rows::<$vector, true>(job, block, y)
                    } else {
                        spmm_rows::<$vector, false>(job, block, y)
                    }
                }
            }

            #[target_feature(enable = $features)]
            fn edge_dot(job: &EdgeDot<f32>, block: Range<usize>, out: &mut [f32]) {
                // SAFETY: this function has the features.
                unsafe { dots::<$vector>(job, block, out) }
            }

            pub(in super::super) const TABLE: SparseKernels = SparseKernels {
                // SAFETY of the calls: `Levels::at` hands out this table only where the processor
                // has the features.
                spmm: |job, block, y| unsafe { spmm(job, block, y) },
                edge_dot: |job, block, out| unsafe { edge_dot(job, block, out) },
            };
        }
        pub(super) use $module::TABLE as $table;
    };
}

level!(avx2, AVX2, __m256, "avx2,fma");
level!(avx512, AVX512, __m512, "avx512f");
