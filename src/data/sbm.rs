//! Stochastic block model: edges that know the classes, and features that hint at them.

use super::dataset::Dataset;
use super::edges::undirected;
use super::planted::{Planted, draws, planted_setters};
use super::spec::Settings;
use crate::error::{Error, Result};
use crate::graph::SelfLoops;
use crate::rng::{generator, purpose};
use ndarray_rand::rand::Rng;
use rayon::prelude::*;

/// Undirected edges; twice as many directed ones take 16 GB.
const MAX_EDGES: f64 = 1e9;

/// Settings of a stochastic block model.
///
/// Node `i` is of class `i mod classes`. Every pair of nodes of one class is an edge with
/// probability `p`, every other pair with `q`, independently, where `p` and `q` are such that a
/// node expects `degree·homophily` neighbours of its class and `degree·(1 − homophily)` others.
/// Features are `x_i = signal·m_c + N(0, I)` with random unit vectors `m_c`. Time is linear in
/// nodes and edges.
///
/// *Source*: Holland, Laskey and Leinhardt 1983; skipping from edge to edge: Batagelj and Brandes
/// 2005, algorithm 1.
///
/// ```
/// use gnn_prune::data::Sbm;
/// let data = Sbm::builder(600, 3).degree(8.0).homophily(0.9).seed(1).build()?;
/// assert_eq!((data.num_nodes(), data.num_features()), (600, 32));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sbm {
    planted: Planted,
    degree: f64,
}

impl Dataset<f32> {
    /// Starts a stochastic block model; the same as [`Sbm::builder`].
    pub fn sbm(nodes: usize, classes: usize) -> Sbm {
        Sbm::builder(nodes, classes)
    }
}

impl Sbm {
    /// Starts with `nodes` in 2 to 1000 `classes`.
    pub fn builder(nodes: usize, classes: usize) -> Self {
        Self { planted: Planted::new(nodes, classes), degree: 10.0 }
    }

    /// Expected number of neighbours of a node. Default 10, legal 0 to what the classes can hold.
    #[must_use]
    pub fn degree(mut self, degree: f64) -> Self {
        self.degree = degree;
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
        let (inside, across) = self.probabilities()?;
        let classes = self.planted.classes;
        let blocks: Vec<(usize, usize)> =
            (0..classes).flat_map(|a| (a..classes).map(move |b| (a, b))).collect();
        let draw =
            |&(a, b): &(usize, usize)| self.block(a, b, if a == b { inside } else { across });
        let drawn: Vec<Vec<(u32, u32)>> = blocks.par_iter().map(draw).collect();
        let labels: Vec<u32> =
            (0..self.planted.nodes).map(|node| (node % classes) as u32).collect();
        let graph =
            undirected(self.planted.nodes, drawn.iter().flatten().copied(), SelfLoops::Remove)?;
        drop(drawn);
        self.planted.dataset(self.word(), graph, labels)
    }

    /// The settings of a word; those that it lacks have the defaults 1,000 nodes in 5 classes and
    /// the builder's.
    pub(super) fn from_spec(mut settings: Settings) -> Result<Self> {
        let mut sbm = Self::builder(settings.take("nodes", 1000)?, settings.take("classes", 5)?);
        sbm.degree = settings.take("degree", sbm.degree)?;
        sbm.planted.features = settings.take("features", sbm.planted.features)?;
        sbm.planted.take(&mut settings)?;
        settings.finish()?;
        Ok(sbm)
    }

    fn word(&self) -> String {
        let (planted, usual) = (&self.planted, Self::builder(0, 0).planted);
        planted.word(
            "sbm",
            &[
                ("nodes", &planted.nodes, None),
                ("classes", &planted.classes, None),
                ("degree", &self.degree, None),
                ("features", &planted.features, Some(&usual.features)),
            ],
        )
    }

    /// Of an edge inside a class and of one between two.
    fn probabilities(&self) -> Result<(f64, f64)> {
        let nodes = self.planted.nodes as f64;
        let inside: f64 = (0..self.planted.classes)
            .map(|class| self.planted.class_size(class) as f64)
            .map(|size| size * (size - 1.0) / 2.0)
            .sum();
        let across = nodes * (nodes - 1.0) / 2.0 - inside;
        let edges = nodes * self.degree / 2.0;
        if !(0.0..=MAX_EDGES).contains(&edges) {
            return Err(Error::setting(
                "degree",
                self.degree,
                format!("between 0 and {} for {nodes} nodes", 2.0 * MAX_EDGES / nodes),
            ));
        }
        let (wanted_inside, wanted_across) =
            (edges * self.planted.homophily, edges * (1.0 - self.planted.homophily));
        for (wanted, pairs, which) in
            [(wanted_inside, inside, "inside"), (wanted_across, across, "between")]
        {
            if wanted > pairs {
                let legal = format!(
                    "lower, since the {pairs} pairs of nodes {which} classes cannot hold {wanted} edges"
                );
                return Err(Error::setting("degree", self.degree, legal));
            }
        }
        let share = |wanted: f64, pairs: f64| if wanted > 0.0 { wanted / pairs } else { 0.0 };
        Ok((share(wanted_inside, inside), share(wanted_across, across)))
    }

    /// The edges between the classes `a` and `b`, each pair with `probability`.
    fn block(&self, a: usize, b: usize, probability: f64) -> Vec<(u32, u32)> {
        let (rows, columns) = (self.planted.class_size(a), self.planted.class_size(b));
        let node = |class: usize, member: usize| (member * self.planted.classes + class) as u32;
        let mut edges = Vec::new();
        let key = [purpose::DATA, draws::EDGES, a as u64, b as u64];
        if a == b {
            // Pair t of the triangle: row r holds the pairs (r, 0) … (r, r − 1).
            let (mut row, mut start) = (1, 0);
            skip_through(
                &mut generator(self.planted.seed, &key),
                probability,
                rows * (rows - 1) / 2,
                |t| {
                    while t >= start + row {
                        start += row;
                        row += 1;
                    }
                    edges.push((node(a, row), node(a, t - start)));
                },
            );
        } else {
            skip_through(
                &mut generator(self.planted.seed, &key),
                probability,
                rows * columns,
                |t| {
                    edges.push((node(a, t / columns), node(b, t % columns)));
                },
            );
        }
        edges
    }
}

/// Calls `found` with each of `0..len`, in order, with `probability` each.
fn skip_through(rng: &mut impl Rng, probability: f64, len: usize, mut found: impl FnMut(usize)) {
    if probability == 0.0 {
        return;
    }
    // The number of failures before a success is ⌊ln U / ln(1 − p)⌋ for U uniform in (0, 1]; p = 1
    // divides by −∞ and gives 0.
    let log_failure = (-probability).ln_1p();
    let mut next = 0usize;
    loop {
        let uniform = 1.0 - rng.random::<f64>();
        next = next.saturating_add((uniform.ln() / log_failure) as usize);
        if next >= len {
            return;
        }
        found(next);
        next += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::FeatureNorm;
    use crate::data::planted::homophily;

    #[test]
    fn degree_and_homophily_are_met_within_five_standard_deviations() {
        let data = Sbm::builder(20_000, 7).degree(12.0).homophily(0.7).seed(3).build().unwrap();
        // 120,000 independent edges, nearly Poisson.
        let edges = data.graph().num_edges() as f64 / 2.0;
        assert!((edges - 120_000.0).abs() < 5.0 * 120_000f64.sqrt(), "{edges} edges");
        assert!((homophily(&data) - 0.7).abs() < 5.0 * (0.7 * 0.3 / edges).sqrt());
        assert_eq!(data.feature_norm(), FeatureNorm::Raw);
    }

    #[test]
    fn extremes_are_the_complete_the_empty_and_the_bipartite_graph() {
        let small = || Sbm::builder(6, 2).per_class(1, 1);
        let complete = small().degree(5.0).homophily(2.0 / 5.0).build().unwrap();
        assert_eq!(complete.graph().num_edges(), 30);
        assert_eq!(small().degree(0.0).build().unwrap().graph().num_edges(), 0);
        let bipartite = small().degree(3.0).homophily(0.0).build().unwrap();
        assert_eq!((bipartite.graph().num_edges(), homophily(&bipartite)), (18, 0.0));
    }

    #[test]
    fn the_seed_decides_everything_and_threads_nothing() {
        let draw = |seed, threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Sbm::builder(3000, 4).seed(seed).build().unwrap())
        };
        let (one, two, other) = (draw(1, 1), draw(1, 2), draw(2, 2));
        assert_eq!(one.graph().adjacency(), two.graph().adjacency());
        assert_eq!(one.features().to_dense(), two.features().to_dense());
        assert_ne!(one.graph().adjacency(), other.graph().adjacency());
        assert_ne!(one.features().to_dense(), other.features().to_dense());
    }

    #[test]
    fn class_means_lie_signal_from_the_origin() {
        let data = Sbm::builder(40_000, 2).signal(3.0).features(8).degree(1.0).build().unwrap();
        let x = data.features().to_dense();
        let mean =
            (0..8).map(|c| (0..20_000).map(|i| f64::from(x[[2 * i, c]])).sum::<f64>() / 20_000.0);
        let length = mean.map(|m| m * m).sum::<f64>().sqrt();
        // Five standard deviations of the mean of 20,000 unit normals, along the mean's direction.
        assert!((length - 3.0).abs() < 5.0 / 20_000f64.sqrt() + 1e-3, "{length}");
    }

    #[test]
    fn settings_out_of_range_are_refused_by_name() {
        let message = |sbm: Sbm| sbm.build().unwrap_err().to_string();
        assert!(message(Sbm::builder(100, 1)).contains("classes is 1"));
        assert!(message(Sbm::builder(1, 2)).contains("nodes is 1"));
        assert!(message(Sbm::builder(usize::MAX, 2)).contains("nodes is"));
        assert!(message(Sbm::builder(100, 2).features(0)).contains("features is 0"));
        assert!(message(Sbm::builder(100, 2).features(usize::MAX)).contains("features is"));
        assert!(message(Sbm::builder(100, 2).homophily(1.5)).contains("homophily is 1.5"));
        assert!(message(Sbm::builder(100, 2).homophily(f64::NAN)).contains("homophily is NaN"));
        assert!(message(Sbm::builder(100, 2).signal(-1.0)).contains("signal is -1"));
        assert!(message(Sbm::builder(100, 2).degree(f64::NAN)).contains("degree is NaN"));
        assert!(message(Sbm::builder(100, 2).degree(90.0)).contains("inside classes"));
        assert!(
            message(Sbm::builder(100, 2).degree(90.0).homophily(0.0)).contains("between classes")
        );
        assert!(message(Sbm::builder(90, 2)).contains("class 0 has 45 nodes"));
    }
}
