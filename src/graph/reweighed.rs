//! The same edges with other weights.

use super::Graph;
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::value::Csr;

impl<F: Scalar> Graph<F> {
    /// The graph whose edges weigh so many times what they did, one factor per edge in the order of
    /// [`Graph::edges`]; features and types are what they were.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another number of factors, [`Error::NotFinite`] for a weight
    /// that is none, [`Error::Data`] where several edges join the same two nodes
    /// ([`Duplicates::Keep`](super::Duplicates::Keep)).
    ///
    /// ```
    /// use gnn_prune::Graph;
    /// let graph = Graph::builder(3).weighted_edges([(0, 1, 2.0), (2, 1, 3.0)]).build()?;
    /// let weights: Vec<f32> = graph.reweighed(&[0.5, 2.0])?.edges().map(|edge| edge.weight).collect();
    /// assert_eq!(weights, [1.0, 6.0]);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn reweighed(&self, factors: &[F]) -> Result<Self> {
        if self.parallel.is_some() {
            let problem =
                "joins two nodes by several edges, whose weights are added up: weigh them before";
            return Err(Error::data("graph", problem));
        }
        let listed = self.adjacency.nnz();
        if factors.len() != listed {
            let (expected, found) = ((listed, 1), (factors.len(), 1));
            return Err(Error::ShapeMismatch { at: "factors of edges".into(), expected, found });
        }
        let (starts, sources) = self.edge_list();
        let place = |row: usize, col: u32| {
            let within = starts[row]..starts[row + 1];
            let at = sources[within.clone()].binary_search(&col);
            within.start + at.expect("an edge of a type is an edge of the graph")
        };
        let of = |matrix: &Csr<F>| {
            let mut matrix = matrix.clone();
            let places = matrix.iter().map(|(_, (row, col))| place(row as usize, col));
            let places: Vec<usize> = places.collect();
            matrix.data_mut().iter_mut().zip(places).for_each(|(w, e)| *w *= factors[e]);
            matrix
        };
        let relations = self.relations.iter().map(of).collect();
        let features = self.edge_features.as_ref().map(|features| features.as_ref().clone());
        let graph = Self::validated(of(&self.adjacency), features, Some(relations))?;
        Ok(Self { weighted: self.weighted || graph.weighted, ..graph })
    }
}
