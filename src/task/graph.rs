//! The class of each graph of a set.

use super::loss::cross_entropy;
use super::metric::{Metric, Tally, largest_is};
use super::{Batch, Batches, Folds, Holdout, Part, Task};
use crate::data::{Dataset, GraphSet};
use crate::error::{Error, ModelError, Result};
use crate::graph::Graph;
use crate::nn::{Model, Origin, RowSpace, Rows};
use crate::rng::{Digest, generator, purpose};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};
use ndarray_rand::rand::Rng;
use std::sync::Arc;

/// Graphs of a batch that is only measured on: what it is does not depend on their number.
const MEASURED: usize = 256;

/// Builder of a [`GraphTask`]; see [`GraphTask::builder`].
#[derive(Debug, Clone)]
pub struct GraphTaskBuilder<F: Scalar = f32> {
    set: GraphSet<F>,
    batch_size: usize,
    iterations: Option<usize>,
    folds: usize,
    partition_seed: u64,
    holdout: Holdout,
}

impl<F: Scalar> GraphTaskBuilder<F> {
    /// Graphs of a batch that trains, at least 1. Default 32.
    #[must_use]
    pub fn batch_size(mut self, graphs: usize) -> Self {
        self.batch_size = graphs;
        self
    }

    /// So many batches in each epoch, at least 1, each drawn from all graphs that train: the 50
    /// iterations of Xu et al. 2019. Default: one pass over the graphs that train, in random order.
    #[must_use]
    pub fn iterations(mut self, batches: impl Into<Option<usize>>) -> Self {
        self.iterations = batches.into();
        self
    }

    /// Number of folds, at least 3 and at most the graphs of the smallest class. Default 10.
    #[must_use]
    pub fn folds(mut self, folds: usize) -> Self {
        self.folds = folds;
        self
    }

    /// What draws the partition into folds. It is no model's seed: models of different seeds stand
    /// on different folds of the same partition. Default 0.
    #[must_use]
    pub fn partition_seed(mut self, seed: u64) -> Self {
        self.partition_seed = seed;
        self
    }

    /// Which folds are held out. Default: [`Holdout::TestAndValidation`].
    #[must_use]
    pub fn holdout(mut self, holdout: Holdout) -> Self {
        self.holdout = holdout;
        self
    }

    /// Draws the folds.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(self) -> Result<GraphTask<F>> {
        let counts = [
            ("graphs of a batch", Some(self.batch_size)),
            ("batches of an epoch", self.iterations),
        ];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == Some(0)) {
            return Err(Error::setting(*name, 0, "at least 1"));
        }
        let folds = Folds::stratified(self.set.labels(), self.folds, self.partition_seed)?;
        let Self { set, batch_size, iterations, partition_seed, holdout, .. } = self;
        let (graph, x) = (set.graph().clone(), set.features().to_owned());
        let nodes = Dataset::unlabeled(set.name(), graph, x)?;
        Ok(GraphTask { set, nodes, batch_size, iterations, folds, partition_seed, holdout })
    }
}

/// The class of each graph of a [`GraphSet`]: cross-entropy of softmax, judged by accuracy, on
/// stratified folds.
///
/// One partition into folds is drawn by [`partition_seed`](GraphTaskBuilder::partition_seed); the
/// seed of a model chooses the fold that is held out, as [`Folds`] says: with ten folds the models
/// of seeds 0 to 9 are a cross-validation.
///
/// A batch is some graphs side by side, which the model's rows are told by
/// [`Rows::graphs`]; its output has a row per graph. In training, the graphs of a batch are drawn
/// by the model's seed and the epoch.
///
/// ```
/// use gnn_prune::data::GraphSet;
/// use gnn_prune::task::{Part, Task, evaluate};
/// use gnn_prune::{GinGraphs, GraphTask, Trainer};
/// let set = GraphSet::cycles_or_trees(60, 0.0, 1)?;
/// let task = GraphTask::builder(&set).batch_size(16).build()?;
/// let model = GinGraphs::builder(set.num_features(), set.num_classes()).hidden(8).build(3)?;
/// let model = Trainer::builder().epochs(3).build()?.fit(model, &task)?;
/// let accuracy = evaluate(&model, &task, Part::Test)?; // on fold 3
/// assert!(accuracy >= 0.0);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct GraphTask<F: Scalar = f32> {
    set: GraphSet<F>,
    /// All graphs as one, without labels.
    nodes: Dataset<F>,
    batch_size: usize,
    iterations: Option<usize>,
    folds: Folds,
    partition_seed: u64,
    holdout: Holdout,
}

/// The classes of the graphs of a batch.
#[derive(Debug)]
struct Classes(Vec<u32>);

impl<F: Scalar> GraphTask<F> {
    /// Starts a task on these graphs.
    pub fn builder(set: &GraphSet<F>) -> GraphTaskBuilder<F> {
        GraphTaskBuilder {
            set: set.clone(),
            batch_size: 32,
            iterations: None,
            folds: 10,
            partition_seed: 0,
            holdout: Holdout::default(),
        }
    }

    /// The graphs.
    pub fn set(&self) -> &GraphSet<F> {
        &self.set
    }

    /// The partition.
    pub fn folds(&self) -> &Folds {
        &self.folds
    }

    /// Which folds are held out.
    pub fn holdout(&self) -> Holdout {
        self.holdout
    }

    /// The same task with other folds held out.
    #[must_use]
    pub fn holding_out(&self, holdout: Holdout) -> Self {
        Self { holdout, ..self.clone() }
    }

    /// These graphs side by side, in this order, with a row of output for each.
    ///
    /// # Errors
    /// As [`GraphSet::select`].
    pub fn batch(&self, graphs: &[u32]) -> Result<Batch<F>> {
        let chosen = self.set.select(graphs)?;
        let mut spaces = Rows::new()
            .ids(chosen.nodes)
            .graphs(chosen.graph_of, graphs.len())?
            .graph_ids(graphs.to_vec())?;
        if let Some(starts) = chosen.feature_starts {
            spaces = spaces.sparse_starts(starts);
        }
        let labels = self.set.labels();
        let classes = graphs.iter().map(|&graph| labels[graph as usize]).collect();
        Ok(Batch::new(chosen.graph, Arc::new(chosen.features))
            .with_rows((0..graphs.len() as u32).collect::<Vec<_>>())
            .with_spaces(spaces)
            .with(Classes(classes)))
    }

    /// The graphs of each batch of an epoch; 0 is what is measured on.
    fn drawn(&self, graphs: &[u32], seed: u64, epoch: usize) -> Vec<Vec<u32>> {
        if epoch == 0 {
            return graphs.chunks(MEASURED).map(<[u32]>::to_vec).collect();
        }
        let mut rng = generator(seed, &[purpose::BATCHES, epoch as u64]);
        let mut order = graphs.to_vec();
        let mut draw = |count: usize| {
            for i in 0..count {
                let j = rng.random_range(i..order.len());
                order.swap(i, j);
            }
            order[..count].to_vec()
        };
        match self.iterations {
            None => draw(graphs.len()).chunks(self.batch_size).map(<[u32]>::to_vec).collect(),
            Some(count) => {
                let size = self.batch_size.min(graphs.len());
                (0..count).map(|_| draw(size)).collect()
            }
        }
    }

    /// The classes of a batch, if `y` is its output.
    fn classes_of<'b>(&self, y: ArrayView2<F>, batch: &'b Batch<F>) -> Result<&'b [u32]> {
        let Some(Classes(classes)) = batch.attached() else {
            return Err(Error::data(self.set.name(), "the batch is of another task"));
        };
        let (expected, found) = ((classes.len(), self.set.num_classes()), y.dim());
        if expected != found {
            let at = format!("output for the graphs of `{}`", self.set.name());
            return Err(Error::ShapeMismatch { at, expected, found });
        }
        Ok(classes)
    }
}

impl<F: Scalar> Task<F> for GraphTask<F> {
    fn name(&self) -> &str {
        self.set.name()
    }

    fn data(&self) -> &Dataset<F> {
        &self.nodes
    }

    fn with_graph(&self, graph: Graph<F>) -> Result<Box<dyn Task<F> + '_>> {
        let nodes = self.nodes.with_graph(graph.clone())?;
        Ok(Box::new(Self { set: self.set.with_graph(graph)?, nodes, ..self.clone() }))
    }

    /// All graphs.
    fn whole(&self) -> Result<Batch<F>> {
        self.batch(&(0..self.set.num_graphs() as u32).collect::<Vec<_>>())
    }

    fn settings(&self) -> String {
        let batches = match self.iterations {
            None => "one pass".to_string(),
            Some(count) => format!("{count} batches"),
        };
        format!(
            "{}, graphs and classes {}, batches of {}, {batches} an epoch, {} folds by seed {}, {:?}",
            Task::<F>::metric(self),
            Digest::of_lists([self.set.labels(), &self.set.graph_of()]),
            self.batch_size,
            self.folds.count(),
            self.partition_seed,
            self.holdout
        )
    }

    fn inputs(&self) -> usize {
        self.set.num_features()
    }

    fn outputs(&self) -> usize {
        self.set.num_classes()
    }

    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, F>> {
        let graphs = self.folds.part(seed, part, self.holdout);
        if graphs.is_empty() {
            let problem = format!("no graph is in {part}: {:?} holds none out", self.holdout);
            return Err(Error::data(self.set.name(), problem));
        }
        if part != Part::Train {
            let batches = self.drawn(&graphs, seed, 0).into_iter().map(|own| self.batch(&own));
            return Ok(Batches::fixed(batches.collect::<Result<_>>()?));
        }
        Ok(Batches::drawn(move |epoch| {
            self.drawn(&graphs, seed, epoch).into_iter().map(|own| self.batch(&own))
        }))
    }

    fn loss(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<(F, Array2<F>)> {
        let classes = self.classes_of(y, batch)?;
        Ok(cross_entropy(y, classes, batch.rows()))
    }

    fn metric(&self) -> Metric {
        Metric::ACCURACY
    }

    fn judge(&self, y: ArrayView2<F>, batch: &Batch<F>, tally: &mut Tally) -> Result<()> {
        let classes = self.classes_of(y, batch)?;
        for i in batch.rows().iter().map(|&i| i as usize) {
            tally.add(f64::from(u8::from(largest_is(y.row(i), classes[i] as usize))), 1.0);
        }
        Ok(())
    }

    fn origin(&self) -> Option<Origin> {
        let (data, nodes) = (self.set.name().into(), self.set.num_nodes());
        Some(Origin { data, nodes, features: "raw".into() })
    }

    fn check(&self, model: &Model<F>) -> Result<()> {
        let expected = (self.set.num_features(), self.set.num_classes());
        let found = (model.in_channels(), model.out_channels());
        if expected != found {
            let at = format!("features and classes of `{}` against the model", self.set.name());
            return Err(Error::ShapeMismatch { at, expected, found });
        }
        let rows = model.rows_of(model.output());
        if rows != RowSpace::Graphs {
            let problem = format!("has a row of output for {rows}, and the task asks for graphs");
            return Err(ModelError::Misfit(format!("{problem}; pool them by a readout")).into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Cx;
    use std::collections::BTreeSet;

    fn task() -> GraphTask {
        let set = GraphSet::cycles_or_trees(50, 0.2, 3).unwrap();
        GraphTask::builder(&set).batch_size(16).folds(5).build().unwrap()
    }

    /// Who the graphs of each batch of an epoch are.
    fn drawn(task: &GraphTask, part: Part, seed: u64, epoch: usize) -> Vec<Vec<u32>> {
        let batches = task.batches(part, seed).unwrap();
        let ids = |batch: Result<Batch<f32>>| {
            batch.unwrap().spaces().graph_ids_of_rows().unwrap().to_vec()
        };
        batches.epoch(epoch).map(ids).collect()
    }

    #[test]
    fn an_epoch_is_one_pass_in_an_order_of_its_own() {
        let task = task();
        let train = task.folds().part(7, Part::Train, task.holdout());
        let first = drawn(&task, Part::Train, 7, 1);
        assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [16, 14]);
        let mut all = first.concat();
        all.sort_unstable();
        assert_eq!(all, train);
        assert_eq!(drawn(&task, Part::Train, 7, 1), first);
        assert_ne!(drawn(&task, Part::Train, 7, 2), first);
        // Where nothing is trained the order is that of the set.
        assert_eq!(drawn(&task, Part::Train, 7, 0), [train]);
        let held = task.folds().part(7, Part::Test, task.holdout());
        assert_eq!(drawn(&task, Part::Test, 7, 5), [held]);
    }

    #[test]
    fn iterations_are_batches_of_full_size_without_repetition_in_one() {
        let set = GraphSet::cycles_or_trees(50, 0.2, 3).unwrap();
        let builder = GraphTask::builder(&set).folds(5).batch_size(20).iterations(7);
        let batches = drawn(&builder.build().unwrap(), Part::Train, 1, 4);
        assert_eq!(batches.len(), 7);
        for batch in &batches {
            assert_eq!(batch.iter().collect::<BTreeSet<_>>().len(), 20);
        }
        assert_ne!(batches[0], batches[1]);
    }

    #[test]
    fn labels_go_with_their_graphs() {
        let task = task();
        let batch = task.batch(&[3, 0, 8]).unwrap();
        let y = ndarray::array![[0.0f32, 1.0], [1.0, 0.0], [0.0, 1.0]];
        let mut tally = Tally::new();
        task.judge(y.view(), &batch, &mut tally).unwrap();
        // Graphs 3, 0, 8 are a tree, a cycle and a cycle.
        assert!((task.metric().of(tally) - 200.0 / 3.0).abs() < 1e-9);
        let (loss, gradient) = task.loss(y.view(), &batch).unwrap();
        assert_eq!(gradient.dim(), (3, 2));
        let right = (-1.0f64).exp().ln_1p();
        assert!((f64::from(loss) - (2.0 * right + right + 1.0) / 3.0).abs() < 1e-6, "{loss}");
        let few = ndarray::array![[0.0f32, 1.0]];
        assert!(task.loss(few.view(), &batch).is_err());
        let bare = Batch::new(batch.graph().clone(), Arc::new(batch.features().to_owned()));
        assert!(task.loss(y.view(), &bare).unwrap_err().to_string().contains("another task"));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let task = task();
        let nodes = crate::Gcn::builder(1, 2).build(0).unwrap();
        let words = task.check(&nodes).unwrap_err().to_string();
        assert!(words.contains("readout") && words.contains("nodes"), "{words}");
        let wide = crate::models::GinGraphs::builder(3, 2).build(0).unwrap();
        assert!(matches!(task.check(&wide), Err(Error::ShapeMismatch { .. })));
        let xu = task.holding_out(Holdout::ValidationOnly);
        assert!(Task::batches(&xu, Part::Test, 0).unwrap_err().to_string().contains("test"));
        let builder = GraphTask::builder(task.set());
        assert!(builder.clone().batch_size(0).build().is_err());
        assert!(builder.clone().iterations(0).build().is_err());
        assert!(builder.folds(26).build().is_err());
        assert!(task.batch(&[50]).is_err());
    }

    #[test]
    fn the_whole_is_all_graphs_and_other_edges_are_another_task() {
        let task = task();
        let whole = Task::<f32>::whole(&task).unwrap();
        assert_eq!((whole.rows().len(), whole.graph().num_nodes()), (50, task.set().num_nodes()));
        let bare = Graph::builder(task.set().num_nodes()).build().unwrap();
        let other = Task::<f32>::with_graph(&task, bare).unwrap();
        assert_eq!((other.data().graph().num_edges(), other.settings()), (0, task.settings()));
        let batch = other.batches(Part::Train, 0).unwrap().epoch(1).next().unwrap().unwrap();
        assert_eq!(batch.graph().num_edges(), 0);
        let words = |task: &GraphTask| Task::<f32>::settings(task);
        let others = [
            GraphTask::builder(task.set()).batch_size(16).folds(5).partition_seed(1),
            GraphTask::builder(task.set()).batch_size(15).folds(5),
            GraphTask::builder(task.set()).batch_size(16).folds(5).iterations(3),
        ];
        for other in others {
            assert_ne!(words(&other.build().unwrap()), words(&task));
        }
    }

    #[test]
    fn a_batch_computes_what_each_of_its_graphs_does_alone() {
        let task = task();
        let model = crate::models::GinGraphs::builder(1, 2).hidden(8).build(0).unwrap();
        let infer = |graphs: &[u32]| {
            let batch = task.batch(graphs).unwrap();
            model.infer(&batch.on(&Cx::without_graph()), batch.features()).unwrap()
        };
        let graphs = [4, 31, 17, 0];
        let together = infer(&graphs);
        for (row, &graph) in together.rows().into_iter().zip(&graphs) {
            assert_eq!(infer(&[graph]).row(0), row, "graph {graph}");
        }
    }
}
