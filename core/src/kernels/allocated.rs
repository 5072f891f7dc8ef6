//! What is allocated, counted by the allocator of a program that wants to know.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

static COUNTS: AtomicBool = AtomicBool::new(false);
static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, and beside it how many bytes are allocated, and were at most: by it a
/// report knows what training takes.
///
/// A program that wants to be told installs it as its `#[global_allocator]` (`report::Meter`).
/// It costs two atomic additions an allocation.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

fn add(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    if now > MOST.load(Ordering::Relaxed) {
        MOST.fetch_max(now, Ordering::Relaxed);
    }
}

/// Of an allocation that may have failed.
fn counted(at: *mut u8, bytes: usize) -> *mut u8 {
    if !at.is_null() {
        COUNTS.store(true, Ordering::Relaxed);
        add(bytes);
    }
    at
}

// SAFETY: everything is handed on to the system's allocator, which keeps the contract; sums are
// kept beside.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        counted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        counted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller's.
        let moved = unsafe { System.realloc(at, layout, size) };
        if !moved.is_null() {
            NOW.fetch_sub(layout.size(), Ordering::Relaxed);
            add(size);
        }
        moved
    }
}

/// Bytes that are allocated now; `None` in a program without [`CountingAllocator`].
pub fn allocated() -> Option<usize> {
    COUNTS.load(Ordering::Relaxed).then(|| NOW.load(Ordering::Relaxed))
}

/// Most bytes that were allocated at once since [`forget_most`] was called last.
pub fn most_allocated() -> Option<usize> {
    COUNTS.load(Ordering::Relaxed).then(|| MOST.load(Ordering::Relaxed))
}

/// From now on the most that is allocated at once is what is allocated now.
pub fn forget_most() {
    MOST.store(NOW.load(Ordering::Relaxed), Ordering::Relaxed);
}
