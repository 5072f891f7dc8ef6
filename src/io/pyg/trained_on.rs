//! What a file tells of the features that its network was trained on.

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::Tensors;
use crate::value::ValueRef;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Where the metadata of a file may hold a [`TrainedOn`].
const TRAINED_ON: &str = "gnn_prune.trained_on";
/// Mean lengths of rows that differ by no more are taken for those of other nodes of one kind:
/// scaling rows changes more.
const SAME: f64 = 0.1;

/// The features that a network was trained on, as `docs/from-pytorch.py` writes them beside its
/// weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedOn {
    /// How many a node has.
    pub columns: usize,
    /// The mean over nodes of the length of a row, `√Σx²`.
    pub row_length: f64,
}

impl TrainedOn {
    /// What a file tells, if it does.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read, or tells it in another form.
    pub fn read(path: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = path.as_ref();
        let Some(text) = Tensors::read(path)?.metadata.remove(TRAINED_ON) else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|error| {
            Error::file(path, format!("its metadata `{TRAINED_ON}` cannot be read: {error}"))
        })
    }

    /// Of the features of `data`.
    pub fn of(data: &Dataset) -> Self {
        let length = |values: &mut dyn Iterator<Item = &f32>| {
            values.map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
        };
        let sum: f64 = match data.features() {
            ValueRef::Dense(x) => x.rows().into_iter().map(|row| length(&mut row.iter())).sum(),
            ValueRef::Sparse(x) => {
                x.outer_iterator().map(|row| length(&mut row.data().iter())).sum()
            }
        };
        Self { columns: data.num_features(), row_length: sum / data.num_nodes().max(1) as f64 }
    }

    /// In what the features of `data` are others, if they are.
    pub fn differs(&self, data: &Dataset) -> Option<String> {
        let found = Self::of(data);
        let (here, there) = (found.row_length, self.row_length);
        if found.columns != self.columns {
            return Some(format!(
                "a node has {} features, and had {} where the network was trained",
                found.columns, self.columns
            ));
        }
        ((here - there).abs() > SAME * here.max(there)).then(|| {
            format!(
                "rows of the features have length {here:.3} in the mean, and {there:.3} where the network was trained: they may be scaled \
                 otherwise; `--features raw|l1|l2|binary` says how"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Splits;
    use crate::value::Value;
    use crate::{Graph, Split};

    #[test]
    fn lengths_are_compared_relative_to_the_longer() {
        let split = Split { train: vec![0], val: vec![1], test: vec![2] };
        let of = |scale: f32| {
            let (graph, x) = (
                Graph::builder(3).edges([(0, 1)]).build().unwrap(),
                Value::Dense(ndarray::array![[3.0, 4.0], [0.0, 5.0], [5.0, 0.0]] * scale),
            );
            Dataset::new("three", graph, x, vec![0, 1, 0], None, Splits::Fixed(split.clone()))
                .unwrap()
        };
        for scale in [0.001, 1.0, 1000.0] {
            let told = TrainedOn::of(&of(scale));
            assert!((told.row_length - 5.0 * f64::from(scale)).abs() < 1e-6 * f64::from(scale));
            assert_eq!(told.differs(&of(scale * 1.001)), None);
            assert!(told.differs(&of(scale * 2.0)).unwrap().contains("scaled"));
        }
    }
}
