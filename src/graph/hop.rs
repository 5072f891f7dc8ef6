//! One hop of a sample: edges into some nodes, all of them or a few that were drawn.

use super::marks::Marks;
use super::operator::{AdjacencyNorm, Operator};
use super::partial::PartialRows;
use super::{Built, Graph, kept};
use crate::error::{Error, Result};
use crate::rng::Draws;
use crate::scalar::Scalar;
use std::sync::Arc;

/// One hop of a sample: edges into some nodes of a graph, its targets, from wherever they come, its
/// sources. The first sources are the targets, in their order; the others follow in the order of
/// their numbers.
///
/// Its operators are rows of the whole graph's, so that a network on hops of all edges computes for
/// the last targets what it computes on the whole graph. Where only `s` of the `d` edges into a
/// node were drawn ([`NeighborSampler`](super::NeighborSampler)), each of its entries is that of
/// the whole graph times `d/s`, whatever the norm: as every edge is drawn with probability `s/d`,
/// the operator is that of the whole graph in expectation. A mean without weights is then the mean
/// over the drawn ones, as in PyTorch Geometric's `SAGEConv` on a `NeighborLoader`; a sum there
/// leaves the others out, and `GCNConv` takes its degrees from the sample, which both are other
/// functions than those that the whole graph is evaluated by. A self-loop that a norm adds is in
/// every sample, at its own weight; one that is listed is drawn as any edge. Edges that join the
/// same two nodes are drawn as one.
///
/// ```
/// use gnn_prune::graph::{Graph, Hop};
/// let path = Graph::builder(4).edges([(0, 1), (1, 2), (2, 3)]).undirected(true).build()?;
/// let hop = Hop::into_nodes(&path, &[3])?;
/// assert_eq!(hop.sources(), [3, 2]);
/// assert_eq!((hop.num_targets(), hop.num_sources()), (1, 2));
/// // The hop before it, from which those sources have their values.
/// assert_eq!(Hop::into_nodes(&path, hop.sources())?.sources(), [3, 2, 1]);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hop<F: Scalar = f32> {
    graph: Graph<F>,
    sources: Arc<[u32]>,
    targets: usize,
    edges: Arc<Edges<F>>,
    operators: Built<AdjacencyNorm, Operator<F>>,
}

/// The edges of a hop by targets, each target's by the places of their sources.
#[derive(Debug)]
struct Edges<F> {
    starts: Vec<usize>,
    /// Which of the sources each comes from, and what is stored for it.
    ends: Vec<(u32, F)>,
}

/// How many edges into a node are drawn, and by which numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct FanOut<'a> {
    pub(super) most: usize,
    pub(super) seed: u64,
    /// Words that the node's number follows.
    pub(super) key: &'a [u64; 3],
}

impl<F: Scalar> Hop<F> {
    /// All edges of `graph` into `targets`.
    ///
    /// # Errors
    /// [`Error::Setting`] for no target and for one that is listed twice,
    /// [`Error::IndexOutOfRange`] for one that the graph does not have.
    pub fn into_nodes(graph: &Graph<F>, targets: &[u32]) -> Result<Self> {
        Self::drawn(graph, targets, None, &mut Marks::new(graph.num_nodes()))
    }

    /// As [`Hop::into_nodes`]; of more edges than the fan-out allows, so many are drawn.
    pub(super) fn drawn(
        graph: &Graph<F>,
        targets: &[u32],
        fan_out: Option<FanOut>,
        marks: &mut Marks,
    ) -> Result<Self> {
        check_targets(graph, targets, marks)?;
        let (starts, sources, weights) = graph.adjacency().into_raw_storage();
        // Which edges, then what they are, then where their sources stand: each walk by itself
        // reads memory all over, and the processor has many of its reads under way at once.
        let mut firsts = vec![0];
        let mut drawn: Vec<usize> = Vec::new();
        let mut choice = Choice::default();
        for &target in targets {
            let (first, end) = (starts[target as usize], starts[target as usize + 1]);
            match fan_out.filter(|fan_out| end - first > fan_out.most) {
                None => drawn.extend(first..end),
                Some(fan_out) => {
                    let [a, b, c] = *fan_out.key;
                    let draws = Draws::of(fan_out.seed, &[a, b, c, target.into()]);
                    let chosen = choice.draw(end - first, fan_out.most, draws);
                    drawn.extend(chosen.iter().map(|&offset| first + offset as usize));
                }
            }
            firsts.push(drawn.len());
        }
        let mut ends: Vec<(u32, F)> = drawn.iter().map(|&e| (sources[e], weights[e])).collect();
        drop(drawn);
        let mut others = Vec::new();
        for &(source, _) in &ends {
            if marks.get(source).is_none() {
                marks.set(source, 0);
                others.push(source);
            }
        }
        others.sort_unstable();
        (targets.len() as u32..).zip(&others).for_each(|(place, &source)| {
            marks.set(source, place);
        });
        ends.iter_mut().for_each(|end| end.0 = marks.get(end.0).expect("all sources have a place"));
        for bounds in firsts.windows(2) {
            ends[bounds[0]..bounds[1]].sort_unstable_by_key(|end| end.0);
        }
        Ok(Self {
            graph: graph.clone(),
            targets: targets.len(),
            sources: targets.iter().chain(&others).copied().collect(),
            edges: Arc::new(Edges { starts: firsts, ends }),
            operators: Arc::default(),
        })
    }

    /// The nodes whose values go in; the first are the targets.
    pub fn sources(&self) -> &[u32] {
        &self.sources
    }

    /// The nodes whose values come out.
    pub fn targets(&self) -> &[u32] {
        &self.sources[..self.targets]
    }

    /// Number of nodes whose values go in.
    pub fn num_sources(&self) -> usize {
        self.sources.len()
    }

    /// Number of nodes whose values come out.
    pub fn num_targets(&self) -> usize {
        self.targets
    }

    /// Number of edges; those that join the same two nodes count once.
    pub fn num_edges(&self) -> usize {
        self.edges.ends.len()
    }

    /// What aggregation with `norm` multiplies by, `[targets, sources]`: see [`Hop`]. Built at the
    /// first call.
    ///
    /// # Errors
    /// As [`Graph::operator`].
    pub fn operator(&self, norm: AdjacencyNorm) -> Result<Arc<Operator<F>>> {
        kept(&self.operators, norm, || {
            let mut rows = PartialRows::new(&self.graph, norm)?;
            let (starts, _, _) = self.graph.adjacency().into_raw_storage();
            rows.reserve(self.targets, self.num_edges());
            for ((own, &target), bounds) in
                (0u32..).zip(self.targets()).zip(self.edges.starts.windows(2))
            {
                let stored = starts[target as usize + 1] - starts[target as usize];
                let drawn = bounds[1] - bounds[0];
                let factor = (drawn < stored).then(|| F::of(stored as f64 / drawn as f64));
                let ends = self.edges.ends[bounds[0]..bounds[1]].iter();
                let entries = ends
                    .map(|&(place, weight)| (place, self.sources[place as usize], weight, factor));
                rows.row(target, own, entries);
            }
            Ok(rows.finish(self.sources.len()))
        })
    }
}

/// Gives targets their places, and refuses what is no list of nodes.
fn check_targets<F: Scalar>(graph: &Graph<F>, targets: &[u32], marks: &mut Marks) -> Result<()> {
    let n = graph.num_nodes();
    if targets.is_empty() {
        return Err(Error::setting("targets of a hop", "empty", "at least one node"));
    }
    marks.clear();
    for (place, &target) in (0u32..).zip(targets) {
        if target as usize >= n {
            let at = "target of a hop".into();
            return Err(Error::IndexOutOfRange { at, index: target as usize, len: n });
        }
        if !marks.set(target, place) {
            let legal = "listed once each";
            return Err(Error::setting("targets of a hop", format!("node {target}"), legal));
        }
    }
    Ok(())
}

/// Some of the numbers below another, drawn without replacement.
#[derive(Debug, Default)]
struct Choice {
    chosen: Vec<u32>,
    /// A bit for each number, where so many are drawn that looking through them takes longer.
    bits: Vec<u64>,
}

/// Up to so many chosen numbers are looked through one by one.
const FEW: usize = 64;

impl Choice {
    /// `count` of the numbers below `all`, each set of them as likely as any other; `count` is the
    /// smaller.
    ///
    /// *Source*: Bentley and Floyd, "Programming pearls: a sample of brilliance", CACM 1987.
    fn draw(&mut self, all: usize, count: usize, mut draws: Draws) -> &[u32] {
        self.chosen.clear();
        if count > FEW {
            self.bits.clear();
            self.bits.resize(all.div_ceil(64), 0);
        }
        for last in all - count..all {
            let drawn = draws.below(last + 1);
            let number = if self.has(drawn, count) { last } else { drawn };
            self.chosen.push(number as u32);
            if count > FEW {
                self.bits[number / 64] |= 1 << (number % 64);
            }
        }
        &self.chosen
    }

    fn has(&self, number: usize, count: usize) -> bool {
        if count > FEW {
            self.bits[number / 64] >> (number % 64) & 1 == 1
        } else {
            self.chosen.contains(&(number as u32))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_graph;
    use crate::value::ValueRef;

    const NORMS: [AdjacencyNorm; 7] = [
        AdjacencyNorm::Symmetric,
        AdjacencyNorm::SymmetricImproved,
        AdjacencyNorm::SymmetricPlain,
        AdjacencyNorm::Mean,
        AdjacencyNorm::Sum,
        AdjacencyNorm::UnweightedMean,
        AdjacencyNorm::UnweightedSum,
    ];

    #[test]
    fn the_operators_of_a_hop_are_rows_of_those_of_the_graph() {
        for seed in 0..40 {
            let graph: Graph<f64> = random_graph(seed, 12);
            let n = graph.num_nodes() as u32;
            let mut targets = vec![n / 2, n - 1];
            targets.dedup();
            let hop = Hop::into_nodes(&graph, &targets).unwrap();
            assert_eq!(hop.targets(), targets);
            for norm in NORMS {
                let Ok(whole) = graph.operator(norm) else { continue };
                let whole = ValueRef::Sparse(whole.forward()).to_dense();
                let operator = hop.operator(norm).unwrap();
                let part = ValueRef::Sparse(operator.forward()).to_dense();
                for (row, &i) in part.rows().into_iter().zip(hop.targets()) {
                    for (&weight, &j) in row.iter().zip(hop.sources()) {
                        assert_eq!(weight, whole[[i as usize, j as usize]]);
                    }
                    let stored =
                        |row: ndarray::ArrayView1<f64>| row.iter().filter(|w| **w != 0.0).count();
                    assert_eq!(
                        stored(row),
                        stored(whole.row(i as usize)),
                        "no neighbour is left out"
                    );
                }
                let transposed = ValueRef::Sparse(operator.transpose()).to_dense();
                assert_eq!(transposed, part.t());
            }
        }
    }

    #[test]
    fn targets_that_are_no_list_of_nodes_are_refused() {
        let graph = Graph::builder(3).edges([(0, 1)]).build().unwrap();
        for (targets, what) in
            [(&[][..], "at least one"), (&[1, 1][..], "listed once"), (&[3][..], "out of range")]
        {
            let error = Hop::into_nodes(&graph, targets).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn parallel_edges_and_their_loops_are_in_a_hop_what_they_are_in_the_graph() {
        let edges = [(0, 1, 2.0), (0, 1, 0.5), (1, 1, 3.0), (1, 1, 4.0), (2, 1, 1.0), (1, 0, 1.0)];
        let graph = Graph::builder(3)
            .weighted_edges(edges)
            .duplicates(crate::graph::Duplicates::Keep)
            .build()
            .unwrap();
        let hop = Hop::into_nodes(&graph, &[1]).unwrap();
        assert_eq!((hop.sources(), hop.num_edges()), (&[1, 0, 2][..], 3));
        for norm in NORMS {
            let whole = graph.operator(norm).unwrap();
            let operator = hop.operator(norm).unwrap();
            for (place, &j) in hop.sources().iter().enumerate() {
                let expected = whole.forward().get(1, j as usize).copied();
                assert_eq!(operator.forward().get(0, place).copied(), expected, "{norm:?}");
            }
        }
    }

    #[test]
    fn every_number_is_drawn_equally_often_and_never_twice() {
        let mut choice = Choice::default();
        for (all, count) in [(7, 3), (200, 70), (5, 4), (100, 64), (100, 65)] {
            let mut times = vec![0; all];
            const ROUNDS: usize = 4000;
            for round in 0..ROUNDS {
                let chosen = choice.draw(all, count, Draws::of(3, &[round as u64]));
                assert_eq!(chosen.len(), count);
                let mut sorted = chosen.to_vec();
                sorted.sort_unstable();
                assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]));
                sorted.iter().for_each(|&k| times[k as usize] += 1);
            }
            let share = count as f64 / all as f64;
            // Five deviations of a binomial count.
            let far = 5.0 * (ROUNDS as f64 * share * (1.0 - share)).sqrt();
            let mean = ROUNDS as f64 * share;
            assert!(times.iter().all(|&t| (f64::from(t) - mean).abs() < far), "{times:?}");
        }
    }
}
