//! Memory for arrays that are read row by row: it begins at a cache line, and lies on huge pages
//! where the system has them.
//!
//! An allocator promises 16 bytes. A row of 16 numbers then lies on two cache lines instead of one,
//! a wider one on one line more than it fills, and half of all registers are loaded from two lines.
//! And a gather reads rows all over an array: with pages of 4 KiB nearly every row of an array of
//! 90 MB misses the table of addresses, and the first touch of every page costs a call into the
//! kernel. What both are worth is in `docs/performance.md`.
#![allow(unsafe_code)]

use ndarray::{Array1, Array2, ArrayView2, s};
use std::ops::{Deref, DerefMut};

/// Arrays from this size on are worth huge pages.
const WORTH_BYTES: usize = 4 << 20;

/// Huge pages of x86-64, and of most others, or a multiple of theirs.
const PAGE: usize = 2 << 20;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Numbers that begin at a cache line, in memory that is advised to lie on huge pages where it is
/// large; what comes from an array stays where it is.
#[derive(Debug, Default)]
pub struct Buffer<T> {
    numbers: Vec<T>,
    first: usize,
    len: usize,
}

impl<T: Copy + Default> Buffer<T> {
    /// So many zeros.
    pub fn zeros(len: usize) -> Self {
        let (align, spare) = (Self::align(len), Self::spare(len));
        let numbers = vec![T::default(); len + spare];
        advise(&numbers);
        let first = numbers.as_ptr().align_offset(align).min(spare);
        Self { numbers, first, len }
    }

    /// Where a buffer of so many numbers begins: what is worth huge pages, at one, since else up to
    /// two of few would be cut into small ones.
    fn align(len: usize) -> usize {
        let bytes = len.saturating_mul(size_of::<T>().max(1));
        if bytes >= WORTH_BYTES { PAGE } else { LINE }
    }

    /// How many numbers more than these a buffer of them may have room for.
    pub fn spare(len: usize) -> usize {
        Self::align(len) / size_of::<T>().max(1)
    }

    /// How many numbers it has room for.
    pub fn capacity(&self) -> usize {
        self.numbers.len() - self.first
    }

    /// The same memory, of which so many numbers are used.
    ///
    /// # Panics
    /// If it has no room for them.
    #[must_use]
    pub fn with_len(self, len: usize) -> Self {
        assert!(len <= self.capacity(), "a buffer of {} for {len} numbers", self.capacity());
        Self { len, ..self }
    }

    /// The same memory as an array.
    ///
    /// # Panics
    /// If the shape has another number of elements.
    pub fn into_array(self, shape: (usize, usize)) -> Array2<T> {
        let numbers = Array1::from(self.numbers).slice_move(s![self.first..self.first + self.len]);
        numbers.into_shape_with_order(shape).expect("as many numbers as rows times columns")
    }

    /// The memory of an array whose rows lie one after the other; of no other.
    pub fn of(array: Array2<T>) -> Option<Self> {
        let len = array.len();
        if !array.is_standard_layout() {
            return None;
        }
        let (numbers, first) = array.into_raw_vec_and_offset();
        Some(Self { numbers, first: first.unwrap_or(0), len })
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.numbers[self.first..][..self.len]
    }
}

impl<T> DerefMut for Buffer<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.numbers[self.first..][..self.len]
    }
}

impl<T: Copy + Default> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.len);
        copy.copy_from_slice(self);
        copy
    }
}

/// An array of zeros in a [`Buffer`].
pub fn zeros<T: Copy + Default>(shape: (usize, usize)) -> Array2<T> {
    Buffer::zeros(shape.0 * shape.1).into_array(shape)
}

/// A copy in a [`Buffer`].
pub fn copied<T: Copy + Default>(array: ArrayView2<T>) -> Array2<T> {
    let mut copy = zeros(array.dim());
    copy.assign(&array);
    copy
}

/// The array itself where it begins at a cache line, else a copy that does.
pub fn aligned<T: Copy + Default>(array: Array2<T>) -> Array2<T> {
    let fits = array.is_standard_layout() && array.as_ptr().align_offset(LINE) == 0;
    if fits { array } else { copied(array.view()) }
}

/// Tells the system that `data` is read all over; it keeps its contents, and what the system makes
/// of the hint changes no result.
pub fn advise<T>(data: &[T]) {
    if size_of_val(data) >= WORTH_BYTES {
        ask(data.as_ptr() as usize, size_of_val(data));
    }
}

#[cfg(target_os = "linux")]
fn ask(begin: usize, bytes: usize) {
    let (first, end) = (begin.next_multiple_of(PAGE), (begin + bytes) / PAGE * PAGE);
    if end > first {
        // SAFETY: the range lies within one live allocation, and the advice changes neither
        // contents nor mapping. A refusal is no error.
        unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask(_: usize, _: usize) {}

/// How many edges ahead a row is fetched where a target's edges are walked one by one.
pub(super) const AHEAD: usize = 8;

/// Asks for the cache lines of `count` numbers that are needed soon. Nothing is read: they need not
/// be there.
#[inline(always)]
pub(super) fn prefetch<T>(at: *const T, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in 0..(count * size_of::<T>()).div_ceil(LINE) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch never faults, wherever it points, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.wrapping_byte_add(LINE * line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (at, count);
}

/// Hands memory that is free, but kept for later by the allocator, back to the system: reading a
/// large graph leaves about as much as the graph takes. It is for programs to call, at a moment of
/// their choice; the library never does. Does nothing but on Linux with glibc.
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: only memory that nobody holds is handed back.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zero_begin_at_a_line_and_become_arrays_and_back() {
        for len in [1, 3, WORTH_BYTES / 4 - 1, 3 * WORTH_BYTES / 4 + 5] {
            let mut buffer = Buffer::<f32>::zeros(len);
            assert!(
                buffer.len() == len
                    && buffer.iter().all(|v| *v == 0.0)
                    && buffer.as_ptr().addr().is_multiple_of(LINE)
            );
            buffer.iter_mut().enumerate().for_each(|(k, v)| *v = k as f32);
            let at = buffer.as_ptr();
            let copy = buffer.clone();
            assert!(copy[..] == buffer[..] && copy.as_ptr().addr().is_multiple_of(LINE));
            let array = buffer.into_array((len, 1));
            assert_eq!((array.as_ptr(), array.iter().sum::<f32>()), (at, copy.iter().sum()));
            assert_eq!(Buffer::of(array).map(|back| back.as_ptr()), Some(at));
        }
        assert!(
            zeros::<f32>((0, 3)).is_empty()
                && Buffer::of(zeros::<f32>((2, 3)).reversed_axes()).is_none()
        );
    }

    #[test]
    fn advice_changes_no_contents() {
        let data: Vec<usize> = (0..WORTH_BYTES / 4).collect();
        advise(&data);
        assert!(data.iter().enumerate().all(|(k, &v)| k == v));
    }

    #[test]
    fn an_array_that_begins_elsewhere_is_copied() {
        let whole = zeros::<f64>((5, 4)).mapv_into(|_| 2.0);
        let at = whole.as_ptr();
        let kept = aligned(whole);
        assert_eq!(kept.as_ptr(), at);
        let moved = aligned(kept.slice_move(s![1.., ..3]));
        assert!(
            moved.dim() == (4, 3)
                && moved.as_ptr().addr().is_multiple_of(LINE)
                && moved.iter().all(|v| *v == 2.0)
        );
    }
}
