//! Distillation: a student learns from the outputs of a trained teacher, on labelled or on all
//! nodes.
//!
//! A [`Distiller`] trains the student on `λ·L + (1 − λ)·Σ_k w_k·loss_k`, `L` being the loss of the
//! task; what the student imitates is a [`DistillLoss`], one a file. Where pairs or graphs are
//! asked about, it does so batch by batch. A student may be narrower, shallower or of another
//! kind: a multi-layer perceptron then needs no graph at inference.

mod adversarial;
mod by_batch;
mod distiller;
mod dual;
mod embedded;
mod experts;
mod input_gradients;
mod probe;
mod relaxed_ranking;
mod signals;
mod soft_labels;

pub use adversarial::{Adversarial, AdversarialBuilder};
pub use distiller::{Distiller, DistillerBuilder, Nodes};
pub use dual::DualDistances;
pub use embedded::{Embedded, Pull};
pub use experts::DistanceExperts;
pub use input_gradients::InputGradients;
pub use probe::Probe;
pub use relaxed_ranking::RelaxedRanking;
pub use signals::Signals;
pub use soft_labels::SoftLabels;

pub use crate::task::Ranked;

use crate::error::{Error, Result};
use crate::nn::Grads;
use crate::scalar::Scalar;
use crate::train::NodeGrads;
use ndarray::{Array2, ArrayView2};
use std::sync::Arc;

/// What a student imitates of its teacher: a value and its gradients; anyone may add one.
///
/// In every epoch [`observe`](Self::observe) comes first, then [`loss`](Self::loss) and
/// [`direct`](Self::direct), whose values and gradients add up.
///
/// Half the squared distance of the logits, in the mean over rows:
///
/// ```
/// use gnn_prune::distill::{DistillLoss, Signals};
/// use gnn_prune::train::NodeGrads;
/// use gnn_prune::{Distiller, Result, Scalar};
///
/// struct Distance;
///
/// impl<F: Scalar> DistillLoss<F> for Distance {
///     fn name(&self) -> &'static str {
///         "distance"
///     }
///
///     fn start(&self, _: u64) -> Box<dyn DistillLoss<F>> {
///         Box::new(Distance)
///     }
///
///     fn loss(&self, student: &Signals<F>, teacher: &Signals<F>, rows: &[u32]) -> Result<(F, NodeGrads<F>)> {
///         let mut gradient = gnn_prune::ndarray::Array2::zeros(student.logits().dim());
///         let (mut total, share) = (F::zero(), F::of(1.0 / rows.len().max(1) as f64));
///         for &row in rows {
///             let away = &student.logits().row(row as usize) - &teacher.logits().row(row as usize);
///             total += away.dot(&away) * share / F::of(2.0);
///             gradient.row_mut(row as usize).assign(&(away * share));
///         }
///         Ok((total, vec![(student.output(), gradient)]))
///     }
/// }
///
/// let distiller = Distiller::builder(Distance).epochs(100).build()?;
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub trait DistillLoss<F: Scalar>: Send + Sync {
    /// The loss's name in reports.
    fn name(&self) -> &'static str;

    /// All that its value depends on beside what it is shown, in one line: what a run that goes on
    /// is compared by. Default: the name.
    fn settings(&self) -> String {
        self.name().into()
    }

    /// The loss with fresh state for one student; what is random in it follows `seed`.
    fn start(&self, seed: u64) -> Box<dyn DistillLoss<F>>;

    /// The loss over `rows`, and its gradients by the values of some of the student's nodes.
    ///
    /// *Shapes*: each gradient has its node's, `[n, channels]`, and is zero where the loss does not
    /// look.
    ///
    /// # Errors
    /// Signals of student and teacher that do not match.
    fn loss(
        &self,
        student: &Signals<F>,
        teacher: &Signals<F>,
        rows: &[u32],
    ) -> Result<(F, NodeGrads<F>)>;

    /// What no gradient by a node's value expresses: a value, and its gradients by the student's
    /// parameters. `None`: there is none.
    ///
    /// # Errors
    /// Models that do not match, and what they refuse.
    fn direct(
        &self,
        _student: &Probe<F>,
        _teacher: &Probe<F>,
        _rows: &[u32],
    ) -> Result<Option<(F, Grads<F>)>> {
        Ok(None)
    }

    /// Whether it compares rows of scores alone, whatever they are of, and has no part in
    /// [`DistillLoss::direct`]: then a student may imitate its teacher where pairs or graphs are
    /// asked about, a row being the candidates of a query or the classes of a graph, and nothing is
    /// known of labels. Default: no.
    fn reads_rows_alone(&self) -> bool {
        false
    }

    /// What it reads of the rankings of teacher and student, where it reads those and no outputs of
    /// a batch: then [`DistillLoss::of_rankings`] stands in the place of [`DistillLoss::loss`].
    /// Default: nothing.
    fn reads_rankings(&self) -> Option<Ranked> {
        None
    }

    /// The loss of the student's scores of the lists that [`DistillLoss::reads_rankings`] asks for,
    /// and its gradient by them.
    ///
    /// *Shapes*: scores and gradient `[queries, best + others]`: of each query of a batch, once,
    /// the teacher's first answers in its order, without those that are known in training, then
    /// the drawn others.
    ///
    /// # Errors
    /// Scores of another shape; by default always, since it reads none.
    fn of_rankings(&self, scores: ArrayView2<F>) -> Result<(F, Array2<F>)> {
        let found = format!("{} of them by `{}`", scores.ncols(), self.name());
        Err(Error::setting("scores of rankings", found, "a loss that reads rankings"))
    }

    /// Whether it reads the rows that scores are made of, where it reads those and no outputs
    /// alone: then [`DistillLoss::of_embeddings`] stands in the place of [`DistillLoss::loss`].
    /// Default: no.
    fn reads_embeddings(&self) -> bool {
        false
    }

    /// The loss of a batch of a task that ranks, by the rows of both models and their scores, and
    /// its gradients by the student's. It may learn from what it sees.
    ///
    /// # Errors
    /// Rows that it cannot compare; by default always, since it reads none.
    fn of_embeddings(&mut self, student: &Embedded<F>, _teacher: &Embedded<F>) -> Result<Pull<F>> {
        let found = format!("{} of them by `{}`", student.rows().nrows(), self.name());
        Err(Error::setting("rows of scores", found, "a loss that reads them"))
    }

    /// Lets the loss learn from what it sees at `epoch`, counted from 1.
    ///
    /// # Errors
    /// Signals of student and teacher that do not match.
    fn observe(
        &mut self,
        _student: &Signals<F>,
        _teacher: &Signals<F>,
        _rows: &[u32],
        _epoch: usize,
    ) -> Result<()> {
        Ok(())
    }
}

/// One that is shared, or chosen at run time.
impl<F: Scalar, L: DistillLoss<F> + ?Sized> DistillLoss<F> for Arc<L> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn settings(&self) -> String {
        (**self).settings()
    }

    fn start(&self, seed: u64) -> Box<dyn DistillLoss<F>> {
        (**self).start(seed)
    }

    /// That of the loss itself; one with state is used through [`DistillLoss::start`].
    fn loss(
        &self,
        student: &Signals<F>,
        teacher: &Signals<F>,
        rows: &[u32],
    ) -> Result<(F, NodeGrads<F>)> {
        (**self).loss(student, teacher, rows)
    }

    fn direct(
        &self,
        student: &Probe<F>,
        teacher: &Probe<F>,
        rows: &[u32],
    ) -> Result<Option<(F, Grads<F>)>> {
        (**self).direct(student, teacher, rows)
    }

    fn reads_rows_alone(&self) -> bool {
        (**self).reads_rows_alone()
    }

    fn reads_rankings(&self) -> Option<Ranked> {
        (**self).reads_rankings()
    }

    fn of_rankings(&self, scores: ArrayView2<F>) -> Result<(F, Array2<F>)> {
        (**self).of_rankings(scores)
    }

    fn reads_embeddings(&self) -> bool {
        (**self).reads_embeddings()
    }
}

/// One that is chosen at run time.
impl<F: Scalar, L: DistillLoss<F> + ?Sized> DistillLoss<F> for Box<L> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn settings(&self) -> String {
        (**self).settings()
    }

    fn start(&self, seed: u64) -> Box<dyn DistillLoss<F>> {
        (**self).start(seed)
    }

    fn loss(
        &self,
        student: &Signals<F>,
        teacher: &Signals<F>,
        rows: &[u32],
    ) -> Result<(F, NodeGrads<F>)> {
        (**self).loss(student, teacher, rows)
    }

    fn direct(
        &self,
        student: &Probe<F>,
        teacher: &Probe<F>,
        rows: &[u32],
    ) -> Result<Option<(F, Grads<F>)>> {
        (**self).direct(student, teacher, rows)
    }

    fn reads_rows_alone(&self) -> bool {
        (**self).reads_rows_alone()
    }

    fn reads_rankings(&self) -> Option<Ranked> {
        (**self).reads_rankings()
    }

    fn of_rankings(&self, scores: ArrayView2<F>) -> Result<(F, Array2<F>)> {
        (**self).of_rankings(scores)
    }

    fn reads_embeddings(&self) -> bool {
        (**self).reads_embeddings()
    }

    fn of_embeddings(&mut self, student: &Embedded<F>, teacher: &Embedded<F>) -> Result<Pull<F>> {
        (**self).of_embeddings(student, teacher)
    }

    fn observe(
        &mut self,
        student: &Signals<F>,
        teacher: &Signals<F>,
        rows: &[u32],
        epoch: usize,
    ) -> Result<()> {
        (**self).observe(student, teacher, rows, epoch)
    }
}
