//! Relaxed ranking distillation: the teacher's first answers in its order.

use super::{DistillLoss, Ranked, Signals};
use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::task::relaxed_ranking;
use crate::train::NodeGrads;
use ndarray::{Array2, ArrayView2};

/// `−1/K · Σ_{k≤K} [s_k − ln(Σ_{j=k..K} e^{s_j} + Σ_{l≤L} e^{s_l})]`, the mean over queries: how
/// unlikely the student makes it that the teacher's first `K` answers come first, in the teacher's
/// order, before `L` drawn others whose order among themselves is left open.
///
/// The others are drawn anew for every batch, all alike, of the candidates that are neither among
/// the first nor known in training to be right. The sum over the list is divided by `K`, where the
/// paper leaves it to the weight: a longer list then needs no smaller one. With
/// `Z_k = Σ_{j=k..K} e^{s_j} + Σ_l e^{s_l}` the gradient is `1/K·(Σ_{k≤j} e^{s_j}/Z_k − 1)` by the
/// `j`-th of the list, and `1/K·Σ_k e^{s_l}/Z_k` by another.
///
/// It reads rankings alone, so only tasks that rank have it ([`Task::rankings`]), and is meant to
/// stand beside the task's own loss ([`DistillerBuilder::labels`]): of what a query is known to
/// have it says nothing.
///
/// *Source*: Kang et al., "DE-RRD", CIKM 2020, eqs. 6 and 7, with all of the teacher's first `K` in
/// the place of a sample of them (as the authors recommend since 2023).
///
/// [`Task::rankings`]: crate::task::Task::rankings
/// [`DistillerBuilder::labels`]: crate::distill::DistillerBuilder::labels
///
/// ```
/// use gnn_prune::RelaxedRanking;
/// assert_eq!(RelaxedRanking::default(), RelaxedRanking::new(40, 40)?);
/// assert!(RelaxedRanking::new(0, 40).is_err());
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelaxedRanking {
    ranked: Ranked,
}

impl RelaxedRanking {
    /// Of the teacher's first `best` answers, before `others` drawn ones; at least 1 each. Default
    /// 40 and 40: see [`RelaxedRanking::default`].
    ///
    /// # Errors
    /// [`Error::Setting`] for none of either.
    pub fn new(best: usize, others: usize) -> Result<Self> {
        for (what, count) in [("answers of the teacher", best), ("answers beside them", others)] {
            if count == 0 {
                return Err(Error::setting(what, 0, "at least 1"));
            }
        }
        Ok(Self { ranked: Ranked::new(best, others) })
    }
}

impl Default for RelaxedRanking {
    /// 40 answers of the teacher, and 40 others, as in the paper.
    fn default() -> Self {
        Self { ranked: Ranked::new(40, 40) }
    }
}

impl<F: Scalar> DistillLoss<F> for RelaxedRanking {
    fn name(&self) -> &'static str {
        "relaxed_ranking"
    }

    fn settings(&self) -> String {
        let Ranked { best, others } = self.ranked;
        format!("relaxed_ranking of {best} answers before {others}")
    }

    fn start(&self, _: u64) -> Box<dyn DistillLoss<F>> {
        Box::new(*self)
    }

    fn reads_rankings(&self) -> Option<Ranked> {
        Some(self.ranked)
    }

    fn of_rankings(&self, scores: ArrayView2<F>) -> Result<(F, Array2<F>)> {
        let Ranked { best, others } = self.ranked;
        if scores.ncols() != best + others {
            let (expected, found) = ((scores.nrows(), best + others), scores.dim());
            return Err(Error::ShapeMismatch { at: "scores of rankings".into(), expected, found });
        }
        Ok(relaxed_ranking(scores, best))
    }

    /// Refused: there is no ranking.
    fn loss(&self, _: &Signals<F>, _: &Signals<F>, _: &[u32]) -> Result<(F, NodeGrads<F>)> {
        Err(Error::setting("relaxed_ranking", "rows of outputs", "the rankings of a task"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn it_is_its_formula_and_has_its_slope() {
        let loss = RelaxedRanking::new(3, 2).unwrap();
        let scores: Array2<f64> = array![[0.3, -1.2, 0.8, 0.1, 2.0], [1.5, 0.2, 0.2, -3.0, 0.4]];
        let value = |scores: &Array2<f64>| loss.of_rankings(scores.view()).unwrap();
        let mut expected = 0.0;
        for row in scores.rows() {
            for k in 0..3 {
                let below: f64 = (k..5).map(|j| row[j].exp()).sum();
                expected -= (row[k] - below.ln()) / 6.0;
            }
        }
        let (found, gradient) = value(&scores);
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        for (at, &slope) in gradient.indexed_iter() {
            let moved = |step: f64| {
                let mut moved = scores.clone();
                moved[at] += step;
                value(&moved).0
            };
            let differences = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((slope - differences).abs() < 1e-8, "{at:?}: {slope} {differences}");
        }
    }

    #[test]
    fn scores_that_are_far_apart_do_not_overflow() {
        let loss = RelaxedRanking::new(2, 1).unwrap();
        let scores = array![[400.0f32, -300.0, 500.0], [-900.0, 900.0, 0.0]];
        let (value, gradient) = DistillLoss::<f32>::of_rankings(&loss, scores.view()).unwrap();
        assert!((value - (100.0 + 800.0 + 1800.0) / 4.0).abs() < 1e-3, "{value}");
        assert!(gradient.iter().all(|g| g.is_finite()));
        let wrong = DistillLoss::<f32>::of_rankings(&loss, array![[0.0, 1.0]].view());
        assert!(wrong.is_err());
    }
}
