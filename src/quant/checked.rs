//! What holds of every quantised model, whether it was built or read.

use super::model::{QuantModel, QuantOp, overflow};
use crate::error::{ModelError, Result};
use crate::nn::{MOST_CHANNELS, Pooling};

impl QuantModel {
    /// Checks that the stages fit each other and that no product can overflow: what a built or
    /// loaded model has passed.
    ///
    /// # Errors
    /// [`Error::Model`] in words, [`Error::Unsupported`] for an overflow.
    pub(crate) fn checked(self) -> Result<Self> {
        let wrong = |k: usize, problem: &str| {
            let layer = &self.stages[k].layer;
            Err(ModelError::Stages(format!("stage {k} (`{layer}`) {problem}")).into())
        };
        let scale_is_sound = |scale: &f32| *scale > 0.0 && scale.is_finite();
        if self.stages.is_empty() || self.in_channels == 0 {
            let problem = "a quantised model needs an input and a stage";
            return Err(ModelError::Stages(problem.into()).into());
        }
        let of_rows = self.is_of_rows();
        let mut input_joined = false;
        let mut read = vec![false; self.stages.len() + 1];
        for (k, stage) in self.stages.iter().enumerate() {
            if stage.inputs.is_empty() || stage.inputs.iter().any(|&input| input > k) {
                return wrong(k, "reads what is not there");
            }
            stage.inputs.iter().for_each(|&input| read[input] = true);
            let widths: Vec<usize> =
                stage.inputs.iter().map(|&input| self.width_of(input)).collect();
            let width = match &stage.op {
                QuantOp::Linear(weight) => {
                    let (rows, cols) = weight.shape;
                    if widths != [rows]
                        || rows.checked_mul(cols) != Some(weight.ints.len())
                        || weight.scales.len() != cols
                    {
                        return wrong(k, "has a weight of another shape");
                    }
                    if !weight.scales.iter().all(scale_is_sound) {
                        return wrong(k, "has a weight scale that is not a positive number");
                    }
                    let reach = weight.reach(self.activation_bits.most());
                    if reach > i32::MAX as u64 {
                        return Err(overflow(
                            &stage.layer,
                            &format!("a product over {rows} channels"),
                            reach,
                        )
                        .into());
                    }
                    cols
                }
                QuantOp::Aggregate(_) if widths.len() == 1 => widths[0],
                QuantOp::Pool(Pooling::Max) => {
                    return wrong(k, "pools by a maximum, which has no integer form");
                }
                QuantOp::Pool(_) if widths.len() == 1 => widths[0],
                QuantOp::Add(coefficients)
                    if coefficients.len() == widths.len()
                        && widths.iter().all(|&width| width == widths[0]) =>
                {
                    if !coefficients.iter().all(|a| a.is_finite()) {
                        return wrong(k, "has a coefficient that is not finite");
                    }
                    widths[0]
                }
                QuantOp::Concat => widths
                    .iter()
                    .try_fold(0usize, |sum, &width| sum.checked_add(width))
                    .unwrap_or(0),
                QuantOp::Embedding(table) if widths.len() == 1 => table.shape().1,
                QuantOp::Normalize if widths.len() == 1 => widths[0],
                QuantOp::Decoder(decoder) if widths.len() == 1 && decoder.fits(widths[0]) => {
                    if k + 1 != self.stages.len() {
                        return wrong(k, "gives scores of pairs, which nothing can read");
                    }
                    let reach = widths[0] as u64 * 127 * 127;
                    if reach > i32::MAX as u64 {
                        let what = format!("a product over {} channels", widths[0]);
                        return Err(overflow(&stage.layer, &what, reach).into());
                    }
                    1
                }
                _ => return wrong(k, "has inputs that it cannot take"),
            };
            input_joined |=
                !of_rows && stage.inputs.contains(&0) && !matches!(stage.op, QuantOp::Linear(_));
            if stage.width != width || width == 0 || width > MOST_CHANNELS {
                return wrong(k, "has another width than its inputs give it");
            }
            if stage
                .bias
                .as_ref()
                .is_some_and(|bias| bias.len() != width || !bias.iter().all(|b| b.is_finite()))
            {
                return wrong(k, "has a bias of another length, or one that is not finite");
            }
            // Only the output leaves as real numbers, or everything does.
            if stage.scale.is_none() != (k + 1 == self.stages.len() || of_rows)
                || stage.scale.iter().any(|scale| !scale_is_sound(scale))
            {
                return wrong(k, "has an output scale that is not a positive number");
            }
        }
        if let Some(k) = self.spaces()[1..].iter().position(Option::is_none) {
            return wrong(
                k,
                "reads rows that it cannot take: nodes where graphs are, or the reverse",
            );
        }
        if read[1..self.stages.len()].contains(&false) {
            return Err(ModelError::Stages("a stage leads nowhere".into()).into());
        }
        let sound = |scales: &Vec<f32>| {
            scales.len() == self.in_channels && scales.iter().all(scale_is_sound)
        };
        if self.input_scales.is_some() != input_joined || !self.input_scales.iter().all(sound) {
            let problem = "the scales of the input do not fit what reads it";
            return Err(ModelError::Stages(problem.into()).into());
        }
        Ok(self)
    }
}
