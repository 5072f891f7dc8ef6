//! Taking out hops.

use super::{CALIBRATE, random};
use crate::error::{Error, Result};
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::pipeline::words::{Key, Settings, Word};
use crate::prune::{Ablation, Amount, HopPruner, Random};
use crate::reconstruct::Calibrate;

impl Step for HopPruner {
    fn name(&self) -> String {
        match self.amount() {
            _ if self.removes_all() => "drop-hops all".into(),
            Amount::Count(hops) => format!("drop-hops {hops}"),
            other => format!("drop-hops {other}"),
        }
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

    /// Of all hops chance would take the same.
    fn control(&self) -> Control {
        if self.removes_all() {
            return Control::ChoosesNothing;
        }
        random(self.amount(), || Box::new(self.with_criterion(Random::new())))
    }
}

impl Word for HopPruner {
    type Made = Box<dyn Step>;
    const WORD: &'static str = "drop-hops";
    const HELP: &'static str =
        "Remove what so many layers take from neighbours, and refit; or `all`";
    const AMOUNT: Option<Key> =
        Some(Key::text("drop-hops", count_or_all, "Number of hops, or all").value_name("K"));
    const KEYS: &'static [Key] = &[CALIBRATE];

    fn parse(settings: &Settings) -> Result<Self::Made> {
        let builder = HopPruner::builder(Ablation::new()).calibrate(settings.value("calibrate")?);
        let text: String = settings.amount()?;
        Ok(Box::new(match text.parse() {
            Ok(hops) => builder.remove(hops).build()?,
            Err(_) => builder.build()?,
        }))
    }
}

fn count_or_all(text: &str) -> Result<String> {
    match (text, text.parse::<usize>()) {
        ("all", _) => Ok(text.into()),
        (_, Ok(hops)) if hops > 0 => Ok(hops.to_string()),
        _ => Err(Error::setting(
            "`drop-hops`",
            format!("`{text}`"),
            "a whole number of hops from 1 on, or `all`",
        )),
    }
}
