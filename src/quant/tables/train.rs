//! Training of tables as what they are stored as: forward and backward on the rows that codes or
//! signs stand for, updates on the words and on the float rows behind them.
//!
//! Of codes a step moves the words by the sums of their rows' gradients, and the float rows by
//! their own, straight through the choice of codes; then every row that was moved gets the codes of
//! the nearest words. Of signs it moves the float rows, by the gradient of a smooth step in the
//! place of the sign's. An optimiser does all of it, since it is what moves parameters: the trainer
//! knows nothing of tables.

use super::codes::{CodeTable, Coded, ProductCodes};
use super::known::{TableForm, table_forms};
use super::rankings::{BesideTask, FirstOfParts, PartRankings};
use super::signs::{SignTable, scale_of};
use super::stored::StoredTable;
use crate::error::Result;
use crate::kernels;
use crate::nn::{Axis, Init, Model, Param, ParamId, RowGrads};
use crate::quant::settings::Settings;
use crate::task::Task;
use crate::train::{Adam, OnEpoch, Optimizer, Schedule, Setup, Trainer};
use ndarray::{Array2, ArrayView2, s};
use std::collections::BTreeMap;

/// Step size of Adam at the first epoch; it falls to zero along a half cosine.
const LEARNING_RATE: f64 = 0.002;

/// Trains a model whose large tables are codes or signs for `epochs`; returns it with the numbers
/// that these stand for, the best epoch by validation, and the tables. Rankings are learnt of the
/// float rows as they come.
///
/// *Source*: the straight-through estimator (Bengio et al., 2013) on codes, as van den Oord et al.,
/// "Neural Discrete Representation Learning", NeurIPS 2017, with gradients for the words in the
/// place of their loss; of signs, the Gaussian gradient of BiGeaR ([`SignTable`], §3.4).
pub(in crate::quant) fn train(
    model: &Model,
    task: &dyn Task<f32>,
    settings: Settings,
    (epochs, rankings): (usize, Option<PartRankings>),
    told: OnEpoch,
) -> Result<(Model, BTreeMap<ParamId, StoredTable>)> {
    let forms = table_forms(model, settings)?;
    let first = rankings.map(|of| FirstOfParts::of(of, model, task, settings)).transpose()?;
    let mut beside = first.map(|first| BesideTask { task, first });
    let mut start = model.clone();
    let mut tables = BTreeMap::new();
    start.visit_mut(&mut |param| match forms.get(&param.id()) {
        Some(&TableForm::Codes(how, seed)) => {
            let table = OnCodes::new(param, how, seed);
            table.coded.write(param.value_mut().view_mut());
            tables.insert(param.id(), OnGrid::Codes(Box::new(table)));
        }
        Some(&TableForm::Signs(parts)) => {
            let table = OnSigns { parts, guide: param.clone(), of_guide: lazy() };
            *param.value_mut() = SignTable::of(param.value().view(), parts).to_floats();
            tables.insert(param.id(), OnGrid::Signs(Box::new(table)));
        }
        _ => {}
    });
    let mut steps = Steps { tables, rest: adam()? };
    let trainer = Trainer::builder().epochs(epochs).patience(epochs).schedule(Schedule::Cosine);
    let mut setup = Setup::new().optimizer(&mut steps).on_epoch(told);
    if let Some(beside) = &mut beside {
        setup = setup.loss(beside);
    }
    let trained = trainer.keep_start(true).build()?.fit_with(start, task, setup)?.model;
    // The steps have gone on after the epoch that is kept: its codes are read off its rows.
    let mut stored = BTreeMap::new();
    trained.visit(&mut |_, param| {
        let rows = param.value().view();
        match forms.get(&param.id()) {
            Some(&TableForm::Codes(how, _)) => {
                let table = CodeTable::settled(rows, Coded::exact(rows, how), how);
                stored.insert(param.id(), StoredTable::Codes(table));
            }
            Some(&TableForm::Signs(parts)) => {
                stored.insert(param.id(), StoredTable::Signs(SignTable::of(rows, parts)));
            }
            _ => {}
        }
    });
    Ok((trained, stored))
}

fn adam() -> Result<Adam<f32>> {
    Adam::builder().learning_rate(LEARNING_RATE).weight_decay(0.0).build()
}

fn lazy() -> Adam<f32> {
    let adam = Adam::builder().learning_rate(LEARNING_RATE).weight_decay(0.0).lazy(true);
    adam.build().expect("its numbers are legal")
}

/// Moves tables that are codes or signs, and all other parameters by Adam.
struct Steps {
    tables: BTreeMap<ParamId, OnGrid>,
    rest: Adam<f32>,
}

/// A table that is trained as what it is stored as.
enum OnGrid {
    Codes(Box<OnCodes>),
    Signs(Box<OnSigns>),
}

impl OnGrid {
    /// A step by the gradient of some rows; all rows that it moves are written to `to`.
    fn step(&mut self, rows: &RowGrads<f32>, factor: f64, to: &mut Array2<f32>) {
        match self {
            OnGrid::Codes(table) => table.step(rows, factor, to),
            OnGrid::Signs(table) => table.step(rows, factor, to),
        }
    }

    fn forget(&mut self) {
        match self {
            OnGrid::Codes(table) => {
                table.of_words.forget();
                table.of_guide.forget();
            }
            OnGrid::Signs(table) => table.of_guide.forget(),
        }
    }
}

/// A table that is trained as signs.
struct OnSigns {
    parts: usize,
    /// The float rows behind the signs.
    guide: Param<f32>,
    of_guide: Adam<f32>,
}

impl OnSigns {
    fn step(&mut self, rows: &RowGrads<f32>, factor: f64, to: &mut Array2<f32>) {
        let width = self.guide.value().ncols() / self.parts;
        let mut through = rows.values().clone();
        let guide = self.guide.value();
        kernels::map_rows(through.view_mut(), |k, gradient| {
            let own = guide.row(rows.rows()[k] as usize);
            let own = own.as_slice().expect("parameters are contiguous");
            for (gradient, own) in gradient.chunks_mut(width).zip(own.chunks(width)) {
                through_signs(own, gradient);
            }
        });
        let shape = self.guide.value().dim();
        let through = RowGrads::new(shape, rows.rows(), through.view());
        self.of_guide.step_rows(&mut self.guide, &through, factor);
        for &row in rows.rows() {
            let own = self.guide.value().row(row as usize).to_vec();
            let mut to = to.row_mut(row as usize);
            for (p, own) in own.chunks(width).enumerate() {
                let scale = scale_of(own);
                for (c, &w) in own.iter().enumerate() {
                    to[p * width + c] = if w < 0.0 { -scale } else { scale };
                }
            }
        }
    }
}

/// The gradient to a part of a float row of that to `s·sign(w)`, `s` the mean magnitude:
///
/// ```text
/// dw_c = dy_c · 2/√π · exp(−(w_c/s)²) + sign(w_c)/n · Σ_k dy_k·sign(w_k)
/// ```
///
/// The first term is that of `s·erf(w_c/s)`, the second one that of the scale.
fn through_signs(w: &[f32], dy: &mut [f32]) {
    let scale = scale_of(w);
    let sign = |w: f32| if w < 0.0 { -1.0f32 } else { 1.0 };
    let of_scale: f32 = w.iter().zip(&*dy).map(|(&w, dy)| sign(w) * dy).sum();
    let of_scale = of_scale / w.len() as f32;
    for (dy, &w) in dy.iter_mut().zip(w) {
        let at = if scale > 0.0 { w / scale } else { 0.0 };
        *dy = *dy * std::f32::consts::FRAC_2_SQRT_PI * (-at * at).exp() + sign(w) * of_scale;
    }
}

/// A table that is trained as codes.
struct OnCodes {
    how: ProductCodes,
    coded: Coded,
    words: Param<f32>,
    /// The float rows behind the codes.
    guide: Param<f32>,
    of_words: Adam<f32>,
    of_guide: Adam<f32>,
}

impl OnCodes {
    fn new(param: &Param<f32>, how: ProductCodes, seed: u64) -> Self {
        let coded = Coded::of(param.value().view(), how, seed);
        let mut words =
            Param::new("words", coded.words.dim(), [Axis::Fixed, Axis::Fixed], Init::Zeros);
        words.value_mut().assign(&coded.words);
        let guide = param.clone();
        Self { how, coded, words, guide, of_words: lazy(), of_guide: lazy() }
    }

    /// A step by the gradient of some rows, which writes all of `to`.
    fn step(&mut self, rows: &RowGrads<f32>, factor: f64, to: &mut Array2<f32>) {
        let gradient = self.of_the_words(rows.rows(), rows.values().view());
        self.of_words.step(&mut self.words, Some(&gradient), factor);
        self.coded.words.assign(self.words.value());
        if !self.how.is_random() {
            self.of_guide.step_rows(&mut self.guide, rows, factor);
            self.coded.assign(self.guide.value().view(), Some(rows.rows()));
        }
        self.coded.write(to.view_mut());
    }

    /// The sums of the gradients of all rows that have a word.
    fn of_the_words(&self, rows: &[u32], gradients: ArrayView2<f32>) -> Array2<f32> {
        let (count, cols) = self.coded.words.dim();
        let spaces: Vec<usize> = (0..self.how.spaces()).collect();
        let sums = kernels::run(spaces, gradients.len(), |m: usize| {
            let span = self.coded.span(m);
            let mut sums = Array2::<f32>::zeros((count, span.len()));
            for (&row, gradient) in rows.iter().zip(gradients.rows()) {
                let code = usize::from(self.coded.codes[m][row as usize]);
                let mut sum = sums.row_mut(code);
                sum += &gradient.slice(s![span.clone()]);
            }
            sums
        });
        let mut whole = Array2::zeros((count, cols));
        for (m, sums) in sums.into_iter().enumerate() {
            whole.slice_mut(s![.., self.coded.span(m)]).assign(&sums);
        }
        whole
    }
}

impl Optimizer<f32> for Steps {
    fn step(&mut self, param: &mut Param<f32>, gradient: Option<&Array2<f32>>, factor: f64) {
        match (self.tables.get_mut(&param.id()), gradient) {
            (Some(table), Some(gradient)) => {
                let rows: Vec<u32> = (0..gradient.nrows() as u32).collect();
                let all = RowGrads::new(gradient.dim(), &rows, gradient.view());
                table.step(&all, factor, param.value_mut());
            }
            (Some(_), None) => {}
            (None, gradient) => self.rest.step(param, gradient, factor),
        }
    }

    fn step_rows(&mut self, param: &mut Param<f32>, gradient: &RowGrads<f32>, factor: f64) {
        match self.tables.get_mut(&param.id()) {
            Some(table) => table.step(gradient, factor, param.value_mut()),
            None => self.rest.step_rows(param, gradient, factor),
        }
    }

    fn forget(&mut self) {
        self.rest.forget();
        self.tables.values_mut().for_each(OnGrid::forget);
    }

    fn fresh(&self) -> Box<dyn Optimizer<f32>> {
        unreachable!("nobody but `train` has one")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the smooth step that stands in for the sign: `s·erf(w/s)` with the scale that varies.
    #[test]
    fn the_gradient_through_signs_is_that_of_its_two_terms() {
        let w = [0.3f32, -1.2, 0.05, 2.0, -0.4];
        let dy = [1.0f32, -0.5, 2.0, 0.25, -3.0];
        let mut found = dy;
        through_signs(&w, &mut found);
        let scale = scale_of(&w);
        // The scale's part, by differences of `Σ_c dy_c·s(w)·sign(w_c)`.
        let value = |w: &[f32]| -> f32 {
            let scale = scale_of(w);
            w.iter().zip(&dy).map(|(w, dy)| dy * scale * w.signum()).sum()
        };
        for c in 0..w.len() {
            let (mut up, mut down) = (w, w);
            up[c] += 1e-2;
            down[c] -= 1e-2;
            let of_scale = (value(&up) - value(&down)) / 2e-2;
            let of_step =
                dy[c] * 2.0 / std::f32::consts::PI.sqrt() * (-(w[c] / scale).powi(2)).exp();
            assert!((found[c] - of_scale - of_step).abs() < 1e-3, "{c}: {}", found[c]);
        }
    }
}
