//! How weights become integers: each by itself, or so that the outputs change least.

use super::bits::Bits;
use super::fake::{FakeQuant, Granularity};
use super::settings::{Calibrations, Rounding, Settings};
use super::tables::StoredTable;
use crate::error::{Error, Result};
use crate::nn::{Axis, Model, Param, ParamId};
use crate::reconstruct::{self, Grid, GridOf, Unchanged, solve_again};
use crate::task::Task;
use std::collections::BTreeMap;

/// Width of the integers of each matrix, and their scales, one per column; without them the largest
/// magnitude of a column stands for the largest integer.
pub(super) type Grids = BTreeMap<ParamId, (Bits, Option<Vec<f32>>)>;

/// A model whose weight matrices lie on the grids of their integers.
#[derive(Debug)]
pub(super) struct Rounded {
    pub model: Model,
    pub grids: Grids,
    /// How its activations were rounded where it was trained on the grid.
    pub calibrations: Option<Calibrations>,
    /// Tables that training has stored already.
    pub tables: BTreeMap<ParamId, StoredTable>,
}

impl Rounded {
    /// Of a model whose activations were not trained, nor its tables.
    fn untrained(model: Model, grids: Grids) -> Self {
        Self { model, grids, calibrations: None, tables: BTreeMap::new() }
    }
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
pub(super) fn round(model: &Model, task: &dyn Task<f32>, settings: Settings) -> Result<Rounded> {
    if let Some((at, value)) = not_finite(model) {
        return Err(Error::NotFinite { at, value });
    }
    if !has_matrices(model) {
        return Ok(Rounded::untrained(model.clone(), Grids::new()));
    }
    let widths = Widths { common: settings.weights, own: wider(model, settings.weights) };
    match settings.rounding {
        Rounding::Nearest => {
            let mut grids = Grids::new();
            model.visit(&mut |_, param| {
                if is_rounded(param) {
                    grids.insert(param.id(), (widths.of(param.id()), None));
                }
            });
            Ok(Rounded::untrained(on_grids(model, settings.weights, &grids), grids))
        }
        Rounding::Compensated => {
            let solving =
                reconstruct::Settings { calibrate: settings.calibrate, grid: Some(&widths) };
            let solved = solve_again(model, model, task, solving, &mut Unchanged::default())?;
            let grids = solved
                .scales
                .into_iter()
                .map(|(param, (grid, scales))| (param, (width_of(grid), Some(scales))))
                .collect();
            Ok(Rounded::untrained(solved.model, grids))
        }
    }
}

fn has_matrices(model: &Model) -> bool {
    let mut found = false;
    model.visit(&mut |_, param| found |= is_rounded(param));
    found
}

fn width_of(grid: Grid) -> Bits {
    [Bits::Two, Bits::Four]
        .into_iter()
        .find(|bits| bits.most() == grid.most())
        .unwrap_or(Bits::Eight)
}

fn not_finite(model: &Model) -> Option<(String, f64)> {
    let mut found = None;
    model.visit(&mut |name, param| {
        found = found.take().or_else(|| {
            param.value().iter().find(|w| !w.is_finite()).map(|&w| (name.to_string(), w.into()))
        });
    });
    found
}

/// Weights of fewer than 8 bits: a matrix with at most this share of all weights that are not
/// masked has 8 bits. It has next to no bytes, and in a classifier it is the one whose rounding
/// nothing after it can mend.
const SMALL: f64 = 1.0 / 16.0;

fn wider(model: &Model, bits: Bits) -> BTreeMap<ParamId, Bits> {
    let (mut sizes, mut all) = (Vec::new(), 0);
    model.visit(&mut |_, param| {
        let kept = |mask: &crate::nn::Mask| mask.iter().filter(|keep| **keep).count();
        let size = param.mask().map_or(param.value().len(), kept);
        if is_rounded(param) {
            sizes.push((param.id(), size));
        }
        // A table counts, and has a width of its own.
        all += if is_rounded(param) || is_table(param) { size } else { 0 };
    });
    let small = |size: usize| bits < Bits::Eight && (size as f64) <= SMALL * all as f64;
    sizes
        .into_iter()
        .filter(|(_, size)| small(*size))
        .map(|(param, _)| (param, Bits::Eight))
        .collect()
}

/// Whether the integer form of a layer has a matrix of integers in its place: biases and other
/// single rows stay real, and tables are rounded row by row when they are converted.
pub(super) fn is_rounded(param: &Param<f32>) -> bool {
    param.axes()[0] != Axis::Fixed && !is_table(param)
}

fn is_table(param: &Param<f32>) -> bool {
    param.axes()[0] == Axis::Nodes
}

/// A copy whose weight matrices are rounded to the grids that they have, or weight by weight where
/// they have none.
pub(super) fn on_grids(model: &Model, bits: Bits, grids: &Grids) -> Model {
    let nearest = |bits: Bits, param: &Param<f32>| {
        FakeQuant::new(bits, Granularity::SymmetricColumn).forward(param.value().view())
    };
    let mut model = model.clone();
    model.visit_mut(&mut |param| {
        let value = match grids.get(&param.id()) {
            Some((bits, Some(scales))) => {
                let most = f32::from(bits.most());
                let mut value = param.value().clone();
                for (mut column, &scale) in value.columns_mut().into_iter().zip(scales) {
                    column
                        .mapv_inplace(|w| (w / scale).round_ties_even().clamp(-most, most) * scale);
                }
                value
            }
            Some((bits, None)) => nearest(*bits, param),
            None if is_rounded(param) => nearest(bits, param),
            None => return,
        };
        *param.value_mut() = value;
    });
    model
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Cx, Mask};
    use crate::quant::{Forms, Quantizer};
    use crate::{Dataset, Gcn, Sage};

    #[test]
    fn matrices_of_one_sum_are_stored_with_the_width_that_they_were_rounded_to() {
        let data = Dataset::sbm(240, 3).features(24).build().unwrap();
        for small in ["weight", "root"] {
            let mut model = Sage::builder(24, 3).hidden(20).build(1).unwrap();
            // One of the two matrices of the last layer falls below the share that has 8 bits.
            model.visit_mut(&mut |param| {
                if param.value().dim() == (20, 3) && param.name() == small {
                    param.restrict(&Mask::from_shape_fn((20, 3), |(i, _)| i == 4));
                }
            });
            for rounding in [Rounding::Compensated, Rounding::Nearest] {
                let quantizer = Quantizer::builder(Bits::Four).rounding(rounding).build().unwrap();
                let expected = quantizer
                    .train(&model, &data)
                    .unwrap()
                    .infer(&Cx::eval(data.graph()), data.features())
                    .unwrap();
                let integers = quantizer.quantize(&model, &data).unwrap();
                let mut program =
                    integers.compile_as(data.graph(), data.features(), Forms::Floats).unwrap();
                let found = program.run(data.features()).unwrap();
                assert!(
                    found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-3),
                    "{small}, {rounding:?}"
                );
            }
        }
    }

    #[test]
    fn small_matrices_have_eight_bits_by_either_rounding() {
        let data = Dataset::sbm(240, 3).features(24).build().unwrap();
        let model = Gcn::builder(24, 3).hidden(20).layers(2).build(1).unwrap();
        let widths = |rounding| {
            let quantised = Quantizer::builder(Bits::Two)
                .rounding(rounding)
                .build()
                .unwrap()
                .quantize(&model, &data)
                .unwrap();
            let width = |stage: &crate::quant::QuantStage| match stage.op() {
                crate::quant::QuantOp::Linear(weight) => Some((weight.shape(), weight.bits())),
                _ => None,
            };
            quantised.stages().iter().filter_map(width).collect::<Vec<_>>()
        };
        // 60 weights of 540 are more than a sixteenth.
        let expected = vec![((24, 20), Bits::Two), ((20, 3), Bits::Two)];
        assert_eq!(
            (widths(Rounding::Compensated), widths(Rounding::Nearest)),
            (expected.clone(), expected)
        );
        let model = Gcn::builder(24, 3).hidden(20).layers(4).build(1).unwrap();
        let last = |rounding: Rounding| {
            let quantised = Quantizer::builder(Bits::Two)
                .rounding(rounding)
                .build()
                .unwrap()
                .quantize(&model, &data)
                .unwrap();
            let bits = quantised.stages().iter().filter_map(|stage| match stage.op() {
                crate::quant::QuantOp::Linear(weight) => Some(weight.bits()),
                _ => None,
            });
            bits.collect::<Vec<_>>().pop()
        };
        assert_eq!(
            (last(Rounding::Compensated), last(Rounding::Nearest)),
            (Some(Bits::Eight), Some(Bits::Eight))
        );
    }

    #[test]
    fn what_is_masked_does_not_count_where_small_matrices_are_found() {
        let mut model = Gcn::builder(24, 3).hidden(20).layers(3).build(1).unwrap();
        model.visit_mut(&mut |param| {
            if param.value().dim() == (20, 20) {
                param.restrict(&Mask::from_shape_fn((20, 20), |(i, j)| i == j));
            }
        });
        let mut wide = Vec::new();
        let found = wider(&model, Bits::Four);
        model.visit(&mut |name, param| {
            if found.contains_key(&param.id()) {
                wide.push(name.to_string());
            }
        });
        // 480, 20 and 60 weights are left: a sixteenth is 35.
        assert_eq!(wide, ["conv2.weight"]);
    }
}
