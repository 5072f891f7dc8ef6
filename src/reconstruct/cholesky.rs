//! Cholesky's factor, by blocks.

use crate::kernels;
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, s};

/// Columns of a panel; what is right of it is updated by one dense product.
const PANEL: usize = 48;

/// Columns of the trailing part that are updated together; only what lies below the diagonal is
/// computed.
const STRIP: usize = 192;

/// `A = L·Lᵀ` of a symmetric positive definite matrix. A pivot that is not positive stands for a
/// dead unknown, whose solution is zero.
#[derive(Debug)]
pub(crate) struct Cholesky {
    l: Array2<f64>,
}

impl Cholesky {
    /// Factors `a`, of which only the lower half is read.
    pub(crate) fn of(a: Array2<f64>) -> Self {
        let mut a = if a.is_standard_layout() { a } else { a.as_standard_layout().into_owned() };
        let n = a.nrows();
        kernels::count(n * n * n / 6);
        for start in (0..n).step_by(PANEL) {
            let end = (start + PANEL).min(n);
            factor_panel(&mut a, start, end);
            for strip in (end..n).step_by(STRIP) {
                let to = (strip + STRIP).min(n);
                let panel = a.slice(s![strip.., start..end]).to_owned();
                let top = panel.slice(s![..to - strip, ..]);
                general_mat_mul(
                    -1.0,
                    &panel,
                    &top.t(),
                    1.0,
                    &mut a.slice_mut(s![strip.., strip..to]),
                );
            }
        }
        Self { l: a }
    }

    /// `L`; what is above its diagonal means nothing.
    pub(crate) fn lower(&self) -> &Array2<f64> {
        &self.l
    }

    /// Solves `A·x = b` in place.
    pub(crate) fn solve(&self, x: &mut [f64]) {
        let n = x.len();
        kernels::count(n * n);
        for i in 0..n {
            let row = self.row(i);
            x[i] = (x[i] - dot(&row[..i], &x[..i])) / row[i];
        }
        for i in (0..n).rev() {
            let row = self.row(i);
            x[i] /= row[i];
            let done = x[i];
            x[..i].iter_mut().zip(row).for_each(|(x, &l)| *x -= l * done);
        }
    }

    /// `A⁻¹`.
    pub(crate) fn inverse(&self) -> Array2<f64> {
        let mut inverse = Array2::eye(self.l.nrows());
        kernels::map_rows(inverse.view_mut(), |_, row| self.solve(row));
        inverse
    }

    fn row(&self, i: usize) -> &[f64] {
        let n = self.l.ncols();
        &self.l.as_slice().expect("in standard layout")[i * n..(i + 1) * n]
    }
}

/// Columns `start..end` of `L`, from a matrix that all earlier columns were taken off.
fn factor_panel(a: &mut Array2<f64>, start: usize, end: usize) {
    let n = a.nrows();
    let data = a.as_slice_mut().expect("in standard layout");
    for j in start..end {
        let (_, rest) = data.split_at_mut(j * n);
        let (row, below) = rest.split_at_mut(n);
        let pivot = row[j] - dot(&row[start..j], &row[start..j]);
        row[j] = if pivot > 0.0 { pivot.sqrt() } else { f64::INFINITY };
        for other in below.chunks_exact_mut(n) {
            other[j] = (other[j] - dot(&other[start..j], &row[start..j])) / row[j];
        }
    }
}

/// `⟨a, b⟩` in four sums, in an order that depends on the length alone.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (a, b) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    for (a, b) in a.0.iter().zip(b.0) {
        for k in 0..4 {
            sums[k] += a[k] * b[k];
        }
    }
    let rest: f64 = a.1.iter().zip(b.1).map(|(a, b)| a * b).sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn it_solves_systems_of_every_size_around_a_panel_and_a_strip() {
        for n in [1, 2, PANEL - 1, PANEL, PANEL + 1, PANEL + STRIP + 3, 2 * STRIP + 7] {
            let g = Array2::from_shape_fn((n + 5, n), |(i, j)| {
                (((i * 37 + j * 61) % 101) as f64 - 50.0) / 50.0
            });
            let mut a = g.t().dot(&g);
            a.diag_mut().mapv_inplace(|v| v + 1.0);
            let expected: Vec<f64> = (0..n).map(|k| (k % 7) as f64 - 3.0).collect();
            let mut x = a.dot(&ndarray::ArrayView1::from(&expected)).to_vec();
            let factor = Cholesky::of(a.clone());
            factor.solve(&mut x);
            assert!(x.iter().zip(&expected).all(|(x, e)| (x - e).abs() < 1e-9), "{n}");
            let unit = factor.inverse().dot(&a) - Array2::<f64>::eye(n);
            assert!(unit.iter().all(|v| v.abs() < 1e-9), "{n}");
        }
    }

    #[test]
    fn a_dead_unknown_is_zero() {
        let mut x = vec![3.0, 1.0];
        Cholesky::of(array![[0.0, 0.0], [0.0, 4.0]]).solve(&mut x);
        assert_eq!(x, [0.0, 0.25]);
    }
}
