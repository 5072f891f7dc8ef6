//! What a loss sees of the rows that scores are made of.

use crate::error::{Error, Result};
use crate::nn::{Model, NodeId, Queries};
use crate::scalar::Scalar;
use crate::task::{Asked, Batch, Task};
use ndarray::{Array2, ArrayView2};

/// The rows that a model scores pairs by, and its scores, on one batch of a task that ranks.
///
/// *Shapes*: `rows: [nodes of the batch, channels]`, `scores: [pairs]`, query by query.
#[derive(Debug, Clone, Copy)]
pub struct Embedded<'a, F: Scalar> {
    pub(super) rows: ArrayView2<'a, F>,
    pub(super) scores: &'a [F],
    pub(super) asked: &'a Queries,
    /// Whether each pair is right; nothing where it is not to be counted.
    pub(super) right: &'a [Option<bool>],
    /// The node of each row, where the batch has named nodes alone.
    pub(super) names: Option<&'a [u32]>,
    pub(super) epoch: usize,
}

impl<'a, F: Scalar> Embedded<'a, F> {
    /// The rows that the last layer scores, of all nodes of the batch.
    pub fn rows(&self) -> ArrayView2<'a, F> {
        self.rows
    }

    /// The score of each pair.
    pub fn scores(&self) -> &'a [F] {
        self.scores
    }

    /// Pairs that are asked about: what is known, and the candidate, by their rows.
    ///
    /// # Panics
    /// If there are not so many pairs.
    pub fn pair(&self, k: usize) -> [u32; 2] {
        self.asked.pair(k)
    }

    /// The same as head and tail of a link.
    ///
    /// # Panics
    /// If there are not so many pairs.
    pub fn link(&self, k: usize) -> [u32; 2] {
        let [known, other] = self.pair(k);
        let inverse = self.asked.queries()[k / self.asked.count()].inverse;
        if inverse { [other, known] } else { [known, other] }
    }

    /// Whether pair `k` is right; nothing where it is not to be counted.
    ///
    /// # Panics
    /// If there are not so many pairs.
    pub fn is_right(&self, k: usize) -> Option<bool> {
        self.right[k]
    }

    /// The node that a row belongs to.
    ///
    /// # Panics
    /// If there are not so many rows.
    pub fn node(&self, row: u32) -> u32 {
        self.names.map_or(row, |names| names[row as usize])
    }

    /// The rows that any pair names, each once and ascending.
    pub fn named(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = (0..self.scores.len()).flat_map(|k| self.pair(k)).collect();
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    /// The epoch, counted from 1.
    pub fn epoch(&self) -> usize {
        self.epoch
    }
}

/// A value, and its gradients by what a student's [`Embedded`] has.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pull<F: Scalar> {
    /// The value.
    pub value: F,
    /// Its gradient by the rows, of their shape.
    pub rows: Array2<F>,
    /// Its gradient by the scores, if it reads any.
    pub scores: Option<Vec<F>>,
}

impl<F: Scalar> Pull<F> {
    /// A value with its gradient by the rows.
    pub fn new(value: F, rows: Array2<F>) -> Self {
        Self { value, rows, scores: None }
    }

    /// The same, with its gradient by the scores.
    #[must_use]
    pub fn with_scores(self, scores: Vec<F>) -> Self {
        Self { scores: Some(scores), ..self }
    }
}

/// The node whose rows the last layer of a model scores.
///
/// # Errors
/// [`Error::Data`] for a model whose last layer scores no rows that another has made.
pub(super) fn scored<F: Scalar>(model: &Model<F>, task: &dyn Task<F>) -> Result<NodeId> {
    let last = &model.nodes()[model.output().index() - 1];
    match last.inputs()[0] {
        rows if last.layer().kind() == "decoder" && rows != NodeId::INPUT => Ok(rows),
        _ => {
            let problem = "has a model that scores no rows of its own, and the loss compares rows";
            Err(Error::data(task.name(), problem))
        }
    }
}

/// Whether each pair of a batch is right; nothing where it is not to be counted.
///
/// # Errors
/// [`Error::Data`] for a batch of a task that does not rank.
pub(super) fn right_pairs<F: Scalar>(
    batch: &Batch<F>,
    task: &dyn Task<F>,
) -> Result<Vec<Option<bool>>> {
    let (Some(asked), Some(queries)) = (batch.attached::<Asked>(), batch.spaces().asked()) else {
        let problem = "ranks nothing for its queries, and the loss compares what is ranked";
        return Err(Error::data(task.name(), problem));
    };
    let count = queries.count();
    let mut right = vec![Some(false); queries.num_pairs()];
    for query in 0..asked.answers.len() {
        let own = &mut right[query * count..][..count];
        asked.left_out.of(query).iter().for_each(|&k| own[k as usize] = None);
        asked.answers.of(query).iter().for_each(|&k| own[k as usize] = Some(true));
    }
    Ok(right)
}
