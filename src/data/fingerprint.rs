//! What two data sets are told apart by.

use super::dataset::Dataset;
use super::labels::Labels;
use super::split::{Split, Splits};
use crate::graph::Graph;
use crate::rng::Digest;
use crate::scalar::Scalar;
use crate::value::{CsrView, ValueRef};

impl<F: Scalar> Dataset<F> {
    /// A number made of all that training and judging read: edges with their weights, features and
    /// types, features of the nodes, labels and splits; not of the name. Equal data have equal
    /// numbers, on every machine.
    ///
    /// ```
    /// use gnn_prune::Dataset;
    /// let fingerprint = |seed| Dataset::sbm(300, 3).seed(seed).build().map(|data| data.fingerprint());
    /// assert_eq!(fingerprint(1)?, fingerprint(1)?);
    /// assert_ne!(fingerprint(1)?, fingerprint(2)?);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn fingerprint(&self) -> u64 {
        let mut digest = Digest::default();
        edges(&mut digest, self.graph());
        match self.features() {
            ValueRef::Dense(x) => {
                numbers(&mut digest, x.iter());
                digest.word(x.ncols() as u64);
            }
            ValueRef::Sparse(x) => matrix(&mut digest, &x),
        }
        digest.bytes(self.feature_norm().to_string().as_bytes());
        match self.labels() {
            Labels::Classes(classes) => nodes(&mut digest, classes),
            Labels::Several { matrix, known } => {
                matrix.iter().chain(&**known).for_each(|&label| digest.word(label.into()))
            }
            Labels::Numbers { values, known } => {
                numbers(&mut digest, values.iter());
                known.iter().for_each(|&known| digest.word(known.into()));
            }
        }
        digest.word(self.num_classes() as u64);
        splits(&mut digest, self.splits());
        digest.value()
    }
}

fn edges<F: Scalar>(digest: &mut Digest, graph: &Graph<F>) {
    let (starts, sources) = graph.edge_list();
    starts.iter().for_each(|&start| digest.word(start as u64));
    nodes(digest, sources);
    // Edges that join the same two nodes stand in the list one by one, and in the matrix as one.
    matrix(digest, &graph.adjacency());
    if let Some(features) = graph.edge_features() {
        numbers(digest, features.iter());
    }
    graph.relations().iter().for_each(|relation| matrix(digest, &relation.view()));
}

fn matrix<F: Scalar>(digest: &mut Digest, matrix: &CsrView<F>) {
    digest.word(matrix.cols() as u64);
    matrix.indptr().raw_storage().iter().for_each(|&start| digest.word(start as u64));
    nodes(digest, matrix.indices());
    numbers(digest, matrix.data().iter());
}

fn numbers<'a, F: Scalar>(digest: &mut Digest, numbers: impl Iterator<Item = &'a F>) {
    numbers.for_each(|number| digest.word(number.as_f64().to_bits()));
}

fn nodes(digest: &mut Digest, nodes: &[u32]) {
    nodes.iter().for_each(|&node| digest.word(node.into()));
    digest.word(nodes.len() as u64);
}

fn splits(digest: &mut Digest, splits: &Splits) {
    let mut split = |split: &Split| {
        [&split.train, &split.val, &split.test].into_iter().for_each(|part| nodes(digest, part))
    };
    match splits {
        Splits::Fixed(fixed) => split(fixed),
        Splits::Masks(masks) => masks.iter().for_each(split),
        Splits::PerClass { train, val } => {
            [*train, *val].into_iter().for_each(|count| digest.word(count as u64))
        }
        Splits::Shares { train, val, test } => {
            [train, val, test].into_iter().for_each(|share| digest.word(share.to_bits()))
        }
        Splits::None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;
    use ndarray::{Array2, array};

    struct Parts {
        graph: Graph,
        features: Value<f32>,
        labels: Vec<u32>,
        classes: usize,
        splits: Splits,
    }

    impl Parts {
        fn new() -> Self {
            let split = Split { train: vec![0], val: vec![1], test: vec![2, 3] };
            Self {
                graph: Graph::builder(4)
                    .weighted_edges([(0, 1, 1.0), (2, 3, 2.0)])
                    .build()
                    .unwrap(),
                features: array![[1.0], [0.0], [3.0], [4.0]].into(),
                labels: vec![0, 1, 0, 1],
                classes: 2,
                splits: Splits::Fixed(split),
            }
        }

        fn fingerprint(self) -> u64 {
            Dataset::new(
                "parts",
                self.graph,
                self.features,
                self.labels,
                Some(self.classes),
                self.splits,
            )
            .unwrap()
            .fingerprint()
        }
    }

    #[test]
    fn whatever_training_reads_changes_the_fingerprint_and_the_name_does_not() {
        let of = |change: &dyn Fn(&mut Parts)| {
            let mut parts = Parts::new();
            change(&mut parts);
            parts.fingerprint()
        };
        let graph = |builder: crate::graph::GraphBuilder| builder.build().unwrap();
        let weighted =
            |weight: f32| Graph::builder(4).weighted_edges([(0, 1, 1.0), (2, 3, weight)]);
        let split = |train: Vec<u32>| Splits::Fixed(Split { train, val: vec![1], test: vec![2] });
        let mut all = vec![
            of(&|_| ()),
            of(&|parts| parts.graph = graph(weighted(2.5))),
            of(&|parts| parts.graph = graph(weighted(2.0).edges([(3, 0)]))),
            of(&|parts| parts.graph = graph(weighted(2.0).edge_features(array![[1.0], [2.0]]))),
            of(&|parts| parts.graph = graph(weighted(2.0).edge_types(vec![0, 1]))),
            of(&|parts| parts.features = array![[1.0], [0.0], [3.0], [4.5]].into()),
            of(&|parts| parts.features = Array2::zeros((4, 2)).into()),
            of(&|parts| parts.labels[3] = 0),
            of(&|parts| parts.classes = 3),
            of(&|parts| parts.splits = split(vec![0])),
            of(&|parts| parts.splits = split(vec![0, 3])),
            of(&|parts| {
                parts.splits =
                    Splits::Masks(vec![Split { train: vec![0], val: vec![1], test: vec![3] }; 2])
            }),
            of(&|parts| parts.splits = Splits::Shares { train: 0.5, val: 0.25, test: 0.25 }),
            of(&|parts| parts.splits = Splits::Shares { train: 0.25, val: 0.25, test: 0.25 }),
        ];
        assert_eq!(all[0], of(&|_| ()));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        let parts = Parts::new();
        let renamed =
            Dataset::new("other", parts.graph, parts.features, parts.labels, None, parts.splits)
                .unwrap();
        assert_eq!(renamed.fingerprint(), of(&|_| ()));
    }
}
