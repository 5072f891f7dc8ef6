//! Clusters of nodes with many edges among themselves.

use super::draws;
use crate::error::{Error, Result};
use crate::graph::{Graph, NodeOrder};
use crate::rng::{generator, purpose};
use crate::scalar::Scalar;
use ndarray_rand::rand::seq::SliceRandom;

/// The nodes of a graph in parts of one size, up to one node, that keep communities together.
///
/// Communities of [`NodeOrder::Communities`] lie one after the other and are cut into parts: one is
/// torn only where a part ends. Several parts, other ones in every epoch, make a batch with all
/// edges between them, so that no edge is always left out.
///
/// *Source*: Chiang et al., "Cluster-GCN", KDD 2019, algorithm 1 and section 3.2, with label
/// propagation in the place of METIS.
///
/// ```
/// use gnn_prune::graph::Clusters;
/// use gnn_prune::Dataset;
/// let data = Dataset::sbm(300, 3).build()?;
/// let clusters = Clusters::of(data.graph(), 10)?;
/// let batches = clusters.joined(4, 0, 1);
/// assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [120, 120, 60]);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Clusters {
    parts: Vec<Vec<u32>>,
}

impl Clusters {
    /// Cuts the nodes of `graph` into so many parts.
    ///
    /// # Errors
    /// [`Error::Setting`] for no part and for more than there are nodes.
    pub fn of<F: Scalar>(graph: &Graph<F>, parts: usize) -> Result<Self> {
        let n = graph.num_nodes();
        if !(1..=n).contains(&parts) {
            return Err(Error::setting("clusters", parts, format!("from 1 to the {n} nodes")));
        }
        let order = graph.node_order(NodeOrder::Communities);
        let start = |part: usize| (part as u128 * n as u128 / parts as u128) as usize;
        let part = |k: usize| {
            let mut nodes = order[start(k)..start(k + 1)].to_vec();
            nodes.sort_unstable();
            nodes
        };
        Ok(Self { parts: (0..parts).map(part).collect() })
    }

    /// The nodes of each part, ascending.
    pub fn parts(&self) -> &[Vec<u32>] {
        &self.parts
    }

    /// All parts, `count` of them joined at a time, as seed and epoch draw them; nodes ascending.
    /// Where `count` does not divide the parts the last has fewer.
    pub fn joined(&self, count: usize, seed: u64, epoch: u64) -> Vec<Vec<u32>> {
        let mut order: Vec<usize> = (0..self.parts.len()).collect();
        let key = [purpose::SAMPLE, draws::CLUSTERS, epoch];
        order.shuffle(&mut generator(seed, &key));
        let join = |parts: &[usize]| {
            let mut nodes: Vec<u32> =
                parts.iter().flat_map(|&part| &self.parts[part]).copied().collect();
            nodes.sort_unstable();
            nodes
        };
        order.chunks(count.max(1)).map(join).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cliques of five whose members are 8 apart, joined in a ring by one edge each.
    fn cliques() -> Graph {
        let inside = (0..8usize).flat_map(|c| {
            (0..5usize).flat_map(move |a| (0..a).map(move |b| (c + 8 * a, c + 8 * b)))
        });
        let ring = (0..8).map(|c| (c, (c + 1) % 8));
        Graph::builder(40).edges(inside.chain(ring)).undirected(true).build().unwrap()
    }

    #[test]
    fn parts_are_communities_and_every_epoch_joins_all_of_them_otherwise() {
        let clusters = Clusters::of(&cliques(), 8).unwrap();
        for part in clusters.parts() {
            assert!(part.len() == 5 && part.iter().all(|node| node % 8 == part[0] % 8));
        }
        let [one, again, other] = [1, 1, 2].map(|epoch| clusters.joined(3, 4, epoch));
        assert_eq!(one, again);
        assert_ne!(one, other);
        assert_eq!(one.iter().map(Vec::len).collect::<Vec<_>>(), [15, 15, 10]);
        let mut all = one.concat();
        all.sort_unstable();
        assert_eq!(all, (0..40).collect::<Vec<_>>());
    }

    #[test]
    fn parts_out_of_range_are_refused_and_uneven_ones_differ_by_one() {
        let graph = cliques();
        for parts in [0, 41] {
            let error = Clusters::of(&graph, parts).unwrap_err().to_string();
            assert!(error.contains("clusters is") && error.contains("40 nodes"), "{error}");
        }
        let sizes = Clusters::of(&graph, 7).unwrap();
        assert!(sizes.parts().iter().all(|part| part.len() == 5 || part.len() == 6));
    }
}
