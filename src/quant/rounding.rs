//! How weights become integers: each by itself, or so that the outputs change least.

use super::bits::Bits;
use super::convert::Settings;
use super::fake::{FakeQuant, Granularity};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::nn::{Axis, Model, Param, ParamId};
use crate::reconstruct::{self, Grid, GridOf, Unchanged, solve_again};
use std::collections::BTreeMap;

/// How a weight matrix is brought to integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Rounding {
    /// Each weight to the nearest integer, the largest magnitude of a column standing for the largest integer.
    Nearest,
    /// Column by column so that the outputs of the map change least on the data: the scale by the smallest squared error, what rounding one
    /// weight breaks made up for by those that are not rounded yet, every later layer solved against the float network's outputs before it
    /// is rounded, biases corrected. Never worse on the data than [`Rounding::Nearest`], in squared error and map by map.
    ///
    /// *Source*: Frantar et al., "GPTQ", ICLR 2023; the descent over single integers as Behdin et al., "QuantEase", 2023.
    #[default]
    Compensated,
}

/// Width and scales, one per column, of the parameters that lie on a grid.
pub(super) type Grids = BTreeMap<ParamId, (Bits, Vec<f32>)>;

/// A model whose weight matrices lie on the grids of their integers.
#[derive(Debug)]
pub(super) struct Rounded {
    pub model: Model,
    pub grids: Grids,
}

/// The width of each parameter's integers.
#[derive(Debug)]
struct Widths {
    common: Bits,
    /// Parameters with a width of their own.
    own: BTreeMap<ParamId, Bits>,
}

impl Widths {
    fn of(&self, param: ParamId) -> Bits {
        self.own.get(&param).copied().unwrap_or(self.common)
    }
}

impl GridOf for Widths {
    fn grid(&self, param: ParamId) -> Option<Grid> {
        Some(Grid::new(self.of(param).most()))
    }
}

/// Rounds the weights of `model` as the settings say.
pub(super) fn round(model: &Model, data: &Dataset, settings: Settings) -> Result<Rounded> {
    if let Some((at, value)) = not_finite(model) {
        return Err(Error::NotFinite { at, value });
    }
    let widths = Widths { common: settings.weights, own: wider(model, settings.weights) };
    match settings.rounding {
        Rounding::Nearest => Ok(Rounded { model: nearest(model, settings.weights), grids: Grids::new() }),
        Rounding::Compensated => {
            let solving = reconstruct::Settings { calibrate: settings.calibrate, grid: Some(&widths) };
            let solved = solve_again(model, model, data, solving, &mut Unchanged::default())?;
            let grids = solved.scales.into_iter().map(|(param, scales)| (param, (widths.of(param), scales))).collect();
            Ok(Rounded { model: solved.model, grids })
        }
    }
}

fn not_finite(model: &Model) -> Option<(String, f64)> {
    let mut found = None;
    model.visit(&mut |name, param| {
        found = found.take().or_else(|| param.value().iter().find(|w| !w.is_finite()).map(|&w| (name.to_string(), w.into())));
    });
    found
}

/// Weights of fewer than 8 bits: a matrix with at most this share of all weights that are not masked has 8 bits. It has next to no bytes,
/// and in a classifier it is the one whose rounding nothing after it can mend.
const SMALL: f64 = 1.0 / 16.0;

fn wider(model: &Model, bits: Bits) -> BTreeMap<ParamId, Bits> {
    let mut sizes = Vec::new();
    model.visit(&mut |_, param| {
        if is_rounded(param) {
            sizes.push((param.id(), param.mask().map_or(param.value().len(), |mask| mask.iter().filter(|keep| **keep).count())));
        }
    });
    let all: usize = sizes.iter().map(|(_, size)| size).sum();
    let small = |size: usize| bits < Bits::Eight && (size as f64) <= SMALL * all as f64;
    sizes.into_iter().filter(|(_, size)| small(*size)).map(|(param, _)| (param, Bits::Eight)).collect()
}

/// Whether the integer form of a layer has a matrix of integers in its place: biases and other single rows stay real.
pub(super) fn is_rounded(param: &Param<f32>) -> bool {
    param.axes()[0] != Axis::Fixed
}

/// A copy whose weight matrices are rounded weight by weight, one scale per output column; biases and other single rows stay.
pub(super) fn nearest(model: &Model, bits: Bits) -> Model {
    let fake = FakeQuant::new(bits, Granularity::SymmetricColumn);
    let mut model = model.clone();
    model.visit_mut(&mut |param| {
        if is_rounded(param) {
            *param.value_mut() = fake.forward(param.value().view());
        }
    });
    model
}

/// A copy whose weight matrices are rounded to the grids that they have, or weight by weight where they have none.
pub(super) fn on_grids(model: &Model, bits: Bits, grids: &Grids) -> Model {
    let fake = FakeQuant::new(bits, Granularity::SymmetricColumn);
    let mut model = model.clone();
    model.visit_mut(&mut |param| {
        let value = match grids.get(&param.id()) {
            Some((bits, scales)) => {
                let most = f32::from(bits.most());
                let mut value = param.value().clone();
                for (mut column, &scale) in value.columns_mut().into_iter().zip(scales) {
                    column.mapv_inplace(|w| (w / scale).round_ties_even().clamp(-most, most) * scale);
                }
                value
            }
            None if is_rounded(param) => fake.forward(param.value().view()),
            None => return,
        };
        *param.value_mut() = value;
    });
    model
}
