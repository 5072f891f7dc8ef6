//! Quantisation-aware training: forward and backward on the grid of the integers, updates on float
//! weights behind it.
//!
//! Weights: before every forward pass a copy of the model gets its matrices rounded, one scale per
//! column; its gradients, straight through the rounding, move the float weights. Scales that
//! compensated rounding found stay; a weight that drifts past the grid is clamped to its end and
//! still gets its gradient, so that it can come back. Activations: nodes that round are inserted
//! where the integer program stores integers between layers, and taken out again afterwards. What
//! one layer stores between its own product and its own aggregation is not rounded here. Each is
//! calibrated as a conversion of the start calibrates it, by a range found anew at every pass, and
//! the trained network is converted with the same calibrations.

use super::bits::Bits;
use super::calibration::Calibration;
use super::convert::{convert, lowered};
use super::fake::Grid;
use super::rounding::{Rounded, on_grids};
use super::settings::{Calibrations, Settings};
use crate::error::{Result, Unsupported};
use crate::nn::{
    Cx, Grads, Io, Layer, Lowering, Model, ModelBuilder, NodeId, Reads, StageId, Wiring,
};
use crate::program::fuse;
use crate::scalar::Scalar;
use crate::task::Task;
use crate::train::{OnEpoch, Schedule, Setup, Trainer};
use crate::value::{CsrView, Value, ValueRef};
use ndarray::{Array2, ArrayView2};
use std::collections::BTreeMap;

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
    Column(Calibration),
    Tensor(Calibration),
}

impl RoundActivations {
    /// The grids of a dense tensor: one, or one per row or column.
    fn grids<F: Scalar>(&self, x: ArrayView2<F>) -> Vec<Grid> {
        let grid = |values: &[f32], calibration: Calibration| {
            Grid::symmetric(calibration.range(values), self.bits)
        };
        let floats = |values: ndarray::iter::Iter<F, ndarray::Ix1>| {
            values.map(|v| v.as_f64() as f32).collect::<Vec<f32>>()
        };
        match self.scales {
            Scales::Tensor(calibration) => {
                vec![grid(&x.iter().map(|v| v.as_f64() as f32).collect::<Vec<f32>>(), calibration)]
            }
            Scales::Row => x
                .rows()
                .into_iter()
                .map(|row| grid(&floats(row.iter()), Calibration::MinMax))
                .collect(),
            Scales::Column(calibration) => x
                .columns()
                .into_iter()
                .map(|column| grid(&floats(column.iter()), calibration))
                .collect(),
        }
    }

    /// The grids of the columns of a sparse tensor, zeros counted; `None` where each row has its
    /// own.
    fn grids_of_sparse_columns<F: Scalar>(&self, x: &CsrView<F>) -> Option<Vec<Grid>> {
        let Scales::Column(calibration) = self.scales else { return None };
        let mut values = vec![0.0f32; x.rows()];
        let of_column = |column: sprs::CsVecViewI<F, u32>| {
            values.fill(0.0);
            column.iter().for_each(|(i, v)| values[i] = v.as_f64() as f32);
            Grid::symmetric(calibration.range(&values), self.bits)
        };
        let by_column: sprs::CsMatI<F, u32, usize> = x.to_other_storage();
        Some(by_column.outer_iterator().map(of_column).collect())
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
                // Only the input is sparse, and what it would get of a gradient moves nothing.
                let columns = self.grids_of_sparse_columns(x);
                let mut y = x.to_owned();
                for mut row in y.outer_iterator_mut() {
                    let range =
                        row.iter().fold(0.0f32, |range, (_, v)| range.max(v.abs().as_f64() as f32));
                    let grid = Grid::symmetric(range, self.bits);
                    row.iter_mut().for_each(|(c, v)| {
                        *v = round(*v, columns.as_ref().map_or(grid, |columns| columns[c]))
                    });
                }
                return Ok((Value::Sparse(y), None));
            }
        };
        let grids = self.grids(x.view());
        let grid = |(i, c): (usize, usize)| match self.scales {
            Scales::Tensor(_) => grids[0],
            Scales::Row => grids[i],
            Scales::Column(_) => grids[c],
        };
        let mut y = cx.take(x.dim());
        y.indexed_iter_mut().zip(x).for_each(|((at, y), &x)| *y = round(x, grid(at)));
        let clips = matches!(self.scales, Scales::Tensor(calibration) | Scales::Column(calibration) if calibration.clips());
        let clamped = clips
            .then(|| Array2::from_shape_fn(x.dim(), |at| !grid(at).passes(x[at].as_f64() as f32)));
        Ok((Value::Dense(y), clamped))
    }

    /// `dX = dY` where the integer was not clamped, else 0.
    fn backward(
        &self,
        _: &Cx<F>,
        _: &Io<F>,
        clamped: Self::Cache,
        dy: ValueRef<F>,
        _: &mut Grads<F>,
    ) -> Vec<Option<Value<F>>> {
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

/// Trains the model, which is `dense` rounded, for `epochs` with weights and activations on the
/// grid and returns it on the grid, the best epoch by validation.
pub(super) fn train(
    start: Rounded,
    dense: &Model,
    task: &dyn Task<f32>,
    settings: Settings,
    epochs: usize,
    told: OnEpoch,
) -> Result<Rounded> {
    let calibrations = Calibrations::of(&convert(&start, dense, task, settings)?);
    let Rounded { model, grids, tables, .. } = start;
    let rounding = with_rounding(&model, task, &calibrations, settings.activations)?;
    let trainer = Trainer::builder()
        .epochs(epochs)
        .patience(epochs)
        .learning_rate(LEARNING_RATE)
        .schedule(Schedule::Cosine);
    let weights = |model: &Model| on_grids(model, settings.weights, &grids);
    let setup = Setup::new().view(&weights).on_epoch(told);
    let fit = trainer.keep_start(true).build()?.fit_with(rounding, task, setup)?;
    let mut trained = model.clone();
    let mut values = Vec::new();
    let best = on_grids(&fit.model, settings.weights, &grids);
    best.visit(&mut |_, param| values.push(param.value().clone()));
    let mut values = values.into_iter();
    // The rounding nodes have no parameters, so both models have the same ones in the same order.
    trained.visit_mut(&mut |param| {
        *param.value_mut() = values.next().expect("both models have the same parameters")
    });
    trained.set_origin(fit.model.origin().cloned());
    Ok(Rounded { model: trained, grids, calibrations: Some(calibrations), tables })
}

/// The model with a rounding node after each node whose value the integer program stores.
fn with_rounding(
    model: &Model,
    task: &dyn Task<f32>,
    calibrations: &Calibrations,
    bits: Bits,
) -> Result<Model> {
    let lowering = lowered(model, &task.whole()?)?;
    // Of each value that is stored, until a node has rounded it; the last one is the output.
    let made = fuse(&lowering).into_iter().map(|stage| stage.makes);
    let mut stored: BTreeMap<StageId, Calibration> =
        made.zip(calibrations.stages.iter().copied()).collect();
    let mut builder = ModelBuilder::new(model.in_channels());
    let of_input =
        RoundActivations { bits, scales: calibrations.input.map_or(Scales::Row, Scales::Column) };
    let mut place = vec![builder.add("round_input", of_input, &[NodeId::INPUT])?];
    for (k, node) in model.nodes().iter().enumerate() {
        let inputs: Vec<NodeId> = node.inputs().iter().map(|id| place[id.index()]).collect();
        let id = builder.add_boxed(node.name(), node.layer().boxed(), &inputs)?;
        // Nothing is stored of a node whose value is made in one pass with that of its only reader;
        // and the value of a node that is not there at inference has been rounded.
        place.push(match stored.remove(&lowering.of_nodes()[k + 1]) {
            None => id,
            Some(calibration) => {
                let round = RoundActivations { bits, scales: Scales::Tensor(calibration) };
                builder.add(&format!("round_{}", node.name()), round, &[id])?
            }
        });
    }
    let mut with = builder.build_undrawn(place[model.output().index()], model.seed())?;
    with.set_origin(model.origin().cloned());
    Ok(with)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::forms::Forms;
    use crate::quant::rounding::round as rounded;
    use crate::quant::settings::Rounding;
    use crate::reconstruct::Calibrate;
    use crate::task::NodeTask;
    use crate::value::Csr;
    use crate::{Dataset, Gcn, Gin, Sage};
    use std::sync::Mutex;

    fn settings(calibration: Option<Calibration>) -> Settings {
        let (weights, activations) = (Bits::Four, Bits::Eight);
        Settings {
            weights,
            activations,
            calibration,
            calibrate: Calibrate::All,
            rounding: Rounding::Compensated,
            tables: None,
        }
    }

    /// A data set whose features have outliers, dense or sparse.
    fn data(sparse: bool) -> Dataset {
        let data = Dataset::sbm(300, 3).features(10).seed(4).build().unwrap();
        let x = data.features().to_dense();
        let x = Array2::from_shape_fn(x.dim(), |(i, c)| match (i * 7 + c * 3) % 41 {
            0 => 9.0 * x[[i, c]],
            1..15 if sparse => 0.0,
            _ => x[[i, c]],
        });
        let x = if sparse {
            Value::Sparse(Csr::csr_from_dense(x.view(), 0.0))
        } else {
            Value::Dense(x)
        };
        Dataset::new(
            "outliers",
            data.graph().clone(),
            x,
            data.classes().unwrap().to_vec(),
            Some(3),
            data.splits().clone(),
        )
        .unwrap()
    }

    fn models() -> Vec<Model> {
        vec![
            Gcn::builder(10, 3).hidden(8).layers(3).residual(true).build(1).unwrap(),
            Gin::builder(10, 3).hidden(8).build(1).unwrap(),
            Sage::builder(10, 3).hidden(8).build(1).unwrap(),
            // It aggregates first, so that its input has scales of its own.
            Gcn::builder(10, 3).hidden(16).build(1).unwrap(),
        ]
    }

    #[test]
    fn training_rounds_as_the_integer_program_does_with_its_calibration_and_no_other() {
        let calibrations = [Some(Calibration::MinMax), Some(Calibration::Percentile(96.0)), None];
        let (mut by_channels, mut mixed) = (0, 0);
        for sparse in [false, true] {
            let data = data(sparse);
            for model in models() {
                let model =
                    Trainer::builder().epochs(20).build().unwrap().fit(model, &data).unwrap();
                for calibration in calibrations {
                    let settings = settings(calibration);
                    let start = rounded(&model, &data, settings).unwrap();
                    let small = convert(&start, &model, &data, settings).unwrap();
                    let own = Calibrations::of(&small);
                    by_channels += usize::from(own.input.is_some());
                    let mut program =
                        small.compile_as(data.graph(), data.features(), Forms::Integers).unwrap();
                    let integers = program.run(data.features()).unwrap().to_owned();
                    let off = |calibrations: &Calibrations, bits: Bits| {
                        let with = with_rounding(&start.model, &data, calibrations, bits).unwrap();
                        let y = with.infer(&Cx::eval(data.graph()), data.features()).unwrap();
                        (&y - &integers).mapv(f32::abs).sum() / integers.mapv(f32::abs).sum()
                    };
                    // What is not calibrated so is calibrated otherwise, value by value.
                    let swap = |of: Calibration| {
                        if of.clips() { Calibration::MinMax } else { Calibration::Percentile(96.0) }
                    };
                    let other = Calibrations {
                        input: own.input.map(swap),
                        stages: own.stages.iter().copied().map(swap).collect(),
                    };
                    let (near_by, far) = (off(&own, Bits::Eight), off(&other, Bits::Eight));
                    let clips = own
                        .stages
                        .iter()
                        .chain(&own.input)
                        .filter(|calibration| calibration.clips())
                        .count();
                    mixed += usize::from(
                        clips > 0 && clips < own.stages.len() + usize::from(own.input.is_some()),
                    );
                    // A percentile cuts off inside of layers too, where training does not.
                    let near = if clips == 0 { 0.05 } else { 0.3 };
                    // Of those that were chosen, others may be nearly as near.
                    let apart = if calibration.is_some() { 0.85 } else { 1.1 };
                    assert!(
                        near_by < near && near_by < apart * far,
                        "{near_by}, {far}, sparse {sparse}\n{small}"
                    );
                    if clips == 0 {
                        let coarse = off(&own, Bits::Four);
                        assert!(
                            near_by < 0.3 * coarse,
                            "{near_by}, with four bits {coarse}\n{small}"
                        );
                    }
                }
            }
        }
        assert!(mixed > 0, "no model has more than one calibration");
        assert!(by_channels > 0, "no model joins its input");
    }

    #[test]
    fn what_was_clamped_passes_no_gradient_and_the_rest_passes_all() {
        let x = Array2::from_shape_fn((20, 3), |(i, c)| ((i * 17 + c * 5) % 23) as f32 - 11.0);
        let graph = crate::Graph::<f32>::builder(20).build().unwrap();
        let cx = Cx::eval(&graph);
        let range = |values: Vec<f32>, calibration: Calibration| calibration.range(&values);
        for calibration in [Calibration::MinMax, Calibration::Percentile(60.0)] {
            for scales in [Scales::Tensor(calibration), Scales::Column(calibration), Scales::Row] {
                let mut builder = ModelBuilder::<f32>::new(3);
                let node = builder
                    .add("round", RoundActivations { bits: Bits::Four, scales }, &[NodeId::INPUT])
                    .unwrap();
                let model = builder.build_as_is(node).unwrap();
                let trace = model.trace(&cx, ValueRef::Dense(x.view())).unwrap();
                let dy = Array2::from_elem(x.dim(), 2.5);
                let (_, dx) = model.backward_to_input(&cx, trace, &[(node, dy)]).unwrap();
                let most = |c: usize| match scales {
                    Scales::Tensor(calibration) => range(x.iter().copied().collect(), calibration),
                    Scales::Column(calibration) => range(x.column(c).to_vec(), calibration),
                    Scales::Row => f32::INFINITY,
                };
                let dx = dx.into_dense();
                let mut stopped = 0;
                for ((i, c), &dx) in dx.indexed_iter() {
                    // Half a step past the end is still rounded to the end.
                    let inside = (x[[i, c]].abs() / (most(c) / 7.0)).round_ties_even() <= 7.0;
                    assert_eq!(dx, if inside { 2.5 } else { 0.0 }, "{scales:?}, {}", x[[i, c]]);
                    stopped += usize::from(!inside);
                }
                assert_eq!(
                    stopped > 0,
                    calibration != Calibration::MinMax && scales != Scales::Row,
                    "{scales:?}"
                );
            }
        }
    }

    #[test]
    fn the_epoch_that_is_kept_is_the_best_on_the_grid_from_the_start_on() {
        let data = data(false);
        let settings = Settings { weights: Bits::Two, ..settings(None) };
        for seed in 0..3 {
            let model = Gcn::builder(10, 3).hidden(6).build(seed).unwrap();
            let model = Trainer::builder().epochs(30).build().unwrap().fit(model, &data).unwrap();
            let start = rounded(&model, &data, settings).unwrap();
            let calibrations = Calibrations::of(&convert(&start, &model, &data, settings).unwrap());
            let judged = |of: &Rounded| {
                let with =
                    with_rounding(&of.model, &data, &calibrations, settings.activations).unwrap();
                let y = with.infer(&Cx::eval(data.graph()), data.features()).unwrap();
                NodeTask::of(&data).measured_on(y.view(), &data.split(seed).val)
            };
            let (heard, before) = (Mutex::new(Vec::new()), judged(&start));
            let grids = start.grids.clone();
            let hear = |epoch: crate::train::Epoch| {
                heard.lock().unwrap().push(epoch.validation);
                Ok(())
            };
            let trained = train(start, &model, &data, settings, 12, &hear).unwrap();
            let heard = heard.into_inner().unwrap();
            assert_eq!(heard.len(), 12);
            assert_eq!(
                judged(&trained),
                heard.iter().copied().fold(before, f64::max),
                "{before}, then {heard:?}"
            );
            // It lies on its grids.
            let again = on_grids(&trained.model, settings.weights, &grids);
            let values = |model: &Model| {
                let mut all = Vec::new();
                model.visit(&mut |_, param| all.push(param.value().clone()));
                all
            };
            assert_eq!(values(&again), values(&trained.model));
        }
    }
}
