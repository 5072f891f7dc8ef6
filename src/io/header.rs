//! What tells the crate's files from others, and one kind from the other.

use crate::error::{Error, Result};
use crate::files;
use safetensors::tensor::SafeTensors;
use serde_json::Value;
use std::path::Path;

/// The one metadata key of the crate's files.
pub(super) const KEY: &str = "gnn_prune";

/// Version of both layouts. The first had bit maps and runs only, and no shape of a masked
/// parameter in its metadata.
pub(super) const FORMAT: u32 = 2;

/// Refuses versions that this one cannot read.
pub(super) fn check_format(found: u32) -> Result<(), String> {
    if (1..=FORMAT).contains(&found) {
        Ok(())
    } else {
        Err(format!("has format {found}, this version reads formats 1 to {FORMAT}"))
    }
}

/// What a file of the crate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A [`Model`](crate::Model) of floats.
    Float,
    /// A [`QuantModel`](crate::QuantModel) of integers.
    Integer,
}

impl Kind {
    /// By the text of the metadata; `None` where it is neither.
    pub(super) fn of(text: &str) -> Option<Self> {
        let header: Value = serde_json::from_str(text).ok()?;
        let has = |key: &str| header.get(key).is_some();
        if has("quantised") { Some(Kind::Integer) } else { has("nodes").then_some(Kind::Float) }
    }
}

/// Which kind of model a file holds, by its metadata.
///
/// # Errors
/// [`Error::File`] for a file that is missing, cut off or not of this crate.
pub fn kind_of(path: impl AsRef<Path>) -> Result<Kind> {
    let path = path.as_ref();
    let bytes = files::read(path)?;
    let (_, text) = open(&bytes).map_err(|problem| Error::file(path, problem))?;
    Kind::of(&text)
        .ok_or_else(|| Error::file(path, damaged("it has neither nodes nor quantised stages")))
}

/// Whether a file was written by this crate, as its metadata say; `false` where it cannot be read.
pub fn is_own(path: impl AsRef<Path>) -> bool {
    let header = |bytes: &[u8]| {
        SafeTensors::read_metadata(bytes)
            .map(|(_, header)| header.metadata().as_ref().is_some_and(|all| all.contains_key(KEY)))
    };
    files::read(path.as_ref()).is_ok_and(|bytes| header(&bytes).unwrap_or(false))
}

/// What is wrong with a file of somebody else.
const FOREIGN: &str = "is not a model of gnn-prune; `gnn-prune train --out FILE` writes one";

/// The problem of a file whose metadata cannot be read.
pub(super) fn damaged(why: impl std::fmt::Display) -> String {
    format!("{FOREIGN} (its metadata are damaged: {why})")
}

/// The tensors of a file, and the text under the crate's one key.
pub(super) fn open(bytes: &[u8]) -> Result<(SafeTensors<'_>, String), String> {
    let file = SafeTensors::deserialize(bytes)
        .map_err(|error| format!("{FOREIGN} (not a safetensors file, or cut off: {error})"))?;
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| format!("{FOREIGN} ({error})"))?;
    let text = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY)).cloned();
    Ok((file, text.ok_or_else(|| format!("{FOREIGN} (no `{KEY}` in its metadata)"))?))
}
