//! The words of the optimisers.

use super::{Key, Settings, Word};
use crate::error::Result;
use crate::train::{Adam, Optimizer, Sgd};

type Made = Box<dyn Optimizer<f32>>;

/// As in the protocol.
const WEIGHT_DECAY: f64 = 5e-4;
const RATE: Key =
    Key::number("rate", "a positive number", |rate| rate > 0.0, "Learning rate of `--finetune`")
        .flag("finetune-rate")
        .value_name("RATE")
        .default("0.01")
        .unwritten();

impl Word for Adam<f32> {
    type Made = Made;
    const WORD: &'static str = "adam";
    const HELP: &'static str = "Adam with its default moments";
    const KEYS: &'static [Key] = &[RATE];

    fn parse(settings: &Settings) -> Result<Made> {
        let adam = Adam::builder().weight_decay(WEIGHT_DECAY);
        Ok(Box::new(adam.learning_rate(settings.value("rate")?).build::<f32>()?))
    }
}

impl Word for Sgd<f32> {
    type Made = Made;
    const WORD: &'static str = "sgd";
    const HELP: &'static str = "Gradient descent with momentum";
    const AMOUNT: Option<Key> = Some(
        Key::number(
            "momentum",
            "in [0, 1)",
            |momentum| (0.0..1.0).contains(&momentum),
            "MOMENTUM in [0, 1)",
        )
        .value_name("MOMENTUM"),
    );
    const KEYS: &'static [Key] = &[RATE];

    fn parse(settings: &Settings) -> Result<Made> {
        let sgd = Sgd::builder().weight_decay(WEIGHT_DECAY).momentum(settings.amount()?);
        Ok(Box::new(sgd.learning_rate(settings.value("rate")?).build::<f32>()?))
    }
}
