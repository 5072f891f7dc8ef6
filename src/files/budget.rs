//! What reading a file may allocate, decided in one place.
//!
//! A file of a few bytes can claim any shape, and an archive of a few kilobytes unpacks to
//! megabytes. So every number that a reader takes memory for is first asked for here, and what was
//! asked for is counted.

use std::cell::Cell;

/// How many times its own bytes a file may unpack to: tables of numbers pack about ten to one,
/// columns of one repeated word a hundred to one, and what is made to fill the memory a thousand to
/// one.
pub const FACTOR: u64 = 250;

/// Bytes that a short file may have beside.
pub const SHORT: u64 = 1 << 20;

/// Bytes from which on the system is asked for room before a reader allocates.
const LARGE: u64 = 1 << 20;

/// What is asked for, in sizes of the array: the numbers as they lie unpacked, widened to eight
/// bytes, and a copy in the form that is kept.
const COPIES: u64 = 4;

/// The account of one file. Numbers are counted as they lie in the file or would lie unpacked; a
/// reader that widens them or keeps two copies takes a small multiple of that, at most sixteen
/// times.
#[derive(Debug, Clone)]
pub struct Budget {
    file: u64,
    left: Cell<u64>,
}

impl Budget {
    /// For a file of so many bytes.
    pub fn of_bytes(file: u64) -> Self {
        Self { file, left: Cell::new(file.saturating_mul(FACTOR).saturating_add(SHORT)) }
    }

    /// Bytes that may still be asked for.
    pub fn left(&self) -> u64 {
        self.left.get()
    }

    /// Takes room for an array of `shape` with `size` bytes per number. An axis of length zero
    /// counts as one: an array without numbers can have an axis that is longer than any memory, and
    /// code that walks along it.
    ///
    /// Where the array is large, the system is asked whether it has memory for it and its copies:
    /// the allocations that follow have no way to fail but to end the process.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence, where there is no room.
    pub fn take(&self, shape: &[usize], size: usize) -> Result<(), String> {
        let bytes = shape
            .iter()
            .try_fold(size as u64, |bytes, &axis| bytes.checked_mul(axis.max(1) as u64));
        match bytes.and_then(|bytes| self.left.get().checked_sub(bytes)) {
            Some(left) => {
                let taken = self.left.replace(left) - left;
                if taken < LARGE { Ok(()) } else { room_for(taken.saturating_mul(COPIES)) }
            }
            None => Err(format!(
                "claims the shape {shape:?}; a file of {} bytes may hold {FACTOR} times that and {} KB, of which {} bytes are left",
                self.file,
                SHORT >> 10,
                self.left.get()
            )),
        }
    }
}

/// Whether the system has so much memory at this moment.
fn room_for(bytes: u64) -> Result<(), String> {
    reserved::<u8>(usize::try_from(bytes).unwrap_or(usize::MAX)).map(|_| ())
}

/// An empty vector with room for `len` numbers.
///
/// # Errors
/// What is wrong, as the end of a sentence, where the system has no memory for it.
pub fn reserved<T>(len: usize) -> Result<Vec<T>, String> {
    let mut room = Vec::new();
    match room.try_reserve_exact(len) {
        Ok(()) => Ok(room),
        Err(_) => Err(no_room(len.saturating_mul(size_of::<T>()))),
    }
}

/// The end of a sentence about what needs so many bytes.
pub fn no_room(bytes: usize) -> String {
    format!("needs {} MB, for which there is no memory", bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_gone_and_empty_axes_hide_nothing() {
        let budget = Budget::of_bytes(10);
        assert_eq!(budget.left(), 2500 + SHORT);
        budget.take(&[100, 5], 4).unwrap();
        assert_eq!(budget.left(), 500 + SHORT);
        for shape in
            [&[0, usize::MAX][..], &[1 << 60, 0], &[1 << 40, 1 << 40], &[1, SHORT as usize + 501]]
        {
            let message = budget.take(shape, 1).unwrap_err();
            assert!(
                message.starts_with("claims the shape") && message.contains("a file of 10 bytes"),
                "{message}"
            );
        }
        assert_eq!(budget.left(), 500 + SHORT);
        assert_eq!(reserved::<u64>(64).unwrap().capacity(), 64);
        assert!(reserved::<u64>(usize::MAX / 16).unwrap_err().contains("no memory"));
    }
}
