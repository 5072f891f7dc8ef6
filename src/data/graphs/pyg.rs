//! Graphs as PyTorch Geometric saves them: a list of `Data`, or a data set with its slices.

use super::listed::Listed;
use super::set::GraphSet;
use crate::data::listed::listed;
use crate::data::numbers::{MOST_IN_F32, whole};
use crate::error::{Error, Result};
use crate::files::{Budget, Tensors};
use std::collections::BTreeSet;
use std::path::Path;

/// What is read of each graph.
const READ: [&str; 5] = ["x", "edge_index", "edge_attr", "y", "num_nodes"];

/// What a node costs that has nothing but a place.
const BYTES_OF_A_NODE: usize = 64;

impl GraphSet<f32> {
    /// Reads what `torch.save` wrote of several graphs of PyTorch Geometric: a list of `Data`, or
    /// the `data.pt` of an `InMemoryDataset`. Of each graph `edge_index`, `y` (its class, a whole
    /// number) and, where they are there, `x` and `edge_attr` are read; without `x` there must be
    /// `num_nodes`, and the number of neighbours stands for a category. Edges lead where they are
    /// listed to, and one that is listed twice counts twice. Classes are the labels in sorted
    /// order. What else the graphs have is named in [`GraphSet::notes`].
    ///
    /// # Errors
    /// [`Error::File`] naming the graph: for a tensor that is missing, has another shape or type,
    /// names a node that there is not, or has another width than those before.
    pub fn read_pyg(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let size = path.metadata().map_or(0, |about| about.len());
        let mut all = Listed { name, bytes: size, keep_repeats: true, ..Listed::default() };
        let (budget, mut unread) = (Budget::of_bytes(size), BTreeSet::new());
        for (k, tensors) in Tensors::read_graphs(path)?.iter().enumerate() {
            add(&mut all, tensors, k == 0, &budget)
                .map_err(|problem| Error::file(path, format!("graph {k}: {problem}")))?;
            let names = tensors.floats.keys().chain(tensors.integers.keys());
            unread.extend(names.filter(|name| !READ.contains(&name.as_str())).cloned());
        }
        let unread = listed(unread.iter().map(|name| format!("`{name}`")));
        let notes = (!unread.is_empty()).then(|| format!("tensors that are not read: {unread}"));
        Ok(all.into_set(path)?.noted(notes.into_iter().collect()))
    }
}

/// The shape of a tensor, and its numbers row by row.
type Shaped<T> = (Vec<usize>, Vec<T>);

/// A tensor as numbers.
fn numbers(tensors: &Tensors, name: &str) -> Option<Shaped<f32>> {
    let floats = tensors.floats.get(name).map(|a| (a.shape.clone(), a.values.clone()));
    floats.or_else(|| {
        let (shape, values) = tensors.integers.get(name)?;
        Some((shape.clone(), values.iter().map(|&value| value as f32).collect()))
    })
}

/// A tensor as whole numbers.
fn integers(tensors: &Tensors, name: &str) -> Result<Option<Shaped<i64>>, String> {
    if let Some(found) = tensors.integers.get(name) {
        return Ok(Some(found.clone()));
    }
    let Some(floats) = tensors.floats.get(name) else { return Ok(None) };
    let values = floats.values.iter().map(|&value| whole(f64::from(value), MOST_IN_F32));
    let values = values.collect::<Result<_, _>>().map_err(|problem| format!("`{name}` {problem}"));
    Ok(Some((floats.shape.clone(), values?)))
}

/// Rows of a tensor, a vector as a column: how many, how wide, and the numbers.
fn rows(
    tensors: &Tensors,
    name: &str,
    count: Option<usize>,
) -> Result<Option<(usize, usize, Vec<f32>)>, String> {
    let Some((shape, values)) = numbers(tensors, name) else { return Ok(None) };
    let (found, width) = match *shape {
        [rows] => (rows, 1),
        [rows, width] => (rows, width),
        _ => return Err(format!("`{name}` has shape {shape:?}, and rows are read")),
    };
    match count {
        Some(count) if count != found => {
            Err(format!("`{name}` has {found} rows, and {count} are read"))
        }
        _ => Ok(Some((found, width, values))),
    }
}

/// Adds the graph of these tensors.
fn add(all: &mut Listed, tensors: &Tensors, is_first: bool, budget: &Budget) -> Result<(), String> {
    let stated = match integers(tensors, "num_nodes")? {
        Some((_, values)) if values.len() == 1 => Some(values[0]),
        Some((shape, _)) => return Err(format!("`num_nodes` has shape {shape:?}")),
        None => tensors.metadata.get("data.num_nodes").and_then(|count| count.parse().ok()),
    };
    let stated = stated
        .map(|count| usize::try_from(count).map_err(|_| format!("has {count} nodes")))
        .transpose()?;
    let x = rows(tensors, "x", stated)?;
    let nodes = match (&x, stated) {
        (Some((rows, _, _)), _) => *rows,
        // A number that no row stands behind.
        (None, Some(count)) => {
            budget
                .take(&[count], BYTES_OF_A_NODE)
                .map_err(|problem| format!("`num_nodes` {problem}"))?;
            count
        }
        (None, None) => return Err("has neither `x` nor `num_nodes`".into()),
    };
    if nodes == 0 {
        return Err("has no node".into());
    }
    let (shape, ends) = integers(tensors, "edge_index")?.ok_or("has no `edge_index`")?;
    let &[2, edges] = &shape[..] else {
        return Err(format!("`edge_index` has shape {shape:?}, expected [2, edges]"));
    };
    let start: usize = all.sizes.iter().sum();
    let node = |end: i64| match usize::try_from(end) {
        Ok(node) if node < nodes => Ok(start + node),
        _ => Err(format!("`edge_index` names the node {end}, and it has {nodes}")),
    };
    for e in 0..edges {
        all.edges.push((node(ends[e])?, node(ends[edges + e])?));
    }
    let attributes = rows(tensors, "edge_attr", Some(edges))?;
    for (name, found, table) in
        [("x", x, &mut all.attributes), ("edge_attr", attributes, &mut all.edge_attributes)]
    {
        let (width, values) = found.map_or((0, Vec::new()), |(_, width, values)| (width, values));
        if !is_first && width != table.width {
            return Err(format!("`{name}` has {width} columns, and {} before", table.width));
        }
        table.width = width;
        table.values.extend(values);
    }
    let (shape, label) = integers(tensors, "y")?.ok_or("has no `y`, its class")?;
    let &[label] = &label[..] else {
        return Err(format!("`y` has shape {shape:?}, and one class for the graph is read"));
    };
    all.labels.push(label);
    all.sizes.push(nodes);
    Ok(())
}
