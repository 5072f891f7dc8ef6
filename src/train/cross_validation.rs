//! Cross-validation of graph classification, by two rules that must not be mixed up.

use super::observer::{Epoch, Flow, Observer};
use super::trainer::{Setup, Trainer};
use crate::error::{Error, Result};
use crate::nn::Model;
use crate::scalar::Scalar;
use crate::task::{GraphTask, Holdout, Metric, Part, Task, evaluate};
use rayon::prelude::*;
use serde::Serialize;

/// How an epoch is chosen, and what is reported of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GraphProtocol {
    /// For each fold, the epoch that is best on the next fold, reported on the fold itself, which
    /// neither trained nor chose.
    TestFold,
    /// No fold tests: the curves of all folds on the graphs held out are averaged, and the one
    /// epoch with the best mean is reported on the same graphs. It is better than what new graphs
    /// would give; it is there to be compared with the figures of Xu et al. 2019.
    SharedEpoch,
}

impl std::fmt::Display for GraphProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            GraphProtocol::TestFold => "test fold, epoch chosen on another fold",
            GraphProtocol::SharedEpoch => {
                "Xu et al. 2019: no test fold, one epoch chosen on what is reported"
            }
        })
    }
}

/// One fold of a cross-validation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct FoldResult {
    /// The seed of the model, by which it stands on its fold.
    pub seed: u64,
    /// The fold that is held out first.
    pub fold: usize,
    /// The epoch that is reported, counted from 1.
    pub epoch: usize,
    /// The metric at that epoch on the graphs that validate.
    pub validation: f64,
    /// What is reported: on the test fold, or the same as `validation` where there is none.
    pub score: f64,
    /// The metric on the graphs that validate, epoch by epoch.
    pub curve: Vec<f64>,
}

/// What a cross-validation came to.
///
/// ```
/// use gnn_prune::data::GraphSet;
/// use gnn_prune::train::CrossValidation;
/// use gnn_prune::{GraphTask, StructureFree, Trainer};
/// let set = GraphSet::cycles_or_trees(30, 0.0, 1)?;
/// let task = GraphTask::builder(&set).folds(3).build()?;
/// let form = StructureFree::builder(1, 2).hidden(4).build(0)?;
/// let trainer = Trainer::builder().epochs(3).build()?;
/// let [honest, xu] = CrossValidation::both(&form, &trainer, &task)?;
/// println!("{honest}\n{xu}");
/// assert!(honest.folds.len() == 3 && xu.folds.iter().all(|fold| fold.epoch == xu.folds[0].epoch));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CrossValidation {
    /// The rule.
    pub protocol: GraphProtocol,
    /// What was measured.
    pub metric: Metric,
    /// The folds, those of seeds 0, 1, … in this order.
    pub folds: Vec<FoldResult>,
}

impl CrossValidation {
    /// Trains networks of the form of `form` for the seeds `0..folds` and reports by `protocol`;
    /// which folds the task itself holds out does not matter. Folds run in parallel, with the same
    /// bits on any number of threads; what listens to the trainer hears the epochs of all of them.
    ///
    /// # Errors
    /// As [`Trainer::fit`]; [`Error::Setting`] for [`GraphProtocol::SharedEpoch`] where the trainer
    /// may stop before its last epoch, so that curves would have different lengths.
    pub fn run<F: Scalar>(
        protocol: GraphProtocol,
        form: &Model<F>,
        trainer: &Trainer,
        task: &GraphTask<F>,
    ) -> Result<Self> {
        let holdout = match protocol {
            GraphProtocol::TestFold => Holdout::TestAndValidation,
            GraphProtocol::SharedEpoch if trainer.may_stop_early() => {
                let legal = "at least the number of epochs where all folds share an epoch";
                return Err(Error::setting("patience", "smaller", legal));
            }
            GraphProtocol::SharedEpoch => Holdout::ValidationOnly,
        };
        let task = task.holding_out(holdout);
        let seeds = 0..task.folds().count() as u64;
        let fold = |seed| fold(protocol, &form.fresh(seed), trainer, &task);
        let folds: Vec<Result<FoldResult>> = seeds.into_par_iter().map(fold).collect();
        let mut folds = folds.into_iter().collect::<Result<Vec<_>>>()?;
        if protocol == GraphProtocol::SharedEpoch {
            share_epoch(&mut folds, Task::<F>::metric(&task));
        }
        Ok(Self { protocol, metric: Task::<F>::metric(&task), folds })
    }

    /// By both rules, first [`GraphProtocol::TestFold`].
    ///
    /// # Errors
    /// As [`CrossValidation::run`]; patience only holds for the first, and the second runs to the
    /// last epoch.
    pub fn both<F: Scalar>(
        form: &Model<F>,
        trainer: &Trainer,
        task: &GraphTask<F>,
    ) -> Result<[Self; 2]> {
        let honest = Self::run(GraphProtocol::TestFold, form, trainer, task)?;
        let whole = trainer.without_patience();
        Ok([honest, Self::run(GraphProtocol::SharedEpoch, form, &whole, task)?])
    }

    /// The mean of the scores over folds.
    pub fn mean(&self) -> f64 {
        self.folds.iter().map(|fold| fold.score).sum::<f64>() / self.folds.len().max(1) as f64
    }

    /// The sample deviation of the scores over folds.
    pub fn std(&self) -> f64 {
        let mean = self.mean();
        let squares: f64 = self.folds.iter().map(|fold| (fold.score - mean).powi(2)).sum();
        (squares / (self.folds.len().max(2) - 1) as f64).sqrt()
    }
}

impl std::fmt::Display for CrossValidation {
    /// One line: mean, deviation, folds, epochs and rule.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let epochs = self.folds.iter().map(|fold| fold.epoch);
        let (least, most) = (epochs.clone().min().unwrap_or(0), epochs.max().unwrap_or(0));
        let epochs = if least == most {
            format!("epoch {least}")
        } else {
            format!("epochs {least} to {most}")
        };
        write!(
            f,
            "{} {} ± {} over {} folds, {epochs} ({})",
            self.metric.title(),
            self.metric.number(self.mean()),
            self.metric.number(self.std()),
            self.folds.len(),
            self.protocol
        )
    }
}

/// Listens to the metric of each epoch.
struct Curve(Vec<f64>);

impl<F: Scalar> Observer<F> for Curve {
    fn after_epoch(&mut self, at: &Epoch, _: &mut Model<F>) -> Result<Flow> {
        self.0.push(at.validation);
        Ok(Flow::On)
    }
}

fn fold<F: Scalar>(
    protocol: GraphProtocol,
    model: &Model<F>,
    trainer: &Trainer,
    task: &GraphTask<F>,
) -> Result<FoldResult> {
    let (seed, mut curve) = (model.seed(), Curve(Vec::new()));
    let fit = trainer.fit_with(model.clone(), task, Setup::new().observer(&mut curve))?;
    let score = match protocol {
        GraphProtocol::TestFold => evaluate(&fit.model, task, Part::Test)?,
        GraphProtocol::SharedEpoch => fit.validation,
    };
    let (epoch, validation) = (fit.best_epoch, fit.validation);
    Ok(FoldResult { seed, fold: task.folds().fold(seed), epoch, validation, score, curve: curve.0 })
}

/// Reports all folds at the first of the epochs with the best mean.
fn share_epoch(folds: &mut [FoldResult], metric: Metric) {
    let epochs = folds.iter().map(|fold| fold.curve.len()).min().unwrap_or(0);
    let mean = |epoch: usize| folds.iter().map(|fold| fold.curve[epoch]).sum::<f64>();
    let better =
        |best: usize, k: usize| if metric.is_better(mean(k), mean(best)) { k } else { best };
    let best = (1..epochs).fold(0, better);
    for fold in folds.iter_mut() {
        let at = fold.curve[best];
        (fold.epoch, fold.validation, fold.score) = (best + 1, at, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::GraphSet;
    use crate::models::StructureFree;

    fn results(curves: &[&[f64]]) -> Vec<FoldResult> {
        let result = |(k, curve): (usize, &&[f64])| FoldResult {
            seed: k as u64,
            fold: k,
            epoch: 0,
            validation: f64::NAN,
            score: f64::NAN,
            curve: curve.to_vec(),
        };
        curves.iter().enumerate().map(result).collect()
    }

    #[test]
    fn one_epoch_is_chosen_by_the_mean_and_not_each_by_its_own() {
        let mut folds = results(&[
            &[90.0, 60.0, 70.0, 70.0],
            &[50.0, 90.0, 80.0, 80.0],
            &[40.0, 20.0, 60.0, 60.0],
        ]);
        share_epoch(&mut folds, Metric::ACCURACY);
        assert_eq!(folds.iter().map(|fold| fold.epoch).collect::<Vec<_>>(), [3, 3, 3]);
        let xu = CrossValidation {
            protocol: GraphProtocol::SharedEpoch,
            metric: Metric::ACCURACY,
            folds,
        };
        assert_eq!((xu.mean(), xu.std()), (70.0, 10.0));
        let words = xu.to_string();
        assert!(words.contains("70.00 ± 10.00 over 3 folds, epoch 3 (Xu et al."), "{words}");
    }

    #[test]
    fn a_test_fold_is_reported_at_the_epoch_that_another_fold_chose() {
        let set = GraphSet::cycles_or_trees(45, 0.3, 2).unwrap();
        let task = GraphTask::builder(&set).folds(3).build().unwrap();
        let form = StructureFree::builder(1, 2).hidden(4).build(9).unwrap();
        let trainer = Trainer::builder().epochs(6).patience(2).build().unwrap();
        let [honest, xu] = CrossValidation::both(&form, &trainer, &task).unwrap();
        for fold in &honest.folds {
            let metric = honest.metric;
            assert!(fold.curve.iter().all(|&at| !metric.is_better(at, fold.validation)));
            assert_eq!(fold.curve[fold.epoch - 1], fold.validation);
            let model = trainer.fit(form.fresh(fold.seed), &task).unwrap();
            assert_eq!(evaluate(&model, &task, Part::Test).unwrap(), fold.score);
        }
        assert!(xu.folds.iter().all(|fold| fold.curve.len() == 6));
        let refused = CrossValidation::run(GraphProtocol::SharedEpoch, &form, &trainer, &task);
        assert!(refused.unwrap_err().to_string().contains("patience"));
    }
}
