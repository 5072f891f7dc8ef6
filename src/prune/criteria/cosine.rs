//! How much a residual block changes what goes through it.

use crate::error::Result;
use crate::nn::{Cx, NodeId};
use crate::prune::{Criterion, Scores, Units};
use crate::scalar::Scalar;
use crate::value::ValueRef;
use ndarray::ArrayView1;

/// `1 − mean_i cos(x_i, y_i)` between what goes into a residual block and what comes out of it,
/// over all rows that it has on all of the task.
///
/// *Source*: block influence, Men et al., "ShortGPT: Layers in Large Language Models are More
/// Redundant Than You Expect", 2024, eq. 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cosine;

impl Cosine {
    /// The criterion.
    pub fn new() -> Self {
        Self
    }
}

impl<F: Scalar> Criterion<F> for Cosine {
    fn name(&self) -> &str {
        "cosine"
    }

    fn score(&self, units: &Units<F>) -> Result<Scores> {
        let Units::Blocks(all) = units else { return Err(units.unserved("cosine")) };
        let ends: Vec<NodeId> =
            all.blocks.iter().flat_map(|block| [block.input, block.sum]).collect();
        let whole = all.task.whole()?;
        let cx = whole.on(&Cx::without_graph());
        let trace = all.model.trace_keeping(&cx, whole.features(), &ends)?;
        let value = |id| trace.value(id).expect("it was asked for");
        Ok(Scores::new(
            all.blocks.iter().map(|block| 1.0 - mean_cosine(value(block.input), value(block.sum))),
        ))
    }
}

/// Mean over rows; two zero rows are alike (1), a zero row is like no other (0).
fn mean_cosine<F: Scalar>(x: ValueRef<F>, y: ValueRef<F>) -> f64 {
    let dot = |a: ArrayView1<F>, b: ArrayView1<F>| {
        a.iter().zip(b).map(|(a, b)| a.as_f64() * b.as_f64()).sum::<f64>()
    };
    let cosine = |x: ArrayView1<F>, y: ArrayView1<F>| match (dot(x, x), dot(y, y)) {
        (0.0, 0.0) => 1.0,
        (0.0, _) | (_, 0.0) => 0.0,
        (xx, yy) => dot(x, y) / (xx * yy).sqrt(),
    };
    x.with_dense(|x| {
        y.with_dense(|y| {
            x.rows().into_iter().zip(y.rows()).map(|(x, y)| cosine(x, y)).sum::<f64>()
                / x.nrows() as f64
        })
    })
}
