//! What the float rows of each part of a table answer first, as a target of training its signs.

use super::known::{TableForm, table_forms};
use crate::error::{Error, Result, Unsupported};
use crate::kernels;
use crate::nn::{Decoder, Embedding, Form, Grads, Model, Node, ParamId, Query, Registered};
use crate::quant::settings::Settings;
use crate::scalar::Scalar;
use crate::task::{Batch, Rankings, Task};
use crate::train::{Loss, Objective, Pass};
use ndarray::{Array2, ArrayView2, s};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

/// How much less an answer weighs than the one before it: `w_k = λ·e^{−0.1·k}`.
const FALL: f64 = 0.1;

/// Scores that are kept at once while the float rows answer.
const SCORES_AT_ONCE: usize = 1 << 24;

/// What training of signs learns beside the task's loss: for every query and part of the rows, the
/// items that the float rows of this part alone put first.
///
/// ```text
/// λ · Σ_p 1/R · Σ_{k≤R} e^{−0.1·k} · softplus(−ŷ_p(u, S_p(u)_k))
/// ```
///
/// in the mean over the queries `u` of a batch, where `S_p(u)` are the first `R` by the float rows
/// of part `p`, best first, of the candidates that are not known in training to be right (those are
/// the task's own loss's), and `ŷ_p` is the product of the signs of part `p` with their scales.
/// What is first in a part is found once, before training.
///
/// *Source*: Chen et al., "Learning Binarized Graph Representations with Multi-faceted Quantization
/// Reinforcement for Top-K Recommendation" (BiGeaR), KDD 2022, §3.3, the loss of inference
/// distillation, whose parts are the rows of each layer; `R = 100` as there.
///
/// ```
/// use gnn_prune::quant::PartRankings;
/// assert_eq!(PartRankings::default(), PartRankings::new(100, 1.0)?);
/// assert!(PartRankings::new(0, 1.0).is_err());
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartRankings {
    best: usize,
    weight: f64,
}

impl PartRankings {
    /// Of the first `best` items of each part, at least 1, with a positive `weight` `λ`. Default
    /// 100 and 1: see [`PartRankings::default`].
    ///
    /// # Errors
    /// [`Error::Setting`] for another number.
    pub fn new(best: usize, weight: f64) -> Result<Self> {
        if best == 0 {
            return Err(Error::setting("first items of a part", best, "at least 1"));
        }
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(Error::setting("weight of the first items", weight, "a positive number"));
        }
        Ok(Self { best, weight })
    }

    /// Refuses a model whose scores are not those of the parts of one table of signs, and a task
    /// that does not rank so many.
    ///
    /// # Errors
    /// [`Error::Unsupported`] and [`Error::Data`], and as [`table_forms`].
    pub(in crate::quant) fn check(
        self,
        model: &Model,
        task: &dyn Task<f32>,
        settings: Settings,
    ) -> Result<()> {
        parts_of(model, settings)?;
        self.asked(task).map(|_| ())
    }

    /// What the task knows of its queries.
    fn asked<F: Scalar>(self, task: &dyn Task<F>) -> Result<Rankings> {
        let Some(asked) = task.rankings() else {
            let problem =
                "ranks nothing for its queries, and first items of parts are to be learnt";
            return Err(Error::data(task.name(), problem));
        };
        // A list belongs to a row, and says nothing of what a node is asked beside.
        let mut nodes = HashSet::new();
        if let Some((query, _)) = asked.queries.iter().find(|(query, _)| !nodes.insert(query.node))
        {
            let problem = format!(
                "asks node {} more than once, and first items of parts are one list for each node",
                query.node
            );
            return Err(Error::data(task.name(), problem));
        }
        let all = asked.candidates.len();
        let few = |(_, known): &&(Query, Vec<u32>)| known.len().saturating_add(self.best) > all;
        match asked.queries.iter().find(few) {
            None => Ok(asked),
            Some((query, known)) => {
                let problem = format!(
                    "has a query, of node {}, with {} candidates that are not known to be right, \
                     and the first {} are to be learnt",
                    query.node,
                    all - known.len(),
                    self.best
                );
                Err(Error::data(task.name(), problem))
            }
        }
    }
}

impl Default for PartRankings {
    /// The first 100 of each part with a weight of 1.
    fn default() -> Self {
        Self { best: 100, weight: 1.0 }
    }
}

/// The table of signs whose rows' products are the scores of a model, and its parts.
fn parts_of(model: &Model, settings: Settings) -> Result<(ParamId, usize)> {
    let forms = table_forms(model, settings)?;
    let kinds = |node: &Node<f32>| node.layer().kind();
    if let [table, decoder] = model.nodes()
        && kinds(table) == <Embedding as Registered<f32>>::KIND
        && kinds(decoder) == <Decoder as Registered<f32>>::KIND
        && decoder.layer().attrs().get::<Form>("form").is_ok_and(|form| form == Form::Dot)
    {
        let mut found = None;
        table.layer().visit(&mut |param| {
            if let Some(&TableForm::Signs(parts)) = forms.get(&param.id()) {
                found = Some((param.id(), parts));
            }
        });
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err(Error::Unsupported(Unsupported {
        layer: "the model".into(),
        reason:
            "has scores that are not dot products of the rows of one table of signs, and first \
                 items of its parts are to be learnt; run its encoder once before"
                .into(),
    }))
}

/// The first items of each part to every query of the training part, and the loss by them.
pub(super) struct FirstOfParts {
    of: PartRankings,
    table: ParamId,
    parts: usize,
    /// The node of each query.
    nodes: Vec<u32>,
    /// Where the query of a node stands among these. Looked up and never walked.
    place: HashMap<u32, u32>,
    /// Query by query and part by part so many, best first.
    best: Vec<u32>,
}

impl FirstOfParts {
    /// Of the float rows of a model that is to be trained.
    ///
    /// # Errors
    /// As [`PartRankings::check`], and [`Error::NotFinite`] for a score.
    pub(super) fn of(
        of: PartRankings,
        model: &Model,
        task: &dyn Task<f32>,
        settings: Settings,
    ) -> Result<Self> {
        let (table, parts) = parts_of(model, settings)?;
        let mut found = None;
        model.visit(&mut |_, param| {
            if param.id() == table {
                found = Some(Self::by_rows(of, param.value().view(), (table, parts), task));
            }
        });
        found.expect("the model has its table")
    }

    fn by_rows<F: Scalar>(
        of: PartRankings,
        rows: ArrayView2<F>,
        (table, parts): (ParamId, usize),
        task: &dyn Task<F>,
    ) -> Result<Self> {
        let Rankings { candidates, queries, .. } = of.asked(task)?;
        let width = rows.ncols() / parts;
        let items = rows.slice(s![candidates.start as usize..candidates.end as usize, ..]);
        let at_once = (SCORES_AT_ONCE / candidates.len()).max(1);
        let mut best = vec![0; queries.len() * parts * of.best];
        let chunks = best.chunks_mut(at_once * parts * of.best);
        for (some, best) in queries.chunks(at_once).zip(chunks) {
            let asked = Array2::from_shape_fn((some.len(), rows.ncols()), |(k, c)| {
                rows[[some[k].0.node as usize, c]]
            });
            let mut scores = Array2::zeros((some.len(), items.nrows()));
            for p in 0..parts {
                let own = s![.., p * width..(p + 1) * width];
                let (q, t) = (asked.slice(own).to_owned(), items.slice(own).to_owned());
                kernels::matmul_nt(q.view(), t.view(), scores.view_mut());
                if let Some(value) = scores.iter().find(|score| !score.is_finite()) {
                    let at = "a score by the float rows".into();
                    return Err(Error::NotFinite { at, value: value.as_f64() });
                }
                let all = scores.as_slice().expect("a new array is contiguous");
                let jobs = all.chunks_exact(items.nrows()).zip(some);
                let jobs = jobs.zip(best.chunks_exact_mut(parts * of.best)).collect();
                kernels::run(jobs, all.len(), |((scores, (_, known)), best)| {
                    let best = &mut best[p * of.best..][..of.best];
                    first_of(scores, known, candidates.start, best);
                });
            }
        }
        let nodes: Vec<u32> = queries.iter().map(|(query, _)| query.node).collect();
        let place = (0..).zip(&nodes).map(|(k, &node)| (node, k)).collect();
        Ok(Self { of, table, parts, nodes, place, best })
    }

    /// The queries of a batch that are of the training part, by their places, each once and
    /// ascending.
    fn of_batch<F: Scalar>(&self, batch: &Batch<F>) -> Vec<u32> {
        let spaces = batch.spaces();
        let name = |row: u32| spaces.node_ids().map_or(row, |names| names[row as usize]);
        let queries = spaces.asked().map_or(&[][..], |asked| asked.queries());
        let nodes = queries.iter().map(|query| name(query.node));
        let mut places: Vec<u32> =
            nodes.filter_map(|node| self.place.get(&node).copied()).collect();
        places.sort_unstable();
        places.dedup();
        places
    }

    /// The loss of some queries by the rows `x` that signs stand for, and its gradient by the rows
    /// that it reads: which, and theirs.
    ///
    /// With `g = −λ/R·e^{−0.1·k}·σ(−ŷ)` the gradient is `g·x_i` by the part of a query's row and
    /// `g·x_u` by that of an item's.
    fn objective<F: Scalar>(&self, x: ArrayView2<F>, places: &[u32]) -> (F, Vec<u32>, Array2<F>) {
        let (width, best) = (x.ncols() / self.parts, self.of.best);
        let share = self.of.weight / (best * places.len().max(1)) as f64;
        let weights: Vec<F> = (1..=best).map(|k| F::of(share * (-FALL * k as f64).exp())).collect();
        let row = |node: u32, p: usize| {
            let row = x.row(node as usize).to_slice().expect("parameters are contiguous");
            &row[p * width..][..width]
        };
        let list = |k: u32| &self.best[k as usize * self.parts * best..][..self.parts * best];
        let work = places.len() * best * x.ncols();
        // Of each query the value, the gradient by its row, and that by each score.
        let of_queries = kernels::run(places.to_vec(), work, |k: u32| {
            let user = self.nodes[k as usize];
            let (mut value, mut by_row) = (F::zero(), vec![F::zero(); x.ncols()]);
            let mut by_score = Vec::with_capacity(self.parts * best);
            for (p, items) in list(k).chunks_exact(best).enumerate() {
                let own = row(user, p);
                let to = &mut by_row[p * width..][..width];
                for (&item, &weight) in items.iter().zip(&weights) {
                    let other = row(item, p);
                    let score = own.iter().zip(other).fold(F::zero(), |sum, (&a, &b)| sum + a * b);
                    value += weight * ((-score).max(F::zero()) + (-score.abs()).exp().ln_1p());
                    let g = -weight / (F::one() + score.exp());
                    to.iter_mut().zip(other).for_each(|(to, &other)| *to += g * other);
                    by_score.push(g);
                }
            }
            (value, by_row, by_score)
        });
        // Where each item is listed, in one order whatever the threads.
        let mut listed: Vec<(u32, u32, u32)> = Vec::with_capacity(places.len() * self.parts * best);
        for (at, &k) in (0..).zip(places) {
            listed.extend((0..).zip(list(k)).map(|(place, &item)| (item, at, place)));
        }
        listed.sort_unstable();
        let of_items: Vec<&[(u32, u32, u32)]> = listed.chunk_by(|a, b| a.0 == b.0).collect();
        let mut rows: Vec<u32> = places.iter().map(|&k| self.nodes[k as usize]).collect();
        rows.extend(of_items.iter().map(|of| of[0].0));
        let mut gradient = Array2::zeros((rows.len(), x.ncols()));
        kernels::map_rows(gradient.view_mut(), |at, to: &mut [F]| {
            let Some(of_item) = at.checked_sub(places.len()) else {
                return to.copy_from_slice(&of_queries[at].1);
            };
            for &(_, query, place) in of_items[of_item] {
                let (query, place) = (query as usize, place as usize);
                let (p, g) = (place / best, of_queries[query].2[place]);
                let own = row(self.nodes[places[query] as usize], p);
                let to = &mut to[p * width..][..width];
                to.iter_mut().zip(own).for_each(|(to, &own)| *to += g * own);
            }
        });
        let value = of_queries.iter().fold(F::zero(), |sum, of| sum + of.0);
        (value, rows, gradient)
    }
}

/// The loss of a task and that of the first items of parts.
pub(super) struct BesideTask<'a, F: Scalar> {
    pub(super) task: &'a dyn Task<F>,
    pub(super) first: FirstOfParts,
}

impl<F: Scalar> Loss<F> for BesideTask<'_, F> {
    fn loss(&mut self, pass: &Pass<F>) -> Result<Objective<F>> {
        let (value, gradient) = self.task.loss(pass.trace.output(), pass.batch)?;
        let mut all = Objective::new(value, vec![(pass.model.output(), gradient)]);
        let places = self.first.of_batch(pass.batch);
        if places.is_empty() {
            return Ok(all);
        }
        let mut grads = Grads::new(0);
        pass.model.visit(&mut |_, param| {
            if param.id() == self.first.table {
                let (value, rows, by_rows) = self.first.objective(param.value().view(), &places);
                all.value += value;
                grads.add_rows(param, &rows, by_rows.view());
            }
        });
        Ok(all.with_params(grads))
    }
}

/// Writes the nodes of the best scores, best first, without what is known; `start` is the node of
/// the first score, and of equal scores the lower node comes first.
fn first_of<F: Scalar>(scores: &[F], known: &[u32], start: u32, best: &mut [u32]) {
    let better = |a: &u32, b: &u32| {
        let of = |node: u32| scores[(node - start) as usize];
        of(*b).partial_cmp(&of(*a)).unwrap_or(Ordering::Equal).then(a.cmp(b))
    };
    let all = start..start + scores.len() as u32;
    let mut nodes: Vec<u32> = all.filter(|node| known.binary_search(node).is_err()).collect();
    if best.len() < nodes.len() {
        nodes.select_nth_unstable_by(best.len(), better);
        nodes.truncate(best.len());
    }
    nodes.sort_unstable_by(better);
    best.copy_from_slice(&nodes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Interactions;
    use crate::task::RecommendTask;
    use crate::testing::random_dense;

    /// Step of central differences in f64, and what they may show.
    const STEP: f64 = 1e-5;
    const EXACT: f64 = 1e-8;

    fn task() -> RecommendTask<f64> {
        let own = |user: u32| -> Vec<u32> { (0..10).map(|k| (user * 7 + k * 2) % 25).collect() };
        let later = |user: u32| vec![(user * 7 + 1) % 25];
        let (train, test) = ((0..9).map(own).collect(), (0..9).map(later).collect());
        let taken = Interactions::new("t", 25, train, test).unwrap();
        RecommendTask::builder(taken).batch(5).build().unwrap().cast()
    }

    fn first(best: usize, parts: usize, rows: &Array2<f64>) -> FirstOfParts {
        let table = crate::LightGcn::builder(34).channels(2).layers(0).build(0).unwrap();
        let id = table.params().next().unwrap().1.id();
        let of = PartRankings::new(best, 0.7).unwrap();
        FirstOfParts::by_rows(of, rows.view(), (id, parts), &task()).unwrap()
    }

    #[test]
    fn lists_are_the_first_of_each_part_without_what_is_known() {
        let rows = random_dense::<f64>(3, (34, 6)).into_dense();
        let (first, task) = (first(4, 3, &rows), task());
        assert_eq!(first.nodes, (0..9).collect::<Vec<u32>>());
        for user in 0..9 {
            for p in 0..3 {
                let score = |node: u32| -> f64 {
                    (2 * p..2 * p + 2).map(|c| rows[[user, c]] * rows[[node as usize, c]]).sum()
                };
                let known: Vec<u32> = task.train()[user].iter().map(|item| item + 9).collect();
                let mut all: Vec<u32> = (9..34).filter(|node| !known.contains(node)).collect();
                all.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
                assert_eq!(first.best[(user * 3 + p) * 4..][..4], all[..4], "{user}, {p}");
            }
        }
    }

    #[test]
    fn the_loss_is_its_formula_and_has_its_slopes() {
        let teacher = random_dense::<f64>(3, (34, 6)).into_dense();
        let first = first(4, 3, &teacher);
        let x = random_dense::<f64>(4, (34, 6)).into_dense();
        let places = [0, 3, 8];
        let (found, rows, gradient) = first.objective(x.view(), &places);
        let formula = |x: &Array2<f64>| -> f64 {
            let mut sum = 0.0;
            for &k in &places {
                for p in 0..3 {
                    for rank in 0..4 {
                        let item = first.best[(k as usize * 3 + p) * 4 + rank] as usize;
                        let score: f64 =
                            (2 * p..2 * p + 2).map(|c| x[[k as usize, c]] * x[[item, c]]).sum();
                        let weight = 0.7 * (-0.1 * (rank + 1) as f64).exp();
                        sum += weight / 12.0 * (-score).exp().ln_1p();
                    }
                }
            }
            sum
        };
        assert!((found - formula(&x)).abs() < 1e-12, "{found} {}", formula(&x));
        let mut whole = Array2::<f64>::zeros(x.dim());
        for (&row, gradient) in rows.iter().zip(gradient.rows()) {
            let mut to = whole.row_mut(row as usize);
            to += &gradient;
        }
        for (at, &slope) in whole.indexed_iter() {
            let moved = |step: f64| {
                let mut moved = x.clone();
                moved[at] += step;
                first.objective(moved.view(), &places).0
            };
            let differences = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            assert!((slope - differences).abs() < EXACT, "{at:?}: {slope} {differences}");
        }
        assert!(whole.iter().filter(|slope| **slope != 0.0).count() > 40);
    }

    #[test]
    fn scores_that_are_far_out_have_numbers() {
        let rows = random_dense::<f64>(3, (34, 6)).into_dense();
        let first = first(4, 3, &rows);
        let (value, _, gradient) = first.objective((&rows * 1e4).view(), &[0, 1]);
        assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()));
    }
}
