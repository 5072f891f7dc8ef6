//! The finish of integer products in AVX2 registers, for all levels that have them. Its safe
//! portable twin is `Finish::write`.
//!
//! A division is what costs most there: with a correctly rounded inverse, three multiply-adds give
//! the same quotient to the bit.
#![allow(unsafe_code)]

use super::finish::{Activate, Finish, Out};
use super::round::SAFE_SCALES;
use std::arch::x86_64::*;

/// Numbers of a register.
const LANES: usize = 8;

/// Accumulators of some rows: where they lie, and where their outputs go.
pub(super) struct Tile<'a> {
    /// Row `r` begins at `r·stride`.
    pub(super) acc: &'a [i32],
    pub(super) stride: usize,
    pub(super) rows: usize,
    /// Columns.
    pub(super) count: usize,
    /// The first row and the first column of the product.
    pub(super) i: usize,
    pub(super) first: usize,
    /// Where the first output stands, and how far apart rows are.
    pub(super) at: usize,
    pub(super) width: usize,
}

impl Tile<'_> {
    /// Whether all of it lies in accumulators and in an output of so many numbers, and the finish
    /// has all columns and rows.
    fn fits(&self, finish: &Finish, out: usize) -> bool {
        let last = self.rows.saturating_sub(1);
        let columns = self.first + self.count;
        last * self.stride + self.count <= self.acc.len()
            && self.at + last * self.width + self.count <= out
            && finish.cols.len() >= columns
            && finish.bias.is_none_or(|bias| bias.len() >= columns)
            && finish.rows.is_none_or(|rows| rows.len() >= self.i + self.rows)
    }
}

/// [`Finish`] of a tile.
#[target_feature(enable = "avx2,fma")]
pub(super) fn finish(finish: &Finish, tile: &Tile, out: &mut Out) {
    assert!(tile.fits(finish, out.len()), "integer product: a tile outside of its output");
    let relu = match (finish.activate, &*out) {
        (Activate::Map(_), _) => return slowly(finish, tile, out),
        (_, Out::Int { scale, .. }) if !SAFE_SCALES.contains(scale) => {
            return slowly(finish, tile, out);
        }
        (Activate::Relu, _) => true,
        (Activate::Identity, _) => false,
    };
    // SAFETY: the tile lies within its slices.
    unsafe {
        match (out, finish.bias.is_some()) {
            (Out::Int { data, scale, qmax }, true) => {
                to_ints::<true>(finish, tile, relu, (*scale, *qmax), data)
            }
            (Out::Int { data, scale, qmax }, false) => {
                to_ints::<false>(finish, tile, relu, (*scale, *qmax), data)
            }
            (Out::Real(y), true) => to_reals::<true, false>(finish, tile, relu, y),
            (Out::Real(y), false) => to_reals::<false, false>(finish, tile, relu, y),
            (Out::Added(y), true) => to_reals::<true, true>(finish, tile, relu, y),
            (Out::Added(y), false) => to_reals::<false, true>(finish, tile, relu, y),
        }
    }
}

/// The form for everything, which calls functions and divides.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
fn slowly(finish: &Finish, tile: &Tile, out: &mut Out) {
    for r in 0..tile.rows {
        let acc = &tile.acc[r * tile.stride..][..tile.count];
        finish.write::<true>(tile.i + r, tile.first, acc, out, tile.at + r * tile.width);
    }
}

/// Where the accumulators of one row and the numbers of their columns begin.
#[derive(Clone, Copy)]
struct Row {
    factor: __m256,
    acc: *const i32,
    cols: *const f32,
    bias: *const f32,
}

impl Row {
    /// Row `r` of a tile.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn of(finish: &Finish, tile: &Tile, r: usize) -> Self {
        let factor = match finish.rows {
            Some(rows) => rows[tile.i + r],
            None => 1.0,
        };
        let bias = match finish.bias {
            Some(bias) => bias[tile.first..].as_ptr(),
            None => std::ptr::null(),
        };
        let acc = tile.acc[r * tile.stride..].as_ptr();
        Self { factor: _mm256_set1_ps(factor), acc, cols: finish.cols[tile.first..].as_ptr(), bias }
    }

    /// `acc·(row·col)` of eight numbers from column `c` on, added to `before` if `ADD`, then the
    /// bias if `BIAS`.
    ///
    /// # Safety
    /// There are eight.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn eight<const BIAS: bool, const ADD: bool>(
        &self,
        c: usize,
        before: *const f32,
    ) -> __m256 {
        // SAFETY: as the function says.
        unsafe {
            let acc = _mm256_cvtepi32_ps(_mm256_loadu_si256(self.acc.add(c).cast()));
            let mut y =
                _mm256_mul_ps(acc, _mm256_mul_ps(self.factor, _mm256_loadu_ps(self.cols.add(c))));
            if ADD {
                y = _mm256_add_ps(_mm256_loadu_ps(before), y);
            }
            if BIAS {
                y = _mm256_add_ps(y, _mm256_loadu_ps(self.bias.add(c)));
            }
            y
        }
    }

    /// The first `count` numbers from column `c` on, zeros after them.
    ///
    /// # Safety
    /// There are `count`, less than eight.
    #[inline(never)]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn part<const BIAS: bool, const ADD: bool>(
        &self,
        c: usize,
        before: *const f32,
        count: usize,
    ) -> __m256 {
        let (mut acc, mut cols, mut bias, mut stood) =
            ([0; LANES], [0.0; LANES], [0.0; LANES], [0.0; LANES]);
        // SAFETY: as the function says; the copies hold eight numbers.
        unsafe {
            for k in 0..count {
                (acc[k], cols[k]) = (*self.acc.add(c + k), *self.cols.add(c + k));
                if BIAS {
                    bias[k] = *self.bias.add(c + k);
                }
                if ADD {
                    stood[k] = *before.add(k);
                }
            }
            let row = Row {
                factor: self.factor,
                acc: acc.as_ptr(),
                cols: cols.as_ptr(),
                bias: bias.as_ptr(),
            };
            row.eight::<BIAS, ADD>(0, stood.as_ptr())
        }
    }
}

/// # Safety
/// The tile lies within its slices.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn to_ints<const BIAS: bool>(
    finish: &Finish,
    tile: &Tile,
    relu: bool,
    (scale, qmax): (f32, i8),
    data: &mut [i8],
) {
    let by = Rounding::new(scale, qmax, relu);
    for r in 0..tile.rows {
        let row = Row::of(finish, tile, r);
        let q = data[tile.at + r * tile.width..].as_mut_ptr();
        let mut c = 0;
        // SAFETY: `c` and the numbers after it stay within the tile.
        unsafe {
            let round = |c: usize| by.round(row.eight::<BIAS, false>(c, std::ptr::null()));
            while c + 4 * LANES <= tile.count {
                let a = _mm256_packs_epi32(round(c), round(c + LANES));
                let b = _mm256_packs_epi32(round(c + 2 * LANES), round(c + 3 * LANES));
                // Packing works within lanes of 128 bits.
                let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
                let packed = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b), order);
                let nan = _mm256_cmpeq_epi8(packed, _mm256_set1_epi8(i8::MIN));
                _mm256_storeu_si256(q.add(c).cast(), _mm256_andnot_si256(nan, packed));
                c += 4 * LANES;
            }
            while c + 2 * LANES <= tile.count {
                let order = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(
                    round(c),
                    round(c + LANES),
                ));
                let packed = _mm_packs_epi16(
                    _mm256_castsi256_si128(order),
                    _mm256_extracti128_si256::<1>(order),
                );
                _mm_storeu_si128(q.add(c).cast(), without_nan(packed));
                c += 2 * LANES;
            }
            while c < tile.count {
                let count = LANES.min(tile.count - c);
                let eight = if count == LANES {
                    round(c)
                } else {
                    by.round(row.part::<BIAS, false>(c, std::ptr::null(), count))
                };
                let half = _mm_packs_epi32(
                    _mm256_castsi256_si128(eight),
                    _mm256_extracti128_si256::<1>(eight),
                );
                let packed = without_nan(_mm_packs_epi16(half, half));
                if count == LANES {
                    _mm_storel_epi64(q.add(c).cast(), packed);
                } else {
                    let bytes = _mm_cvtsi128_si64(packed).to_le_bytes();
                    for (k, byte) in bytes.into_iter().enumerate().take(count) {
                        *q.add(c + k) = byte as i8;
                    }
                }
                c += count;
            }
        }
    }
}

/// # Safety
/// The tile lies within its slices.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
unsafe fn to_reals<const BIAS: bool, const ADD: bool>(
    finish: &Finish,
    tile: &Tile,
    relu: bool,
    y: &mut [f32],
) {
    // What a number must be above to stay; a comparison with NaN fails, and NaN stays.
    let least = _mm256_set1_ps(if relu { 0.0 } else { f32::NEG_INFINITY });
    for r in 0..tile.rows {
        let row = Row::of(finish, tile, r);
        let to = y[tile.at + r * tile.width..].as_mut_ptr();
        let mut c = 0;
        // SAFETY: `c` and the numbers after it stay within the tile.
        unsafe {
            while c + LANES <= tile.count {
                let real = row.eight::<BIAS, ADD>(c, to.add(c));
                let real = if relu {
                    _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(real, least), real)
                } else {
                    real
                };
                _mm256_storeu_ps(to.add(c), real);
                c += LANES;
            }
            if c < tile.count {
                let count = tile.count - c;
                let real = row.part::<BIAS, ADD>(c, to.add(c), count);
                let real = if relu {
                    _mm256_andnot_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(real, least), real)
                } else {
                    real
                };
                let mut part = [0.0f32; LANES];
                _mm256_storeu_ps(part.as_mut_ptr(), real);
                for (k, &real) in part.iter().enumerate().take(count) {
                    *to.add(c + k) = real;
                }
            }
        }
    }
}

/// What turns a real number into an integer of one scale.
#[derive(Clone, Copy)]
struct Rounding {
    scale: __m256,
    inverse: __m256,
    /// A quarter of a step past the largest integer, and its negative or zero: what lies beyond
    /// becomes this, and it rounds to that integer.
    upper: __m256,
    lower: __m256,
}

impl Rounding {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(scale: f32, qmax: i8, relu: bool) -> Self {
        let limit = (f32::from(qmax) + 0.25) * scale;
        Self {
            scale: _mm256_set1_ps(scale),
            inverse: _mm256_set1_ps(1.0 / scale),
            upper: _mm256_set1_ps(limit),
            lower: _mm256_set1_ps(if relu { 0.0 } else { -limit }),
        }
    }

    /// `round_ties_even(y / scale)` within the limits; the smallest 32-bit integer for NaN.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn round(self, y: __m256) -> __m256i {
        // The operand that a comparison with NaN gives is the second one.
        let y = _mm256_min_ps(self.upper, _mm256_max_ps(self.lower, y));
        let near = _mm256_mul_ps(y, self.inverse);
        let rest = _mm256_fnmadd_ps(near, self.scale, y);
        _mm256_cvtps_epi32(_mm256_fmadd_ps(rest, self.inverse, near))
    }
}

/// Zero in place of what NaN becomes.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn without_nan(q: __m128i) -> __m128i {
    _mm_andnot_si128(_mm_cmpeq_epi8(q, _mm_set1_epi8(i8::MIN)), q)
}
