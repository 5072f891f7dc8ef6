//! What everything that trains, scores or reports runs on.

use super::labels::{Labels, UNLABELED};
use super::norm::{FeatureNorm, check_finite};
use super::purpose::Purpose;
use super::split::{Split, Splits};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::kernels::buffer;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2};
use std::sync::Arc;

/// A graph whose nodes have features and labels, and the splits to learn on. Clones share the large
/// parts.
///
/// *Shapes*: features `[nodes, features]`, labels `[nodes]` in `0..num_classes`, or [`UNLABELED`]
/// for nodes that are in no part of a split.
///
/// ```
/// use gnn_prune::Dataset;
/// let data = Dataset::digits()?;
/// assert_eq!((data.num_nodes(), data.num_features(), data.num_classes()), (1797, 64, 10));
/// assert_eq!(data.split(0).train.len(), 200);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dataset<F: Scalar = f32> {
    name: String,
    graph: Graph<F>,
    features: Arc<Value<F>>,
    feature_norm: FeatureNorm,
    labels: Labels,
    num_classes: usize,
    splits: Arc<Splits>,
    notes: Arc<[String]>,
}

impl<F: Scalar> Dataset<F> {
    /// A data set from memory. Features are taken as they are ([`FeatureNorm::Raw`]; see
    /// [`with_normalized_features`](Self::with_normalized_features)); without `num_classes` there
    /// are as many as the largest label says. A label may be [`UNLABELED`].
    ///
    /// *Shapes*: features `[nodes, features]`, labels `[nodes]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the rows are not the nodes; [`Error::IndexOutOfRange`] for a
    /// label past `num_classes` or a node of a split that does not exist; [`Error::NotFinite`] for
    /// a feature; [`Error::Setting`] for a per-class split of zero nodes; [`Error::Data`] for
    /// labels of another length, no features, fewer than two classes, a split with an empty part or
    /// parts that overlap, a node of a part without a label, and a class that occurs with too few
    /// nodes for a per-class split.
    ///
    /// ```
    /// use gnn_prune::{Dataset, Graph, Split, data::Splits, ndarray::array};
    /// let path = Graph::builder(3).edges([(0, 1), (1, 2)]).undirected(true).build()?;
    /// let split = Split { train: vec![0], val: vec![1], test: vec![2] };
    /// let data = Dataset::new("path", path, array![[1.0], [0.5], [0.0]].into(), vec![0, 0, 1], None, Splits::Fixed(split))?;
    /// assert_eq!(data.num_classes(), 2);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn new(
        name: impl Into<String>,
        graph: Graph<F>,
        features: Value<F>,
        labels: Vec<u32>,
        num_classes: Option<usize>,
        splits: Splits,
    ) -> Result<Self> {
        let name = name.into();
        let num_classes = check_labels(&name, graph.num_nodes(), &labels, num_classes)?;
        Self::for_purpose(
            name,
            graph,
            features,
            Labels::Classes(labels.into()),
            num_classes,
            splits,
            Purpose::Learn,
        )
    }

    /// What was read, with as much of the labels and splits as `purpose` reads.
    ///
    /// # Errors
    /// As [`Dataset::new`] for features and splits.
    pub(super) fn for_purpose(
        name: String,
        graph: Graph<F>,
        features: Value<F>,
        labels: Labels,
        num_classes: usize,
        splits: Splits,
        purpose: Purpose,
    ) -> Result<Self> {
        check_features(&name, graph.num_nodes(), &features)?;
        let splits = Arc::new(fitting(splits, &name, &labels, purpose)?);
        let (features, feature_norm, notes) =
            (Arc::new(aligned(features)), FeatureNorm::Raw, Arc::default());
        Ok(Self { name, graph, features, feature_norm, labels, num_classes, splits, notes })
    }

    /// A data set whose nodes may have several labels each, or none; see [`Dataset::new`]. A model
    /// has one logit per label, is trained by the cross-entropy of a sigmoid, and judged by the
    /// mean ROC AUC over the labels.
    ///
    /// *Shapes*: features `[nodes, features]`, labels `[nodes, number of labels]`.
    ///
    /// # Errors
    /// As [`Dataset::new`]; [`Error::Data`] for no labels, and for a split that is drawn per class,
    /// which these nodes do not have.
    ///
    /// ```
    /// use gnn_prune::{Dataset, Graph, Split, data::Splits, ndarray::array};
    /// let path = Graph::builder(3).edges([(0, 1), (1, 2)]).undirected(true).build()?;
    /// let split = Split { train: vec![0], val: vec![1], test: vec![2] };
    /// let labels = array![[true, false], [true, true], [false, false]];
    /// let data = Dataset::multi_label("path", path, array![[1.0], [0.5], [0.0]].into(), labels, Splits::Fixed(split))?;
    /// assert_eq!(data.num_classes(), 2);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn multi_label(
        name: impl Into<String>,
        graph: Graph<F>,
        features: Value<F>,
        labels: Array2<bool>,
        splits: Splits,
    ) -> Result<Self> {
        let name = name.into();
        let nodes = graph.num_nodes();
        let (rows, num_classes) = labels.dim();
        if rows != nodes || num_classes == 0 {
            return Err(Error::ShapeMismatch {
                at: format!("{name}: labels"),
                expected: (nodes, num_classes.max(1)),
                found: labels.dim(),
            });
        }
        Self::for_purpose(
            name,
            graph,
            features,
            Labels::Several { matrix: Arc::new(labels), known: vec![true; nodes].into() },
            num_classes,
            splits,
            Purpose::Learn,
        )
    }

    /// A data set with numbers to be predicted for each node; see [`Dataset::new`]. A row of NaN is
    /// that of a node whose numbers are not known. A model has one output per number, is trained by
    /// the squared error and judged by it; see [`NodeTask`](crate::task::NodeTask) for others.
    ///
    /// *Shapes*: features `[nodes, features]`, values `[nodes, number of outputs]`.
    ///
    /// # Errors
    /// As [`Dataset::multi_label`]; [`Error::NotFinite`] for an infinite number, and for a row of
    /// which only a part is known.
    ///
    /// ```
    /// use gnn_prune::{Dataset, Graph, Split, data::Splits, ndarray::array};
    /// let path = Graph::builder(3).edges([(0, 1), (1, 2)]).undirected(true).build()?;
    /// let split = Split { train: vec![0], val: vec![1], test: vec![2] };
    /// let x = array![[1.0], [0.5], [0.0]];
    /// let values = array![[0.1], [0.2], [-0.3]];
    /// let data = Dataset::regression("path", path, x.into(), values, Splits::Fixed(split))?;
    /// assert_eq!(data.num_classes(), 1);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn regression(
        name: impl Into<String>,
        graph: Graph<F>,
        features: Value<F>,
        values: Array2<f64>,
        splits: Splits,
    ) -> Result<Self> {
        let name = name.into();
        let nodes = graph.num_nodes();
        let (rows, outputs) = values.dim();
        if rows != nodes || outputs == 0 {
            let expected = (nodes, outputs.max(1));
            let at = format!("{name}: values");
            return Err(Error::ShapeMismatch { at, expected, found: values.dim() });
        }
        let known: Vec<bool> =
            values.rows().into_iter().map(|row| row.iter().any(|v| !v.is_nan())).collect();
        let wrong = values.indexed_iter().find(|((i, _), v)| known[*i] && !v.is_finite());
        if let Some(((i, k), &value)) = wrong {
            let at = format!("{name}: number {k} of node {i}");
            return Err(Error::NotFinite { at, value });
        }
        let labels = Labels::Numbers { values: Arc::new(values), known: known.into() };
        Self::for_purpose(name, graph, features, labels, outputs, splits, Purpose::Learn)
    }

    /// A graph with features, of whose nodes nothing is asked: what tasks on pairs of nodes or on
    /// graphs stand on.
    ///
    /// *Shapes*: features `[nodes, features]`.
    ///
    /// # Errors
    /// As [`Dataset::new`] for features.
    pub fn unlabeled(name: impl Into<String>, graph: Graph<F>, features: Value<F>) -> Result<Self> {
        let labels = Labels::Classes(vec![UNLABELED; graph.num_nodes()].into());
        let (splits, purpose) = (Splits::None, Purpose::Predict);
        Self::for_purpose(name.into(), graph, features, labels, 0, splits, purpose)
    }

    /// Says what a reader assumed or did not use.
    pub(super) fn noted(mut self, notes: Vec<String>) -> Self {
        self.notes = notes.into();
        self
    }

    /// Says that the features, which are not touched, were normalised by `norm` before.
    pub(super) fn normalised_by(mut self, norm: FeatureNorm) -> Self {
        self.feature_norm = norm;
        self
    }

    /// The same data with normalised rows; nothing changes if they are so already.
    ///
    /// # Errors
    /// [`Error::Data`] if the features were normalised in another way: what they were before is
    /// gone.
    pub fn with_normalized_features(self, norm: FeatureNorm) -> Result<Self> {
        if norm == self.feature_norm {
            return Ok(self);
        }
        if self.feature_norm != FeatureNorm::Raw {
            let problem = format!(
                "features are normalised by {} already, choose {norm} when reading them",
                self.feature_norm
            );
            return Err(Error::data(self.name, problem));
        }
        let features = Arc::new(aligned(norm.apply(&self.features)?));
        Ok(Self { features, feature_norm: norm, ..self })
    }

    /// The same data with a dense matrix of features.
    #[must_use]
    pub(crate) fn with_dense_features(mut self) -> Self {
        self.features = Arc::new(aligned(Value::Dense(self.features.view().to_dense())));
        self
    }

    /// The same data with another split.
    ///
    /// # Errors
    /// As [`Dataset::new`] and [`Dataset::multi_label`] for splits.
    pub fn with_splits(self, splits: Splits) -> Result<Self> {
        let splits = Arc::new(fitting(splits, &self.name, &self.labels, Purpose::Learn)?);
        Ok(Self { splits, ..self })
    }

    /// The same nodes with other edges.
    ///
    /// # Errors
    /// [`Error::Data`] if the graph has another number of nodes.
    pub fn with_graph(&self, graph: Graph<F>) -> Result<Self> {
        if graph.num_nodes() != self.num_nodes() {
            let problem = format!(
                "has {} nodes, and the graph to replace its own has {}",
                self.num_nodes(),
                graph.num_nodes()
            );
            return Err(Error::data(&self.name, problem));
        }
        Ok(Self { graph, ..self.clone() })
    }

    /// The same data with nodes that came later: a graph that has them after the old ones
    /// ([`Graph::with_nodes`], [`Graph::with_edges`]), and their features, which are normalised as
    /// those of the others were. Their labels are not known, and no split changes.
    ///
    /// *Shapes*: features `[new nodes, features]`, dense or sparse as those of the others.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for features of another number of nodes or columns,
    /// [`Error::Data`] for a graph with fewer nodes and features stored in the other way,
    /// [`Error::NotFinite`] for a feature.
    ///
    /// ```
    /// use gnn_prune::ndarray::Array2;
    /// use gnn_prune::{Dataset, Graph, Sage};
    /// let data = Dataset::sbm(300, 3).features(8).build()?;
    /// let model = Sage::builder(8, 3).build(0)?;
    /// let edges = Graph::builder(301).edges([(7, 300), (250, 300)]).build()?;
    /// let graph = data.graph().with_nodes(1)?.with_edges(&edges)?;
    /// let data = data.with_new_nodes(graph, Array2::<f32>::ones((1, 8)).into())?;
    /// assert_eq!(model.infer_nodes(&data, &[300])?.dim(), (1, 3));
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn with_new_nodes(&self, graph: Graph<F>, features: Value<F>) -> Result<Self> {
        let (before, after) = (self.num_nodes(), graph.num_nodes());
        let Some(count) = after.checked_sub(before) else {
            let problem = format!("has {before} nodes, and the graph with more of them {after}");
            return Err(Error::data(&self.name, problem));
        };
        let (expected, found) = ((count, self.num_features()), features.shape());
        if expected != found {
            let at = format!("{}: features of new nodes", self.name);
            return Err(Error::ShapeMismatch { at, expected, found });
        }
        let below = self.feature_norm.apply(&features)?;
        let features = match (self.features.view(), below.view()) {
            (ValueRef::Dense(own), ValueRef::Dense(below)) => Value::Dense(
                ndarray::concatenate(ndarray::Axis(0), &[own, below]).expect("one width"),
            ),
            (ValueRef::Sparse(own), ValueRef::Sparse(below)) => {
                Value::Sparse(sprs::vstack(&[own, below]))
            }
            (own, _) => {
                let kind = if matches!(own, ValueRef::Dense(_)) { "dense" } else { "sparse" };
                let problem = format!("features are {kind}, and those of the new nodes must be so");
                return Err(Error::data(&self.name, problem));
            }
        };
        let labels = self.labels.with_unknown(count);
        Ok(Self { graph, features: Arc::new(aligned(features)), labels, ..self.clone() })
    }

    /// The same data in another number type.
    pub fn cast<G: Scalar>(&self) -> Dataset<G> {
        Dataset {
            name: self.name.clone(),
            graph: self.graph.cast(),
            features: Arc::new(aligned(self.features.cast())),
            feature_norm: self.feature_norm,
            labels: self.labels.clone(),
            num_classes: self.num_classes,
            splits: Arc::clone(&self.splits),
            notes: Arc::clone(&self.notes),
        }
    }

    /// What the reader assumed or did not use of the file, a sentence each; empty for data from
    /// elsewhere.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The name: a file's stem, `digits`, or the word that generates it again.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The graph.
    pub fn graph(&self) -> &Graph<F> {
        &self.graph
    }

    /// The features, rows already normalised by [`feature_norm`](Self::feature_norm).
    ///
    /// *Shapes*: `[nodes, features]`.
    pub fn features(&self) -> ValueRef<'_, F> {
        self.features.view()
    }

    /// The features, shared.
    pub(crate) fn shared_features(&self) -> Arc<Value<F>> {
        Arc::clone(&self.features)
    }

    /// How the rows of the features were normalised.
    pub fn feature_norm(&self) -> FeatureNorm {
        self.feature_norm
    }

    /// What is known of the nodes.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The class of each node, in `0..num_classes`, [`UNLABELED`] for a node without one; `None`
    /// where a node may have several labels.
    pub fn classes(&self) -> Option<&[u32]> {
        self.labels.classes()
    }

    /// Those of `nodes` that have a label, or labels.
    pub fn labeled(&self, nodes: &[u32]) -> Vec<u32> {
        nodes.iter().copied().filter(|&node| self.labels.is_known(node as usize)).collect()
    }

    /// The numbers of each node, `[nodes, num_classes]`, where numbers are to be predicted.
    pub fn numbers(&self) -> Option<ArrayView2<'_, f64>> {
        self.labels.numbers()
    }

    /// Where a node may have several labels: which, `[nodes, num_classes]`.
    pub fn label_matrix(&self) -> Option<ArrayView2<'_, bool>> {
        self.labels.matrix()
    }

    /// Number of classes, at least 2, or of labels that a node may have, or of numbers that are
    /// predicted. Data that were read to
    /// predict on have as many as the network that they were read for, 0 without one.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    /// Number of columns of the features, at least 1.
    pub fn num_features(&self) -> usize {
        self.features.shape().1
    }

    /// Number of nodes.
    pub fn num_nodes(&self) -> usize {
        self.graph.num_nodes()
    }

    /// Where splits come from.
    pub fn splits(&self) -> &Splits {
        &self.splits
    }

    /// The nodes that train, validate and test under `seed`.
    pub fn split(&self, seed: u64) -> Split {
        self.splits.of(seed, &self.labels.for_splits())
    }
}

/// Splits that are valid for these labels.
fn fitting(splits: Splits, name: &str, labels: &Labels, purpose: Purpose) -> Result<Splits> {
    if labels.classes().is_none() && matches!(splits, Splits::PerClass { .. }) {
        let what = if labels.matrix().is_some() { "several labels" } else { "numbers" };
        let problem = format!("nodes have {what}, and no classes to draw a split from; give masks");
        return Err(Error::data(name, problem));
    }
    splits.validated(name, &labels.for_splits(), purpose)
}

/// The same features, dense ones in memory that begins at a cache line: copied once, they are read
/// faster ever after.
fn aligned<F: Scalar>(features: Value<F>) -> Value<F> {
    match features {
        Value::Dense(x) => Value::Dense(buffer::aligned(x)),
        sparse => sparse,
    }
}

fn check_features<F: Scalar>(name: &str, nodes: usize, features: &Value<F>) -> Result<()> {
    let (rows, columns) = features.shape();
    if rows != nodes {
        return Err(Error::ShapeMismatch {
            at: format!("{name}: features"),
            expected: (nodes, columns),
            found: (rows, columns),
        });
    }
    if columns == 0 {
        return Err(Error::data(name, "nodes have no features; give them at least one column"));
    }
    check_finite(features)
}

pub(super) fn check_labels(
    name: &str,
    nodes: usize,
    labels: &[u32],
    num_classes: Option<usize>,
) -> Result<usize> {
    if labels.len() != nodes {
        return Err(Error::data(
            name,
            format!("has {nodes} nodes and {} labels; every node needs one", labels.len()),
        ));
    }
    let largest =
        labels.iter().copied().filter(|label| *label != UNLABELED).max().unwrap_or(0) as usize;
    let classes = match num_classes {
        Some(classes) => classes,
        // More classes than nodes are a mistake, and would be allocated for.
        None if largest >= nodes.max(2) => {
            let problem = format!(
                "labels go up to {largest} with {nodes} nodes; label v is class v, so number the classes from 0"
            );
            return Err(Error::data(name, problem));
        }
        None => largest + 1,
    };
    if classes < 2 {
        return Err(Error::data(
            name,
            format!("has {classes} classes; there must be at least 2 to tell apart"),
        ));
    }
    match labels.iter().position(|&label| label as usize >= classes && label != UNLABELED) {
        Some(node) => Err(Error::IndexOutOfRange {
            at: format!("{name}: label of node {node}"),
            index: labels[node] as usize,
            len: classes,
        }),
        None => Ok(classes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    fn graph() -> Graph {
        Graph::builder(4).edges([(0, 1), (2, 3)]).undirected(true).build().unwrap()
    }

    fn split() -> Splits {
        Splits::Fixed(Split { train: vec![1, 0], val: vec![2], test: vec![3] })
    }

    fn data(features: Array2<f32>, labels: &[u32], classes: Option<usize>) -> Result<Dataset> {
        Dataset::new("toy", graph(), features.into(), labels.to_vec(), classes, split())
    }

    fn features() -> Array2<f32> {
        array![[3.0, 4.0], [0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let message = |found: Result<Dataset>| found.unwrap_err().to_string();
        assert!(
            message(data(Array2::zeros((3, 2)), &[0, 1, 0, 1], None))
                .contains("expected shape 4x2, found 3x2")
        );
        assert!(message(data(Array2::zeros((4, 0)), &[0, 1, 0, 1], None)).contains("no features"));
        assert!(message(data(features(), &[0, 1, 0], None)).contains("4 nodes and 3 labels"));
        assert!(message(data(features(), &[0, 2, 0, 1], Some(2))).contains("label of node 1"));
        assert!(message(data(features(), &[0, 0, 0, 0], None)).contains("at least 2"));
        assert!(
            message(data(features(), &[0, u32::MAX - 1, 0, 1], None))
                .contains("labels go up to 4294967294")
        );
        assert!(
            message(data(features(), &[0, UNLABELED, 0, 1], None))
                .contains("node 1 is in train and has no label")
        );
        let mut infinite = features();
        infinite[[2, 1]] = f32::INFINITY;
        assert!(
            message(data(infinite, &[0, 1, 0, 1], None)).contains("features of node 2, column 1")
        );
        let other = Graph::builder(3).build().unwrap();
        assert!(
            message(data(features(), &[0, 1, 0, 1], None).unwrap().with_graph(other))
                .contains("has 4 nodes")
        );
    }

    #[test]
    fn classes_are_counted_or_given_and_splits_are_sorted() {
        let counted = data(features(), &[0, 1, 2, 1], None).unwrap();
        assert_eq!((counted.num_classes(), counted.num_features(), counted.num_nodes()), (3, 2, 4));
        assert_eq!(counted.split(5).train, [0, 1]);
        assert_eq!(data(features(), &[0, 1, 0, 1], Some(7)).unwrap().num_classes(), 7);
    }

    #[test]
    fn features_are_normalised_once_only() {
        let raw = data(features(), &[0, 1, 0, 1], None).unwrap();
        let l1 = raw.with_normalized_features(FeatureNorm::L1).unwrap();
        assert_eq!(l1.features().to_dense().row(0), array![3.0f32 / 7.0, 4.0 / 7.0]);
        let same = l1.clone().with_normalized_features(FeatureNorm::L1).unwrap();
        assert_eq!(same.features().to_dense(), l1.features().to_dense());
        assert!(
            l1.with_normalized_features(FeatureNorm::L2)
                .unwrap_err()
                .to_string()
                .contains("by l1 already")
        );
    }

    #[test]
    fn a_node_without_a_label_counts_to_no_class_and_other_splits_are_checked() {
        let splits =
            |train| Splits::Fixed(Split { train: vec![train], val: vec![2], test: vec![3] });
        let data = Dataset::new(
            "toy",
            graph(),
            features().into(),
            vec![0, UNLABELED, 1, 1],
            None,
            splits(0),
        )
        .unwrap();
        assert_eq!((data.num_classes(), data.labeled(&[3, 1, 0])), (2, vec![3, 0]));
        assert!(
            data.clone()
                .with_splits(splits(1))
                .unwrap_err()
                .to_string()
                .contains("node 1 is in train and has no label")
        );
        let drawn =
            data.with_splits(Splits::Shares { train: 0.3, val: 0.3, test: 0.4 }).unwrap().split(1);
        assert_eq!((drawn.train.len(), drawn.val.len(), drawn.test.len()), (1, 1, 1));
        let none = Dataset::new(
            "toy",
            graph(),
            features().into(),
            vec![UNLABELED; 4],
            Some(2),
            Splits::default(),
        );
        assert!(none.unwrap_err().to_string().contains("no node has a label"));
    }

    #[test]
    fn another_graph_or_number_type_keeps_the_rest() {
        let data = data(features(), &[0, 1, 0, 1], None).unwrap();
        let pruned = data.with_graph(Graph::builder(4).edges([(0, 1)]).build().unwrap()).unwrap();
        assert_eq!((pruned.graph().num_edges(), data.graph().num_edges()), (1, 4));
        let twin = pruned.cast::<f64>();
        assert_eq!(
            (twin.name(), twin.labels(), twin.split(0)),
            (data.name(), data.labels(), data.split(0))
        );
        assert_eq!(twin.features().to_dense()[[0, 1]], 4.0f64);
    }
}
