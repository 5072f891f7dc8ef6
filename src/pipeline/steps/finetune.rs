//! Training on after a change.

use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
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
        Trainer::builder().epochs(self.epochs).keep_start().dropout_seed(seed).build()
    }
}

impl Step for FineTune {
    fn name(&self) -> String {
        format!("finetune {}", self.epochs)
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let data = env.data.with_graph(subject.graph.clone())?;
        let setup = Setup::new().on_epoch(env.on_epoch);
        let model = self.trainer(env.seed)?.fit_with(subject.model, &data, setup)?.model;
        Ok(Subject { model, ..subject })
    }

    fn rehearse(&self, subject: &Subject, env: &Env) -> Result<Option<Subject>> {
        self.trainer(env.seed)?;
        Ok(Some(subject.clone()))
    }

    fn control(&self) -> Control {
        Control::ChoosesNothing
    }
}
