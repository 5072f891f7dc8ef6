//! Which nodes calibrate.

use crate::data::{Dataset, check_part};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};

/// The nodes on whose values least squares is solved. No label is read in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Calibrate {
    /// Every node of the graph: the transductive setting, in which all features are at hand.
    #[default]
    All,
    /// The training nodes and all nodes within two edges into them.
    Train,
}

/// How far the neighbourhood of the training nodes reaches: the receptive field of a network of two
/// layers.
const HOPS: usize = 2;

/// Rows of one map that are looked at, at most. Beyond it every k-th row is taken: a sum over a
/// quarter of a million rows is as good.
const MOST_ROWS: usize = 1 << 18;

impl Calibrate {
    /// The rows, ascending; `None` for all of them.
    ///
    /// # Errors
    /// [`Error::Data`] for data without training nodes, where these are asked for.
    pub(super) fn rows<F: Scalar>(self, data: &Dataset<F>, seed: u64) -> Result<Option<Vec<u32>>> {
        let all = data.num_nodes();
        let rows: Vec<u32> = match self {
            Calibrate::All if all <= MOST_ROWS => return Ok(None),
            Calibrate::All => (0..all as u32).collect(),
            Calibrate::Train => neighbourhood(data, seed)?,
        };
        Ok(Some(rows.iter().copied().step_by(rows.len().div_ceil(MOST_ROWS).max(1)).collect()))
    }
}

fn neighbourhood<F: Scalar>(data: &Dataset<F>, seed: u64) -> Result<Vec<u32>> {
    let mut inside = vec![false; data.num_nodes()];
    let mut front = data.split(seed).train;
    check_part(data.name(), "train", &front)?;
    front.iter().for_each(|&node| inside[node as usize] = true);
    let adjacency = data.graph().adjacency();
    for _ in 0..HOPS {
        let mut next = Vec::new();
        for &node in &front {
            let row = adjacency.outer_view(node as usize).expect("training nodes are nodes");
            for &source in row.indices() {
                if !std::mem::replace(&mut inside[source as usize], true) {
                    next.push(source);
                }
            }
        }
        front = next;
    }
    Ok((0..inside.len() as u32).filter(|&node| inside[node as usize]).collect())
}

impl Calibrate {
    /// The nodes, as a report names them.
    pub fn in_words(self) -> &'static str {
        match self {
            Calibrate::All => "all nodes",
            Calibrate::Train => "training nodes and two hops around them",
        }
    }
}

impl std::fmt::Display for Calibrate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Calibrate::All => "all",
            Calibrate::Train => "train",
        })
    }
}

impl std::str::FromStr for Calibrate {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "all" => Ok(Calibrate::All),
            "train" => Ok(Calibrate::Train),
            _ => Err(Error::setting("`calibrate`", format!("`{word}`"), "all or train")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Split, Splits};
    use crate::{Graph, Value};

    #[test]
    fn what_is_within_two_edges_into_a_training_node_calibrates() {
        // A path 0 <- 1 <- 2 <- 3 <- 4 whose first node trains, and an edge out of it.
        let graph =
            Graph::builder(6).edges([(1, 0), (2, 1), (3, 2), (4, 3), (0, 5)]).build().unwrap();
        let split = Split { train: vec![0], val: vec![3], test: vec![4] };
        let x = Value::Dense(ndarray::Array2::zeros((6, 1)));
        let data = Dataset::<f32>::new(
            "path",
            graph,
            x,
            vec![0, 1, 0, 1, 0, 1],
            Some(2),
            Splits::Fixed(split),
        )
        .unwrap();
        assert_eq!(Calibrate::Train.rows(&data, 0).unwrap(), Some(vec![0, 1, 2]));
        assert_eq!(Calibrate::All.rows(&data, 0).unwrap(), None);
    }
}
