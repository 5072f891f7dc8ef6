//! A task that trains on another graph than the one on which it is judged.

use super::{Batch, Batches, Metric, Part, Rankings, Tally, Task};
use crate::data::Dataset;
use crate::error::Result;
use crate::graph::Graph;
use crate::nn::{Model, Origin};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};

/// A task whose training part is on other edges between the same nodes; validation, test and all
/// that runs on everything are on its own graph, which is what is served.
///
/// ```
/// use gnn_prune::prune::Dspar;
/// use gnn_prune::task::TrainedOn;
/// use gnn_prune::{Dataset, Gcn, Trainer};
/// let data = Dataset::sbm(300, 3).features(8).build()?;
/// let thin = Dspar::new(0.5)?.sample(data.graph(), 0)?.into_graph();
/// let model = Gcn::builder(8, 3).hidden(16).build(0)?;
/// let trainer = Trainer::builder().epochs(5).build()?;
/// let model = trainer.fit(model, &TrainedOn::new(&data, thin)?)?;
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct TrainedOn<'a, F: Scalar> {
    task: &'a dyn Task<F>,
    training: Box<dyn Task<F> + 'a>,
}

impl<'a, F: Scalar> TrainedOn<'a, F> {
    /// `task`, whose training part is on `graph`.
    ///
    /// # Errors
    /// As [`Task::with_graph`].
    pub fn new(task: &'a dyn Task<F>, graph: Graph<F>) -> Result<Self> {
        Ok(Self { task, training: task.with_graph(graph)? })
    }
}

impl<F: Scalar> Task<F> for TrainedOn<'_, F> {
    fn name(&self) -> &str {
        self.task.name()
    }

    fn data(&self) -> &Dataset<F> {
        self.task.data()
    }

    fn whole(&self) -> Result<Batch<F>> {
        self.task.whole()
    }

    fn settings(&self) -> String {
        let edges = self.training.data().graph().num_edges();
        format!("{}, trained on {edges} edges", self.task.settings())
    }

    fn chooses(&self) -> bool {
        self.task.chooses()
    }

    fn inputs(&self) -> usize {
        self.task.inputs()
    }

    fn outputs(&self) -> usize {
        self.task.outputs()
    }

    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, F>> {
        match part {
            Part::Train => self.training.batches(part, seed),
            _ => self.task.batches(part, seed),
        }
    }

    fn loss(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<(F, Array2<F>)> {
        self.training.loss(y, batch)
    }

    fn losses(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<Option<Vec<F>>> {
        self.training.losses(y, batch)
    }

    fn rankings(&self) -> Option<Rankings> {
        self.training.rankings()
    }

    fn metric(&self) -> Metric {
        self.task.metric()
    }

    fn judge(&self, y: ArrayView2<F>, batch: &Batch<F>, tally: &mut Tally) -> Result<()> {
        self.task.judge(y, batch, tally)
    }

    fn origin(&self) -> Option<Origin> {
        self.task.origin()
    }

    fn check(&self, model: &Model<F>) -> Result<()> {
        self.task.check(model)
    }
}
