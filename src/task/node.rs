//! Tasks on the nodes of one graph: their class, their labels, their numbers.

use super::loss::{
    Weights, absolute_error_by, binary_cross_entropy_by, cross_entropy_by, squared_error_by,
};
use super::metric::{Metric, Tally, as_signs_say, largest_is};
use super::{Batch, Batches, Part, Task};
use crate::data::{Dataset, Labels, UNLABELED, check_part};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::nn::{Model, Origin};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};

/// How far predicted numbers are from those that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Deviation {
    /// The mean of the squares: the prediction tends to the mean.
    #[default]
    Squared,
    /// The mean of the absolute values: the prediction tends to the median, and outliers pull less.
    Absolute,
}

/// A task on the nodes of one graph; which one, the labels of the data say.
///
/// | labels | loss | metric |
/// |---|---|---|
/// | one class per node | cross-entropy of softmax | accuracy; ROC AUC where one of two classes is rare |
/// | several labels per node | cross-entropy of a sigmoid per label | mean ROC AUC over the labels |
/// | numbers | squared or absolute error | the same |
///
/// A [`Dataset`] is this task with every default.
///
/// ```
/// use gnn_prune::task::{Metric, NodeTask, Task};
/// use gnn_prune::{Dataset, Gcn, Trainer};
/// let data = Dataset::digits()?;
/// let task = NodeTask::of(&data);
/// assert_eq!(task.metric(), Metric::ACCURACY);
/// let model = Gcn::builder(task.inputs(), task.outputs()).hidden(8).build(0)?;
/// let model = Trainer::builder().epochs(5).build()?.fit(model, &task)?;
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NodeTask<F: Scalar = f32> {
    data: Dataset<F>,
    deviation: Deviation,
    metric: Metric,
}

impl<F: Scalar> NodeTask<F> {
    /// The task that the labels of `data` define.
    pub fn of(data: &Dataset<F>) -> Self {
        let deviation = Deviation::default();
        Self { metric: usual_metric(data, deviation), deviation, data: data.clone() }
    }

    /// The same, with numbers compared by another deviation, which becomes the metric too; nothing
    /// changes where nodes have classes or labels. Default [`Deviation::Squared`].
    #[must_use]
    pub fn deviation(self, deviation: Deviation) -> Self {
        Self { metric: usual_metric(&self.data, deviation), deviation, ..self }
    }

    /// The same, judged by another metric.
    ///
    /// # Errors
    /// [`Error::Setting`] for one that the labels have no value of.
    pub fn judged_by(self, metric: Metric) -> Result<Self> {
        let legal: &[Metric] = match self.data.labels() {
            Labels::Classes(_) if self.data.num_classes() == 2 => {
                &[Metric::ACCURACY, Metric::ROC_AUC]
            }
            Labels::Classes(_) => &[Metric::ACCURACY],
            Labels::Several { .. } => &[Metric::ACCURACY, Metric::ROC_AUC],
            Labels::Numbers { .. } => &[Metric::MEAN_SQUARED_ERROR, Metric::MEAN_ABSOLUTE_ERROR],
        };
        if legal.contains(&metric) {
            return Ok(Self { metric, ..self });
        }
        let names: Vec<&str> = legal.iter().map(Metric::name).collect();
        let legal = format!("{} for `{}`", names.join(" or "), self.data.name());
        Err(Error::setting("metric", metric, legal))
    }

    /// The data.
    pub fn data(&self) -> &Dataset<F> {
        &self.data
    }

    /// The same on other edges.
    pub(super) fn on(&self, graph: Graph<F>) -> Result<Self> {
        Ok(Self { data: self.data.with_graph(graph)?, ..self.clone() })
    }

    /// The metric of the output `y: [nodes, outputs]` on those of `rows` that have a label.
    pub fn measured_on(&self, y: ArrayView2<F>, rows: &[u32]) -> f64 {
        let mut tally = Tally::new();
        judge(self.data.labels(), self.metric, y, &self.data.labeled(rows), &mut tally);
        self.metric.of(tally)
    }

    /// The loss on rows of an output whose labels are these, each row counted so many times.
    pub(super) fn loss_by(
        &self,
        labels: &Labels,
        y: ArrayView2<F>,
        rows: &[u32],
        weights: Weights<F>,
    ) -> (F, Array2<F>) {
        loss(labels, self.deviation, y, rows, weights)
    }

    /// Adds what an output is worth on rows whose labels are these.
    pub(super) fn judge_by(
        &self,
        labels: &Labels,
        y: ArrayView2<F>,
        rows: &[u32],
        tally: &mut Tally,
    ) {
        judge(labels, self.metric, y, rows, tally);
    }
}

impl<F: Scalar> Task<F> for NodeTask<F> {
    fn name(&self) -> &str {
        self.data.name()
    }

    fn data(&self) -> &Dataset<F> {
        &self.data
    }

    fn with_graph(&self, graph: Graph<F>) -> Result<Box<dyn Task<F> + '_>> {
        Ok(Box::new(self.on(graph)?))
    }

    fn settings(&self) -> String {
        match self.data.labels() {
            Labels::Numbers { .. } => format!("{}, by {:?}", self.metric, self.deviation),
            _ => self.metric.to_string(),
        }
    }

    fn inputs(&self) -> usize {
        self.data.num_features()
    }

    fn outputs(&self) -> usize {
        self.data.num_classes()
    }

    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, F>> {
        batches(&self.data, part, seed)
    }

    fn loss(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<(F, Array2<F>)> {
        Ok(loss(self.data.labels(), self.deviation, y, batch.rows(), None))
    }

    fn metric(&self) -> Metric {
        self.metric
    }

    fn judge(&self, y: ArrayView2<F>, batch: &Batch<F>, tally: &mut Tally) -> Result<()> {
        judge(self.data.labels(), self.metric, y, batch.rows(), tally);
        Ok(())
    }

    fn origin(&self) -> Option<Origin> {
        Some(origin(&self.data))
    }

    fn check(&self, model: &Model<F>) -> Result<()> {
        check(&self.data, model)
    }
}

/// The task that the labels define, with every default of [`NodeTask`].
impl<F: Scalar> Task<F> for Dataset<F> {
    fn name(&self) -> &str {
        Dataset::name(self)
    }

    fn data(&self) -> &Dataset<F> {
        self
    }

    fn with_graph(&self, graph: Graph<F>) -> Result<Box<dyn Task<F> + '_>> {
        Ok(Box::new(Dataset::with_graph(self, graph)?))
    }

    fn settings(&self) -> String {
        NodeTask::of(self).settings()
    }

    fn inputs(&self) -> usize {
        self.num_features()
    }

    fn outputs(&self) -> usize {
        self.num_classes()
    }

    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, F>> {
        batches(self, part, seed)
    }

    fn loss(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<(F, Array2<F>)> {
        Ok(loss(self.labels(), Deviation::default(), y, batch.rows(), None))
    }

    fn metric(&self) -> Metric {
        usual_metric(self, Deviation::default())
    }

    fn judge(&self, y: ArrayView2<F>, batch: &Batch<F>, tally: &mut Tally) -> Result<()> {
        judge(self.labels(), Task::metric(self), y, batch.rows(), tally);
        Ok(())
    }

    fn origin(&self) -> Option<Origin> {
        Some(origin(self))
    }

    fn check(&self, model: &Model<F>) -> Result<()> {
        check(self, model)
    }
}

fn batches<'a, F: Scalar>(data: &Dataset<F>, part: Part, seed: u64) -> Result<Batches<'a, F>> {
    let split = data.split(seed);
    let nodes = match part {
        Part::Train => split.train,
        Part::Validation => split.val,
        Part::Test => split.test,
    };
    let rows = data.labeled(&nodes);
    check_part(data.name(), &part.to_string(), &rows)?;
    Ok(Batches::fixed(vec![Batch::of(data, rows)]))
}

fn loss<F: Scalar>(
    labels: &Labels,
    deviation: Deviation,
    y: ArrayView2<F>,
    rows: &[u32],
    weights: Weights<F>,
) -> (F, Array2<F>) {
    match (labels, deviation) {
        (Labels::Classes(classes), _) => cross_entropy_by(y, classes, rows, weights),
        (Labels::Several { matrix, .. }, _) => {
            binary_cross_entropy_by(y, matrix.view(), rows, weights)
        }
        (Labels::Numbers { values, .. }, Deviation::Squared) => {
            squared_error_by(y, values.view(), rows, weights)
        }
        (Labels::Numbers { values, .. }, Deviation::Absolute) => {
            absolute_error_by(y, values.view(), rows, weights)
        }
    }
}

fn judge<F: Scalar>(
    labels: &Labels,
    metric: Metric,
    y: ArrayView2<F>,
    rows: &[u32],
    tally: &mut Tally,
) {
    for i in rows.iter().map(|&i| i as usize) {
        let row = y.row(i);
        match labels {
            Labels::Classes(classes) if metric == Metric::ROC_AUC => {
                tally.rank(0, (row[1] - row[0]).as_f64(), classes[i] == 1);
            }
            Labels::Classes(classes) => {
                tally.add(f64::from(u8::from(largest_is(row, classes[i] as usize))), 1.0);
            }
            Labels::Several { matrix, .. } if metric == Metric::ROC_AUC => {
                for (label, (z, &has)) in row.iter().zip(matrix.row(i)).enumerate() {
                    tally.rank(label, z.as_f64(), has);
                }
            }
            Labels::Several { matrix, .. } => {
                tally.add(f64::from(u8::from(as_signs_say(row, matrix.row(i)))), 1.0);
            }
            Labels::Numbers { values, .. } => {
                for (z, &known) in row.iter().zip(values.row(i)) {
                    let off = z.as_f64() - known;
                    let error =
                        if metric == Metric::MEAN_ABSOLUTE_ERROR { off.abs() } else { off * off };
                    tally.add(error, 1.0);
                }
            }
        }
    }
}

/// Two classes are unbalanced, and judged by ROC AUC, where the smaller has less than this share of
/// the nodes.
const UNBALANCED: f64 = 0.3;

/// ROC AUC where there are two classes and the smaller has under 30 % of the nodes that have a
/// label, or where nodes have several labels.
fn usual_metric<F: Scalar>(data: &Dataset<F>, deviation: Deviation) -> Metric {
    let classes = match (data.labels(), deviation) {
        (Labels::Classes(classes), _) => classes,
        (Labels::Several { .. }, _) => return Metric::ROC_AUC,
        (Labels::Numbers { .. }, Deviation::Squared) => return Metric::MEAN_SQUARED_ERROR,
        (Labels::Numbers { .. }, Deviation::Absolute) => return Metric::MEAN_ABSOLUTE_ERROR,
    };
    if data.num_classes() != 2 {
        return Metric::ACCURACY;
    }
    let labelled = classes.iter().filter(|label| **label != UNLABELED).count();
    let second = classes.iter().filter(|label| **label == 1).count();
    let smaller = second.min(labelled - second) as f64;
    if smaller < UNBALANCED * labelled as f64 { Metric::ROC_AUC } else { Metric::ACCURACY }
}

fn origin<F: Scalar>(data: &Dataset<F>) -> Origin {
    Origin {
        data: data.name().into(),
        nodes: data.num_nodes(),
        features: data.feature_norm().to_string(),
    }
}

/// Refuses a model whose features or classes are not those of `data`.
fn check<F: Scalar>(data: &Dataset<F>, model: &Model<F>) -> Result<()> {
    let expected = (data.num_features(), data.num_classes());
    let found = (model.in_channels(), model.out_channels());
    if expected == found {
        return Ok(());
    }
    let at = format!("features and classes of `{}` against the model", data.name());
    Err(Error::ShapeMismatch { at, expected, found })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Splits;
    use crate::{Graph, Mlp, Split, Trainer, Value};
    use ndarray::array;

    #[test]
    fn of_several_labels_all_must_be_right() {
        let labels = array![[true, false], [true, true], [false, false]];
        let graph = Graph::builder(3).edges([(0, 1)]).build().unwrap();
        let split = Split { train: vec![0], val: vec![1], test: vec![2] };
        let x = Value::Dense(array![[1.0f32], [0.5], [0.0]]);
        let data = Dataset::multi_label("three", graph, x, labels, Splits::Fixed(split)).unwrap();
        let task = NodeTask::of(&data).judged_by(Metric::ACCURACY).unwrap();
        let logits = array![[1.0f32, -1.0], [2.0, -0.5], [-1.0, -2.0]];
        assert_eq!(task.measured_on(logits.view(), &[0, 2]), 100.0);
        assert!((task.measured_on(logits.view(), &[0, 1, 2]) - 200.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn two_classes_of_which_one_is_rare_are_judged_by_their_order_whichever_it_is() {
        let of = |labels: Vec<u32>| {
            let n = labels.len();
            let graph = Graph::builder(n).build().unwrap();
            let splits = Splits::Fixed(Split { train: vec![0], val: vec![1], test: vec![2] });
            let x = Value::Dense(Array2::zeros((n, 1)));
            Dataset::<f32>::new("toy", graph, x, labels, Some(2), splits).unwrap().metric()
        };
        for ones in 1..=19 {
            let expected =
                if (6..=14).contains(&ones) { Metric::ACCURACY } else { Metric::ROC_AUC };
            assert_eq!(
                of((0..20).map(|i| u32::from(i < ones)).collect()),
                expected,
                "{ones} of 20"
            );
        }
    }

    #[test]
    fn nodes_without_labels_decide_neither_the_metric_nor_its_value() {
        let labels: Vec<u32> =
            (0..20).map(|i| if i < 12 { UNLABELED } else { u32::from(i < 16) }).collect();
        let graph = Graph::builder(20).build().unwrap();
        let splits = Splits::Fixed(Split { train: vec![12], val: vec![13], test: vec![19] });
        let x = Value::Dense(Array2::zeros((20, 1)));
        let data = Dataset::<f32>::new("toy", graph, x, labels, Some(2), splits).unwrap();
        assert_eq!(data.metric(), Metric::ACCURACY, "four of eight, not four of twenty");
        let logits = Array2::from_shape_fn((20, 2), |(_, c)| c as f32);
        assert_eq!(
            NodeTask::of(&data).measured_on(logits.view(), &(0..20).collect::<Vec<_>>()),
            50.0
        );
        let rows = |part| {
            let batches = Task::<f32>::batches(&data, part, 0).unwrap();
            batches.epoch(1).flat_map(|batch| batch.unwrap().rows().to_vec()).collect::<Vec<u32>>()
        };
        assert_eq!((rows(Part::Train), rows(Part::Test)), (vec![12], vec![19]));
    }

    #[test]
    fn several_labels_are_judged_one_by_one_and_those_that_tell_nothing_left_out() {
        let logits = array![[0.1f32, 3.0, 0.0], [0.4, 2.0, 0.0], [0.35, 1.0, 0.0], [0.8, 0.0, 0.0]];
        let labels = array![
            [false, true, true],
            [false, true, true],
            [true, false, true],
            [true, false, true]
        ];
        let split = Split { train: vec![0], val: vec![1], test: vec![2] };
        let (graph, x) = (Graph::builder(4).build().unwrap(), Value::Dense(Array2::zeros((4, 1))));
        let data = Dataset::multi_label("four", graph, x, labels, Splits::Fixed(split)).unwrap();
        let task = NodeTask::of(&data);
        assert_eq!(task.measured_on(logits.view(), &[0, 1, 2, 3]), (75.0 + 100.0) / 2.0);
        assert_eq!(task.measured_on(logits.view(), &[0]), 50.0);
    }

    fn numbers(values: Array2<f64>) -> Result<Dataset> {
        let n = values.nrows();
        let x = Array2::from_shape_fn((n, 2), |(i, c)| ((i * 7 + c * 3) % 11) as f32 / 11.0);
        let nodes = 0..n as u32;
        let part = |k| nodes.clone().filter(|node| node % 3 == k).collect();
        let split = Split { train: part(0), val: part(1), test: part(2) };
        let graph = Graph::builder(n).build()?;
        Dataset::regression("line", graph, x.into(), values, Splits::Fixed(split))
    }

    #[test]
    fn numbers_are_learnt_and_judged_by_their_deviation() {
        // y = 2 x₀ − x₁, which a linear model can say exactly.
        let x = |i: usize, c: usize| ((i * 7 + c * 3) % 11) as f64 / 11.0;
        let data =
            numbers(Array2::from_shape_fn((33, 1), |(i, _)| 2.0 * x(i, 0) - x(i, 1))).unwrap();
        let model = Mlp::builder(2, 1).layers(1).dropout(0.0).build(0).unwrap();
        let trainer = Trainer::builder().epochs(400).patience(400).learning_rate(0.1);
        let trainer = trainer.weight_decay(0.0).build().unwrap();
        for deviation in [Deviation::Squared, Deviation::Absolute] {
            let task = NodeTask::of(&data).deviation(deviation);
            let before = super::super::evaluate(&model, &task, Part::Test).unwrap();
            let trained = trainer.fit(model.clone(), &task).unwrap();
            let after = super::super::evaluate(&trained, &task, Part::Test).unwrap();
            assert!(after < 0.03 && after < before / 5.0, "{deviation:?}: {before} to {after}");
            assert_eq!(trained.origin().unwrap().data, "line");
        }
        let task = NodeTask::of(&data).judged_by(Metric::MEAN_ABSOLUTE_ERROR).unwrap();
        let y = Array2::<f32>::zeros((33, 1));
        let rows: Vec<u32> = (0..33).collect();
        let expected = data.numbers().unwrap().mapv(f64::abs).mean().unwrap();
        assert!((task.measured_on(y.view(), &rows) - expected).abs() < 1e-12);
        assert!(task.judged_by(Metric::ROC_AUC).unwrap_err().to_string().contains("mean_squared"));
    }

    #[test]
    fn a_number_that_is_not_known_is_left_out_and_a_wrong_one_refused() {
        let mut values = Array2::from_shape_fn((9, 2), |(i, c)| (i + c) as f64);
        values.row_mut(8).fill(f64::NAN);
        let wrong = numbers(values.clone()).unwrap_err().to_string();
        assert!(wrong.contains("node 8 is in test and has no label"), "{wrong}");
        values[[8, 0]] = 1.0;
        let part = numbers(values.clone()).unwrap_err().to_string();
        assert!(part.contains("number 1 of node 8") && part.contains("NaN"), "{part}");
        values[[8, 1]] = f64::INFINITY;
        assert!(numbers(values).is_err());
        let drawn = numbers(Array2::zeros((9, 1))).unwrap().with_splits(Splits::default());
        assert!(drawn.unwrap_err().to_string().contains("no classes to draw a split from"));
    }
}
