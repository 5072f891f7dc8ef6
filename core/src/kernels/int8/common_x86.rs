//! What several x86 forms of integer products share.

/// Bytes of rows that are fetched ahead of those being added: rows of bytes are added faster than
/// memory answers, so many are under way at once. Each pass over the channels asks for its own.
const AHEAD_BYTES: usize = 4096;

/// How many entries ahead a row of this width is fetched ...
pub(super) fn distance(width: usize) -> usize {
    (AHEAD_BYTES / width.max(1)).clamp(8, 48)
}

/// Four bytes from `k` on; those past the end are zero.
#[inline(always)]
pub(super) fn four(x: &[i8], k: usize) -> i32 {
    let mut four = [0u8; 4];
    for (four, &x) in four.iter_mut().zip(&x[k..]) {
        *four = x as u8;
    }
    i32::from_ne_bytes(four)
}
