//! What stands beside the answers of a ranking in training.

use super::asked::{Asked, Lists};
use super::places::{AHEAD, Places};
use super::{Batch, Batches, Task};
use crate::error::{Error, Result};
use crate::nn::{Queries, Query};
use crate::rng::{ChaCha8Rng, generator, purpose};
use crate::scalar::Scalar;
use ndarray_rand::rand::Rng;
use ndarray_rand::rand::seq::SliceRandom;
use std::ops::Range;
use std::sync::Arc;

/// What stands beside an answer in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Candidates {
    /// So many drawn for each query: of entities whatever they are, of items those that the user
    /// has not.
    Sampled(usize),
    /// The answers of all queries of the batch and so many drawn for all of them; what is known to
    /// be right of another query's answers is left out.
    Shared(usize),
    /// The query's own answer and so many drawn for all queries of the batch; what is known to be
    /// right of them is left out. Unlike [`Candidates::Shared`], what is asked for often is not a
    /// wrong answer more often.
    Drawn(usize),
    /// All of them, a query per answer: "1-vs-all".
    All,
    /// All of them, each query once with all of its answers: "k-vs-all".
    AllAtOnce,
}

impl Candidates {
    /// Refuses what no query could be asked with.
    pub(super) fn check(self) -> Result<()> {
        match self {
            Candidates::Sampled(0) | Candidates::Drawn(0) => {
                Err(Error::setting("sampled candidates", 0, "at least 1"))
            }
            _ => Ok(()),
        }
    }
}

/// A query, and the nodes that answer it.
pub(super) type Answered = (Query, Vec<u32>);

/// The batch of some queries with all of these nodes as candidates; `asked` gives what the decoder
/// is asked in a query's place.
pub(super) fn among_all<F: Scalar>(
    task: &dyn Task<F>,
    all: Range<u32>,
    queries: impl IntoIterator<Item = Answered>,
    asked: impl Fn(Query) -> Query,
) -> Result<Batch<F>> {
    let (mut answers, mut left_out, mut penalized) = (Lists::new(), Lists::new(), Vec::new());
    let mut decoded = Vec::new();
    for (query, right) in queries {
        decoded.push(asked(query));
        penalized.push(query.node);
        penalized.extend(&right);
        answers.push(right.iter().map(|node| node - all.start));
        left_out.push([]);
    }
    let queries = Queries::among(decoded, all)?;
    Ok(Places::new(false).batch(task, queries, Asked { answers, left_out, penalized }))
}

/// The batches of [`Candidates::AllAtOnce`]: all queries of the training part in a drawn order, so
/// many at once.
pub(super) fn at_once<'a, F: Scalar>(
    all: Vec<Answered>,
    size: usize,
    seed: u64,
    batch: impl Fn(Vec<Answered>) -> Result<Batch<F>> + Clone + Send + Sync + 'static,
) -> Batches<'a, F> {
    let all = Arc::new(all);
    Batches::drawn_ahead(AHEAD, move |epoch| {
        let mut order: Vec<u32> = (0..all.len() as u32).collect();
        order.shuffle(&mut generator(seed, &[purpose::BATCHES, epoch as u64]));
        let (batch, all) = (batch.clone(), Arc::clone(&all));
        (0..order.len()).step_by(size).map(move |start| {
            let some = &order[start..(start + size).min(order.len())];
            batch(some.iter().map(|&k| all[k as usize].clone()).collect())
        })
    })
}

/// Draws the batches of [`Candidates::Shared`] and [`Candidates::Drawn`].
pub(super) struct Shared {
    pub(super) count: usize,
    /// Whether the answers of the batch's other queries count.
    pub(super) others: bool,
    /// Nodes that are drawn from.
    pub(super) from: Range<u32>,
    /// Whether the batch has the rows of the named nodes alone.
    pub(super) alone: bool,
}

impl Shared {
    /// The batch of some queries and the node that answers each; `known` gives all nodes that
    /// answer a query, `asked` what the decoder is asked in its place.
    pub(super) fn batch<F: Scalar, I: Iterator<Item = u32>>(
        &self,
        task: &dyn Task<F>,
        pairs: &[(Query, u32)],
        known: impl Fn(Query) -> I,
        asked: impl Fn(Query) -> Query,
        rng: &mut ChaCha8Rng,
    ) -> Result<Batch<F>> {
        if !self.others {
            return self.beside(task, pairs, known, asked, rng);
        }
        // The candidates are the first places, and in a batch of the named rows alone the first
        // rows.
        let mut places = Places::new(true);
        for &(_, answer) in pairs {
            places.of(answer);
        }
        self.draw(&mut places, rng);
        let candidates = places.len() as u32;
        let (mut answers, mut left_out, mut penalized) = (Lists::new(), Lists::new(), Vec::new());
        for &(query, answer) in pairs {
            let own = places.of(answer);
            answers.push([own]);
            let others = known(query).filter_map(|node| places.find(node));
            left_out.push(others.filter(|place| *place != own));
        }
        let mut queries = Vec::with_capacity(pairs.len());
        for &(query, answer) in pairs {
            let nodes = [query.node, answer];
            let own = if self.alone { nodes.map(|node| places.of(node)) } else { nodes };
            penalized.extend(own);
            queries.push(asked(Query { node: own[0], ..query }));
        }
        let asked_for = Asked { answers, left_out, penalized };
        if self.alone {
            return Ok(places.batch(task, Queries::among(queries, 0..candidates)?, asked_for));
        }
        // On the whole graph they are where they are, and are listed.
        let queries = Queries::among_listed(queries, places.nodes())?;
        Ok(Places::new(false).batch(task, queries, asked_for))
    }

    /// Names the nodes that are drawn.
    fn draw(&self, places: &mut Places, rng: &mut ChaCha8Rng) {
        for _ in 0..self.count {
            places.of(rng.random_range(self.from.clone()));
        }
    }

    /// The drawn nodes beside each query's own answer, which is its first candidate.
    fn beside<F: Scalar, I: Iterator<Item = u32>>(
        &self,
        task: &dyn Task<F>,
        pairs: &[(Query, u32)],
        known: impl Fn(Query) -> I,
        asked: impl Fn(Query) -> Query,
        rng: &mut ChaCha8Rng,
    ) -> Result<Batch<F>> {
        let mut drawn = Places::new(true);
        self.draw(&mut drawn, rng);
        let (mut answers, mut left_out, mut penalized) = (Lists::new(), Lists::new(), Vec::new());
        for &(query, _) in pairs {
            answers.push([0]);
            // The answer itself is among them, and stands in front already.
            left_out.push(known(query).filter_map(|node| drawn.find(node)).map(|place| place + 1));
        }
        let drawn = drawn.nodes();
        let mut places = Places::new(self.alone);
        let rows: Vec<u32> = drawn.into_iter().map(|node| places.of(node)).collect();
        let (mut queries, mut own) = (Vec::with_capacity(pairs.len()), Vec::new());
        for &(query, answer) in pairs {
            let [node, answer] = [query.node, answer].map(|node| places.of(node));
            penalized.extend([node, answer]);
            queries.push(asked(Query { node, ..query }));
            own.push(answer);
        }
        let queries = Queries::beside(queries, own, rows)?;
        Ok(places.batch(task, queries, Asked { answers, left_out, penalized }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::*;
    use crate::data::Interactions;
    use crate::task::RecommendTask;
    use std::collections::HashSet;

    fn batches(candidates: Candidates, alone: bool) -> (RecommendTask, Vec<Batch<f32>>) {
        let own = |user: u32| -> Vec<u32> { (0..10).map(|k| (user * 7 + k * 3) % 40).collect() };
        let later = |user: u32| vec![(user * 7 + 1) % 40];
        let (train, test) = ((0..20).map(own).collect(), (0..20).map(later).collect());
        let taken = Interactions::new("drawn", 40, train, test).unwrap();
        let task = RecommendTask::builder(taken).candidates(candidates).tables_alone(alone);
        let task: RecommendTask = task.batch(16).build().unwrap();
        let epoch = {
            let batches = Task::<f32>::batches(&task, Part::Train, 3).unwrap();
            batches.epoch(0).map(Result::unwrap).collect()
        };
        (task, epoch)
    }

    #[test]
    fn shared_candidates_leave_out_what_else_a_user_has() {
        let cases = [Candidates::Shared(6), Candidates::Drawn(6)];
        for (candidates, alone) in cases.into_iter().flat_map(|of| [(of, false), (of, true)]) {
            let (task, batches) = batches(candidates, alone);
            let mut counted = 0;
            for batch in &batches {
                let asked = batch.attached::<Asked>().unwrap();
                let queries = batch.spaces().asked().unwrap();
                let count = queries.num_pairs() / asked.answers.len();
                // In a batch of the named rows alone a row is the node that was named at its place.
                let names = batch.spaces().node_ids().map(<[u32]>::to_vec);
                let node = |row: u32| names.as_ref().map_or(row, |names| names[row as usize]);
                for query in 0..asked.answers.len() {
                    let pairs = (0..count).map(|k| queries.pair(query * count + k).map(node));
                    let pairs: Vec<[u32; 2]> = pairs.collect();
                    let own = &task.train()[pairs[0][0] as usize];
                    let has = |k: u32| own.contains(&(pairs[k as usize][1] - 20));
                    let &[answer] = asked.answers.of(query) else { panic!("one answer") };
                    assert!(has(answer), "alone {alone}");
                    let left_out = asked.left_out.of(query);
                    assert!(!left_out.contains(&answer));
                    assert_eq!(left_out.iter().collect::<HashSet<_>>().len(), left_out.len());
                    let others = (0..count as u32).filter(|k| *k != answer);
                    let (left, counts): (Vec<u32>, Vec<u32>) =
                        others.partition(|k| left_out.contains(k));
                    assert!(counts.iter().all(|&k| !has(k)), "alone {alone}");
                    assert!(left.iter().all(|&k| has(k)), "alone {alone}");
                    if candidates == Candidates::Drawn(6) {
                        assert!(count <= 7, "alone {alone}");
                    }
                    counted += counts.len();
                }
            }
            assert!(counted > 0);
        }
    }

    #[test]
    fn all_at_once_asks_each_user_for_all_of_its_items() {
        let (task, batches) = batches(Candidates::AllAtOnce, false);
        let mut seen = vec![0; 20];
        for batch in &batches {
            let asked = batch.attached::<Asked>().unwrap();
            for (k, query) in batch.spaces().asked().unwrap().queries().iter().enumerate() {
                seen[query.node as usize] += 1;
                assert_eq!(asked.answers.of(k), task.train()[query.node as usize]);
            }
        }
        assert_eq!(seen, [1; 20]);
        assert_eq!(batches.len(), 2);
    }

    #[test]
    fn one_against_all_asks_once_per_interaction() {
        let (task, batches) = batches(Candidates::All, false);
        let all: usize = task.train().iter().map(Vec::len).sum();
        let asked = |batch: &Batch<f32>| batch.attached::<Asked>().unwrap().answers.len();
        assert_eq!(batches.iter().map(asked).sum::<usize>(), all);
        let queries = batches[0].spaces().asked().unwrap();
        assert_eq!(queries.num_pairs(), asked(&batches[0]) * 40);
    }
}
