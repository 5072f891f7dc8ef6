//! The normal equations of one linear map: `GᵀG` and `GᵀZ`.

use super::RIDGE;
use crate::kernels;
use crate::scalar::Scalar;
use crate::value::{Csr, ValueRef};
use ndarray::{Array1, Array2, ArrayView2, Axis, s};

/// Inputs up to which `GᵀG` is formed: 32 MB.
pub(crate) const WIDEST: usize = 2048;

/// Share of the inputs' mean square below which a variance is rounding.
const ROUNDING: f64 = 1e-9;

/// Rows that are brought to `f64` at a time.
const ROWS: usize = 4096;

/// Parts that the rows of a wide `G` are cut into to form a part of `GᵀG`; sums are added in their
/// order.
const PARTS: usize = 4;

/// `C = GᵀG` and `B = GᵀZ` over the rows that calibrate, all in `f64`; both centred where the map
/// has a bias, which then takes the means.
pub(super) struct Normal {
    gram: Gram,
    b: Array2<f64>,
    /// `‖z_c‖²` of each column, centred like the rest.
    energy: Vec<f64>,
    mean_g: Array1<f64>,
    mean_z: Array1<f64>,
    rows: f64,
    /// Mean square of the inputs before they were centred, times the rows.
    size: f64,
}

enum Gram {
    Matrix(Array2<f64>),
    /// `G` itself, where its Gram matrix would be too large.
    Wide(Csr<f64>),
}

impl Normal {
    /// Of `G = [G_1, G_2, …]` and `Z`, on `rows` or on all; `GᵀG` is formed if `G` has at most
    /// `widest` columns.
    pub(super) fn of<F: Scalar>(
        gs: &[ValueRef<F>],
        z: ArrayView2<F>,
        rows: Option<&[u32]>,
        centred: bool,
        widest: usize,
    ) -> Self {
        let all: Vec<u32>;
        let rows = match rows {
            Some(rows) => rows,
            None => {
                all = (0..z.nrows() as u32).collect();
                &all
            }
        };
        let width = gs.iter().map(ValueRef::cols).sum();
        let mut normal =
            if width <= widest { dense(gs, z, rows, width) } else { wide(gs, z, rows) };
        normal.rows = rows.len() as f64;
        let squares = normal.diagonal_as_it_is();
        normal.size = squares.iter().sum::<f64>() / squares.len().max(1) as f64;
        if centred && !rows.is_empty() {
            normal.centre();
        } else {
            normal.mean_g.fill(0.0);
            normal.mean_z.fill(0.0);
        }
        normal
    }

    /// Takes the means off, which until here are sums.
    fn centre(&mut self) {
        let n = self.rows;
        self.mean_g /= n;
        self.mean_z /= n;
        let (g, z) =
            (self.mean_g.view().insert_axis(Axis(1)), self.mean_z.view().insert_axis(Axis(0)));
        if let Gram::Matrix(gram) = &mut self.gram {
            gram.scaled_add(-n, &g.dot(&g.t()));
        }
        self.b.scaled_add(-n, &g.dot(&z));
        self.energy.iter_mut().zip(&self.mean_z).for_each(|(e, z)| *e = (*e - n * z * z).max(0.0));
    }

    /// `GᵀG`, where it was formed.
    pub(super) fn into_gram(self) -> Option<Array2<f64>> {
        match self.gram {
            Gram::Matrix(gram) => Some(gram),
            Gram::Wide(_) => None,
        }
    }

    /// `‖z_c‖²` of each column.
    pub(super) fn energy(&self) -> &[f64] {
        &self.energy
    }

    /// The diagonal of `C`.
    pub(super) fn diagonal(&self) -> Vec<f64> {
        match &self.gram {
            Gram::Matrix(gram) => gram.diag().to_vec(),
            Gram::Wide(_) => {
                let squares = self.diagonal_as_it_is();
                squares
                    .iter()
                    .zip(&self.mean_g)
                    .map(|(square, mean)| (square - self.rows * mean * mean).max(0.0))
                    .collect()
            }
        }
    }

    /// The diagonal of what is stored: centred for a matrix that was, never for `G` itself.
    fn diagonal_as_it_is(&self) -> Vec<f64> {
        match &self.gram {
            Gram::Matrix(gram) => gram.diag().to_vec(),
            Gram::Wide(g) => {
                let mut squares = vec![0.0; g.cols()];
                g.iter().for_each(|(v, (_, j))| squares[j as usize] += v * v);
                squares
            }
        }
    }

    /// What is added to the diagonal of `C`: [`RIDGE`] of its mean, and enough to keep what
    /// centring leaves of a constant input from being taken for a number.
    pub(super) fn ridge(&self) -> f64 {
        let diagonal = self.diagonal();
        let mean = diagonal.iter().sum::<f64>() / diagonal.len().max(1) as f64;
        RIDGE * mean.max(0.0) + ROUNDING * self.size + f64::MIN_POSITIVE
    }

    /// `C` on some rows and the same columns.
    pub(super) fn part(&self, which: &[usize]) -> Array2<f64> {
        match &self.gram {
            Gram::Matrix(gram) => Array2::from_shape_fn((which.len(), which.len()), |(i, j)| {
                gram[[which[i], which[j]]]
            }),
            Gram::Wide(g) => {
                let mut part = part_of(g, which);
                let mean = self.mean_g.select(Axis(0), which);
                let mean = mean.view().insert_axis(Axis(1));
                part.scaled_add(-self.rows, &mean.dot(&mean.t()));
                part
            }
        }
    }

    /// `Gᵀ(Z − G·V) = B − C·V`, for some columns of `Z`; `V: [in, columns]`.
    pub(super) fn gradient(&self, v: ArrayView2<f64>, columns: &[usize]) -> Array2<f64> {
        let mut product = Array2::zeros(v.dim());
        match &self.gram {
            Gram::Matrix(gram) => kernels::matmul(gram.view(), v, product.view_mut()),
            Gram::Wide(g) => {
                let mut y = Array2::zeros((g.rows(), v.ncols()));
                kernels::spmm(g.view(), v, y.view_mut());
                kernels::spmm_t(g.view(), y.view(), product.view_mut());
                let along = self.mean_g.dot(&v);
                let mean = self.mean_g.view().insert_axis(Axis(1));
                product.scaled_add(-self.rows, &mean.dot(&along.insert_axis(Axis(0))));
            }
        }
        self.b.select(Axis(1), columns) - product
    }

    /// `‖z_c − G·v_c‖²` of each of these columns, given their gradient.
    pub(super) fn errors(
        &self,
        v: ArrayView2<f64>,
        gradient: ArrayView2<f64>,
        columns: &[usize],
    ) -> Vec<f64> {
        let explained = |k: usize, c: usize| {
            (0..v.nrows()).map(|r| v[[r, k]] * (self.b[[r, c]] + gradient[[r, k]])).sum::<f64>()
        };
        columns
            .iter()
            .enumerate()
            .map(|(k, &c)| (self.energy[c] - explained(k, c)).max(0.0))
            .collect()
    }

    /// The bias that goes with a column `v_c`: what the means of `Z` and `G·v_c` leave.
    pub(super) fn bias(&self, v: ndarray::ArrayView1<f64>, column: usize) -> f64 {
        self.mean_z[column] - self.mean_g.dot(&v)
    }
}

/// Rows of `G` in `f64`, side by side.
fn rows_of<F: Scalar>(gs: &[ValueRef<F>], rows: &[u32], out: &mut Array2<f64>) {
    let mut start = 0;
    for g in gs {
        let mut out = out.slice_mut(s![..rows.len(), start..start + g.cols()]);
        match g {
            ValueRef::Dense(g) => {
                for (&row, mut out) in rows.iter().zip(out.rows_mut()) {
                    out.iter_mut().zip(g.row(row as usize)).for_each(|(out, v)| *out = v.as_f64());
                }
            }
            ValueRef::Sparse(g) => {
                out.fill(0.0);
                for (&row, mut out) in rows.iter().zip(out.rows_mut()) {
                    g.outer_view(row as usize)
                        .expect("the row is there")
                        .iter()
                        .for_each(|(c, v)| out[c] = v.as_f64());
                }
            }
        }
        start += g.cols();
    }
}

fn dense<F: Scalar>(gs: &[ValueRef<F>], z: ArrayView2<F>, rows: &[u32], width: usize) -> Normal {
    let outputs = z.ncols();
    let (mut gram, mut b) = (Array2::zeros((width, width)), Array2::zeros((width, outputs)));
    let (mut sum_g, mut sum_z, mut energy) =
        (Array1::zeros(width), Array1::zeros(outputs), vec![0.0; outputs]);
    let size = ROWS.min(rows.len());
    let (mut block_g, mut block_z) = (Array2::zeros((size, width)), Array2::zeros((size, outputs)));
    let (mut part_gram, mut part_b) =
        (Array2::zeros((width, width)), Array2::zeros((width, outputs)));
    for rows in rows.chunks(ROWS) {
        rows_of(gs, rows, &mut block_g);
        rows_of(&[ValueRef::Dense(z)], rows, &mut block_z);
        let (g, z) = (block_g.slice(s![..rows.len(), ..]), block_z.slice(s![..rows.len(), ..]));
        kernels::matmul_tn(g, g, part_gram.view_mut());
        kernels::matmul_tn(g, z, part_b.view_mut());
        gram += &part_gram;
        b += &part_b;
        sum_g += &g.sum_axis(Axis(0));
        sum_z += &z.sum_axis(Axis(0));
        energy.iter_mut().zip(z.columns()).for_each(|(e, z)| *e += z.dot(&z));
    }
    Normal {
        gram: Gram::Matrix(gram),
        b,
        energy,
        mean_g: sum_g,
        mean_z: sum_z,
        rows: 0.0,
        size: 0.0,
    }
}

fn wide<F: Scalar>(gs: &[ValueRef<F>], z: ArrayView2<F>, rows: &[u32]) -> Normal {
    let width = gs.iter().map(ValueRef::cols).sum();
    let (mut indptr, mut indices, mut data) = (vec![0], Vec::new(), Vec::new());
    for &row in rows {
        let mut start = 0;
        for g in gs {
            let mut push = |c: usize, v: F| {
                if v != F::zero() {
                    indices.push((start + c) as u32);
                    data.push(v.as_f64());
                }
            };
            match g {
                ValueRef::Dense(g) => {
                    g.row(row as usize).iter().enumerate().for_each(|(c, &v)| push(c, v))
                }
                ValueRef::Sparse(g) => g
                    .outer_view(row as usize)
                    .expect("the row is there")
                    .iter()
                    .for_each(|(c, &v)| push(c, v)),
            }
            start += g.cols();
        }
        indptr.push(indices.len());
    }
    let g = Csr::new((rows.len(), width), indptr, indices, data);
    let mut picked = Array2::zeros((rows.len(), z.ncols()));
    rows_of(&[ValueRef::Dense(z)], rows, &mut picked);
    let mut b = Array2::zeros((width, z.ncols()));
    kernels::spmm_t(g.view(), picked.view(), b.view_mut());
    let mut mean_g = Array1::zeros(width);
    g.iter().for_each(|(&v, (_, j))| mean_g[j as usize] += v);
    let energy = picked.columns().into_iter().map(|z| z.dot(&z)).collect();
    Normal {
        gram: Gram::Wide(g),
        b,
        energy,
        mean_g,
        mean_z: picked.sum_axis(Axis(0)),
        rows: 0.0,
        size: 0.0,
    }
}

/// The place of a column that is not part of what is asked for.
const NOT_WANTED: u32 = u32::MAX;

/// Where more than this share of the entries of some columns is stored, their products are a dense
/// one's.
const DENSE: f64 = 0.05;

/// Part of `GᵀG` by dense products of some rows at a time.
fn dense_part_of(g: &Csr<f64>, place: &[u32], n: usize) -> Array2<f64> {
    let (mut part, mut sum) = (Array2::zeros((n, n)), Array2::zeros((n, n)));
    for start in (0..g.rows()).step_by(ROWS) {
        let mut block = Array2::zeros((ROWS.min(g.rows() - start), n));
        for (i, mut out) in block.rows_mut().into_iter().enumerate() {
            for (c, &v) in g.outer_view(start + i).expect("the row is there").iter() {
                if let Some(out) = out.get_mut(place[c] as usize) {
                    *out = v;
                }
            }
        }
        kernels::matmul_tn(block.view(), block.view(), sum.view_mut());
        part += &sum;
    }
    part
}

/// Part of `GᵀG`, each row of `G` adding the products of its entries that are wanted.
fn part_of(g: &Csr<f64>, which: &[usize]) -> Array2<f64> {
    let n = which.len();
    let mut place = vec![NOT_WANTED; g.cols()];
    which.iter().enumerate().for_each(|(at, &c)| place[c] = at as u32);
    let wanted = g.indices().iter().filter(|c| place[**c as usize] != NOT_WANTED).count();
    if wanted as f64 > DENSE * (g.rows() * n) as f64 {
        return dense_part_of(g, &place, n);
    }
    let size = g.rows().div_ceil(PARTS).max(1);
    let starts: Vec<usize> = (0..g.rows()).step_by(size).collect();
    let sums = kernels::run(starts, usize::MAX, |start| {
        let mut sum = vec![0.0; n * n];
        let (mut entries, mut products): (Vec<(usize, f64)>, usize) = (Vec::new(), 0);
        for i in start..(start + size).min(g.rows()) {
            let row = g.outer_view(i).expect("the row is there");
            entries.clear();
            entries.extend(
                row.iter()
                    .filter(|(c, _)| place[*c] != NOT_WANTED)
                    .map(|(c, &v)| (place[c] as usize, v)),
            );
            entries.sort_unstable_by_key(|(at, _)| *at);
            products += entries.len() * (entries.len() + 1) / 2;
            for (k, &(a, v)) in entries.iter().enumerate() {
                let row = &mut sum[a * n..(a + 1) * n];
                entries[..=k].iter().for_each(|&(b, u)| row[b] += v * u);
            }
        }
        kernels::count(products);
        Array2::from_shape_vec((n, n), sum).expect("it has n rows of n")
    });
    let mut part = sums.into_iter().reduce(|a, b| a + b).unwrap_or_else(|| Array2::zeros((n, n)));
    for a in 0..n {
        for b in 0..a {
            part[[b, a]] = part[[a, b]];
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(rows: usize, cols: usize, every: usize) -> Array2<f64> {
        Array2::from_shape_fn((rows, cols), |(i, j)| {
            if (i * 7 + j * 5) % every == 0 { ((i * 31 + j * 17) % 23) as f64 - 9.0 } else { 0.0 }
        })
    }

    #[test]
    fn a_wide_map_and_a_narrow_one_have_the_same_equations() {
        let (g, x, z) = (random(40, 6, 2), random(40, 5, 3), random(40, 3, 1));
        let stored = kernels::stored_entries(x.view());
        let gs = [ValueRef::Dense(g.view()), ValueRef::Sparse(stored.view())];
        let rows: Vec<u32> = (0..40).filter(|k| k % 3 != 0).collect();
        for centred in [false, true] {
            let [narrow, wide] =
                [11, 10].map(|widest| Normal::of(&gs, z.view(), Some(&rows), centred, widest));
            let v = random(11, 2, 2);
            let close = |a: &Array2<f64>, b: &Array2<f64>| {
                a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-8)
            };
            for which in [&[10, 0, 7, 3][..], &[9, 10, 6]] {
                assert!(close(&narrow.part(which), &wide.part(which)));
            }
            let (a, b) = (narrow.gradient(v.view(), &[2, 0]), wide.gradient(v.view(), &[2, 0]));
            assert!(close(&a, &b));
            assert!(
                narrow.diagonal().iter().zip(wide.diagonal()).all(|(a, b)| (a - b).abs() < 1e-8)
            );
            let (e, f) = (
                narrow.errors(v.view(), a.view(), &[2, 0]),
                wide.errors(v.view(), b.view(), &[2, 0]),
            );
            assert!(e.iter().zip(f).all(|(a, b)| (a - b).abs() < 1e-6));
        }
    }

    #[test]
    fn the_error_is_that_of_the_residual_with_its_best_bias() {
        let (g, z, v) = (random(30, 4, 1), random(30, 2, 1), random(4, 2, 1));
        let normal = Normal::of(&[ValueRef::Dense(g.view())], z.view(), None, true, WIDEST);
        let gradient = normal.gradient(v.view(), &[0, 1]);
        let found = normal.errors(v.view(), gradient.view(), &[0, 1]);
        let mut residual = &z - &g.dot(&v);
        for (c, mut column) in residual.columns_mut().into_iter().enumerate() {
            let bias = normal.bias(v.column(c), c);
            column -= bias;
            assert!(column.sum().abs() < 1e-9, "the bias takes the mean");
            assert!((column.dot(&column) - found[c]).abs() < 1e-8 * found[c]);
        }
    }

    #[test]
    fn the_ridge_is_a_share_of_the_mean_of_the_diagonal_and_never_nothing() {
        let g = random(50, 6, 2);
        let normal =
            Normal::of(&[ValueRef::Dense(g.view())], random(50, 2, 1).view(), None, true, WIDEST);
        let mean = normal.diagonal().iter().sum::<f64>() / 6.0;
        assert!(mean > 1.0);
        assert!(
            (normal.ridge() / (RIDGE * mean) - 1.0).abs() < 1e-3,
            "{} of {mean}",
            normal.ridge()
        );
        let nothing = Normal::of(
            &[ValueRef::Dense(Array2::<f64>::zeros((50, 6)).view())],
            random(50, 2, 1).view(),
            None,
            true,
            WIDEST,
        );
        assert!(nothing.ridge() > 0.0);
    }

    #[test]
    fn more_rows_than_one_block_and_stored_or_dense_are_the_same_sums() {
        let n = 2 * ROWS + 137;
        let (g, z) = (random(n, 5, 3), random(n, 2, 1));
        let stored = kernels::stored_entries(g.view());
        let [dense, sparse] = [ValueRef::Dense(g.view()), ValueRef::Sparse(stored.view())]
            .map(|g| Normal::of(&[g], z.view(), None, true, WIDEST));
        let expected = {
            let centred = &g - &g.mean_axis(Axis(0)).unwrap();
            centred.t().dot(&centred)
        };
        for normal in [dense, sparse] {
            let found = normal.part(&[0, 1, 2, 3, 4]);
            assert!(
                found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6 * expected[[0, 0]]),
                "{found}\n{expected}"
            );
        }
    }
}
