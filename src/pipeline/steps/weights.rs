//! Truncating weights.

use super::random;
use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::prune::WeightPruner;
use crate::reconstruct::Calibrate;

impl Step for WeightPruner {
    fn name(&self) -> String {
        format!("weights {}", self.amount())
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let data = env.data.with_graph(subject.graph.clone())?;
        let model = self.or_seed(env.seed).prune(&subject.model, &data)?;
        Ok(Subject { model, ..subject })
    }

    fn rehearse(&self, subject: &Subject, _: &Env) -> Result<Option<Subject>> {
        self.check(&subject.model)?;
        Ok(Some(subject.clone()))
    }

    fn settings(&self) -> String {
        self.to_string()
    }

    fn calibrates_on(&self) -> Option<Calibrate> {
        self.calibrates()
    }

    fn control(&self) -> Control {
        random(self.amount(), || Box::new(self.at_random()))
    }
}
