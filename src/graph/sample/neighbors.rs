//! A few neighbours of each node, hop by hop.

use super::draws;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::graph::hop::{FanOut, Hop};
use crate::graph::marks::Marks;
use crate::rng::purpose;
use crate::scalar::Scalar;
use std::sync::Mutex;

/// Most hops of a sample, as [`Rows::hops`](crate::nn::Rows::hops) has it.
const MOST_HOPS: usize = 255;

/// Draws the in-neighbours that a few nodes are computed from: at each hop at most so many of each
/// node's, without replacement, each set of them as likely as any other. What the operators of such
/// hops are, [`Hop`] says.
///
/// What is drawn for a node follows the seed, the epoch, the node and the hop alone: not the other
/// nodes of the batch, and not the number of threads. A fan-out that a node has no more neighbours
/// than takes them all.
///
/// *Source*: Hamilton et al., "Inductive Representation Learning on Large Graphs", NeurIPS 2017,
/// algorithm 2.
///
/// ```
/// use gnn_prune::graph::{Graph, NeighborSampler};
/// let star = Graph::builder(9).edges((1..9).map(|leaf| (leaf, 0))).undirected(true).build()?;
/// let sampler = NeighborSampler::new(&star, &[3, 2], 7)?;
/// let hops = sampler.hops(1, &[0])?;
/// // The last hop reads three of the hub's leaves; the first, two neighbours of those four nodes.
/// assert_eq!((hops[1].num_edges(), hops[1].num_sources()), (3, 4));
/// assert_eq!(hops[0].targets(), hops[1].sources());
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct NeighborSampler<F: Scalar = f32> {
    graph: Graph<F>,
    fan_outs: Vec<usize>,
    seed: u64,
    /// Of threads that are not drawing: a word per node each.
    free: Mutex<Vec<Marks>>,
}

impl<F: Scalar> NeighborSampler<F> {
    /// Draws from `graph`: the first fan-out is that of the nodes that are asked for, the next that
    /// of their neighbours, and so on, as PyTorch Geometric's `num_neighbors` are listed.
    ///
    /// # Errors
    /// [`Error::Setting`] for no fan-out, more than 255, and one of zero.
    pub fn new(graph: &Graph<F>, fan_outs: &[usize], seed: u64) -> Result<Self> {
        check_fan_outs(fan_outs)?;
        let (graph, fan_outs, free) = (graph.clone(), fan_outs.to_vec(), Mutex::default());
        Ok(Self { graph, fan_outs, seed, free })
    }

    /// The hops that lead to `targets`, the one that runs first first, as
    /// [`Rows::hops`](crate::nn::Rows::hops) takes them.
    ///
    /// # Errors
    /// As [`Hop::into_nodes`].
    pub fn hops(&self, epoch: u64, targets: &[u32]) -> Result<Vec<Hop<F>>> {
        // A poisoned lock only means that another thread panicked between two whole operations.
        let free = || self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = free().pop();
        let mut marks = known.unwrap_or_else(|| Marks::new(self.graph.num_nodes()));
        let mut backwards: Vec<Hop<F>> = Vec::with_capacity(self.fan_outs.len());
        for (hop, &most) in (0u64..).zip(&self.fan_outs) {
            // Hops are counted from the targets, so that a deeper sample begins as a shallower one.
            let key = [purpose::SAMPLE, draws::NEIGHBORS, epoch << 8 | hop];
            let fan_out = FanOut { most, seed: self.seed, key: &key };
            let targets = backwards.last().map_or(targets, Hop::sources);
            backwards.push(Hop::drawn(&self.graph, targets, Some(fan_out), &mut marks)?);
        }
        free().push(marks);
        backwards.reverse();
        Ok(backwards)
    }
}

/// Refuses what are no fan-outs.
fn check_fan_outs(fan_outs: &[usize]) -> Result<()> {
    if fan_outs.is_empty() || fan_outs.len() > MOST_HOPS {
        let legal = format!("from 1 to {MOST_HOPS}, one per hop");
        return Err(Error::setting("number of fan-outs", fan_outs.len(), legal));
    }
    match fan_outs.iter().find(|most| **most == 0 || **most > u32::MAX as usize) {
        Some(most) => Err(Error::setting("fan-out", most, "from 1 to 4294967295")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::AdjacencyNorm;
    use crate::testing::random_graph;
    use ndarray::Array2;

    #[test]
    fn what_is_drawn_for_a_node_depends_on_no_other_node() {
        let graph: Graph<f64> = random_graph(3, 40);
        let sampler = NeighborSampler::new(&graph, &[2, 1], 5).unwrap();
        let n = graph.num_nodes() as u32;
        let into = |hop: &Hop<f64>, target: u32| {
            let place = hop.targets().iter().position(|&node| node == target).unwrap();
            let operator = hop.operator(AdjacencyNorm::UnweightedSum).unwrap();
            let row: Vec<u32> = operator
                .forward()
                .outer_view(place)
                .unwrap()
                .indices()
                .iter()
                .map(|&source| hop.sources()[source as usize])
                .collect();
            let mut row = row;
            row.sort_unstable();
            row
        };
        let mut differs = false;
        for epoch in 1..4 {
            let all: Vec<u32> = (0..n).collect();
            let together = sampler.hops(epoch, &all).unwrap();
            let other = sampler.hops(epoch + 1, &all).unwrap();
            for node in 0..n {
                let alone = sampler.hops(epoch, &[node]).unwrap();
                assert_eq!(into(&alone[1], node), into(&together[1], node));
                for &source in alone[1].sources() {
                    assert_eq!(into(&alone[0], source), into(&together[0], source));
                }
                differs |= into(&together[1], node) != into(&other[1], node);
            }
        }
        assert!(differs, "epochs draw alike");
    }

    #[test]
    fn the_operator_of_a_sample_is_in_expectation_that_of_the_graph() {
        let graph: Graph<f64> = random_graph(11, 14);
        let n = graph.num_nodes();
        let targets: Vec<u32> = (0..n as u32).collect();
        let sampler = NeighborSampler::new(&graph, &[2], 1).unwrap();
        const EPOCHS: u64 = 6000;
        for norm in [AdjacencyNorm::Symmetric, AdjacencyNorm::UnweightedMean, AdjacencyNorm::Sum] {
            let whole = graph.operator(norm).unwrap();
            let (mut sum, mut squares) =
                (Array2::<f64>::zeros((n, n)), Array2::<f64>::zeros((n, n)));
            for epoch in 0..EPOCHS {
                let hop = sampler.hops(epoch, &targets).unwrap().remove(0);
                let operator = hop.operator(norm).unwrap();
                for (&w, (i, j)) in operator.forward().iter() {
                    let at = [i as usize, hop.sources()[j as usize] as usize];
                    sum[at] += w;
                    squares[at] += w * w;
                }
            }
            let count = EPOCHS as f64;
            for ((i, j), &total) in sum.indexed_iter() {
                let expected = whole.forward().get(i, j).copied().unwrap_or(0.0);
                let variance = squares[[i, j]] / count - (total / count).powi(2);
                // Five deviations of a mean.
                let far = 5.0 * (variance.max(0.0) / count).sqrt() + 1e-12;
                let off = (total / count - expected).abs();
                assert!(off <= far, "{norm:?} at {i} {j}: off by {off}, {far} allowed");
            }
        }
    }

    #[test]
    fn a_mean_of_a_sample_is_that_of_the_neighbours_drawn() {
        let star = Graph::builder(9).edges((1..9).map(|leaf| (leaf, 0))).build().unwrap();
        let sampler = NeighborSampler::new(&star, &[4], 0).unwrap();
        let hop = sampler.hops(1, &[0]).unwrap().remove(0);
        let mean = hop.operator(AdjacencyNorm::Mean).unwrap();
        assert_eq!(mean.forward().data(), [0.25; 4]);
    }

    #[test]
    fn fan_outs_out_of_range_are_refused() {
        let graph = Graph::builder(2).build().unwrap();
        for (fan_outs, what) in
            [(&[][..], "number of fan-outs is 0"), (&[3, 0][..], "fan-out is 0")]
        {
            let error = NeighborSampler::new(&graph, fan_outs, 0).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
