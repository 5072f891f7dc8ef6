//! How often nodes and edges are drawn, and what that is corrected by.

use super::subgraphs::SubgraphSampler;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::graph::marks::Marks;
use crate::scalar::Scalar;
use rayon::prelude::*;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// How often a sampler draws each node and each pair of neighbours, counted on subgraphs that are
/// drawn for nothing else, and the subgraphs that are corrected by it.
///
/// With `N` subgraphs, of which `C_v` have node `v` and `C_uv` both ends of the edge `u → v`, the
/// operators of a subgraph have the whole graph's entries divided by `α_uv = C_uv / C_v`, so that
/// what a node of a subgraph takes from its neighbours is in expectation what it takes from all of
/// them; and the loss of a node that is divided by `C_v / N` adds up to that of all nodes. What was
/// never drawn counts as drawn once.
///
/// *Source*: Zeng et al., "GraphSAINT", ICLR 2020, section 3.2, equations 2 and 3.
///
/// ```
/// use gnn_prune::graph::{Coverage, SubgraphSampler};
/// use gnn_prune::{AdjacencyNorm, Dataset};
/// let data = Dataset::sbm(300, 3).build()?;
/// let sampler = SubgraphSampler::walks(data.graph(), 20, 3)?;
/// let coverage = Coverage::of(&sampler, 50, 0)?;
/// let (part, nodes) = coverage.subgraph(&sampler, 0, &[1, 0])?;
/// assert_eq!(part.num_nodes(), nodes.len());
/// let weights = coverage.node_weights(&nodes);
/// assert!(weights.iter().all(|w| *w >= 1.0));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct Coverage {
    subgraphs: u32,
    /// Of all of them together.
    drawn: u64,
    nodes: Vec<u32>,
    /// By stored edges.
    edges: Vec<u32>,
    free: Mutex<Vec<Marks>>,
}

/// Subgraphs that are counted between two looks at how many there are, whatever the threads.
const ROUND: u64 = 16;

/// Most times that a node is counted on average.
const MOST: usize = 100_000;

impl Coverage {
    /// Draws subgraphs until they have each node `times` times on average, under `seed`.
    ///
    /// # Errors
    /// [`Error::Setting`] for no times, and more than 100,000.
    pub fn of<F: Scalar>(sampler: &SubgraphSampler<F>, times: usize, seed: u64) -> Result<Self> {
        if !(1..=MOST).contains(&times) {
            let legal = format!("from 1 to {MOST}");
            return Err(Error::setting("times that a node is drawn", times, legal));
        }
        let graph = sampler.graph();
        let (starts, sources, _) = graph.adjacency().into_raw_storage();
        let zeros = |len: usize| (0..len).map(|_| AtomicU32::new(0)).collect::<Vec<_>>();
        let (nodes, edges) = (zeros(graph.num_nodes()), zeros(sources.len()));
        let count = |marks: &mut Marks, number: u64| {
            let drawn = sampler.nodes_of_estimate(seed, number);
            marks.clear();
            drawn.iter().for_each(|&node| {
                marks.set(node, 0);
            });
            for &node in &drawn {
                // Counts are whole numbers: no order changes their sum.
                nodes[node as usize].fetch_add(1, Ordering::Relaxed);
                for e in starts[node as usize]..starts[node as usize + 1] {
                    if marks.get(sources[e]).is_some() {
                        edges[e].fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            drawn.len() as u64
        };
        let wanted = graph.num_nodes() as u64 * times as u64;
        let free: Mutex<Vec<Marks>> = Mutex::default();
        let lock = || free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (mut drawn, mut subgraphs) = (0, 0);
        while drawn < wanted {
            drawn += (subgraphs..subgraphs + ROUND)
                .into_par_iter()
                .map(|number| {
                    let known = lock().pop();
                    let mut marks = known.unwrap_or_else(|| Marks::new(graph.num_nodes()));
                    let count = count(&mut marks, number);
                    lock().push(marks);
                    count
                })
                .sum::<u64>();
            subgraphs += ROUND;
        }
        let plain = |counts: Vec<AtomicU32>| counts.into_iter().map(AtomicU32::into_inner);
        Ok(Self {
            subgraphs: subgraphs as u32,
            drawn,
            nodes: plain(nodes).collect(),
            edges: plain(edges).collect(),
            free,
        })
    }

    /// How many subgraphs have as many nodes as the graph, at least 1.
    pub fn subgraphs_of_all_nodes(&self) -> usize {
        let whole = self.nodes.len() as u64 * u64::from(self.subgraphs);
        whole.div_ceil(self.drawn.max(1)).max(1) as usize
    }

    /// A subgraph with its nodes: all edges between those that `sampler` draws under this key. Its
    /// operators are corrected; attention, maxima and relations are those of its edges as they
    /// stand.
    ///
    /// # Errors
    /// [`Error::Data`] for a sampler of another graph.
    pub fn subgraph<F: Scalar>(
        &self,
        sampler: &SubgraphSampler<F>,
        seed: u64,
        key: &[u64],
    ) -> Result<(Graph<F>, Arc<[u32]>)> {
        let graph = sampler.graph();
        if (graph.num_nodes(), graph.num_edges()) != (self.nodes.len(), self.edges.len()) {
            let problem = "the sampler's graph is not the one that was counted";
            return Err(Error::data("coverage", problem));
        }
        let free = || self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = free().pop();
        let mut marks = known.unwrap_or_else(|| Marks::new(graph.num_nodes()));
        let nodes: Arc<[u32]> = sampler.nodes(seed, key).into();
        let (part, taken) = graph.induced_by(&nodes, &mut marks)?;
        free().push(marks);
        let times = |count: u32| f64::from(count.max(1));
        let (starts, _, _) = part.adjacency().into_raw_storage();
        let mut factors = Vec::with_capacity(taken.len());
        for (node, bounds) in nodes.iter().zip(starts.windows(2)) {
            let own = times(self.nodes[*node as usize]);
            let edges = &taken[bounds[0]..bounds[1]];
            factors.extend(edges.iter().map(|&e| F::of(own / times(self.edges[e]))));
        }
        Ok((part.into_part_of(graph, Arc::clone(&nodes), factors), nodes))
    }

    /// `N / C_v` of each of these nodes: what its loss is multiplied by.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn node_weights(&self, nodes: &[u32]) -> Vec<f64> {
        let weight =
            |&node: &u32| f64::from(self.subgraphs) / f64::from(self.nodes[node as usize].max(1));
        nodes.iter().map(weight).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::AdjacencyNorm;
    use crate::testing::random_graph;
    use ndarray::Array2;

    fn samplers(graph: &Graph<f64>) -> [SubgraphSampler<f64>; 3] {
        [
            SubgraphSampler::walks(graph, 3, 2).unwrap(),
            SubgraphSampler::edges(graph, 5).unwrap(),
            SubgraphSampler::nodes_by_degree(graph, 8).unwrap(),
        ]
    }

    #[test]
    fn counts_do_not_depend_on_threads() {
        let graph: Graph<f64> = random_graph(4, 60);
        for sampler in samplers(&graph) {
            let of = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let found = pool.install(|| Coverage::of(&sampler, 20, 3).unwrap());
                (found.nodes, found.edges, found.subgraphs, found.drawn)
            };
            let one = of(1);
            assert!(one.0.iter().map(|&c| u64::from(c)).sum::<u64>() == one.3);
            assert!([2, 3, 7].into_iter().all(|threads| of(threads) == one));
        }
    }

    /// What a node of a subgraph takes from its neighbours, averaged over the subgraphs that have
    /// it, is what it takes from all of them; losses of all nodes add up to their number.
    #[test]
    fn corrected_sums_are_those_of_the_whole_graph_in_expectation() {
        let graph: Graph<f64> = random_graph(8, 12);
        let n = graph.num_nodes();
        let whole = graph.operator(AdjacencyNorm::Symmetric).unwrap();
        for sampler in samplers(&graph) {
            let coverage = Coverage::of(&sampler, 8000, 1).unwrap();
            let mut sums = Array2::<f64>::zeros((n, n));
            let (mut times, mut losses) = (vec![0.0; n], vec![0.0; n]);
            const ROUNDS: u64 = 8000;
            for round in 0..ROUNDS {
                let (part, nodes) = coverage.subgraph(&sampler, 2, &[round]).unwrap();
                let operator = part.operator(AdjacencyNorm::Symmetric).unwrap();
                for (&w, (i, j)) in operator.forward().iter() {
                    sums[[nodes[i as usize] as usize, nodes[j as usize] as usize]] += w;
                }
                for (&node, weight) in nodes.iter().zip(coverage.node_weights(&nodes)) {
                    times[node as usize] += 1.0;
                    losses[node as usize] += weight / ROUNDS as f64;
                }
            }
            // A node is in at least a tenth of 8000 subgraphs, and an edge in at least a tenth of
            // its node's, so that a count deviates by 11 per cent at most, and mostly by far
            // less; estimate and average both do.
            for ((i, j), sum) in sums.indexed_iter() {
                let expected = whole.forward().get(i, j).copied().unwrap_or(0.0);
                let found = sum / times[i];
                let off = (found - expected).abs();
                assert!(off <= 0.2 * expected.abs() + 1e-12, "{i} {j}: {found}, not {expected}");
            }
            assert!(losses.iter().all(|loss| (loss - 1.0).abs() < 0.1), "{losses:?}");
        }
    }

    #[test]
    fn times_out_of_range_and_another_graph_are_refused() {
        let graph: Graph<f64> = random_graph(8, 12);
        let sampler = SubgraphSampler::walks(&graph, 3, 2).unwrap();
        let none = Coverage::of(&sampler, 0, 0).unwrap_err().to_string();
        assert!(none.contains("times that a node is drawn is 0"), "{none}");
        let coverage = Coverage::of(&sampler, 1, 0).unwrap();
        let other: Graph<f64> = random_graph(9, 30);
        let other = SubgraphSampler::walks(&other, 3, 2).unwrap();
        assert!(coverage.subgraph(&other, 0, &[0]).is_err());
    }
}
