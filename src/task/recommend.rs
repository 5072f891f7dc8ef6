//! Which items a user takes next.

use super::asked::{Asked, Lists, RankingLoss};
use super::candidates::{Answered, Candidates, Shared, among_all, at_once};
use super::link::asked_by;
use super::places::{AHEAD, Places, SCORES_AT_ONCE};
use super::top_k::{TopK, top_k};
use super::{Batch, Batches, Measured, Metric, Part, Rankings, Tally, Task};
use crate::data::{Dataset, Interactions};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::kernels;
use crate::nn::{Origin, Queries, Query};
use crate::rng::{ChaCha8Rng, Digest, generator, purpose};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};
use ndarray_rand::rand::Rng;
use std::ops::Range;
use std::sync::Arc;

/// Items that are looked at.
const K: usize = 20;
/// Users that a program is compiled for, and timed on.
const SERVED: usize = 128;
/// Draws of an item until it is one that the user has not: whoever has nearly all gets one of them
/// now and then.
const DRAWS: usize = 100;

/// Recommendation: for each user, which items that are not among those of the training part come
/// first. A model for it ends in a layer that scores pairs of nodes; users are the first nodes,
/// items the others.
///
/// A share of each user's training items validates, and is in no graph; the metric is Recall@20
/// over all items that the user has not, with NDCG@20 beside it. What trains is one answer per
/// query: users are drawn uniformly ([`Draws`]), with one of their items and some that they have
/// not, as many times an epoch as there are interactions.
///
/// *Source*: He et al., "LightGCN", SIGIR 2020, §4.1, and the code of its authors (how users are
/// drawn).
///
/// ```
/// use gnn_prune::data::Interactions;
/// use gnn_prune::task::{Part, RecommendTask, evaluate};
/// use gnn_prune::{LightGcn, Trainer};
/// let own = |user: u32| -> Vec<u32> { (0..10).map(|k| (user % 2) * 15 + k).collect() };
/// let later = |user: u32| vec![(user % 2) * 15 + 10];
/// let taken = Interactions::new("two tastes", 30, (0..20).map(own).collect(), (0..20).map(later).collect())?;
/// let task = RecommendTask::builder(taken).build()?;
/// let model = LightGcn::builder(50).channels(8).layers(2).build(0)?;
/// let model = Trainer::builder().epochs(2).weight_decay(0.0).build()?.fit(model, &task)?;
/// assert!(evaluate(&model, &task, Part::Test)? > 0.0);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RecommendTask<F: Scalar = f32> {
    settings: RecommendTaskBuilder,
    /// Users and items, with the edges that train.
    data: Dataset<F>,
    train: Arc<[Vec<u32>]>,
    valid: Arc<[Vec<u32>]>,
    /// What a user is known to have on validation: what trains and does not validate.
    left: Arc<[Vec<u32>]>,
}

/// What the queries of a training are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Draws {
    /// A user, all alike, and one of its items: what busy users have counts less. As LightGCN.
    #[default]
    Users,
    /// An interaction, all alike. As SimpleX (Mao et al., CIKM 2021).
    Interactions,
}

/// Builder of a [`RecommendTask`]; see [`RecommendTask::builder`].
#[derive(Debug, Clone)]
pub struct RecommendTaskBuilder {
    taken: Interactions,
    candidates: Candidates,
    loss: RankingLoss,
    batch: usize,
    tables_alone: bool,
    held_out: f64,
    seed: u64,
    refit: bool,
    draws: Draws,
}

impl RecommendTask<f32> {
    /// Starts from BPR with one negative, batches of 2048, and a tenth held out.
    pub fn builder(taken: Interactions) -> RecommendTaskBuilder {
        RecommendTaskBuilder {
            taken,
            candidates: Candidates::Sampled(1),
            loss: RankingLoss::Bpr,
            batch: 2048,
            tables_alone: false,
            held_out: 0.1,
            seed: 0,
            refit: false,
            draws: Draws::Users,
        }
    }
}

impl RecommendTaskBuilder {
    /// What stands beside an item in training. Default: one item that the user has not,
    /// [`Candidates::Sampled`].
    #[must_use]
    pub fn candidates(mut self, candidates: Candidates) -> Self {
        self.candidates = candidates;
        self
    }

    /// The loss. Default [`RankingLoss::Bpr`].
    #[must_use]
    pub fn loss(mut self, loss: RankingLoss) -> Self {
        self.loss = loss;
        self
    }

    /// Queries of a batch, at least 1; users, where each is asked with all of its items. Default
    /// 2048.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Whether a training batch has the rows of those nodes alone that it names: right for models
    /// that are tables, and much faster; a model that aggregates refuses such a batch. Default:
    /// not.
    #[must_use]
    pub fn tables_alone(mut self, alone: bool) -> Self {
        self.tables_alone = alone;
        self
    }

    /// Share of each user's training items that validates, and the seed that it is drawn by.
    /// Default: a tenth, by seed 0.
    #[must_use]
    pub fn held_out(mut self, share: f64, seed: u64) -> Self {
        (self.held_out, self.seed) = (share, seed);
        self
    }

    /// Whether what validates trains too, and is in the graph: for a training that is repeated on
    /// all that is known, with settings and as many epochs as validation has chosen before. The
    /// metric on validation is then one of training, and does not choose ([`Task::chooses`]).
    /// Default: not.
    #[must_use]
    pub fn refit(mut self, refit: bool) -> Self {
        self.refit = refit;
        self
    }

    /// What queries are drawn from. Default [`Draws::Users`].
    #[must_use]
    pub fn draws(mut self, draws: Draws) -> Self {
        self.draws = draws;
        self
    }

    /// Builds the task.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number out of its range, and for interactions that are drawn where
    /// each user is asked once; as [`Interactions::held_out`].
    pub fn build(self) -> Result<RecommendTask> {
        self.loss.check()?;
        if self.batch == 0 {
            return Err(Error::setting("queries of a batch", 0, "at least 1"));
        }
        self.candidates.check()?;
        if self.candidates == Candidates::AllAtOnce && self.draws == Draws::Interactions {
            let problem = "users, where each is asked once with all of its items";
            return Err(Error::setting("draws", "interactions", problem));
        }
        let [left, valid] = self.taken.held_out(self.held_out, self.seed)?;
        let (left, valid): (Arc<[_]>, _) = (left.into(), valid.into());
        let train = if self.refit { self.taken.train().into() } else { Arc::clone(&left) };
        let data = self.taken.dataset(&train)?;
        Ok(RecommendTask { settings: self, data, train, valid, left })
    }
}

impl TopK {
    fn add_to(self, tally: &mut Tally) {
        tally.add(self.recall, 1.0);
        tally.also("ndcg@20", self.ndcg, 1.0);
    }
}

impl<F: Scalar> RecommendTask<F> {
    /// The interactions.
    pub fn taken(&self) -> &Interactions {
        &self.settings.taken
    }

    /// The items of each user that train: those of the training part that do not validate, or all.
    pub fn train(&self) -> &[Vec<u32>] {
        &self.train
    }

    /// The same task in another number type.
    pub fn cast<G: Scalar>(&self) -> RecommendTask<G> {
        self.on(self.data.cast())
    }

    fn on<G: Scalar>(&self, data: Dataset<G>) -> RecommendTask<G> {
        let [train, valid, left] = [&self.train, &self.valid, &self.left].map(Arc::clone);
        RecommendTask { settings: self.settings.clone(), data, train, valid, left }
    }

    /// The answers of a part, and what is left out of its ranking.
    fn part(&self, part: Part) -> (&[Vec<u32>], &[Vec<u32>]) {
        match part {
            // What validates is one of the things that a user is known to have.
            Part::Test => (self.taken().test(), self.taken().train()),
            _ => (&self.valid, &self.left),
        }
    }

    /// The metrics of whatever gives a score of each item to whoever has some items.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for scores of another number of items.
    pub fn measure(
        &self,
        part: Part,
        scores: impl Fn(&[u32]) -> Vec<f32> + Sync,
    ) -> Result<Measured> {
        let (answers, left_out) = self.part(part);
        let items = self.taken().num_items();
        let asked = (0..answers.len()).filter(|&user| !answers[user].is_empty()).collect();
        let worth = kernels::run(asked, usize::MAX, |user| {
            let scores = scores(&self.train[user]);
            let fits =
                (scores.len() == items).then(|| top_k(&scores, &answers[user], &left_out[user], K));
            fits.ok_or_else(|| {
                let (expected, found) = ((1, items), (1, scores.len()));
                Error::ShapeMismatch { at: format!("scores of user {user}"), expected, found }
            })
        });
        let mut tally = Tally::new();
        for worth in worth {
            worth?.add_to(&mut tally);
        }
        Ok(tally.measured(Metric::RECALL_AT_20))
    }

    /// A batch that asks for these users, with all items as candidates: a model's output on it has
    /// the scores of the first user's, then those of the second's.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for a user that there is not.
    pub fn ask(&self, users: &[u32]) -> Result<Batch<F>> {
        let len = self.taken().num_users();
        if let Some(&user) = users.iter().find(|user| **user as usize >= len) {
            let at = format!("{}: user", self.name());
            return Err(Error::IndexOutOfRange { at, index: user as usize, len });
        }
        self.ranked(users, Part::Test)
    }

    fn ranked(&self, users: &[u32], part: Part) -> Result<Batch<F>> {
        let (answers, known) = self.part(part);
        let (mut own, mut left_out) = (Lists::new(), Lists::new());
        for &user in users {
            own.push(answers[user as usize].iter().copied());
            left_out.push(known[user as usize].iter().copied());
        }
        let asked: Vec<Query> = users.iter().map(|&user| asked_of(user)).collect();
        let queries = Queries::among(asked, self.items())?;
        let asked = Asked { answers: own, left_out, penalized: Vec::new() };
        Ok(Places::new(false).batch(self, queries, asked))
    }

    /// The nodes of all items.
    fn items(&self) -> Range<u32> {
        let first = self.taken().num_users() as u32;
        first..first + self.taken().num_items() as u32
    }

    /// The nodes of the items of a user that train.
    fn own(&self, user: u32) -> impl Iterator<Item = u32> {
        self.train[user as usize].iter().map(|item| self.items().start + item)
    }

    /// The training batch of `size` users, drawn from these, which name a user as often as it is to
    /// be drawn, each with one of its items.
    fn drawn(&self, users: &[u32], size: usize, rng: &mut ChaCha8Rng) -> Result<Batch<F>> {
        if let Candidates::Sampled(count) = self.settings.candidates {
            return self.sampled(users, size, count, rng);
        }
        let pair = |_| {
            let (user, item) = self.pair(users, rng);
            (asked_of(user), self.items().start + item)
        };
        let pairs: Vec<(Query, u32)> = (0..size).map(pair).collect();
        if let Candidates::Shared(count) | Candidates::Drawn(count) = self.settings.candidates {
            let others = matches!(self.settings.candidates, Candidates::Shared(_));
            let alone = self.settings.tables_alone;
            let shared = Shared { count, others, from: self.items(), alone };
            return shared.batch(self, &pairs, |query| self.own(query.node), |query| query, rng);
        }
        self.among_all(pairs.into_iter().map(|(query, item)| (query, vec![item])))
    }

    /// A user, drawn from these, and one of its items.
    fn pair(&self, users: &[u32], rng: &mut ChaCha8Rng) -> (u32, u32) {
        let user = users[rng.random_range(0..users.len())];
        let own = &self.train[user as usize];
        (user, own[rng.random_range(0..own.len())])
    }

    fn among_all(&self, queries: impl IntoIterator<Item = Answered>) -> Result<Batch<F>> {
        among_all(self, self.items(), queries, |query| query)
    }

    fn sampled(
        &self,
        users: &[u32],
        size: usize,
        count: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Batch<F>> {
        let (first, items) = (self.items().start, self.taken().num_items() as u32);
        let mut places = Places::new(self.settings.tables_alone);
        let (mut asked, mut nodes, mut penalized) = (Vec::new(), Vec::new(), Vec::new());
        let (mut answers, mut left_out) = (Lists::new(), Lists::new());
        for _ in 0..size {
            let (user, item) = self.pair(users, rng);
            let own = &self.train[user as usize];
            let rows = [places.of(user), places.of(first + item)];
            asked.push(asked_of(rows[0]));
            nodes.push(rows[1]);
            penalized.extend(rows);
            for _ in 0..count {
                let mut wrong = rng.random_range(0..items);
                for _ in 0..DRAWS {
                    if own.binary_search(&wrong).is_err() {
                        break;
                    }
                    wrong = rng.random_range(0..items);
                }
                let wrong = places.of(first + wrong);
                nodes.push(wrong);
                penalized.push(wrong);
            }
            answers.push([0]);
            left_out.push([]);
        }
        let queries = Queries::each(asked, 1 + count, nodes)?;
        Ok(places.batch(self, queries, Asked { answers, left_out, penalized }))
    }
}

/// What is asked of a user.
fn asked_of(node: u32) -> Query {
    Query { node, relation: 0, inverse: false }
}

impl<F: Scalar> Task<F> for RecommendTask<F> {
    fn name(&self) -> &str {
        self.taken().name()
    }

    /// Graph and features: see [`Interactions::dataset`].
    fn data(&self) -> &Dataset<F> {
        &self.data
    }

    fn with_graph(&self, graph: Graph<F>) -> Result<Box<dyn Task<F> + '_>> {
        Ok(Box::new(self.on(self.data.with_graph(graph)?)))
    }

    /// The first 128 users, with all items.
    fn whole(&self) -> Result<Batch<F>> {
        let users: Vec<u32> = (0..self.taken().num_users().min(SERVED) as u32).collect();
        self.ranked(&users, Part::Validation)
    }

    fn settings(&self) -> String {
        let RecommendTaskBuilder {
            taken,
            candidates,
            loss,
            batch,
            tables_alone,
            held_out,
            seed,
            refit,
            draws,
        } = &self.settings;
        let lists = taken.train().iter().chain(taken.test());
        let held = if *refit { "trained on too" } else { "held out" };
        format!(
            "{}, items {}, {candidates:?}, {loss:?}, batch {batch}, tables alone {tables_alone}, \
             {held_out} {held} by seed {seed}, {draws:?}",
            Task::<F>::metric(self),
            Digest::of_lists(lists.map(Vec::as_slice))
        )
    }

    fn chooses(&self) -> bool {
        !self.settings.refit
    }

    fn inputs(&self) -> usize {
        self.data.num_features()
    }

    fn outputs(&self) -> usize {
        1
    }

    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, F>> {
        let with = |lists: &[Vec<u32>]| -> Vec<u32> {
            (0..).zip(lists).filter(|(_, own)| !own.is_empty()).map(|(user, _)| user).collect()
        };
        if part != Part::Train {
            let users = with(self.part(part).0);
            let size = (SCORES_AT_ONCE / self.taken().num_items()).clamp(1, 2048);
            return Ok(Batches::drawn(move |_| {
                let starts = (0..users.len()).step_by(size);
                let users = users.clone();
                starts.map(move |start| {
                    self.ranked(&users[start..(start + size).min(users.len())], part)
                })
            }));
        }
        let (mut users, task) = (with(&self.train), self.clone());
        let (all, size) = (self.train.iter().map(Vec::len).sum::<usize>(), self.settings.batch);
        if self.settings.candidates == Candidates::AllAtOnce {
            let asked = |&user: &u32| (asked_of(user), self.own(user).collect());
            let asked = users.iter().map(asked).collect();
            return Ok(at_once(asked, size, seed, move |some| task.among_all(some)));
        }
        if self.settings.draws == Draws::Interactions {
            // As often as a user has items.
            let times = |user: u32| std::iter::repeat_n(user, self.train[user as usize].len());
            users = users.into_iter().flat_map(times).collect();
        }
        let users: Arc<[u32]> = users.into();
        Ok(Batches::drawn_ahead(AHEAD, move |epoch| {
            let mut rng = generator(seed, &[purpose::BATCHES, epoch as u64]);
            let (users, task) = (Arc::clone(&users), task.clone());
            (0..all)
                .step_by(size)
                .map(move |start| task.drawn(&users, size.min(all - start), &mut rng))
        }))
    }

    fn loss(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<(F, Array2<F>)> {
        Ok(self.settings.loss.of(y, asked_by(batch, self.name())?))
    }

    fn losses(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<Option<Vec<F>>> {
        Ok(Some(self.settings.loss.of_each(y, asked_by(batch, self.name())?)))
    }

    fn metric(&self) -> Metric {
        Metric::RECALL_AT_20
    }

    fn judge(&self, y: ArrayView2<F>, batch: &Batch<F>, tally: &mut Tally) -> Result<()> {
        let asked = asked_by(batch, self.name())?;
        for worth in asked.each(y, |scores, answers, left_out| top_k(scores, answers, left_out, K))
        {
            worth.add_to(tally);
        }
        Ok(())
    }

    /// Of each user that has items which train, over all items.
    fn rankings(&self) -> Option<Rankings> {
        let with = (0..).zip(self.train.iter()).filter(|(_, own)| !own.is_empty());
        let queries = with.map(|(user, _)| (asked_of(user), self.own(user).collect()));
        Some(Rankings::new(self.items(), queries.collect()))
    }

    fn origin(&self) -> Option<Origin> {
        Task::<F>::origin(&self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interactions_are_drawn_alike_where_they_are_what_is_drawn() {
        let own = |user: u32| -> Vec<u32> { (0..if user == 0 { 36 } else { 4 }).collect() };
        let lists: Vec<Vec<u32>> = (0..10).map(own).collect();
        let later = |user: usize| vec![lists[user].len() as u32];
        let taken = Interactions::new("t", 40, lists.clone(), (0..10).map(later).collect());
        let builder = RecommendTask::builder(taken.unwrap()).refit(true).batch(8);
        // How often the first user is asked for, who has half of all items.
        let share = |draws| {
            let task = builder.clone().draws(draws).build().unwrap();
            let (mut first, mut all) = (0, 0);
            let batches = Task::<f32>::batches(&task, Part::Train, 1).unwrap();
            for batch in (1..40).flat_map(|epoch| batches.epoch(epoch).map(Result::unwrap)) {
                let asked = batch.spaces().asked().unwrap();
                first += asked.queries().iter().filter(|query| query.node == 0).count();
                all += asked.queries().len();
            }
            first as f64 / all as f64
        };
        let (by_user, by_item) = (share(Draws::Users), share(Draws::Interactions));
        assert!((by_user - 0.1).abs() < 0.03, "{by_user}");
        assert!((by_item - 0.5).abs() < 0.03, "{by_item}");
        let once = builder.candidates(Candidates::AllAtOnce).draws(Draws::Interactions);
        assert!(once.build().unwrap_err().to_string().contains("asked once"));
    }

    #[test]
    fn what_validates_trains_where_a_training_is_repeated_and_is_ranked_as_before() {
        let own = |user: u32| -> Vec<u32> { (0..12).map(|k| (user * 5 + k * 3) % 40).collect() };
        let later = |user: u32| vec![(user * 5 + 1) % 40];
        let taken =
            Interactions::new("t", 40, (0..9).map(own).collect(), (0..9).map(later).collect());
        let taken = taken.unwrap();
        let task = |refit| RecommendTask::builder(taken.clone()).refit(refit).build().unwrap();
        let (first, again) = (task(false), task(true));
        assert_eq!(again.train(), taken.train());
        assert_eq!(first.train()[0].len(), 11);
        assert_eq!(again.data.graph().num_edges(), first.data.graph().num_edges() + 2 * 9);
        for part in [Part::Validation, Part::Test] {
            assert_eq!(first.part(part), again.part(part));
        }
        assert_ne!(Task::<f32>::settings(&first), Task::<f32>::settings(&again));
        // A rate of nothing: no epoch is better than the start, and the first ends a training that
        // may choose.
        let form = crate::LightGcn::builder(49).channels(4).layers(1).build(0).unwrap();
        let trainer = crate::Trainer::builder().epochs(4).patience(1).learning_rate(1e-9);
        let trainer = trainer.keep_start(true).build().unwrap();
        let kept = [&first, &again].map(|task| {
            let fit = trainer.fit_with(form.clone(), task, crate::train::Setup::new()).unwrap();
            (fit.best_epoch, fit.losses.len(), fit.validation.is_finite())
        });
        assert_eq!(kept, [(0, 1, true), (4, 4, true)]);
    }
}
