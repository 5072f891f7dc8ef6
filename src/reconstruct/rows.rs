//! Which nodes calibrate.

use crate::data::{Dataset, check_part};
use crate::error::{Error, Result};
use crate::nn::RowSpace;
use crate::scalar::Scalar;
use crate::task::{Batch, Task};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The nodes on whose values least squares is solved. No label is read in either case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Calibrate {
    /// Every node of the graph, and every pair or graph that the task asks about: the transductive
    /// setting, in which all features are at hand.
    #[default]
    All,
    /// The training nodes and all nodes within two edges into them. Refused for tasks on pairs or
    /// graphs, which have no training nodes.
    Train,
}

/// How far the neighbourhood of the training nodes reaches: the receptive field of a network of two
/// layers.
const HOPS: usize = 2;

/// Rows of one map that are looked at, at most. Beyond it every k-th row is taken: a sum over a
/// quarter of a million rows is as good.
const MOST_ROWS: usize = 1 << 18;

/// Which rows of its maps a walk looks at.
pub(super) struct Chosen {
    /// Of a map with a row per node; `None` for every k-th of as many as there are.
    of_nodes: Option<Vec<u32>>,
}

impl Calibrate {
    /// Which rows are looked at of all of a task.
    ///
    /// # Errors
    /// [`Error::Data`] for data without training nodes, where these are asked for, and for a task
    /// that is not on nodes.
    pub(super) fn rows<F: Scalar>(
        self,
        task: &dyn Task<F>,
        whole: &Batch<F>,
        seed: u64,
    ) -> Result<Chosen> {
        let of_nodes = match self {
            Calibrate::All => None,
            Calibrate::Train if !whole.asks_about_nodes() => {
                let problem = "asks about pairs or graphs and has no training nodes to calibrate \
                               on; calibrate on all";
                return Err(Error::data(task.name(), problem));
            }
            Calibrate::Train => Some(thinned(&neighbourhood(task.data(), seed)?)),
        };
        Ok(Chosen { of_nodes })
    }
}

/// Of a map whose rows are no nodes.
static ALL: Chosen = Chosen { of_nodes: None };

impl Chosen {
    /// Of a map whose rows are these: those of relations calibrate all.
    pub(super) fn within(&self, space: RowSpace) -> &Self {
        if let RowSpace::Relations(_) = space { &ALL } else { self }
    }

    /// The rows of a map that has so many, ascending; `None` for all of them.
    pub(super) fn of(&self, rows: usize) -> Option<Cow<'_, [u32]>> {
        match &self.of_nodes {
            Some(nodes) => Some(Cow::Borrowed(nodes)),
            None if rows <= MOST_ROWS => None,
            None => Some(Cow::Owned(thinned(&(0..rows as u32).collect::<Vec<u32>>()))),
        }
    }
}

/// Every k-th of these, so that there are not too many.
fn thinned(rows: &[u32]) -> Vec<u32> {
    rows.iter().copied().step_by(rows.len().div_ceil(MOST_ROWS).max(1)).collect()
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
        let whole = data.whole().unwrap();
        let rows = |of: Calibrate| of.rows(&data, &whole, 0).unwrap();
        assert_eq!(rows(Calibrate::Train).of(5).as_deref(), Some(&[0, 1, 2][..]));
        assert_eq!(rows(Calibrate::All).of(5), None);
        // A table of relations may have fewer rows than there are nodes.
        assert_eq!(rows(Calibrate::Train).within(RowSpace::Relations(2)).of(2), None);
        assert!(rows(Calibrate::Train).within(RowSpace::Nodes).of(5).is_some());
    }
}
