//! Graphs with nodes and edges that came later: new values, of which all that the old graph had is
//! a part.

use super::{Duplicates, Graph, Parallel};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::value::Csr;
use ndarray::Array2;
use std::sync::Arc;

impl<F: Scalar> Graph<F> {
    /// The same graph with `count` more nodes, which have no edges yet and the next numbers.
    ///
    /// # Errors
    /// [`Error::Setting`] where there would be more nodes than numbers.
    pub fn with_nodes(&self, count: usize) -> Result<Self> {
        let n = self.num_nodes().checked_add(count).filter(|n| u32::try_from(*n).is_ok());
        let n = n.ok_or_else(|| {
            let legal = format!("at most {}", u32::MAX as usize - self.num_nodes());
            Error::setting("nodes that are added", count, legal)
        })?;
        let grown = |matrix: &Csr<F>| {
            let (starts, sources, weights) = matrix.view().into_raw_storage();
            let starts = with_empty_rows(starts, n);
            Csr::new((n, n), starts, sources.to_vec(), weights.to_vec())
        };
        let parallel = self.parallel.as_ref().map(|parallel| {
            Arc::new(Parallel {
                starts: with_empty_rows(&parallel.starts, n),
                sources: parallel.sources.clone(),
                weights: parallel.weights.clone(),
                types: parallel.types.clone(),
                loops: parallel.loops.clone(),
                counts: parallel.counts.clone(),
            })
        });
        let relations = self.relations.iter().map(grown).collect();
        let features = self.edge_features.as_deref().cloned();
        let graph = Self::validated(grown(&self.adjacency), features, Some(relations))?;
        Ok(Self { parallel, weighted: self.weighted, ..graph })
    }

    /// The edges of this graph and of `added`, a graph of the same nodes, each with its weight,
    /// features and type. An edge that both have is one, unless one of the graphs keeps parallel
    /// edges ([`Duplicates::Keep`]): then it stays two.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for another number of nodes and for features of another width,
    /// [`Error::ConflictingEdge`] for an edge that both have with different weights or features,
    /// [`Error::Data`] where only one of two graphs with edges has features or types of edges.
    ///
    /// ```
    /// use gnn_prune::Graph;
    /// let path = Graph::builder(3).edges([(0, 1), (1, 2)]).undirected(true).build()?;
    /// // A node arrives, and is joined to the last one.
    /// let added = Graph::builder(4).edges([(2, 3)]).undirected(true).build()?;
    /// let path = path.with_nodes(1)?.with_edges(&added)?;
    /// assert_eq!((path.num_nodes(), path.num_edges()), (4, 6));
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn with_edges(&self, added: &Self) -> Result<Self> {
        let (expected, found) = (self.num_nodes(), added.num_nodes());
        if expected != found {
            let (expected, found) = ((expected, expected), (found, found));
            return Err(Error::ShapeMismatch {
                at: "edges that are added".into(),
                expected,
                found,
            });
        }
        if added.num_edges() == 0 || self.num_edges() == 0 {
            return Ok(if added.num_edges() == 0 { self } else { added }.clone());
        }
        self.check_alike(added)?;
        if self.parallel.is_some() || added.parallel.is_some() {
            return self.listed_together(added);
        }
        let (adjacency, places) = joined(&self.adjacency, &added.adjacency)?;
        let features = match (self.edge_features(), added.edge_features()) {
            (Some(own), Some(other)) => {
                let mut all = Array2::zeros((places.len(), own.ncols()));
                let sources = self.edge_list().1;
                for (mut row, place) in all.rows_mut().into_iter().zip(&places) {
                    let rows = [place[0].map(|e| own.row(e)), place[1].map(|e| other.row(e))];
                    if let [Some(a), Some(b)] = rows
                        && a != b
                    {
                        let e = place[0].expect("both have the edge");
                        let to = self.edge_list().0.partition_point(|&start| start <= e) - 1;
                        return Err(Error::ConflictingEdge { from: sources[e] as usize, to });
                    }
                    row.assign(&rows[0].or(rows[1]).expect("one of the two has the edge"));
                }
                Some(all)
            }
            _ => None,
        };
        let none = Csr::zero((expected, expected));
        let relations = (0..self.relations.len().max(added.relations.len()))
            .map(|r| {
                let [own, other] =
                    [self, added].map(|graph| graph.relations.get(r).unwrap_or(&none));
                Ok(joined(own, other)?.0)
            })
            .collect::<Result<Vec<_>>>()?;
        let weighted = self.weighted || added.weighted;
        Ok(Self { weighted, ..Self::validated(adjacency, features, Some(relations))? })
    }

    /// Refuses graphs of which only one has features or types of edges.
    fn check_alike(&self, added: &Self) -> Result<()> {
        let widths = [self, added].map(|graph| graph.edge_features().map(|x| x.ncols()));
        if let [Some(own), Some(other)] = widths
            && own != other
        {
            let rows = added.edge_list().1.len();
            let (expected, found) = ((rows, own), (rows, other));
            let at = "features of the edges that are added".into();
            return Err(Error::ShapeMismatch { at, expected, found });
        }
        let has = [
            ("features", widths.map(|width| width.is_some())),
            ("types", [self, added].map(|graph| !graph.relations.is_empty())),
        ];
        match has.into_iter().find(|(_, [own, other])| own != other) {
            None => Ok(()),
            Some((what, [own, _])) => {
                let problem = match own {
                    true => format!("have no {what}, which those of the graph have"),
                    false => format!("have {what}, which those of the graph lack"),
                };
                Err(Error::data("edges that are added", problem))
            }
        }
    }

    /// The edges of both as they are listed, one list after the other.
    fn listed_together(&self, added: &Self) -> Result<Self> {
        let n = self.num_nodes();
        let (mut edges, mut types) = (Vec::new(), Vec::new());
        for graph in [self, added] {
            for edge in graph.edges() {
                let weight = edge.weight.as_f64() as f32;
                if F::of(weight.into()) != edge.weight {
                    let problem = format!(
                        "the weight of edge {} -> {} is no number of single precision, which those \
                         of parallel edges are",
                        edge.source, edge.target
                    );
                    return Err(Error::data("edges that are added", problem));
                }
                edges.push((edge.source, edge.target, weight));
            }
            types.extend(graph.listed_types()?);
        }
        let features = match (self.edge_features(), added.edge_features()) {
            (Some(own), Some(other)) => {
                let all = ndarray::concatenate(ndarray::Axis(0), &[own, other]);
                Some(all.expect("both have one width").mapv(|v| v.as_f64() as f32))
            }
            _ => None,
        };
        let mut builder = Graph::builder(n).weighted_edges(edges).duplicates(Duplicates::Keep);
        if let Some(features) = features {
            builder = builder.edge_features(features);
        }
        if !self.relations.is_empty() {
            builder = builder.edge_types(types);
        }
        let graph = builder.build()?;
        let weighted = self.weighted || added.weighted;
        Ok(Self { weighted, ..graph.cast() })
    }

    /// The type of each listed edge, where edges have types.
    fn listed_types(&self) -> Result<Vec<u32>> {
        if let Some(types) = self.parallel.as_ref().and_then(|parallel| parallel.types.as_ref()) {
            return Ok(types.clone());
        }
        let mut types = vec![None; if self.relations.is_empty() { 0 } else { self.num_edges() }];
        let (starts, sources) = self.edge_list();
        for (relation, matrix) in (0u32..).zip(&*self.relations) {
            for (_, (i, j)) in matrix.iter() {
                let first = starts[i as usize];
                let row = &sources[first..starts[i as usize + 1]];
                let e = first + row.binary_search(&j).expect("an edge of a type is an edge");
                if types[e].replace(relation).is_some() {
                    let problem = format!(
                        "edge {j} -> {i} is stored once and has several types; keep parallel edges \
                         when the graph is built"
                    );
                    return Err(Error::data("edges that are added", problem));
                }
            }
        }
        Ok(types.into_iter().map(|relation| relation.expect("every edge has a type")).collect())
    }
}

/// Row starts with rows without entries below.
fn with_empty_rows(starts: &[usize], rows: usize) -> Vec<usize> {
    let mut starts = starts.to_vec();
    starts.resize(rows + 1, starts[starts.len() - 1]);
    starts
}

/// Where an entry stands in the first matrix and in the second, if it does.
type InBoth = [Option<usize>; 2];

/// The entries of both matrices, one that both have once, and where each was.
fn joined<F: Scalar>(own: &Csr<F>, other: &Csr<F>) -> Result<(Csr<F>, Vec<InBoth>)> {
    let (a, b) = (own.view().into_raw_storage(), other.view().into_raw_storage());
    let most = own.nnz() + other.nnz();
    let (mut starts, mut sources, mut weights) = (vec![0], Vec::new(), Vec::with_capacity(most));
    let mut places: Vec<InBoth> = Vec::with_capacity(most);
    for i in 0..own.rows() {
        let (mut p, mut q) = (a.0[i], b.0[i]);
        while p < a.0[i + 1] || q < b.0[i + 1] {
            let first = (p < a.0[i + 1]).then(|| a.1[p]);
            let second = (q < b.0[i + 1]).then(|| b.1[q]);
            let takes_first = first.is_some_and(|j| second.is_none_or(|other| j <= other));
            let takes_second = second.is_some_and(|j| first.is_none_or(|other| j <= other));
            if takes_first && takes_second && a.2[p] != b.2[q] {
                return Err(Error::ConflictingEdge { from: a.1[p] as usize, to: i });
            }
            sources.push(if takes_first { a.1[p] } else { b.1[q] });
            weights.push(if takes_first { a.2[p] } else { b.2[q] });
            places.push([takes_first.then_some(p), takes_second.then_some(q)]);
            p += usize::from(takes_first);
            q += usize::from(takes_second);
        }
        starts.push(sources.len());
    }
    Ok((Csr::new(own.shape(), starts, sources, weights), places))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{AdjacencyNorm, GraphBuilder};

    /// Edges with weights, features and types, of so many nodes.
    fn of(n: usize, edges: &[(usize, usize)], duplicates: Duplicates) -> GraphBuilder {
        let weight = |s: usize, t: usize| 0.5 + ((s * 3 + t) % 4) as f32;
        let features = Array2::from_shape_fn((edges.len(), 2), |(e, c)| {
            (edges[e].0 * 7 + edges[e].1 * 3 + c) as f32
        });
        Graph::builder(n)
            .weighted_edges(edges.iter().map(|&(s, t)| (s, t, weight(s, t))))
            .edge_features(features)
            .edge_types(edges.iter().map(|&(s, t)| ((s + t) % 3) as u32).collect())
            .duplicates(duplicates)
    }

    fn assert_same(a: &Graph, b: &Graph) {
        assert_eq!(a.edges().collect::<Vec<_>>(), b.edges().collect::<Vec<_>>());
        assert_eq!(a.edge_features(), b.edge_features());
        assert_eq!(a.relations(), b.relations());
        assert_eq!(a.num_nodes(), b.num_nodes());
        for norm in [AdjacencyNorm::SymmetricImproved, AdjacencyNorm::UnweightedSum] {
            let [a, b] = [a, b].map(|graph| graph.operator(norm).unwrap());
            assert_eq!(a.forward(), b.forward());
        }
    }

    const OLD: [(usize, usize); 6] = [(0, 1), (1, 2), (2, 2), (3, 1), (0, 2), (3, 0)];
    const NEW: [(usize, usize); 5] = [(4, 1), (2, 5), (1, 2), (5, 5), (0, 3)];

    #[test]
    fn a_graph_that_grew_is_the_one_that_is_built_of_all_edges() {
        for duplicates in [Duplicates::Merge, Duplicates::Keep] {
            let twice = [(0, 1), (2, 2)];
            let old = match duplicates {
                Duplicates::Keep => [&OLD[..], &twice].concat(),
                _ => OLD.to_vec(),
            };
            let first = of(4, &old, duplicates).build().unwrap();
            let grown = first.with_nodes(2).unwrap();
            assert_same(&grown, &of(6, &old, duplicates).build().unwrap());
            let grown = grown.with_edges(&of(6, &NEW, duplicates).build().unwrap()).unwrap();
            let all = [&old[..], &NEW].concat();
            assert_same(&grown, &of(6, &all, duplicates).build().unwrap());
        }
    }

    #[test]
    fn nothing_added_changes_nothing() {
        let graph = of(4, &OLD, Duplicates::Merge).build().unwrap();
        assert_same(&graph.with_nodes(0).unwrap(), &graph);
        let none = Graph::builder(4).build().unwrap();
        assert_same(&graph.with_edges(&none).unwrap(), &graph);
        assert_same(&none.with_edges(&graph).unwrap(), &graph);
    }

    #[test]
    fn edges_that_do_not_go_together_are_refused() {
        let plain = |n, edges: &[(usize, usize, f32)]| {
            Graph::builder(n).weighted_edges(edges.to_vec()).build().unwrap()
        };
        let graph = plain(3, &[(0, 1, 1.0), (1, 2, 2.0)]);
        let refused = |added: &Graph, what: &str| {
            let error = graph.with_edges(added).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        };
        refused(&plain(4, &[(0, 1, 1.0)]), "expected shape 3x3, found 4x4");
        refused(&plain(3, &[(1, 2, 1.0)]), "edge 1 -> 2 is listed with different weights");
        let typed = Graph::builder(3).edges([(2, 0)]).edge_types(vec![1]).build().unwrap();
        refused(&typed, "have types, which those of the graph lack");
        let error = typed.with_edges(&graph).unwrap_err().to_string();
        assert!(error.contains("have no types"), "{error}");
        let features = |width| {
            let features = Array2::zeros((1, width));
            Graph::builder(3).edges([(2, 0)]).edge_features(features).build().unwrap()
        };
        assert!(features(2).with_edges(&features(3)).is_err());
        assert!(graph.with_nodes(u32::MAX as usize).is_err());
        let mut other = Array2::zeros((1, 2));
        other[[0, 1]] = 1.0;
        let other = Graph::builder(3).edges([(2, 0)]).edge_features(other).build().unwrap();
        let error = features(2).with_edges(&other).unwrap_err().to_string();
        assert!(error.contains("edge 2 -> 0"), "{error}");
    }
}
