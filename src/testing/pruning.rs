//! Mask ≡ shrink.

use super::{SAME_NUMBERS, TESTING, agree, rows_on, words};
use crate::graph::Graph;
use crate::nn::{Add, Axis, Cx, Mode, Model, NodeId, Param};
use crate::prune::ChannelPlan;
use crate::rng::generator;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::Array2;
use ndarray_rand::rand::Rng;

/// Training steps whose outputs are compared to see whether a layer draws.
const STEPS: u64 = 8;

/// Checks that `plan` masks `model` to what it shrinks it to: the same output and the same gradient
/// of the input within 1e-10 relative, in evaluation and, without dropout, in training mode; the
/// entries that the masks keep are the shrunk parameters, in number and to the bit, all others are
/// zero; input and output keep their widths.
///
/// Dropout is left out of the training mode, since a narrower network draws other masks: layers
/// that only evaluation passes through are replaced by the identity, and a model that draws even so
/// is compared in evaluation mode only.
///
/// # Errors
/// What is broken; also where the plan does not fit the model.
pub fn check_mask_equals_shrink<F: Scalar>(
    model: &Model<F>,
    plan: &ChannelPlan,
    graph: &Graph<F>,
    x: ValueRef<F>,
) -> Result<(), String> {
    let model = without_dropout(model)?;
    let (masked, small) = (plan.mask(&model).map_err(words)?, plan.shrink(&model).map_err(words)?);
    check_parameters(&model, &masked, &small)?;
    let rows = rows_on(graph);
    let cx = Cx::eval(graph).within(&rows);
    let mut modes = vec![("evaluation", Mode::Eval)];
    if !draws(&model, &cx, x)? {
        modes.push(("training", Mode::Train { seed: 1, step: 1 }));
    }
    for (name, mode) in modes {
        let cx = cx.with_mode(mode);
        let ((y, dx), (expected_y, expected_dx)) = (run(&masked, &cx, x)?, run(&small, &cx, x)?);
        agree(
            &format!("mask against shrink in {name}"),
            y.view(),
            expected_y.view(),
            SAME_NUMBERS,
        )?;
        agree(
            &format!("gradient of the input, mask against shrink in {name}"),
            dx.view(),
            expected_dx.view(),
            SAME_NUMBERS,
        )?;
    }
    Ok(())
}

/// The same model with the identity in place of what evaluation passes through.
fn without_dropout<F: Scalar>(model: &Model<F>) -> Result<Model<F>, String> {
    let stripped = model.rebuilt(|_, node| {
        if node.layer.is_identity(Mode::Eval) {
            node.layer = Box::new(Add::new(1)?);
        }
        Ok(())
    });
    stripped.map_err(words)
}

fn draws<F: Scalar>(model: &Model<F>, cx: &Cx<F>, x: ValueRef<F>) -> Result<bool, String> {
    let output = |step| model.infer(&cx.with_mode(Mode::Train { seed: 1, step }), x).map_err(words);
    let first = output(1)?;
    for step in 2..=STEPS {
        if output(step)? != first {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Output, and gradient of the input under a random gradient of the output.
fn run<F: Scalar>(
    model: &Model<F>,
    cx: &Cx<F>,
    x: ValueRef<F>,
) -> Result<(Array2<F>, Array2<F>), String> {
    let trace = model.trace(cx, x).map_err(words)?;
    let y = trace.output().to_owned();
    let mut rng = generator(model.seed(), &[TESTING, 1]);
    let dy = Array2::from_shape_simple_fn(y.dim(), || F::of(rng.random_range(-1.0..1.0)));
    let (_, dx) = model.backward_to_input(cx, trace, &[(model.output(), dy)]).map_err(words)?;
    Ok((y, Value::into_dense(dx)))
}

fn check_parameters<F: Scalar>(
    model: &Model<F>,
    masked: &Model<F>,
    small: &Model<F>,
) -> Result<(), String> {
    let ends = |model: &Model<F>| (model.in_channels(), model.out_channels());
    if ends(model) != ends(masked) || ends(model) != ends(small) {
        return Err(format!(
            "input and output were {:?}, masked {:?}, shrunk {:?}",
            ends(model),
            ends(masked),
            ends(small)
        ));
    }
    for (k, (node, twin)) in masked.nodes().iter().zip(small.nodes()).enumerate() {
        let widths = |model: &Model<F>| -> Vec<usize> {
            node.inputs().iter().map(|&id| model.channels(id)).collect()
        };
        let (wide, narrow) = (widths(masked), widths(small));
        let mut of_twin = Vec::new();
        twin.layer().visit(&mut |param| of_twin.push(param));
        let mut of_twin = of_twin.into_iter();
        let mut problem = None;
        node.layer().visit(&mut |param| {
            let name = format!("{}.{}", node.name(), param.name());
            let Some(twin) = of_twin.next() else {
                problem = Some(format!("{name} is missing in the shrunk model"));
                return;
            };
            // The shrunk parameter has a mask of its own where the model was masked before.
            if kept(param) != kept(twin) {
                problem = Some(format!(
                    "{name}: the mask keeps {} entries, the shrunk model has others",
                    kept(param).len()
                ));
            }
            if param
                .value()
                .indexed_iter()
                .any(|(at, w)| *w != F::zero() && param.mask().is_some_and(|mask| !mask[at]))
            {
                problem = Some(format!("{name}: a masked entry is not zero"));
            }
            let shrinks = param.axes().iter().any(|axis| match *axis {
                Axis::In(k) | Axis::InTiled(k) => narrow[k] < wide[k],
                Axis::Out | Axis::OutTiled | Axis::OutPart => {
                    small.channels(NodeId(k + 1)) < masked.channels(NodeId(k + 1))
                }
                Axis::Fixed | Axis::Nodes | Axis::Hidden(_) => false,
            });
            if shrinks && twin.value().len() >= param.value().len() {
                problem = Some(format!("{name} carries channels that are gone and is no smaller"));
            }
        });
        problem.map_or(Ok(()), Err)?;
    }
    Ok(())
}

/// The entries that a parameter's mask keeps, row by row.
fn kept<F: Scalar>(param: &Param<F>) -> Vec<F> {
    param
        .value()
        .indexed_iter()
        .filter(|(at, _)| param.mask().is_none_or(|mask| mask[*at]))
        .map(|(_, &w)| w)
        .collect()
}
