//! Truncating weights.

use super::{CALIBRATE, random};
use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::pipeline::words::{Key, Settings, Word};
use crate::prune::{Amount, WeightPruner};
use crate::reconstruct::Calibrate;

impl Step for WeightPruner {
    fn name(&self) -> String {
        format!("weights {}", self.amount())
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let model = self.or_seed(env.seed()).prune(subject.model(), &*env.task_of(&subject)?)?;
        Ok(subject.with_model(model))
    }

    fn rehearse(&self, subject: &Subject, _: &Env) -> Result<Option<Subject>> {
        self.check(subject.model())?;
        Ok(Some(subject.clone()))
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
        random(self.amount(), || Box::new(self.at_random()))
    }
}

impl Word for WeightPruner {
    type Made = Box<dyn Step>;
    const WORD: &'static str = "weights";
    const HELP: &'static str = "Zero this share of the weights, in [0, 1], and refit the others";
    const AMOUNT: Option<Key> = Some(Key::share("weights", "Share of the weights"));
    const KEYS: &'static [Key] = &[CALIBRATE];

    fn parse(settings: &Settings) -> Result<Self::Made> {
        let builder = WeightPruner::builder().sparsity(settings.amount()?);
        Ok(Box::new(builder.calibrate(settings.value("calibrate")?).build()?))
    }
}
