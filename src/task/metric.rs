//! How good an output is.

use super::Measured;
use crate::scalar::Scalar;
use ndarray::{ArrayView1, ArrayView2};
use serde::{Serialize, Serializer};

/// Which of two values of a metric is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Better {
    /// The higher.
    Higher,
    /// The lower.
    Lower,
}

/// How a value is made of a [`Tally`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    /// The weighted mean of what was added.
    Mean,
    /// The same, in percent.
    Percent,
    /// The percentage of pairs in the right order.
    Ordered,
}

/// What a task measures. Tasks of one's own may bring their own: [`Metric::mean`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Metric {
    name: &'static str,
    title: &'static str,
    better: Better,
    form: Form,
}

impl Metric {
    /// Percentage of nodes, or of graphs, whose largest logit is their class; where a node may have
    /// several labels, of nodes whose labels are all as the signs of their logits say.
    pub const ACCURACY: Metric =
        Metric { name: "accuracy", title: "accuracy", better: Better::Higher, form: Form::Percent };
    /// Area under the ROC curve of the second class, in percent; where there are several labels,
    /// the mean over the labels.
    pub const ROC_AUC: Metric =
        Metric { name: "roc_auc", title: "ROC AUC", better: Better::Higher, form: Form::Ordered };
    /// Mean squared error.
    pub const MEAN_SQUARED_ERROR: Metric =
        Metric::mean("mean_squared_error", "mean squared error", Better::Lower);
    /// Mean absolute error.
    pub const MEAN_ABSOLUTE_ERROR: Metric =
        Metric::mean("mean_absolute_error", "mean absolute error", Better::Lower);

    /// Mean reciprocal rank, in percent.
    pub const MEAN_RECIPROCAL_RANK: Metric = Metric::percent("mrr", "MRR", Better::Higher);

    /// Share of a user's answers among the first 20 items, in percent.
    pub const RECALL_AT_20: Metric = Metric::percent("recall@20", "Recall@20", Better::Higher);

    /// A metric that is the weighted mean of what [`Tally::add`] was given: `name` is a word for
    /// files, `title` what a report calls it.
    pub const fn mean(name: &'static str, title: &'static str, better: Better) -> Self {
        Self { name, title, better, form: Form::Mean }
    }

    /// A metric as [`Metric::mean`], times 100.
    pub const fn percent(name: &'static str, title: &'static str, better: Better) -> Self {
        Self { name, title, better, form: Form::Percent }
    }

    /// The word that files know it by: `roc_auc`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What a report calls it: `ROC AUC`.
    pub const fn title(&self) -> &'static str {
        self.title
    }

    /// Which values are better.
    pub const fn better(&self) -> Better {
        self.better
    }

    /// Whether values are percentages, so that differences are points.
    pub const fn is_percent(&self) -> bool {
        !matches!(self.form, Form::Mean)
    }

    /// A value as reports show it: `81.20 %`, `0.01234`.
    pub fn shown(&self, value: f64) -> String {
        let number = self.number(value);
        if self.is_percent() { format!("{number} %") } else { number }
    }

    /// The number of [`Metric::shown`]: two digits of a percentage, four that count of others.
    pub(crate) fn number(&self, value: f64) -> String {
        if self.is_percent() {
            return format!("{value:.2}");
        }
        let before = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
        let digits = if before.is_finite() { (3.0 - before).clamp(0.0, 12.0) } else { 4.0 };
        format!("{value:.*}", digits as usize)
    }

    /// Whether `value` is better than `other`; NaN is better than nothing, and all else than NaN.
    pub fn is_better(&self, value: f64, other: f64) -> bool {
        match self.better {
            _ if other.is_nan() => !value.is_nan(),
            Better::Higher => value > other,
            Better::Lower => value < other,
        }
    }

    /// What every value is better than.
    pub const fn worst(&self) -> f64 {
        match self.better {
            Better::Higher => f64::NEG_INFINITY,
            Better::Lower => f64::INFINITY,
        }
    }

    /// The value of what was added up; of nothing a mean is 0, and an order is right by half.
    pub fn of(&self, tally: Tally) -> f64 {
        let mean = |factor: f64| {
            if tally.weight == 0.0 { 0.0 } else { factor * tally.sum / tally.weight }
        };
        match self.form {
            Form::Mean => mean(1.0),
            Form::Percent => mean(100.0),
            Form::Ordered => {
                let each: Vec<f64> = tally.ranked.into_iter().filter_map(ordered_pairs).collect();
                if each.is_empty() { 50.0 } else { each.iter().sum::<f64>() / each.len() as f64 }
            }
        }
    }
}

impl std::fmt::Display for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl std::fmt::Debug for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

/// What the outputs of all batches of a part are worth, as far as they have been judged.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    sum: f64,
    weight: f64,
    ranked: Vec<Vec<(f64, bool)>>,
    others: Vec<(&'static str, f64, f64)>,
}

impl Tally {
    /// Nothing judged yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value to the mean, with a weight.
    pub fn add(&mut self, value: f64, weight: f64) {
        self.sum += value * weight;
        self.weight += weight;
    }

    /// Adds a value to the mean of another metric that stands beside the task's own, with a weight.
    pub fn also(&mut self, name: &'static str, value: f64, weight: f64) {
        match self.others.iter_mut().find(|(known, ..)| *known == name) {
            Some((_, sum, total)) => {
                *sum += value * weight;
                *total += weight;
            }
            None => self.others.push((name, value * weight, weight)),
        }
    }

    /// What it all is worth by `metric`, with those that stand beside it.
    pub fn measured(self, metric: Metric) -> Measured {
        let others = self.others().map(|(name, value)| (name.to_string(), value)).collect();
        Measured { value: metric.of(self), others }
    }

    /// The metrics beside the task's own, in percent.
    pub fn others(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        self.others.iter().map(|&(name, sum, weight)| (name, 100.0 * sum / weight))
    }

    /// Adds an example to a ranking: what it scored, and whether it is a positive. Rankings are
    /// numbered from 0, and [`Metric::ROC_AUC`] is the mean over those that hold both kinds.
    pub fn rank(&mut self, ranking: usize, score: f64, positive: bool) {
        if self.ranked.len() <= ranking {
            self.ranked.resize(ranking + 1, Vec::new());
        }
        self.ranked[ranking].push((score, positive));
    }
}

/// Whether the largest logit is that of `class`; of equal logits the first counts.
pub(super) fn largest_is<F: Scalar>(row: ArrayView1<F>, class: usize) -> bool {
    let best = (1..row.len()).fold(0, |best, c| if row[c] > row[best] { c } else { best });
    best == class
}

/// Whether the labels are those with a positive logit, all of them and no other.
pub(super) fn as_signs_say<F: Scalar>(row: ArrayView1<F>, labels: ArrayView1<bool>) -> bool {
    row.iter().zip(labels).all(|(z, &label)| if label { *z > F::zero() } else { *z <= F::zero() })
}

/// Percent of `rows` whose largest logit is their label; of equal logits the first counts. 0 for no
/// rows.
pub fn accuracy<F: Scalar>(logits: ArrayView2<F>, labels: &[u32], rows: &[u32]) -> f64 {
    let right = |&&i: &&u32| largest_is(logits.row(i as usize), labels[i as usize] as usize);
    100.0 * rows.iter().filter(right).count() as f64 / rows.len().max(1) as f64
}

/// Percent of pairs of a node of class 1 and a node of class 0 that `z₁ − z₀` puts in the right
/// order; ties count half.
///
/// 50 where one of the classes is missing. *Source*: Mann and Whitney 1947, by ranks.
pub fn roc_auc<F: Scalar>(logits: ArrayView2<F>, labels: &[u32], rows: &[u32]) -> f64 {
    let mut tally = Tally::new();
    for i in rows.iter().map(|&i| i as usize) {
        tally.rank(0, (logits[[i, 1]] - logits[[i, 0]]).as_f64(), labels[i] == 1);
    }
    Metric::ROC_AUC.of(tally)
}

/// Percent of pairs of a positive and a negative whose scores stand in the right order; nothing
/// where one kind is missing.
///
/// *Source*: Mann and Whitney 1947, by ranks; the mean over several labels as the evaluator of
/// ogbn-proteins, Hu et al., "Open Graph Benchmark", NeurIPS 2020.
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
    fn what_is_better_is_so_for_either_direction_and_nan_for_none() {
        let (high, low) = (Metric::ACCURACY, Metric::MEAN_ABSOLUTE_ERROR);
        assert!(high.is_better(2.0, 1.0) && !high.is_better(1.0, 2.0));
        assert!(low.is_better(1.0, 2.0) && !low.is_better(2.0, 1.0));
        for metric in [high, low] {
            assert!(metric.is_better(0.5, metric.worst()) && !metric.is_better(0.5, 0.5));
            assert!(!metric.is_better(f64::NAN, 0.5) && metric.is_better(0.5, f64::NAN));
        }
    }

    #[test]
    fn numbers_are_shown_with_the_digits_that_count() {
        assert_eq!(Metric::ACCURACY.shown(81.204), "81.20 %");
        let error = Metric::MEAN_SQUARED_ERROR;
        for (value, shown) in
            [(0.0123456, "0.01235"), (0.0, "0.000"), (1234.5, "1234"), (5e-7, "0.0000005000")]
        {
            assert_eq!(error.shown(value), shown);
        }
    }

    #[test]
    fn a_tally_of_weights_is_their_weighted_mean() {
        let mut tally = Tally::new();
        tally.add(1.0, 1.0);
        tally.add(4.0, 2.0);
        assert_eq!(Metric::MEAN_SQUARED_ERROR.of(tally.clone()), 3.0);
        assert_eq!(Metric::percent("hits", "hits", Better::Higher).of(tally), 300.0);
        assert_eq!(Metric::ACCURACY.of(Tally::new()), 0.0);
    }
}
