//! How good the first of a ranking are, where scores may be equal.

use crate::scalar::Scalar;

/// Recall and NDCG of one query's first candidates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TopK {
    pub(crate) recall: f64,
    pub(crate) ndcg: f64,
}

/// What one query's `k` best candidates are worth: the share of its answers among them, and their
/// discounted gain, `Σ 1/log₂(rank + 1)`, over that of the best order. What is left out is not
/// ranked. Of equal scores every order is equally likely, and the values are means over the orders;
/// a score that is no number is below all others.
///
/// *Source*: He et al., SIGIR 2020, §4.1 (all items that a user has not, recall over all of a
/// user's answers); McSherry and Najork, ECIR 2008, §3.5 (ties).
pub(crate) fn top_k<F: Scalar>(scores: &[F], answers: &[u32], left_out: &[u32], k: usize) -> TopK {
    let number = |score: F| if score.is_nan() { F::neg_infinity() } else { score };
    let mut ranked: Vec<F> = scores.iter().map(|&score| number(score)).collect();
    // Answers are ranked, whatever else is known of them.
    let out = |item: &&u32| answers.binary_search(item).is_err();
    let mut dropped: Vec<usize> = left_out.iter().filter(out).map(|&item| item as usize).collect();
    dropped.sort_unstable_by(|a, b| b.cmp(a));
    dropped.dedup();
    dropped.into_iter().for_each(|item| {
        ranked.swap_remove(item);
    });
    let first = k.min(ranked.len());
    if first < ranked.len() {
        ranked.select_nth_unstable_by(first, |a, b| b.partial_cmp(a).expect("they are numbers"));
    }
    // The last score that is among the first.
    let last = ranked[..first].iter().copied().fold(F::infinity(), F::min);
    let (mut hits, mut gain) = (0.0, 0.0);
    for &answer in answers {
        let own = number(scores[answer as usize]);
        if own < last {
            continue;
        }
        let above = ranked[..first].iter().filter(|score| **score > own).count();
        let equal = if own > last {
            ranked[..first].iter().filter(|score| **score == own).count()
        } else {
            ranked.iter().filter(|score| **score == own).count()
        };
        let seen = equal.min(first - above);
        hits += seen as f64 / equal as f64;
        gain += (above..above + seen).map(discount).sum::<f64>() / equal as f64;
    }
    let ideal: f64 = (0..k.min(answers.len())).map(discount).sum();
    TopK { recall: hits / answers.len() as f64, ndcg: gain / ideal }
}

/// The gain at a rank that is counted from 0.
fn discount(rank: usize) -> f64 {
    1.0 / (rank as f64 + 2.0).log2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_relative_eq;

    #[test]
    fn recall_and_gain_are_their_formulas() {
        let scores = [0.9, 0.1, 0.8, 0.3, 0.7];
        // Item 0 is not ranked: 2, 4 and 3 come first.
        let found = top_k(&scores, &[1, 4], &[0], 3);
        assert_relative_eq!(found.recall, 0.5);
        let second = 1.0 / 3f64.log2();
        assert_relative_eq!(found.ndcg, second / (1.0 + second), epsilon = 1e-12);
        assert_eq!(top_k(&scores, &[2], &[], 9).recall, 1.0);
    }

    /// All orders of what is equal, one by one.
    #[test]
    fn ties_are_means_over_all_orders() {
        let scores = [2.0, 1.0, 1.0, 1.0, 0.0];
        let (answers, k) = ([1, 3], 3);
        let orders = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];
        let (mut recall, mut ndcg) = (0.0, 0.0);
        for order in orders {
            let first = [0, order[0], order[1]];
            let hits = first.iter().filter(|item| answers.contains(item)).count();
            recall += hits as f64 / 2.0 / 6.0;
            let gain = |(rank, item): (usize, &u32)| {
                if answers.contains(item) { discount(rank) } else { 0.0 }
            };
            let gain: f64 = first.iter().enumerate().map(gain).sum();
            ndcg += gain / (discount(0) + discount(1)) / 6.0;
        }
        let found = top_k(&scores, &answers, &[], k);
        assert_relative_eq!(found.recall, recall, epsilon = 1e-12);
        assert_relative_eq!(found.ndcg, ndcg, epsilon = 1e-12);
        // All equal: what chance gives.
        assert_relative_eq!(top_k(&[1.0f32; 50], &[7], &[], 20).recall, 0.4, epsilon = 1e-12);
        assert_relative_eq!(top_k(&[f64::NAN, 1.0, 2.0], &[0], &[], 2).recall, 0.0);
    }
}
