//! What is known to be true, by what it answers.

use crate::data::Triple;
use crate::nn::Query;
use std::collections::HashMap;

/// The answers of each query in some triples: ascending, each once. Looked up and never walked, so
/// that no order of a hash table is seen.
#[derive(Debug, Default)]
pub(crate) struct Known {
    answers: HashMap<Query, Vec<u32>>,
}

impl Known {
    pub(crate) fn of<'a>(triples: impl IntoIterator<Item = &'a Triple>) -> Self {
        let mut answers: HashMap<Query, Vec<u32>> = HashMap::new();
        for &triple in triples {
            for (query, answer) in Query::both(triple) {
                answers.entry(query).or_default().push(answer);
            }
        }
        for list in answers.values_mut() {
            list.sort_unstable();
            list.dedup();
        }
        Self { answers }
    }

    pub(crate) fn answers(&self, query: Query) -> &[u32] {
        self.answers.get(&query).map_or(&[], Vec::as_slice)
    }
}
