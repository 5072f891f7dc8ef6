//! The words of the losses to distil by.

use super::{Key, Settings, Word};
use crate::distill::{
    Adversarial, DistillLoss, DualDistances, InputGradients, RelaxedRanking, SoftLabels,
};
use crate::error::Result;

type Made = Box<dyn DistillLoss<f32>>;

impl Word for SoftLabels {
    type Made = Made;
    const WORD: &'static str = "soft-labels";
    const HELP: &'static str = "The softened logits of the dense model";
    const KEYS: &'static [Key] = &[Key::number(
        "temperature",
        "a positive number",
        |temperature| temperature > 0.0,
        "What soft labels divide logits by",
    )
    .value_name("T")
    .default("1")
    .unwritten()];

    fn parse(settings: &Settings) -> Result<Made> {
        Ok(Box::new(SoftLabels::new(settings.value("temperature")?)?))
    }
}

impl Word for InputGradients {
    type Made = Made;
    const WORD: &'static str = "input-gradients";
    const HELP: &'static str = "The gradients of the dense model by its input";

    fn parse(_: &Settings) -> Result<Made> {
        Ok(Box::new(InputGradients::new()))
    }
}

impl Word for Adversarial<f32> {
    type Made = Made;
    const WORD: &'static str = "adversarial";
    const HELP: &'static str = "What a discriminator takes for the dense model's logits";

    fn parse(_: &Settings) -> Result<Made> {
        Ok(Box::new(Adversarial::builder().build::<f32>()?))
    }
}

impl Word for RelaxedRanking {
    type Made = Made;
    const WORD: &'static str = "rrd";
    const HELP: &'static str = "The dense model's first answers to each query, in its order";
    const KEYS: &'static [Key] = &[
        Key::count("best", 1, "a whole number from 1 on", "First answers that are learnt")
            .default("40")
            .unwritten(),
        Key::count("others", 1, "a whole number from 1 on", "Answers that are drawn beside them")
            .default("40")
            .unwritten(),
    ];

    fn parse(settings: &Settings) -> Result<Made> {
        Ok(Box::new(RelaxedRanking::new(settings.value("best")?, settings.value("others")?)?))
    }
}

impl Word for DualDistances<f32> {
    type Made = Made;
    const WORD: &'static str = "dualde";
    const HELP: &'static str = "The dense model's scores, angles and lengths of each pair";

    fn parse(_: &Settings) -> Result<Made> {
        Ok(Box::new(DualDistances::default()))
    }
}
