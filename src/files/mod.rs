//! Files are written beside their place and renamed, so that a crash loses nothing that was there;
//! tensors are read from safetensors and files of PyTorch.

#[cfg(feature = "readers")]
mod array;
pub mod budget;
#[cfg(feature = "readers")]
mod kinds;
pub mod npy;
#[cfg(feature = "pt")]
mod pt;
#[cfg(feature = "readers")]
mod tensors;
mod write;

#[cfg(feature = "readers")]
pub use array::{Array, Tensors};
pub use budget::Budget;
#[cfg(feature = "report")]
pub(crate) use write::remove_half_written;
pub use write::write_atomically;

use crate::error::{Error, Result};
use std::fs;
use std::path::Path;

/// Reads a whole file.
///
/// # Errors
/// [`Error::File`] with the system's reason.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::file(path, format!("cannot be read: {error}")))
}
