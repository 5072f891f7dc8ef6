//! What a task that ranks knows of its queries, for losses that compare whole rankings.

use super::asked::{Asked, Lists};
use super::candidates::Answered;
use super::places::Places;
use super::{Batch, Task};
use crate::error::Result;
use crate::nn::{Queries, Query};
use crate::scalar::Scalar;
use std::ops::Range;

/// What is asked in the training of a task that ranks: see [`Task::rankings`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rankings {
    /// The nodes that may answer.
    pub candidates: Range<u32>,
    /// Every query of the training part, once, as a decoder is asked it, with the nodes that are
    /// known in training to answer it: ascending.
    pub queries: Vec<(Query, Vec<u32>)>,
}

impl Rankings {
    pub(super) fn new(candidates: Range<u32>, queries: Vec<Answered>) -> Self {
        Self { candidates, queries }
    }
}

/// What a loss reads of the ranking of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ranked {
    /// So many of the teacher's first answers.
    pub best: usize,
    /// So many drawn of the others.
    pub others: usize,
}

impl Ranked {
    /// So many of the teacher's first answers, and so many drawn of the others.
    pub fn new(best: usize, others: usize) -> Self {
        Self { best, others }
    }
}

/// A batch of the data of `task` that asks these queries, with all candidates.
pub(super) fn among_candidates<F: Scalar>(
    task: &dyn Task<F>,
    queries: Vec<Query>,
    candidates: Range<u32>,
) -> Result<Batch<F>> {
    let asked = nothing_known(queries.len());
    Ok(Places::new(false).batch(task, Queries::among(queries, candidates)?, asked))
}

/// A batch of the data of `task` that asks these queries, each with `count` candidates of its own,
/// one query's after another's. It runs on what `like` runs on, a training batch of the task: its
/// graph, or the rows of the named nodes alone.
pub(super) fn among_listed<F: Scalar>(
    task: &dyn Task<F>,
    queries: &[Query],
    count: usize,
    candidates: &[u32],
    like: &Batch<F>,
) -> Result<Batch<F>> {
    let alone = like.spaces().node_ids().is_some();
    let mut places = Places::new(alone);
    let queries: Vec<Query> =
        queries.iter().map(|query| Query { node: places.of(query.node), ..*query }).collect();
    let nodes: Vec<u32> = candidates.iter().map(|&node| places.of(node)).collect();
    let asked = nothing_known(queries.len());
    let batch = places.batch(task, Queries::each(queries, count, nodes)?, asked);
    Ok(if alone { batch } else { batch.with_graph(like.graph().clone()) })
}

fn nothing_known(queries: usize) -> Asked {
    let (mut answers, mut left_out) = (Lists::new(), Lists::new());
    for _ in 0..queries {
        answers.push([]);
        left_out.push([]);
    }
    Asked { answers, left_out, penalized: Vec::new() }
}
