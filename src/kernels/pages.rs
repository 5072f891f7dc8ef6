//! Memory for large arrays, on huge pages where the system has them.
//!
//! A gather reads rows all over an array; with pages of 4 KiB nearly every row of an array of 90 MB misses the table of addresses, and the
//! first touch of every page costs a call into the kernel. Asking for pages of 2 MiB halves the time of the gather (`docs/performance.md`).
#![allow(unsafe_code)]

/// Arrays from this size on are worth it.
const WORTH_BYTES: usize = 4 << 20;

/// Zeros, in memory that is advised to lie on huge pages where it is large.
pub fn zeros<T: Copy + Default>(len: usize) -> Vec<T> {
    let zeros = vec![T::default(); len];
    advise(&zeros);
    zeros
}

/// A copy, in memory that is advised to lie on huge pages where it is large.
pub fn copied<T: Copy + Default>(from: &[T]) -> Vec<T> {
    let mut copy = zeros(from.len());
    copy.copy_from_slice(from);
    copy
}

/// Tells the system that `data` is read all over; it keeps its contents, and what the system makes of the hint changes no result.
pub fn advise<T>(data: &[T]) {
    if size_of_val(data) >= WORTH_BYTES {
        ask(data.as_ptr() as usize, size_of_val(data));
    }
}

#[cfg(target_os = "linux")]
fn ask(begin: usize, bytes: usize) {
    /// Huge pages of x86-64, and of most others, or a multiple of theirs.
    const PAGE: usize = 2 << 20;
    let (first, end) = (begin.next_multiple_of(PAGE), (begin + bytes) / PAGE * PAGE);
    if end > first {
        // SAFETY: the range lies within one live allocation, and the advice changes neither contents nor mapping. A refusal is no error.
        unsafe { libc::madvise(first as *mut libc::c_void, end - first, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
fn ask(_: usize, _: usize) {}

/// Hands memory that is free, but kept for later by the allocator, back to the system, once something of so many bytes was made. What it
/// was made from is about as large, and gone before the long use of what was made; where that is small, nothing happens.
pub fn release(made_bytes: usize) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if made_bytes >= WORTH_BYTES {
        // SAFETY: only memory that nobody holds is handed back.
        unsafe {
            libc::malloc_trim(0);
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = made_bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_changes_no_contents() {
        for len in [0, 3, WORTH_BYTES / 4 - 1, 3 * WORTH_BYTES / 4 + 5] {
            let mut data = zeros::<f32>(len);
            assert!(data.len() == len && data.iter().all(|v| *v == 0.0));
            data.iter_mut().enumerate().for_each(|(k, v)| *v = k as f32);
            advise(&data);
            assert_eq!(copied(&data), data);
        }
    }
}
