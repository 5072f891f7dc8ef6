//! Which calibration each activation gets, where none is set: of a short list the one that changes
//! what the network puts out least.
//!
//! The error is measured where the network is used: the integer program runs, and its probabilities
//! are compared with those of the float network. Squared errors of the values themselves, or of
//! what reads them, are those of the few nodes whose values are large: after a sum over neighbours
//! that of the hubs, for whose sake all other nodes would be rounded away. Probabilities count
//! every node alike, and none for more than 2.

use super::calibration::Calibration;
use super::forms::Forms;
use super::model::QuantModel;
use crate::data::Labels;
use crate::error::Result;
use crate::nn::Model;
use crate::task::{Batch, Metric, Task};
use ndarray::{Array2, ArrayView1, ArrayView2};
use rayon::prelude::*;

/// What is tried where nothing is set, from the coarsest steps to the finest.
pub(super) const TRIED: [Calibration; 7] = [
    Calibration::MinMax,
    Calibration::Percentile(99.99),
    Calibration::Percentile(99.9),
    Calibration::Percentile(99.5),
    Calibration::Percentile(99.0),
    Calibration::Percentile(98.0),
    Calibration::Percentile(95.0),
];

/// Values that are looked at one by one, at most; of more, neighbours change together.
const MOST_GROUPS: usize = 16;

/// Another calibration must leave this share of the error or less: what wins less is not worth what
/// it clips.
const GAIN: f64 = 0.99;

/// A calibration of one value, and the scales that it gives.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub calibration: Calibration,
    /// One; of the input one per channel.
    pub scales: Vec<f32>,
}

/// What each value may be calibrated by: first the input, then every stage but the last. Without
/// any, a value has no scales.
pub(super) type Candidates = Vec<Vec<Candidate>>;

/// Gives `small` the candidates of the smallest error among those that were tried, never one with a
/// larger error than the first of all.
pub(super) fn choose(
    small: &mut QuantModel,
    candidates: &Candidates,
    dense: &Model,
    task: &dyn Task<f32>,
    whole: &Batch<f32>,
) -> Result<()> {
    let wanted = Probabilities::of(dense, task, whole)?;
    let mut error = |choice: &[usize]| -> Result<f64> {
        apply(small, candidates, choice);
        let (graph, x, rows) = (whole.graph(), whole.features(), whole.spaces());
        let mut program = small.compile_within_as(graph, x, rows, Forms::Integers)?;
        Ok(wanted.error(program.run(whole.features())?))
    };
    let mut best = Best { choice: vec![0; candidates.len()], error: f64::INFINITY };
    best.error = error(&best.choice)?;
    // All values alike first ...
    let most = candidates.iter().map(Vec::len).max().unwrap_or(0);
    let mut before = best.choice.clone();
    for k in 1..most {
        let choice = vec![k; candidates.len()];
        if !same(candidates, &before, &choice) {
            best.try_out(choice.clone(), &mut error)?;
        }
        before = choice;
    }
    // ... then each by itself, a step at a time, with all others as they are.
    let open: Vec<usize> =
        (0..candidates.len()).filter(|&value| candidates[value].len() > 1).collect();
    for group in open.chunks(open.len().div_ceil(MOST_GROUPS).max(1)) {
        let from = best.choice[group[0]];
        for finer in [true, false] {
            let mut at = best.choice.clone();
            while let Some(next) = step(at[group[0]], finer, most) {
                let before = at.clone();
                group.iter().for_each(|&value| at[value] = next);
                if !same(candidates, &before, &at) && !best.try_out(at.clone(), &mut error)? {
                    break;
                }
            }
            if best.choice[group[0]] != from {
                break;
            }
        }
    }
    apply(small, candidates, &best.choice);
    Ok(())
}

/// The best choice so far: a candidate of each value.
struct Best {
    choice: Vec<usize>,
    error: f64,
}

impl Best {
    /// Takes another choice if it is better.
    fn try_out(
        &mut self,
        choice: Vec<usize>,
        error: &mut dyn FnMut(&[usize]) -> Result<f64>,
    ) -> Result<bool> {
        let found = error(&choice)?;
        let better = found < GAIN * self.error;
        if better {
            (self.choice, self.error) = (choice, found);
        }
        Ok(better)
    }
}

fn step(at: usize, finer: bool, count: usize) -> Option<usize> {
    if finer { (at + 1 < count).then_some(at + 1) } else { at.checked_sub(1) }
}

/// Whether two choices give the same scales.
fn same(candidates: &Candidates, a: &[usize], b: &[usize]) -> bool {
    let alike = |of: &[Candidate], a: usize, b: usize| {
        of.get(a).map(|of| &of.scales) == of.get(b).map(|of| &of.scales)
    };
    candidates.iter().zip(a.iter().zip(b)).all(|(of, (&a, &b))| a == b || alike(of, a, b))
}

/// Gives `small` the scales of a choice.
pub(super) fn apply(small: &mut QuantModel, candidates: &Candidates, choice: &[usize]) {
    let mut chosen = candidates.iter().zip(choice).map(|(of, &k)| of.get(k));
    let input = chosen.next().flatten();
    small.input_scales = input.map(|candidate| candidate.scales.clone());
    small.input_calibration = input.map(|candidate| candidate.calibration);
    for (stage, candidate) in small.stages.iter_mut().zip(chosen) {
        stage.scale = candidate.map(|candidate| candidate.scales[0]);
        stage.calibration = candidate.map(|candidate| candidate.calibration);
    }
}

/// What the float network says of each node, pair or graph: `[n, classes]`.
struct Probabilities {
    wanted: Array2<f32>,
    means: Means,
}

/// What the outputs of a row mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Means {
    /// One class of several.
    OneClass,
    /// Whether it has each label, or the one that there is.
    Labels,
    /// Numbers, as they stand.
    Numbers,
}

impl Means {
    /// By the metric, and where that leaves it open by how many outputs there are and what is known
    /// of the nodes that they are about.
    fn of(task: &dyn Task<f32>, outputs: usize, of_nodes: bool) -> Self {
        let metric = task.metric();
        let several = of_nodes && matches!(task.data().labels(), Labels::Several { .. });
        if [Metric::MEAN_SQUARED_ERROR, Metric::MEAN_ABSOLUTE_ERROR].contains(&metric) {
            Means::Numbers
        } else if outputs == 1 || several || (metric == Metric::ROC_AUC && outputs != 2) {
            Means::Labels
        } else {
            Means::OneClass
        }
    }
}

impl Probabilities {
    fn of(dense: &Model, task: &dyn Task<f32>, whole: &Batch<f32>) -> Result<Self> {
        let mut program = dense.compile_within(whole.graph(), whole.features(), whole.spaces())?;
        let mut wanted = program.run(whole.features())?.to_owned();
        let means = Means::of(task, wanted.ncols(), whole.asks_about_nodes());
        for mut row in wanted.rows_mut() {
            let probability = probability(row.view(), means);
            row.mapv_inplace(|z| probability(z) as f32);
        }
        Ok(Self { wanted, means })
    }

    /// The squared error of what these logits say, summed over the classes and meant over the
    /// nodes. Nodes are added in their order, so that the number of threads does not matter.
    fn error(&self, logits: ArrayView2<f32>) -> f64 {
        let of = |i: usize| -> f64 {
            let probability = probability(logits.row(i), self.means);
            self.wanted
                .row(i)
                .iter()
                .zip(logits.row(i))
                .map(|(&p, &z)| (f64::from(p) - probability(z)).powi(2))
                .sum()
        };
        let errors: Vec<f64> = (0..logits.nrows()).into_par_iter().map(of).collect();
        errors.iter().sum::<f64>() / errors.len().max(1) as f64
    }
}

/// The probability of a class by its logit, beside all logits of its node; a number is itself.
fn probability(logits: ArrayView1<f32>, means: Means) -> impl Fn(f32) -> f64 + use<> {
    let (mut top, mut sum) = (0.0, 0.0);
    if means == Means::OneClass {
        top = f64::from(logits.fold(f32::NEG_INFINITY, |top, &z| top.max(z)));
        sum = logits.iter().map(|&z| (f64::from(z) - top).exp()).sum();
    }
    move |z| match means {
        Means::OneClass => (f64::from(z) - top).exp() / sum,
        Means::Labels => 1.0 / (1.0 + (-f64::from(z)).exp()),
        Means::Numbers => f64::from(z),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Cx;
    use crate::{Dataset, Gcn};

    #[test]
    fn a_single_output_is_a_probability_of_its_own() {
        let data = Dataset::sbm(120, 2).features(4).degree(4.0).seed(1).build().unwrap();
        let model = Gcn::builder(4, 1).hidden(3).build(0).unwrap();
        let wanted = Probabilities::of(&model, &data, &data.whole().unwrap()).unwrap();
        let logits = model.infer(&Cx::eval(data.graph()), data.features()).unwrap();
        for (&p, &z) in wanted.wanted.iter().zip(&logits) {
            assert!(
                (f64::from(p) - 1.0 / (1.0 + (-f64::from(z)).exp())).abs() < 1e-6,
                "{p} of {z}"
            );
        }
        assert!(wanted.error(logits.view()) < 1e-12 && wanted.error((logits + 1.0).view()) > 1e-3);
    }
}
