//! Files are written beside their place and renamed, so that a crash loses nothing that was there; tensors are read from safetensors.

mod tensors;

pub use tensors::{Array, Tensors};

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Writes `bytes` to `path`: to a new file in the same folder first, which then takes the place of the old one.
///
/// # Errors
/// [`Error::File`] if the folder does not exist or cannot be written; the old file is then as it was.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().ok_or_else(|| Error::file(path, "is not the name of a file"))?;
    let mut beside = std::ffi::OsString::from(".");
    beside.push(name);
    beside.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(beside);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // The write failed already; a temporary file that cannot be removed either changes nothing for the caller.
        let _ = fs::remove_file(&temporary);
        Error::file(path, format!("cannot be written: {error}"))
    })
}

/// Reads a whole file.
///
/// # Errors
/// [`Error::File`] with the system's reason.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::file(path, format!("cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file_and_leaves_no_other() {
        let folder = std::env::temp_dir().join(format!("gnn-prune-files-{}", std::process::id()));
        fs::create_dir_all(folder.join("taken")).unwrap();
        let kept = folder.join("kept");
        write_atomically(&kept, b"old").unwrap();
        write_atomically(&kept, b"new").unwrap();
        assert_eq!(read(&kept).unwrap(), b"new");
        assert!(write_atomically(&folder.join("taken"), b"x").is_err(), "a folder cannot be replaced by a file");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "the temporary file must be gone");
        fs::remove_dir_all(&folder).unwrap();
    }
}
