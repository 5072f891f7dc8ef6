//! Training one model of which any prefix of the channels is a model, too.

use super::plan::ChannelPlan;
use crate::error::{Error, Result};
use crate::nn::{Cx, Grads, Model, Param};
use crate::rng::{hash, purpose};
use crate::scalar::Scalar;
use crate::task::Task;
use crate::train::{Fit, Loss, Objective, OnEpoch, Pass, Setup, Trainer};
use ndarray::{Array2, Axis};

/// Trains a model so that its first channels do by themselves: with widths `w_1 < … < w_p` below
/// its own, a step minimises `1/(p+1)·(L + Σ_k L_{w_k})`, where `L_w` is the loss of the task on
/// the model that [`ChannelPlan::prefix`] leaves of it. Or, after [`Prefixes::drawn`], the loss of
/// one of these `p + 1` models, which is drawn for each batch.
///
/// Afterwards `ChannelPlan::prefix(&model, w)?.shrink(&model)?` is the model of width `w`, without
/// any further training. The epoch is chosen by the metric of the whole model.
///
/// *Source*: Kusupati et al., "Matryoshka representation learning", NeurIPS 2022, eq. 1, with equal
/// weights; for tables of entities Zhu et al., "Croppable knowledge graph embedding",
/// arXiv 2407.02779, without its distillation between the widths.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefixes {
    widths: Vec<usize>,
    drawn: bool,
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
            _ => Ok(Self { widths, drawn: false }),
        }
    }

    /// Draws one of the widths, the whole model's among them, for each batch, instead of training
    /// on the mean of all.
    #[must_use]
    pub fn drawn(self) -> Self {
        Self { drawn: true, ..self }
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
        let narrow = self.narrowed(&model)?;
        let seed = model.seed();
        let (pool, steps) = (Cx::without_graph(), 0);
        let mut lesson = OfPrefixes { narrow, drawn: self.drawn, task, pool, seed, steps };
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
        f.write_str(if self.drawn { ", one drawn for each batch" } else { "" })
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
    narrow: Vec<Narrow<F>>,
    drawn: bool,
    task: &'a dyn Task<F>,
    pool: Cx<'static, F>,
    seed: u64,
    steps: u64,
}

impl<F: Scalar> Loss<F> for OfPrefixes<'_, F> {
    fn loss(&mut self, pass: &Pass<F>) -> Result<Objective<F>> {
        let Pass { model, trace, batch, mode, memory, .. } = *pass;
        let count = self.narrow.len() + 1;
        self.steps += 1;
        let one = hash(self.seed, &[purpose::PREFIX, self.steps]) % count as u64;
        let trains = |k: usize| !self.drawn || one == k as u64;
        let weight = if self.drawn { F::one() } else { F::of(1.0 / count as f64) };
        let mut objective = Objective::new(F::zero(), Vec::new());
        if trains(0) {
            let (value, gradient) = self.task.loss(trace.output(), batch)?;
            objective.value += weight * value;
            objective.nodes.push((model.output(), gradient * weight));
        }
        let cx = batch.on(&self.pool).with_mode(mode).with_memory(memory);
        let mut params = Grads::new(0);
        for (k, narrow) in self.narrow.iter_mut().enumerate() {
            if !trains(k + 1) {
                continue;
            }
            narrow.read(model);
            let own = &narrow.model;
            let trace = own.trace(&cx, batch.features())?;
            let (value, gradient) = self.task.loss(trace.output(), batch)?;
            objective.value += weight * value;
            let grads = own.backward(&cx, trace, vec![(own.output(), gradient)])?;
            narrow.add_to(&mut params, &grads, model, weight);
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
    use crate::task::{Candidates, LinkTask, Part};
    use crate::train::Pass;

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

    fn lesson<'a>(
        prefixes: &Prefixes,
        model: &Model<f64>,
        task: &'a LinkTask<f64>,
    ) -> OfPrefixes<'a, f64> {
        let narrow = prefixes.narrowed(model).unwrap();
        let (pool, drawn) = (Cx::without_graph(), prefixes.drawn);
        OfPrefixes { narrow, drawn, task, pool, seed: 3, steps: 0 }
    }

    /// The objective of one batch, and its gradient by all parameters.
    fn objective(
        prefixes: &Prefixes,
        model: &Model<f64>,
        task: &LinkTask<f64>,
    ) -> (f64, Grads<f64>) {
        let batches = task.batches(Part::Train, 1).unwrap();
        let batch = batches.epoch(1).next().unwrap().unwrap();
        let pool = Cx::without_graph();
        let mode = Mode::Train { seed: 0, step: 1 };
        let cx = batch.on(&pool).with_mode(mode);
        let trace = model.trace(&cx, batch.features()).unwrap();
        let mut lesson = lesson(prefixes, model, task);
        let pass =
            Pass { model, trace: &trace, batch: &batch, epoch: 1, mode, memory: Memory::Whole };
        let Objective { value, nodes, params } = lesson.loss(&pass).unwrap();
        let mut grads = model.backward(&cx, trace, nodes).unwrap();
        params.iter().for_each(|params| grads.add_scaled(params, 1.0));
        (value, grads)
    }

    #[test]
    fn gradients_of_all_prefixes_are_those_of_differences() {
        for (form, alone) in [(Form::ComplEx, true), (Form::DistMult, false)] {
            let model = Links::builder(20, 2).channels(8).scored(Scored::By(form)).deviation(0.5);
            let model = model.build(5).unwrap().cast::<f64>().unwrap();
            let task = task(alone);
            for prefixes in [Prefixes::new([2, 4]).unwrap(), Prefixes::new([4]).unwrap().drawn()] {
                let (_, grads) = objective(&prefixes, &model, &task);
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
                            objective(&prefixes, &moved, &task).0
                        };
                        let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
                        let found = grads.get(ids[k]).map_or(0.0, |gradient| gradient[[i, j]]);
                        assert!(
                            (found - slope).abs() < EXACT,
                            "{prefixes} {k} {i} {j}: {found} {slope}"
                        );
                    }
                }
            }
        }
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
        assert!(refused(&[10]).contains("from 1 to 8"));
        let norm = crate::Gcn::builder(4, 2).norm(crate::models::Normalization::Batch);
        let norm = norm.hidden(8).build(0).unwrap();
        let error = Prefixes::new([4]).unwrap().check(&norm).unwrap_err().to_string();
        assert!(error.contains("batch norm"), "{error}");
    }
}
