//! What holds of everything that is read, whatever the bytes.

use super::alloc;
use gnn_prune::files::budget::{FACTOR, SHORT};
use std::fmt::Display;

/// How many times what a budget grants a reader may take: it widens bytes to numbers of eight, and
/// keeps two copies.
const COPIES: u64 = 16;

/// What became of a case that broke no law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Read,
    Refused,
}

/// A law that a case broke.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Which one, and where in the code if that is known: the same fault has the same words here.
    pub law: String,
    /// The numbers.
    pub detail: String,
}

pub type Lawful<T> = Result<T, Broken>;

pub fn broken<T>(law: impl Into<String>, detail: impl Display) -> Lawful<T> {
    Err(Broken { law: law.into(), detail: detail.to_string() })
}

/// Reads something of so many bytes within what they are granted; `None` if it was refused, in one
/// line.
pub fn within<R, E: Display>(
    bytes: usize,
    read: impl FnOnce() -> Result<R, E>,
) -> Lawful<Option<R>> {
    let (found, most) = alloc::most(read);
    if most > COPIES * (FACTOR * bytes as u64 + SHORT) {
        return broken(
            "reading takes memory that its bytes do not grant",
            format!("{most} bytes for {bytes}"),
        );
    }
    said(found)
}

/// What was done, or `None` if it was refused in one line.
pub fn said<R, E: Display>(found: Result<R, E>) -> Lawful<Option<R>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) => {
            let message = error.to_string();
            let is_line = !message.trim().is_empty() && !message.contains(['\n', '\r']);
            if is_line {
                Ok(None)
            } else {
                broken("a message is not one line", format!("{message:?}"))
            }
        }
    }
}
