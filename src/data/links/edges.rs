//! Which edges of a graph train, validate and test, where the data say so.

use crate::error::{Error, Result};

/// Edges of a graph without types in three parts, and the pairs that are no edges which the last
/// two are measured against.
#[derive(Debug, Clone)]
pub struct EdgeSplit {
    name: String,
    edges: [Vec<[u32; 2]>; 3],
    others: [Vec<[u32; 2]>; 2],
    notes: Vec<String>,
}

impl EdgeSplit {
    /// A split from memory: edges that train, validate and test, and pairs that are none for the
    /// last two. Which end of a pair stands first does not matter; a pair that stands twice in a
    /// part counts once.
    ///
    /// # Errors
    /// [`Error::Data`] where a part is empty, and for a pair of a node with itself beside the
    /// training edges.
    pub fn new(
        name: impl Into<String>,
        edges: [Vec<[u32; 2]>; 3],
        others: [Vec<[u32; 2]>; 2],
    ) -> Result<Self> {
        Self::checked(name.into(), edges, others, Vec::new())
    }

    pub(super) fn checked(
        name: String,
        edges: [Vec<[u32; 2]>; 3],
        others: [Vec<[u32; 2]>; 2],
        mut notes: Vec<String>,
    ) -> Result<Self> {
        let sorted = |pairs: Vec<[u32; 2]>| {
            let mut pairs: Vec<_> = pairs.into_iter().map(|[u, v]| [u.min(v), u.max(v)]).collect();
            pairs.sort_unstable();
            pairs.dedup();
            pairs
        };
        let listed = edges.iter().chain(&others).map(Vec::len).sum::<usize>();
        let (mut edges, others) = (edges.map(sorted), others.map(sorted));
        let once = edges.iter().chain(&others).map(Vec::len).sum::<usize>();
        if once < listed {
            notes.push(format!("{} pairs stand twice in their part and count once", listed - once));
        }
        let is_loop = |pair: &[u32; 2]| pair[0] == pair[1];
        // A node with itself is asked about nowhere.
        let before = edges[0].len();
        edges[0].retain(|pair| !is_loop(pair));
        if edges[0].len() < before {
            notes.push(format!(
                "{} training edges are self-loops and not asked about",
                before - edges[0].len()
            ));
        }
        let parts = ["train", "valid", "test", "no edges of valid", "no edges of test"];
        for (part, word) in edges.iter().chain(&others).zip(parts) {
            if part.is_empty() {
                return Err(Error::data(name, format!("the part `{word}` has no pair")));
            }
            if let Some([node, _]) = part.iter().find(|pair| is_loop(pair)) {
                let problem = format!("the part `{word}` pairs node {node} with itself");
                return Err(Error::data(name, problem));
            }
        }
        let taken = |pair: &&[u32; 2]| edges.iter().any(|part| part.binary_search(pair).is_ok());
        for (others, word) in others.iter().zip(["valid", "test"]) {
            let wrong = others.iter().filter(taken).count();
            if wrong > 0 {
                notes.push(format!("{wrong} pairs that are to be no edges of {word} are edges"));
            }
        }
        Ok(Self { name, edges, others, notes })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the reader assumed or did not use, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Edges that train, validate and test, the smaller node first, in sorted order.
    pub fn edges(&self) -> &[Vec<[u32; 2]>; 3] {
        &self.edges
    }

    /// Pairs that are no edges, for validation and test.
    pub fn others(&self) -> &[Vec<[u32; 2]>; 2] {
        &self.others
    }
}
