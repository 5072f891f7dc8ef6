//! From the stages of a float model to those of a [`QuantModel`].

use super::bits::Bits;
use super::calibration::{Calibration, ranges};
use super::candidates::{self, Candidate, Candidates, TRIED};
use super::forms::Forms;
use super::lower::Lefts;
use super::model::{
    QuantModel, QuantOp, QuantStage, QuantWeight, room_for_dense, with_dense_shape,
};
use super::rounding::{Grids, Rounded};
use super::settings::{Calibrations, Settings};
use super::tables::{self, TableForms};
use crate::error::{Error, Result, Unsupported};
use crate::kernels::{max_abs, quantize_with, symmetric_scale};
use crate::log;
use crate::nn::{Lowering, Model, Pooling, RowSpace, Stage};
use crate::program::{Fused, Op, Program, fuse};
use crate::task::{Batch, DenseFeatures, Task};
use crate::value::ValueRef;
use ndarray::ArrayView2;
use std::collections::BTreeMap;
use std::ops::Deref;

/// Whether integers read sparse features as dense ones. A layer that aggregates sparse features
/// stands in a float program as it is; integers aggregate dense ones, where that is all that keeps
/// the layer from having an integer form.
///
/// # Errors
/// What lowering returns, and [`Error::Unsupported`] where there is no memory for them.
fn reads_dense(model: &Model, whole: &Batch<f32>) -> Result<bool> {
    let ValueRef::Sparse(x) = whole.features() else { return Ok(false) };
    let stands_as_it_is = |x: ValueRef<f32>| -> Result<bool> {
        let lowering = model.lower_within(Some(whole.graph()), x, whole.spaces())?;
        let reads_input = |stage: &Stage<f32>| matches!(stage, Stage::Opaque { xs, .. } if xs.contains(&lowering.input()));
        Ok(lowering.stages().iter().any(reads_input))
    };
    let shape = (x.rows(), x.cols());
    if !stands_as_it_is(whole.features())? || with_dense_shape(shape, stands_as_it_is)? {
        return Ok(false);
    }
    room_for_dense("the input", shape)?;
    Ok(true)
}

/// A task as the integers read it.
pub(super) enum Read<'a> {
    AsItIs(&'a dyn Task<f32>),
    Dense(DenseFeatures<'a, f32>),
}

impl<'a> Deref for Read<'a> {
    type Target = dyn Task<f32> + 'a;

    fn deref(&self) -> &Self::Target {
        match self {
            Read::AsItIs(task) => *task,
            Read::Dense(task) => task,
        }
    }
}

pub(super) fn as_read<'a>(model: &Model, task: &'a dyn Task<f32>) -> Result<Read<'a>> {
    let whole = task.whole()?;
    if !reads_dense(model, &whole)? {
        return Ok(Read::AsItIs(task));
    }
    log::debug!(
        "{} x {} sparse features are made dense: integers aggregate them before a product",
        whole.features().rows(),
        whole.features().cols()
    );
    Ok(Read::Dense(DenseFeatures::of(task)))
}

/// Converts a model on its grids, its activations calibrated on all of `task`: as its
/// training calibrated them, as the settings say, or so that the outputs are nearest to those of
/// `dense`.
pub(super) fn convert(
    rounded: &Rounded,
    dense: &Model,
    task: &dyn Task<f32>,
    settings: Settings,
) -> Result<QuantModel> {
    let Rounded { model, grids, calibrations, tables: ready } = rounded;
    let whole = task.whole()?;
    let lowering = lowered(model, &whole)?;
    let fused = fuse(&lowering);
    let of_rows = fused.iter().any(|stage| is_of_rows(&stage.op));
    let candidates = match of_rows {
        true => Candidates::new(),
        false => candidates(model, &whole, &lowering, settings, calibrations.as_ref())?,
    };
    let forms = tables::table_forms(model, settings)?;
    let widths = Widths { grids, tables: TableForms { forms, ready } };
    let mut place = vec![0; lowering.stages().len()];
    for (k, stage) in fused.iter().enumerate() {
        place[stage.makes.0] = k + 1;
    }
    let mut stages = Vec::with_capacity(fused.len());
    for stage in &fused {
        let layer = lowering.layer(stage.starts).to_string();
        stages.push(QuantStage {
            op: op(&layer, stage, &lowering, settings, &widths)?,
            inputs: stage.inputs.iter().map(|id| place[id.0]).collect(),
            width: lowering.width(stage.makes),
            bias: stage.bias.as_ref().map(|bias| bias.to_vec()),
            activation: stage.activation,
            scale: None,
            calibration: None,
            layer,
        });
    }
    let mut quantised = QuantModel {
        in_channels: model.in_channels(),
        activation_bits: settings.activations,
        input_scales: None,
        input_calibration: None,
        stages,
        seed: model.seed(),
        origin: model.origin().cloned(),
    };
    candidates::apply(&mut quantised, &candidates, &vec![0; candidates.len()]);
    let mut quantised = quantised.checked()?;
    if of_rows {
        quantised.compile_within(whole.graph(), whole.features(), whole.spaces())?;
    } else if candidates.iter().any(|of| of.len() > 1) {
        candidates::choose(&mut quantised, &candidates, dense, task, &whole)?;
    } else {
        // The graph of the data must not overflow either: the user hears of it here.
        let (graph, x, rows) = (whole.graph(), whole.features(), whole.spaces());
        quantised.compile_within_as(graph, x, rows, Forms::Integers)?;
    }
    Ok(quantised)
}

/// The stages of a model on all of a task.
pub(super) fn lowered(model: &Model, whole: &Batch<f32>) -> Result<Lowering<f32>> {
    model.lower_within(Some(whole.graph()), whole.features(), whole.spaces())
}

/// What each value may be calibrated by, by its values in the compiled float program.
fn candidates(
    model: &Model,
    whole: &Batch<f32>,
    lowering: &Lowering<f32>,
    settings: Settings,
    calibrations: Option<&Calibrations>,
) -> Result<Candidates> {
    let fused = fuse(lowering);
    let most = settings.activations.most();
    let tried = |own: Option<Calibration>| {
        own.or(settings.calibration).map_or(TRIED.to_vec(), |one| vec![one])
    };
    let joins_input = |stage: &Fused<f32>| {
        stage.inputs.contains(&lowering.input()) && !matches!(stage.op, Op::Linear(_))
    };
    let mut candidates = vec![match fused.iter().any(joins_input) {
        true => of_input(
            lowering,
            whole.features(),
            most,
            &tried(calibrations.and_then(|own| own.input)),
        ),
        false => Vec::new(),
    }];
    let mut bad = None;
    let mut program = Program::compile_stagewise(lowered(model, whole)?)?;
    program.run_watched(whole.features(), &mut |k, y| {
        let values = y.as_slice().expect("buffers are contiguous");
        if k + 1 == fused.len() {
            let max = max_abs(values);
            bad = bad.take().or((!max.is_finite()).then_some((k, max)));
            return;
        }
        let tried = tried(calibrations.map(|own| own.stages[k]));
        let ranges = ranges(&tried, values);
        bad =
            bad.take().or(ranges.iter().find(|range| !range.is_finite()).map(|&range| (k, range)));
        let scale = |range: f32| vec![symmetric_scale(range, most)];
        candidates.push(
            tried
                .into_iter()
                .zip(ranges)
                .map(|(calibration, range)| Candidate { calibration, scales: scale(range) })
                .collect(),
        );
    })?;
    match bad {
        Some((k, value)) => {
            let layer = lowering.layer(fused[k].starts);
            Err(Error::NotFinite { at: format!("activations of `{layer}`"), value: value.into() })
        }
        None => Ok(candidates),
    }
}

/// The candidates of the input: one scale per channel.
fn of_input(
    lowering: &Lowering<f32>,
    x: ValueRef<f32>,
    most: i8,
    tried: &[Calibration],
) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> =
        tried.iter().map(|&calibration| Candidate { calibration, scales: Vec::new() }).collect();
    x.with_dense(|x| {
        for channel in 0..lowering.width(lowering.input()) {
            let ranges = ranges(tried, &x.column(channel).to_vec());
            candidates
                .iter_mut()
                .zip(ranges)
                .for_each(|(of, range)| of.scales.push(symmetric_scale(range, most)));
        }
    });
    candidates
}

/// Refuses a model that has a layer without an integer form, or that sums over too many neighbours
/// or nodes of a graph, before any time is spent on it.
pub(super) fn check(model: &Model, task: &dyn Task<f32>, settings: Settings) -> Result<()> {
    let whole = task.whole()?;
    let lower = |x: ValueRef<f32>| model.lower_within(Some(whole.graph()), x, whole.spaces());
    let lowering = match reads_dense(model, &whole)? {
        true => with_dense_shape(whole.features().shape(), lower),
        false => lower(whole.features()),
    }?;
    let mut known = Lefts::default();
    let fused = fuse(&lowering);
    let of_rows = fused.iter().any(|stage| is_of_rows(&stage.op));
    let grids = Grids::new();
    let ready = BTreeMap::new();
    let forms = tables::table_forms(model, settings)?;
    let widths = Widths { grids: &grids, tables: TableForms { forms, ready: &ready } };
    fused.iter().try_for_each(|stage| {
        let layer = lowering.layer(stage.starts);
        if lowering.space_read(&stage.inputs) == RowSpace::Pairs {
            return Err(no_integers(layer, "what reads pairs"));
        }
        if is_of_rows(&stage.op) {
            return Ok(());
        }
        let Some(left) = op(layer, stage, &lowering, settings, &widths)?.left() else {
            return Ok(());
        };
        match of_rows {
            true => left.operator(whole.graph(), whole.spaces(), layer).map(drop),
            false => {
                let on = (whole.graph(), whole.spaces());
                known.add(left, on, layer, settings.activations)
            }
        }
    })
}

/// Whether it is one of the operations on rows.
fn is_of_rows(op: &Op<f32>) -> bool {
    matches!(op, Op::Opaque(operation) if tables::is_known(&**operation))
}

/// What each weight is rounded to.
struct Widths<'a> {
    grids: &'a Grids,
    tables: TableForms<'a>,
}

fn op(
    layer: &str,
    stage: &Fused<f32>,
    lowering: &Lowering<f32>,
    settings: Settings,
    widths: &Widths,
) -> Result<QuantOp> {
    Ok(match &stage.op {
        Op::Linear(weight) => {
            if let Some(&value) = weight.iter().find(|w| !w.is_finite()) {
                return Err(Error::NotFinite {
                    at: format!("weight of `{layer}`"),
                    value: value.into(),
                });
            }
            let grid = match &lowering.stages()[stage.starts.0] {
                Stage::Linear { param, .. } => widths.grids.get(param),
                _ => None,
            };
            QuantOp::Linear(match grid {
                Some((bits, Some(scales))) => {
                    let scales = scales_after(scales, stage.scaled.as_deref());
                    QuantWeight::on_grid(weight.view(), *bits, &scales)
                }
                Some((bits, None)) => QuantWeight::of(weight.view(), *bits),
                None => QuantWeight::of(weight.view(), settings.weights),
            })
        }
        Op::PackedLinear(_) | Op::SparseLinear(_) | Op::Sum(_) => {
            unreachable!("a form that the float program picks after fusion")
        }
        Op::Aggregate(_, norm) => QuantOp::Aggregate(*norm),
        Op::Pool(_, pooling) if *pooling != Pooling::Max => QuantOp::Pool(*pooling),
        Op::Add(coefficients) => QuantOp::Add(coefficients.clone()),
        Op::Concat => QuantOp::Concat,
        Op::Scale(_) => return Err(no_integers(layer, "a norm")),
        Op::Opaque(operation) if tables::is_known(&**operation) => {
            tables::of_layer(&**operation, &widths.tables, settings)?
        }
        Op::Max | Op::Pool(..) | Op::RowNorm(..) | Op::Opaque(_) => {
            return Err(no_integers(layer, &stage.op.name()));
        }
    })
}

/// The scales of columns that a norm has multiplied: its factors change no integer but for their
/// sign. A column that it makes zero has scale 1, as every column of zeros.
fn scales_after(scales: &[f32], by: Option<&Vec<f32>>) -> Vec<f32> {
    let Some(by) = by else { return scales.to_vec() };
    let scale = |(scale, by): (&f32, &f32)| match scale * by.abs() {
        0.0 => 1.0,
        scale => scale,
    };
    scales.iter().zip(by).map(scale).collect()
}

fn no_integers(layer: &str, what: &str) -> Error {
    Unsupported { layer: layer.into(), reason: format!("{what} has no integer form") }.into()
}

impl QuantWeight {
    /// Quantises `w: [in, out]` with a scale per output column:
    /// `s_c = max_k |w_kc| / (2^{b−1} − 1)`, `q = round_ties_even(w / s_c)`.
    pub fn of(w: ArrayView2<f32>, bits: Bits) -> Self {
        let scale = |column: ndarray::ArrayView1<f32>| {
            symmetric_scale(max_abs(&column.to_vec()), bits.most())
        };
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

    /// A weight from integers in ±[`Bits::most`], row by row, and a scale per column; `None` where
    /// the lengths do not fit.
    pub(crate) fn from_parts(
        shape: (usize, usize),
        bits: Bits,
        ints: Vec<i8>,
        scales: Vec<f32>,
    ) -> Option<Self> {
        let fits = shape.0.checked_mul(shape.1) == Some(ints.len()) && scales.len() == shape.1;
        fits.then_some(Self { shape, bits, ints, scales })
    }
}
