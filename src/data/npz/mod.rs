//! NumPy archives in the two layouts that public graph data come in.

mod benchmark;
mod heterophilous;
pub(super) mod npy;
#[cfg(test)]
mod tests;

use super::dataset::Dataset;
use super::edges::undirected;
use super::listed::listed;
use super::numbers::{self, Problem};
use super::parts::{FileLabels, Parts, normalised};
use super::purpose::Purpose;
use super::split::{Split, Splits};
use super::wanted::Wanted;
use crate::error::{Error, Result};
use crate::files::Budget;
use crate::graph::SelfLoops;
use crate::value::Value;
use npy::Array;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use zip::ZipArchive;
use zip::result::ZipError;

/// DEFLATE cannot pack more than this many bytes into one (258 bytes in two bits).
const MAX_RATIO: u64 = 1032;

/// What both layouts come down to.
struct Contents {
    nodes: usize,
    pairs: Vec<(u32, u32)>,
    self_loops: SelfLoops,
    features: Features,
    labels: Option<Vec<i64>>,
    splits: Option<Splits>,
    notes: Vec<String>,
}

/// Features in the precision of the file, so that normalising rounds once.
enum Features {
    F32(Value<f32>),
    F64(Value<f64>),
}

/// Reads the file as it is wanted.
///
/// # Errors
/// [`Error::File`] for everything that can be wrong with the file, [`Error::NotFinite`] for a
/// feature.
pub(super) fn read(path: &Path, name: String, wanted: &Wanted) -> Result<Dataset> {
    let in_file = |error: Error| match error {
        Error::NotFinite { at, value } => {
            Error::NotFinite { at: format!("{}: {at}", path.display()), value }
        }
        Error::Data { problem, .. } => Error::file(path, problem),
        other => Error::file(path, other),
    };
    let open = || {
        let mut npz = Npz::open(path, wanted)?;
        let contents = npz.contents()?;
        Ok((contents, npz.unread()?))
    };
    let (mut contents, unread) = open().map_err(|problem: String| Error::file(path, problem))?;
    let labels = contents.labels.map(|labels| numbers::classes(&labels)).transpose();
    let labels = labels.map_err(|problem| Error::file(path, problem))?.map(FileLabels::One);
    let graph = undirected(contents.nodes, contents.pairs.iter().copied(), contents.self_loops)
        .map_err(in_file)?;
    let (features, norm) = match contents.features {
        Features::F32(x) => normalised(x, wanted.norm),
        Features::F64(x) => normalised(x, wanted.norm),
    }
    .map_err(in_file)?;
    contents.notes.extend(unread);
    Parts {
        graph,
        features,
        norm,
        labels,
        splits: contents.splits,
        from_one: true,
        notes: contents.notes,
    }
    .assemble(path, name, wanted)
}

/// An open archive.
struct Npz<'w> {
    wanted: &'w Wanted,
    archive: ZipArchive<BufReader<File>>,
    bytes: u64,
    budget: Budget,
}

impl<'w> Npz<'w> {
    fn open(path: &Path, wanted: &'w Wanted) -> Problem<Self> {
        let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
        let bytes = file.metadata().map_err(|error| format!("cannot be opened: {error}"))?.len();
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|error| {
            let reason = zip_reason(&error);
            format!("is not an npz archive ({reason}); write it with numpy.savez or numpy.savez_compressed")
        })?;
        Ok(Self { wanted, archive, bytes, budget: Budget::of_bytes(bytes) })
    }

    fn contents(&mut self) -> Problem<Contents> {
        let known = |npz: &Npz, keys: &[&str]| keys.iter().any(|key| npz.has(key));
        if known(self, &benchmark::KEYS) {
            benchmark::read(self)
        } else if known(self, &heterophilous::KEYS) {
            heterophilous::read(self)
        } else {
            Err(format!("has none of the arrays that make a graph: {}", layouts()))
        }
    }

    fn has(&self, key: &str) -> bool {
        self.archive.index_for_name(&entry_name(key)).is_some()
    }

    /// Reads the array `key`, which must be there.
    fn array(&mut self, key: &'static str) -> Problem<Array> {
        let mut entry = self.archive.by_name(&entry_name(key)).map_err(|error| match error {
            ZipError::FileNotFound => format!("has no array `{key}`: {}", layouts()),
            error => format!("`{key}` cannot be unpacked: {}", zip_reason(&error)),
        })?;
        let (declared, packed) = (entry.size(), entry.compressed_size().min(self.bytes));
        if declared / MAX_RATIO > packed {
            return Err(format!(
                "`{key}` claims {declared} bytes, more than its {packed} packed bytes can hold"
            ));
        }
        Array::read(key, &mut entry, declared, &self.budget)
            .map_err(|problem| format!("`{key}` {problem}"))
    }

    /// The labels of the array `key`, if any are asked for.
    fn labels(&mut self, key: &'static str, nodes: usize) -> Problem<Option<Vec<i64>>> {
        if self.wanted.purpose == Purpose::Predict {
            return Ok(None);
        }
        let labels = self.array(key)?.label_vector()?;
        if labels.len() != nodes {
            return Err(format!(
                "`{key}` has {} entries, and there are {nodes} nodes",
                labels.len()
            ));
        }
        Ok(Some(labels))
    }

    /// The node sets of the mask arrays for training, validation and testing, one [`Split`] per
    /// row, if any are asked for. Of the first two what is missing stays empty where only the last
    /// is read.
    fn splits(&mut self, keys: [&'static str; 3], nodes: usize) -> Problem<Option<Vec<Split>>> {
        if self.wanted.purpose == Purpose::Predict || self.wanted.split.is_some() {
            return Ok(None);
        }
        let learn = self.wanted.purpose == Purpose::Learn;
        let mut parts = |key, needed: bool| -> Problem<Option<Vec<Vec<u32>>>> {
            if !needed && !self.has(key) {
                return Ok(None);
            }
            let masks = self.array(key)?.masks()?;
            masks
                .iter()
                .enumerate()
                .map(|(k, mask)| members(key, k, mask, nodes, needed))
                .collect::<Problem<_>>()
                .map(Some)
        };
        let (train, val, test) = (
            parts(keys[0], learn)?,
            parts(keys[1], learn)?,
            parts(keys[2], true)?.unwrap_or_default(),
        );
        let empty = || vec![Vec::new(); test.len()];
        let (train, val) = (train.unwrap_or_else(empty), val.unwrap_or_else(empty));
        let lens = [train.len(), val.len(), test.len()];
        if lens[0] == 0 || lens.iter().any(|&len| len != lens[0]) {
            return Err(format!(
                "{} have {lens:?} masks; there must be at least one, and as many of each",
                keys.join(", ")
            ));
        }
        Ok(Some(
            train
                .into_iter()
                .zip(val)
                .zip(test)
                .map(|((train, val), test)| Split { train, val, test })
                .collect(),
        ))
    }

    /// A note on the arrays that neither layout reads.
    ///
    /// # Errors
    /// A name like that of a mask, where none is read and a split would be drawn over it.
    fn unread(&self) -> Problem<Option<String>> {
        let names: Vec<String> = self
            .archive
            .file_names()
            .map(|name| name.map_or("?".into(), |name| name.into_owned()))
            .collect();
        let names = names.iter().map(|name| name.trim_end_matches(".npy"));
        let mut names: Vec<&str> = names
            .filter(|name| !benchmark::KEYS.contains(name) && !heterophilous::KEYS.contains(name))
            .collect();
        names.retain(|name| !benchmark::MASKS.contains(name));
        names.sort_unstable();
        let masked =
            benchmark::MASKS.iter().chain(&heterophilous::KEYS[3..]).any(|key| self.has(key));
        if self.wanted.purpose != Purpose::Predict && self.wanted.split.is_none() && !masked {
            refuse_masks(&names)?;
        }
        Ok((!names.is_empty()).then(|| {
            format!(
                "arrays that are not read: {}",
                listed(names.iter().map(|name| format!("`{name}`")))
            )
        }))
    }
}

/// Refuses names that look like those of masks: a split drawn over them could test on nodes that
/// trained.
pub(super) fn refuse_masks(names: &[&str]) -> Problem<()> {
    let is_mask = |name: &&&str| {
        ["mask", "split", "train", "_idx"]
            .iter()
            .any(|part| name.to_ascii_lowercase().contains(part))
    };
    match names.iter().find(is_mask) {
        Some(name) => Err(format!(
            "`{name}` looks like a mask and is not read: name them train_mask, val_mask and test_mask, or choose a split"
        )),
        None => Ok(()),
    }
}

fn members(key: &str, k: usize, mask: &[bool], nodes: usize, needed: bool) -> Problem<Vec<u32>> {
    if mask.len() != nodes {
        return Err(format!(
            "`{key}` has {} entries a mask, and there are {nodes} nodes",
            mask.len()
        ));
    }
    let members: Vec<u32> =
        (0u32..).zip(mask).filter(|(_, set)| **set).map(|(node, _)| node).collect();
    if members.is_empty() && needed {
        Err(format!("mask {k} of `{key}` has no node set"))
    } else {
        Ok(members)
    }
}

fn entry_name(key: &str) -> String {
    format!("{key}.npy")
}

fn layouts() -> String {
    let list = |keys: &[&str]| keys.join(", ");
    format!(
        "the gnn-benchmark layout has {}; the heterophilous-graphs layout has {}",
        list(&benchmark::KEYS),
        list(&heterophilous::KEYS)
    )
}

/// The reason on one line.
fn zip_reason(error: &ZipError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An index into `len` things, from the array `key`.
fn index(key: &str, value: i64, len: usize) -> Problem<u32> {
    match u32::try_from(value) {
        Ok(index) if (index as usize) < len => Ok(index),
        _ => Err(format!("`{key}` has the index {value}, which is out of range: there are {len}")),
    }
}
