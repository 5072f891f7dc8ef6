//! Facts about nodes: triples of two entities and the relation between them.

mod edges;
#[cfg(feature = "readers")]
mod ogb;
mod read;

pub use edges::EdgeSplit;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::graph::{Duplicates, Graph};
use ndarray::Array2;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Start, relation and end of an edge, by their numbers.
pub type Triple = [u32; 3];

/// A knowledge graph: triples of a head, a relation and a tail, in three parts. Clones share them.
///
/// ```
/// use gnn_prune::data::Triples;
/// let facts = Triples::new("weather", 3, 1, vec![[0, 0, 1], [1, 0, 2]], vec![[0, 0, 2]], vec![[2, 0, 1]])?;
/// assert_eq!((facts.num_entities(), facts.train().len()), (3, 2));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Triples {
    name: String,
    entities: Names,
    relations: Names,
    parts: [Arc<[Triple]>; 3],
    notes: Arc<[String]>,
}

/// What the numbers stand for.
#[derive(Debug, Clone)]
enum Names {
    Numbers(usize),
    Words(Arc<[String]>),
}

impl Names {
    fn len(&self) -> usize {
        match self {
            Names::Numbers(count) => *count,
            Names::Words(words) => words.len(),
        }
    }

    fn of(&self, number: u32) -> String {
        match self {
            Names::Words(words) => words.get(number as usize).cloned().unwrap_or_default(),
            Names::Numbers(_) => number.to_string(),
        }
    }

    /// Names stand in sorted order.
    fn find(&self, name: &str) -> Option<u32> {
        match self {
            Names::Words(words) => {
                words.binary_search_by(|word| word.as_str().cmp(name)).ok().map(|k| k as u32)
            }
            Names::Numbers(count) => {
                name.parse().ok().filter(|&number: &u32| (number as usize) < *count)
            }
        }
    }
}

/// A note on the triples that validate or test with an entity that does not train.
fn note_unseen(parts: &[Vec<Triple>; 3], notes: &mut Vec<String>) {
    let seen: BTreeSet<u32> = parts[0].iter().flat_map(|&[h, _, t]| [h, t]).collect();
    let unseen = |part: &[Triple]| {
        part.iter().filter(|[h, _, t]| !seen.contains(h) || !seen.contains(t)).count()
    };
    let (valid, test) = (unseen(&parts[1]), unseen(&parts[2]));
    if valid + test > 0 {
        notes.push(format!(
            "{valid} validation and {test} test triples have an entity that no training triple \
             has; they are kept"
        ));
    }
}

impl Triples {
    /// Triples from memory, each of the numbers of head, relation and tail.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for an entity or a relation that there is not; [`Error::Data`]
    /// where a part is empty.
    pub fn new(
        name: impl Into<String>,
        entities: usize,
        relations: usize,
        train: Vec<Triple>,
        valid: Vec<Triple>,
        test: Vec<Triple>,
    ) -> Result<Self> {
        let (entities, relations) = (Names::Numbers(entities), Names::Numbers(relations));
        Self::checked(name.into(), entities, relations, [train, valid, test], Vec::new())
    }

    fn checked(
        name: String,
        entities: Names,
        relations: Names,
        parts: [Vec<Triple>; 3],
        notes: Vec<String>,
    ) -> Result<Self> {
        for (part, word) in parts.iter().zip(["train", "valid", "test"]) {
            if part.is_empty() {
                return Err(Error::data(name, format!("the part `{word}` has no triple")));
            }
            for (k, &[head, relation, tail]) in part.iter().enumerate() {
                for (index, len, what) in [
                    (head, entities.len(), "head"),
                    (relation, relations.len(), "relation"),
                    (tail, entities.len(), "tail"),
                ] {
                    if index as usize >= len {
                        let at = format!("{name}: {what} of triple {k} of `{word}`");
                        return Err(Error::IndexOutOfRange { at, index: index as usize, len });
                    }
                }
            }
        }
        let parts = parts.map(Into::into);
        Ok(Self { name, entities, relations, parts, notes: notes.into() })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the reader assumed or did not use, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Number of entities.
    pub fn num_entities(&self) -> usize {
        self.entities.len()
    }

    /// Number of relations.
    pub fn num_relations(&self) -> usize {
        self.relations.len()
    }

    /// The name of an entity, its number where it has none.
    pub fn entity(&self, number: u32) -> String {
        self.entities.of(number)
    }

    /// The name of a relation, its number where it has none.
    pub fn relation(&self, number: u32) -> String {
        self.relations.of(number)
    }

    /// The number of an entity by its name.
    pub fn find_entity(&self, name: &str) -> Option<u32> {
        self.entities.find(name)
    }

    /// The number of a relation by its name.
    pub fn find_relation(&self, name: &str) -> Option<u32> {
        self.relations.find(name)
    }

    /// What trains.
    pub fn train(&self) -> &[Triple] {
        &self.parts[0]
    }

    /// What chooses between epochs, and between models.
    pub fn valid(&self) -> &[Triple] {
        &self.parts[1]
    }

    /// What is only reported on.
    pub fn test(&self) -> &[Triple] {
        &self.parts[2]
    }

    /// The graph of the training triples for networks that pass messages: each edge from head to
    /// tail by its relation `r`, and back by the relation `r + num_relations`. Every node has one
    /// feature, which is 1.
    ///
    /// # Errors
    /// [`Error::Setting`] for more relations than edges can have types.
    pub fn dataset(&self) -> Result<Dataset> {
        let relations = self.num_relations();
        // Each has another number for its edges turned round.
        let back = u32::try_from(relations).ok().filter(|back| back.checked_mul(2).is_some());
        let back = back.ok_or_else(|| Error::setting("relations", relations, "fewer than 2^31"))?;
        let train = self.train();
        let there = train.iter().map(|&[head, _, tail]| (head as usize, tail as usize));
        let again = train.iter().map(|&[head, _, tail]| (tail as usize, head as usize));
        let types = train.iter().map(|triple| triple[1]);
        let types = types.chain(train.iter().map(|triple| triple[1] + back)).collect();
        let graph = Graph::builder(self.num_entities())
            .edges(there.chain(again))
            .edge_types(types)
            .duplicates(Duplicates::Keep)
            .build()?;
        let ones = Array2::ones((self.num_entities(), 1));
        Ok(Dataset::unlabeled(&self.name, graph, ones.into())?.noted(self.notes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triples_that_do_not_fit_are_refused_by_their_place() {
        let of = |train: Vec<Triple>, test: Vec<Triple>| {
            Triples::new("t", 3, 2, train, vec![[0, 0, 1]], test)
        };
        assert!(of(vec![[0, 1, 2]], vec![[2, 0, 0]]).is_ok());
        for (train, test, what) in [
            (vec![[0, 1, 3]], vec![[2, 0, 0]], "tail of triple 0 of `train`"),
            (vec![[0, 1, 2]], vec![[0, 0, 0], [2, 2, 0]], "relation of triple 1 of `test`"),
            (vec![[0, 1, 2]], vec![], "`test` has no triple"),
        ] {
            let error = of(train, test).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn the_graph_has_each_edge_there_and_back() {
        let facts =
            Triples::new("t", 3, 2, vec![[0, 1, 2], [0, 0, 2]], vec![[0, 0, 1]], vec![[1, 0, 0]]);
        let data = facts.unwrap().dataset().unwrap();
        let each: Vec<usize> = data.graph().relations().iter().map(|edges| edges.nnz()).collect();
        assert_eq!(each, [1, 1, 1, 1]);
    }
}
