//! Taking out layers.

use super::random;
use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::pipeline::words::{Key, Settings, Word};
use crate::prune::{Ablation, Amount, LayerPruner, Random};

impl Step for LayerPruner {
    fn name(&self) -> String {
        match self.amount() {
            Amount::Count(layers) => format!("drop-layers {layers}"),
            other => format!("drop-layers {other}"),
        }
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let plan = self.or_seed(env.seed()).plan(subject.model(), &*env.task_of(&subject)?)?;
        Ok(subject.with_model(plan.shrink(subject.model())?))
    }

    fn rehearse(&self, subject: &Subject, _: &Env) -> Result<Option<Subject>> {
        Ok(Some(subject.with_model(self.rehearse(subject.model())?)))
    }

    fn settings(&self) -> String {
        format!("{self:?}")
    }

    fn at(&self, amount: Amount) -> Result<Option<Box<dyn Step>>> {
        Ok(Some(Box::new(self.with_amount(amount)?)))
    }

    fn control(&self) -> Control {
        random(self.amount(), || Box::new(self.with_criterion(Random::new())))
    }
}

impl Word for LayerPruner {
    type Made = Box<dyn Step>;
    const WORD: &'static str = "drop-layers";
    const HELP: &'static str = "Remove this many residual layers";
    const AMOUNT: Option<Key> = Some(
        Key::count("drop-layers", 0, "a whole number of layers", "Number of layers")
            .value_name("K"),
    );

    fn parse(settings: &Settings) -> Result<Self::Made> {
        Ok(Box::new(LayerPruner::builder(Ablation::new()).remove(settings.amount()?).build()?))
    }
}
