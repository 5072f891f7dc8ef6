//! Edges as attention reads them: one self-loop per node, and the way back from sources to targets.

use super::Graph;
use crate::kernels::Neighbourhoods;
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2, Axis};

/// The edges of a graph by targets and by sources, its self-loops replaced by exactly one per node
/// or as they are listed.
///
/// The edges into a node lie side by side in the order of [`Graph::edge_list`]; a loop that
/// replaced others comes last. Weights are left out. A loop has the mean of the features of the
/// edges into its node, zeros where there are none (`fill_value="mean"` in PyTorch Geometric).
#[derive(Debug, Clone)]
pub struct AttentionEdges<F: Scalar> {
    starts: Vec<usize>,
    sources: Vec<u32>,
    back_starts: Vec<usize>,
    targets: Vec<u32>,
    places: Vec<usize>,
    features: Option<Array2<F>>,
}

impl<F: Scalar> AttentionEdges<F> {
    pub(super) fn as_listed(graph: &Graph<F>) -> Self {
        let (starts, sources) = graph.edge_list();
        let (starts, sources) = (starts.to_vec(), sources.to_vec());
        let (back_starts, targets, places) = way_back(&starts, &sources);
        let features = graph.edge_features().map(|features| features.to_owned());
        Self { starts, sources, back_starts, targets, places, features }
    }

    pub(super) fn with_loops(graph: &Graph<F>) -> Self {
        let n = graph.num_nodes();
        let (first, listed) = graph.edge_list();
        let (mut starts, mut sources) =
            (Vec::with_capacity(n + 1), Vec::with_capacity(listed.len() + n));
        starts.push(0);
        for i in 0..n {
            sources.extend(
                listed[first[i]..first[i + 1]].iter().copied().filter(|&j| j as usize != i),
            );
            sources.push(i as u32);
            starts.push(sources.len());
        }
        let (back_starts, targets, places) = way_back(&starts, &sources);
        let features = graph.edge_features().map(|features| with_loops(graph, features, &starts));
        Self { starts, sources, back_starts, targets, places, features }
    }

    /// Number of edges, self-loops among them.
    pub fn num_edges(&self) -> usize {
        self.sources.len()
    }

    /// The edges as kernels read them.
    pub fn neighbourhoods(&self) -> Neighbourhoods<'_> {
        let Self { starts, sources, back_starts, targets, places, .. } = self;
        Neighbourhoods { starts, sources, back_starts, targets, places }
    }

    /// Features of the edges, `[num_edges, channels]`, those of the loops included.
    pub fn features(&self) -> Option<ArrayView2<'_, F>> {
        self.features.as_ref().map(|features| features.view())
    }
}

/// For every source the targets that it reaches, ascending, and where each of these edges stands.
fn way_back(starts: &[usize], sources: &[u32]) -> (Vec<usize>, Vec<u32>, Vec<usize>) {
    let n = starts.len() - 1;
    let mut back_starts = vec![0; n + 1];
    sources.iter().for_each(|&j| back_starts[j as usize + 1] += 1);
    (0..n).for_each(|j| back_starts[j + 1] += back_starts[j]);
    let mut next = back_starts.clone();
    let (mut targets, mut places) = (vec![0; sources.len()], vec![0; sources.len()]);
    for i in 0..n {
        for e in starts[i]..starts[i + 1] {
            let at = &mut next[sources[e] as usize];
            (targets[*at], places[*at]) = (i as u32, e);
            *at += 1;
        }
    }
    (back_starts, targets, places)
}

fn with_loops<F: Scalar>(graph: &Graph<F>, features: ArrayView2<F>, starts: &[usize]) -> Array2<F> {
    let mut all = Array2::zeros((starts[starts.len() - 1], features.ncols()));
    let (mut from, mut to) = (0, 0);
    let (listed, sources) = graph.edge_list();
    for i in 0..graph.num_nodes() {
        let first = to;
        for &j in &sources[listed[i]..listed[i + 1]] {
            if j as usize != i {
                all.row_mut(to).assign(&features.row(from));
                to += 1;
            }
            from += 1;
        }
        if to > first {
            let sum = all.slice(ndarray::s![first..to, ..]).sum_axis(Axis(0));
            all.row_mut(to).assign(&(sum / F::of((to - first) as f64)));
        }
        to += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use crate::graph::Graph;
    use ndarray::array;
    use std::sync::Arc;

    #[test]
    fn every_node_has_one_loop_with_the_mean_of_what_comes_in() {
        let features = array![[1.0], [5.0], [3.0], [9.0]];
        let graph = Graph::builder(3)
            .edges([(1, 0), (1, 1), (2, 0), (0, 2)])
            .edge_features(features)
            .build()
            .unwrap();
        let edges = graph.attention();
        assert!(Arc::ptr_eq(&edges, &graph.clone().attention()));
        let lists = edges.neighbourhoods();
        assert_eq!((lists.starts, lists.sources), (&[0, 3, 4, 6][..], &[1, 2, 0, 1, 0, 2][..]));
        assert_eq!(edges.features().unwrap(), array![[1.0], [3.0], [2.0], [0.0], [9.0], [9.0]]);
        assert_eq!(
            (lists.back_starts, lists.targets),
            (&[0, 2, 4, 6][..], &[0, 2, 0, 1, 0, 2][..])
        );
        assert_eq!(lists.places, [2, 4, 0, 3, 1, 5]);
    }
}
