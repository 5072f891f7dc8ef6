//! Graphs: validated once, immutable, with their normalised operators cached beside them.
//!
//! A graph is a square CSR matrix: row = target node, column = source node, so that a product with
//! it gathers from in-neighbours.

mod attention;
mod blocks;
mod builder;
mod edges;
mod grown;
mod hop;
mod induced;
mod marks;
mod operator;
mod order;
mod partial;
mod relations;
mod reweighed;
mod sample;
mod topology;

pub use attention::AttentionEdges;
pub use builder::{Duplicates, GraphBuilder, SelfLoops};
pub use edges::{Edge, EdgeMask};
pub use hop::Hop;
pub use operator::{AdjacencyNorm, Operator};
pub use order::NodeOrder;
pub use relations::RelationPairs;
pub use sample::{Clusters, Coverage, NeighborSampler, SubgraphSampler};
pub use topology::Topology;

use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::value::{Csr, CsrView};
use ndarray::{Array2, ArrayView2};
use operator::Scaling;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, RwLock};

/// Each relation by itself, or those of a range together.
type SomeRelations = Option<(usize, usize)>;

/// A directed, weighted graph on nodes `0..n`.
///
/// *Shapes*: adjacency `[n, n]`, row = target, column = source, weight 1 where none was given.
///
/// ```
/// use gnn_prune::Graph;
/// let triangle = Graph::builder(3).edges([(0, 1), (1, 2), (2, 0)]).undirected(true).build()?;
/// assert_eq!((triangle.num_nodes(), triangle.num_edges()), (3, 6));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Graph<F: Scalar = f32> {
    adjacency: Arc<Csr<F>>,
    /// A row of features per stored edge, in the order of `adjacency`.
    edge_features: Option<Arc<Array2<F>>>,
    /// The edges of each type.
    relations: Arc<Vec<Csr<F>>>,
    /// By relation, the whole graph being `None`.
    operators: Built<(Option<usize>, AdjacencyNorm), Operator<F>>,
    /// What the rows of a sample are made of, without the whole operators.
    scalings: Built<AdjacencyNorm, Scaling<F>>,
    /// Of each relation by itself, or of a range of them together.
    pairs: Built<(SomeRelations, AdjacencyNorm), RelationPairs<F>>,
    /// With a self-loop per node, and as they are listed.
    attention: Arc<[OnceLock<Arc<AttentionEdges<F>>>; 2]>,
    parallel: Option<Arc<Parallel>>,
    /// Whether any edge was listed with a weight other than 1.
    weighted: bool,
    /// The graph that this one was drawn from, where its operators are to be those of that one.
    part: Option<Arc<Part<F>>>,
}

/// All edges by targets, sources ascending, of a graph where several join the same two nodes.
#[derive(Debug)]
struct Parallel {
    starts: Vec<usize>,
    sources: Vec<u32>,
    /// What each edge was listed with, of which the adjacency has the sum.
    weights: Vec<f32>,
    types: Option<Vec<u32>>,
    /// Weight of the last self-loop of each node that has any: where loops are filled in, PyTorch
    /// Geometric reads no other.
    loops: BTreeMap<u32, f64>,
    /// How many edges share a place, where it is more than one: by relation (the whole graph being
    /// `None`), row and column.
    counts: BTreeMap<(Option<usize>, u32, u32), u32>,
}

/// What a graph was drawn from, where its operators are to be those of that one.
#[derive(Debug)]
struct Part<F: Scalar> {
    whole: Graph<F>,
    /// Who each node is there.
    nodes: Arc<[u32]>,
    /// What each stored edge is multiplied by beside.
    factors: Vec<F>,
}

/// What was built once, by what it was built for; clones of a graph share it.
type Built<K, V> = Arc<RwLock<BTreeMap<K, Arc<V>>>>;

/// What is kept under `key`, built at the first call that can.
fn kept<K: Ord, V>(
    built: &Built<K, V>,
    key: K,
    build: impl FnOnce() -> Result<V>,
) -> Result<Arc<V>> {
    // A poisoned lock only means that another thread panicked between two whole insertions: the map
    // is sound.
    let known = built.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&key).cloned();
    if let Some(known) = known {
        return Ok(known);
    }
    let new = Arc::new(build()?);
    Ok(built
        .write()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .entry(key)
        .or_insert(new)
        .clone())
}

impl Graph<f32> {
    /// Starts a graph on `num_nodes` nodes; edges are pairs `(source, target)`.
    pub fn builder(num_nodes: usize) -> GraphBuilder {
        GraphBuilder::new(num_nodes)
    }
}

impl<F: Scalar> Graph<F> {
    /// Takes an adjacency matrix as it is, after validation; row = target, column = source.
    fn validated(
        adjacency: Csr<F>,
        edge_features: Option<Array2<F>>,
        relations: Option<Vec<Csr<F>>>,
    ) -> Result<Self> {
        let (rows, cols) = adjacency.shape();
        if rows != cols {
            return Err(Error::ShapeMismatch {
                at: "graph".into(),
                expected: (rows, rows),
                found: (rows, cols),
            });
        }
        if rows == 0 {
            return Err(Error::data("graph", "has no nodes; a graph needs at least one"));
        }
        for (target, row) in adjacency.outer_iterator().enumerate() {
            if let Some((source, &weight)) = row.iter().find(|(_, w)| !w.is_finite()) {
                let at = format!("graph: weight of edge {source} -> {target}");
                return Err(Error::NotFinite { at, value: weight.as_f64() });
            }
        }
        let relations = Arc::new(relations.unwrap_or_default());
        let weighted = adjacency.data().iter().any(|w| *w != F::one());
        let (adjacency, edge_features) = (Arc::new(adjacency), edge_features.map(Arc::new));
        Ok(Self {
            adjacency,
            edge_features,
            relations,
            operators: Arc::default(),
            scalings: Arc::default(),
            pairs: Arc::default(),
            attention: Arc::default(),
            parallel: None,
            weighted,
            part: None,
        })
    }

    /// Number of nodes.
    pub fn num_nodes(&self) -> usize {
        self.adjacency.rows()
    }

    /// Number of directed edges, self-loops included; those that join the same two nodes count
    /// once.
    pub fn num_edges(&self) -> usize {
        self.adjacency.nnz()
    }

    /// The adjacency matrix: row = target, column = source.
    pub fn adjacency(&self) -> CsrView<'_, F> {
        self.adjacency.view()
    }

    /// All edges by targets: those into `i` come from `sources[starts[i]..starts[i + 1]]`,
    /// ascending. An edge that was listed twice and kept ([`Duplicates::Keep`]) stands there twice.
    pub fn edge_list(&self) -> (&[usize], &[u32]) {
        match &self.parallel {
            Some(parallel) => (&parallel.starts, &parallel.sources),
            None => {
                let (starts, sources, _) = self.adjacency.view().into_raw_storage();
                (starts, sources)
            }
        }
    }

    /// Whether the two are clones of one graph.
    pub(crate) fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.adjacency, &other.adjacency)
    }

    /// Whether any edge was listed with a weight other than 1.
    pub fn is_weighted(&self) -> bool {
        self.weighted
    }

    /// Features of the edges, a row per edge, in the order of [`Graph::edge_list`].
    pub fn edge_features(&self) -> Option<ArrayView2<'_, F>> {
        self.edge_features.as_ref().map(|features| features.view())
    }

    /// The edges of each type, each `[n, n]` as [`Graph::adjacency`]; empty where edges have no
    /// types.
    pub fn relations(&self) -> &[Csr<F>] {
        &self.relations
    }

    /// The operator of the edges of one type; see [`Graph::operator`].
    ///
    /// # Errors
    /// As [`Graph::operator`].
    ///
    /// # Panics
    /// If there is no such type.
    pub fn relation_operator(
        &self,
        relation: usize,
        norm: AdjacencyNorm,
    ) -> Result<Arc<Operator<F>>> {
        self.kept_operator(Some(relation), norm)
    }

    /// The operator that aggregation with `norm` multiplies by; built at the first call and kept
    /// with the graph and its clones.
    ///
    /// # Errors
    /// [`Error::Degree`] for the first node on which the norm has no value: a negative weighted
    /// degree under a symmetric norm, weights that add up to zero under a mean.
    pub fn operator(&self, norm: AdjacencyNorm) -> Result<Arc<Operator<F>>> {
        self.kept_operator(None, norm)
    }

    /// The edges as attention reads them, with one self-loop per node; built at the first call and
    /// kept with the graph and its clones.
    pub fn attention(&self) -> Arc<AttentionEdges<F>> {
        self.attention[0].get_or_init(|| Arc::new(AttentionEdges::with_loops(self))).clone()
    }

    /// As [`Graph::attention`], with the self-loops that are listed and no others.
    pub fn attention_as_listed(&self) -> Arc<AttentionEdges<F>> {
        self.attention[1].get_or_init(|| Arc::new(AttentionEdges::as_listed(self))).clone()
    }

    fn kept_operator(
        &self,
        relation: Option<usize>,
        norm: AdjacencyNorm,
    ) -> Result<Arc<Operator<F>>> {
        kept(&self.operators, (relation, norm), || {
            if let (None, Some(part)) = (relation, &self.part) {
                return part.operator(self, norm);
            }
            let matrix = relation.map_or(self.adjacency(), |r| self.relations[r].view());
            let counted = (!norm.is_weighted()).then(|| self.counted(relation, matrix));
            let matrix = counted.as_ref().map_or(matrix, |counted| counted.view());
            let loops = self
                .parallel
                .iter()
                .flat_map(|parallel| &parallel.loops)
                .map(|(&i, &w)| (i as usize, F::of(w)));
            Operator::new(matrix, norm, self.weighted, loops)
        })
    }

    /// `matrix` with the number of edges at each place instead of their weight.
    fn counted(&self, relation: Option<usize>, matrix: CsrView<F>) -> Csr<F> {
        let mut counted = matrix.map(|_| F::one());
        for (&(of, row, col), &count) in self.parallel.iter().flat_map(|parallel| &parallel.counts)
        {
            if of == relation {
                *counted.get_mut(row as usize, col as usize).expect("counted edges are stored") =
                    F::of(count.into());
            }
        }
        counted
    }

    /// The same graph in another number type.
    pub fn cast<G: Scalar>(&self) -> Graph<G> {
        let cast = |matrix: &Csr<F>| matrix.map(|w| G::of(w.as_f64()));
        Graph {
            adjacency: Arc::new(cast(&self.adjacency)),
            edge_features: self
                .edge_features
                .as_ref()
                .map(|features| Arc::new(features.mapv(|v| G::of(v.as_f64())))),
            relations: Arc::new(self.relations.iter().map(cast).collect()),
            operators: Arc::default(),
            scalings: Arc::default(),
            pairs: Arc::default(),
            attention: Arc::default(),
            parallel: self.parallel.clone(),
            weighted: self.weighted,
            part: None,
        }
    }

    /// The graph whose node `order[i]` became node `i`.
    ///
    /// # Errors
    /// [`Error::Setting`] if `order` is not a permutation of the nodes.
    pub fn permuted(&self, order: &[u32]) -> Result<Self> {
        let n = self.num_nodes();
        let mut new_of_old = vec![u32::MAX; n];
        for (new, &old) in order.iter().enumerate() {
            if old as usize >= n || new_of_old[old as usize] != u32::MAX || order.len() != n {
                return Err(Error::setting(
                    "order",
                    format!("{} entries", order.len()),
                    "a permutation of the nodes",
                ));
            }
            new_of_old[old as usize] = new as u32;
        }
        let relations =
            self.relations.iter().map(|relation| moved(relation, &new_of_old)).collect();
        // Where every edge went, in the order of the list.
        let (starts, sources) = self.edge_list();
        let targets = (0..n).flat_map(|i| std::iter::repeat_n(i, starts[i + 1] - starts[i]));
        let mut edges: Vec<(u32, u32, usize)> = targets
            .zip(sources)
            .enumerate()
            .map(|(e, (i, &j))| (new_of_old[i], new_of_old[j as usize], e))
            .collect();
        edges.sort_unstable();
        let places: Vec<usize> = edges.iter().map(|edge| edge.2).collect();
        let features =
            self.edge_features.as_ref().map(|features| features.select(ndarray::Axis(0), &places));
        let parallel = self.parallel.as_ref().map(|parallel| {
            let starts =
                (0..=n).map(|i| edges.partition_point(|edge| (edge.0 as usize) < i)).collect();
            let loops = parallel.loops.iter().map(|(&i, &w)| (new_of_old[i as usize], w)).collect();
            let moved = |(&(of, row, col), &count)| {
                ((of, new_of_old[row as usize], new_of_old[col as usize]), count)
            };
            let counts = parallel.counts.iter().map(moved).collect();
            Arc::new(Parallel {
                starts,
                sources: edges.iter().map(|edge| edge.1).collect(),
                weights: places.iter().map(|&e| parallel.weights[e]).collect(),
                types: parallel
                    .types
                    .as_ref()
                    .map(|types| places.iter().map(|&e| types[e]).collect()),
                loops,
                counts,
            })
        });
        let graph =
            Self::validated(moved(&self.adjacency, &new_of_old), features, Some(relations))?;
        Ok(Self { parallel, weighted: self.weighted, ..graph })
    }
}

/// The matrix whose row and column `i` became `new_of_old[i]`.
fn moved<T: Copy + Default>(matrix: &Csr<T>, new_of_old: &[u32]) -> Csr<T> {
    let n = matrix.rows();
    let mut rows = vec![Vec::new(); n];
    for (target, row) in matrix.outer_iterator().enumerate() {
        let row: &mut Vec<(u32, T)> = {
            rows[new_of_old[target] as usize] =
                row.iter().map(|(source, &value)| (new_of_old[source], value)).collect();
            &mut rows[new_of_old[target] as usize]
        };
        row.sort_unstable_by_key(|&(source, _)| source);
    }
    let mut starts = vec![0];
    rows.iter().for_each(|row| starts.push(starts[starts.len() - 1] + row.len()));
    let (cols, values) = rows.into_iter().flatten().unzip();
    Csr::new((n, n), starts, cols, values)
}

impl<F: Scalar> TryFrom<Csr<F>> for Graph<F> {
    type Error = Error;

    /// Validates a square matrix with row = target and column = source; a CSC matrix is converted.
    fn try_from(adjacency: Csr<F>) -> Result<Self> {
        Self::validated(if adjacency.is_csr() { adjacency } else { adjacency.to_csr() }, None, None)
    }
}

impl<F: Scalar> From<Graph<F>> for Csr<F> {
    fn from(graph: Graph<F>) -> Self {
        Arc::unwrap_or_clone(graph.adjacency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sprs_round_trip_keeps_every_edge_and_bad_matrices_are_refused() {
        let graph = Graph::builder(4).weighted_edges([(0, 1, 2.0), (3, 2, 0.5)]).build().unwrap();
        let matrix: Csr<f32> = graph.clone().into();
        assert_eq!(matrix.get(1, 0), Some(&2.0));
        let back = Graph::try_from(matrix).unwrap();
        assert_eq!(back.adjacency(), graph.adjacency());
        assert!(Graph::try_from(Csr::<f32>::zero((2, 3))).is_err());
        let mut infinite: Csr<f32> = graph.into();
        infinite.data_mut()[0] = f32::INFINITY;
        let message = Graph::try_from(infinite).unwrap_err().to_string();
        assert!(message.contains("0 -> 1"), "{message}");
    }

    #[test]
    fn operators_are_shared_between_clones() {
        let graph = Graph::builder(2).edges([(0, 1)]).build().unwrap();
        assert!(Arc::ptr_eq(
            &graph.operator(AdjacencyNorm::Mean).unwrap(),
            &graph.clone().operator(AdjacencyNorm::Mean).unwrap()
        ));
    }

    #[test]
    fn permuted_moves_edges_with_their_nodes() {
        let graph = Graph::builder(3).edges([(0, 1)]).build().unwrap();
        let moved = graph.permuted(&[2, 0, 1]).unwrap();
        assert_eq!(moved.adjacency().get(2, 1), Some(&1.0));
        assert!(graph.permuted(&[0, 0, 1]).is_err());
        assert!(graph.permuted(&[0, 1]).is_err());
    }
}
