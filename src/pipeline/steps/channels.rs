//! Removing channels.

use super::{CALIBRATE, random};
use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::pipeline::words::{Key, Kind, Settings, Word};
use crate::prune::{Amount, ChannelPruner, Criterion, Random, Scope};
use crate::reconstruct::Calibrate;

impl Step for ChannelPruner {
    fn name(&self) -> String {
        format!("channels {}", self.amount())
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let model = self.or_seed(env.seed()).prune(subject.model(), &*env.task_of(&subject)?)?;
        Ok(subject.with_model(model))
    }

    fn rehearse(&self, subject: &Subject, env: &Env) -> Result<Option<Subject>> {
        let model = self.rehearse(subject.model(), &*env.task_of(subject)?)?;
        Ok(Some(subject.with_model(model)))
    }

    fn settings(&self) -> String {
        self.to_string()
    }

    fn calibrates_on(&self) -> Option<Calibrate> {
        self.calibrates()
    }

    fn at(&self, amount: Amount) -> Result<Option<Box<dyn Step>>> {
        Ok(Some(Box::new(self.with_amount(amount)?)))
    }

    fn control(&self) -> Control {
        random(self.amount(), || Box::new(self.with_criterion(Random::new())))
    }
}

impl Word for ChannelPruner {
    type Made = Box<dyn Step>;
    const WORD: &'static str = "channels";
    const HELP: &'static str = "Remove this share of the hidden channels, in [0, 1], and refit";
    const AMOUNT: Option<Key> = Some(Key::share("channels", "Share of the hidden channels"));
    const KEYS: &'static [Key] = &[
        Key::word("criterion", Kind::Criterion, "What scores channels").default("subset"),
        Key::choice("scope", &["layer", "global"], "Where channels compete with each other")
            .value_name("WHERE")
            .default("layer"),
        CALIBRATE,
    ];

    fn parse(settings: &Settings) -> Result<Self::Made> {
        let criterion: Box<dyn Criterion<f32>> = settings.made("criterion")?;
        let scope = match settings.value::<String>("scope")?.as_str() {
            "global" => Scope::Global,
            _ => Scope::Layer,
        };
        let builder = ChannelPruner::builder(criterion).ratio(settings.amount()?).scope(scope);
        Ok(Box::new(builder.calibrate(settings.value("calibrate")?).build()?))
    }
}
