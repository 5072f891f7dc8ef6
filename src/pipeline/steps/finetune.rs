//! Training on after a change.

use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::train::Trainer;

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
        let model = self.trainer(env.seed)?.fit_heard(subject.model, &data, env.on_epoch)?;
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
