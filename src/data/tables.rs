//! Graphs as tables: the raw folder of the Open Graph Benchmark, and a list of edges beside
//! features and labels.

use super::array_file::array_file;
use super::dataset::Dataset;
use super::edges::undirected;
use super::listed::listed;
use super::numbers::{MOST_IN_F64, classes, label, label_matrix, whole};
use super::parts::{FileLabels, Parts, normalised, repeats};
use super::purpose::Purpose;
use super::sheet::{self, Words};
use super::split::{Split, Splits};
use super::table;
use super::wanted::Wanted;
use crate::error::{Error, Result};
use crate::graph::{Duplicates, Graph, SelfLoops};
use crate::value::Value;
use ndarray::Array2;
use std::path::{Path, PathBuf};

/// Files of OGB's raw layout that are read, or that only say how long the others are.
const OGB_FILES: [&str; 5] = [
    "edge.csv.gz",
    "node-feat.csv.gz",
    "node-label.csv.gz",
    "num-node-list.csv.gz",
    "num-edge-list.csv.gz",
];

/// Reads the raw layout of the Open Graph Benchmark's node tasks: `edge.csv.gz`, `node-feat.csv.gz`
/// and `node-label.csv.gz` (one class a node, or a column of zeros and ones for each of several
/// labels; NaN or nothing where there is none), in the folder or in its `raw`, and below `split`
/// one folder with `train.csv.gz`, `valid.csv.gz` and `test.csv.gz`. The graph is made undirected.
pub(super) fn ogb(folder: &Path, name: String, wanted: &Wanted) -> Result<Dataset> {
    let raw = if folder.join("edge.csv.gz").is_file() {
        folder.to_path_buf()
    } else {
        folder.join("raw")
    };
    let features =
        table::read::<f32>(&raw.join("node-feat.csv.gz"), |_| true, "as many as the line before")?;
    let nodes = features.num_rows();
    let features = Array2::from_shape_vec((nodes, features.width), features.values)
        .expect("every row has the width");
    let labels = match wanted.purpose {
        Purpose::Predict => None,
        _ => Some(ogb_labels(&raw.join("node-label.csv.gz"), nodes)?),
    };
    let edges =
        table::read::<u32>(&raw.join("edge.csv.gz"), |width| width == 2, "source and target")?;
    let graph = undirected(nodes, edges.rows().map(|row| (row[0], row[1])), SelfLoops::Keep);
    let graph = graph.map_err(|error| Error::file(raw.join("edge.csv.gz"), error))?;
    let splits = match wanted.purpose == Purpose::Predict || wanted.split.is_some() {
        true => None,
        false => split_folder(folder)?
            .map(|folder| Ok::<_, Error>(Splits::Fixed(split(&folder, wanted.purpose)?)))
            .transpose()?,
    };
    let mut notes = Vec::new();
    if graph.num_edges() != edges.num_rows() {
        notes.push(format!(
            "{} edges are listed; taken both ways and once each they are {}",
            edges.num_rows(),
            graph.num_edges()
        ));
    }
    let unused = names_in(&raw)
        .into_iter()
        .filter(|name| name.contains(".csv") && !OGB_FILES.contains(&name.as_str()));
    let unused = listed(unused.map(|name| format!("`{name}`")));
    if !unused.is_empty() {
        notes.push(format!("files that are not read: {unused}"));
    }
    let (features, norm) = normalised(Value::Dense(features), wanted.norm)
        .map_err(|error| Error::file(folder, error))?;
    Parts { graph, features, norm, labels, splits, from_one: false, notes }
        .assemble(folder, name, wanted)
}

fn ogb_labels(path: &Path, nodes: usize) -> Result<FileLabels> {
    let number = |field: &str| if field.is_empty() { Some(f64::NAN) } else { field.parse().ok() };
    let labels =
        table::read_as::<f64>(path, |_| true, "as many labels as the line before", number)?;
    let wrong = |problem: String| Error::file(path, problem);
    if labels.num_rows() != nodes {
        return Err(wrong(format!(
            "has {} lines, and there are {nodes} nodes; empty lines do not count",
            labels.num_rows()
        )));
    }
    if labels.width > 1 {
        let (labels, known) = label_matrix(labels.width, &labels.values).map_err(wrong)?;
        return Ok(FileLabels::Several(labels, known));
    }
    let whole = |(node, &value): (usize, &f64)| {
        label(value, MOST_IN_F64).map_err(|problem| wrong(format!("line {}: {problem}", node + 1)))
    };
    let labels = labels.values.iter().enumerate().map(whole).collect::<Result<Vec<i64>>>()?;
    Ok(FileLabels::One(classes(&labels).map_err(wrong)?))
}

/// Reads a list of edges in a CSV file, [`sheet::edges`], and beside it, by the same stem, features
/// in `STEM.npy` (`[nodes, features]`) or `STEM.features.csv` and labels in `STEM.labels.npy` or
/// `STEM.labels.csv`. Edges are directed as they are listed, and one that is listed twice counts
/// twice.
pub(super) fn edge_list(path: &Path, name: String, wanted: &Wanted) -> Result<Dataset> {
    let base = path.to_string_lossy();
    let base =
        base.trim_end_matches(".gz").trim_end_matches(".csv").trim_end_matches(".tsv").to_string();
    let beside = |suffix: &str| PathBuf::from(format!("{base}{suffix}"));
    let one_of = |suffixes: [&str; 2]| {
        let [first, second] = suffixes.map(beside);
        match (first.is_file(), second.is_file()) {
            (true, true) => Err(Error::file(
                path,
                format!(
                    "has both `{}` and `{}` beside it; keep one",
                    first.display(),
                    second.display()
                ),
            )),
            (_, true) => Ok(second),
            _ => Ok(first),
        }
    };
    let feature_file = one_of([".npy", ".features.csv"])?;
    let (features, mut notes) = match feature_file.extension() {
        Some(extension) if extension == "csv" => sheet::features(&feature_file)?,
        _ => {
            let features = array_file(&feature_file, "features")?
                .real_matrix()
                .map_err(|problem| Error::file(&feature_file, problem))?;
            (features.into_f32(), Vec::new())
        }
    };
    let nodes = features.nrows();
    let labels = match wanted.purpose {
        Purpose::Predict => None,
        _ => {
            let file = one_of([".labels.csv", ".labels.npy"])?;
            let labels = match file.extension() {
                Some(extension) if extension == "npy" => {
                    let labels = array_file(&file, "labels")?
                        .label_vector()
                        .and_then(|labels| classes(&labels));
                    labels.map_err(|problem| Error::file(&file, problem))?
                }
                _ => labels_of(&file, nodes, &mut notes)?,
            };
            if labels.len() != nodes {
                return Err(Error::file(
                    &file,
                    format!("has {} labels, and there are {nodes} nodes", labels.len()),
                ));
            }
            Some(FileLabels::One(labels))
        }
    };
    let edges = sheet::edges(path, nodes)?;
    notes.extend(edges.notes);
    let listed = edges.list.len();
    let graph =
        Graph::builder(nodes).weighted_edges(edges.list).duplicates(Duplicates::Keep).build();
    let graph = graph.map_err(|error| Error::file(path, error))?;
    notes.extend(repeats(listed, &graph));
    let (features, norm) = normalised(Value::Dense(features), wanted.norm)
        .map_err(|error| Error::file(&feature_file, error))?;
    Parts { graph, features, norm, labels, splits: None, from_one: false, notes }
        .assemble(path, name, wanted)
}

/// The class of each node from a table of numbers, or of words, which are numbered in sorted order.
fn labels_of(path: &Path, nodes: usize, notes: &mut Vec<String>) -> Result<Vec<u32>> {
    let Words { of_nodes, words, notes: more } =
        sheet::of_nodes(path, nodes, &sheet::LABELS, "the label of a node")?;
    notes.extend(more);
    // A heading of one column is among the words, and no node has it.
    let mut used = vec![false; words.len()];
    of_nodes.iter().flatten().for_each(|&word| used[word as usize] = true);
    let value = |word: &String| word.parse().ok().and_then(|v| whole(v, MOST_IN_F64).ok());
    let values: Vec<Option<i64>> = words.iter().map(value).collect();
    let is_word = |k: &usize| used[*k] && values[*k].is_none();
    let is_number = |k: &usize| used[*k] && values[*k].is_some_and(|v| v != -1);
    let wrong = |problem: String| Error::file(path, problem);
    let number_of: Vec<i64> =
        match ((0..words.len()).find(is_word), (0..words.len()).find(is_number)) {
            (Some(word), Some(number)) => {
                let shown = |k: usize| words[k].chars().take(20).collect::<String>();
                return Err(wrong(format!(
                    "labels are words and numbers, such as `{}` and `{}`; use one of the two",
                    shown(word),
                    shown(number)
                )));
            }
            (Some(_), None) => {
                let mut sorted: Vec<&String> =
                    (0..words.len()).filter(is_word).map(|k| &words[k]).collect();
                sorted.sort();
                notes.push(format!(
                    "labels are words, numbered in sorted order: {}",
                    listed(sorted.iter().enumerate().map(|(k, word)| format!("{k} = {word}")))
                ));
                words
                    .iter()
                    .map(|word| sorted.binary_search(&word).map_or(-1, |k| k as i64))
                    .collect()
            }
            (None, _) => values.into_iter().map(|value| value.unwrap_or(-1)).collect(),
        };
    let labels: Vec<i64> =
        of_nodes.iter().map(|word| word.map_or(-1, |word| number_of[word as usize])).collect();
    classes(&labels).map_err(wrong)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The only folder below `split`.
pub(super) fn split_folder(folder: &Path) -> Result<Option<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder.join("split")) else { return Ok(None) };
    let mut folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    match folders.len() {
        0 | 1 => Ok(folders.pop()),
        count => Err(Error::file(folder.join("split"), format!("has {count} splits; keep one"))),
    }
}

/// The parts that the purpose asks for; others as far as they are there.
fn split(folder: &Path, purpose: Purpose) -> Result<Split> {
    let part = |name: &str, needed: bool| -> Result<Vec<u32>> {
        let file = folder.join(name);
        if !needed && !file.is_file() {
            return Ok(Vec::new());
        }
        Ok(table::read::<u32>(&file, |width| width == 1, "one node")?.values)
    };
    let learn = purpose == Purpose::Learn;
    Ok(Split {
        train: part("train.csv.gz", learn)?,
        val: part("valid.csv.gz", learn)?,
        test: part("test.csv.gz", true)?,
    })
}
