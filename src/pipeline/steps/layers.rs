//! Taking out layers.

use super::random;
use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::prune::{Amount, LayerPruner, Random};

impl Step for LayerPruner {
    fn name(&self) -> String {
        match self.amount() {
            Amount::Count(layers) => format!("drop-layers {layers}"),
            other => format!("drop-layers {other}"),
        }
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let data = env.data.with_graph(subject.graph.clone())?;
        let model = self.or_seed(env.seed).plan(&subject.model, &data)?.shrink(&subject.model)?;
        Ok(Subject { model, ..subject })
    }

    fn rehearse(&self, subject: &Subject, _: &Env) -> Result<Option<Subject>> {
        let model = self.rehearse(&subject.model)?;
        Ok(Some(Subject { model, graph: subject.graph.clone() }))
    }

    fn settings(&self) -> String {
        format!("{self:?}")
    }

    fn control(&self) -> Control {
        random(self.amount(), || Box::new(self.with_criterion(Random::new())))
    }
}
