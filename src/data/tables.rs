//! Graphs as tables: the raw folder of the Open Graph Benchmark, and a list of edges beside a matrix of features.

use super::dataset::Dataset;
use super::edges::undirected;
use super::norm::FeatureNorm;
use super::npz::{array_file, classes, normalised};
use super::split::{Split, Splits};
use super::table;
use crate::error::{Error, Result};
use crate::graph::{Duplicates, Graph, SelfLoops};
use crate::value::Value;
use ndarray::Array2;
use std::path::{Path, PathBuf};

/// Reads the raw layout of the Open Graph Benchmark's node tasks: `edge.csv.gz`, `node-feat.csv.gz` and `node-label.csv.gz` (one class a
/// node, or a column of zeros and ones for each of several labels), in the folder
/// or in its `raw`, and below `split` one folder with `train.csv.gz`, `valid.csv.gz` and `test.csv.gz`. The graph is made undirected.
pub(super) fn ogb(folder: &Path, name: String, norm: Option<FeatureNorm>) -> Result<Dataset> {
    let raw = if folder.join("edge.csv.gz").is_file() { folder.to_path_buf() } else { folder.join("raw") };
    let label_file = raw.join("node-label.csv.gz");
    let labels = table::read::<f64>(&label_file, |_| true, "as many labels as the line before")?;
    let edges = table::read::<u32>(&raw.join("edge.csv.gz"), |width| width == 2, "source and target")?;
    let graph = undirected(labels.num_rows(), edges.rows().map(|row| (row[0], row[1])), SelfLoops::Keep);
    let graph = graph.map_err(|error| Error::file(raw.join("edge.csv.gz"), error))?;
    let features = table::read::<f32>(&raw.join("node-feat.csv.gz"), |_| true, "as many as the line before")?;
    let shape = (features.num_rows(), features.width);
    let features = Array2::from_shape_vec(shape, features.values).expect("every row has the width");
    let splits = match split_folder(folder)? {
        Some(folder) => Splits::Fixed(split(&folder)?),
        None => Splits::default(),
    };
    if labels.width > 1 {
        let several = super::tensors::label_matrix(labels.width, &labels.values).map_err(|problem| Error::file(&label_file, problem))?;
        let in_file = |error: Error| Error::file(folder, error);
        let (features, norm) = normalised(Value::Dense(features), norm).map_err(in_file)?;
        return Ok(Dataset::multi_label(name, graph, features, several, splits).map_err(in_file)?.normalised_by(norm));
    }
    let labels = labels.values.iter().enumerate().map(|(node, &label)| whole(&label_file, node, label)).collect::<Result<Vec<i64>>>()?;
    assemble(folder, name, graph, features, &labels, splits, norm)
}

/// Reads a list of edges `source,target` or `source,target,weight` in a CSV file, and beside it, by the same stem, features in
/// `STEM.npy` (`[nodes, features]`) and labels in `STEM.labels.npy` or `STEM.labels.csv`. Edges are directed as they are listed.
pub(super) fn edge_list(path: &Path, name: String, norm: Option<FeatureNorm>) -> Result<Dataset> {
    let base = path.to_string_lossy();
    let base = base.trim_end_matches(".gz").trim_end_matches(".csv").to_string();
    let beside = |suffix: &str| PathBuf::from(format!("{base}{suffix}"));
    let features = array_file(&beside(".npy"), "features")?.real_matrix().map_err(|problem| Error::file(beside(".npy"), problem))?;
    let features = features.into_f32();
    let labels = match beside(".labels.npy") {
        file if file.is_file() => array_file(&file, "labels")?.int_vector().map_err(|problem| Error::file(&file, problem))?,
        _ => table::read::<i64>(&beside(".labels.csv"), |width| width == 1, "one label")?.values,
    };
    let edges = table::read::<f64>(path, |width| width == 2 || width == 3, "source, target and at most a weight")?;
    let nodes = features.nrows();
    let mut list = Vec::with_capacity(edges.num_rows());
    for (k, row) in edges.rows().enumerate() {
        let end = |value: f64| match value {
            v if v >= 0.0 && v.fract() == 0.0 && v < nodes as f64 => Ok(v as usize),
            v => Err(Error::file(path, format!("edge {k} names the node {v}; nodes are 0 to {}", nodes.saturating_sub(1)))),
        };
        list.push((end(row[0])?, end(row[1])?, row.get(2).map_or(1.0, |&weight| weight as f32)));
    }
    let graph = Graph::builder(nodes).weighted_edges(list).duplicates(Duplicates::Merge).build();
    assemble(path, name, graph.map_err(|error| Error::file(path, error))?, features, &labels, Splits::default(), norm)
}

fn assemble(
    path: &Path,
    name: String,
    graph: Graph,
    features: Array2<f32>,
    labels: &[i64],
    splits: Splits,
    norm: Option<FeatureNorm>,
) -> Result<Dataset> {
    let (labels, num_classes) = classes(labels).map_err(|problem| Error::file(path, problem))?;
    let in_file = |error: Error| Error::file(path, error);
    let (features, norm) = normalised(Value::Dense(features), norm).map_err(in_file)?;
    Ok(Dataset::new(name, graph, features, labels, Some(num_classes), splits).map_err(in_file)?.normalised_by(norm))
}

fn whole(path: &Path, node: usize, label: f64) -> Result<i64> {
    if label.fract() == 0.0 && label.abs() < 9e15 {
        Ok(label as i64)
    } else {
        Err(Error::file(path, format!("the label of node {node} is {label}")))
    }
}

/// The only folder below `split`.
fn split_folder(folder: &Path) -> Result<Option<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder.join("split")) else { return Ok(None) };
    let mut folders: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    match folders.len() {
        0 | 1 => Ok(folders.pop()),
        count => Err(Error::file(folder.join("split"), format!("has {count} splits; keep one"))),
    }
}

fn split(folder: &Path) -> Result<Split> {
    let part = |name: &str| -> Result<Vec<u32>> { Ok(table::read::<u32>(&folder.join(name), |width| width == 1, "one node")?.values) };
    Ok(Split { train: part("train.csv.gz")?, val: part("valid.csv.gz")?, test: part("test.csv.gz")? })
}
