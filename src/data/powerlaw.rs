//! A graph with a few hubs and many small nodes, as the web and social networks have them.

use super::dataset::Dataset;
use super::edges::undirected;
use super::planted::{Planted, draws, planted_setters};
use super::spec::Settings;
use crate::error::{Error, Result};
use crate::graph::SelfLoops;
use crate::rng::{ChaCha8Rng, generator, purpose};
use ndarray_rand::rand::Rng;
use ndarray_rand::rand::seq::SliceRandom;
use ndarray_rand::rand_distr::{Distribution, Zipf};
use rayon::prelude::*;

/// Undirected edges; twice as many directed ones take 16 GB.
const MAX_EDGES: usize = 1_000_000_000;
/// Pairs that one generator of random numbers draws.
const PAIRS: usize = 1 << 16;
/// After so many rounds hubs are saturated, and what is missing is drawn uniformly.
const ROUNDS: u64 = 16;

/// Settings of a power-law graph with classes.
///
/// The node of rank `r` has weight `r^(-1/(γ−1))`, which gives degrees with
/// `P(degree = d) ~ d^(−γ)`. One end of an edge is drawn by weight among all nodes, the other among
/// those of its class (with probability `homophily`) or of the other classes. Repeated pairs are
/// drawn again, uniformly once hubs are full, so that the number of edges is exact. Nodes are
/// numbered at random. Features are `x_i = signal·m_c + N(0, I)` with random unit vectors `m_c`.
/// Time is `O(edges·log edges)`.
///
/// *Source*: weights: Chung and Lu 2002, Connected components in random graphs with given expected
/// degree sequences.
///
/// ```
/// use gnn_prune::data::PowerLaw;
/// let data = PowerLaw::builder(2000, 20_000).classes(4).build()?;
/// assert_eq!((data.graph().num_edges(), data.num_classes()), (20_000, 4));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct PowerLaw {
    planted: Planted,
    edges: usize,
    exponent: f64,
    community: usize,
}

impl Dataset<f32> {
    /// Starts a power-law graph; the same as [`PowerLaw::builder`].
    pub fn power_law(nodes: usize, edges: usize) -> PowerLaw {
        PowerLaw::builder(nodes, edges)
    }
}

impl PowerLaw {
    /// Starts with `nodes` and so many directed `edges`, two for every pair of neighbours; an odd
    /// number is rounded down. At most half of all pairs can be edges.
    pub fn builder(nodes: usize, edges: usize) -> Self {
        Self { planted: Planted::new(nodes, 10), edges, exponent: 2.5, community: 0 }
    }

    /// Number of classes. Default 10, legal 2 to 1000.
    #[must_use]
    pub fn classes(mut self, classes: usize) -> Self {
        self.planted.classes = classes;
        self
    }

    /// The exponent γ of the distribution of degrees. Default 2.5, legal above 2 (the heaviest
    /// hubs) to 10 (nearly none).
    #[must_use]
    pub fn exponent(mut self, exponent: f64) -> Self {
        self.exponent = exponent;
        self
    }

    /// Nodes of a community: edges within a class then stay within one of its communities. Default
    /// 0, for classes that are one community each; legal up to the number of nodes.
    #[must_use]
    pub fn community(mut self, nodes: usize) -> Self {
        self.community = nodes;
        self
    }

    planted_setters!();

    /// Draws the data set.
    ///
    /// # Errors
    /// [`Error::Setting`] for what is out of range, [`Error::Data`] for classes with too few nodes
    /// for the split.
    pub fn build(&self) -> Result<Dataset> {
        self.planted.check()?;
        let (nodes, classes) = (self.planted.nodes, self.planted.classes);
        let most = nodes.saturating_mul(nodes - 1) / 2;
        if self.edges > most.min(2 * MAX_EDGES) {
            return Err(Error::setting(
                "edges",
                self.edges,
                format!("at most {}, for {nodes} nodes", most.min(2 * MAX_EDGES)),
            ));
        }
        if !(self.exponent > 2.0 && self.exponent <= 10.0) {
            return Err(Error::setting("exponent", self.exponent, "above 2 and at most 10"));
        }
        if self.community > nodes {
            return Err(Error::setting(
                "community",
                self.community,
                format!("at most the number of nodes, {nodes}"),
            ));
        }
        let mut places: Vec<u32> = (0..nodes as u32).collect();
        places.shuffle(&mut generator(self.planted.seed, &[purpose::DATA, draws::PLACES]));
        let mut labels = vec![0; nodes];
        places
            .iter()
            .enumerate()
            .for_each(|(rank, &node)| labels[node as usize] = (rank % classes) as u32);
        let pairs = self.pairs();
        let placed = pairs
            .iter()
            .map(|&pair| unpack(pair))
            .map(|(a, b)| (places[a as usize], places[b as usize]));
        let graph = undirected(nodes, placed, SelfLoops::Remove)?;
        drop(pairs);
        self.planted.dataset(self.word(), graph, labels)
    }

    /// The settings of a word; those that it lacks have the defaults 10,000 nodes, 100,000 edges
    /// and the builder's.
    pub(super) fn from_spec(mut settings: Settings) -> Result<Self> {
        let mut graph =
            Self::builder(settings.take("nodes", 10_000)?, settings.take("edges", 100_000)?);
        graph.planted.features = settings.take("features", graph.planted.features)?;
        graph.planted.classes = settings.take("classes", graph.planted.classes)?;
        graph.exponent = settings.take("exponent", graph.exponent)?;
        graph.community = settings.take("community", graph.community)?;
        graph.planted.take(&mut settings)?;
        settings.finish()?;
        Ok(graph)
    }

    fn word(&self) -> String {
        let (planted, usual) = (&self.planted, Self::builder(0, 0));
        planted.word(
            "powerlaw",
            &[
                ("nodes", &planted.nodes, None),
                ("edges", &self.edges, None),
                ("features", &planted.features, None),
                ("classes", &planted.classes, None),
                ("exponent", &self.exponent, Some(&usual.exponent)),
                ("community", &self.community, Some(&usual.community)),
            ],
        )
    }

    /// Different pairs of ranks, counted from 0, packed and sorted.
    fn pairs(&self) -> Vec<u64> {
        let wanted = self.edges / 2;
        let sampler = Sampler::new(&self.planted, self.exponent, self.community);
        let mut pairs: Vec<u64> = Vec::new();
        let mut round = 0;
        while pairs.len() < wanted {
            let missing = wanted - pairs.len();
            let chunk = |k: usize| {
                let mut rng =
                    generator(self.planted.seed, &[purpose::DATA, draws::EDGES, round, k as u64]);
                let count = PAIRS.min(missing - k * PAIRS);
                let mut draw = || {
                    if round < ROUNDS {
                        sampler.by_weight(&mut rng)
                    } else {
                        sampler.uniform(&mut rng)
                    }
                };
                (0..count).filter_map(|_| draw()).collect::<Vec<u64>>()
            };
            let chunks: Vec<Vec<u64>> =
                (0..missing.div_ceil(PAIRS)).into_par_iter().map(chunk).collect();
            let mut fresh = chunks.concat();
            fresh.par_sort_unstable();
            pairs.append(&mut fresh);
            // Two sorted runs: a stable sort merges them in linear time.
            pairs.sort();
            pairs.dedup();
            round += 1;
        }
        pairs
    }
}

/// Draws pairs of ranks.
struct Sampler<'a> {
    planted: &'a Planted,
    all: Zipf<f64>,
    /// How many communities a class is cut into: its members in turn, so that each has its share of
    /// hubs.
    communities: usize,
    /// Of a community of the larger and of the smaller size.
    near: [Zipf<f64>; 2],
}

impl<'a> Sampler<'a> {
    fn new(planted: &'a Planted, exponent: f64, community: usize) -> Self {
        let zipf = |n: usize| {
            Zipf::new(n as f64, 1.0 / (exponent - 1.0))
                .expect("there is a node, and the exponent is above 2")
        };
        let smallest = planted.class_size(planted.classes - 1);
        let communities = smallest.checked_div(community).unwrap_or(1).max(1);
        let largest = planted.class_size(0).div_ceil(communities);
        // Sizes of classes differ by one, and so do those of their communities.
        let near = [zipf(largest), zipf((smallest / communities).max(1))];
        Self { planted, all: zipf(planted.nodes), communities, near }
    }

    fn by_weight(&self, rng: &mut ChaCha8Rng) -> Option<u64> {
        let (nodes, classes) = (self.planted.nodes, self.planted.classes);
        let a = rank(&self.all, nodes, rng);
        let class = a % classes;
        let b = if rng.random_bool(self.planted.homophily) {
            let community = a / classes % self.communities;
            let size = (self.planted.class_size(class) - community).div_ceil(self.communities);
            let largest = self.planted.class_size(0).div_ceil(self.communities);
            let member = rank(&self.near[usize::from(size < largest)], size, rng);
            (member * self.communities + community) * classes + class
        } else {
            loop {
                let other = rank(&self.all, nodes, rng);
                if other % classes != class {
                    break other;
                }
            }
        };
        pack(a, b)
    }

    fn uniform(&self, rng: &mut ChaCha8Rng) -> Option<u64> {
        pack(rng.random_range(0..self.planted.nodes), rng.random_range(0..self.planted.nodes))
    }
}

/// A rank counted from 0.
fn rank(zipf: &Zipf<f64>, len: usize, rng: &mut ChaCha8Rng) -> usize {
    // Rounding may carry the last rank past the end.
    (zipf.sample(rng) as usize).clamp(1, len) - 1
}

/// The smaller rank above the larger one; nothing for a node and itself.
fn pack(a: usize, b: usize) -> Option<u64> {
    (a != b).then_some((a.min(b) as u64) << 32 | a.max(b) as u64)
}

fn unpack(pair: u64) -> (u32, u32) {
    ((pair >> 32) as u32, pair as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_edges_is_exact_even_where_hubs_are_full() {
        for (nodes, edges) in [(10, 0), (10, 45), (300, 44_850), (5000, 60_000), (7, 5)] {
            let data = PowerLaw::builder(nodes, edges).classes(2).per_class(1, 1).build().unwrap();
            assert_eq!(data.graph().num_edges(), edges / 2 * 2);
        }
    }

    #[test]
    fn degrees_have_a_heavy_tail_with_the_exponent_asked_for() {
        let data = PowerLaw::builder(100_000, 1_000_000).exponent(2.5).build().unwrap();
        let mut degrees: Vec<usize> =
            data.graph().adjacency().outer_iterator().map(|row| row.nnz()).collect();
        degrees.sort_unstable_by(|a, b| b.cmp(a));
        assert!(
            degrees[0] > 100 * degrees[50_000],
            "the hub has {} and the median node {}",
            degrees[0],
            degrees[50_000]
        );
        // Hill's estimate from the upper 1000: γ − 1 = 1 / mean(ln d_i/d_k); its standard deviation
        // is (γ − 1)/√1000 = 0.05.
        let hill = (0..1000).map(|i| (degrees[i] as f64 / degrees[1000] as f64).ln()).sum::<f64>()
            / 1000.0;
        assert!((1.0 + 1.0 / hill - 2.5).abs() < 0.25, "γ is {}", 1.0 + 1.0 / hill);
    }

    #[test]
    fn communities_keep_their_edges_and_their_own_hubs() {
        let data = PowerLaw::builder(4000, 40_000)
            .classes(4)
            .community(100)
            .homophily(1.0)
            .build()
            .unwrap();
        // Nodes that can be reached from each other are a community, or a few that share stray
        // edges of saturated hubs.
        let mut root: Vec<usize> = (0..4000).collect();
        fn find(root: &mut [usize], mut node: usize) -> usize {
            while root[node] != node {
                root[node] = root[root[node]];
                node = root[node];
            }
            node
        }
        for (_, (i, j)) in data.graph().adjacency().iter() {
            let (i, j) = (find(&mut root, i as usize), find(&mut root, j as usize));
            root[i] = j;
        }
        let mut sizes = vec![0; 4000];
        (0..4000).for_each(|node| sizes[find(&mut root, node)] += 1);
        assert!(sizes.iter().all(|&size| size <= 100), "{:?}", sizes.iter().max());
        assert_eq!(data.graph().num_edges(), 40_000);
    }

    #[test]
    fn edges_prefer_their_class() {
        let share = |homophily| {
            let data =
                PowerLaw::builder(5000, 50_000).classes(5).homophily(homophily).build().unwrap();
            crate::data::planted::homophily(&data)
        };
        assert!(share(1.0) > 0.99, "{}", share(1.0));
        assert!((share(0.8) - 0.8).abs() < 0.05, "{}", share(0.8));
        assert!(share(0.0) < 0.05, "{}", share(0.0));
    }

    #[test]
    fn the_seed_decides_everything_and_threads_nothing() {
        let draw = |seed, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                PowerLaw::builder(50_000, 400_000).features(2).seed(seed).build().unwrap()
            })
        };
        let (one, two, other) = (draw(1, 1), draw(1, 2), draw(2, 2));
        assert_eq!(one.graph().adjacency(), two.graph().adjacency());
        assert_eq!(
            (one.classes().unwrap(), one.features().to_dense()),
            (two.classes().unwrap(), two.features().to_dense())
        );
        assert_ne!(one.classes().unwrap(), other.classes().unwrap());
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let message = |graph: PowerLaw| graph.build().unwrap_err().to_string();
        assert!(
            message(PowerLaw::builder(100, 4951))
                .contains("edges is 4951, it must be at most 4950")
        );
        assert!(message(PowerLaw::builder(usize::MAX, 1)).contains("nodes is"));
        assert!(message(PowerLaw::builder(1000, 1000).exponent(2.0)).contains("exponent is 2"));
        assert!(
            message(PowerLaw::builder(1000, 1000).exponent(f64::NAN)).contains("exponent is NaN")
        );
        assert!(message(PowerLaw::builder(1000, 1000).classes(1001)).contains("classes is 1001"));
        assert!(message(PowerLaw::builder(100, 1000)).contains("class 0 has 10 nodes"));
    }
}
