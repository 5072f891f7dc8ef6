//! From the stages of a float model to those of a [`QuantModel`].

use super::bits::Bits;
use super::calibration::Calibration;
use super::forms::Forms;
use super::model::{QuantModel, QuantOp, QuantStage, QuantWeight};
use super::rounding::Grids;
use super::rounding::Rounding;
use crate::data::Dataset;
use crate::error::{Error, Result, Unsupported};
use crate::kernels::{max_abs, quantize_with, symmetric_scale};
use crate::nn::{Fused, Lowering, Model, Op, Program, Stage, fuse};
use crate::reconstruct::Calibrate;
use crate::value::ValueRef;
use ndarray::ArrayView2;

/// Settings of a conversion.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub weights: Bits,
    pub activations: Bits,
    pub calibration: Calibration,
    /// Which nodes weights are rounded on.
    pub calibrate: Calibrate,
    pub rounding: Rounding,
}

/// Converts `model`, its activations calibrated on all nodes of `data`; `grids` has the scales of the weights that lie on a grid already.
pub(super) fn convert(model: &Model, data: &Dataset, settings: Settings, grids: &Grids) -> Result<QuantModel> {
    let ranges = ranges(model, data, settings.calibration)?;
    let lowering = model.lower(Some(data.graph()), data.features())?;
    let fused = fuse(&lowering);
    let mut place = vec![0; lowering.stages().len()];
    for (k, stage) in fused.iter().enumerate() {
        place[stage.makes.0] = k + 1;
    }
    let most = settings.activations.most();
    let mut stages = Vec::with_capacity(fused.len());
    for (k, stage) in fused.iter().enumerate() {
        let layer = lowering.layer(stage.starts).to_string();
        if !ranges[k].is_finite() {
            return Err(Error::NotFinite { at: format!("activations of `{layer}`"), value: ranges[k].into() });
        }
        stages.push(QuantStage {
            op: op(&layer, stage, &lowering, settings.weights, grids)?,
            inputs: stage.inputs.iter().map(|id| place[id.0]).collect(),
            width: lowering.width(stage.makes),
            bias: stage.bias.as_ref().map(|bias| bias.to_vec()),
            activation: stage.activation,
            scale: (k + 1 < fused.len()).then(|| symmetric_scale(ranges[k], most)),
            layer,
        });
    }
    let joins_input = |stage: &Fused<f32>| stage.inputs.contains(&lowering.input()) && !matches!(stage.op, Op::Linear(_));
    let input_scales = fused.iter().any(joins_input).then(|| input_scales(&lowering, data.features(), settings));
    let (seed, origin) = (model.seed(), model.origin().cloned());
    let quantised =
        QuantModel { in_channels: model.in_channels(), activation_bits: settings.activations, input_scales, stages, seed, origin }
            .checked()?;
    // The graph of the data must not overflow either: the user hears of it here.
    quantised.compile_as(data.graph(), data.features(), Forms::Integers)?;
    Ok(quantised)
}

/// The range of every fused stage's output on the compiled float program.
fn ranges(model: &Model, data: &Dataset, calibration: Calibration) -> Result<Vec<f32>> {
    let mut ranges = Vec::new();
    let mut program = Program::compile_stagewise(model.lower(Some(data.graph()), data.features())?)?;
    program.run_watched(data.features(), &mut |_, y| ranges.push(calibration.range(y.as_slice().expect("buffers are contiguous"))))?;
    Ok(ranges)
}

/// One scale a channel of the input.
fn input_scales(lowering: &Lowering<f32>, x: ValueRef<f32>, settings: Settings) -> Vec<f32> {
    let scale = |column: &[f32]| symmetric_scale(settings.calibration.range(column), settings.activations.most());
    x.with_dense(|x| (0..lowering.width(lowering.input())).map(|c| scale(&x.column(c).to_vec())).collect())
}

/// Refuses a model that has a layer without an integer form, before any time is spent on it.
pub(super) fn check(model: &Model, data: &Dataset, settings: Settings) -> Result<()> {
    let lowering = model.lower(Some(data.graph()), data.features())?;
    fuse(&lowering)
        .iter()
        .try_for_each(|stage| op(lowering.layer(stage.starts), stage, &lowering, settings.weights, &Grids::new()).map(|_| ()))
}

fn op(layer: &str, stage: &Fused<f32>, lowering: &Lowering<f32>, bits: Bits, grids: &Grids) -> Result<QuantOp> {
    Ok(match &stage.op {
        Op::Linear(weight) => {
            if let Some(&value) = weight.iter().find(|w| !w.is_finite()) {
                return Err(Error::NotFinite { at: format!("weight of `{layer}`"), value: value.into() });
            }
            let grid = match &lowering.stages()[stage.starts.0] {
                Stage::Linear { param, .. } => grids.get(param),
                _ => None,
            };
            QuantOp::Linear(match grid {
                Some((bits, Some(scales))) => QuantWeight::on_grid(weight.view(), *bits, scales),
                Some((bits, None)) => QuantWeight::of(weight.view(), *bits),
                None => QuantWeight::of(weight.view(), bits),
            })
        }
        Op::PackedLinear(_) | Op::SparseLinear(_) | Op::Sum(_) => unreachable!("a form that the float program picks after fusion"),
        Op::Aggregate(_, norm) => QuantOp::Aggregate(*norm),
        Op::Add(coefficients) => QuantOp::Add(coefficients.clone()),
        Op::Concat => QuantOp::Concat,
        Op::Scale(_) => return Err(no_integers(layer, "a norm")),
        Op::Whole(whole) => return Err(no_integers(layer, whole.kind())),
    })
}

fn no_integers(layer: &str, what: &str) -> Error {
    Unsupported { layer: layer.into(), reason: format!("{what} has no integer form") }.into()
}

impl QuantWeight {
    /// Quantises `w: [in, out]` with a scale an output column: `s_c = max_k |w_kc| / (2^{b−1} − 1)`, `q = round_ties_even(w / s_c)`.
    pub fn of(w: ArrayView2<f32>, bits: Bits) -> Self {
        let scale = |column: ndarray::ArrayView1<f32>| symmetric_scale(max_abs(&column.to_vec()), bits.most());
        let scales: Vec<f32> = w.columns().into_iter().map(scale).collect();
        Self::on_grid(w, bits, &scales)
    }

    /// Quantises `w: [in, out]` with these scales, one per output column.
    pub(super) fn on_grid(w: ArrayView2<f32>, bits: Bits, scales: &[f32]) -> Self {
        let (rows, cols) = w.dim();
        let mut ints = vec![0; rows * cols];
        let mut q = vec![0; rows];
        for (c, column) in w.columns().into_iter().enumerate() {
            quantize_with(&column.to_vec(), scales[c], bits.most(), &mut q);
            q.iter().enumerate().for_each(|(k, &q)| ints[k * cols + c] = q);
        }
        Self { shape: (rows, cols), bits, ints, scales: scales.to_vec() }
    }

    /// A weight from integers in ±[`Bits::most`], row by row, and a scale a column; `None` where the lengths do not fit.
    pub(crate) fn from_parts(shape: (usize, usize), bits: Bits, ints: Vec<i8>, scales: Vec<f32>) -> Option<Self> {
        let fits = shape.0.checked_mul(shape.1) == Some(ints.len()) && scales.len() == shape.1;
        fits.then_some(Self { shape, bits, ints, scales })
    }
}
