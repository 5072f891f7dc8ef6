//! What validation loses.

use crate::error::Result;
use crate::nn::{Cx, Model};
use crate::prune::{Criterion, Scores, Units};
use crate::scalar::Scalar;
use crate::task::{Better, Part, Task, measure};

/// Points of the metric on the validation part that are lost without a residual block or a hop,
/// counted from the whole model; of equal losses the smaller loss of the task there decides.
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
        let (whole, task) = match units {
            Units::Blocks(all) => (all.whole, all.task),
            Units::Hops(all) => (all.whole, all.task),
            _ => return Err(units.unserved("ablation")),
        };
        let start = validation(whole, task)?.0;
        let (mut lost, mut losses) = (Vec::new(), Vec::new());
        for k in 0..units.len() {
            let (metric, loss) = match units {
                Units::Hops(all) => validation(&all.without[k], task)?,
                Units::Blocks(all) => validation(&all.without(k)?, task)?,
                _ => unreachable!("others were refused"),
            };
            lost.push(start - metric);
            losses.push(loss);
        }
        Ok(Scores::new(lost).then_by(losses))
    }
}

/// The metric, with a minus where less of it is better, and the loss, on the validation part.
fn validation<F: Scalar>(model: &Model<F>, task: &dyn Task<F>) -> Result<(f64, f64)> {
    let mut loss = 0.0;
    let value = measure(task, Part::Validation, model.seed(), |batch| {
        let y = model.infer(&batch.on(&Cx::without_graph()), batch.features())?;
        loss += task.loss(y.view(), batch)?.0.as_f64();
        Ok(y)
    })?;
    let value = value.value;
    Ok((if task.metric().better() == Better::Higher { value } else { -value }, loss))
}
