//! From what files list of graphs to a set of them.

use super::set::GraphSet;
use crate::error::{Error, Result};
use crate::files::Budget;
use crate::graph::{Duplicates, Graph};
use crate::value::{Csr, Value};
use ndarray::Array2;
use std::collections::BTreeMap;
use std::path::Path;

/// Tags make a dense matrix of ones and zeros up to so many columns, and a sparse one beyond.
const MOST_DENSE: usize = 64;

/// Numbers row by row; every row has `width` of them.
#[derive(Debug, Clone)]
pub(super) struct Table<T> {
    pub width: usize,
    pub values: Vec<T>,
}

/// As a derived default, for any kind of numbers.
impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { width: 0, values: Vec::new() }
    }
}

/// What a file or a folder lists.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub name: String,
    /// Nodes of each graph.
    pub sizes: Vec<usize>,
    pub labels: Vec<i64>,
    /// Source and target of each edge, among the nodes of all graphs.
    pub edges: Vec<(usize, usize)>,
    pub undirected: bool,
    /// Whether an edge that is listed twice counts twice.
    pub keep_repeats: bool,
    /// Columns of categories for each node.
    pub tags: Table<i64>,
    pub attributes: Table<f32>,
    /// As for nodes, for each edge.
    pub edge_tags: Table<i64>,
    pub edge_attributes: Table<f32>,
    /// Of all that was read.
    pub bytes: u64,
}

/// The distinct values of a column, each with its place in sorted order.
fn places(values: impl Iterator<Item = i64>) -> BTreeMap<i64, usize> {
    let mut places: BTreeMap<i64, usize> = values.map(|value| (value, 0)).collect();
    places.values_mut().enumerate().for_each(|(k, place)| *place = k);
    places
}

/// For every row the columns of its ones, where each column of categories has as many as there are
/// distinct values; and how many columns that makes.
fn one_hot(table: &Table<i64>) -> (Vec<usize>, usize) {
    let (mut ones, mut width) = (vec![0; table.values.len()], 0);
    for column in 0..table.width {
        let own = || table.values.iter().skip(column).step_by(table.width);
        let places = places(own().copied());
        let of_rows = ones.iter_mut().skip(column).step_by(table.width);
        of_rows.zip(own()).for_each(|(one, value)| *one = width + places[value]);
        width += places.len();
    }
    (ones, width)
}

/// The row of a table, if it has columns.
fn row<T>(values: &[T], width: usize, row: usize) -> &[T] {
    &values[row * width..][..width]
}

impl Listed {
    /// The set.
    ///
    /// # Errors
    /// [`Error::File`] for `path` where what was read makes none.
    pub(super) fn into_set(mut self, path: &Path) -> Result<GraphSet> {
        let wrong = |error: Error| match error {
            Error::File { .. } => error,
            Error::ConflictingEdge { from, to } => {
                let problem = "is listed twice, with different labels or attributes; list it once";
                Error::file(path, format!("the edge from node {from} to node {to} {problem}"))
            }
            other => Error::file(path, other),
        };
        let nodes: usize = self.sizes.iter().sum();
        if nodes == 0 {
            return Err(Error::file(path, "has no graph"));
        }
        let edge_features = self.edge_features().map_err(|problem| Error::file(path, problem))?;
        let edges = std::mem::take(&mut self.edges);
        let builder = Graph::builder(nodes).edges(edges).undirected(self.undirected);
        let builder = match self.keep_repeats {
            true => builder.duplicates(Duplicates::Keep),
            false => builder,
        };
        let builder = match edge_features {
            Some(features) => builder.edge_features(features),
            None => builder,
        };
        let graph = builder.build().map_err(wrong)?;
        let says_nothing = self.tags.values.iter().all(|tag| *tag == self.tags.values[0]);
        if says_nothing && self.attributes.width == 0 {
            let (starts, _) = graph.edge_list();
            let degrees = starts.windows(2).map(|ends| (ends[1] - ends[0]) as i64);
            self.tags = Table { width: 1, values: degrees.collect() };
        }
        let features = self.features(nodes);
        let places = places(self.labels.iter().copied());
        let labels = self.labels.iter().map(|label| places[label] as u32).collect();
        let classes = places.keys().map(i64::to_string).collect();
        let mut starts = vec![0];
        self.sizes.iter().for_each(|size| starts.push(starts[starts.len() - 1] + size));
        GraphSet::of_parts(self.name, graph, features, starts, labels, classes).map_err(wrong)
    }

    /// Ones for tags, then attributes.
    fn features(&self, nodes: usize) -> Value<f32> {
        let (ones, columns) = one_hot(&self.tags);
        let (tags, own) = (self.tags.width, self.attributes.width);
        let width = columns + own;
        if columns <= MOST_DENSE {
            let mut x = Array2::zeros((nodes, width));
            for (i, mut x) in x.rows_mut().into_iter().enumerate() {
                row(&ones, tags, i).iter().for_each(|&one| x[one] = 1.0);
                let attributes = row(&self.attributes.values, own, i).iter();
                attributes.enumerate().for_each(|(c, &value)| x[columns + c] = value);
            }
            return Value::Dense(x);
        }
        let (mut indices, mut values) = (Vec::new(), Vec::new());
        for i in 0..nodes {
            let ones = row(&ones, tags, i).iter().map(|&one| (one as u32, 1.0));
            let attributes = (columns as u32..).zip(row(&self.attributes.values, own, i).to_vec());
            let (own_indices, own_values): (Vec<u32>, Vec<f32>) = ones.chain(attributes).unzip();
            indices.extend(own_indices);
            values.extend(own_values);
        }
        let starts = (0..=nodes).map(|i| i * (tags + own)).collect();
        Value::Sparse(Csr::new((nodes, width), starts, indices, values))
    }

    /// Ones for tags of edges, then attributes, where there are any; what is wrong with them.
    fn edge_features(&self) -> Result<Option<Array2<f32>>, String> {
        let (ones, columns) = one_hot(&self.edge_tags);
        let (tags, own) = (self.edge_tags.width, self.edge_attributes.width);
        if columns + own == 0 {
            return Ok(None);
        }
        let shape = (self.edges.len(), columns + own);
        Budget::of_bytes(self.bytes)
            .take(&[shape.0, shape.1], size_of::<f32>())
            .map_err(|problem| format!("features of the edges: {problem}"))?;
        let mut features = Array2::zeros(shape);
        for (e, mut x) in features.rows_mut().into_iter().enumerate() {
            row(&ones, tags, e).iter().for_each(|&one| x[one] = 1.0);
            let attributes = row(&self.edge_attributes.values, own, e).iter();
            attributes.enumerate().for_each(|(c, &value)| x[columns + c] = value);
        }
        Ok(Some(features))
    }
}
