//! Least squares over a changing set of units: the sweep operator.

use super::ChannelUnits;
use crate::scalar::Scalar;
use ndarray::Array2;

/// The regressions of all readers of a group on the units that are kept.
///
/// A sweep turns the Gram matrix `M` and the right-hand side `T` of one reader, in place, into
/// those of the regression on one row more; the reverse takes it out again. With the rows `K` swept
/// in, `M[K, K] = −(C_KK)⁻¹` and `T[K]` are the best weights; outside, `M` is the Gram matrix of
/// what `K` does not explain, and `T` its products with what is left of the target.
///
/// *Source*: Beaton 1964; Goodnight, "A Tutorial on the SWEEP Operator", The American Statistician
/// 1979.
pub(super) struct Sweep {
    readers: Vec<Regression>,
    kept: Vec<bool>,
    /// Number of readers, each of which counts relative to what it computes.
    count: f64,
}

struct Regression {
    m: Array2<f64>,
    t: Array2<f64>,
    /// Rows of each unit.
    rows: Vec<Vec<usize>>,
    /// Columns that go with each unit.
    columns: Vec<Vec<usize>>,
    scale: f64,
    /// What removals cost each column.
    spent: Vec<f64>,
}

impl Sweep {
    /// With every unit kept: the weights are those that the readers have.
    pub(super) fn full<F: Scalar>(group: &ChannelUnits<F>) -> Self {
        let collect = |of: &[Option<usize>]| {
            let mut positions = vec![Vec::new(); group.units];
            of.iter()
                .enumerate()
                .for_each(|(k, unit)| unit.iter().for_each(|&unit| positions[unit].push(k)));
            positions
        };
        let readers: Vec<Regression> = group
            .readers
            .iter()
            .map(|reader| Regression {
                m: -reader.inverse(),
                t: reader.weight.clone(),
                rows: collect(&reader.unit_of),
                columns: collect(&reader.column_unit),
                scale: 1.0 / reader.energy.max(f64::MIN_POSITIVE),
                spent: vec![0.0; reader.weight.ncols()],
            })
            .collect();
        Self { count: readers.len().max(1) as f64, readers, kept: vec![true; group.units] }
    }

    pub(super) fn is_kept(&self, unit: usize) -> bool {
        self.kept[unit]
    }

    /// A sum over readers, each relative to what it computes, as a share: the mean over the
    /// readers.
    pub(super) fn share(&self, spent: f64) -> f64 {
        spent / self.count
    }

    /// The kept unit whose removal costs least, and what it costs; the first of several.
    pub(super) fn cheapest(&self) -> Option<(usize, f64)> {
        let costs = (0..self.kept.len())
            .filter(|&unit| self.kept[unit])
            .map(|unit| (unit, self.cost(unit)));
        costs.reduce(|best, next| if next.1 < best.1 { next } else { best })
    }

    /// The unit outside that wins most, and what it wins; the first of several.
    pub(super) fn most_useful(&self) -> Option<(usize, f64)> {
        let gains = (0..self.kept.len())
            .filter(|&unit| !self.kept[unit])
            .map(|unit| (unit, self.cost(unit)));
        gains.reduce(|best, next| if next.1 > best.1 { next } else { best })
    }

    /// What removing a kept unit costs, or adding one that is not kept wins; columns that go with
    /// the unit are not missed.
    pub(super) fn cost(&self, unit: usize) -> f64 {
        let of = |reader: &Regression| {
            let costs = reader.costs(&reader.rows[unit]);
            let missed =
                costs.iter().enumerate().filter(|(c, _)| !reader.columns[unit].contains(c));
            reader.scale * missed.map(|(_, cost)| cost).sum::<f64>()
        };
        self.readers.iter().map(of).sum()
    }

    /// What all removals until now cost together, in the columns that are left.
    pub(super) fn spent(&self) -> f64 {
        self.readers.iter().map(|reader| reader.scale * reader.spent.iter().sum::<f64>()).sum()
    }

    /// What all units that are not kept would win together, if they were added now.
    pub(super) fn unexplained(&self) -> f64 {
        let left = |reader: &Regression| {
            let outside = reader.rows.iter().zip(&self.kept).filter(|(_, kept)| !**kept);
            let rows: Vec<usize> = outside.flat_map(|(rows, _)| rows.iter().copied()).collect();
            reader.scale * reader.costs(&rows).iter().sum::<f64>()
        };
        self.readers.iter().map(left).sum()
    }

    pub(super) fn remove(&mut self, unit: usize) {
        self.kept[unit] = false;
        for reader in &mut self.readers {
            let costs = reader.costs(&reader.rows[unit]);
            reader.spent.iter_mut().zip(costs).for_each(|(spent, cost)| *spent += cost);
            for row in reader.rows[unit].clone() {
                reader.sweep(row, -1.0);
            }
            // What nobody makes any more, nobody misses.
            for &column in &reader.columns[unit] {
                reader.t.column_mut(column).fill(0.0);
                reader.spent[column] = 0.0;
            }
        }
    }

    pub(super) fn add(&mut self, unit: usize) {
        self.kept[unit] = true;
        for reader in &mut self.readers {
            for row in reader.rows[unit].clone() {
                reader.sweep(row, 1.0);
            }
        }
    }
}

impl Regression {
    /// The diagonal of `T[b]ᵀ·|M[b, b]|⁻¹·T[b]`, one number per column.
    fn costs(&self, b: &[usize]) -> Vec<f64> {
        if let &[row] = b {
            let pivot = self.m[[row, row]].abs().max(f64::MIN_POSITIVE);
            return self.t.row(row).iter().map(|t| t * t / pivot).collect();
        }
        if b.is_empty() {
            return vec![0.0; self.t.ncols()];
        }
        let mut block = Array2::from_shape_fn((b.len(), b.len()), |(i, j)| self.m[[b[i], b[j]]]);
        if block[[0, 0]] < 0.0 {
            block.mapv_inplace(|v| -v);
        }
        let factor = crate::reconstruct::Cholesky::of(block);
        let solved = |column: usize| {
            let t: Vec<f64> = b.iter().map(|&row| self.t[[row, column]]).collect();
            let mut x = t.clone();
            factor.solve(&mut x);
            x.iter().zip(&t).map(|(x, t)| x * t).sum::<f64>()
        };
        (0..self.t.ncols()).map(solved).collect()
    }

    /// Brings row `k` into the regression (`sign` 1) or takes it out (−1).
    fn sweep(&mut self, k: usize, sign: f64) {
        let pivot = self.m[[k, k]];
        // The ridge keeps it from zero, except where nothing at all is computed.
        if pivot == 0.0 {
            return;
        }
        crate::kernels::count(self.m.nrows() * (self.m.ncols() + self.t.ncols()));
        let row = self.m.row(k).to_owned();
        let target = self.t.row(k).to_owned();
        for i in (0..self.m.nrows()).filter(|&i| i != k) {
            let share = row[i] / pivot;
            if share != 0.0 {
                self.m.row_mut(i).scaled_add(-share, &row);
                self.t.row_mut(i).scaled_add(-share, &target);
            }
        }
        let swept = &row * (sign / pivot);
        self.m.row_mut(k).assign(&swept);
        self.m.column_mut(k).assign(&swept);
        self.m[[k, k]] = -1.0 / pivot;
        let solved = &target * (sign / pivot);
        self.t.row_mut(k).assign(&solved);
    }
}
