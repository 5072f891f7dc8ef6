//! Subgraphs of nodes that were drawn: one by one, by edges, or along walks.

use super::draws;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::rng::{Draws, purpose};
use crate::scalar::Scalar;

/// Draws nodes of which the edges between them are learnt on.
///
/// All draws are with replacement, so that a subgraph has at most as many nodes as were drawn. Of a
/// directed graph edges are followed from target to source, which is where values come from. What
/// the draws are corrected by is a [`Coverage`](super::Coverage).
///
/// *Source*: Zeng et al., "GraphSAINT: Graph Sampling Based Inductive Learning Method", ICLR 2020,
/// algorithm 2.
///
/// ```
/// use gnn_prune::graph::{Graph, SubgraphSampler};
/// let ring = Graph::builder(50).edges((0..50).map(|i| (i, (i + 1) % 50))).build()?;
/// let nodes = SubgraphSampler::walks(&ring, 3, 4)?.nodes(7, &[1, 0]);
/// assert!((5..=15).contains(&nodes.len()) && nodes.is_sorted());
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SubgraphSampler<F: Scalar = f32> {
    graph: Graph<F>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Nodes { count: usize },
    Edges { count: usize },
    Walks { roots: usize, length: usize },
}

/// Most draws of one subgraph.
const MOST_DRAWS: usize = 1 << 28;

impl<F: Scalar> SubgraphSampler<F> {
    /// `count` nodes, each with a probability that grows with the number of edges into it and one
    /// for itself.
    ///
    /// # Errors
    /// [`Error::Setting`] for a count out of range.
    pub fn nodes_by_degree(graph: &Graph<F>, count: usize) -> Result<Self> {
        Self::of(graph, "nodes of a subgraph", Kind::Nodes { count }, count)
    }

    /// The ends of `count` edges, each edge with a probability of one over the number of edges into
    /// its target: of an undirected graph `1/deg(u) + 1/deg(v)` for both directions together, as
    /// the source has it. A node without neighbours is drawn by itself.
    ///
    /// # Errors
    /// [`Error::Setting`] for a count out of range.
    pub fn edges(graph: &Graph<F>, count: usize) -> Result<Self> {
        Self::of(graph, "edges of a subgraph", Kind::Edges { count }, count)
    }

    /// The nodes of `roots` walks of `length` steps each, each from a node drawn uniformly and each
    /// step to an in-neighbour drawn uniformly; a node without any stays where it is.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number out of range.
    pub fn walks(graph: &Graph<F>, roots: usize, length: usize) -> Result<Self> {
        if length == 0 {
            return Err(Error::setting("length of the walks", 0, "at least 1"));
        }
        let draws = roots.saturating_mul(length.saturating_add(1));
        Self::of(graph, "roots of the walks", Kind::Walks { roots, length }, draws)
    }

    fn of(graph: &Graph<F>, what: &str, kind: Kind, draws: usize) -> Result<Self> {
        let count = match kind {
            Kind::Nodes { count } | Kind::Edges { count } => count,
            Kind::Walks { roots, .. } => roots,
        };
        if draws == 0 || draws > MOST_DRAWS {
            let legal = format!("at least 1, and at most {MOST_DRAWS} nodes in all");
            return Err(Error::setting(what, count, legal));
        }
        Ok(Self { graph: graph.clone(), kind })
    }

    /// The graph that is drawn from.
    pub fn graph(&self) -> &Graph<F> {
        &self.graph
    }

    /// The nodes of one subgraph, ascending, each once; `key` says which, by epoch and number in it
    /// for one.
    pub fn nodes(&self, seed: u64, key: &[u64]) -> Vec<u32> {
        let words = [&[purpose::SAMPLE, draws::SUBGRAPH], key].concat();
        self.drawn(&mut Draws::of(seed, &words))
    }

    /// As [`SubgraphSampler::nodes`], of a stream that no training draws from.
    pub(super) fn nodes_of_estimate(&self, seed: u64, number: u64) -> Vec<u32> {
        self.drawn(&mut Draws::of(seed, &[purpose::SAMPLE, draws::COVERAGE, number]))
    }

    fn drawn(&self, draws: &mut Draws) -> Vec<u32> {
        let (starts, sources, _) = self.graph.adjacency().into_raw_storage();
        let n = self.graph.num_nodes();
        let neighbour = |node: usize, draws: &mut Draws| {
            let row = &sources[starts[node]..starts[node + 1]];
            if row.is_empty() { node } else { row[draws.below(row.len())] as usize }
        };
        let mut nodes = Vec::new();
        match self.kind {
            Kind::Nodes { count } => {
                for _ in 0..count {
                    let ticket = draws.below(n + sources.len());
                    nodes.push(match ticket.checked_sub(n) {
                        Some(edge) => starts.partition_point(|&start| start <= edge) as u32 - 1,
                        None => ticket as u32,
                    });
                }
            }
            Kind::Edges { count } => {
                for _ in 0..count {
                    let target = draws.below(n);
                    nodes.extend([target as u32, neighbour(target, draws) as u32]);
                }
            }
            Kind::Walks { roots, length } => {
                for _ in 0..roots {
                    let mut at = draws.below(n);
                    nodes.push(at as u32);
                    for _ in 0..length {
                        at = neighbour(at, draws);
                        nodes.push(at as u32);
                    }
                }
            }
        }
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hub of four spokes and a node without neighbours.
    fn hub() -> Graph {
        let spokes = (1..5).map(|leaf| (leaf, 0));
        Graph::builder(6).edges(spokes).undirected(true).build().unwrap()
    }

    /// How often each node is the one that is drawn first.
    fn shares(sampler: &SubgraphSampler, of: impl Fn(&[u32]) -> usize, kinds: usize) -> Vec<f64> {
        const ROUNDS: u64 = 20_000;
        let mut times = vec![0.0; kinds];
        (0..ROUNDS).for_each(|round| times[of(&sampler.nodes(1, &[round]))] += 1.0);
        times.iter().map(|t| t / ROUNDS as f64).collect()
    }

    /// Five deviations of a share of 20,000 draws.
    const FAR: f64 = 5.0 * 0.5 / 141.4;

    #[test]
    fn nodes_and_edges_are_drawn_as_their_probabilities_say() {
        let graph = hub();
        let one = SubgraphSampler::nodes_by_degree(&graph, 1).unwrap();
        let found = shares(&one, |nodes| nodes[0] as usize, 6);
        // Degrees and one: 5, 2, 2, 2, 2, 1.
        let expected = [5.0, 2.0, 2.0, 2.0, 2.0, 1.0].map(|weight| weight / 14.0);
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < FAR), "{found:?}");
        // An edge with the hub, by its other end; node 5 alone.
        let one = SubgraphSampler::edges(&graph, 1).unwrap();
        let found = shares(&one, |nodes| *nodes.last().unwrap() as usize, 6);
        let edge = (1.0 + 0.25) / 6.0;
        let expected = [0.0, edge, edge, edge, edge, 1.0 / 6.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < FAR), "{found:?}");
    }

    #[test]
    fn a_walk_goes_from_target_to_source() {
        let path = Graph::builder(4).edges([(0, 1), (1, 2), (2, 3)]).build().unwrap();
        let sampler = SubgraphSampler::walks(&path, 1, 2).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        (0..100).for_each(|round| {
            seen.insert(sampler.nodes(0, &[round]));
        });
        let expected = [vec![0], vec![0, 1], vec![0, 1, 2], vec![1, 2, 3]];
        assert_eq!(seen, expected.into_iter().collect());
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let graph = hub();
        let refused = [
            (SubgraphSampler::nodes_by_degree(&graph, 0), "nodes of a subgraph is 0"),
            (SubgraphSampler::edges(&graph, usize::MAX), "edges of a subgraph"),
            (SubgraphSampler::walks(&graph, 0, 2), "roots of the walks is 0"),
            (SubgraphSampler::walks(&graph, 2, 0), "length of the walks is 0"),
            (SubgraphSampler::walks(&graph, 1 << 20, 1 << 60), "roots of the walks"),
        ];
        for (sampler, what) in refused {
            let error = sampler.unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }
}
