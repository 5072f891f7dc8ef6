//! Counts what each thread has allocated, and has no memory beyond a ceiling, so that a case ends
//! alike on every machine.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Bytes that one thread may hold; two threads stay below the limit of the process.
const CEILING: isize = 1536 << 20;

thread_local! {
    // Signed: a thread may free what another has allocated.
    static NOW: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

pub struct Counting;

fn granted(layout: Layout) -> bool {
    let now = NOW.get().saturating_add_unsigned(layout.size());
    if now > CEILING {
        return false;
    }
    NOW.set(now);
    MOST.set(MOST.get().max(now));
    true
}

// SAFETY: everything is handed on to the system's allocator, which keeps the contract, or refused
// by null, which the contract allows.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        if granted(layout) { unsafe { System.alloc(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller's.
        if granted(layout) { unsafe { System.alloc_zeroed(layout) } } else { std::ptr::null_mut() }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.set(NOW.get().saturating_sub_unsigned(layout.size()));
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What `f` gives, and the most bytes that this thread held during it beyond what it held before.
pub fn most<R>(f: impl FnOnce() -> R) -> (R, u64) {
    let before = NOW.get();
    MOST.set(before);
    let found = f();
    (found, MOST.get().saturating_sub(before).max(0) as u64)
}

/// Starts the account of a thread anew: a case that panicked may have lost something.
pub fn reset() {
    NOW.set(0);
}

/// No more memory than this for the whole process, so that a case cannot take the machine with it.
#[cfg(target_os = "linux")]
pub fn limit_process(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: the struct is whole and lives through the call. Where the limit is refused, a lower
    // one holds already.
    unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
}

#[cfg(not(target_os = "linux"))]
pub fn limit_process(_: u64) {}
