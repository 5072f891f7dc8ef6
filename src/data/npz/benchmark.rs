//! The gnn-benchmark layout (Shchur et al. 2018): adjacency and features as two CSR matrices,
//! public masks where there are any.

use super::npy::{Array, Reals};
use super::{Contents, Features, Npz, Problem, index};
use crate::data::split::Splits;
use crate::graph::SelfLoops;
use crate::scalar::Scalar;
use crate::value::{Csr, Value};

pub(super) const KEYS: [&str; 9] = [
    "adj_data",
    "adj_indices",
    "adj_indptr",
    "adj_shape",
    "attr_data",
    "attr_indices",
    "attr_indptr",
    "attr_shape",
    "labels",
];
pub(super) const MASKS: [&str; 3] = ["train_mask", "val_mask", "test_mask"];

/// Reads the layout as PyTorch Geometric's `read_npz` does: weights are dropped, self-loops
/// removed, every edge goes both ways.
pub(super) fn read(npz: &mut Npz) -> Problem<Contents> {
    let (adjacency, weights) =
        Pattern::read(npz, ["adj_data", "adj_indices", "adj_indptr", "adj_shape"])?;
    let nodes = adjacency.rows();
    let labels = npz.labels("labels", nodes)?;
    if adjacency.columns != nodes {
        let (rows, columns) = (nodes, adjacency.columns);
        return Err(format!(
            "`adj_shape` is [{rows}, {columns}]: a graph has as many rows as columns"
        ));
    }
    let (features, data) =
        Pattern::read(npz, ["attr_data", "attr_indices", "attr_indptr", "attr_shape"])?;
    if features.rows() != nodes {
        return Err(format!(
            "`attr_shape` has {} rows, and there are {nodes} nodes",
            features.rows()
        ));
    }
    let features = match data.real_vector()? {
        Reals::F32(data) => Features::F32(
            features.with(data.as_slice().expect("a vector that was read is contiguous")),
        ),
        Reals::F64(data) => Features::F64(
            features.with(data.as_slice().expect("a vector that was read is contiguous")),
        ),
    };
    let splits = match MASKS.map(|key| npz.has(key)) {
        [false, false, false] => None,
        _ => npz.splits(MASKS, nodes)?.map(|mut splits| match splits.len() {
            1 => Splits::Fixed(splits.swap_remove(0)),
            _ => Splits::Masks(splits),
        }),
    };
    let mut notes = Vec::new();
    let weighted = match weights.real_vector()? {
        Reals::F32(weights) => weights.iter().filter(|w| **w != 1.0).count(),
        Reals::F64(weights) => weights.iter().filter(|w| **w != 1.0).count(),
    };
    if weighted > 0 {
        notes.push(format!("{weighted} entries of `adj_data` are not 1, and are taken as 1 as PyTorch Geometric's reader does"));
    }
    let loops = adjacency.entries().filter(|(row, column)| row == column).count();
    if loops > 0 {
        notes.push(format!("{loops} self-loops are left out, as PyTorch Geometric's reader does"));
    }
    Ok(Contents {
        nodes,
        pairs: adjacency.entries().collect(),
        self_loops: SelfLoops::Remove,
        features,
        labels,
        splits,
        notes,
    })
}

/// Where a CSR matrix has entries, as the file lists them.
struct Pattern {
    indptr: Vec<usize>,
    indices: Vec<u32>,
    columns: usize,
}

impl Pattern {
    /// Also gives the array of its values.
    fn read(
        npz: &mut Npz,
        [data, indices, indptr, shape]: [&'static str; 4],
    ) -> Problem<(Self, Array)> {
        let dims = npz.array(shape)?.int_vector()?;
        let (rows, columns) = match dims.as_slice() {
            &[rows, columns] => match (u32::try_from(rows), u32::try_from(columns)) {
                (Ok(rows), Ok(columns)) => (rows as usize, columns as usize),
                _ => {
                    return Err(format!(
                        "`{shape}` is [{rows}, {columns}]; each must lie between 0 and {}",
                        u32::MAX
                    ));
                }
            },
            other => return Err(format!("`{shape}` has {} entries, it must have 2", other.len())),
        };
        let starts = npz.array(indptr)?.int_vector()?;
        if starts.len() != rows + 1 {
            return Err(format!(
                "`{indptr}` has {} entries, and the {rows} rows of `{shape}` need one more than there are rows",
                starts.len()
            ));
        }
        let columns_of = npz.array(indices)?.int_vector()?;
        let entries = npz.array(data)?;
        let values = entries.vector_len()?;
        if values != columns_of.len() {
            return Err(format!(
                "`{data}` has {values} entries and `{indices}` {}; they must agree",
                columns_of.len()
            ));
        }
        if starts.first() != Some(&0)
            || starts.last().and_then(|&end| usize::try_from(end).ok()) != Some(values)
        {
            return Err(format!(
                "`{indptr}` must begin with 0 and end with {values}, the length of `{indices}`"
            ));
        }
        if let Some(row) = starts.windows(2).position(|bounds| bounds[0] > bounds[1]) {
            return Err(format!(
                "`{indptr}` is not monotone: it falls from {} to {} at row {row}",
                starts[row],
                starts[row + 1]
            ));
        }
        let columns_of = columns_of
            .into_iter()
            .map(|column| index(indices, column, columns))
            .collect::<Problem<_>>()?;
        let indptr = starts.into_iter().map(|start| start as usize).collect();
        Ok((Self { indptr, indices: columns_of, columns }, entries))
    }

    fn rows(&self) -> usize {
        self.indptr.len() - 1
    }

    fn entries(&self) -> impl Iterator<Item = (u32, u32)> {
        let bounds = (0u32..).zip(self.indptr.windows(2));
        bounds.flat_map(|(row, bounds)| {
            self.indices[bounds[0]..bounds[1]].iter().map(move |&column| (row, column))
        })
    }

    /// The matrix with `data`: rows sorted, entries that are listed twice added up, zeros dropped.
    fn with<F: Scalar>(self, data: &[F]) -> Value<F> {
        let mut indptr = vec![0];
        let (mut indices, mut kept) =
            (Vec::with_capacity(data.len()), Vec::with_capacity(data.len()));
        let mut row: Vec<(u32, F)> = Vec::new();
        for bounds in self.indptr.windows(2) {
            let stored = bounds[0]..bounds[1];
            row.clear();
            row.extend(
                self.indices[stored.clone()].iter().copied().zip(data[stored].iter().copied()),
            );
            row.sort_by_key(|&(column, _)| column);
            for entry in row.chunk_by(|a, b| a.0 == b.0) {
                let value: F = entry.iter().map(|&(_, value)| value).sum();
                if value != F::zero() {
                    indices.push(entry[0].0);
                    kept.push(value);
                }
            }
            indptr.push(indices.len());
        }
        Value::Sparse(Csr::new((self.rows(), self.columns), indptr, indices, kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_are_listed_twice_are_added_up_and_zeros_dropped() {
        let pattern =
            Pattern { indptr: vec![0, 4, 6], indices: vec![2, 0, 2, 1, 1, 1], columns: 3 };
        let Value::Sparse(x) = pattern.with(&[1.0, 5.0, 2.5, 0.0, 3.0, -3.0]) else {
            panic!("it is sparse")
        };
        assert_eq!(x.to_dense(), ndarray::array![[5.0, 0.0, 3.5], [0.0, 0.0, 0.0]]);
        assert_eq!(x.nnz(), 2);
    }
}
