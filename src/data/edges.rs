//! Undirected graphs from many pairs, without the memory that a list of weighted edges would take.

use crate::error::{Error, Result};
use crate::graph::{Graph, SelfLoops};
use crate::value::Csr;
use rayon::prelude::*;

/// The graph with both directions of every pair, each once and of weight 1. Walks `pairs` twice.
///
/// `SelfLoops::Add` has no meaning here and is treated as `Keep`.
///
/// # Errors
/// [`Error::IndexOutOfRange`] for a node that does not exist, [`Error::Data`] for no nodes at all.
pub(super) fn undirected(
    num_nodes: usize,
    pairs: impl Iterator<Item = (u32, u32)> + Clone,
    loops: SelfLoops,
) -> Result<Graph<f32>> {
    let pairs = pairs.filter(move |(a, b)| a != b || loops != SelfLoops::Remove);
    let mut starts = vec![0usize; num_nodes + 1];
    for (k, (a, b)) in pairs.clone().enumerate() {
        let index = a.max(b) as usize;
        if index >= num_nodes {
            return Err(Error::IndexOutOfRange {
                at: format!("edge {k} ({a} - {b})"),
                index,
                len: num_nodes,
            });
        }
        starts[a as usize + 1] += 1;
        if a != b {
            starts[b as usize + 1] += 1;
        }
    }
    for i in 0..num_nodes {
        starts[i + 1] += starts[i];
    }
    let mut indices = vec![0u32; starts[num_nodes]];
    let mut ends = starts[..num_nodes].to_vec();
    let mut put = |row: u32, column: u32| {
        indices[ends[row as usize]] = column;
        ends[row as usize] += 1;
    };
    for (a, b) in pairs {
        put(a, b);
        if a != b {
            put(b, a);
        }
    }
    sort_rows(&starts, &mut indices);
    let (indptr, indices) = without_repeats(&starts, indices);
    let data = vec![1.0; indices.len()];
    Graph::try_from(Csr::new((num_nodes, num_nodes), indptr, indices, data))
}

fn sort_rows(starts: &[usize], indices: &mut [u32]) {
    let mut rows = Vec::with_capacity(starts.len());
    let mut rest = indices;
    for bounds in starts.windows(2) {
        let (row, tail) = rest.split_at_mut(bounds[1] - bounds[0]);
        rows.push(row);
        rest = tail;
    }
    rows.into_par_iter().for_each(|row| row.sort_unstable());
}

fn without_repeats(starts: &[usize], mut indices: Vec<u32>) -> (Vec<usize>, Vec<u32>) {
    let mut indptr = Vec::with_capacity(starts.len());
    let mut kept = 0;
    indptr.push(kept);
    for bounds in starts.windows(2) {
        let first = kept;
        for k in bounds[0]..bounds[1] {
            if kept == first || indices[kept - 1] != indices[k] {
                indices[kept] = indices[k];
                kept += 1;
            }
        }
        indptr.push(kept);
    }
    indices.truncate(kept);
    indices.shrink_to_fit();
    (indptr, indices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pairs_give_the_graph_of_the_builder(pairs in prop::collection::vec((0u32..7, 0u32..7), 0..40), remove: bool) {
            let loops = if remove { SelfLoops::Remove } else { SelfLoops::Keep };
            let listed = pairs.iter().map(|&(a, b)| (a as usize, b as usize));
            let expected = Graph::builder(7).edges(listed).undirected(true).self_loops(loops).build().unwrap();
            let graph = undirected(7, pairs.iter().copied(), loops).unwrap();
            prop_assert_eq!(graph.adjacency(), expected.adjacency());
        }
    }

    #[test]
    fn a_node_that_does_not_exist_is_named() {
        let message =
            undirected(2, [(0, 1), (0, 2)].into_iter(), SelfLoops::Keep).unwrap_err().to_string();
        assert!(message.contains("edge 1 (0 - 2)"), "{message}");
        assert!(
            undirected(0, [].into_iter(), SelfLoops::Keep)
                .unwrap_err()
                .to_string()
                .contains("no nodes")
        );
    }
}
