//! Training of tables as what they are stored as: forward and backward on the rows that codes stand
//! for, updates on the words and on the float rows behind them.
//!
//! A step moves the words by the sums of their rows' gradients, and the float rows by their own,
//! straight through the choice of codes; then every row that was moved gets the codes of the
//! nearest words. An optimiser does all of it, since it is what moves parameters: the trainer knows
//! nothing of codes.

use super::codes::{CodeTable, Coded, ProductCodes};
use super::known::{TableForm, table_forms};
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

/// Trains a model whose large tables are codes for `epochs`; returns it with the numbers that these
/// stand for, the best epoch by validation, and the tables.
///
/// *Source*: the straight-through estimator (Bengio et al., 2013) on codes, as van den Oord et al.,
/// "Neural Discrete Representation Learning", NeurIPS 2017, with gradients for the words in the
/// place of their loss.
pub(in crate::quant) fn train(
    model: &Model,
    task: &dyn Task<f32>,
    settings: Settings,
    epochs: usize,
    told: OnEpoch,
) -> Result<(Model, BTreeMap<ParamId, StoredTable>)> {
    let forms = table_forms(model, settings)?;
    let mut start = model.clone();
    let mut tables = BTreeMap::new();
    start.visit_mut(&mut |param| {
        if let Some(&TableForm::Codes(how, seed)) = forms.get(&param.id()) {
            let table = OnCodes::new(param, how, seed);
            table.coded.write(param.value_mut().view_mut());
            tables.insert(param.id(), table);
        }
    });
    let hows: BTreeMap<ParamId, ProductCodes> =
        tables.iter().map(|(&id, table)| (id, table.how)).collect();
    let mut steps = Steps { tables, rest: adam()? };
    let trainer = Trainer::builder().epochs(epochs).patience(epochs).schedule(Schedule::Cosine);
    let setup = Setup::new().optimizer(&mut steps).on_epoch(told);
    let trained = trainer.keep_start(true).build()?.fit_with(start, task, setup)?.model;
    // The steps have gone on after the epoch that is kept: its codes are read off its rows.
    let mut stored = BTreeMap::new();
    trained.visit(&mut |_, param| {
        if let Some(&how) = hows.get(&param.id()) {
            let coded = Coded::exact(param.value().view(), how);
            let table = CodeTable::settled(param.value().view(), coded, how);
            stored.insert(param.id(), StoredTable::Codes(table));
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

/// Moves tables that are codes, and all other parameters by Adam.
struct Steps {
    tables: BTreeMap<ParamId, OnCodes>,
    rest: Adam<f32>,
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
        for table in self.tables.values_mut() {
            table.of_words.forget();
            table.of_guide.forget();
        }
    }

    fn fresh(&self) -> Box<dyn Optimizer<f32>> {
        unreachable!("nobody but `train` has one")
    }
}
