//! How much has been multiplied.

use std::sync::atomic::{AtomicU64, Ordering};

static MULTIPLY_ADDS: AtomicU64 = AtomicU64::new(0);

/// Multiply-adds of all products of floats that this process has computed: what each kernel says
/// that it costs, from its shapes and stored entries. What is done element by element is not in it.
pub fn multiply_adds() -> u64 {
    MULTIPLY_ADDS.load(Ordering::Relaxed)
}

/// Counts the multiply-adds of one product: once a call of a kernel, never inside its loops.
#[inline]
pub fn count(multiply_adds: usize) {
    MULTIPLY_ADDS.fetch_add(multiply_adds as u64, Ordering::Relaxed);
}
