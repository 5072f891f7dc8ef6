//! Edges drawn by degree before a network is trained.

use crate::error::{Error, Result};
use crate::graph::{EdgeMask, Graph};
use crate::rng::{hash, purpose};
use crate::scalar::Scalar;

/// Draws the edges that a network is trained on: `Q` draws with replacement, each of edge `e`
/// between `i` and `j` with probability `p_e ∝ 1/d_i + 1/d_j`. An edge that was drawn `c_e` times
/// weighs `c_e/(Q·p_e)` times what it did, so that every entry of the adjacency is in expectation
/// what it was: edges between nodes of low degree stay, of those between hubs few are left, which
/// weigh more.
///
/// An edge and its reverse are one unit and stay together; `d` is the number of edges into the
/// target and out of the source, on an undirected graph the degree. Listed self-loops are not
/// drawn, stay and weigh what they did, and those that operators add know nothing of it. `Q` is the
/// least number with which the expected number of different units is the share that shall be left;
/// the paper says `Q` itself. What does not read weights of edges, such as attention, sees a
/// thinner graph without the correction.
///
/// *Source*: Liu et al., "DSpar: An Embarrassingly Simple Strategy for Efficient GNN Training and
/// Inference via Degree-based Sparsification", TMLR 2023, algorithm 1.
///
/// ```
/// use gnn_prune::prune::Dspar;
/// use gnn_prune::Dataset;
/// let data = Dataset::digits()?;
/// let thin = Dspar::new(0.5)?.sample(data.graph(), 0)?;
/// let left = thin.graph().num_edges() as f64 / data.graph().num_edges() as f64;
/// assert!((left - 0.5).abs() < 0.02);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dspar {
    removed: f64,
}

impl Dspar {
    /// Leaves out this share of the edges in expectation, between 0 and 1.
    ///
    /// # Errors
    /// [`Error::Setting`] for another number.
    pub fn new(removed: f64) -> Result<Self> {
        if removed > 0.0 && removed < 1.0 {
            Ok(Self { removed })
        } else {
            Err(Error::setting("share of the edges to leave out", removed, "between 0 and 1"))
        }
    }

    /// A draw of the edges of `graph`; the same seed gives the same.
    ///
    /// # Errors
    /// [`Error::Data`] for a graph that joins two nodes by several edges.
    pub fn sample<F: Scalar>(&self, graph: &Graph<F>, seed: u64) -> Result<Sparsified<F>> {
        let (probabilities, unit_of) = units(graph);
        let total: f64 = probabilities.iter().sum();
        let before = graph.edge_list().1.len();
        if probabilities.is_empty() {
            return Ok(Sparsified { graph: graph.clone(), draws: 0, before });
        }
        let probabilities: Vec<f64> = probabilities.iter().map(|p| p / total).collect();
        let draws = draws(&probabilities, (1.0 - self.removed) * probabilities.len() as f64);
        let mut bounds = probabilities.clone();
        (1..bounds.len()).for_each(|k| bounds[k] += bounds[k - 1]);
        let mut counts = vec![0u32; bounds.len()];
        for draw in 0..draws {
            let bits = hash(seed, &[purpose::THINNING, draw as u64]) >> 11;
            let at = bits as f64 / (1u64 << 53) as f64;
            // The last bound is 1 up to rounding.
            counts[bounds.partition_point(|bound| *bound <= at).min(bounds.len() - 1)] += 1;
        }
        let stays = |e: &usize| unit_of[*e].is_none_or(|unit| counts[unit] > 0);
        let kept: Vec<usize> = (0..before).filter(stays).collect();
        let factor = |&e: &usize| match unit_of[e] {
            Some(unit) => F::of(f64::from(counts[unit]) / (draws as f64 * probabilities[unit])),
            None => F::one(),
        };
        let mask: Vec<bool> = (0..before).map(|e| stays(&e)).collect();
        let factors: Vec<F> = kept.iter().map(factor).collect();
        let graph = graph.retain(&EdgeMask::from(mask))?.reweighed(&factors)?;
        Ok(Sparsified { graph, draws, before })
    }
}

impl std::fmt::Display for Dspar {
    /// All that the outcome depends on beside graph and seed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "edges drawn by degree (DSpar), {} left out", self.removed)
    }
}

/// A graph of which edges were drawn.
#[derive(Debug, Clone)]
pub struct Sparsified<F: Scalar = f32> {
    graph: Graph<F>,
    draws: usize,
    before: usize,
}

impl<F: Scalar> Sparsified<F> {
    /// The edges that were drawn, with their weights.
    pub fn graph(&self) -> &Graph<F> {
        &self.graph
    }

    /// The same alone.
    pub fn into_graph(self) -> Graph<F> {
        self.graph
    }

    /// How many draws there were.
    pub fn draws(&self) -> usize {
        self.draws
    }

    /// Number of edges that are left, self-loops included.
    pub fn num_kept(&self) -> usize {
        self.graph.edge_list().1.len()
    }

    /// Number of edges before.
    pub fn num_edges(&self) -> usize {
        self.before
    }
}

/// `1/d_i + 1/d_j` of each unit, and the unit of each edge that is no self-loop.
fn units<F: Scalar>(graph: &Graph<F>) -> (Vec<f64>, Vec<Option<usize>>) {
    let (mut into, mut out) = (vec![0u32; graph.num_nodes()], vec![0u32; graph.num_nodes()]);
    let links = || graph.edges().map(|edge| (edge.source, edge.target));
    for (source, target) in links().filter(|(source, target)| source != target) {
        out[source] += 1;
        into[target] += 1;
    }
    let pairs = graph.edge_pairs();
    let (mut probabilities, mut unit_of) = (Vec::new(), Vec::with_capacity(pairs.len()));
    let mut numbers = vec![None; pairs.iter().max().map_or(0, |last| last + 1)];
    for ((source, target), pair) in links().zip(pairs) {
        if source == target {
            unit_of.push(None);
            continue;
        }
        let unit = *numbers[pair].get_or_insert_with(|| {
            probabilities.push(f64::from(out[source]).recip() + f64::from(into[target]).recip());
            probabilities.len() - 1
        });
        unit_of.push(Some(unit));
    }
    (probabilities, unit_of)
}

/// The least number of draws after which `wanted` different units are expected:
/// `Σ_e 1 − (1 − p_e)^Q ≥ wanted`.
fn draws(probabilities: &[f64], wanted: f64) -> usize {
    let different = |draws: usize| -> f64 {
        probabilities.iter().map(|p| -((-p).ln_1p() * draws as f64).exp_m1()).sum()
    };
    let mut most = 1;
    while different(most) < wanted {
        most *= 2;
    }
    let mut open = most / 2..most;
    while open.start + 1 < open.end {
        let middle = open.start + open.len() / 2;
        if different(middle) < wanted { open.start = middle } else { open.end = middle }
    }
    open.end.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hub with leaves and a ring beside it, loops at two nodes.
    fn graph() -> Graph<f64> {
        let star = (1..9).map(|leaf| (0, leaf));
        let ring = (9..14).map(|k| (k, if k == 13 { 9 } else { k + 1 }));
        let chords = [(0, 9), (0, 11), (3, 3), (10, 10)];
        let edges = star.chain(ring).chain(chords);
        Graph::builder(14).edges(edges).undirected(true).build().unwrap().cast()
    }

    #[test]
    fn probabilities_are_those_of_the_degrees_and_pairs_are_one_unit() {
        let (probabilities, unit_of) = units(&graph());
        assert_eq!(probabilities.len(), 15);
        let loops = unit_of.iter().filter(|unit| unit.is_none()).count();
        assert_eq!((loops, unit_of.len()), (2, 32));
        // The hub has ten neighbours, a leaf one.
        assert!((probabilities[0] - (0.1 + 1.0)).abs() < 1e-12);
    }

    #[test]
    fn entries_are_in_expectation_what_they_were_and_loops_are_left_alone() {
        let graph = graph();
        let dspar = Dspar::new(0.5).unwrap();
        let seeds = 4000;
        let mut mean = ndarray::Array2::<f64>::zeros((14, 14));
        let (mut kept, mut probability_missed) = (0.0, 0.0);
        for seed in 0..seeds {
            let thin = dspar.sample(&graph, seed).unwrap();
            assert_eq!(thin.num_edges(), 32);
            kept += (thin.num_kept() - 2) as f64 / 30.0;
            for edge in thin.graph().edges() {
                mean[[edge.target, edge.source]] += edge.weight;
                let back = thin.graph().adjacency().get(edge.source, edge.target).copied();
                assert_eq!(back, Some(edge.weight), "pairs stay together");
                if edge.source == edge.target {
                    assert_eq!(edge.weight, 1.0);
                }
            }
            probability_missed += f64::from(u8::from(thin.graph().adjacency().get(9, 0).is_none()));
        }
        mean /= seeds as f64;
        for edge in graph.edges() {
            // Counts are binomial: their mean over 4000 draws is off by 0.1 at most, five errors.
            let found = mean[[edge.target, edge.source]];
            assert!((found - 1.0).abs() < 0.1, "{edge:?}: {found}");
        }
        // Half of fifteen units in expectation, and what the last draw brings above it.
        let share = kept / seeds as f64;
        assert!((0.49..0.54).contains(&share), "{share}");
        // Between the hub and a node of the ring less is left than elsewhere.
        assert!(probability_missed / seeds as f64 > 0.6);
    }

    #[test]
    fn a_seed_is_a_draw_and_what_is_no_share_is_refused() {
        let (graph, dspar) = (graph(), Dspar::new(0.3).unwrap());
        let edges = |seed| -> Vec<(usize, usize, u64)> {
            let thin = dspar.sample(&graph, seed).unwrap();
            let edges = thin.graph().edges();
            edges.map(|edge| (edge.source, edge.target, edge.weight.to_bits())).collect()
        };
        assert_eq!(edges(1), edges(1));
        assert_ne!(edges(1), edges(2));
        assert!([0.0, 1.0, -0.1, f64::NAN].into_iter().all(|share| Dspar::new(share).is_err()));
        let bare = Graph::<f32>::builder(3).edges([(1, 1)]).build().unwrap();
        assert_eq!(dspar.sample(&bare, 0).unwrap().num_kept(), 1);
    }
}
