//! An array in a file of its own.

use super::npz::npy::Array;
use crate::error::{Error, Result};
use crate::files::Budget;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Reads an array of a file of its own; `key` is what it holds.
pub(super) fn array_file(path: &Path, key: &'static str) -> Result<Array> {
    let open = |error: std::io::Error| Error::file(path, format!("cannot be opened: {error}"));
    let file = File::open(path).map_err(open)?;
    let bytes = file.metadata().map_err(open)?.len();
    Array::read(key, &mut BufReader::new(file), bytes, &Budget::of_bytes(bytes))
        .map_err(|problem| Error::file(path, format!("`{key}` {problem}")))
}
