//! What validation loses.

use crate::data::{Dataset, check_part};
use crate::error::Result;
use crate::nn::{Cx, Model};
use crate::prune::{Criterion, Scores, Units};
use crate::scalar::Scalar;
use crate::train::{Metric, supervised};

/// Points of the metric on the validation nodes that are lost without a residual block, counted
/// from the whole model; of equal losses the smaller cross-entropy there decides.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ablation;

impl Ablation {
    /// The criterion.
    pub fn new() -> Self {
        Self
    }
}

impl<F: Scalar> Criterion<F> for Ablation {
    fn name(&self) -> &str {
        "ablation"
    }

    fn score(&self, units: &Units<F>) -> Result<Scores> {
        let Units::Blocks(all) = units else { return Err(units.unserved("ablation")) };
        let start = validation(all.whole, all.data)?.0;
        let (mut lost, mut losses) = (Vec::new(), Vec::new());
        for k in 0..all.blocks.len() {
            let (metric, loss) = validation(&all.without(k)?, all.data)?;
            lost.push(start - metric);
            losses.push(loss);
        }
        Ok(Scores::new(lost).then_by(losses))
    }
}

/// Metric in percent, and cross-entropy, on the validation nodes.
fn validation<F: Scalar>(model: &Model<F>, data: &Dataset<F>) -> Result<(f64, f64)> {
    let rows = data.split(model.seed()).val;
    check_part(data.name(), "val", &rows)?;
    let logits = model.infer(&Cx::eval(data.graph()), data.features())?;
    let metric = Metric::of(data).measure(logits.view(), data, &rows);
    Ok((metric, supervised(logits.view(), data, &rows).0.as_f64()))
}
