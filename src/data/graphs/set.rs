//! Many graphs, each with a class.

use crate::data::norm::check_finite;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use std::ops::Range;
use std::sync::Arc;

/// Graphs with a class each, side by side in one graph. Clones share the large parts.
///
/// *Shapes*: features `[nodes of all graphs, features]`, labels `[graphs]` in `0..num_classes`.
///
/// ```
/// use gnn_prune::data::GraphSet;
/// use gnn_prune::{Graph, ndarray::array};
/// // An edge and a lone node.
/// let graph = Graph::builder(3).edges([(0, 1)]).undirected(true).build()?;
/// let x = array![[1.0f32], [1.0], [1.0]];
/// let set = GraphSet::new("two", graph, x.into(), vec![0, 0, 1], vec![1, 0], None)?;
/// assert_eq!((set.num_graphs(), set.nodes_of(0), set.num_classes()), (2, 0..2, 2));
/// assert_eq!(set.select(&[1, 0])?.graph_of, [0, 1, 1]);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GraphSet<F: Scalar = f32> {
    name: Arc<str>,
    graph: Graph<F>,
    features: Arc<Value<F>>,
    /// Where the nodes of each graph begin, and their number.
    starts: Arc<[usize]>,
    labels: Arc<[u32]>,
    classes: Arc<[String]>,
    notes: Arc<[String]>,
}

/// Some graphs of a set, side by side.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Selected<F: Scalar = f32> {
    /// All of them.
    pub graph: Graph<F>,
    /// Features of the nodes, `[nodes, features]`.
    pub features: Value<F>,
    /// The graph of each node, by its place among those selected.
    pub graph_of: Vec<u32>,
    /// Who each node is in the whole set.
    pub nodes: Vec<u32>,
    /// Where the stored features of each node begin among those of the whole set, if they are
    /// sparse.
    pub feature_starts: Option<Vec<usize>>,
}

impl<F: Scalar> GraphSet<F> {
    /// A set from memory: `graph_of` says of which graph each node is, and the nodes of a graph
    /// stand together, those of the first graph first. Without `num_classes` there are as many as
    /// the largest label says; they are called by their numbers.
    ///
    /// *Shapes*: features `[nodes, features]`, `graph_of: [nodes]`, labels `[graphs]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the rows of the features are not the nodes;
    /// [`Error::IndexOutOfRange`] for a label past `num_classes`; [`Error::NotFinite`] for a
    /// feature; [`Error::Data`] for graphs of other nodes, out of order or without a node, labels
    /// of another number of graphs, an edge between two graphs, no features, and fewer than two
    /// classes.
    pub fn new(
        name: impl Into<String>,
        graph: Graph<F>,
        features: Value<F>,
        graph_of: Vec<u32>,
        labels: Vec<u32>,
        num_classes: Option<usize>,
    ) -> Result<Self> {
        let name = name.into();
        let largest = labels.iter().max().map_or(0, |&most| most as usize + 1);
        let count = num_classes.unwrap_or(largest);
        if let Some(k) = labels.iter().position(|label| *label as usize >= count) {
            let (at, index) = (format!("{name}: class of graph {k}"), labels[k] as usize);
            return Err(Error::IndexOutOfRange { at, index, len: count });
        }
        // A number out of the air must not allocate.
        if count > labels.len().max(2) {
            let problem = format!("has {} graphs of {count} classes", labels.len());
            return Err(Error::data(name, problem));
        }
        let classes = (0..count).map(|class| class.to_string()).collect();
        let starts = starts_of(&name, &graph_of, labels.len(), graph.num_nodes())?;
        Self::of_parts(name, graph, features, starts, labels, classes)
    }

    /// A set whose graphs begin at `starts`, its classes called `classes`.
    ///
    /// # Errors
    /// As [`GraphSet::new`].
    pub(super) fn of_parts(
        name: String,
        graph: Graph<F>,
        features: Value<F>,
        starts: Vec<usize>,
        labels: Vec<u32>,
        classes: Vec<String>,
    ) -> Result<Self> {
        let (expected, found) = ((graph.num_nodes(), features.shape().1), features.shape());
        if expected != found {
            return Err(Error::ShapeMismatch { at: format!("{name}: features"), expected, found });
        }
        if found.1 == 0 {
            return Err(Error::data(name, "its nodes have no features"));
        }
        if classes.len() < 2 {
            let problem = format!("has {} classes, and there must be two to tell", classes.len());
            return Err(Error::data(name, problem));
        }
        check_finite(&features).map_err(|error| match error {
            Error::NotFinite { at, value } => {
                Error::NotFinite { at: format!("{name}: {at}"), value }
            }
            other => other,
        })?;
        let (name, features) = (name.into(), Arc::new(features));
        let (starts, labels, classes) = (starts.into(), labels.into(), classes.into());
        let set = Self { name, graph, features, starts, labels, classes, notes: Arc::default() };
        set.check_edges()?;
        Ok(set)
    }

    fn check_edges(&self) -> Result<()> {
        let (starts, sources) = self.graph.edge_list();
        for k in 0..self.num_graphs() {
            let own = self.nodes_of(k);
            let into = &sources[starts[own.start]..starts[own.end]];
            if let Some(node) = into.iter().find(|&&source| !own.contains(&(source as usize))) {
                let problem =
                    format!("an edge leads from node {node} into graph {k}, of which it is not");
                return Err(Error::data(&*self.name, problem));
            }
        }
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the reader assumed or did not use, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The same set, with notes of its reader.
    pub(super) fn noted(self, notes: Vec<String>) -> Self {
        Self { notes: notes.into(), ..self }
    }

    /// Number of graphs.
    pub fn num_graphs(&self) -> usize {
        self.labels.len()
    }

    /// Number of nodes of all graphs.
    pub fn num_nodes(&self) -> usize {
        self.graph.num_nodes()
    }

    /// Features per node.
    pub fn num_features(&self) -> usize {
        self.features.shape().1
    }

    /// Number of classes, those that no graph has included.
    pub fn num_classes(&self) -> usize {
        self.classes.len()
    }

    /// What each class is called: in a file, the word that stands for it there.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// All graphs side by side.
    pub fn graph(&self) -> &Graph<F> {
        &self.graph
    }

    /// Features of all nodes.
    pub fn features(&self) -> ValueRef<'_, F> {
        self.features.view()
    }

    /// As [`GraphSet::features`], shared.
    pub fn shared_features(&self) -> Arc<Value<F>> {
        self.features.clone()
    }

    /// The class of each graph.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The graph of each node.
    pub fn graph_of(&self) -> Vec<u32> {
        let sizes = self.starts.windows(2).map(|ends| ends[1] - ends[0]);
        (0u32..).zip(sizes).flat_map(|(graph, size)| std::iter::repeat_n(graph, size)).collect()
    }

    /// The nodes of a graph.
    ///
    /// # Panics
    /// If there is no such graph.
    pub fn nodes_of(&self, graph: usize) -> Range<usize> {
        self.starts[graph]..self.starts[graph + 1]
    }

    /// The same graphs with other features.
    ///
    /// # Errors
    /// As [`GraphSet::new`] for features.
    pub fn with_features(&self, features: Value<F>) -> Result<Self> {
        let (starts, labels, classes) =
            (self.starts.to_vec(), self.labels.to_vec(), self.classes.to_vec());
        let (name, graph) = (self.name.to_string(), self.graph.clone());
        let set = Self::of_parts(name, graph, features, starts, labels, classes)?;
        Ok(set.noted(self.notes.to_vec()))
    }

    /// The same nodes, graph by graph, with other edges.
    ///
    /// # Errors
    /// As [`GraphSet::new`] for the graph.
    pub fn with_graph(&self, graph: Graph<F>) -> Result<Self> {
        if graph.num_nodes() != self.num_nodes() {
            let (own, other) = (self.num_nodes(), graph.num_nodes());
            return Err(Error::data(
                &*self.name,
                format!("has {own} nodes, and the graph that it is to have has {other}"),
            ));
        }
        let set = Self { graph, ..self.clone() };
        set.check_edges()?;
        Ok(set)
    }

    /// These graphs, in this order, side by side; it costs what they hold.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for a graph that there is not, [`Error::Data`] for none at all.
    pub fn select(&self, graphs: &[u32]) -> Result<Selected<F>> {
        let len = self.num_graphs();
        if let Some(&graph) = graphs.iter().find(|graph| **graph as usize >= len) {
            let (at, index) = (format!("{}: graph", self.name), graph as usize);
            return Err(Error::IndexOutOfRange { at, index, len });
        }
        let ranges: Vec<Range<usize>> =
            graphs.iter().map(|&graph| self.nodes_of(graph as usize)).collect();
        let graph = self.graph.blocks(&ranges)?;
        let nodes: Vec<u32> =
            ranges.iter().flat_map(|range| range.start as u32..range.end as u32).collect();
        let graph_of = (0u32..).zip(&ranges);
        let graph_of = graph_of.flat_map(|(k, range)| std::iter::repeat_n(k, range.len()));
        let feature_starts = match self.features() {
            ValueRef::Dense(_) => None,
            ValueRef::Sparse(x) => {
                let starts = x.indptr();
                let starts = starts.raw_storage();
                Some(nodes.iter().map(|&node| starts[node as usize]).collect())
            }
        };
        Ok(Selected {
            features: self.features().rows_of(&nodes),
            graph_of: graph_of.collect(),
            graph,
            nodes,
            feature_starts,
        })
    }

    /// The same set in another number type.
    pub fn cast<G: Scalar>(&self) -> GraphSet<G> {
        GraphSet {
            name: self.name.clone(),
            graph: self.graph.cast(),
            features: Arc::new(self.features.cast()),
            starts: self.starts.clone(),
            labels: self.labels.clone(),
            classes: self.classes.clone(),
            notes: self.notes.clone(),
        }
    }
}

/// Where each of `graphs` graphs begins, where `graph_of` says the graph of each of `nodes` nodes.
fn starts_of(name: &str, graph_of: &[u32], graphs: usize, nodes: usize) -> Result<Vec<usize>> {
    let refuse = |problem: String| Err(Error::data(name, problem));
    if graph_of.len() != nodes {
        return refuse(format!("the graphs of {} nodes are given of {nodes}", graph_of.len()));
    }
    let mut starts = vec![0];
    for (node, &graph) in graph_of.iter().enumerate() {
        let open = starts.len() - 1;
        if graph as usize == open + 1 && node > starts[open] {
            starts.push(node);
        } else if graph as usize != open {
            return refuse(format!(
                "node {node} is of graph {graph} after nodes of graph {open}; nodes stand graph by graph, the first graph first, and each has one"
            ));
        }
    }
    starts.push(nodes);
    if starts.len() != graphs + 1 {
        return refuse(format!("has {graphs} classes of {} graphs", starts.len() - 1));
    }
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Csr;
    use ndarray::{Array2, array};

    fn three() -> GraphSet {
        let graph = Graph::builder(6).edges([(0, 1), (1, 0), (3, 4), (5, 3)]).build().unwrap();
        let x = Array2::from_shape_fn((6, 2), |(i, c)| (10 * i + c) as f32);
        GraphSet::new("three", graph, x.into(), vec![0, 0, 1, 2, 2, 2], vec![1, 0, 1], None)
            .unwrap()
    }

    #[test]
    fn selected_graphs_stand_in_the_order_asked_for_with_their_own_rows() {
        let set = three();
        let chosen = set.select(&[2, 1]).unwrap();
        assert_eq!((chosen.nodes, chosen.graph_of), (vec![3, 4, 5, 2], vec![0, 0, 0, 1]));
        assert_eq!(chosen.graph.edge_list().1, [2, 0]);
        let expected = array![[30.0, 31.0], [40.0, 41.0], [50.0, 51.0], [20.0, 21.0]];
        assert_eq!(chosen.features, Value::Dense(expected.clone()));
        assert_eq!(chosen.feature_starts, None);
        let sparse = Csr::csr_from_dense(set.features().to_dense().view(), 0.0);
        let sparse = set.with_features(Value::Sparse(sparse)).unwrap();
        let chosen = sparse.select(&[2, 1]).unwrap();
        assert_eq!(chosen.features.into_dense(), expected);
        // The first entry of all is zero, and not stored.
        assert_eq!(chosen.feature_starts, Some(vec![5, 7, 9, 3]));
        assert_eq!(set.graph_of(), [0, 0, 1, 2, 2, 2]);
        assert!(set.select(&[3]).unwrap_err().to_string().contains("three: graph"));
        assert!(set.select(&[]).is_err());
    }

    #[test]
    fn what_is_no_set_of_graphs_is_refused() {
        let (graph, x) = (three().graph().clone(), three().features().to_owned());
        let words = |graph_of: &[u32], labels: &[u32], classes| {
            let (graph_of, labels) = (graph_of.to_vec(), labels.to_vec());
            GraphSet::new("x", graph.clone(), x.clone(), graph_of, labels, classes)
                .unwrap_err()
                .to_string()
        };
        let own = [0, 0, 1, 2, 2, 2];
        assert!(words(&own[..5], &[1, 0, 1], None).contains("5 nodes"));
        assert!(words(&[0, 0, 2, 2, 2, 2], &[1, 0, 1], None).contains("node 2 is of graph 2"));
        assert!(words(&[0, 0, 1, 2, 1, 2], &[1, 0, 1], None).contains("node 4 is of graph 1"));
        assert!(words(&[1, 1, 2, 2, 2, 2], &[1, 0], None).contains("node 0 is of graph 1"));
        assert!(words(&own, &[1, 0], None).contains("2 classes of 3 graphs"));
        assert!(words(&own, &[1, 0, 1], Some(1)).contains("class of graph 0"));
        assert!(words(&own, &[0, 0, 0], None).contains("1 classes"));
        assert!(words(&own, &[0, 1, 0], Some(1 << 40)).contains("3 graphs of"));
        assert!(words(&[0, 1, 2, 2, 2, 2], &[1, 0, 1], None).contains("node 1 into graph 0"));
        let mut wrong = three().features().to_dense();
        wrong[[4, 1]] = f32::NAN;
        let wrong = three().with_features(wrong.into()).unwrap_err().to_string();
        assert!(wrong.contains("three") && wrong.contains("NaN"), "{wrong}");
        assert!(three().with_features(Array2::zeros((5, 1)).into()).is_err());
        let bare = three().with_graph(Graph::builder(6).build().unwrap()).unwrap();
        assert_eq!((bare.graph().num_edges(), bare.labels()), (0, three().labels()));
        let across = Graph::builder(6).edges([(0, 3)]).build().unwrap();
        assert!(three().with_graph(across).is_err());
        let fewer = three().with_graph(Graph::builder(5).build().unwrap()).unwrap_err();
        assert!(fewer.to_string().contains("has 6 nodes"), "{fewer}");
        assert!(three().with_features(Array2::zeros((6, 0)).into()).is_err());
    }
}
