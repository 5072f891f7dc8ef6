//! Where the nodes of a ranking's batch stand, and what it runs on.

use super::asked::Asked;
use super::{Batch, Task};
use crate::nn::{Queries, Rows};
use crate::scalar::Scalar;
use crate::value::Value;
use ndarray::Array2;
use std::collections::HashMap;
use std::sync::Arc;

/// Scores of one evaluation batch: so many are kept at once.
pub(super) const SCORES_AT_ONCE: usize = 1 << 24;

/// Training batches that wait to be asked for: they are made while the ones before train.
pub(super) const AHEAD: usize = 2;

/// The rows of a batch: which node is at which place, in the order in which they were named. Or all
/// nodes, each at its own place.
pub(super) struct Places {
    named: Option<(HashMap<u32, u32>, Vec<u32>)>,
}

impl Places {
    /// Of the nodes that are named, or of all.
    pub(super) fn new(named: bool) -> Self {
        Self { named: named.then(Default::default) }
    }

    /// The place of a node, which is named by that.
    pub(super) fn of(&mut self, node: u32) -> u32 {
        let Some((places, nodes)) = &mut self.named else { return node };
        *places.entry(node).or_insert_with(|| {
            nodes.push(node);
            nodes.len() as u32 - 1
        })
    }

    pub(super) fn find(&self, node: u32) -> Option<u32> {
        self.named.as_ref().map_or(Some(node), |(places, _)| places.get(&node).copied())
    }

    /// Which nodes were named, in the order of their places.
    pub(super) fn nodes(self) -> Vec<u32> {
        self.named.map_or_else(Vec::new, |(_, nodes)| nodes)
    }

    /// How many nodes were named.
    pub(super) fn len(&self) -> usize {
        self.named.as_ref().map_or(0, |(_, nodes)| nodes.len())
    }

    /// A batch of these rows of the data of `task` that asks `queries`; what `asked` says of them
    /// is hung on it.
    pub(super) fn batch<F: Scalar>(
        self,
        task: &dyn Task<F>,
        queries: Queries,
        asked: Asked,
    ) -> Batch<F> {
        let (data, rows) = (task.data(), (0..asked.answers.len() as u32).collect::<Vec<u32>>());
        let (features, spaces) = match self.named {
            None => (data.shared_features(), Rows::new()),
            Some((_, nodes)) => {
                let ones = Array2::ones((nodes.len(), data.num_features()));
                (Arc::new(Value::Dense(ones)), Rows::new().sample(nodes))
            }
        };
        let batch = Batch::new(data.graph().clone(), features);
        batch.with_spaces(spaces.queries(queries)).with_rows(rows).with(asked)
    }
}
