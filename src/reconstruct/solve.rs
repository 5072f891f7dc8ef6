//! The columns of one map solved again, each on its support, and rounded where that is asked for.

use super::cholesky::{Cholesky, dot};
use super::grid::Grid;
use super::normal::Normal;
use super::round::Column;
use crate::kernels;
use ndarray::{Array2, ArrayView2, Axis};
use std::collections::BTreeMap;

/// Unknowns that are solved together; a larger support is solved block by block.
const BLOCK: usize = 1024;

/// Passes over the blocks of a support that has several; each lowers the error.
const PASSES: usize = 3;

/// What is to be done to one map.
pub(super) struct Task<'a> {
    pub normal: &'a Normal,
    /// The weights as they are, all matrices of the map one below the other; zero outside the
    /// support.
    pub start: &'a Array2<f64>,
    /// The weights before anything was taken from them: what plain rounding would round.
    pub original: &'a Array2<f64>,
    /// Which entries may be other than zero; `None` for all.
    pub support: Option<&'a Array2<bool>>,
    /// The columns to solve.
    pub columns: &'a [usize],
    /// The grid to round to.
    pub grid: Option<Grid>,
    /// To which matrix of the map each row belongs.
    pub term: &'a [usize],
}

/// The solved columns.
pub(super) struct Fit {
    /// `[in, columns]`.
    pub weight: Array2<f64>,
    /// One scale per matrix and column, where columns were rounded.
    pub scales: Option<Array2<f64>>,
    /// Squared error over all columns before and after.
    pub before: f64,
    pub after: f64,
}

/// Solves `min ‖z_c − G·v‖² + λ‖v − w_c‖²` over the support of every column `c`. Since the ridge
/// pulls towards the weights that are there, the squared error never rises.
pub(super) fn solve(task: &Task) -> Fit {
    let Task { normal, columns, .. } = *task;
    let start = task.start.select(Axis(1), columns);
    let gradient = normal.gradient(start.view(), columns);
    let before = normal.errors(start.view(), gradient.view(), columns).iter().sum();
    let diagonal = normal.diagonal();
    let mut classes: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
    for (k, &c) in columns.iter().enumerate() {
        let rows = (0..start.nrows())
            .filter(|&r| task.support.is_none_or(|support| support[[r, c]]))
            .collect();
        classes.entry(rows).or_default().push(k);
    }
    let classes: Vec<(Vec<usize>, Vec<usize>)> =
        classes.into_iter().filter(|(rows, _)| !rows.is_empty()).collect();
    let whole = Whole { task, start, gradient, diagonal, ridge: normal.ridge() };
    let done = kernels::run(classes.iter().collect(), usize::MAX, |(rows, ks)| {
        if rows.len() <= BLOCK { whole.at_once(rows, ks) } else { whole.by_blocks(rows, ks) }
    });
    let terms = task.term.iter().max().map_or(0, |t| t + 1);
    let mut weight = Array2::zeros(whole.start.dim());
    // A column without a support has nothing to scale.
    let mut scales = task.grid.map(|_| Array2::ones((terms, columns.len())));
    for ((rows, ks), solved) in classes.iter().zip(done) {
        for (&k, solved) in ks.iter().zip(solved) {
            rows.iter().zip(&solved.weight).for_each(|(&r, &v)| weight[[r, k]] = v);
            if let Some(scales) = &mut scales {
                scales.column_mut(k).iter_mut().zip(&solved.scales).for_each(|(s, &v)| *s = v);
            }
        }
    }
    let gradient = normal.gradient(weight.view(), columns);
    let after = normal.errors(weight.view(), gradient.view(), columns).iter().sum();
    Fit { weight, scales, before, after }
}

/// One column on its support.
struct Solved {
    weight: Vec<f64>,
    scales: Vec<f64>,
}

struct Whole<'a> {
    task: &'a Task<'a>,
    start: Array2<f64>,
    gradient: Array2<f64>,
    diagonal: Vec<f64>,
    ridge: f64,
}

/// `C` on some rows, its factor with the ridge, and what the rows are.
struct Block {
    rows: Vec<usize>,
    gram: Array2<f64>,
    factor: Cholesky,
    term: Vec<usize>,
}

impl Whole<'_> {
    fn block(&self, rows: Vec<usize>) -> Block {
        let gram = self.task.normal.part(&rows);
        let mut ridged = gram.clone();
        ridged.diag_mut().mapv_inplace(|v| v + self.ridge);
        let term = rows.iter().map(|&r| self.task.term[r]).collect();
        Block { rows, gram, factor: Cholesky::of(ridged), term }
    }

    /// Rows by their size in `G`, the smallest first: what is rounded first stands last.
    fn in_order(&self, rows: &[usize]) -> Vec<usize> {
        let mut rows = rows.to_vec();
        rows.sort_by(|&a, &b| self.diagonal[a].total_cmp(&self.diagonal[b]).then(a.cmp(&b)));
        rows
    }

    fn at_once(&self, support: &[usize], ks: &[usize]) -> Vec<Solved> {
        let block = self.block(self.in_order(support));
        let terms = self.task.term.iter().max().map_or(0, |t| t + 1);
        let place: BTreeMap<usize, usize> =
            block.rows.iter().enumerate().map(|(at, &r)| (r, at)).collect();
        let solve = |&k: &usize| {
            let start: Vec<f64> = block.rows.iter().map(|&r| self.start[[r, k]]).collect();
            let mut gradient: Vec<f64> =
                block.rows.iter().map(|&r| self.gradient[[r, k]]).collect();
            let mut weight = block.moved(&start, &mut gradient);
            let mut scales = Vec::new();
            if let Some(grid) = self.task.grid {
                let original: Vec<f64> = block
                    .rows
                    .iter()
                    .map(|&r| self.task.original[[r, self.task.columns[k]]])
                    .collect();
                (weight, scales) = block.column(&weight, &gradient, &original).rounded(grid, terms);
            }
            Solved { weight: support.iter().map(|r| weight[place[r]]).collect(), scales }
        };
        kernels::run(ks.iter().collect(), usize::MAX, solve)
    }

    fn by_blocks(&self, support: &[usize], ks: &[usize]) -> Vec<Solved> {
        // The largest rows first: what they lose, all others can make up for.
        let order: Vec<usize> = self.in_order(support).into_iter().rev().collect();
        let blocks: Vec<Block> = order
            .chunks(BLOCK)
            .map(|rows| self.block(rows.iter().rev().copied().collect()))
            .collect();
        let columns: Vec<usize> = ks.iter().map(|&k| self.task.columns[k]).collect();
        let mut v = self.start.select(Axis(1), ks);
        let mut gradient = self.gradient.select(Axis(1), ks);
        if !self.is_solved(&v, &gradient) {
            for _ in 0..PASSES {
                for block in &blocks {
                    each_column(&mut v, &block.rows, |k, values| {
                        let mut gradient: Vec<f64> =
                            block.rows.iter().map(|&r| gradient[[r, k]]).collect();
                        block.moved(values, &mut gradient)
                    });
                    gradient = self.task.normal.gradient(v.view(), &columns);
                }
            }
        }
        let scales = self.task.grid.map_or_else(
            || vec![Vec::new(); ks.len()],
            |grid| self.round_blocks(&blocks, &mut v, gradient, grid, &columns),
        );
        let solved = |(k, scales): (usize, Vec<f64>)| Solved {
            weight: support.iter().map(|&r| v[[r, k]]).collect(),
            scales,
        };
        scales.into_iter().enumerate().map(solved).collect()
    }

    /// Whether the weights are where the error is smallest already: nothing was taken from the map
    /// or from what it reads.
    fn is_solved(&self, v: &Array2<f64>, gradient: &Array2<f64>) -> bool {
        /// Inputs and targets are rounded to `f32`.
        const NOTHING: f64 = 1e-5;
        let along: f64 = gradient.iter().map(|g| g.abs()).sum();
        let size: f64 = v
            .rows()
            .into_iter()
            .zip(&self.diagonal)
            .map(|(row, d)| d * row.iter().map(|v| v.abs()).sum::<f64>())
            .sum();
        along <= NOTHING * size
    }

    /// Rounds block by block; each block is solved again first, beside the rounded ones before it.
    fn round_blocks(
        &self,
        blocks: &[Block],
        v: &mut Array2<f64>,
        mut gradient: Array2<f64>,
        grid: Grid,
        columns: &[usize],
    ) -> Vec<Vec<f64>> {
        let terms = self.task.term.iter().max().map_or(0, |t| t + 1);
        let rows: Vec<usize> = blocks.iter().flat_map(|block| block.rows.iter().copied()).collect();
        let scales: Vec<Vec<f64>> = kernels::run((0..columns.len()).collect(), usize::MAX, |k| {
            (0..terms).map(|t| self.scale_of(&rows, v.view(), k, t, grid)).collect()
        });
        for block in blocks {
            each_column(v, &block.rows, |k, values| {
                let mut gradient: Vec<f64> = block.rows.iter().map(|&r| gradient[[r, k]]).collect();
                let solved = block.moved(values, &mut gradient);
                block.column(&solved, &gradient, &solved).rounded_by(grid, &scales[k])
            });
            gradient = self.task.normal.gradient(v.view(), columns);
        }
        self.unless_plain_is_better(v, &gradient, scales, grid, columns)
    }

    /// The scale of one matrix of one column: the one with the smallest squared error, entry by
    /// entry.
    fn scale_of(
        &self,
        rows: &[usize],
        v: ArrayView2<f64>,
        k: usize,
        term: usize,
        grid: Grid,
    ) -> f64 {
        let own: Vec<(f64, f64)> = rows
            .iter()
            .filter(|&&r| self.task.term[r] == term)
            .map(|&r| (v[[r, k]], self.diagonal[r]))
            .collect();
        let range = own.iter().fold(0.0f64, |range, (v, _)| range.max(v.abs()));
        let error = |scale: f64| {
            own.iter()
                .map(|&(v, weight)| weight * (v - grid.nearest(v, scale)).powi(2))
                .sum::<f64>()
        };
        let scales = grid.shrinks().map(|shrink| grid.scale(range * shrink));
        scales.min_by(|&a, &b| error(a).total_cmp(&error(b))).unwrap_or(1.0)
    }

    /// Puts plain rounding of the original weights in the place of a column that it beats.
    fn unless_plain_is_better(
        &self,
        v: &mut Array2<f64>,
        gradient: &Array2<f64>,
        mut scales: Vec<Vec<f64>>,
        grid: Grid,
        columns: &[usize],
    ) -> Vec<Vec<f64>> {
        let mut plain = self.task.original.select(Axis(1), columns);
        let mut plain_scales = Vec::new();
        for (k, mut column) in plain.columns_mut().into_iter().enumerate() {
            let mut largest = vec![0.0f64; scales[k].len()];
            for (r, w) in column.iter_mut().enumerate() {
                if self.task.support.is_some_and(|support| !support[[r, columns[k]]]) {
                    *w = 0.0;
                }
                largest[self.task.term[r]] = largest[self.task.term[r]].max(w.abs());
            }
            let own: Vec<f64> = largest.into_iter().map(|range| grid.scale(range)).collect();
            column
                .iter_mut()
                .enumerate()
                .for_each(|(r, w)| *w = grid.nearest(*w, own[self.task.term[r]]));
            plain_scales.push(own);
        }
        let of_plain = self.task.normal.gradient(plain.view(), columns);
        let errors = self.task.normal.errors(v.view(), gradient.view(), columns);
        for (k, error) in
            self.task.normal.errors(plain.view(), of_plain.view(), columns).into_iter().enumerate()
        {
            if error < errors[k] {
                v.column_mut(k).assign(&plain.column(k));
                scales[k].clone_from(&plain_scales[k]);
            }
        }
        scales
    }
}

impl Block {
    /// The weights after the step to the minimum; the gradient becomes that of the new weights.
    fn moved(&self, start: &[f64], gradient: &mut [f64]) -> Vec<f64> {
        if gradient.iter().all(|g| *g == 0.0) {
            return start.to_vec();
        }
        let mut step = gradient.to_vec();
        self.factor.solve(&mut step);
        for (g, row) in gradient.iter_mut().zip(self.gram.rows()) {
            *g -= dot(row.to_slice().expect("in standard layout"), &step);
        }
        start.iter().zip(step).map(|(v, step)| v + step).collect()
    }

    fn column<'a>(
        &'a self,
        solved: &'a [f64],
        gradient: &'a [f64],
        original: &'a [f64],
    ) -> Column<'a> {
        Column {
            solved,
            gradient,
            original,
            gram: &self.gram,
            lower: self.factor.lower(),
            term: &self.term,
        }
    }
}

/// Replaces some rows of every column by what `f` makes of them.
fn each_column(v: &mut Array2<f64>, rows: &[usize], f: impl Fn(usize, &[f64]) -> Vec<f64> + Sync) {
    let made = kernels::run((0..v.ncols()).collect(), usize::MAX, |k| {
        f(k, &rows.iter().map(|&r| v[[r, k]]).collect::<Vec<f64>>())
    });
    for (k, made) in made.into_iter().enumerate() {
        rows.iter().zip(made).for_each(|(&r, value)| v[[r, k]] = value);
    }
}
