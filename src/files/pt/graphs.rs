//! Several graphs in one file: a list of `Data`, or a data set of PyTorch Geometric as it saves
//! itself, all graphs end to end with the slices that tell them apart.

use super::super::{Array, Budget, Tensors};
use super::contents::Reader;
use super::storage::Storages;
use super::tree::{Id, Node, Tree};
use std::collections::BTreeMap;
use std::ops::Range;

/// How the graphs stand in the file.
enum Form<'t> {
    /// One by one.
    Each(&'t [Id]),
    /// End to end, and where each begins in each tensor.
    Sliced(Id, Id),
}

impl Form<'_> {
    /// `None` where a file is not about several graphs.
    fn of<'t>(tree: &'t Tree) -> Option<Form<'t>> {
        let items = tree.items(tree.root)?;
        match *items {
            [graphs, slices] | [graphs, slices, _]
                if tree.data(slices).is_none()
                    && tree.count(slices) > 0
                    && (tree.data(graphs).is_some()
                        || tree.get(graphs, "edge_index").is_some()) =>
            {
                Some(Form::Sliced(graphs, slices))
            }
            [_, _, ..] if items.iter().all(|&item| tree.data(item).is_some()) => {
                Some(Form::Each(items))
            }
            _ => None,
        }
    }
}

/// Whether a file holds several graphs.
pub fn are_in(tree: &Tree) -> bool {
    match Form::of(tree) {
        Some(Form::Each(_)) => true,
        Some(Form::Sliced(_, slices)) => {
            // Of one graph there are two ends.
            let is_of_one = |id: Id| {
                let shape = tree.tensor(id).and_then(|(_, args)| tree.items(*args.get(2)?));
                matches!(shape, Some(&[ends]) if matches!(tree.node(ends), Node::Int(2)))
            };
            let mut all = tree.entries(slices).into_iter().flatten();
            !all.any(|(_, places)| is_of_one(places))
        }
        None => false,
    }
}

/// The tensors of each graph.
///
/// # Errors
/// What is wrong with the file or one of its tensors, as the end of a sentence.
pub fn read(tree: &Tree, storages: Storages, budget: &Budget) -> Result<Vec<Tensors>, String> {
    let mut reader = Reader::new(tree, storages, budget)?;
    match Form::of(tree) {
        Some(Form::Each(items)) => {
            let read = |(k, &item): (usize, &Id)| {
                reader.graph(item).map_err(|problem| format!("graph {k} {problem}"))
            };
            items.iter().enumerate().map(read).collect()
        }
        Some(Form::Sliced(graphs, slices)) => {
            let joined = reader.graph(graphs)?;
            let slices = reader.slices(slices)?;
            cut(joined, &counts(tree, graphs), &slices, budget)
        }
        None => Err(format!(
            "holds {}, and a list of PyG `Data` is read, or a data set of PyG with its slices",
            tree.kind(tree.root)
        )),
    }
}

/// The numbers of nodes that a joined data set keeps as a list.
fn counts(tree: &Tree, graphs: Id) -> Vec<i64> {
    let mapping = tree.data(graphs).unwrap_or(graphs);
    let list = ["_num_nodes", "num_nodes"].iter().find_map(|key| tree.get(mapping, key));
    let number = |&id: &Id| match tree.node(id) {
        Node::Int(count) => Some(*count),
        _ => None,
    };
    let items = list.and_then(|list| tree.items(list)).unwrap_or_default();
    items.iter().map(number).collect::<Option<_>>().unwrap_or_default()
}

/// How a tensor is cut: an index of edges along its columns, and all others along their rows, as
/// `Data.__cat_dim__` says.
struct Cut {
    by_column: bool,
    rows: usize,
    columns: usize,
}

impl Cut {
    fn of(name: &str, shape: &[usize]) -> Self {
        let (by_column, rows, columns) = match shape {
            [rows, columns] if name.contains("index") => (true, *rows, *columns),
            [] => (false, 1, 1),
            [rows, rest @ ..] => (false, *rows, rest.iter().product()),
        };
        Self { by_column, rows, columns }
    }

    /// How long it is where it is cut.
    fn along(&self) -> usize {
        if self.by_column { self.columns } else { self.rows }
    }

    /// The shape and the numbers of one part.
    fn part<T: Copy>(
        &self,
        shape: &[usize],
        values: &[T],
        range: Range<usize>,
    ) -> (Vec<usize>, Vec<T>) {
        let mut shape = shape.to_vec();
        if let Some(axis) = shape.get_mut(usize::from(self.by_column)) {
            *axis = range.len();
        }
        let columns = self.columns;
        if !self.by_column {
            return (shape, values[range.start * columns..range.end * columns].to_vec());
        }
        let row = |row: usize| values[row * columns..][range.clone()].iter().copied();
        (shape, (0..self.rows).flat_map(row).collect())
    }
}

/// Cuts tensors into those of each graph.
fn cut(
    joined: Tensors,
    counts: &[i64],
    slices: &BTreeMap<String, Vec<usize>>,
    budget: &Budget,
) -> Result<Vec<Tensors>, String> {
    let graphs = slices.values().map(|ends| ends.len() - 1).max().unwrap_or(0);
    let mut each: Vec<Tensors> = Vec::new();
    budget
        .take(&[graphs], size_of::<Tensors>())
        .map_err(|problem| format!("its slices: a list of graphs {problem}"))?;
    each.resize_with(graphs, Tensors::default);
    let ends = |name: &str, along: usize| -> Result<&[usize], String> {
        let ends = slices.get(name).ok_or_else(|| {
            format!("has no slices of `{name}`, so that it is not known whose it is")
        })?;
        let fits = ends.len() == graphs + 1
            && ends.first() == Some(&0)
            && ends.last() == Some(&along)
            && ends.windows(2).all(|pair| pair[0] <= pair[1]);
        if fits {
            return Ok(ends);
        }
        Err(format!("has slices of `{name}` that do not cut its {along} into {graphs} graphs"))
    };
    for (name, array) in &joined.floats {
        let cut = Cut::of(name, &array.shape);
        for (own, pair) in each.iter_mut().zip(ends(name, cut.along())?.windows(2)) {
            let (shape, values) = cut.part(&array.shape, &array.values, pair[0]..pair[1]);
            own.floats.insert(name.clone(), Array { shape, values });
        }
    }
    for (name, (shape, values)) in &joined.integers {
        let cut = Cut::of(name, shape);
        for (own, pair) in each.iter_mut().zip(ends(name, cut.along())?.windows(2)) {
            own.integers.insert(name.clone(), cut.part(shape, values, pair[0]..pair[1]));
        }
    }
    if !counts.is_empty() {
        if counts.len() != graphs {
            return Err(format!("has numbers of nodes of {} graphs, not {graphs}", counts.len()));
        }
        for (own, count) in each.iter_mut().zip(counts) {
            own.integers.insert("num_nodes".into(), (Vec::new(), vec![*count]));
        }
    }
    Ok(each)
}
