//! What a training step minimises.

use crate::error::Result;
use crate::nn::{Grads, Memory, Mode, Model, NodeId, Trace};
use crate::scalar::Scalar;
use crate::task::{Batch, Task};
use ndarray::Array2;

/// Gradients of a loss by the values of some nodes, each of its node's shape `[n, channels]`; those
/// of one node add up.
pub type NodeGrads<F> = Vec<(NodeId, Array2<F>)>;

/// What a loss makes of one forward pass: its value and its gradients.
///
/// `(value, nodes).into()` is one without gradients by the parameters.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Objective<F: Scalar> {
    /// The value of the loss.
    pub value: F,
    /// Its gradients by the values of some nodes.
    pub nodes: NodeGrads<F>,
    /// Gradients by the parameters that no node's value carries; they are added to what the others
    /// give.
    pub params: Option<Grads<F>>,
}

impl<F: Scalar> Objective<F> {
    /// A value with its gradients by the values of some nodes.
    pub fn new(value: F, nodes: NodeGrads<F>) -> Self {
        Self { value, nodes, params: None }
    }

    /// The same, with gradients by the parameters that no node's value carries.
    #[must_use]
    pub fn with_params(self, params: Grads<F>) -> Self {
        Self { params: Some(params), ..self }
    }
}

impl<F: Scalar> From<(F, NodeGrads<F>)> for Objective<F> {
    fn from((value, nodes): (F, NodeGrads<F>)) -> Self {
        Self::new(value, nodes)
    }
}

/// A forward pass in training mode, as losses and observers see it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Pass<'a, 'x, F: Scalar> {
    /// The model that ran: what the view made of it, where there is one.
    pub model: &'a Model<F>,
    /// Its values.
    pub trace: &'a Trace<'x, F>,
    /// What it ran on.
    pub batch: &'a Batch<F>,
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// What dropout followed; a loss that runs the model once more does so in it.
    pub mode: Mode,
    /// How its trace keeps maps; a loss that runs the model once more does so, too.
    pub memory: Memory,
}

/// What one training step minimises: its value, and its gradients by the values of some nodes, or
/// by the parameters themselves.
pub trait Loss<F: Scalar> {
    /// The loss after a forward pass in training mode.
    ///
    /// # Errors
    /// What its own computation refuses.
    fn loss(&mut self, pass: &Pass<F>) -> Result<Objective<F>>;

    /// Nodes whose values [`Loss::loss`] reads of the trace, beside the output. Default: none.
    fn keeps(&self) -> &[NodeId] {
        &[]
    }
}

/// Any closure that gives a value and the gradients by some nodes is a loss.
impl<F: Scalar, T> Loss<F> for T
where
    T: FnMut(&Pass<F>) -> Result<(F, NodeGrads<F>)>,
{
    fn loss(&mut self, pass: &Pass<F>) -> Result<Objective<F>> {
        self(pass).map(Objective::from)
    }
}

/// The loss of a task on a model's output.
pub(super) struct OfTask<'a, F: Scalar>(pub &'a dyn Task<F>);

impl<F: Scalar> Loss<F> for OfTask<'_, F> {
    fn loss(&mut self, pass: &Pass<F>) -> Result<Objective<F>> {
        let (value, gradient) = self.0.loss(pass.trace.output(), pass.batch)?;
        Ok((value, vec![(pass.model.output(), gradient)]).into())
    }
}
