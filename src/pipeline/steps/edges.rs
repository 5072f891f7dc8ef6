//! Thinning the graph.

use super::random;
use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::prune::{EdgePruner, Random};

impl Step for EdgePruner {
    fn name(&self) -> String {
        format!("edges {}", self.amount())
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let graph = self.or_seed(env.seed).plan(&subject.graph, env.seed)?.apply(&subject.graph)?;
        Ok(Subject { graph, ..subject })
    }

    fn rehearse(&self, subject: &Subject, _: &Env) -> Result<Option<Subject>> {
        Ok(Some(subject.clone()))
    }

    fn settings(&self) -> String {
        self.to_string()
    }

    fn control(&self) -> Control {
        random(self.amount(), || Box::new(self.with_criterion(Random::new())))
    }
}
