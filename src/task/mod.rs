//! Tasks: what is asked of a model, on which rows, by which loss and which metric.
//!
//! | part | what it is |
//! |---|---|
//! | [`Task`] | outputs, parts, batches, loss and metric: all that training and measuring ask for |
//! | [`Batch`] | what one forward pass runs on, and which rows of its output count |
//! | [`Metric`], [`Tally`] | what is measured, and how it adds up over batches |
//! | [`NodeTask`] | classes, several labels or numbers of the nodes of one graph |
//! | [`GraphTask`], [`Folds`] | classes of graphs, and the folds of a cross-validation |
//! | [`Sampled`], [`Sampler`] | the same, learnt by mini-batches: neighbours, walks, clusters |
//! | [`LinkTask`] | the other end of an edge of a knowledge graph |
//! | [`EdgeTask`] | which pairs of nodes of one graph are edges |
//! | [`RecommendTask`] | which items a user takes next |
//!
//! A [`Dataset`] is a task itself: the one that its labels define.

mod answer;
mod asked;
mod batch;
mod candidates;
mod dense;
mod edge;
mod first_answers;
mod folds;
mod graph;
mod known;
mod link;
mod loss;
mod metric;
mod node;
mod places;
mod prefetch;
mod rankings;
mod recommend;
mod relaxed_ranking;
mod sampled;
mod sampler;
mod top_k;
mod trained_on;

pub(crate) use asked::Asked;
pub use asked::RankingLoss;
pub use batch::{Batch, Batches};
pub use candidates::Candidates;
pub(crate) use dense::DenseFeatures;
pub use edge::EdgeTask;
pub(crate) use first_answers::{FirstAnswers, rankings};
pub use folds::{Folds, Holdout};
pub use graph::{GraphTask, GraphTaskBuilder};
pub use link::{LinkTask, LinkTaskBuilder};
pub(crate) use loss::huber;
pub use loss::{absolute_error, binary_cross_entropy, cross_entropy, squared_error};
pub use metric::{Better, Metric, Tally, accuracy, roc_auc};
pub use node::{Deviation, NodeTask};
pub use rankings::{Ranked, Rankings};
pub use recommend::{Draws, RecommendTask, RecommendTaskBuilder};
pub(crate) use relaxed_ranking::relaxed_ranking;
pub use sampled::Sampled;
pub use sampler::Sampler;
pub use trained_on::TrainedOn;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::nn::{Cx, Model, Origin};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A part of the examples of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Part {
    /// What trains.
    Train,
    /// What chooses between epochs, and between models.
    Validation,
    /// What is only reported on.
    Test,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Part::Train => "train",
            Part::Validation => "val",
            Part::Test => "test",
        })
    }
}

/// What is asked of a model.
///
/// A task whose outputs are compared with numbers that a closure gives for each node:
///
/// ```
/// use gnn_prune::ndarray::{Array2, ArrayView2};
/// use gnn_prune::task::{Batch, Batches, Metric, Part, Tally, Task, squared_error};
/// use gnn_prune::{Dataset, Mlp, Result, Trainer};
///
/// /// How many neighbours a node has, from its features.
/// struct Degrees {
///     data: Dataset,
///     degrees: Array2<f64>,
/// }
///
/// impl Task<f32> for Degrees {
///     fn name(&self) -> &str {
///         "degrees"
///     }
///
///     fn data(&self) -> &Dataset {
///         &self.data
///     }
///
///     fn inputs(&self) -> usize {
///         self.data.num_features()
///     }
///
///     fn outputs(&self) -> usize {
///         1
///     }
///
///     fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, f32>> {
///         let split = self.data.split(seed);
///         let rows = match part {
///             Part::Train => split.train,
///             Part::Validation => split.val,
///             _ => split.test,
///         };
///         Ok(Batches::fixed(vec![Batch::of(&self.data, rows)]))
///     }
///
///     fn loss(&self, y: ArrayView2<f32>, batch: &Batch<f32>) -> Result<(f32, Array2<f32>)> {
///         Ok(squared_error(y, self.degrees.view(), batch.rows()))
///     }
///
///     fn metric(&self) -> Metric {
///         Metric::MEAN_SQUARED_ERROR
///     }
///
///     fn judge(&self, y: ArrayView2<f32>, batch: &Batch<f32>, tally: &mut Tally) -> Result<()> {
///         for &i in batch.rows() {
///             let off = f64::from(y[[i as usize, 0]]) - self.degrees[[i as usize, 0]];
///             tally.add(off * off, 1.0);
///         }
///         Ok(())
///     }
/// }
///
/// let data = Dataset::sbm(200, 2).features(4).build()?;
/// let (starts, _) = data.graph().edge_list();
/// let degree = |(i, _): (usize, usize)| (starts[i + 1] - starts[i]) as f64;
/// let degrees = Array2::from_shape_fn((200, 1), degree);
/// let task = Degrees { data, degrees };
/// let model = Mlp::builder(4, 1).hidden(8).build(0)?;
/// let model = Trainer::builder().epochs(5).build()?.fit(model, &task)?;
/// assert_eq!(model.out_channels(), 1);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub trait Task<F: Scalar>: Send + Sync {
    /// The name of the data, for errors and reports.
    fn name(&self) -> &str;

    /// The graph with its features that all batches are parts of, and what calibration runs on.
    fn data(&self) -> &Dataset<F>;

    /// The same task on other edges between the same nodes: what is left of them once some are
    /// pruned. Default: refused.
    ///
    /// # Errors
    /// [`Error::Data`] for a graph of another number of nodes, and for a task whose graph cannot be
    /// changed.
    fn with_graph(&self, _graph: Graph<F>) -> Result<Box<dyn Task<F> + '_>> {
        let problem = "asks for its own edges, and its graph cannot be changed";
        Err(Error::data(self.name(), problem))
    }

    /// What a model is run on where it is run on everything: calibration, least squares,
    /// activations that criteria look at, programs and their times. Default: all of
    /// [`Task::data`], with every node. A task on pairs or on graphs says by
    /// [`Batch::with_spaces`] which ones; its rows are then these. It must not be a sample by hops.
    ///
    /// # Errors
    /// What making it returns.
    fn whole(&self) -> Result<Batch<F>> {
        let nodes: Vec<u32> = (0..self.data().num_nodes() as u32).collect();
        Ok(Batch::of(self.data(), nodes))
    }

    /// What is asked beside [`Task::data`], in one line: what a run that goes on is compared by.
    /// Default: the metric.
    fn settings(&self) -> String {
        self.metric().to_string()
    }

    /// Whether [`Part::Validation`] may choose between epochs. Where it trains too it must not, and
    /// every training keeps its last epoch. Default: it may.
    fn chooses(&self) -> bool {
        true
    }

    /// Columns of the features that a model reads.
    fn inputs(&self) -> usize;

    /// Columns of the output that a model must have.
    fn outputs(&self) -> usize;

    /// The batches of a part, where `seed` draws what is drawn: splits, samples, negatives. Asked
    /// once per training or measurement; the same seed gives the same batches.
    ///
    /// # Errors
    /// [`Error::Data`] where the part has no example.
    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, F>>;

    /// The loss of the output `y` on a batch, a mean over what counts of it, and its gradient by
    /// `y`.
    ///
    /// *Shapes*: `y` and the gradient `[rows of the batch, outputs]`.
    ///
    /// # Errors
    /// What cannot be compared.
    fn loss(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<(F, Array2<F>)>;

    /// The loss of each query of a batch by itself, whose mean [`Task::loss`] is, so that the rows
    /// of its gradient are the queries', each with as many. Default: it is no such mean, or nobody
    /// asked.
    ///
    /// # Errors
    /// As [`Task::loss`].
    fn losses(&self, _y: ArrayView2<F>, _batch: &Batch<F>) -> Result<Option<Vec<F>>> {
        Ok(None)
    }

    /// What is measured.
    fn metric(&self) -> Metric;

    /// Adds what the output `y` of a batch is worth to the tally of its part.
    ///
    /// # Errors
    /// What cannot be compared.
    fn judge(&self, y: ArrayView2<F>, batch: &Batch<F>, tally: &mut Tally) -> Result<()>;

    /// Where every query of the training part has a ranking of the same candidates: these, and what
    /// is known in training of each query. It is what a loss that compares rankings of a student
    /// and its teacher asks for. Default: there are none.
    fn rankings(&self) -> Option<Rankings> {
        None
    }

    /// What a model that was trained on the task says it was trained on.
    fn origin(&self) -> Option<Origin> {
        None
    }

    /// Refuses a model that does not read what the task gives, or does not put out what it asks
    /// for.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] with both counts of channels.
    fn check(&self, model: &Model<F>) -> Result<()> {
        let expected = (self.inputs(), self.outputs());
        let found = (model.in_channels(), model.out_channels());
        if expected == found {
            return Ok(());
        }
        let at = format!("features and outputs of `{}` against the model", self.name());
        Err(Error::ShapeMismatch { at, expected, found })
    }
}

impl<F: Scalar> std::fmt::Debug for dyn Task<F> + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "task on `{}`", self.name())
    }
}

/// What a part was measured to be worth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The task's metric.
    pub value: f64,
    /// Others that stand beside it, in percent, by their words.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub others: BTreeMap<String, f64>,
}

/// The metrics of whatever gives an output for a batch, over all batches of `part` under `seed`.
///
/// # Errors
/// What `run` and the task refuse.
pub fn measure<F: Scalar>(
    task: &dyn Task<F>,
    part: Part,
    seed: u64,
    mut run: impl FnMut(&Batch<F>) -> Result<Array2<F>>,
) -> Result<Measured> {
    let mut tally = Tally::new();
    for batch in task.batches(part, seed)?.epoch(0) {
        let batch = batch?;
        task.judge(run(&batch)?.view(), &batch, &mut tally)?;
    }
    Ok(tally.measured(task.metric()))
}

/// The metric of `model` on a part of `task`, in evaluation mode; the split is that of the model's
/// seed.
///
/// # Errors
/// [`Error::ShapeMismatch`] where model and task do not fit, [`Error::Data`] where the part is
/// empty.
pub fn evaluate<F: Scalar>(model: &Model<F>, task: &dyn Task<F>, part: Part) -> Result<f64> {
    evaluate_all(model, task, part).map(|measured| measured.value)
}

/// As [`evaluate`], with the metrics that stand beside the task's own.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_all<F: Scalar>(
    model: &Model<F>,
    task: &dyn Task<F>,
    part: Part,
) -> Result<Measured> {
    task.check(model)?;
    measure(task, part, model.seed(), |batch| {
        model.infer(&batch.on(&Cx::without_graph()), batch.features())
    })
}
