//! Which node is at the other end: links of a knowledge graph.

use super::asked::{Asked, Lists, RankingLoss, rank};
use super::candidates::{Answered, Candidates, Shared, among_all, at_once};
use super::known::Known;
use super::places::{AHEAD, Places, SCORES_AT_ONCE};
use super::{Batch, Batches, Metric, Part, Rankings, Tally, Task};
use crate::data::{Dataset, Triple, Triples};
use crate::error::{Error, Result};
use crate::graph::{EdgeMask, Graph};
use crate::nn::{Origin, Queries, Query, Rows};
use crate::rng::{ChaCha8Rng, Digest, generator, purpose};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};
use ndarray_rand::rand::Rng;
use ndarray_rand::rand::seq::SliceRandom;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

/// Triples that a program is compiled for, and timed on: both directions of each are one call.
const SERVED: usize = 64;

/// Link prediction in a knowledge graph: for each triple, which entity is the tail, and which is
/// the head. A model for it ends in a layer that scores pairs, such as a
/// [`Decoder`](crate::nn::Decoder).
///
/// The metric is the mean reciprocal rank over both directions among all entities, without those
/// that make another triple that is known (of the training and the validation part on validation,
/// of all parts on test); ties have the mean of their ranks, and entities that no training triple
/// has stay in. Hits at 1, 3 and 10 stand beside it.
///
/// *Source*: Bordes et al., NeurIPS 2013, §4.2 (the filtered setting); Broscheit et al., "LibKGE",
/// EMNLP 2020 (ties).
///
/// ```
/// use gnn_prune::data::Triples;
/// use gnn_prune::nn::decode::{Decoder, Form};
/// use gnn_prune::nn::{Embedding, ModelBuilder, NodeId};
/// use gnn_prune::task::{LinkTask, Part, evaluate};
/// use gnn_prune::train::UpdateRule;
/// use gnn_prune::Trainer;
/// // Days follow each other in a ring.
/// let day = |k: u32| [k % 30, 0, (k + 1) % 30];
/// let (train, rest) = ((0..24).map(day).collect(), (24..27).map(day).collect());
/// let facts = Triples::new("days", 30, 1, train, rest, (27..30).map(day).collect())?;
/// let task = LinkTask::builder(facts).tables_alone(true).build()?;
/// let mut builder = ModelBuilder::new(1);
/// let table = builder.add("table", Embedding::new(30, 8)?, &[NodeId::INPUT])?;
/// let decoder = Decoder::builder(Form::ComplEx, 8).relations(task.relations()).build()?;
/// let model = { let y = builder.add("decoder", decoder, &[table])?; builder.build(y, 0)? };
/// let trainer = Trainer::builder().rule(UpdateRule::Adagrad).epochs(3).build()?;
/// let model = trainer.fit(model, &task)?;
/// assert!(evaluate(&model, &task, Part::Test)? > 0.0);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LinkTask<F: Scalar = f32> {
    settings: LinkTaskBuilder,
    data: Dataset<F>,
    /// What is known of the training part, of that and the validation part, and of all.
    known: Arc<[OnceLock<Known>; 3]>,
}

/// Builder of a [`LinkTask`]; see [`LinkTask::builder`].
#[derive(Debug, Clone)]
pub struct LinkTaskBuilder {
    triples: Triples,
    candidates: Candidates,
    loss: RankingLoss,
    batch: usize,
    reciprocal: bool,
    tables_alone: bool,
    exclude_asked: bool,
}

impl LinkTask<f32> {
    /// Starts from a softmax over all entities for batches of 512 queries.
    pub fn builder(triples: Triples) -> LinkTaskBuilder {
        LinkTaskBuilder {
            triples,
            candidates: Candidates::All,
            loss: RankingLoss::Softmax { smoothing: 0.0 },
            batch: 512,
            reciprocal: false,
            tables_alone: false,
            exclude_asked: false,
        }
    }
}

impl LinkTaskBuilder {
    /// What stands beside an answer in training. Default [`Candidates::All`].
    #[must_use]
    pub fn candidates(mut self, candidates: Candidates) -> Self {
        self.candidates = candidates;
        self
    }

    /// The loss. Default: [`RankingLoss::Softmax`] without smoothing.
    #[must_use]
    pub fn loss(mut self, loss: RankingLoss) -> Self {
        self.loss = loss;
        self
    }

    /// Triples of a batch, each of which is asked about from both ends; queries, where each is
    /// asked with all of its answers. Default 512.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.batch = batch;
        self
    }

    /// Whether relation `r` has another row, `r + relations`, for asking after the head, instead of
    /// being turned round. Default: not.
    #[must_use]
    pub fn reciprocal(mut self, reciprocal: bool) -> Self {
        self.reciprocal = reciprocal;
        self
    }

    /// Whether a training batch has the rows of those nodes alone that it names: right for models
    /// that are tables, and much faster; a model that aggregates refuses such a batch. Default:
    /// not, every batch has the whole graph.
    #[must_use]
    pub fn tables_alone(mut self, alone: bool) -> Self {
        self.tables_alone = alone;
        self
    }

    /// Whether the graph of a training batch lacks all edges between the two ends of its own
    /// triples: what a model is asked about then does not stand in the messages that it reads, as
    /// it does not when it is tested. Each batch pays for a graph of its own. Default: not.
    ///
    /// *Source*: Zhu et al., "Neural Bellman-Ford networks", NeurIPS 2021, §4.1 ("we drop out edges
    /// that directly connect query node pairs").
    #[must_use]
    pub fn exclude_asked(mut self, exclude: bool) -> Self {
        self.exclude_asked = exclude;
        self
    }

    /// Builds the task.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number out of its range, and for edges that are to be left out
    /// where batches are of queries ([`Candidates::AllAtOnce`]) or of tables alone.
    pub fn build(self) -> Result<LinkTask> {
        self.loss.check()?;
        if self.batch == 0 {
            return Err(Error::setting("triples of a batch", 0, "at least 1"));
        }
        self.candidates.check()?;
        if self.exclude_asked && (self.tables_alone || self.candidates == Candidates::AllAtOnce) {
            let legal = "batches of triples with the graph";
            return Err(Error::setting("edges that are asked about", "excluded", legal));
        }
        let data = self.triples.dataset()?;
        Ok(LinkTask { settings: self, data, known: Default::default() })
    }
}

impl<F: Scalar> LinkTask<F> {
    /// The triples.
    pub fn triples(&self) -> &Triples {
        &self.settings.triples
    }

    /// How many rows of relations a decoder needs.
    pub fn relations(&self) -> usize {
        let twice = if self.settings.reciprocal { 2 } else { 1 };
        self.triples().num_relations() * twice
    }

    /// The same task in another number type.
    pub fn cast<G: Scalar>(&self) -> LinkTask<G> {
        let (settings, data) = (self.settings.clone(), self.data.cast());
        LinkTask { settings, data, known: Arc::clone(&self.known) }
    }

    /// How many entities there are.
    pub fn entities(&self) -> u32 {
        self.triples().num_entities() as u32
    }

    fn known(&self, parts: usize) -> &Known {
        self.known[parts - 1].get_or_init(|| {
            let triples = self.triples();
            let all = [triples.train(), triples.valid(), triples.test()];
            Known::of(all[..parts].iter().copied().flatten())
        })
    }

    /// What is known to answer a query, of the training and the validation part: ascending.
    pub fn answers(&self, query: Query) -> &[u32] {
        self.known(2).answers(query)
    }

    /// A query as the decoder is asked it.
    fn asked(&self, query: Query) -> Query {
        if self.settings.reciprocal && query.inverse {
            let relation = query.relation + self.triples().num_relations() as u32;
            return Query { relation, inverse: false, ..query };
        }
        query
    }

    /// Triples to be ranked among all entities.
    fn ranked(&self, triples: &[Triple], known: &Known) -> Result<Batch<F>> {
        let entities = self.entities();
        let (mut queries, mut answers, mut left_out) = (Vec::new(), Lists::new(), Lists::new());
        for &triple in triples {
            for (query, answer) in Query::both(triple) {
                queries.push(self.asked(query));
                answers.push([answer]);
                let others = known.answers(query).iter().copied();
                left_out.push(others.filter(|other| *other != answer));
            }
        }
        let queries = Queries::among(queries, 0..entities)?;
        let asked = Asked { answers, left_out, penalized: Vec::new() };
        Ok(Places::new(false).batch(self, queries, asked))
    }

    /// A batch that asks these queries, with all entities as candidates: a model's output on it has
    /// the scores of the first query's, then those of the second's.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for an entity or a relation that there is not.
    pub fn ask(&self, queries: &[Query]) -> Result<Batch<F>> {
        let asked: Vec<Query> = queries.iter().map(|&query| self.asked(query)).collect();
        let queries = Queries::among(asked, 0..self.entities())?;
        queries.check(self.name(), self.data.num_nodes(), self.relations())?;
        let batch = Batch::new(self.data.graph().clone(), self.data.shared_features());
        Ok(batch.with_spaces(Rows::new().queries(queries)))
    }

    /// The batch of some training triples.
    fn trained(&self, triples: &[Triple], rng: &mut ChaCha8Rng) -> Result<Batch<F>> {
        let pairs: Vec<(Query, u32)> = triples.iter().copied().flat_map(Query::both).collect();
        let batch = match self.settings.candidates {
            Candidates::Sampled(count) => self.sampled(&pairs, count, rng),
            Candidates::Shared(count) => self.shared(&pairs, count, true, rng),
            Candidates::Drawn(count) => self.shared(&pairs, count, false, rng),
            Candidates::All => {
                self.among_all(pairs.into_iter().map(|(query, answer)| (query, vec![answer])))
            }
            Candidates::AllAtOnce => unreachable!("its batches are of queries"),
        }?;
        if !self.settings.exclude_asked {
            return Ok(batch);
        }
        let both = |&[head, _, tail]: &Triple| [[head, tail], [tail, head]];
        let asked: HashSet<[u32; 2]> = triples.iter().flat_map(both).collect();
        let graph = self.data.graph();
        let mask = EdgeMask::from_fn(graph, |edge| {
            !asked.contains(&[edge.source as u32, edge.target as u32])
        });
        Ok(batch.with_graph(graph.retain(&mask)?))
    }

    fn among_all(&self, queries: impl IntoIterator<Item = Answered>) -> Result<Batch<F>> {
        among_all(self, 0..self.entities(), queries, |query| self.asked(query))
    }

    fn sampled(
        &self,
        pairs: &[(Query, u32)],
        count: usize,
        rng: &mut ChaCha8Rng,
    ) -> Result<Batch<F>> {
        let mut places = Places::new(self.settings.tables_alone);
        let (mut asked, mut nodes) = (Vec::new(), Vec::new());
        let (mut answers, mut left_out, mut penalized) = (Lists::new(), Lists::new(), Vec::new());
        for &(query, answer) in pairs {
            let own = [places.of(query.node), places.of(answer)];
            asked.push(self.asked(Query { node: own[0], ..query }));
            nodes.push(own[1]);
            for _ in 0..count {
                nodes.push(places.of(rng.random_range(0..self.entities())));
            }
            penalized.extend(own);
            answers.push([0]);
            left_out.push([]);
        }
        let queries = Queries::each(asked, count + 1, nodes)?;
        Ok(places.batch(self, queries, Asked { answers, left_out, penalized }))
    }

    fn shared(
        &self,
        pairs: &[(Query, u32)],
        count: usize,
        others: bool,
        rng: &mut ChaCha8Rng,
    ) -> Result<Batch<F>> {
        let alone = self.settings.tables_alone;
        let drawn = Shared { count, others, from: 0..self.entities(), alone };
        let known = self.known(1);
        let others = |query| known.answers(query).iter().copied();
        drawn.batch(self, pairs, others, |query| self.asked(query), rng)
    }

    /// Each query of the training part with all its answers, in a fixed order.
    fn queries(&self) -> Vec<Answered> {
        let mut all: BTreeMap<Query, Vec<u32>> = BTreeMap::new();
        for &triple in self.triples().train() {
            for (query, _) in Query::both(triple) {
                all.entry(query).or_insert_with(|| self.known(1).answers(query).to_vec());
            }
        }
        all.into_iter().collect()
    }
}

impl<F: Scalar> Task<F> for LinkTask<F> {
    fn name(&self) -> &str {
        self.triples().name()
    }

    /// Graph and features of the entities: see [`Triples::dataset`].
    fn data(&self) -> &Dataset<F> {
        &self.data
    }

    fn with_graph(&self, graph: Graph<F>) -> Result<Box<dyn Task<F> + '_>> {
        let (settings, data) = (self.settings.clone(), self.data.with_graph(graph)?);
        Ok(Box::new(LinkTask { settings, data, known: Arc::clone(&self.known) }))
    }

    /// The first 64 triples of the validation part, ranked among all entities.
    fn whole(&self) -> Result<Batch<F>> {
        let valid = self.triples().valid();
        self.ranked(&valid[..valid.len().min(SERVED)], self.known(2))
    }

    fn settings(&self) -> String {
        let LinkTaskBuilder {
            candidates,
            loss,
            batch,
            reciprocal,
            tables_alone,
            exclude_asked,
            ..
        } = &self.settings;
        let triples = self.triples();
        let parts = [triples.train(), triples.valid(), triples.test()];
        format!(
            "{}, triples {}, {candidates:?}, {loss:?}, batch {batch}, reciprocal {reciprocal}, \
             tables alone {tables_alone}, asked excluded {exclude_asked}",
            Task::<F>::metric(self),
            Digest::of_lists(parts.map(|triples| triples.as_flattened()))
        )
    }

    fn inputs(&self) -> usize {
        self.data.num_features()
    }

    fn outputs(&self) -> usize {
        1
    }

    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, F>> {
        let size = self.settings.batch;
        if part != Part::Train {
            let (triples, known) = match part {
                Part::Validation => (self.triples().valid(), self.known(2)),
                _ => (self.triples().test(), self.known(3)),
            };
            let size = (SCORES_AT_ONCE / self.entities() as usize / 2).clamp(1, 512);
            return Ok(Batches::drawn(move |_| {
                triples.chunks(size).map(move |some| self.ranked(some, known))
            }));
        }
        let task = self.clone();
        if self.settings.candidates == Candidates::AllAtOnce {
            return Ok(at_once(self.queries(), size, seed, move |some| task.among_all(some)));
        }
        Ok(Batches::drawn_ahead(AHEAD, move |epoch| {
            let mut rng = generator(seed, &[purpose::BATCHES, epoch as u64]);
            let mut order = task.triples().train().to_vec();
            order.shuffle(&mut rng);
            let task = task.clone();
            (0..order.len()).step_by(size).map(move |start| {
                task.trained(&order[start..(start + size).min(order.len())], &mut rng)
            })
        }))
    }

    fn loss(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<(F, Array2<F>)> {
        Ok(self.settings.loss.of(y, asked_by(batch, self.name())?))
    }

    fn losses(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<Option<Vec<F>>> {
        Ok(Some(self.settings.loss.of_each(y, asked_by(batch, self.name())?)))
    }

    fn metric(&self) -> Metric {
        Metric::MEAN_RECIPROCAL_RANK
    }

    fn judge(&self, y: ArrayView2<F>, batch: &Batch<F>, tally: &mut Tally) -> Result<()> {
        for rank in ranks(y, asked_by(batch, self.name())?) {
            tally.add(1.0 / rank as f64, 1.0);
            for (name, most) in [("hits@1", 1), ("hits@3", 3), ("hits@10", 10)] {
                tally.also(name, f64::from(u8::from(rank <= most)), 1.0);
            }
        }
        Ok(())
    }

    /// Of each query that a training triple answers, over all entities.
    fn rankings(&self) -> Option<Rankings> {
        let queries = self.queries().into_iter();
        let queries = queries.map(|(query, known)| (self.asked(query), known)).collect();
        Some(Rankings::new(0..self.entities(), queries))
    }

    fn origin(&self) -> Option<Origin> {
        Task::<F>::origin(&self.data)
    }
}

/// What a ranking task has hung on a batch.
pub(super) fn asked_by<'a, F: Scalar>(batch: &'a Batch<F>, task: &str) -> Result<&'a Asked> {
    let other = || Error::data(task, "a batch of another task was to be judged");
    batch.attached::<Asked>().ok_or_else(other)
}

/// The rank of each query's first answer among its candidates.
pub(super) fn ranks<F: Scalar>(y: ArrayView2<F>, asked: &Asked) -> Vec<usize> {
    asked.each(y, |scores, answers, left_out| rank(scores, answers[0] as usize, left_out))
}
