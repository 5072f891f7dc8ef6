//! Training one model of which any prefix of the channels is a model, too.

use super::lessons::{Lesson, Lessons, harder, lesson};
use super::plan::ChannelPlan;
use super::prefix::widest;
use crate::error::{Error, Result};
use crate::nn::{Cx, Grads, Model, Param};
use crate::rng::{hash, purpose};
use crate::scalar::Scalar;
use crate::task::{Batch, FirstAnswers, Ranked, Task, rankings, relaxed_ranking};
use crate::train::{Fit, Loss, Objective, OnEpoch, Pass, Setup, Trainer};
use ndarray::{Array2, ArrayView2, Axis};

/// Epochs after each of which the whole model answers what its prefixes learn to rank.
const ANSWERS_EVERY: usize = 10;

/// Trains a model so that its first channels do by themselves: with widths `w_1 < … < w_p` below
/// its own, a step minimises `1/(p+1)·(L + Σ_k L_{w_k})`, where `L_w` is the loss of the task on
/// the model that [`ChannelPlan::prefix`] leaves of it. Or, after [`Prefixes::drawn`], the loss of
/// one of these `p + 1` models, which is drawn for each batch.
///
/// Afterwards `ChannelPlan::prefix(&model, w)?.shrink(&model)?` is the model of width `w`, without
/// any further training. The epoch is chosen by the metric of the whole model.
///
/// What Zhu et al. add are settings: widths learn from each other ([`Prefixes::lessons`]), what a
/// narrower one has not learnt counts more in the next ([`Prefixes::harder`]), and losses have
/// weights by their widths ([`Prefixes::balance`]). There the numbers behind the latter two are
/// learnt with the model; of a sum that is minimised that drives the weights of losses to zero, and
/// here they are chosen.
///
/// *Source*: Kusupati et al., "Matryoshka representation learning", NeurIPS 2022, eq. 1; for tables
/// of entities Zhu et al., "Croppable knowledge graph embedding" (MED), ACL 2025,
/// arXiv 2407.02779.
///
/// ```
/// use gnn_prune::data::Interactions;
/// use gnn_prune::prune::Prefixes;
/// use gnn_prune::task::RecommendTask;
/// use gnn_prune::{ChannelPlan, LightGcn, Trainer};
/// let own = |user: u32| -> Vec<u32> { (0..10).map(|k| (user % 2) * 15 + k).collect() };
/// let later = |user: u32| vec![(user % 2) * 15 + 10];
/// let taken = Interactions::new("two tastes", 30, (0..20).map(own).collect(), (0..20).map(later).collect())?;
/// let task = RecommendTask::builder(taken).build()?;
/// let model = LightGcn::builder(50).channels(8).layers(2).build(0)?;
/// let trainer = Trainer::builder().epochs(2).weight_decay(0.0).build()?;
/// let model = Prefixes::new([2, 4])?.fit(&trainer, model, &task)?.model;
/// let narrow = ChannelPlan::prefix(&model, 4)?.shrink(&model)?;
/// assert_eq!(narrow.num_params(), 50 * 4);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Prefixes {
    widths: Vec<usize>,
    drawn: bool,
    /// With their weight.
    lessons: Option<(Lessons, f64)>,
    harder: f64,
    balance: f64,
}

impl Prefixes {
    /// Prefixes of so many channels each, in any order; the whole model trains beside them.
    ///
    /// # Errors
    /// [`Error::Setting`] for no width, a width of 0, and one that is listed twice.
    pub fn new(widths: impl Into<Vec<usize>>) -> Result<Self> {
        let mut widths: Vec<usize> = widths.into();
        widths.sort_unstable();
        let twice = widths.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
        match (widths.first(), twice) {
            (None, _) => Err(Error::setting("widths of prefixes", "none", "at least one")),
            (Some(0), _) => Err(Error::setting("width of a prefix", 0, "at least 1")),
            (_, Some(width)) => Err(Error::setting("width of a prefix", width, "listed once")),
            _ => Ok(Self { widths, drawn: false, lessons: None, harder: 0.0, balance: 0.0 }),
        }
    }

    /// Draws one of the widths, the whole model's among them, for each batch, instead of training
    /// on the mean of all.
    #[must_use]
    pub fn drawn(self) -> Self {
        Self { drawn: true, ..self }
    }

    /// Has each width but the whole model's learn from a wider one: `weight` times these lessons
    /// stand beside its own loss; positive. Default: none.
    ///
    /// # Errors
    /// [`Error::Setting`] for another weight.
    pub fn lessons(self, lessons: Lessons, weight: f64) -> Result<Self> {
        if !(weight > 0.0 && weight.is_finite()) {
            return Err(Error::setting("weight of lessons", weight, "a positive number"));
        }
        if let Lessons::Rankings(Ranked { best, others, .. }) = &lessons
            && (*best == 0 || *others == 0)
        {
            let legal = "at least one answer and one other";
            return Err(Error::setting("lessons by rankings", format!("{best}:{others}"), legal));
        }
        Ok(Self { lessons: Some((lessons, weight)), ..self })
    }

    /// Weighs the examples of each width but the first by `e^{γ·loss}` of the next narrower one,
    /// with mean 1 over a batch: `γ ≥ 0`, where 0 is none. For tasks that rank. Default 0.
    ///
    /// *Source*: the evolutionary improvement of MED, whose weights are `e^{w/s}` and `e^{w·s}` of
    /// scores `s` of right and wrong answers; a loss says the same of both, whichever it is.
    ///
    /// # Errors
    /// [`Error::Setting`] for another number.
    pub fn harder(self, sharpness: f64) -> Result<Self> {
        if !(sharpness >= 0.0 && sharpness.is_finite()) {
            let legal = "a number, 0 or more";
            return Err(Error::setting("weight of hard examples", sharpness, legal));
        }
        Ok(Self { harder: sharpness, ..self })
    }

    /// Weighs the loss of each width `w` of the `W` channels of the whole by `e^{β·w/W}`, in
    /// proportion: negative for narrow ones. Any number in [-10, 10]; default 0, all alike.
    ///
    /// *Source*: the dynamic loss weight of MED, `e^{w_3·d_i/d_n}`.
    ///
    /// # Errors
    /// [`Error::Setting`] for another number.
    pub fn balance(self, balance: f64) -> Result<Self> {
        match (-10.0..=10.0).contains(&balance) {
            true => Ok(Self { balance, ..self }),
            false => Err(Error::setting("balance of the widths", balance, "in [-10, 10]")),
        }
    }

    /// The widths, ascending.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }

    /// Refuses a model whose prefixes cannot be trained.
    ///
    /// # Errors
    /// As [`ChannelPlan::prefix`]; [`Error::Setting`] for a prefix that is the whole model, and for
    /// a model with batch norm, whose running statistics would be those of the whole model alone.
    pub fn check<F: Scalar>(&self, model: &Model<F>) -> Result<()> {
        self.narrowed(model).map(|_| ())
    }

    /// Refuses a task that the settings do not fit.
    ///
    /// # Errors
    /// [`Error::Setting`] for a width that is drawn beside lessons or weights, which compare widths
    /// of one batch; [`Error::Data`] for hard examples where the task does not rank, and for
    /// rankings where it has none, or fewer candidates.
    pub fn check_task<F: Scalar>(&self, task: &dyn Task<F>) -> Result<()> {
        let alone = self.lessons.is_none() && self.harder == 0.0 && self.balance == 0.0;
        if self.drawn && !alone {
            let legal = "without lessons and weights, which compare all widths of a batch";
            return Err(Error::setting("widths of prefixes", "drawn for each batch", legal));
        }
        if let Some((Lessons::Rankings(ranked), _)) = self.lessons {
            rankings(task, ranked)?;
        }
        if self.harder > 0.0 && task.rankings().is_none() {
            let problem = "ranks nothing for its queries, and hard examples are told by rankings";
            return Err(Error::data(task.name(), problem));
        }
        Ok(())
    }

    /// Trains `model` by `trainer`, on this loss in the place of the task's.
    ///
    /// # Errors
    /// As [`Trainer::fit`] and [`Prefixes::check`].
    pub fn fit<F: Scalar>(
        &self,
        trainer: &Trainer,
        model: Model<F>,
        task: &dyn Task<F>,
    ) -> Result<Fit<F>> {
        self.fit_with(trainer, model, task, &|_| Ok(()))
    }

    /// As [`Prefixes::fit`], and `told` is called after each epoch.
    ///
    /// # Errors
    /// As [`Prefixes::fit`], and what `told` returns.
    pub fn fit_with<F: Scalar>(
        &self,
        trainer: &Trainer,
        model: Model<F>,
        task: &dyn Task<F>,
        told: OnEpoch,
    ) -> Result<Fit<F>> {
        let mut lesson = OfPrefixes::new(self, &model, task)?;
        trainer.fit_with(model, task, Setup::new().loss(&mut lesson).on_epoch(told))
    }

    fn narrowed<F: Scalar>(&self, model: &Model<F>) -> Result<Vec<Narrow<F>>> {
        if let Some(node) = model.nodes().iter().find(|node| node.layer().kind() == "batch_norm") {
            let found = format!("of a model with batch norm, `{}`", node.name());
            let legal = "of models without: its running statistics are those of one width";
            return Err(Error::setting("prefixes", found, legal));
        }
        let narrow = |&width: &usize| {
            let narrow = Narrow::of(model, width)?;
            match narrow.model.num_params() < model.num_params() {
                true => Ok(narrow),
                false => {
                    let legal = "less than the whole model, which trains anyway";
                    Err(Error::setting("width of a prefix", width, legal))
                }
            }
        };
        self.widths.iter().map(narrow).collect()
    }
}

impl std::fmt::Display for Prefixes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let widths: Vec<String> = self.widths.iter().map(usize::to_string).collect();
        write!(f, "prefixes of {} channels", widths.join(", "))?;
        f.write_str(if self.drawn { ", one drawn for each batch" } else { "" })?;
        if let Some((lessons, weight)) = self.lessons {
            write!(f, ", {weight} of lessons by {lessons}")?;
        }
        if self.harder > 0.0 {
            write!(f, ", hard examples by {}", self.harder)?;
        }
        if self.balance != 0.0 {
            write!(f, ", balance {}", self.balance)?;
        }
        Ok(())
    }
}

/// Which rows and which columns of a parameter are there; `None`: all.
type Kept = [Option<Vec<usize>>; 2];

/// A prefix of a model, as a model, whose weights are read from that anew for every batch.
struct Narrow<F: Scalar> {
    model: Model<F>,
    /// Of each parameter, in the order of a visit.
    kept: Vec<Kept>,
}

impl<F: Scalar> Narrow<F> {
    fn of(model: &Model<F>, width: usize) -> Result<Self> {
        let plan = ChannelPlan::prefix(model, width)?;
        Ok(Self { model: plan.shrink(model)?, kept: plan.kept_of_params(model)? })
    }

    /// Takes over the weights of the whole model.
    fn read(&mut self, whole: &Model<F>) {
        let mut values = Vec::with_capacity(self.kept.len());
        let mut kept = self.kept.iter();
        whole.visit(&mut |_, param| {
            let [rows, cols] = kept.next().expect("the same parameters");
            values.push(selected(param.value(), rows.as_deref(), cols.as_deref()));
        });
        let mut values = values.into_iter();
        self.model.visit_mut(&mut |param| {
            param.value_mut().assign(&values.next().expect("the same parameters"));
        });
    }

    /// Adds `weight` times gradients by the prefix's parameters to those by the whole model's.
    fn add_to(&self, sum: &mut Grads<F>, grads: &Grads<F>, whole: &Model<F>, weight: F) {
        let mut params: Vec<&Param<F>> = Vec::new();
        self.model.visit(&mut |_, param| params.push(param));
        let mut at = 0;
        whole.visit(&mut |_, param| {
            let (own, [rows, cols]) = (params[at], &self.kept[at]);
            at += 1;
            let width = param.value().ncols();
            if let (Some(some), None) = (grads.rows(own.id()), rows) {
                let mut spread = Array2::zeros((some.rows().len(), width));
                put(&mut spread, some.values(), None, cols.as_deref(), weight);
                sum.add_rows(param, some.rows(), spread.view());
            } else if let Some(gradient) = grads.get(own.id()) {
                put(sum.of_mut(param), gradient, rows.as_deref(), cols.as_deref(), weight);
            }
        });
    }
}

fn selected<F: Scalar>(
    value: &Array2<F>,
    rows: Option<&[usize]>,
    cols: Option<&[usize]>,
) -> Array2<F> {
    let some = rows.map(|rows| value.select(Axis(0), rows));
    match cols {
        Some(cols) => some.as_ref().unwrap_or(value).select(Axis(1), cols),
        None => some.unwrap_or_else(|| value.clone()),
    }
}

/// Adds `weight` times the entries of `part` where they stand in the whole.
fn put<F: Scalar>(
    whole: &mut Array2<F>,
    part: &Array2<F>,
    rows: Option<&[usize]>,
    cols: Option<&[usize]>,
    weight: F,
) {
    for (i, values) in part.rows().into_iter().enumerate() {
        let mut row = whole.row_mut(rows.map_or(i, |rows| rows[i]));
        for (j, &value) in values.iter().enumerate() {
            row[cols.map_or(j, |cols| cols[j])] += weight * value;
        }
    }
}

/// The loss of a model and of its prefixes.
struct OfPrefixes<'a, F: Scalar> {
    how: &'a Prefixes,
    narrow: Vec<Narrow<F>>,
    /// The weight of each width's loss, ascending, that of the whole last.
    shares: Vec<F>,
    task: &'a dyn Task<F>,
    pool: Cx<'static, F>,
    seed: u64,
    steps: u64,
    /// What the whole model last answered, and after which epoch.
    first: Option<(usize, FirstAnswers)>,
}

impl<'a, F: Scalar> OfPrefixes<'a, F> {
    fn new(how: &'a Prefixes, model: &Model<F>, task: &'a dyn Task<F>) -> Result<Self> {
        how.check_task(task)?;
        let narrow = how.narrowed(model)?;
        let whole = widest(model)?;
        let widths = how.widths.iter().chain([&whole]);
        let sizes = widths.map(|&w| (how.balance * (w as f64 / whole as f64 - 1.0)).exp());
        let sizes: Vec<f64> = sizes.collect();
        let all: f64 = sizes.iter().sum();
        let shares = sizes.iter().map(|size| F::of(if how.drawn { 1.0 } else { size / all }));
        let (shares, pool, seed) = (shares.collect(), Cx::without_graph(), model.seed());
        Ok(Self { how, narrow, shares, task, pool, seed, steps: 0, first: None })
    }

    /// The losses of all outputs that there are and the lessons between them, by the shares of the
    /// widths: their sum, and its gradients by the outputs, each over the share of its width.
    fn of_outputs(
        &self,
        ys: &[Option<ArrayView2<F>>],
        pass: &Pass<F>,
    ) -> Result<(F, Vec<Option<Array2<F>>>)> {
        let (task, batch) = (self.task, pass.batch);
        let mut gradients = Vec::with_capacity(ys.len());
        let mut losses = vec![F::zero(); ys.len()];
        for (k, y) in ys.iter().enumerate() {
            let Some(y) = y else {
                gradients.push(None);
                continue;
            };
            let (mut own, mut gradient) = task.loss(*y, batch)?;
            if let (true, Some(Some(narrower))) = (self.how.harder > 0.0, ys[..k].last()) {
                let (before, now) = (self.each(*narrower, batch)?, self.each(*y, batch)?);
                let weights = harder(&before, self.how.harder);
                let size = gradient.nrows() / weights.len().max(1);
                for (i, mut row) in gradient.rows_mut().into_iter().enumerate() {
                    row.mapv_inplace(|g| g * weights[i / size]);
                }
                let all = now.iter().zip(&weights).fold(F::zero(), |sum, (&l, &w)| sum + l * w);
                own = all / F::of(weights.len().max(1) as f64);
            }
            losses[k] = self.shares[k] * own;
            gradients.push(Some(gradient));
        }
        let (whole, narrow) = losses.split_last().expect("the whole is among them");
        let mut value = narrow.iter().fold(*whole, |sum, &loss| sum + loss);
        let Some((way @ (Lessons::Scores | Lessons::Mutual), weight)) = self.how.lessons else {
            return Ok((value, gradients));
        };
        for k in 0..ys.len() - 1 {
            let (Some(narrower), Some(wider)) = (&ys[k], &ys[k + 1]) else { continue };
            let mutual = way == Lessons::Mutual;
            let Lesson { value: off, narrower, wider } =
                lesson(*narrower, *wider, (task, batch), mutual);
            let weight = F::of(weight) * self.shares[k];
            value += weight * off;
            for (k, part) in [(k, Some(narrower)), (k + 1, wider)] {
                if let (Some(gradient), Some(part)) = (&mut gradients[k], part) {
                    gradient.scaled_add(weight / self.shares[k], &part);
                }
            }
        }
        Ok((value, gradients))
    }

    /// The loss of each query by itself.
    fn each(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<Vec<F>> {
        let problem = "says nothing of the losses of single queries, which tell what is hard";
        self.task.losses(y, batch)?.ok_or_else(|| Error::data(self.task.name(), problem))
    }

    /// Has the whole model answer again, where it is time to.
    fn ask(&mut self, pass: &Pass<F>) -> Result<()> {
        let Some((Lessons::Rankings(ranked), _)) = self.how.lessons else { return Ok(()) };
        let last = (pass.epoch - 1) / ANSWERS_EVERY * ANSWERS_EVERY;
        if last > 0 && self.first.as_ref().is_none_or(|(epoch, _)| *epoch != last) {
            let first = FirstAnswers::of(pass.model, self.task, ranked, self.seed)?;
            self.first = Some((last, first));
        }
        Ok(())
    }

    /// Adds what a prefix learns of the answers of the whole.
    fn by_rankings(&self, k: usize, pass: &Pass<F>, sum: &mut Grads<F>) -> Result<F> {
        let (Some((Lessons::Rankings(ranked), weight)), Some((_, first))) =
            (self.how.lessons, &self.first)
        else {
            return Ok(F::zero());
        };
        let (narrow, weight) = (&self.narrow[k], F::of(weight) * self.shares[k]);
        let (value, grads) = first.objective(
            (&narrow.model, pass.batch),
            (pass.mode, pass.memory),
            self.task,
            &self.pool,
            (ranked, self.steps),
            |scores| Ok(relaxed_ranking(scores, ranked.best)),
        )?;
        narrow.add_to(sum, &grads, pass.model, weight);
        Ok(weight * value)
    }
}

impl<F: Scalar> Loss<F> for OfPrefixes<'_, F> {
    fn loss(&mut self, pass: &Pass<F>) -> Result<Objective<F>> {
        let Pass { model, trace, batch, mode, memory, .. } = *pass;
        let count = self.narrow.len() + 1;
        self.steps += 1;
        let one = hash(self.seed, &[purpose::PREFIX, self.steps]) % count as u64;
        // A draw of 0 is the whole, and k the k-th prefix.
        let trains = |k: usize| !self.how.drawn || one == k as u64;
        self.ask(pass)?;
        let cx = batch.on(&self.pool).with_mode(mode).with_memory(memory);
        let mut traces = Vec::with_capacity(count - 1);
        for (k, narrow) in self.narrow.iter_mut().enumerate() {
            traces.push(match trains(k + 1) {
                true => {
                    narrow.read(model);
                    Some(narrow.model.trace(&cx, batch.features())?)
                }
                false => None,
            });
        }
        let mut ys: Vec<_> = traces.iter().map(|t| t.as_ref().map(|t| t.output())).collect();
        ys.push(trains(0).then(|| trace.output()));
        let (value, mut gradients) = self.of_outputs(&ys, pass)?;
        let whole = gradients.pop().flatten();
        let nodes = whole.map(|gradient| (model.output(), gradient * self.shares[count - 1]));
        let mut objective = Objective::new(value, nodes.into_iter().collect());
        let mut params = Grads::new(0);
        for (k, (trace, gradient)) in traces.into_iter().zip(gradients).enumerate() {
            let (Some(trace), Some(gradient)) = (trace, gradient) else { continue };
            let own = &self.narrow[k].model;
            let grads = own.backward(&cx, trace, vec![(own.output(), gradient)])?;
            self.narrow[k].add_to(&mut params, &grads, model, self.shares[k]);
            objective.value += self.by_rankings(k, pass, &mut params)?;
        }
        Ok(objective.with_params(params))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Triples;
    use crate::models::{Links, Scored};
    use crate::nn::{Form, Memory, Mode};
    use crate::task::{Candidates, LinkTask, Part, Ranked};
    use crate::train::Pass;
    use ndarray::s;

    /// Step of central differences in f64, and what they may show.
    const STEP: f64 = 1e-5;
    const EXACT: f64 = 1e-8;

    fn task(alone: bool) -> LinkTask<f64> {
        let fact = |k: u32| [k % 20, k % 2, (k * 3 + 1) % 20];
        let parts = [0..14, 14..17, 17..20].map(|range: std::ops::Range<u32>| range.map(fact));
        let [train, valid, test] = parts.map(Iterator::collect);
        let facts = Triples::new("facts", 20, 2, train, valid, test).unwrap();
        let task = LinkTask::builder(facts).candidates(Candidates::Sampled(4)).tables_alone(alone);
        task.batch(6).build().unwrap().cast()
    }

    fn objective(
        prefixes: &Prefixes,
        model: &Model<f64>,
        task: &LinkTask<f64>,
    ) -> (f64, Grads<f64>) {
        answered(prefixes, model, model, task)
    }

    /// The objective of one batch, and its gradient by all parameters, where `whole` has answered
    /// what is learnt by rankings.
    fn answered(
        prefixes: &Prefixes,
        model: &Model<f64>,
        whole: &Model<f64>,
        task: &LinkTask<f64>,
    ) -> (f64, Grads<f64>) {
        let batches = task.batches(Part::Train, 1).unwrap();
        let batch = batches.epoch(1).next().unwrap().unwrap();
        let pool = Cx::without_graph();
        let mode = Mode::Train { seed: 0, step: 1 };
        let cx = batch.on(&pool).with_mode(mode);
        let trace = model.trace(&cx, batch.features()).unwrap();
        let mut lesson = OfPrefixes::new(prefixes, model, task).unwrap();
        lesson.seed = 3;
        if let Some((Lessons::Rankings(ranked), _)) = prefixes.lessons {
            lesson.first = Some((0, FirstAnswers::of(whole, task, ranked, 3).unwrap()));
        }
        let pass =
            Pass { model, trace: &trace, batch: &batch, epoch: 1, mode, memory: Memory::Whole };
        let Objective { value, nodes, params } = lesson.loss(&pass).unwrap();
        let mut grads = model.backward(&cx, trace, nodes).unwrap();
        params.iter().for_each(|params| grads.add_scaled(params, 1.0));
        (value, grads)
    }

    /// Gradients are the slopes of `value` by every parameter.
    fn check_slopes_of(
        grads: &Grads<f64>,
        model: &Model<f64>,
        what: &str,
        value: impl Fn(&Model<f64>) -> f64,
    ) {
        let (mut ids, mut shapes) = (Vec::new(), Vec::new());
        model.visit(&mut |_, param| {
            ids.push(param.id());
            shapes.push(param.value().dim());
        });
        for (k, &(rows, cols)) in shapes.iter().enumerate() {
            for (i, j) in (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j))) {
                let moved = |step: f64| {
                    let (mut moved, mut at) = (model.clone(), 0);
                    moved.visit_mut(&mut |param| {
                        if at == k {
                            param.value_mut()[[i, j]] += step;
                        }
                        at += 1;
                    });
                    value(&moved)
                };
                let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                let found = grads.get(ids[k]).map_or(0.0, |gradient| gradient[[i, j]]);
                assert!((found - slope).abs() < EXACT, "{what} {k} {i} {j}: {found} {slope}");
            }
        }
    }

    fn check_slopes(prefixes: &Prefixes, model: &Model<f64>, task: &LinkTask<f64>) {
        let of = |moved: &Model<f64>| answered(prefixes, moved, model, task);
        check_slopes_of(&of(model).1, model, &prefixes.to_string(), |moved| of(moved).0);
    }

    fn model_of(form: Form) -> Model<f64> {
        let model = Links::builder(20, 2).channels(8).scored(Scored::By(form)).deviation(0.5);
        model.build(5).unwrap().cast::<f64>().unwrap()
    }

    #[test]
    fn gradients_of_all_prefixes_are_those_of_differences() {
        let both = Prefixes::new([2, 4]).unwrap();
        for (form, alone) in [(Form::ComplEx, true), (Form::DistMult, false)] {
            for prefixes in [
                both.clone(),
                Prefixes::new([4]).unwrap().drawn(),
                both.clone().balance(-2.0).unwrap(),
                both.clone().balance(1.0).unwrap().lessons(Lessons::Mutual, 0.7).unwrap(),
                both.clone().lessons(Lessons::Rankings(Ranked::new(3, 4)), 0.7).unwrap(),
            ] {
                check_slopes(&prefixes, &model_of(form), &task(alone));
            }
        }
    }

    #[test]
    fn lessons_of_scores_teach_the_narrower_alone() {
        let (model, task) = (model_of(Form::ComplEx), task(true));
        let plain = Prefixes::new([4]).unwrap();
        let by = |lessons| plain.clone().lessons(lessons, 0.7).unwrap();
        let all = [plain.clone(), by(Lessons::Scores), by(Lessons::Mutual)];
        let all = all.map(|prefixes| objective(&prefixes, &model, &task));
        assert!(all[1].0 > all[0].0);
        assert!((all[1].0 - all[2].0).abs() < EXACT);
        let table = model.params().next().unwrap().1.id();
        let [plain, scores, mutual] = all.map(|(_, grads)| grads.get(table).unwrap().clone());
        // What the narrower has not is the wider's alone.
        assert_eq!(plain.slice(s![.., 4..]), scores.slice(s![.., 4..]));
        assert_ne!(plain.slice(s![.., ..4]), scores.slice(s![.., ..4]));
        assert_ne!(plain.slice(s![.., 4..]), mutual.slice(s![.., 4..]));
        // Scores are sums over channels: the two ways cancel on those that both have.
        for (a, b) in plain.slice(s![.., ..4]).iter().zip(mutual.slice(s![.., ..4])) {
            assert!((a - b).abs() < EXACT, "{a} {b}");
        }
    }

    #[test]
    fn what_a_narrower_width_has_not_learnt_weighs_more_in_the_next() {
        let (model, task) = (model_of(Form::DistMult), task(false));
        let prefixes = Prefixes::new([4]).unwrap().harder(0.8).unwrap();
        let batch = task.batches(Part::Train, 1).unwrap().epoch(1).next().unwrap().unwrap();
        let losses = |model: &Model<f64>| {
            let y = model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap();
            task.losses(y.view(), &batch).unwrap().unwrap()
        };
        let cut = |model: &Model<f64>| {
            losses(&ChannelPlan::prefix(model, 4).unwrap().shrink(model).unwrap())
        };
        let weights = harder(&cut(&model), 0.8);
        let by_hand = |model: &Model<f64>| {
            let (narrow, whole) = (cut(model), losses(model));
            let all = narrow.iter().zip(&whole).zip(&weights).map(|((n, l), w)| n + w * l);
            all.sum::<f64>() / (2 * whole.len()) as f64
        };
        let (value, grads) = objective(&prefixes, &model, &task);
        assert!((value - by_hand(&model)).abs() < EXACT);
        check_slopes_of(&grads, &model, "hard examples", by_hand);
    }

    #[test]
    fn prefixes_that_cannot_be_are_refused() {
        let model = Links::builder(20, 2).channels(8).scored(Scored::By(Form::ComplEx));
        let model = model.build(5).unwrap();
        let refused = |widths: &[usize]| {
            let made = Prefixes::new(widths).and_then(|prefixes| prefixes.check(&model));
            made.unwrap_err().to_string()
        };
        assert!(refused(&[]).contains("at least one"));
        assert!(refused(&[0, 2]).contains("at least 1"));
        assert!(refused(&[2, 2]).contains("once"));
        assert!(refused(&[3]).contains("multiple of 2"));
        assert!(refused(&[8]).contains("less than the whole"));
        let task = task(true);
        let both = Prefixes::new([2, 4]).unwrap();
        let drawn = both.clone().drawn().balance(1.0).unwrap().check_task(&task).unwrap_err();
        assert!(drawn.to_string().contains("without lessons"), "{drawn}");
        let few = both.clone().lessons(Lessons::rankings(), 1.0).unwrap();
        assert!(few.check_task(&task).unwrap_err().to_string().contains("reads 80"));
        let nodes = crate::Dataset::sbm(200, 2).features(4).build().unwrap();
        let hard = both.clone().harder(1.0).unwrap().check_task(&nodes).unwrap_err();
        assert!(hard.to_string().contains("told by rankings"), "{hard}");
        assert!(both.clone().lessons(Lessons::Scores, 0.0).is_err());
        assert!(both.clone().harder(-1.0).is_err() && both.clone().harder(f64::NAN).is_err());
        assert!(both.balance(f64::INFINITY).is_err());
        assert!(refused(&[10]).contains("from 1 to 8"));
        let norm = crate::Gcn::builder(4, 2).norm(crate::models::Normalization::Batch);
        let norm = norm.hidden(8).build(0).unwrap();
        let error = Prefixes::new([4]).unwrap().check(&norm).unwrap_err().to_string();
        assert!(error.contains("batch norm"), "{error}");
    }
}
