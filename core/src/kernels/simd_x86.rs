//! Registers of `f32`, so that one body of a kernel is compiled for AVX2 and for AVX-512.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

/// Runs a body for every constant `k` below a constant, which is at most 8, one after the other.
///
/// An array is kept in registers only if every place in it is a constant when it is taken apart,
/// and in a crate that is compiled as one unit a loop may be unrolled after that: a dense product
/// kept its sums on the stack there, and took 1.9 times as long.
macro_rules! each {
    ($k:ident < $count:ident, $body:block) => {
        each!(@ $k $count $body 0 1 2 3 4 5 6 7)
    };
    (@ $k:ident $count:ident $body:block $($constant:literal)*) => {
        const { assert!($count <= 8, "not all are written out") };
        $(
            if $constant < $count {
                let $k: usize = $constant;
                $body
            }
        )*
    };
}
pub(super) use each;

/// A register of `f32`.
///
/// # Safety
/// The methods may only be called inside a function with the features of the level (and not from a
/// closure, which would be compiled without them); a pointer must be valid for all lanes, or for
/// the lanes of `mask`.
pub(super) trait Vector: Copy {
    const LANES: usize;
    /// Most registers of sums that are kept at once.
    const MOST: usize;
    type Mask: Copy;

    /// The mask of the first `lanes` lanes; all of them where that is their number.
    unsafe fn mask(lanes: usize) -> Self::Mask;
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// Lanes outside the mask are zero.
    unsafe fn load_part(from: *const f32, mask: Self::Mask) -> Self;
    /// `self · by + plus`, rounded once.
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// Zero in place of negative numbers; NaN stays.
    unsafe fn relu(self) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_part(self, to: *mut f32, mask: Self::Mask);
    /// The sum of all lanes, in one fixed order.
    unsafe fn sum(self) -> f32;
}

impl Vector for __m512 {
    const LANES: usize = 16;
    const MOST: usize = 16;
    type Mask = __mmask16;

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __mmask16 {
        ((1u32 << lanes) - 1) as __mmask16
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller has the features; nothing but registers is touched.
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has the features, and all lanes are there to be read.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, mask: __mmask16) -> Self {
        // SAFETY: the caller has the features, and the lanes of the mask are there to be read.
        unsafe { _mm512_maskz_loadu_ps(mask, from) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        // SAFETY: the caller has the features; nothing but registers is touched.
        unsafe { _mm512_fmadd_ps(self, by, plus) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller has the features; nothing but registers is touched.
        unsafe { _mm512_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // The second operand is what a comparison with NaN gives.
        // SAFETY: the caller has the features; nothing but registers is touched.
        unsafe { _mm512_max_ps(_mm512_setzero_ps(), self) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has the features, and all lanes are there to be written.
        unsafe { _mm512_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, mask: __mmask16) {
        // SAFETY: the caller has the features, and the lanes of the mask are there to be written.
        unsafe { _mm512_mask_storeu_ps(to, mask, self) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller has the features; nothing but registers is touched.
        unsafe { _mm512_reduce_add_ps(self) }
    }
}

impl Vector for __m256 {
    const LANES: usize = 8;
    const MOST: usize = 8;
    type Mask = __m256i;

    #[inline(always)]
    unsafe fn mask(lanes: usize) -> __m256i {
        // SAFETY: the caller has the features; nothing but registers is touched.
        unsafe {
            _mm256_cmpgt_epi32(
                _mm256_set1_epi32(lanes as i32),
                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
            )
        }
    }
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the caller has the features; nothing but registers is touched.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has the features, and all lanes are there to be read.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, mask: __m256i) -> Self {
        // SAFETY: the caller has the features, and the lanes of the mask are there to be read.
        unsafe { _mm256_maskload_ps(from, mask) }
    }
    #[inline(always)]
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
        // SAFETY: the caller has the features; nothing but registers is touched.
        unsafe { _mm256_fmadd_ps(self, by, plus) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the caller has the features; nothing but registers is touched.
        unsafe { _mm256_add_ps(self, other) }
    }
    #[inline(always)]
    unsafe fn relu(self) -> Self {
        // SAFETY: the caller has the features; nothing but registers is touched.
        unsafe { _mm256_max_ps(_mm256_setzero_ps(), self) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has the features, and all lanes are there to be written.
        unsafe { _mm256_storeu_ps(to, self) }
    }
    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, mask: __m256i) {
        // SAFETY: the caller has the features, and the lanes of the mask are there to be written.
        unsafe { _mm256_maskstore_ps(to, mask, self) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the caller has the features; nothing but registers is touched.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self), _mm256_extractf128_ps::<1>(self));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
