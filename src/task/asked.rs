//! Which candidates of a batch's queries are right, and what a loss makes of their scores.

use crate::error::{Error, Result};
use crate::kernels::{self, buffer};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};

/// A list of numbers for each query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    starts: Vec<usize>,
    entries: Vec<u32>,
}

impl Lists {
    pub(crate) fn new() -> Self {
        Self { starts: vec![0], entries: Vec::new() }
    }

    pub(crate) fn push(&mut self, list: impl IntoIterator<Item = u32>) {
        self.entries.extend(list);
        self.starts.push(self.entries.len());
    }

    pub(crate) fn of(&self, query: usize) -> &[u32] {
        &self.entries[self.starts[query]..self.starts[query + 1]]
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }
}

/// What a ranking task hangs on its batches.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Which candidates answer each query, by their place among its candidates.
    pub(crate) answers: Lists,
    /// Which others are not to be counted, because they are known to be right too.
    pub(crate) left_out: Lists,
    /// Rows of the batch whose weights a penalty on what was asked is over, as often as they occur.
    pub(crate) penalized: Vec<u32>,
}

impl Asked {
    /// What `f` makes of each query's scores, answers and what is left out, in their order; `y` has
    /// the scores query by query.
    pub(super) fn each<F: Scalar, R: Send>(
        &self,
        y: ArrayView2<F>,
        f: impl Fn(&[F], &[u32], &[u32]) -> R + Sync,
    ) -> Vec<R> {
        let queries = self.answers.len();
        let y = y.as_standard_layout();
        let scores = y.as_slice().expect("standard layout");
        let count = scores.len() / queries.max(1);
        kernels::run((0..queries).collect(), scores.len(), |i| {
            f(&scores[i * count..][..count], self.answers.of(i), self.left_out.of(i))
        })
    }
}

/// What a model that ranks is trained by.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum RankingLoss {
    /// Cross-entropy of a softmax over each query's candidates, its answers equally likely:
    /// `−Σ_a 1/k · ln softmax(s)_a`. With `smoothing` ε every candidate has ε/n of the weight.
    /// *Source*: Ruffinelli et al., ICLR 2020, "KL"; Lacroix et al., ICML 2018, eq. 4.
    Softmax {
        /// ε, in [0, 1).
        smoothing: f64,
    },
    /// The same of `s/τ`, without smoothing, for cosines, which are too small for a softmax of
    /// their own. *Source*: Wu et al., "On the effectiveness of sampled softmax loss for item
    /// recommendation", TOIS 2024, eq. 5.
    SampledSoftmax {
        /// τ, positive.
        temperature: f64,
    },
    /// Cross-entropy of a sigmoid per candidate, mean over them. With `smoothing` ε targets are
    /// `(1 − ε)·y + ε/n`. *Source*: Dettmers et al., AAAI 2018, eq. 3.
    Binary {
        /// ε, in [0, 1).
        smoothing: f64,
    },
    /// `max(0, γ − s_a + s_j)` of an answer `a` and each other candidate `j`, mean over pairs.
    /// *Source*: Bordes et al., NeurIPS 2013, eq. 1.
    Margin(f64),
    /// `−ln σ(s_a − s_j)` of an answer and each other candidate, mean over pairs. *Source*: Rendle
    /// et al., "BPR", UAI 2009.
    Bpr,
    /// `1 − s_a + w/n · Σ_j max(0, s_j − m)` over the other candidates, for cosines. *Source*: Mao
    /// et al., "SimpleX", CIKM 2021, eq. 5.
    CosineContrastive {
        /// `m`.
        margin: f64,
        /// `w`.
        weight: f64,
    },
}

impl RankingLoss {
    /// Checks its numbers.
    ///
    /// # Errors
    /// [`Error::Setting`] for one out of its range.
    pub fn check(&self) -> Result<()> {
        let wrong = |name: &str, value: f64, legal: &str| Err(Error::setting(name, value, legal));
        match *self {
            RankingLoss::Softmax { smoothing } | RankingLoss::Binary { smoothing }
                if !(0.0..1.0).contains(&smoothing) =>
            {
                wrong("label smoothing", smoothing, "in [0, 1)")
            }
            RankingLoss::SampledSoftmax { temperature }
                if !(temperature > 0.0 && temperature.is_finite()) =>
            {
                wrong("temperature of cosines", temperature, "a positive number")
            }
            RankingLoss::Margin(margin) if !(margin > 0.0 && margin.is_finite()) => {
                wrong("margin", margin, "a positive number")
            }
            RankingLoss::CosineContrastive { margin, .. } if !(-1.0..1.0).contains(&margin) => {
                wrong("margin of cosines", margin, "in [-1, 1)")
            }
            RankingLoss::CosineContrastive { weight, .. }
                if !(weight >= 0.0 && weight.is_finite()) =>
            {
                wrong("weight of negatives", weight, "a number, 0 or more")
            }
            _ => Ok(()),
        }
    }

    /// Mean over queries, and its gradient by the scores `[queries · count, 1]`.
    pub(crate) fn of<F: Scalar>(self, y: ArrayView2<F>, asked: &Asked) -> (F, Array2<F>) {
        let queries = asked.answers.len();
        // On huge pages: it is as large as the scores, and new in every batch.
        let mut gradient = buffer::zeros(y.dim());
        if queries == 0 {
            return (F::zero(), gradient);
        }
        let count = y.nrows() / queries;
        let y = y.as_standard_layout();
        let scores = y.as_slice().expect("standard layout");
        let weight = F::of(1.0 / queries as f64);
        let mut values = vec![F::zero(); queries];
        {
            let gradients = gradient.as_slice_mut().expect("a new array is contiguous");
            let jobs: Vec<_> =
                gradients.chunks_exact_mut(count).zip(&mut values).enumerate().collect();
            kernels::run(jobs, y.len(), |(i, (gradient, value))| {
                let scores = &scores[i * count..][..count];
                let (answers, left_out) = (asked.answers.of(i), asked.left_out.of(i));
                *value = self.of_query(scores, answers, left_out, gradient);
                gradient.iter_mut().for_each(|g| *g *= weight);
            });
        }
        (values.into_iter().sum::<F>() * weight, gradient)
    }

    /// The loss of each query, without gradients.
    pub(crate) fn of_each<F: Scalar>(self, y: ArrayView2<F>, asked: &Asked) -> Vec<F> {
        asked.each(y, |scores, answers, left_out| {
            let mut gradient = vec![F::zero(); scores.len()];
            self.of_query(scores, answers, left_out, &mut gradient)
        })
    }

    /// The loss of one query; its gradient is written where it is not zero.
    fn of_query<F: Scalar>(
        self,
        scores: &[F],
        answers: &[u32],
        left_out: &[u32],
        gradient: &mut [F],
    ) -> F {
        let counted = scores.len() - left_out.len();
        let (zero, one) = (F::zero(), F::one());
        // Marks what does not count by NaN, which no gradient is.
        left_out.iter().for_each(|&k| gradient[k as usize] = F::nan());
        let value = match self {
            RankingLoss::Softmax { smoothing } => {
                softmax(scores, answers, left_out, gradient, smoothing)
            }
            RankingLoss::SampledSoftmax { temperature } => {
                let sharper = F::of(1.0 / temperature);
                let scores: Vec<F> = scores.iter().map(|&s| s * sharper).collect();
                let value = softmax(&scores, answers, left_out, gradient, 0.0);
                gradient.iter_mut().for_each(|g| *g *= sharper);
                value
            }
            RankingLoss::Binary { smoothing } => {
                let weight = F::of(1.0 / counted as f64);
                let (low, high) = (F::of(smoothing / counted as f64), F::of(1.0 - smoothing));
                let mut value = zero;
                for (g, &s) in gradient.iter_mut().zip(scores).filter(|(g, _)| !g.is_nan()) {
                    value += (s.max(zero) - s * low + (-s.abs()).exp().ln_1p()) * weight;
                    *g = ((one + (-s).exp()).recip() - low) * weight;
                }
                for &a in answers {
                    value -= scores[a as usize] * high * weight;
                    gradient[a as usize] -= high * weight;
                }
                value
            }
            RankingLoss::Margin(margin) => {
                let margin = F::of(margin);
                pairs(scores, answers, gradient, |right, wrong| {
                    let short = margin - right + wrong;
                    if short > zero { (short, one) } else { (zero, zero) }
                })
            }
            RankingLoss::Bpr => pairs(scores, answers, gradient, |right, wrong| {
                let behind = wrong - right;
                let value = behind.max(zero) + (-behind.abs()).exp().ln_1p();
                (value, (one + (-behind).exp()).recip())
            }),
            RankingLoss::CosineContrastive { margin, weight } => {
                let others = (counted - answers.len()).max(1);
                let (margin, each) = (F::of(margin), F::of(weight / others as f64));
                let own = F::of(1.0 / answers.len().max(1) as f64);
                let mut value = zero;
                for (g, &s) in gradient.iter_mut().zip(scores).filter(|(g, _)| !g.is_nan()) {
                    if s > margin {
                        value += each * (s - margin);
                        *g = each;
                    }
                }
                for &a in answers {
                    let (s, g) = (scores[a as usize], &mut gradient[a as usize]);
                    if s > margin {
                        value -= each * (s - margin);
                    }
                    *g = -own;
                    value += own * (one - s);
                }
                value
            }
        };
        left_out.iter().for_each(|&k| gradient[k as usize] = zero);
        value
    }
}

/// The loss of [`RankingLoss::Softmax`] of one query, and its gradient.
fn softmax<F: Scalar>(
    scores: &[F],
    answers: &[u32],
    left_out: &[u32],
    gradient: &mut [F],
    smoothing: f64,
) -> F {
    gradient.copy_from_slice(scores);
    left_out.iter().for_each(|&k| gradient[k as usize] = F::neg_infinity());
    let (top, sum) = kernels::softmax_terms(gradient);
    let (log, scale) = (sum.ln(), sum.recip());
    let counted = scores.len() - left_out.len();
    let all = F::of(smoothing / counted as f64);
    let each = F::of((1.0 - smoothing) / answers.len().max(1) as f64);
    gradient.iter_mut().for_each(|g| *g = *g * scale - all);
    left_out.iter().for_each(|&k| gradient[k as usize] = F::zero());
    let mut value = F::zero();
    if smoothing > 0.0 {
        let below = |sum: F, s: F| sum + (s - top);
        let mut total = scores.iter().fold(F::zero(), |sum, &s| below(sum, s));
        total = left_out.iter().fold(total, |sum, &k| sum - (scores[k as usize] - top));
        value = all * (F::of(counted as f64) * log - total);
    }
    for &a in answers {
        value += each * (log - (scores[a as usize] - top));
        gradient[a as usize] -= each;
    }
    value
}

/// Mean of what `of` makes of each answer and each candidate that is none, and its gradient: `of`
/// gives a value and its slope by the wrong score, which is minus that by the right one.
fn pairs<F: Scalar>(
    scores: &[F],
    answers: &[u32],
    gradient: &mut [F],
    of: impl Fn(F, F) -> (F, F),
) -> F {
    let is_other = |k: usize, mark: F| !mark.is_nan() && !answers.contains(&(k as u32));
    let others = (0..scores.len()).filter(|&k| is_other(k, gradient[k])).count();
    let weight = F::of(1.0 / (answers.len() * others).max(1) as f64);
    let mut total = F::zero();
    for &a in answers {
        let a = a as usize;
        let mut own = F::zero();
        for k in 0..scores.len() {
            if is_other(k, gradient[k]) {
                let (value, slope) = of(scores[a], scores[k]);
                total += value;
                gradient[k] += slope * weight;
                own += slope;
            }
        }
        gradient[a] -= own * weight;
    }
    total * weight
}

/// How near two scores count as equal: LibKGE's tolerances.
const NEAR: (f64, f64) = (1e-5, 1e-4);

/// The rank of an answer among its query's candidates, from 1: where scores are equal, the mean of
/// the best and the worst rank, rounded up. Scores count as equal within `1e-5 + 1e-4·|s|`. What is
/// left out does not count; a score that is no number is above all others.
///
/// *Source*: the `rounded_mean_rank` of LibKGE (Broscheit et al., EMNLP 2020).
pub(crate) fn rank<F: Scalar>(scores: &[F], answer: usize, left_out: &[u32]) -> usize {
    let own = scores[answer].as_f64();
    let near = NEAR.0 + NEAR.1 * own.abs();
    let judge = |score: F| {
        let off = score.as_f64() - own;
        // Not a number is not near, and not below.
        (usize::from(off > near || off.is_nan()), usize::from(off.abs() <= near))
    };
    let (mut above, mut equal) =
        scores.iter().map(|&s| judge(s)).fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    for &k in left_out.iter().filter(|k| **k as usize != answer) {
        let (is_above, is_equal) = judge(scores[k as usize]);
        above -= is_above;
        equal -= is_equal;
    }
    above + equal / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    fn asked(answers: &[&[u32]], left_out: &[&[u32]]) -> Asked {
        let lists = |of: &[&[u32]]| {
            let mut lists = Lists::new();
            of.iter().for_each(|list| lists.push(list.iter().copied()));
            lists
        };
        Asked { answers: lists(answers), left_out: lists(left_out), penalized: Vec::new() }
    }

    #[test]
    fn ranks_of_equal_scores_are_in_the_middle() {
        assert_eq!(rank(&[3.0, 1.0, 2.0], 0, &[]), 1);
        assert_eq!(rank(&[3.0, 1.0, 2.0], 1, &[]), 3);
        assert_eq!(rank(&[3.0, 1.0, 2.0], 1, &[0]), 2);
        assert_eq!(rank(&[3.0, 1.0, 2.0], 1, &[0, 1]), 2, "the answer itself always counts");
        // All equal: the rank of chance, and not the first.
        assert_eq!(rank(&[1.0f32; 100], 7, &[]), 51);
        assert_eq!(rank(&[1.0, 1.0 + 5e-5, 1.0 + 2e-4], 0, &[]), 3);
        assert_eq!(rank(&[1.0, f64::NAN, 0.0], 0, &[]), 2);
        assert_eq!(rank(&[f64::NAN, 1.0, 0.0], 0, &[]), 4, "no number is never first");
    }

    #[test]
    fn losses_have_their_values_and_their_gradients() {
        let asked = asked(&[&[1], &[0, 2]], &[&[3], &[]]);
        let y = Array2::from_shape_vec((8, 1), vec![0.3, -0.2, 0.7, 9.0, 0.6, -0.4, 0.1, 0.25]);
        let y: Array2<f64> = y.unwrap();
        let softmax =
            |s: &[f64], a: usize| -(s[a].exp() / s.iter().map(|s| s.exp()).sum::<f64>()).ln();
        let first = softmax(&[0.3, -0.2, 0.7], 1);
        let last = &[0.6, -0.4, 0.1, 0.25];
        let second = (softmax(last, 0) + softmax(last, 2)) / 2.0;
        let (value, _) = RankingLoss::Softmax { smoothing: 0.0 }.of(y.view(), &asked);
        assert_relative_eq!(value, (first + second) / 2.0, epsilon = 1e-12);
        let (cold, _) =
            RankingLoss::SampledSoftmax { temperature: 0.5 }.of((&y / 2.0).view(), &asked);
        assert_relative_eq!(cold, value, epsilon = 1e-12);
        for loss in [
            RankingLoss::Softmax { smoothing: 0.0 },
            RankingLoss::Softmax { smoothing: 0.2 },
            RankingLoss::Binary { smoothing: 0.0 },
            RankingLoss::Binary { smoothing: 0.1 },
            RankingLoss::Margin(0.8),
            RankingLoss::Bpr,
            RankingLoss::SampledSoftmax { temperature: 0.2 },
            RankingLoss::CosineContrastive { margin: 0.2, weight: 3.0 },
        ] {
            let (value, gradient) = loss.of(y.view(), &asked);
            let each = loss.of_each(y.view(), &asked);
            assert_relative_eq!(each.iter().sum::<f64>() / 2.0, value, epsilon = 1e-12);
            for k in 0..8 {
                let at = |h: f64| {
                    let mut moved = y.clone();
                    moved[[k, 0]] += h;
                    loss.of(moved.view(), &asked).0
                };
                let slope = (at(1e-6) - at(-1e-6)) / 2e-6;
                assert_relative_eq!(gradient[[k, 0]], slope, epsilon = 1e-7);
            }
            assert_eq!(gradient[[3, 0]], 0.0, "what is left out has no gradient");
        }
    }
}
