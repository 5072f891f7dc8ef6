//! Training on after a change.

use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::pipeline::words::{Key, Kind, Settings, Word};
use crate::train::{Optimizer, Setup, Trainer};
use std::sync::Arc;

/// Trains the model on for some epochs by the protocol, the state before them being a candidate
/// too; masks hold. Where pairs or graphs are asked about, it is trained on as the dense model was.
#[derive(Clone)]
pub struct FineTune {
    epochs: usize,
    optimizer: Option<Arc<dyn Optimizer<f32>>>,
}

impl std::fmt::Debug for FineTune {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.settings())
    }
}

impl FineTune {
    /// Trains for at most `epochs` epochs, at least 1.
    pub fn epochs(epochs: usize) -> Self {
        Self { epochs, optimizer: None }
    }

    /// Steps by another optimiser, started afresh for every training. Default: the protocol's
    /// [`Adam`](crate::train::Adam), or what trained the dense model.
    #[must_use]
    pub fn optimizer(mut self, optimizer: impl Optimizer<f32> + 'static) -> Self {
        self.optimizer = Some(Arc::new(optimizer));
        self
    }

    /// By the protocol, where nodes are asked about; maps are kept as they were in training.
    fn trainer(&self, env: &Env) -> Result<Trainer> {
        let builder = match env.task().whole()?.asks_about_nodes() {
            true => Trainer::builder().epochs(self.epochs).keep_start(true).memory(env.memory()),
            false => env.going_on(self.epochs),
        };
        builder.dropout_seed(env.seed()).build()
    }
}

impl Step for FineTune {
    fn name(&self) -> String {
        format!("finetune {}", self.epochs)
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let (task, trainer) = (env.task_of(&subject)?, self.trainer(env)?);
        let mut optimizer = self.optimizer.as_ref().map(|optimizer| optimizer.fresh());
        let mut setup = Setup::new().on_epoch(env.listener());
        if let Some(optimizer) = &mut optimizer {
            setup = setup.optimizer(&mut **optimizer);
        }
        let model = trainer.fit_with(subject.model().clone(), &*task, setup)?.model;
        Ok(subject.with_model(model))
    }

    fn rehearse(&self, subject: &Subject, env: &Env) -> Result<Option<Subject>> {
        self.trainer(env)?;
        Ok(Some(subject.clone()))
    }

    fn settings(&self) -> String {
        match &self.optimizer {
            Some(optimizer) => format!("{}, by {}", self.name(), optimizer.settings()),
            None => self.name(),
        }
    }

    fn control(&self) -> Control {
        Control::ChoosesNothing
    }
}

impl Word for FineTune {
    type Made = Box<dyn Step>;
    const WORD: &'static str = "finetune";
    const HELP: &'static str = "Train on for at most this many epochs";
    const AMOUNT: Option<Key> = Some(
        Key::count("finetune", 1, "a whole number of epochs, at least 1", "Most epochs")
            .value_name("EPOCHS"),
    );

    const KEYS: &'static [Key] =
        &[Key::word("optimizer", Kind::Optimizer, "Optimiser of `--finetune`")
            .default("adam")
            .unwritten()];

    fn parse(settings: &Settings) -> Result<Self::Made> {
        let made: Box<dyn Optimizer<f32>> = settings.made("optimizer")?;
        let given = settings.is_given("optimizer") || settings.is_given("rate");
        let optimizer = given.then(|| Arc::from(made));
        Ok(Box::new(FineTune { epochs: settings.amount()?, optimizer }))
    }
}
