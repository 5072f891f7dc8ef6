//! NumPy archives in the two layouts that public graph data come in.

mod benchmark;
mod heterophilous;
mod npy;
#[cfg(test)]
mod tests;

use super::dataset::Dataset;
use super::edges::undirected;
use super::norm::FeatureNorm;
use super::split::{Split, Splits};
use crate::error::{Error, Result};
use crate::files::Budget;
use crate::graph::SelfLoops;
use crate::scalar::Scalar;
use crate::value::Value;
use npy::Array;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use zip::ZipArchive;
use zip::result::ZipError;

/// What is wrong with the file, in words; the path is added at the end.
type Problem<T> = std::result::Result<T, String>;

/// DEFLATE cannot pack more than this many bytes into one (258 bytes in two bits).
const MAX_RATIO: u64 = 1032;

/// What both layouts come down to.
struct Contents {
    pairs: Vec<(u32, u32)>,
    self_loops: SelfLoops,
    features: Features,
    labels: Vec<i64>,
    splits: Splits,
}

/// Features in the precision of the file, so that normalising rounds once.
enum Features {
    F32(Value<f32>),
    F64(Value<f64>),
}

/// Reads the file; `norm` is how to normalise, if that was said.
///
/// # Errors
/// [`Error::File`] for everything that can be wrong with the file, [`Error::NotFinite`] for a feature.
pub(super) fn read(path: &Path, name: String, norm: Option<FeatureNorm>) -> Result<Dataset> {
    let in_file = |error: Error| match error {
        Error::NotFinite { at, value } => Error::NotFinite { at: format!("{}: {at}", path.display()), value },
        Error::Data { problem, .. } => Error::file(path, problem),
        other => Error::file(path, other),
    };
    let contents = Npz::open(path).and_then(|mut npz| npz.contents()).map_err(|problem| Error::file(path, problem))?;
    let (labels, num_classes) = classes(&contents.labels).map_err(|problem| Error::file(path, problem))?;
    let graph = undirected(labels.len(), contents.pairs.iter().copied(), contents.self_loops).map_err(in_file)?;
    let (features, norm) = match contents.features {
        Features::F32(x) => normalised(x, norm),
        Features::F64(x) => normalised(x, norm),
    }
    .map_err(in_file)?;
    let data = Dataset::new(name, graph, features, labels, Some(num_classes), contents.splits).map_err(in_file)?;
    Ok(data.normalised_by(norm))
}

pub(super) fn normalised<F: Scalar>(features: Value<F>, norm: Option<FeatureNorm>) -> Result<(Value<f32>, FeatureNorm)> {
    let norm = norm.unwrap_or_else(|| FeatureNorm::default_for(&features));
    Ok((norm.apply(&features)?, norm))
}

/// Reads an array of a file of its own; `key` is what it holds.
pub(super) fn array_file(path: &Path, key: &'static str) -> Result<Array> {
    let open = |error: std::io::Error| Error::file(path, format!("cannot be opened: {error}"));
    let file = File::open(path).map_err(open)?;
    let bytes = file.metadata().map_err(open)?.len();
    Array::read(key, &mut BufReader::new(file), bytes, &Budget::of_bytes(bytes))
        .map_err(|problem| Error::file(path, format!("`{key}` {problem}")))
}

/// Maps the labels that occur, in sorted order, to `0..classes`.
pub(super) fn classes(labels: &[i64]) -> Problem<(Vec<u32>, usize)> {
    if let Some(node) = labels.iter().position(|&label| label < 0) {
        return Err(format!("the label of node {node} is {}, and a negative label has no meaning; remove unlabelled nodes", labels[node]));
    }
    let mut known = labels.to_vec();
    known.sort_unstable();
    known.dedup();
    let class = |label: &i64| known.binary_search(label).expect("every label is among the known ones") as u32;
    Ok((labels.iter().map(class).collect(), known.len()))
}

/// An open archive.
struct Npz {
    archive: ZipArchive<BufReader<File>>,
    bytes: u64,
    budget: Budget,
}

impl Npz {
    fn open(path: &Path) -> Problem<Self> {
        let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
        let bytes = file.metadata().map_err(|error| format!("cannot be opened: {error}"))?.len();
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|error| {
            let reason = zip_reason(&error);
            format!("is not an npz archive ({reason}); write it with numpy.savez or numpy.savez_compressed")
        })?;
        Ok(Self { archive, bytes, budget: Budget::of_bytes(bytes) })
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
            return Err(format!("`{key}` claims {declared} bytes, more than its {packed} packed bytes can hold"));
        }
        Array::read(key, &mut entry, declared, &self.budget).map_err(|problem| format!("`{key}` {problem}"))
    }

    /// The node sets of the mask arrays for training, validation and testing, one [`Split`] a row.
    fn splits(&mut self, keys: [&'static str; 3], nodes: usize) -> Problem<Vec<Split>> {
        let mut parts = |key| -> Problem<Vec<Vec<u32>>> {
            let masks = self.array(key)?.masks()?;
            masks.iter().enumerate().map(|(k, mask)| members(key, k, mask, nodes)).collect()
        };
        let (train, val, test) = (parts(keys[0])?, parts(keys[1])?, parts(keys[2])?);
        let lens = [train.len(), val.len(), test.len()];
        if lens[0] == 0 || lens.iter().any(|&len| len != lens[0]) {
            return Err(format!("{} have {lens:?} masks; there must be at least one, and as many of each", keys.join(", ")));
        }
        Ok(train.into_iter().zip(val).zip(test).map(|((train, val), test)| Split { train, val, test }).collect())
    }
}

fn members(key: &str, k: usize, mask: &[bool], nodes: usize) -> Problem<Vec<u32>> {
    if mask.len() != nodes {
        return Err(format!("`{key}` has {} entries a mask, and there are {nodes} nodes", mask.len()));
    }
    let members: Vec<u32> = (0u32..).zip(mask).filter(|(_, set)| **set).map(|(node, _)| node).collect();
    if members.is_empty() { Err(format!("mask {k} of `{key}` has no node set")) } else { Ok(members) }
}

fn entry_name(key: &str) -> String {
    format!("{key}.npy")
}

fn layouts() -> String {
    let list = |keys: &[&str]| keys.join(", ");
    format!("the gnn-benchmark layout has {}; the heterophilous-graphs layout has {}", list(&benchmark::KEYS), list(&heterophilous::KEYS))
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
