//! Rounding with compensation: what rounding one weight breaks, the weights that are not rounded
//! yet make up for.

use super::cholesky::dot;
use super::grid::Grid;
use ndarray::Array2;

/// One column on its support, as rounding sees it: all arrays in the order of the factor.
pub(super) struct Column<'a> {
    /// The solved weights.
    pub solved: &'a [f64],
    /// `Gᵀ(z − G·v)` at the solved weights.
    pub gradient: &'a [f64],
    /// The weights before anything was done to them.
    pub original: &'a [f64],
    /// `C` on the support.
    pub gram: &'a Array2<f64>,
    /// `L` with `L·Lᵀ = C + λI`.
    pub lower: &'a Array2<f64>,
    /// To which matrix of the map each row belongs: each has a scale of its own.
    pub term: &'a [usize],
}

/// Sweeps of single weights over a rounded column, at most.
const SWEEPS: usize = 4;

impl Column<'_> {
    /// The column rounded: real numbers on the grid, and the scale of each matrix.
    ///
    /// Scales are the largest magnitude shrunk by the factor that gives the smallest squared error
    /// of the map's output; each is tried with compensation. Single integers are then changed while
    /// that helps, from the best start, and from plain rounding of the original weights too: so the
    /// result is never worse than plain rounding.
    pub(super) fn rounded(&self, grid: Grid, terms: usize) -> (Vec<f64>, Vec<f64>) {
        let largest = |values: &[f64]| {
            let mut largest = vec![0.0f64; terms];
            values.iter().zip(self.term).for_each(|(v, &t)| largest[t] = largest[t].max(v.abs()));
            largest
        };
        let mut best: Option<(f64, Vec<f64>, Vec<f64>)> = None;
        let mut offer = |x: Vec<f64>, scales: Vec<f64>| {
            let error = self.change(&x);
            if best.as_ref().is_none_or(|(least, ..)| error < *least) {
                best = Some((error, x, scales));
            }
        };
        let of_solved = largest(self.solved);
        for shrink in grid.shrinks() {
            let scales: Vec<f64> =
                of_solved.iter().map(|&range| grid.scale(range * shrink)).collect();
            offer(self.compensated(grid, &scales), scales);
        }
        let scales: Vec<f64> =
            largest(self.original).into_iter().map(|range| grid.scale(range)).collect();
        let plain = self
            .original
            .iter()
            .zip(self.term)
            .map(|(&w, &t)| grid.nearest(w, scales[t]))
            .collect();
        offer(plain, scales);
        let (_, mut x, scales) = best.expect("there is at least one shrink factor");
        self.polish(&mut x, grid, &scales);
        (x, scales)
    }

    /// The column rounded with these scales.
    pub(super) fn rounded_by(&self, grid: Grid, scales: &[f64]) -> Vec<f64> {
        let mut x = self.compensated(grid, scales);
        self.polish(&mut x, grid, scales);
        x
    }

    /// Babai's nearest plane on `C + λI`, from the last row to the first: the order of GPTQ, by
    /// which what is rounded first is compensated most.
    ///
    /// *Source*: Frantar et al., "GPTQ", ICLR 2023, eq. 2 and 3; that it is Babai's algorithm: Chen
    /// et al., "The Geometry of LLM Quantization", 2025.
    fn compensated(&self, grid: Grid, scales: &[f64]) -> Vec<f64> {
        let n = self.solved.len();
        let (mut x, mut moved) = (vec![0.0; n], vec![0.0; n]);
        for i in (0..n).rev() {
            let row = self.lower.row(i);
            let row = row.to_slice().expect("in standard layout");
            let centre = self.solved[i] + moved[i] / row[i];
            x[i] = grid.nearest(centre, scales[self.term[i]]);
            let error = self.solved[i] - x[i];
            if error != 0.0 {
                moved[..i].iter_mut().zip(row).for_each(|(moved, l)| *moved += l * error);
            }
        }
        x
    }

    /// By how much the squared error of `x` is above that of the solved weights.
    fn change(&self, x: &[f64]) -> f64 {
        let delta: Vec<f64> = x.iter().zip(self.solved).map(|(x, v)| x - v).collect();
        let curved: f64 = self
            .gram
            .rows()
            .into_iter()
            .zip(&delta)
            .map(|(row, d)| d * dot(row.to_slice().expect("in standard layout"), &delta))
            .sum();
        curved - 2.0 * dot(&delta, self.gradient)
    }

    /// Moves single weights to the grid point that is best beside all others, while that helps.
    fn polish(&self, x: &mut [f64], grid: Grid, scales: &[f64]) {
        let delta: Vec<f64> = x.iter().zip(self.solved).map(|(x, v)| x - v).collect();
        let mut gradient: Vec<f64> = self.gradient.to_vec();
        for (g, row) in gradient.iter_mut().zip(self.gram.rows()) {
            *g -= dot(row.to_slice().expect("in standard layout"), &delta);
        }
        for _ in 0..SWEEPS {
            let mut changed = false;
            for i in 0..x.len() {
                let row = self.gram.row(i);
                let row = row.to_slice().expect("in standard layout");
                if row[i] <= 0.0 {
                    continue;
                }
                let step = grid.nearest(x[i] + gradient[i] / row[i], scales[self.term[i]]) - x[i];
                if step != 0.0 && step * (step * row[i] - 2.0 * gradient[i]) < 0.0 {
                    x[i] += step;
                    gradient.iter_mut().zip(row).for_each(|(g, c)| *g -= step * c);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconstruct::Cholesky;
    use crate::rng::generator;
    use ndarray_rand::rand::Rng;

    #[test]
    fn what_one_weight_loses_the_others_make_up_for_before_any_is_changed_again() {
        let (mut compensated, mut plain) = (0.0, 0.0);
        for seed in 0..30 {
            let mut rng = generator(seed, &[]);
            // Inputs that are alike.
            let common: Vec<f64> = (0..60).map(|_| rng.random_range(-1.0..1.0)).collect();
            let g =
                Array2::from_shape_fn((60, 8), |(i, _)| common[i] + rng.random_range(-0.4..0.4));
            let gram = g.t().dot(&g) + Array2::<f64>::eye(8) * 1e-3;
            let solved: Vec<f64> = (0..8).map(|_| rng.random_range(-1.0..1.0)).collect();
            let factor = Cholesky::of(gram.clone());
            let (grid, scales) = (Grid::new(1), [0.7]);
            let column = Column {
                solved: &solved,
                gradient: &[0.0; 8],
                original: &solved,
                gram: &gram,
                lower: factor.lower(),
                term: &[0; 8],
            };
            compensated += column.change(&column.compensated(grid, &scales));
            plain +=
                column.change(&solved.iter().map(|&w| grid.nearest(w, 0.7)).collect::<Vec<_>>());
        }
        assert!(compensated < 0.5 * plain, "{compensated} with compensation, {plain} without");
    }
}
