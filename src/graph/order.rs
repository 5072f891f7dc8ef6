//! Orders of the nodes that bring neighbours close together, so that rows which a product gathers
//! are still in the cache.

use super::Graph;
use crate::scalar::Scalar;
use std::collections::VecDeque;

/// How nodes are put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeOrder {
    /// By number of in-neighbours, the largest first.
    Degree,
    /// Reverse Cuthill–McKee: breadth first from a node of small degree, neighbours by degree,
    /// turned round. A small bandwidth.
    ///
    /// *Source*: Cuthill and McKee, "Reducing the bandwidth of sparse symmetric matrices", ACM
    /// 1969; reversed: George 1971.
    Rcm,
    /// Communities one after the other, inside each the nodes by degree: the order to try first on
    /// graphs of people, papers and goods.
    ///
    /// *Source*: communities by label propagation, Raghavan et al., Physical Review E 76, 2007,
    /// with a bound on their size as in Meyerhenke et al., "Partitioning complex networks via
    /// size-constrained clustering", SEA 2014.
    Communities,
}

/// Sweeps of label propagation: later ones move few nodes.
const SWEEPS: usize = 5;

/// Most nodes of a community: rows of 256 numbers of so many fit the cache near a core.
const MOST_MEMBERS: usize = 1024;

impl<F: Scalar> Graph<F> {
    /// A permutation of the nodes: place `i` of the new order is taken by node `order[i]`, as
    /// [`Graph::permuted`] reads it. Time is linear in the edges, and the same graph gives the same
    /// order.
    pub fn node_order(&self, order: NodeOrder) -> Vec<u32> {
        let by_degree =
            |nodes: &mut [u32]| nodes.sort_by_key(|&i| (std::cmp::Reverse(self.degree(i)), i));
        let mut nodes: Vec<u32> = (0..self.num_nodes() as u32).collect();
        match order {
            NodeOrder::Degree => by_degree(&mut nodes),
            NodeOrder::Rcm => nodes = self.cuthill_mckee(),
            NodeOrder::Communities => {
                let communities = self.communities();
                by_degree(&mut nodes);
                nodes.sort_by_key(|&i| communities[i as usize]);
            }
        }
        nodes
    }

    fn degree(&self, node: u32) -> usize {
        self.neighbours(node).len()
    }

    fn neighbours(&self, node: u32) -> &[u32] {
        let (starts, sources, _) = self.adjacency.view().into_raw_storage();
        &sources[starts[node as usize]..starts[node as usize + 1]]
    }

    fn cuthill_mckee(&self) -> Vec<u32> {
        let n = self.num_nodes();
        let mut starts: Vec<u32> = (0..n as u32).collect();
        starts.sort_by_key(|&i| (self.degree(i), i));
        let (mut seen, mut order) = (vec![false; n], Vec::with_capacity(n));
        let mut queue = VecDeque::new();
        let mut next = Vec::new();
        for start in starts {
            if std::mem::replace(&mut seen[start as usize], true) {
                continue;
            }
            queue.push_back(start);
            while let Some(node) = queue.pop_front() {
                order.push(node);
                next.clear();
                next.extend(
                    self.neighbours(node)
                        .iter()
                        .filter(|&&j| !std::mem::replace(&mut seen[j as usize], true)),
                );
                next.sort_by_key(|&j| (self.degree(j), j));
                queue.extend(&next);
            }
        }
        order.reverse();
        order
    }

    /// The community of each node, numbered by their first nodes.
    fn communities(&self) -> Vec<u32> {
        let n = self.num_nodes();
        let mut label: Vec<u32> = (0..n as u32).collect();
        let mut members = vec![1usize; n];
        let mut votes = vec![0u32; n];
        let mut order: Vec<u32> = (0..n as u32).collect();
        // Nodes with few neighbours know best where they belong, and decide first.
        order.sort_by_key(|&i| (self.degree(i), i));
        for _ in 0..SWEEPS {
            let mut moved = false;
            for &node in &order {
                let own = label[node as usize];
                self.neighbours(node).iter().for_each(|&j| votes[label[j as usize] as usize] += 1);
                let mut best = own;
                for &j in self.neighbours(node) {
                    let other = label[j as usize];
                    let (theirs, ours) = (votes[other as usize], votes[best as usize]);
                    if (theirs > ours || (theirs == ours && other < best))
                        && (other == own || members[other as usize] < MOST_MEMBERS)
                    {
                        best = other;
                    }
                }
                self.neighbours(node).iter().for_each(|&j| votes[label[j as usize] as usize] = 0);
                if best != own {
                    members[own as usize] -= 1;
                    members[best as usize] += 1;
                    label[node as usize] = best;
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        label
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_permutation(order: &[u32], n: usize) -> bool {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        sorted == (0..n as u32).collect::<Vec<_>>()
    }

    const ALL: [NodeOrder; 3] = [NodeOrder::Degree, NodeOrder::Rcm, NodeOrder::Communities];

    #[test]
    fn every_order_is_a_permutation_also_with_isolated_nodes_and_directions() {
        let graph = Graph::builder(6).edges([(0, 3), (3, 4), (4, 4), (2, 0)]).build().unwrap();
        for order in ALL {
            assert!(is_permutation(&graph.node_order(order), 6), "{order:?}");
        }
    }

    #[test]
    fn a_shuffled_path_has_bandwidth_one_again() {
        let place = |i: usize| (i * 7) % 20;
        let graph = Graph::builder(20)
            .edges((1..20).map(|i| (place(i - 1), place(i))))
            .undirected(true)
            .build()
            .unwrap();
        let graph = graph.permuted(&graph.node_order(NodeOrder::Rcm)).unwrap();
        assert!(graph.adjacency().iter().all(|(_, (i, j))| i.abs_diff(j) == 1));
    }

    #[test]
    fn breadth_first_from_a_node_of_small_degree_and_turned_round() {
        // A hub with three leaves, of which the last leads on to another.
        let graph = Graph::builder(5)
            .edges([(0, 1), (0, 2), (0, 3), (3, 4)])
            .undirected(true)
            .build()
            .unwrap();
        assert_eq!(graph.node_order(NodeOrder::Rcm), [4, 3, 2, 0, 1]);
    }

    #[test]
    fn communities_become_neighbours() {
        // Cliques of five whose members are 8 apart, joined in a ring by one edge each.
        let inside = (0..8usize).flat_map(|c| {
            (0..5usize).flat_map(move |a| (0..a).map(move |b| (c + 8 * a, c + 8 * b)))
        });
        let graph = Graph::builder(40)
            .edges(inside.chain((0..8).map(|c| (c, (c + 1) % 8))))
            .undirected(true)
            .build()
            .unwrap();
        let order = graph.node_order(NodeOrder::Communities);
        assert!(
            order.chunks(5).all(|clique| clique.iter().all(|i| i % 8 == clique[0] % 8)),
            "{order:?}"
        );
    }
}
