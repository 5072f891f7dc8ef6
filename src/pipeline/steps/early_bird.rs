//! Training a network that loses its channels on the way.

use crate::error::{Error, Result};
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::pipeline::words::{Key, Kind, Settings, Word};
use crate::prune::{ChannelPruner, Criterion, EarlyBird, Random};
use crate::task::Task;
use crate::train::Setup;

impl Step for EarlyBird {
    fn name(&self) -> String {
        format!("early-bird {}", self.pruner().amount())
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let trainer = env.trainer().ok_or_else(untrained)?;
        let task = env.task_of(&subject)?;
        let bird = self.with_pruner(self.pruner().or_seed(env.seed()));
        let mut watch = bird.watch(&*task);
        let setup = Setup::new().observer(&mut watch).on_epoch(env.listener());
        let form = subject.model().fresh(env.dense().seed());
        let thinned = env.from_scratch(&*task, env.dense().seed())?;
        let trained_on = thinned.as_ref().map_or(&*task, |thinned| thinned as &dyn Task<f32>);
        let fit = trainer.fit_with(form, trained_on, setup)?;
        if watch.pruned().is_none() {
            let legal = "more, so that channels can go before training ends";
            return Err(Error::setting("epochs of training", fit.losses.len(), legal));
        }
        Ok(subject.with_model(fit.model))
    }

    fn rehearse(&self, subject: &Subject, env: &Env) -> Result<Option<Subject>> {
        let (epochs, patience) = env.trainer().ok_or_else(untrained)?.lasts();
        if env.has_prefixes() {
            let legal = "beside a network without prefixes: it trains on the task's loss alone";
            return Err(Error::setting("`early-bird`", "beside `prefixes`", legal));
        }
        let latest = self.latest_of(epochs);
        if epochs < 2 || latest > patience {
            let legal = format!(
                "before the last of {epochs} epochs, and at most {patience}, the patience of the \
                 training: it could end before its channels went"
            );
            return Err(Error::setting("latest epoch of `early-bird`", latest, legal));
        }
        let model = self.pruner().rehearse(subject.model(), &*env.task_of(subject)?)?;
        Ok(Some(subject.with_model(model)))
    }

    fn settings(&self) -> String {
        self.to_string()
    }

    fn calibrates_on(&self) -> Option<crate::reconstruct::Calibrate> {
        self.pruner().calibrates()
    }

    /// What was trained before is drawn anew.
    fn starts_over(&self) -> bool {
        true
    }

    fn control(&self) -> Control {
        super::random(self.pruner().amount(), || {
            Box::new(self.with_pruner(self.pruner().with_criterion(Random::new())))
        })
    }
}

fn untrained() -> Error {
    let legal = "a network that is trained here: it loses its channels while it trains";
    Error::setting("`early-bird`", "a model that is trained already", legal)
}

impl Word for EarlyBird {
    type Made = Box<dyn Step>;
    const WORD: &'static str = "early-bird";
    const HELP: &'static str = "Train anew, and remove this share of the hidden channels early";
    const AMOUNT: Option<Key> = Some(Key::share("early-bird", "Share of the hidden channels"));
    const KEYS: &'static [Key] = &[
        Key::word("criterion", Kind::Criterion, "What scores channels").default("subset"),
        Key::number(
            "within",
            "in (0, 1]",
            |share| share > 0.0 && share <= 1.0,
            "Distance of two plans under which they have settled",
        )
        .flag("settled")
        .value_name("SHARE")
        .default("0.1"),
        Key::count("over", 1, "a whole number of epochs, at least 1", "Epochs between two plans")
            .flag("settled-over")
            .value_name("N")
            .default("5"),
        Key::number(
            "latest",
            "in (0, 1)",
            |share| share > 0.0 && share < 1.0,
            "Share of the epochs after which channels go in any case",
        )
        .value_name("SHARE")
        .default("0.1"),
    ];

    fn parse(settings: &Settings) -> Result<Self::Made> {
        let criterion: Box<dyn Criterion<f32>> = settings.made("criterion")?;
        let pruner = ChannelPruner::builder(criterion).ratio(settings.amount()?).build()?;
        let builder = EarlyBird::builder(pruner)
            .within(settings.value("within")?)
            .over(settings.value("over")?)
            .latest(settings.value("latest")?);
        Ok(Box::new(builder.build()?))
    }
}
