//! The heterophilous-graphs layout (Platonov et al. 2023): dense features, a list of undirected
//! pairs, ten masks.

use super::npy::Reals;
use super::{Contents, Features, Npz, Problem, index};
use crate::data::split::Splits;
use crate::graph::SelfLoops;

pub(super) const KEYS: [&str; 6] =
    ["node_features", "node_labels", "edges", "train_masks", "val_masks", "test_masks"];

/// Reads the layout as PyTorch Geometric's `HeterophilousGraphDataset` does: every pair goes both
/// ways and counts once.
pub(super) fn read(npz: &mut Npz) -> Problem<Contents> {
    let (nodes, features) = match npz.array("node_features")?.real_matrix()? {
        Reals::F32(x) => (x.nrows(), Features::F32(x.into())),
        Reals::F64(x) => (x.nrows(), Features::F64(x.into())),
    };
    let labels = npz.labels("node_labels", nodes)?;
    let edges = npz.array("edges")?.int_matrix()?;
    if edges.ncols() != 2 {
        return Err(format!(
            "`edges` has {} columns, it must have 2: one row a pair of nodes",
            edges.ncols()
        ));
    }
    let pair = |row: ndarray::ArrayView1<i64>| {
        Ok((index("edges", row[0], nodes)?, index("edges", row[1], nodes)?))
    };
    let pairs = edges.outer_iter().map(pair).collect::<Problem<_>>()?;
    let splits = npz.splits(["train_masks", "val_masks", "test_masks"], nodes)?.map(Splits::Masks);
    Ok(Contents {
        nodes,
        pairs,
        self_loops: SelfLoops::Keep,
        features,
        labels,
        splits,
        notes: Vec::new(),
    })
}
