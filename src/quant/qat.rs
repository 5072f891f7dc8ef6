//! Quantisation-aware training: forward and backward on the grid of the integers, updates on float weights behind it.
//!
//! Weights: before every forward pass a copy of the model gets its matrices rounded, one scale a column; its gradients, straight through
//! the rounding, move the float weights. Scales that compensated rounding found stay; a weight that drifts past the grid is clamped to its
//! end and still gets its gradient, so that it can come back.
//! Activations: nodes that round are inserted where the integer program stores integers, and taken out again afterwards.

use super::bits::Bits;
use super::calibration::Calibration;
use super::convert::{Settings, convert};
use super::fake::Grid;
use super::rounding::{Rounded, on_grids};
use crate::data::Dataset;
use crate::error::{Result, Unsupported};
use crate::nn::{Cx, Grads, Io, Layer, Lowering, Model, ModelBuilder, NodeId, Reads, StageId, Trace, Wiring};
use crate::scalar::Scalar;
use crate::train::{Epoch, Schedule, Trainer, supervised};
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2};

/// Step size of Adam at the first epoch; it falls to zero along a half cosine.
const LEARNING_RATE: f64 = 0.002;

/// Rounds activations in training and evaluation, with a straight-through gradient.
///
/// *Shapes*: `[n, c]` in and out; sparse stays sparse.
///
/// *Source*: as [`FakeQuant`].
#[derive(Debug, Clone, Copy)]
struct RoundActivations {
    bits: Bits,
    scales: Scales,
}

/// What shares a scale, as in the integer program; ranges are found anew at every pass.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scales {
    Row,
    Column,
    Tensor(Calibration),
}

impl RoundActivations {
    /// The grids of a dense tensor: one, or one a row or column.
    fn grids<F: Scalar>(&self, x: ArrayView2<F>) -> Vec<Grid> {
        let grid = |values: &[f32], calibration: Calibration| Grid::symmetric(calibration.range(values), self.bits);
        let floats = |values: ndarray::iter::Iter<F, ndarray::Ix1>| values.map(|v| v.as_f64() as f32).collect::<Vec<f32>>();
        match self.scales {
            Scales::Tensor(calibration) => vec![grid(&x.iter().map(|v| v.as_f64() as f32).collect::<Vec<f32>>(), calibration)],
            Scales::Row => x.rows().into_iter().map(|row| grid(&floats(row.iter()), Calibration::MinMax)).collect(),
            Scales::Column => x.columns().into_iter().map(|column| grid(&floats(column.iter()), Calibration::MinMax)).collect(),
        }
    }
}

fn round<F: Scalar>(v: F, grid: Grid) -> F {
    F::of(f64::from(grid.round(v.as_f64() as f32)))
}

impl<F: Scalar> Layer<F> for RoundActivations {
    /// Which entries were clamped, if any was.
    type Cache = Option<Array2<bool>>;

    fn kind(&self) -> &'static str {
        "round_activations"
    }

    fn wiring(&self) -> Wiring {
        Wiring::Same
    }

    fn forward(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<(Value<F>, Self::Cache)> {
        let x = match &xs[0] {
            ValueRef::Dense(x) => x,
            ValueRef::Sparse(x) => {
                // Only the input is sparse, and a product reads it: a scale a row.
                let mut y = x.to_owned();
                for mut row in y.outer_iterator_mut() {
                    let range = row.iter().fold(0.0f32, |range, (_, v)| range.max(v.abs().as_f64() as f32));
                    let grid = Grid::symmetric(range, self.bits);
                    row.iter_mut().for_each(|(_, v)| *v = round(*v, grid));
                }
                return Ok((Value::Sparse(y), None));
            }
        };
        let grids = self.grids(x.view());
        let grid = |(i, c): (usize, usize)| match self.scales {
            Scales::Tensor(_) => grids[0],
            Scales::Row => grids[i],
            Scales::Column => grids[c],
        };
        let mut y = cx.take(x.dim());
        y.indexed_iter_mut().zip(x).for_each(|((at, y), &x)| *y = round(x, grid(at)));
        let clips = matches!(self.scales, Scales::Tensor(Calibration::Percentile(_)));
        let clamped = clips.then(|| x.mapv(|v| !grids[0].passes(v.as_f64() as f32)));
        Ok((Value::Dense(y), clamped))
    }

    /// `dX = dY` where the integer was not clamped, else 0.
    fn backward(&self, _: &Cx<F>, _: &Io<F>, clamped: Self::Cache, dy: ValueRef<F>, _: &mut Grads<F>) -> Vec<Option<Value<F>>> {
        let mut dx = dy.to_owned();
        if let (Value::Dense(dx), Some(clamped)) = (&mut dx, clamped) {
            dx.zip_mut_with(&clamped, |dx, &clamped| {
                if clamped {
                    *dx = F::zero();
                }
            });
        }
        vec![Some(dx)]
    }

    fn reads(&self) -> Reads {
        Reads::Nothing
    }

    /// The conversion rounds by itself: here the values go on as they are.
    fn lower(&self, _: &mut Lowering<F>, xs: &[StageId]) -> Result<StageId, Unsupported> {
        Ok(xs[0])
    }
}

/// Trains `model` for `epochs` with weights and activations on the grid and returns it on the grid, the best epoch by validation.
pub(super) fn train(start: Rounded, data: &Dataset, settings: Settings, epochs: usize, hear: &(dyn Fn(Epoch) + Sync)) -> Result<Rounded> {
    let Rounded { model, grids } = start;
    // The conversion knows what reads the input.
    let by_channel = convert(&model, data, settings, &grids)?.input_scales.is_some();
    let rounding = with_rounding(&model, by_channel, settings)?;
    let trainer = Trainer::builder().epochs(epochs).patience(epochs).learning_rate(LEARNING_RATE).schedule(Schedule::Cosine);
    let split = data.split(model.seed());
    let output = rounding.output();
    let mut loss = |_: &Model, trace: &Trace<f32>, _: usize| {
        let (loss, gradient) = supervised(trace.output(), data, &split.train);
        Ok((loss, vec![(output, gradient)]))
    };
    let weights = |model: &Model| on_grids(model, settings.weights, &grids);
    let fit = trainer.keep_start().build()?.fit_through(rounding, data, &mut loss, hear, Some(&weights))?;
    let mut trained = model.clone();
    let mut values = Vec::new();
    let best = on_grids(&fit.model, settings.weights, &grids);
    best.visit(&mut |_, param| values.push(param.value().clone()));
    let mut values = values.into_iter();
    // The rounding nodes have no parameters, so both models have the same ones in the same order.
    trained.visit_mut(&mut |param| *param.value_mut() = values.next().expect("both models have the same parameters"));
    trained.set_origin(fit.model.origin().cloned());
    Ok(Rounded { model: trained, grids })
}

/// The model with a rounding node after each node whose value the integer program stores.
fn with_rounding(model: &Model, by_channel: bool, settings: Settings) -> Result<Model> {
    let kind = |id: NodeId| model.nodes()[id.index() - 1].layer().kind();
    // An activation is done before anything is stored, and dropout is not there at inference.
    let passes = |id: NodeId| {
        kind(id) == "dropout" || {
            let mut readers = (1..=model.nodes().len()).map(NodeId).filter(|k| model.nodes()[k.index() - 1].inputs().contains(&id));
            readers.all(|reader| kind(reader) == "activation")
        }
    };
    let mut builder = ModelBuilder::new(model.in_channels());
    let of_input = RoundActivations { bits: settings.activations, scales: if by_channel { Scales::Column } else { Scales::Row } };
    let mut place = vec![builder.add("round_input", of_input, &[NodeId::INPUT])?];
    for (k, node) in model.nodes().iter().enumerate() {
        let inputs: Vec<NodeId> = node.inputs().iter().map(|id| place[id.index()]).collect();
        let id = builder.add_boxed(node.name(), node.layer().boxed(), &inputs)?;
        let old = NodeId(k + 1);
        place.push(match old == model.output() || passes(old) {
            true => id,
            false => {
                let round = RoundActivations { bits: settings.activations, scales: Scales::Tensor(settings.calibration) };
                builder.add(&format!("round_{}", node.name()), round, &[id])?
            }
        });
    }
    let mut with = builder.build_undrawn(place[model.output().index()], model.seed())?;
    with.set_origin(model.origin().cloned());
    Ok(with)
}
