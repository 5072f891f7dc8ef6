//! A graph in a safetensors file or a file of PyTorch, its tensors named as PyTorch Geometric names
//! those of a `Data`.

use super::dataset::Dataset;
use super::listed::listed;
use super::npz::refuse_masks;
use super::numbers::{MOST_IN_F32, Problem, classes, exact, label, label_matrix, truth, whole};
use super::parts::{FileLabels, Parts, normalised, repeats};
use super::purpose::Purpose;
use super::split::{Split, Splits};
use super::wanted::Wanted;
use crate::error::{Error, Result};
use crate::files::budget::reserved;
use crate::files::{Array, Tensors};
use crate::graph::{Duplicates, Graph};
use crate::value::Value;
use ndarray::Array2;
use std::path::Path;

/// What is read; other names of the last three are known too, [`PARTS`].
const READ: [&str; 7] =
    ["x", "edge_index", "edge_weight", "edge_attr", "edge_type", "y", "num_nodes"];
/// What the parts of the split may be called; a name that ends in `_mask` holds a truth value per
/// node, one that ends in `_idx` nodes.
const PARTS: [&[&str]; 3] = [
    &["train_mask", "training_mask", "train_idx"],
    &["val_mask", "valid_mask", "validation_mask", "dev_mask", "val_idx", "valid_idx"],
    &["test_mask", "test_idx"],
];

/// Reads `x`, `edge_index`, `y` (one class per node, or a column of zeros and ones for each of
/// several labels), and where they are there `edge_attr`, `edge_weight`, `edge_type`, `train_mask`,
/// `val_mask` and `test_mask` (one mask, or one per column; or lists of nodes, `train_idx`). Edges
/// are directed as they are listed, and one that is listed twice counts twice.
///
/// A tensor may be of any type that says the same: integers and truth values are numbers, whole
/// floats are integers, 0 and 1 are truth values. What is not read is named in a note.
pub(super) fn read(path: &Path, name: String, wanted: &Wanted) -> Result<Dataset> {
    let tensors = Tensors::read_as_listed(path)?;
    let parts = from(&tensors, wanted).map_err(|error| Error::file(path, error))?;
    parts.assemble(path, name, wanted)
}

/// One tensor, of whatever type it is.
#[derive(Clone, Copy)]
struct Tensor<'t> {
    key: &'t str,
    values: Values<'t>,
}

#[derive(Clone, Copy)]
enum Values<'t> {
    Floats(&'t Array),
    Integers(&'t [usize], &'t [i64]),
}

impl<'t> Tensor<'t> {
    fn find(tensors: &'t Tensors, key: &'t str) -> Option<Self> {
        let floats = tensors.floats.get(key).map(Values::Floats);
        let values = floats.or_else(|| {
            tensors.integers.get(key).map(|(shape, values)| Values::Integers(shape, values))
        })?;
        Some(Self { key, values })
    }

    fn needed(tensors: &'t Tensors, key: &'t str) -> Result<Self> {
        Self::find(tensors, key).ok_or_else(|| {
            let names = tensors
                .floats
                .keys()
                .chain(tensors.integers.keys())
                .map(|name| format!("`{name}`"));
            wrong(key, format!("is missing; the file has {}", listed(names)))
        })
    }

    fn shape(&self) -> &'t [usize] {
        match self.values {
            Values::Floats(array) => &array.shape,
            Values::Integers(shape, _) => shape,
        }
    }

    /// The type, for messages.
    fn kind(&self) -> &'static str {
        match self.values {
            Values::Floats(_) => "floats",
            Values::Integers(..) => "integers",
        }
    }

    fn wrong_shape(&self, expected: &str) -> Error {
        wrong(self.key, format!("has shape {:?}, expected {expected}", self.shape()))
    }

    /// One entry per row: a vector, or a matrix of one column.
    fn check_column(&self, rows: usize, of: &str) -> Result<()> {
        match *self.shape() {
            [len] | [len, 1] if len == rows => Ok(()),
            _ => Err(self.wrong_shape(&format!("one number for each of the {rows} {of}"))),
        }
    }

    fn each<T>(
        &self,
        float: impl Fn(f64) -> Problem<T>,
        integer: impl Fn(i64) -> Problem<T>,
    ) -> Result<Vec<T>> {
        let read = match self.values {
            Values::Floats(array) => {
                array.values.iter().map(|&v| float(f64::from(v))).collect::<Problem<_>>()
            }
            Values::Integers(_, values) => values.iter().map(|&v| integer(v)).collect(),
        };
        read.map_err(|problem| wrong(self.key, problem))
    }

    fn reals(&self) -> Result<Vec<f32>> {
        self.each(|v| Ok(v as f32), exact)
    }

    fn integers(&self) -> Result<Vec<i64>> {
        self.each(|v| whole(v, MOST_IN_F32), Ok)
    }

    /// `rows` rows of what is left, a vector as a column.
    fn matrix(&self, rows: usize) -> Result<Array2<f32>> {
        let array = Array { shape: self.shape().to_vec(), values: self.reals()? };
        array.matrix(rows).map_err(|problem| wrong(self.key, problem))
    }
}

fn from(tensors: &Tensors, wanted: &Wanted) -> Result<Parts> {
    let find = |key| Tensor::find(tensors, key);
    let x = Tensor::needed(tensors, "x")?;
    let &[nodes, _] = x.shape() else { return Err(x.wrong_shape("two axes")) };
    let x = x.matrix(nodes)?;
    if let Some(stated) = find("num_nodes")
        && stated.integers()?.iter().any(|&stated| usize::try_from(stated) != Ok(nodes))
    {
        return Err(wrong("num_nodes", format!("is not {nodes}, the number of rows of `x`")));
    }
    let edge_index = Tensor::needed(tensors, "edge_index")?;
    let &[2, count] = edge_index.shape() else { return Err(edge_index.wrong_shape("[2, edges]")) };
    let ends = edge_index.integers()?;
    let mut edges = reserved(count).map_err(|problem| wrong("edge_index", problem))?;
    for e in 0..count {
        let end = |value: i64| {
            usize::try_from(value)
                .map_err(|_| wrong("edge_index", format!("names the node {value}")))
        };
        edges.push((end(ends[e])?, end(ends[count + e])?));
    }
    let mut builder = match find("edge_weight") {
        Some(weights) => {
            weights.check_column(count, "edges")?;
            Graph::builder(nodes).weighted_edges(
                edges.into_iter().zip(weights.reals()?).map(|((j, i), w)| (j, i, w)),
            )
        }
        None => Graph::builder(nodes).edges(edges),
    };
    if let Some(attributes) = find("edge_attr") {
        match *attributes.shape() {
            [rows] | [rows, _] if rows == count => {
                builder = builder.edge_features(attributes.matrix(rows)?)
            }
            ref shape => {
                return Err(wrong(
                    "edge_attr",
                    format!("has shape {shape:?}, and there are {count} edges"),
                ));
            }
        }
    }
    if let Some(types) = find("edge_type") {
        types.check_column(count, "edges")?;
        let typed = types
            .integers()?
            .into_iter()
            .map(|t| u32::try_from(t).map_err(|_| wrong("edge_type", format!("holds {t}"))));
        builder = builder.edge_types(typed.collect::<Result<_>>()?);
    }
    let graph = builder.duplicates(Duplicates::Keep).build()?;
    let labels =
        if wanted.purpose == Purpose::Predict { None } else { Some(labels(tensors, nodes)?) };
    let (splits, read) = splits(tensors, nodes, wanted)?;
    let mut notes: Vec<String> = repeats(count, &graph).into_iter().collect();
    notes.extend(unread(tensors, wanted, &read)?);
    let (features, norm) = normalised(Value::Dense(x), wanted.norm)?;
    Ok(Parts { graph, features, norm, labels, splits, from_one: false, notes })
}

/// A class per node, or several columns, each a label that a node has (1) or has not (0).
fn labels(tensors: &Tensors, nodes: usize) -> Result<FileLabels> {
    let y = Tensor::needed(tensors, "y")?;
    let in_y = |problem| wrong("y", problem);
    match *y.shape() {
        [rows, columns] if rows == nodes && columns > 1 => {
            let values = y.each(Ok, |v| Ok(v as f64))?;
            let (labels, known) = label_matrix(columns, &values).map_err(in_y)?;
            Ok(FileLabels::Several(labels, known))
        }
        [rows] | [rows, 1] if rows == nodes => {
            Ok(FileLabels::One(classes(&y.each(|v| label(v, MOST_IN_F32), Ok)?).map_err(in_y)?))
        }
        ref shape => Err(in_y(format!(
            "has shape {shape:?}, and is read as one whole number for each of the {nodes} nodes"
        ))),
    }
}

/// A note on the tensors that are not read.
///
/// # Errors
/// A name like that of a mask, where no mask is read and a split would be drawn over it.
fn unread(tensors: &Tensors, wanted: &Wanted, masks: &[&str]) -> Result<Option<String>> {
    let names = tensors.floats.keys().chain(tensors.integers.keys()).map(String::as_str);
    let mut names: Vec<&str> =
        names.filter(|name| !READ.contains(name) && !masks.contains(name)).collect();
    names.sort_unstable();
    if wanted.purpose == Purpose::Predict || wanted.split.is_some() {
        // Masks are not asked for, by whatever name.
        names.retain(|name| !PARTS.iter().any(|part| part.contains(name)));
    } else if masks.is_empty() {
        refuse_masks(&names).map_err(|problem| Error::data("tensor", problem))?;
    }
    let described = names
        .into_iter()
        .filter_map(|name| Tensor::find(tensors, name))
        .map(|t| format!("`{}` ({} {:?})", t.key, t.kind(), t.shape()));
    let described = listed(described);
    Ok((!described.is_empty()).then(|| format!("tensors that are not read: {described}")))
}

fn wrong(key: &str, problem: String) -> Error {
    Error::data("tensor", format!("`{key}` {problem}"))
}

/// The name of a tensor, and the nodes of each mask that it holds.
type Masks = (&'static str, Vec<Vec<u32>>);

/// The masks of one part of the split.
fn part<'t>(
    tensors: &'t Tensors,
    names: &'t [&'static str],
    nodes: usize,
) -> Result<Option<Masks>> {
    let mut found = names.iter().filter_map(|&name| Some((name, Tensor::find(tensors, name)?)));
    let Some((key, tensor)) = found.next() else { return Ok(None) };
    if let Some((other, _)) = found.next() {
        return Err(wrong(
            key,
            format!("and `{other}` are two tensors for one part of the split; keep one"),
        ));
    }
    if key.ends_with("_idx") {
        let node = |v: i64| match u32::try_from(v) {
            Ok(node) if (node as usize) < nodes => Ok(node),
            _ => Err(wrong(
                key,
                format!("names the node {v}; nodes are 0 to {}", nodes.saturating_sub(1)),
            )),
        };
        return Ok(Some((
            key,
            vec![tensor.integers()?.into_iter().map(node).collect::<Result<_>>()?],
        )));
    }
    let values = tensor.each(truth, |v| truth(v as f64))?;
    let count = match *tensor.shape() {
        [rows] if rows == nodes => 1,
        [rows, count] if rows == nodes && count > 0 => count,
        ref shape => {
            return Err(wrong(key, format!("has shape {shape:?}, and there are {nodes} nodes")));
        }
    };
    let members =
        |k: usize| (0..nodes as u32).filter(|&i| values[i as usize * count + k]).collect();
    Ok(Some((key, (0..count).map(members).collect())))
}

/// The splits that the masks say, if any are asked for, and the names of the tensors. Of training
/// and validation what is missing stays empty where only the test part is read.
fn splits(
    tensors: &Tensors,
    nodes: usize,
    wanted: &Wanted,
) -> Result<(Option<Splits>, Vec<&'static str>)> {
    if wanted.purpose == Purpose::Predict || wanted.split.is_some() {
        return Ok((None, Vec::new()));
    }
    let found = [
        part(tensors, PARTS[0], nodes)?,
        part(tensors, PARTS[1], nodes)?,
        part(tensors, PARTS[2], nodes)?,
    ];
    let read: Vec<&str> = found.iter().flatten().map(|(key, _)| *key).collect();
    let Some(count) = found.iter().flatten().map(|(_, masks)| masks.len()).next_back() else {
        return Ok((None, read));
    };
    let mut parts = Vec::with_capacity(3);
    for (k, part) in found.into_iter().enumerate() {
        let needed = k == 2 || wanted.purpose == Purpose::Learn;
        parts.push(match part {
            Some((key, masks)) if masks.len() != count => {
                return Err(wrong(
                    key,
                    format!(
                        "has {} masks, and `{}` has {count}",
                        masks.len(),
                        read[read.len() - 1]
                    ),
                ));
            }
            Some((_, masks)) => masks,
            None if needed => {
                return Err(wrong(PARTS[k][0], "is missing beside other masks".into()));
            }
            None => vec![Vec::new(); count],
        });
    }
    let mut parts = parts.into_iter();
    let mut next = || parts.next().expect("there are three").into_iter();
    let splits = next()
        .zip(next())
        .zip(next())
        .map(|((train, val), test)| Split { train, val, test })
        .collect();
    Ok((Some(Splits::Masks(splits)), read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_of_several_splits_stand_in_columns() {
        let mut tensors = Tensors::default();
        for (key, k) in [("train_mask", 0), ("val_mask", 1), ("test_mask", 2)] {
            // Node i is in part (i + split) mod 3 of the split.
            let values = (0..4)
                .flat_map(|i| (0..2).map(move |split| i64::from((i + split) % 3 == k)))
                .collect();
            tensors.integers.insert(key.into(), (vec![4, 2], values));
        }
        let first = Split { train: vec![0, 3], val: vec![1], test: vec![2] };
        let second = Split { train: vec![2], val: vec![0, 3], test: vec![1] };
        match splits(&tensors, 4, &Wanted::default()).unwrap().0 {
            Some(Splits::Masks(found)) => assert_eq!(found, [first, second]),
            other => panic!("{other:?}"),
        }
    }
}
