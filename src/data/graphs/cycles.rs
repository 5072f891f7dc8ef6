//! A generator of graphs whose class is their shape alone.

use super::set::GraphSet;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::rng::{generator, purpose};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// What this generator draws: the second word of its key.
const CYCLES_OR_TREES: u64 = 0x6379_636c;

/// Fewest nodes of a graph, and how many more it may have.
const FEWEST: usize = 6;
const MORE: usize = 10;

impl GraphSet<f32> {
    /// Graphs of 6 to 15 nodes in two classes, in turn: a cycle, and a random recursive tree, in
    /// which each node hangs on an earlier one. To each, `noise` times its nodes further edges are
    /// added between random nodes (rounded down). Every node has the one feature 1, so that the
    /// nodes of a graph without its edges say how many they are and nothing else; with noise the
    /// classes overlap.
    ///
    /// # Errors
    /// [`Error::Setting`] for fewer than two or more than 1,000,000 graphs, and noise that is not
    /// in [0, 1].
    ///
    /// ```
    /// use gnn_prune::data::GraphSet;
    /// let set = GraphSet::cycles_or_trees(40, 0.1, 7)?;
    /// assert_eq!((set.num_graphs(), set.num_classes(), set.num_features()), (40, 2, 1));
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn cycles_or_trees(graphs: usize, noise: f64, seed: u64) -> Result<Self> {
        if !(2..=1_000_000).contains(&graphs) {
            return Err(Error::setting("number of graphs", graphs, "from 2 to 1000000"));
        }
        if !(0.0..=1.0).contains(&noise) {
            return Err(Error::setting("noise of the edges", noise, "in [0, 1]"));
        }
        let mut rng = generator(seed, &[purpose::DATA, CYCLES_OR_TREES]);
        let (mut edges, mut starts) = (Vec::new(), vec![0]);
        for graph in 0..graphs {
            let first = starts[graph];
            let nodes = FEWEST + rng.random_range(0..MORE);
            for node in 1..nodes {
                let earlier = if graph % 2 == 0 { node - 1 } else { rng.random_range(0..node) };
                edges.push((first + earlier, first + node));
            }
            if graph % 2 == 0 {
                edges.push((first, first + nodes - 1));
            }
            for _ in 0..(noise * nodes as f64) as usize {
                let (a, b) = (rng.random_range(0..nodes), rng.random_range(0..nodes));
                // What meets itself is left out rather than drawn again.
                edges.extend((a != b).then_some((first + a, first + b)));
            }
            starts.push(first + nodes);
        }
        let nodes = starts[graphs];
        let graph = Graph::builder(nodes).edges(edges).undirected(true).build()?;
        let labels = (0..graphs).map(|graph| (graph % 2) as u32).collect();
        let name = format!("cycles_or_trees:graphs={graphs},noise={noise},seed={seed}");
        let classes = vec!["cycle".into(), "tree".into()];
        Self::of_parts(name, graph, Array2::ones((nodes, 1)).into(), starts, labels, classes)
    }
}
