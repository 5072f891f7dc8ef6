//! How good an output is, in percent.

use crate::data::{Dataset, Labels, UNLABELLED};
use crate::scalar::Scalar;
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

/// A task's own metric, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of nodes whose largest logit is their class.
    Accuracy,
    /// Area under the ROC curve of the second class; where nodes have several labels, the mean over
    /// the labels.
    RocAuc,
}

/// Two classes are unbalanced, and judged by ROC AUC, where the smaller has less than this share of
/// the nodes.
const UNBALANCED: f64 = 0.3;

impl Metric {
    /// The metric of a data set: ROC AUC where there are two classes and the smaller has under 30 %
    /// of the nodes that have a label, or where nodes have several labels.
    pub fn of<F: Scalar>(data: &Dataset<F>) -> Self {
        let Labels::Classes(classes) = data.labels() else { return Metric::RocAuc };
        if data.num_classes() != 2 {
            return Metric::Accuracy;
        }
        let labelled = classes.iter().filter(|label| **label != UNLABELLED).count();
        let second = classes.iter().filter(|label| **label == 1).count();
        let smaller = second.min(labelled - second) as f64;
        if smaller < UNBALANCED * labelled as f64 { Metric::RocAuc } else { Metric::Accuracy }
    }

    /// The metric of `logits: [n, classes]` for `data` on those of `rows` that have a label, in
    /// percent. Where a node may have several labels, [`Metric::Accuracy`] is the share of nodes
    /// whose labels are all as the signs of their logits say.
    pub fn measure<F: Scalar>(self, logits: ArrayView2<F>, data: &Dataset<F>, rows: &[u32]) -> f64 {
        let rows = &data.labelled(rows);
        match (self, data.labels()) {
            (Metric::Accuracy, Labels::Classes(classes)) => accuracy(logits, classes, rows),
            (Metric::Accuracy, Labels::Several { matrix, .. }) => {
                exact_matches(logits, matrix.view(), rows)
            }
            (Metric::RocAuc, Labels::Classes(classes)) => roc_auc(logits, classes, rows),
            (Metric::RocAuc, Labels::Several { matrix, .. }) => {
                mean_roc_auc(logits, matrix.view(), rows)
            }
        }
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Metric::Accuracy => "accuracy",
            Metric::RocAuc => "roc_auc",
        })
    }
}

/// Percent of `rows` whose largest logit is their label; of equal logits the first counts. 0 for no
/// rows.
pub fn accuracy<F: Scalar>(logits: ArrayView2<F>, labels: &[u32], rows: &[u32]) -> f64 {
    let right = |&&i: &&u32| {
        let row = logits.row(i as usize);
        let best = (1..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best });
        best == labels[i as usize] as usize
    };
    100.0 * rows.iter().filter(right).count() as f64 / rows.len().max(1) as f64
}

/// Percent of `rows` whose labels are those with a positive logit, all of them and no other; 0 for
/// no rows.
fn exact_matches<F: Scalar>(logits: ArrayView2<F>, labels: ArrayView2<bool>, rows: &[u32]) -> f64 {
    let right = |&&i: &&u32| {
        logits
            .row(i as usize)
            .iter()
            .zip(labels.row(i as usize))
            .all(|(z, &label)| if label { *z > F::zero() } else { *z <= F::zero() })
    };
    100.0 * rows.iter().filter(right).count() as f64 / rows.len().max(1) as f64
}

/// Percent of pairs of a node of class 1 and a node of class 0 that `z₁ − z₀` puts in the right
/// order; ties count half.
///
/// 50 where one of the classes is missing. *Source*: Mann and Whitney 1947, by ranks.
pub fn roc_auc<F: Scalar>(logits: ArrayView2<F>, labels: &[u32], rows: &[u32]) -> f64 {
    let score = |&i: &u32| (logits[[i as usize, 1]] - logits[[i as usize, 0]]).as_f64();
    ordered_pairs(rows.iter().map(|i| (score(i), labels[*i as usize] == 1)).collect())
        .unwrap_or(50.0)
}

/// The mean of the percentages of ordered pairs over the labels that some of `rows` have and others
/// have not; 50 where there is none such.
///
/// *Source*: the evaluator of ogbn-proteins, Hu et al., "Open Graph Benchmark", NeurIPS 2020.
pub fn mean_roc_auc<F: Scalar>(
    logits: ArrayView2<F>,
    labels: ArrayView2<bool>,
    rows: &[u32],
) -> f64 {
    let of = |c: usize| {
        ordered_pairs(
            rows.iter()
                .map(|&i| (logits[[i as usize, c]].as_f64(), labels[[i as usize, c]]))
                .collect(),
        )
    };
    let each: Vec<f64> = (0..labels.ncols()).filter_map(of).collect();
    if each.is_empty() { 50.0 } else { each.iter().sum::<f64>() / each.len() as f64 }
}

/// Percent of pairs of a positive and a negative whose scores stand in the right order; nothing
/// where one kind is missing.
fn ordered_pairs(mut scored: Vec<(f64, bool)>) -> Option<f64> {
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = scored.iter().filter(|(_, positive)| *positive).count();
    let pairs = positives as f64 * (scored.len() - positives) as f64;
    if pairs == 0.0 {
        return None;
    }
    let (mut rank_sum, mut start) = (0.0, 0);
    for tied in scored.chunk_by(|a, b| a.0 == b.0) {
        let mean_rank = start as f64 + (tied.len() as f64 + 1.0) / 2.0;
        rank_sum += mean_rank * tied.iter().filter(|(_, positive)| *positive).count() as f64;
        start += tied.len();
    }
    let p = positives as f64;
    Some(100.0 * (rank_sum - p * (p + 1.0) / 2.0) / pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn of_several_labels_all_must_be_right() {
        let labels = array![[true, false], [true, true], [false, false]];
        let graph = crate::Graph::builder(3).edges([(0, 1)]).build().unwrap();
        let split = crate::Split { train: vec![0], val: vec![1], test: vec![2] };
        let x = crate::Value::Dense(array![[1.0f32], [0.5], [0.0]]);
        let data =
            Dataset::multi_label("three", graph, x, labels, crate::data::Splits::Fixed(split))
                .unwrap();
        let logits = array![[1.0f32, -1.0], [2.0, -0.5], [-1.0, -2.0]];
        assert_eq!(Metric::Accuracy.measure(logits.view(), &data, &[0, 2]), 100.0);
        assert!(
            (Metric::Accuracy.measure(logits.view(), &data, &[0, 1, 2]) - 200.0 / 3.0).abs()
                < 1e-12
        );
    }

    #[test]
    fn accuracy_counts_the_rows_asked_for() {
        let logits = array![[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]];
        assert_eq!(accuracy(logits.view(), &[0, 0, 0], &[0, 1, 2]), 200.0 / 3.0);
        assert_eq!(accuracy(logits.view(), &[0, 0, 0], &[]), 0.0);
    }

    #[test]
    fn roc_auc_is_the_share_of_ordered_pairs() {
        let logits = array![[0.0, 0.1], [0.0, 0.4], [0.0, 0.35], [0.0, 0.8]];
        assert_eq!(roc_auc(logits.view(), &[0, 0, 1, 1], &[0, 1, 2, 3]), 75.0);
        let tied = array![[0.0, 1.0], [0.0, 1.0]];
        assert_eq!(roc_auc(tied.view(), &[0, 1], &[0, 1]), 50.0);
        assert_eq!(roc_auc(tied.view(), &[1, 1], &[0, 1]), 50.0);
    }

    #[test]
    fn two_classes_of_which_one_is_rare_are_judged_by_their_order_whichever_it_is() {
        let of = |labels: Vec<u32>| {
            let n = labels.len();
            let graph = crate::Graph::builder(n).build().unwrap();
            let splits = crate::data::Splits::Fixed(crate::Split {
                train: vec![0],
                val: vec![1],
                test: vec![2],
            });
            let x = crate::Value::Dense(ndarray::Array2::zeros((n, 1)));
            Metric::of(&Dataset::<f32>::new("toy", graph, x, labels, Some(2), splits).unwrap())
        };
        for ones in 1..=19 {
            let expected = if (6..=14).contains(&ones) { Metric::Accuracy } else { Metric::RocAuc };
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
            (0..20).map(|i| if i < 12 { UNLABELLED } else { u32::from(i < 16) }).collect();
        let graph = crate::Graph::builder(20).build().unwrap();
        let splits = crate::data::Splits::Fixed(crate::Split {
            train: vec![12],
            val: vec![13],
            test: vec![19],
        });
        let x = crate::Value::Dense(ndarray::Array2::zeros((20, 1)));
        let data = Dataset::<f32>::new("toy", graph, x, labels, Some(2), splits).unwrap();
        assert_eq!(Metric::of(&data), Metric::Accuracy, "four of eight, not four of twenty");
        let logits = ndarray::Array2::from_shape_fn((20, 2), |(_, c)| c as f32);
        assert_eq!(
            Metric::Accuracy.measure(logits.view(), &data, &(0..20).collect::<Vec<_>>()),
            50.0
        );
        let unlabelled = crate::train::supervised(logits.view(), &data, &[0, 12]);
        assert_eq!(
            unlabelled,
            crate::train::supervised(logits.view(), &data, &[12]),
            "they have no loss either"
        );
    }

    #[test]
    fn several_labels_are_judged_one_by_one_and_those_that_tell_nothing_left_out() {
        let logits = array![[0.1, 3.0, 0.0], [0.4, 2.0, 0.0], [0.35, 1.0, 0.0], [0.8, 0.0, 0.0]];
        let labels = array![
            [false, true, true],
            [false, true, true],
            [true, false, true],
            [true, false, true]
        ];
        assert_eq!(mean_roc_auc(logits.view(), labels.view(), &[0, 1, 2, 3]), (75.0 + 100.0) / 2.0);
        assert_eq!(mean_roc_auc(logits.view(), labels.view(), &[0]), 50.0);
    }
}
