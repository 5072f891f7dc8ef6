//! What a graph takes from its nodes, and which nodes those are.

use super::rows::Rows;
use crate::error::{Error, Result};
use crate::graph::Operator;
use crate::scalar::Scalar;
use crate::value::Csr;
use serde::{Deserialize, Serialize};

/// What a graph takes from its nodes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pooling {
    /// Their sum, which tells graphs of different size apart.
    #[default]
    Sum,
    /// Their mean.
    Mean,
    /// The largest of each channel.
    Max,
}

impl std::fmt::Display for Pooling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Pooling::Sum => "sum",
            Pooling::Mean => "mean",
            Pooling::Max => "max",
        })
    }
}

impl std::str::FromStr for Pooling {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "sum" | "add" => Ok(Self::Sum),
            "mean" => Ok(Self::Mean),
            "max" => Ok(Self::Max),
            _ => Err(Error::setting("pooling", word, "sum, mean or max")),
        }
    }
}

/// How many nodes each graph has.
pub(super) fn sizes(graph_of: &[u32], count: usize) -> Vec<usize> {
    let mut sizes = vec![0; count];
    graph_of.iter().for_each(|&graph| sizes[graph as usize] += 1);
    sizes
}

impl Pooling {
    /// What a node weighs in its graph, by the nodes that this has.
    pub(super) fn share<F: Scalar>(self, size: usize) -> F {
        if self == Pooling::Mean { F::of(1.0 / size.max(1) as f64) } else { F::one() }
    }

    /// `[graphs, nodes]`: the nodes of each graph, ascending, with what they weigh.
    pub(super) fn members<F: Scalar>(self, graph_of: &[u32], count: usize) -> Csr<F> {
        let sizes = sizes(graph_of, count);
        let mut starts = vec![0; count + 1];
        (0..count).for_each(|graph| starts[graph + 1] = starts[graph] + sizes[graph]);
        let (mut next, mut nodes) = (starts.clone(), vec![0u32; graph_of.len()]);
        for (node, &graph) in (0u32..).zip(graph_of) {
            nodes[next[graph as usize]] = node;
            next[graph as usize] += 1;
        }
        let shares = sizes.iter().flat_map(|&size| std::iter::repeat_n(self.share(size), size));
        Csr::new((count, graph_of.len()), starts, nodes, shares.collect())
    }

    /// What a sum or a mean over the nodes of each graph multiplies by, `[graphs, nodes]`.
    ///
    /// # Errors
    /// [`Error::NoGraphs`] naming `at` where the batch says nothing of graphs,
    /// [`Error::ShapeMismatch`] where it does of another number of nodes.
    pub(crate) fn operator<F: Scalar>(
        self,
        rows: &Rows<F>,
        nodes: usize,
        at: &str,
    ) -> Result<Operator<F>> {
        let (graph_of, count) =
            rows.graph_of_nodes().ok_or_else(|| Error::NoGraphs { at: at.into() })?;
        if graph_of.len() != nodes {
            let (expected, found) = ((nodes, 1), (graph_of.len(), 1));
            let at = format!("{at}: graphs of the nodes");
            return Err(Error::ShapeMismatch { at, expected, found });
        }
        Ok(Operator::of_matrix(self.members(graph_of, count)))
    }
}
