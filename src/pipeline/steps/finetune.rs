//! Training on after a change.

use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::pipeline::words::{Key, Settings, Word};
use crate::train::{Setup, Trainer};

/// Trains the model on for some epochs by the protocol, the state before them being a candidate
/// too; masks hold.
#[derive(Debug, Clone, Copy)]
pub struct FineTune {
    epochs: usize,
}

impl FineTune {
    /// Trains for at most `epochs` epochs, at least 1.
    pub fn epochs(epochs: usize) -> Self {
        Self { epochs }
    }

    fn trainer(&self, seed: u64) -> Result<Trainer> {
        Trainer::builder().epochs(self.epochs).keep_start(true).dropout_seed(seed).build()
    }
}

impl Step for FineTune {
    fn name(&self) -> String {
        format!("finetune {}", self.epochs)
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let (data, trainer) = (env.data_of(&subject)?, self.trainer(env.seed())?);
        let setup = Setup::new().on_epoch(env.listener());
        let model = trainer.fit_with(subject.model().clone(), &data, setup)?.model;
        Ok(subject.with_model(model))
    }

    fn rehearse(&self, subject: &Subject, env: &Env) -> Result<Option<Subject>> {
        self.trainer(env.seed())?;
        Ok(Some(subject.clone()))
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

    fn parse(settings: &Settings) -> Result<Self::Made> {
        Ok(Box::new(FineTune::epochs(settings.amount()?)))
    }
}
