//! What a layer shows of its linear maps is what it computes with.

use super::{agree, rows_on, words};
use crate::graph::Graph;
use crate::nn::{Cx, LinearMap, Model, NodeId, RowSpace};
use crate::rng::generator;
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array1, Array2, ArrayView2};
use ndarray_rand::rand::Rng;

/// A change of weights that the inputs cannot see is found by orthogonal rows; what is shorter than
/// this beside what it was made of is rounding.
const PARALLEL: f64 = 1e-9;
/// As the sums of a dozen products behind an inversion, and a softmax or a norm after them.
const UNSEEN: f64 = 1e-7;

/// For every layer of `model`: weights that change by `N` with `G·N = 0`, for the input `G` of each
/// map that the layer shows, change nothing of its output, and with changes of another kind the
/// output follows. So `G` is what the weights see, and no map is shown that is not used. Returns
/// the maps of each node whose changes were seen in its output.
///
/// # Errors
/// The layer and the numbers that break the law.
pub fn check_linear_maps<F: Scalar>(
    model: &Model<F>,
    graph: &Graph<F>,
    x: ValueRef<F>,
    seed: u64,
) -> Result<Vec<(NodeId, usize)>, String> {
    let rows = rows_on(graph);
    let cx = Cx::eval(graph).within(&rows);
    let every: Vec<NodeId> = (0..=model.nodes().len()).map(NodeId).collect();
    let trace = model.trace_keeping(&cx, x, &every).map_err(words)?;
    let mut looked_at = Vec::new();
    for (k, node) in model.nodes().iter().enumerate() {
        let spaces: Vec<RowSpace> = node.inputs().iter().map(|&id| model.rows_of(id)).collect();
        let space = RowSpace::joined(&spaces).unwrap_or(RowSpace::Nodes);
        let at = cx.at(NodeId(k + 1), node.name()).reading(space);
        let xs: Vec<ValueRef<F>> =
            node.inputs().iter().map(|&id| trace.value(id).expect("it was kept")).collect();
        let output = |layer: &dyn crate::nn::DynLayer<F>| {
            layer.infer(&at, &xs).map(Value::into_dense).map_err(words)
        };
        let expected = output(node.layer())?;
        let mut rng = generator(seed, &[super::TESTING, k as u64]);
        let mut unseen = node.layer().boxed();
        let mut count = 0;
        unseen
            .linear_maps(&at, &xs, &mut |mut map| {
                count += 1;
                let random =
                    Array2::from_shape_simple_fn((map.in_channels(), map.out_channels()), || {
                        rng.random_range(-1.0..1.0)
                    });
                let change = without_seen(&map, random);
                add(&mut map, &change);
                Ok(())
            })
            .map_err(words)?;
        agree(
            &format!("`{}` with weights changed where its inputs are blind", node.name()),
            output(&*unseen)?.view(),
            expected.view(),
            UNSEEN,
        )?;
        let mut followed = 0;
        for number in 0..count {
            let mut seen = node.layer().boxed();
            let mut next = 0;
            let mut matters = false;
            seen.linear_maps(&at, &xs, &mut |mut map| {
                if next == number {
                    let before = map.without_bias();
                    let change = Array2::from_elem((map.in_channels(), map.out_channels()), 0.5);
                    add(&mut map, &change);
                    matters = map
                        .without_bias()
                        .iter()
                        .zip(&before)
                        .any(|(a, b)| (*a - *b).as_f64().abs() > UNSEEN);
                }
                next += 1;
                Ok(())
            })
            .map_err(words)?;
            // An attention that is even over equal changes, and a dead relu, hide a change of one
            // kind; all layers do not.
            followed += usize::from(matters && output(&*seen)? != expected);
        }
        check_rest(node.layer(), &at, &xs, expected.view())?;
        looked_at.push((NodeId(k + 1), followed));
    }
    Ok(looked_at)
}

/// A layer whose one map has a part that no weight reaches puts out that map, bias included.
fn check_rest<F: Scalar>(
    layer: &dyn crate::nn::DynLayer<F>,
    at: &Cx<F>,
    xs: &[ValueRef<F>],
    output: ArrayView2<F>,
) -> Result<(), String> {
    let mut with_rest = None;
    let mut count = 0;
    let mut layer = layer.boxed();
    layer
        .linear_maps(at, xs, &mut |map| {
            count += 1;
            with_rest = map.rest().is_some().then(|| {
                let mut z = map.without_bias();
                map.bias().iter().for_each(|bias| z += bias.value());
                z
            });
            Ok(())
        })
        .map_err(words)?;
    match with_rest {
        Some(z) if count == 1 => {
            agree("the one map of a layer with what no weight reaches", z.view(), output, UNSEEN)
        }
        _ => Ok(()),
    }
}

/// The rows of all inputs side by side, as `f64`.
fn inputs<F: Scalar>(map: &LinearMap<F>) -> Array2<f64> {
    let parts: Vec<Array2<f64>> =
        map.terms().iter().map(|term| term.input().to_dense().mapv(|v| v.as_f64())).collect();
    let views: Vec<ArrayView2<f64>> = parts.iter().map(|part| part.view()).collect();
    ndarray::concatenate(ndarray::Axis(1), &views).expect("all inputs have one row per node")
}

/// Takes from every column what lies in the span of the inputs' rows.
fn without_seen<F: Scalar>(map: &LinearMap<F>, mut change: Array2<f64>) -> Array2<f64> {
    let mut basis: Vec<Array1<f64>> = Vec::new();
    for row in inputs(map).rows() {
        let length = row.dot(&row).sqrt();
        let mut left = row.to_owned();
        // Twice is enough.
        for _ in 0..2 {
            for q in &basis {
                let along = q.dot(&left);
                left.scaled_add(-along, q);
            }
        }
        let short = left.dot(&left).sqrt();
        if short > PARALLEL * length {
            basis.push(left / short);
        }
    }
    for mut column in change.columns_mut() {
        for q in &basis {
            let along = q.dot(&column);
            column.scaled_add(-along, q);
        }
    }
    change
}

fn add<F: Scalar>(map: &mut LinearMap<F>, change: &Array2<f64>) {
    let mut first = 0;
    for param in map.params_mut().0 {
        let rows = param.value().nrows();
        let change = change.slice(ndarray::s![first..first + rows, ..]);
        param.value_mut().zip_mut_with(&change, |w, &c| *w += F::of(c));
        first += rows;
    }
}
