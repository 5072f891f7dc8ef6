//! Distillation where pairs or graphs are asked about: batch by batch, as the task draws them.

use super::embedded::{Embedded, Pull, right_pairs, scored};
use super::signals::mismatch;
use super::{DistillLoss, Signals};
use crate::error::{Error, Result};
use crate::nn::{Cx, Grads, Model, NodeId};
use crate::scalar::Scalar;
use crate::task::{Batch, FirstAnswers, Task, rankings};
use crate::train::{Loss, Objective, Pass};
use ndarray::{Array2, ArrayView2};
use std::sync::Arc;

/// What one student learns from one teacher.
pub(super) struct ByBatch<'a, F: Scalar> {
    /// The weight of the task's own loss.
    labels: F,
    losses: Vec<(F, Box<dyn DistillLoss<F>>)>,
    teacher: &'a Model<F>,
    task: &'a dyn Task<F>,
    pool: Cx<'static, F>,
    /// Where a loss reads rankings.
    first: Option<FirstAnswers>,
    /// The nodes whose rows student and teacher score, where a loss reads those.
    scored: Option<[NodeId; 2]>,
    steps: u64,
}

impl<'a, F: Scalar> ByBatch<'a, F> {
    /// The losses as they start, each with its weight.
    ///
    /// # Errors
    /// As [`FirstAnswers::of`], where a loss reads rankings.
    pub(super) fn new(
        labels: F,
        losses: Vec<(F, Box<dyn DistillLoss<F>>)>,
        student: &Model<F>,
        teacher: &'a Model<F>,
        task: &'a dyn Task<F>,
    ) -> Result<Self> {
        let read = losses.iter().filter_map(|(_, loss)| loss.reads_rankings());
        let longest = read.max_by_key(|ranked| ranked.best);
        let first = longest.map(|ranked| FirstAnswers::of(teacher, task, ranked, student.seed()));
        let (first, pool) = (first.transpose()?, Cx::without_graph());
        let scored = match losses.iter().any(|(_, loss)| loss.reads_embeddings()) {
            true => Some([scored(student, task)?, scored(teacher, task)?]),
            false => None,
        };
        Ok(Self { labels, losses, teacher, task, pool, first, scored, steps: 0 })
    }
}

/// A row for each example: the classes of a graph, the candidates of a query. A score that stands
/// alone says yes or no, and is one of two logits, the other being 0.
fn rows_of<F: Scalar>(y: ArrayView2<F>, batch: &Batch<F>) -> Array2<F> {
    let Some(asked) = batch.spaces().asked() else { return y.to_owned() };
    match asked.count() {
        1 => Array2::from_shape_fn(
            (y.nrows(), 2),
            |(k, side)| {
                if side == 0 { y[[k, 0]] } else { F::zero() }
            },
        ),
        count => {
            let scores: Vec<F> = y.iter().copied().collect();
            Array2::from_shape_vec((asked.queries().len(), count), scores)
                .expect("a score for each pair")
        }
    }
}

/// The way back of [`rows_of`], of gradients.
fn as_put_out<F: Scalar>(
    gradient: Array2<F>,
    shape: (usize, usize),
    batch: &Batch<F>,
) -> Array2<F> {
    match batch.spaces().asked() {
        None => gradient,
        Some(asked) if asked.count() == 1 => {
            Array2::from_shape_fn(shape, |(k, _)| gradient[[k, 0]])
        }
        Some(_) => Array2::from_shape_vec(shape, gradient.into_iter().collect())
            .expect("a gradient for each pair"),
    }
}

impl<F: Scalar> Loss<F> for ByBatch<'_, F> {
    fn loss(&mut self, pass: &Pass<F>) -> Result<Objective<F>> {
        let Pass { model, trace, batch, .. } = *pass;
        let y = trace.output();
        let mut objective = Objective::new(F::zero(), Vec::new());
        if self.labels != F::zero() {
            let (value, gradient) = self.task.loss(y, batch)?;
            objective.value += self.labels * value;
            objective.nodes.push((model.output(), gradient * self.labels));
        }
        self.steps += 1;
        self.by_rankings(pass, &mut objective)?;
        self.by_embeddings(pass, &mut objective)?;
        self.by_rows(pass, &mut objective)?;
        Ok(objective)
    }

    fn keeps(&self) -> &[NodeId] {
        self.scored.as_ref().map_or(&[], |[own, _]| std::slice::from_ref(own))
    }
}

impl<F: Scalar> ByBatch<'_, F> {
    /// Adds the losses that read rankings.
    fn by_rankings(&self, pass: &Pass<F>, objective: &mut Objective<F>) -> Result<()> {
        let Some(first) = &self.first else { return Ok(()) };
        for (weight, loss) in &self.losses {
            let Some(ranked) = loss.reads_rankings() else { continue };
            let (value, grads) = first.objective(
                (pass.model, pass.batch),
                (pass.mode, pass.memory),
                self.task,
                &self.pool,
                (ranked, self.steps),
                |scores| loss.of_rankings(scores),
            )?;
            objective.value += *weight * value;
            objective.params.get_or_insert_with(|| Grads::new(0)).add_scaled(&grads, *weight);
        }
        Ok(())
    }

    /// Adds the losses that read the rows that scores are made of.
    fn by_embeddings(&mut self, pass: &Pass<F>, objective: &mut Objective<F>) -> Result<()> {
        let Pass { model, trace, batch, epoch, .. } = *pass;
        let Some([own, theirs]) = self.scored else { return Ok(()) };
        let right = right_pairs(batch, self.task)?;
        let asked = batch.spaces().asked().expect("its pairs are right or not");
        let cx = batch.on(&self.pool);
        let said = self.teacher.trace_keeping(&cx, batch.features(), &[theirs])?;
        let rows = |trace: &crate::nn::Trace<F>, id| trace.value(id).map(|rows| rows.to_dense());
        let mine = rows(trace, own).expect("the student's rows are kept");
        let other = rows(&said, theirs).expect("the teacher's rows are kept");
        let mut scores = said.output().into_iter().chain(&other);
        if let Some(value) = scores.find(|value| !value.is_finite()) {
            let at = "the teacher's rows or scores for a batch".into();
            return Err(Error::NotFinite { at, value: value.as_f64() });
        }
        let scores = [trace.output(), said.output()].map(|y| y.iter().copied().collect::<Vec<F>>());
        let side = |rows, scores| {
            let names = batch.spaces().node_ids();
            Embedded { rows, scores, asked, right: &right, names, epoch }
        };
        let student = side(mine.view(), &scores[0]);
        let teacher = side(other.view(), &scores[1]);
        for (weight, loss) in self.losses.iter_mut().filter(|(_, loss)| loss.reads_embeddings()) {
            let Pull { value, rows, scores } = loss.of_embeddings(&student, &teacher)?;
            objective.value += *weight * value;
            objective.nodes.push((own, rows * *weight));
            if let Some(scores) = scores {
                let gradient = Array2::from_shape_vec(trace.output().dim(), scores);
                let gradient = gradient.expect("a gradient for each pair");
                objective.nodes.push((model.output(), gradient * *weight));
            }
        }
        Ok(())
    }

    /// Adds the losses that read the rows of the batch itself.
    fn by_rows(&mut self, pass: &Pass<F>, objective: &mut Objective<F>) -> Result<()> {
        let Pass { model, trace, batch, epoch, .. } = *pass;
        let y = trace.output();
        let of_rows = |(_, loss): &&mut (F, Box<dyn DistillLoss<F>>)| {
            loss.reads_rankings().is_none() && !loss.reads_embeddings()
        };
        if !self.losses.iter_mut().any(|loss| of_rows(&loss)) {
            return Ok(());
        }
        let said = self.teacher.infer(&batch.on(&self.pool), batch.features())?;
        if let Some(value) = said.iter().find(|value| !value.is_finite()) {
            let at = "the teacher's output for a batch".into();
            return Err(Error::NotFinite { at, value: value.as_f64() });
        }
        let (own, said_rows) = (rows_of(y, batch), rows_of(said.view(), batch));
        self.pool.give(said);
        let rows: Vec<u32> = match batch.spaces().asked() {
            Some(_) => (0..own.nrows() as u32).collect(),
            None => batch.rows().to_vec(),
        };
        let student = Signals::new(model.output(), own.view(), &[])?;
        let teacher = Signals::new(self.teacher.output(), said_rows.view(), &[])?;
        for (weight, loss) in self.losses.iter_mut().filter(of_rows) {
            loss.observe(&student, &teacher, &rows, epoch)?;
            let (value, nodes) = loss.loss(&student, &teacher, &rows)?;
            objective.value += *weight * value;
            for (node, gradient) in nodes {
                if node != model.output() {
                    return Err(refused(self.task, loss.name()));
                }
                let gradient = as_put_out(gradient * *weight, y.dim(), batch);
                objective.nodes.push((node, gradient));
            }
        }
        Ok(())
    }
}

fn refused<F: Scalar>(task: &dyn Task<F>, loss: &str) -> Error {
    let problem = format!(
        "asks about pairs or graphs, and `{loss}` compares more than rows of scores; soft labels do"
    );
    Error::data(task.name(), problem)
}

/// Refuses a student, a teacher, losses and a task that do not belong together.
pub(super) fn check<F: Scalar>(
    student: &Model<F>,
    teacher: &Model<F>,
    losses: &[(f64, Arc<dyn DistillLoss<F>>)],
    task: &dyn Task<F>,
    whole: &Batch<F>,
) -> Result<()> {
    for (_, loss) in losses {
        if loss.reads_embeddings() {
            right_pairs(whole, task)?;
            scored(student, task)?;
            scored(teacher, task)?;
            continue;
        }
        match loss.reads_rankings() {
            Some(ranked) => rankings(task, ranked).map(|_| ())?,
            None if !loss.reads_rows_alone() => return Err(refused(task, loss.name())),
            None => {}
        }
    }
    for (what, student, teacher) in [
        ("features", student.in_channels(), teacher.in_channels()),
        ("outputs", student.out_channels(), teacher.out_channels()),
    ] {
        if student != teacher {
            return Err(mismatch(&format!("{student} {what}"), &teacher.to_string()));
        }
    }
    let of_graphs = whole.spaces().graph_of_nodes().is_some();
    if of_graphs && student.seed() != teacher.seed() {
        let seed = |model: &Model<F>| format!("seed {} and its fold", model.seed());
        return Err(mismatch(&seed(student), &seed(teacher)));
    }
    if let (Some(origin), Some(own)) = (teacher.origin(), task.origin())
        && origin.nodes != own.nodes
    {
        let problem = format!(
            "has {} nodes, and the teacher was trained on {} (`{}`); take those",
            own.nodes, origin.nodes, origin.data
        );
        return Err(Error::data(task.name(), problem));
    }
    Ok(())
}
