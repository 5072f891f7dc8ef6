//! What each channel adds to the scores of a batch's pairs.

use super::score::Match;
use crate::nn::{Candidates, Queries};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2, ArrayViewMut1, Axis, s};

/// Where no product gives all pairs at once, at most so many candidates of a query are looked at.
const LOOKED_AT: usize = 256;

/// `PᵀP` of the parts `P: [pairs, d]`, whose rows sum to the scores: `q_c·t_c`, and of a distance
/// what each complex number adds, in its first channel. From each query's parts their mean over its
/// candidates is taken, since what all candidates have alike orders none of them; where a query has
/// one candidate, pairs are ordered beside each other, and the mean is over all of them.
///
/// Of all queries and all rows in a range it is `QᵀQ ∘ TᵀT`, with `T` less its mean row.
pub(super) fn gram<F: Scalar>(
    how: Match,
    q: ArrayView2<F>,
    x: ArrayView2<F>,
    asked: &Queries,
) -> Array2<f64> {
    let widened = |x: ArrayView2<F>| x.mapv(|v| v.as_f64());
    if let (Match::Dot, Candidates::Range(range)) = (how, asked.candidates()) {
        let t = centred(widened(x.slice(s![range.start as usize..range.end as usize, ..])));
        let q = widened(q);
        return q.t().dot(&q) * t.t().dot(&t);
    }
    let (count, width) = (asked.count(), q.ncols());
    let step = count.div_ceil(LOOKED_AT).max(1);
    let places: Vec<usize> = (0..count).step_by(step).collect();
    let part_of = |i: usize, place: usize, mut parts: ArrayViewMut1<f64>| {
        let (q, t) = (q.row(i), x.row(asked.candidates().of(i, place) as usize));
        let at = |k: usize| (q[k].as_f64(), t[k].as_f64());
        match how {
            Match::Dot => (0..width).for_each(|k| parts[k] = at(k).0 * at(k).1),
            Match::ComplexDistance => (0..width).step_by(2).for_each(|k| {
                let ((a, b), (c, d)) = (at(k), at(k + 1));
                parts[k] = -(a - b).hypot(c - d);
            }),
        }
    };
    let mut gram = Array2::zeros((width, width));
    if count == 1 {
        let mut parts = Array2::zeros((q.nrows(), width));
        parts.rows_mut().into_iter().enumerate().for_each(|(i, parts)| part_of(i, 0, parts));
        let parts = centred(parts);
        gram += &parts.t().dot(&parts);
        return gram;
    }
    for i in 0..q.nrows() {
        let mut parts = Array2::zeros((places.len(), width));
        let rows = places.iter().zip(parts.rows_mut());
        rows.for_each(|(&place, parts)| part_of(i, place, parts));
        let parts = centred(parts);
        gram += &parts.t().dot(&parts);
    }
    gram
}

/// Less the mean of its rows.
fn centred(mut x: Array2<f64>) -> Array2<f64> {
    if let Some(mean) = x.mean_axis(Axis(0)) {
        x -= &mean;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Query;
    use approx::assert_relative_eq;

    #[test]
    fn the_product_of_grams_is_the_gram_of_all_pairs() {
        let q = Array2::from_shape_fn((3, 4), |(i, c)| ((i * 7 + c * 3) % 5) as f64 - 1.5);
        let x = Array2::from_shape_fn((6, 4), |(i, c)| ((i * 5 + c * 2) % 7) as f64 - 2.0);
        let ask = |node| Query { node, relation: 0, inverse: false };
        let queries: Vec<Query> = (0..3).map(ask).collect();
        let range = Queries::among(queries.clone(), 1..6).unwrap();
        let listed = Queries::among_listed(queries, vec![1, 2, 3, 4, 5]).unwrap();
        let of = |asked: &Queries| gram(Match::Dot, q.view(), x.view(), asked);
        assert_relative_eq!(of(&range), of(&listed), max_relative = 1e-12);
        // All of the parts are the scores, of each query less their mean.
        let scores = q.dot(&x.slice(s![1.., ..]).t());
        let off = &scores - &scores.mean_axis(Axis(1)).unwrap().insert_axis(Axis(1));
        let energy = off.iter().map(|s| s * s).sum::<f64>();
        assert_relative_eq!(of(&range).sum(), energy, max_relative = 1e-12);
        // One candidate each: the pairs are compared with each other.
        let pairs = Queries::pairs(&[[0, 1], [1, 3], [2, 5]]);
        let rows = Array2::from_shape_fn((3, 4), |(i, c)| q[[i, c]] * x[[[1, 3, 5][i], c]]);
        let off = &rows - &rows.mean_axis(Axis(0)).unwrap();
        assert_relative_eq!(of(&pairs), off.t().dot(&off), max_relative = 1e-12);
        let apart = gram(Match::ComplexDistance, q.view(), x.view(), &listed);
        assert!(apart.row(1).iter().chain(apart.row(3)).all(|&v| v == 0.0));
        assert!(apart[[0, 0]] > 0.0 && apart[[2, 2]] > 0.0);
    }
}
