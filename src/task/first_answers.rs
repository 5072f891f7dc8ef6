//! The first answers of a teacher, and scores of a student at them.

use super::rankings::{among_candidates, among_listed};
use super::{Batch, Ranked, Rankings, Task};
use crate::error::{Error, Result};
use crate::kernels;
use crate::nn::{Cx, Grads, Memory, Mode, Model, Query};
use crate::rng::{Draws, purpose};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};
use std::cmp::Ordering;
use std::collections::HashMap;

/// Scores that are kept at once while the teacher answers.
const SCORES_AT_ONCE: usize = 1 << 24;

/// The first answers of a teacher to every query of the training part.
pub(crate) struct FirstAnswers {
    asked: Rankings,
    /// Where each query stands among these. Looked up and never walked.
    place: HashMap<Query, u32>,
    /// So many for each query, best first.
    count: usize,
    best: Vec<u32>,
    seed: u64,
}

impl FirstAnswers {
    /// Asks the teacher every query once, for its first `ranked.best` of the candidates that are
    /// not known in training to be right; of equal scores the lower node comes first.
    ///
    /// # Errors
    /// [`Error::NotFinite`] for a score, [`Error::Data`] where a query has not enough candidates.
    pub(crate) fn of<F: Scalar>(
        teacher: &Model<F>,
        task: &dyn Task<F>,
        ranked: Ranked,
        seed: u64,
    ) -> Result<Self> {
        let asked = rankings(task, ranked)?;
        let (pool, all) = (Cx::without_graph(), asked.candidates.clone());
        let size = (SCORES_AT_ONCE / all.len()).max(1);
        let mut best = Vec::with_capacity(asked.queries.len() * ranked.best);
        for some in asked.queries.chunks(size) {
            let queries = some.iter().map(|(query, _)| *query).collect();
            let batch = among_candidates(task, queries, all.clone())?;
            let scores = teacher.infer(&batch.on(&pool), batch.features())?;
            if let Some(value) = scores.iter().find(|score| !score.is_finite()) {
                let at = "the teacher's score of a candidate".into();
                return Err(Error::NotFinite { at, value: value.as_f64() });
            }
            let rows = scores.as_standard_layout();
            let rows = rows.as_slice().expect("standard layout");
            let jobs: Vec<_> = rows.chunks_exact(all.len()).zip(some).collect();
            let first = kernels::run(jobs, rows.len(), |(scores, (_, known))| {
                first_of(scores, known, all.start, ranked.best)
            });
            best.extend(first.into_iter().flatten());
            pool.give(scores);
        }
        let place = (0..).zip(&asked.queries).map(|(k, (query, _))| (*query, k)).collect();
        Ok(Self { asked, place, count: ranked.best, best, seed })
    }

    /// The first answers to query `k`.
    fn best(&self, k: u32) -> &[u32] {
        &self.best[k as usize * self.count..][..self.count]
    }

    /// The queries of a batch that are of the training part, by their places among those, each
    /// once and ascending.
    fn of_batch<F: Scalar>(&self, batch: &Batch<F>) -> Vec<u32> {
        let spaces = batch.spaces();
        let name = |row: u32| spaces.node_ids().map_or(row, |names| names[row as usize]);
        let queries = spaces.asked().map_or(&[][..], |asked| asked.queries());
        let named = queries.iter().map(|query| Query { node: name(query.node), ..*query });
        let mut places: Vec<u32> =
            named.filter_map(|query| self.place.get(&query).copied()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// The lists of some queries at a step: the first answers, then as many others as are asked
    /// for, drawn of those that are neither among them nor known to be right.
    fn lists(&self, places: &[u32], ranked: Ranked, step: u64) -> Vec<u32> {
        let all = &self.asked.candidates;
        let mut lists = Vec::with_capacity(places.len() * (ranked.best + ranked.others));
        for &k in places {
            let (best, known) = (self.best(k), &self.asked.queries[k as usize].1);
            // The longest list that any loss reads has been asked for.
            lists.extend_from_slice(&best[..ranked.best]);
            let mut draws = Draws::of(self.seed, &[purpose::RANKINGS, step, u64::from(k)]);
            let mut left = ranked.others;
            while left > 0 {
                let node = all.start + draws.below(all.len()) as u32;
                if known.binary_search(&node).is_err() && !best.contains(&node) {
                    lists.push(node);
                    left -= 1;
                }
            }
        }
        lists
    }

    /// What a loss makes of a student's scores of the lists of a batch's queries: its value, and
    /// its gradient by the student's parameters. Zero where the batch asks no query of the training
    /// part.
    pub(crate) fn objective<F: Scalar>(
        &self,
        (student, batch): (&Model<F>, &Batch<F>),
        how: (Mode, Memory),
        task: &dyn Task<F>,
        pool: &Cx<'static, F>,
        (ranked, step): (Ranked, u64),
        loss: impl FnOnce(ArrayView2<F>) -> Result<(F, Array2<F>)>,
    ) -> Result<(F, Grads<F>)> {
        let places = self.of_batch(batch);
        if places.is_empty() {
            return Ok((F::zero(), Grads::new(0)));
        }
        let (count, nodes) = (ranked.best + ranked.others, self.lists(&places, ranked, step));
        let queries: Vec<Query> =
            places.iter().map(|&k| self.asked.queries[k as usize].0).collect();
        let batch = among_listed(task, &queries, count, &nodes, batch)?;
        let cx = batch.on(pool).with_mode(how.0).with_memory(how.1);
        let trace = student.trace(&cx, batch.features())?;
        let scores = trace.output().iter().copied().collect();
        let scores =
            Array2::from_shape_vec((queries.len(), count), scores).expect("a score for each pair");
        let (value, gradient) = loss(scores.view())?;
        let gradient =
            Array2::from_shape_vec(trace.output().dim(), gradient.into_raw_vec_and_offset().0)
                .expect("a gradient for each pair");
        let grads = student.backward(&cx, trace, vec![(student.output(), gradient)])?;
        Ok((value, grads))
    }
}

/// What the task knows of its queries, where each has as many candidates as are read.
///
/// # Errors
/// [`Error::Data`] for a task that does not rank, and for a query with fewer.
pub(crate) fn rankings<F: Scalar>(task: &dyn Task<F>, ranked: Ranked) -> Result<Rankings> {
    let Some(asked) = task.rankings() else {
        let problem = "ranks nothing for its queries, and the loss compares rankings: those of items or entities";
        return Err(Error::data(task.name(), problem));
    };
    let (reads, all) = (ranked.best.saturating_add(ranked.others), asked.candidates.len());
    if let Some((query, known)) =
        asked.queries.iter().find(|(_, known)| known.len().saturating_add(reads) > all)
    {
        let problem = format!(
            "has a query, of node {}, with {} candidates that are not known to be right, and the loss reads {reads}",
            query.node,
            all - known.len()
        );
        return Err(Error::data(task.name(), problem));
    }
    Ok(asked)
}

/// The nodes of the `count` best scores, best first, without what is known; `start` is the node of
/// the first score.
fn first_of<F: Scalar>(scores: &[F], known: &[u32], start: u32, count: usize) -> Vec<u32> {
    let better = |a: &u32, b: &u32| {
        let of = |node: u32| scores[(node - start) as usize];
        of(*b).partial_cmp(&of(*a)).unwrap_or(Ordering::Equal).then(a.cmp(b))
    };
    let all = start..start + scores.len() as u32;
    let mut nodes: Vec<u32> = all.filter(|node| known.binary_search(node).is_err()).collect();
    if count < nodes.len() {
        nodes.select_nth_unstable_by(count, better);
        nodes.truncate(count);
    }
    nodes.sort_unstable_by(better);
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LightGcn;
    use crate::data::Interactions;
    use crate::task::{Part, RecommendTask, relaxed_ranking};

    /// Step of central differences in f64, and what they may show.
    const STEP: f64 = 1e-5;
    const EXACT: f64 = 1e-8;

    fn task(alone: bool) -> RecommendTask<f64> {
        let own = |user: u32| -> Vec<u32> { (0..10).map(|k| (user * 7 + k * 2) % 25).collect() };
        let later = |user: u32| vec![(user * 7 + 1) % 25];
        let (train, test) = ((0..9).map(own).collect(), (0..9).map(later).collect());
        let taken = Interactions::new("t", 25, train, test).unwrap();
        RecommendTask::builder(taken).batch(5).tables_alone(alone).build().unwrap().cast()
    }

    #[test]
    fn lists_begin_with_the_teachers_first_answers_and_have_nothing_that_is_known() {
        let task = task(false);
        let teacher = LightGcn::builder(34).channels(4).layers(1).build(1).unwrap();
        let (teacher, ranked) = (teacher.cast::<f64>().unwrap(), Ranked::new(4, 6));
        let first = FirstAnswers::of(&teacher, &task, ranked, 0).unwrap();
        let batch = task.ask(&[0, 3, 8]).unwrap();
        let scores = teacher.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
        let places = first.of_batch(&batch);
        assert_eq!(places, [0, 3, 8]);
        for step in 1..20 {
            let lists = first.lists(&places, ranked, step);
            for (row, (user, list)) in [0, 3, 8].into_iter().zip(lists.chunks(10)).enumerate() {
                let score = |node: u32| scores[[row * 25 + node as usize - 9, 0]];
                let own = &task.train()[user];
                assert!(list.iter().all(|node| !own.contains(&(node - 9))));
                let worst = list[..4].windows(2).map(|pair| {
                    assert!(score(pair[0]) >= score(pair[1]));
                    score(pair[1])
                });
                let worst = worst.fold(f64::INFINITY, f64::min);
                assert!(list[4..].iter().all(|node| score(*node) <= worst));
            }
            assert_ne!(lists, first.lists(&places, ranked, step + 20), "others are drawn anew");
        }
    }

    #[test]
    fn gradients_by_the_students_parameters_are_those_of_differences() {
        for (layers, alone) in [(2, false), (0, true), (0, false)] {
            let task = task(alone);
            let model = |seed, channels| {
                let model = LightGcn::builder(34).channels(channels).layers(layers).deviation(0.7);
                model.build(seed).unwrap().cast::<f64>().unwrap()
            };
            let (teacher, student, ranked) = (model(1, 6), model(2, 3), Ranked::new(3, 4));
            let first = FirstAnswers::of(&teacher, &task, ranked, 5).unwrap();
            let batches = task.batches(Part::Train, 1).unwrap();
            let batch = batches.epoch(1).next().unwrap().unwrap();
            let objective = |student: &Model<f64>| {
                let pool = Cx::without_graph();
                let mode = Mode::Train { seed: 0, step: 1 };
                let read = |scores: ArrayView2<f64>| Ok(relaxed_ranking(scores, ranked.best));
                let how = (mode, Memory::Whole);
                first.objective((student, &batch), how, &task, &pool, (ranked, 1), read).unwrap()
            };
            let (value, grads) = objective(&student);
            assert!(value > 0.0);
            let table = student.params().next().unwrap().1;
            for i in 0..34 {
                for j in 0..3 {
                    let moved = |step: f64| {
                        let mut moved = student.clone();
                        moved.visit_mut(&mut |param| param.value_mut()[[i, j]] += step);
                        objective(&moved).0
                    };
                    let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                    let found = grads.get(table.id()).unwrap()[[i, j]];
                    assert!((found - slope).abs() < EXACT, "{layers} {i} {j}: {found} {slope}");
                }
            }
        }
    }

    #[test]
    fn a_query_with_too_few_candidates_is_refused() {
        let task = task(false);
        let error = rankings(&task, Ranked::new(10, 11)).unwrap_err().to_string();
        assert!(error.contains("reads 21"), "{error}");
    }

    #[test]
    fn first_answers_leave_out_what_is_known_and_ties_go_by_node() {
        let scores = [0.5, 2.0, 0.5, 3.0, 0.5, -1.0];
        assert_eq!(first_of(&scores, &[13], 10, 3), [11, 10, 12]);
        assert_eq!(first_of(&scores, &[], 10, 2), [13, 11]);
        assert_eq!(first_of(&scores, &[10, 11, 13], 10, 3), [12, 14, 15]);
    }
}
