//! A linear map of items in closed form.

use super::item_knn::check;
use super::together;
use crate::error::{Error, Result};
use crate::reconstruct::Cholesky;
use ndarray::Array2;

/// Most items: the matrix is kept twice, in f64.
const MOST_ITEMS: usize = 20_000;

/// Scores by the linear map of items that comes nearest to what users have and has a zero diagonal:
/// `B = argmin |X − X·B|² + λ|B|²`, in closed form `b_ij = −p_ij / p_jj` with
/// `P = (XᵀX + λI)⁻¹`.
///
/// *Source*: Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019, eqs. 5 to 8.
/// *Cost*: `items³` multiply-adds.
///
/// ```
/// use gnn_prune::baseline::Ease;
/// let own = vec![vec![0, 1], vec![0, 1], vec![2, 3], vec![0]];
/// let scores = Ease::fit(4, &own, 1.0)?.scores(&own[3]);
/// assert!(scores[1] > scores[2]);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Ease {
    /// `[items, items]`, row `i` is what having item `i` says of all others.
    map: Array2<f32>,
}

impl Ease {
    /// Learns from the items of each user; `lambda` is the penalty `λ`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a penalty that is not positive and for more than 20,000 items;
    /// [`Error::IndexOutOfRange`] for an item that there is not.
    pub fn fit(items: usize, own: &[Vec<u32>], lambda: f64) -> Result<Self> {
        if !(lambda > 0.0 && lambda.is_finite()) {
            return Err(Error::setting("penalty of the map", lambda, "a positive number"));
        }
        if items > MOST_ITEMS {
            return Err(Error::setting("items", items, format!("{MOST_ITEMS} at most")));
        }
        check(items, own)?;
        let mut gram = Array2::zeros((items, items));
        let rows = together(items, own, |item, counts| {
            let mut row: Vec<f64> = counts.iter().map(|&count| f64::from(count)).collect();
            row[item] += lambda;
            row
        });
        for (mut target, row) in gram.rows_mut().into_iter().zip(rows) {
            target.iter_mut().zip(row).for_each(|(target, v)| *target = v);
        }
        let inverse = Cholesky::of(gram).inverse();
        let map = Array2::from_shape_fn((items, items), |(i, j)| {
            if i == j { 0.0 } else { (-inverse[[i, j]] / inverse[[j, j]]) as f32 }
        });
        Ok(Self { map })
    }

    /// Scores of all items for whoever has these.
    pub fn scores(&self, own: &[u32]) -> Vec<f32> {
        let mut scores = vec![0.0; self.map.nrows()];
        for &item in own {
            scores.iter_mut().zip(self.map.row(item as usize)).for_each(|(s, &b)| *s += b);
        }
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The map is where the gradient of its objective vanishes, off the diagonal.
    #[test]
    fn the_map_is_the_minimum() {
        let own = vec![vec![0, 1, 2], vec![0, 1], vec![1, 3], vec![2, 3], vec![0]];
        let lambda = 0.7;
        let map = Ease::fit(4, &own, lambda).unwrap().map.mapv(f64::from);
        let x = Array2::from_shape_fn(
            (5, 4),
            |(u, i)| {
                if own[u].contains(&(i as u32)) { 1.0 } else { 0.0 }
            },
        );
        let gradient = x.t().dot(&(x.dot(&map) - &x)) + &map * lambda;
        for ((i, j), &slope) in gradient.indexed_iter() {
            if i == j {
                assert_eq!(map[[i, j]], 0.0);
            } else {
                assert!(slope.abs() < 1e-6, "{i} {j}: {slope}");
            }
        }
        assert!(Ease::fit(4, &own, 0.0).is_err() && Ease::fit(3, &own, 1.0).is_err());
    }
}
