//! A graph in a safetensors file or a file of PyTorch, its tensors named as PyTorch Geometric names those of a `Data`.

use super::dataset::Dataset;
use super::norm::FeatureNorm;
use super::npz::{classes, normalised};
use super::split::{Split, Splits};
use crate::error::{Error, Result};
use crate::files::Tensors;
use crate::files::budget::reserved;
use crate::graph::{Duplicates, Graph};
use crate::value::Value;
use ndarray::Array2;
use std::path::Path;

/// Reads `x`, `edge_index`, `y` (one class a node, or a column of zeros and ones for each of several labels), and where they are there `edge_attr`, `edge_weight`, `edge_type`, `train_mask`, `val_mask` and
/// `test_mask` (one mask, or one a column). Edges are directed as they are listed, and one that is listed twice counts twice.
pub(super) fn read(path: &Path, name: String, norm: Option<FeatureNorm>) -> Result<Dataset> {
    let tensors = Tensors::read(path)?;
    from(&tensors, name, norm).map_err(|error| Error::file(path, error))
}

fn from(tensors: &Tensors, name: String, norm: Option<FeatureNorm>) -> Result<Dataset> {
    let matrix = |key: &str| match tensors.floats.get(key) {
        Some(array) if array.shape.len() == 2 => array.matrix(array.shape[0]).map_err(|problem| wrong(key, problem)),
        Some(array) => Err(wrong(key, format!("has shape {:?}, expected two axes", array.shape))),
        None => Err(wrong(key, "of floats is missing".into())),
    };
    let x = matrix("x")?;
    let nodes = x.nrows();
    let (shape, ends) = tensors.integers.get("edge_index").ok_or_else(|| wrong("edge_index", "of integers is missing".into()))?;
    let &[2, count] = &shape[..] else { return Err(wrong("edge_index", format!("has shape {shape:?}, expected [2, edges]"))) };
    let mut edges = reserved(count).map_err(|problem| wrong("edge_index", problem))?;
    for e in 0..count {
        let end = |value: i64| usize::try_from(value).map_err(|_| wrong("edge_index", format!("names the node {value}")));
        edges.push((end(ends[e])?, end(ends[count + e])?));
    }
    let mut builder = match tensors.floats.get("edge_weight") {
        Some(weights) if weights.values.len() == count => {
            Graph::builder(nodes).weighted_edges(edges.into_iter().zip(&weights.values).map(|((j, i), &w)| (j, i, w)))
        }
        Some(weights) => return Err(wrong("edge_weight", format!("has {} numbers for {count} edges", weights.values.len()))),
        None => Graph::builder(nodes).edges(edges),
    };
    if tensors.floats.contains_key("edge_attr") {
        builder = builder.edge_features(edge_features(tensors, count)?);
    }
    if let Some((_, types)) = tensors.integers.get("edge_type") {
        let typed = types.iter().map(|&t| u32::try_from(t).map_err(|_| wrong("edge_type", format!("holds {t}"))));
        builder = builder.edge_types(typed.collect::<Result<_>>()?);
    }
    let splits = splits(tensors, nodes)?;
    let (features, norm) = normalised(Value::Dense(x), norm)?;
    let graph = builder.duplicates(Duplicates::Keep).build()?;
    let data = match several_labels(tensors, nodes)? {
        Some(labels) => Dataset::multi_label(name, graph, features, labels, splits)?,
        None => {
            let (labels, num_classes) = classes(one_label_a_node(tensors, nodes)?).map_err(|problem| wrong("y", problem))?;
            Dataset::new(name, graph, features, labels, Some(num_classes), splits)?
        }
    };
    Ok(data.normalised_by(norm))
}

/// A `y` of several columns, each a label that a node has (1) or has not (0).
fn several_labels(tensors: &Tensors, nodes: usize) -> Result<Option<Array2<bool>>> {
    let (shape, values): (&[usize], Vec<f64>) = match (tensors.integers.get("y"), tensors.floats.get("y")) {
        (Some((shape, values)), _) => (shape, values.iter().map(|&v| v as f64).collect()),
        (None, Some(array)) => (&array.shape, array.values.iter().map(|&v| f64::from(v)).collect()),
        (None, None) => return Ok(None),
    };
    match *shape {
        [rows, columns] if rows == nodes && columns > 1 => label_matrix(columns, &values).map(Some).map_err(|problem| wrong("y", problem)),
        _ => Ok(None),
    }
}

/// Rows of so many zeros and ones as labels that are there or not; says which number is neither.
pub(super) fn label_matrix(columns: usize, values: &[f64]) -> std::result::Result<Array2<bool>, String> {
    if let Some(at) = values.iter().position(|v| *v != 0.0 && *v != 1.0) {
        return Err(format!("holds {} for label {} of node {}, expected 0 or 1", values[at], at % columns, at / columns));
    }
    let labels = values.iter().map(|v| *v == 1.0).collect();
    Ok(Array2::from_shape_vec((values.len() / columns, columns), labels).expect("rows are whole"))
}

/// A row an edge; a vector has one feature a row.
fn edge_features(tensors: &Tensors, edges: usize) -> Result<Array2<f32>> {
    let array = &tensors.floats["edge_attr"];
    match array.shape[..] {
        [rows] | [rows, _] if rows == edges => array.matrix(rows).map_err(|problem| wrong("edge_attr", problem)),
        _ => Err(wrong("edge_attr", format!("has shape {:?}, and there are {edges} edges", array.shape))),
    }
}

fn one_label_a_node(tensors: &Tensors, nodes: usize) -> Result<&[i64]> {
    let several = |shape: &[usize]| {
        let problem = format!("has shape {shape:?}, and is read as one whole number for each of the {nodes} nodes");
        wrong("y", problem)
    };
    match (tensors.integers.get("y"), tensors.floats.get("y")) {
        (Some((shape, labels)), _) if *shape == [nodes] || *shape == [nodes, 1] => Ok(labels),
        (Some((shape, _)), _) => Err(several(shape)),
        (None, Some(array)) if array.shape.len() > 1 => Err(several(&array.shape)),
        (None, _) => Err(wrong("y", "of integers is missing".into())),
    }
}

fn wrong(key: &str, problem: String) -> Error {
    Error::data("tensor", format!("`{key}` {problem}"))
}

fn splits(tensors: &Tensors, nodes: usize) -> Result<Splits> {
    let masks = |key: &str| -> Result<Vec<Vec<u32>>> {
        let (shape, values) = tensors.integers.get(key).ok_or_else(|| wrong(key, "is missing beside other masks".into()))?;
        let count = match shape[..] {
            [rows] if rows == nodes => 1,
            [rows, count] if rows == nodes && count > 0 => count,
            _ => return Err(wrong(key, format!("has shape {shape:?}, and there are {nodes} nodes"))),
        };
        let members = |k: usize| (0..nodes as u32).filter(|&i| values[i as usize * count + k] != 0).collect();
        Ok((0..count).map(members).collect())
    };
    if !["train_mask", "val_mask", "test_mask"].iter().any(|key| tensors.integers.contains_key(*key)) {
        return Ok(Splits::default());
    }
    let (train, val, test) = (masks("train_mask")?, masks("val_mask")?, masks("test_mask")?);
    if train.len() != val.len() || train.len() != test.len() {
        return Err(wrong("train_mask", format!("has {} masks, val_mask {}, test_mask {}", train.len(), val.len(), test.len())));
    }
    Ok(Splits::Masks(train.into_iter().zip(val).zip(test).map(|((train, val), test)| Split { train, val, test }).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_several_splits_stand_in_columns() {
        let mut tensors = Tensors::default();
        for (key, k) in [("train_mask", 0), ("val_mask", 1), ("test_mask", 2)] {
            // Node i is in part (i + split) mod 3 of the split.
            let values = (0..4).flat_map(|i| (0..2).map(move |split| i64::from((i + split) % 3 == k))).collect();
            tensors.integers.insert(key.into(), (vec![4, 2], values));
        }
        let first = Split { train: vec![0, 3], val: vec![1], test: vec![2] };
        let second = Split { train: vec![2], val: vec![0, 3], test: vec![1] };
        match splits(&tensors, 4).unwrap() {
            Splits::Masks(found) => assert_eq!(found, [first, second]),
            other => panic!("{other:?}"),
        }
    }
}
