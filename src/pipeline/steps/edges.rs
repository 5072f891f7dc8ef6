//! Thinning the graph.

use super::random;
use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::prune::{Amount, EdgePruner, Random};

impl Step for EdgePruner {
    fn name(&self) -> String {
        format!("edges {}", self.amount())
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let graph = self.or_seed(env.seed()).plan(subject.graph())?.apply(subject.graph())?;
        Ok(subject.with_graph(graph))
    }

    fn rehearse(&self, subject: &Subject, _: &Env) -> Result<Option<Subject>> {
        Ok(Some(subject.clone()))
    }

    fn settings(&self) -> String {
        self.to_string()
    }

    fn at(&self, amount: Amount) -> Result<Option<Box<dyn Step>>> {
        Ok(Some(Box::new(self.with_amount(amount)?)))
    }

    fn control(&self) -> Control {
        random(self.amount(), || Box::new(self.with_criterion(Random::new())))
    }
}
