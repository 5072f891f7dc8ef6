//! Removing channels.

use super::random;
use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::prune::{ChannelPruner, Random};
use crate::reconstruct::Calibrate;

impl Step for ChannelPruner {
    fn name(&self) -> String {
        format!("channels {}", self.amount())
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let data = env.data.with_graph(subject.graph.clone())?;
        let model = self.or_seed(env.seed).prune(&subject.model, &data)?;
        Ok(Subject { model, ..subject })
    }

    fn rehearse(&self, subject: &Subject, env: &Env) -> Result<Option<Subject>> {
        let data = env.data.with_graph(subject.graph.clone())?;
        let model = self.rehearse(&subject.model, &data)?;
        Ok(Some(Subject { model, graph: subject.graph.clone() }))
    }

    fn settings(&self) -> String {
        self.to_string()
    }

    fn calibrates_on(&self) -> Option<Calibrate> {
        self.calibrates()
    }

    fn control(&self) -> Control {
        random(self.amount(), || Box::new(self.with_criterion(Random::new())))
    }
}
