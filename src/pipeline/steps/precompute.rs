//! Running encoders once.

use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::pipeline::words::{Settings, Word};
use crate::prune::Precompute;

impl Step for Precompute {
    fn name(&self) -> String {
        "precompute".into()
    }

    fn run(&self, subject: Subject, env: &Env) -> Result<Subject> {
        let model = self.apply(subject.model(), &*env.task_of(&subject)?)?;
        Ok(subject.with_model(model))
    }

    fn rehearse(&self, subject: &Subject, env: &Env) -> Result<Option<Subject>> {
        let nodes = env.data().num_nodes();
        Ok(Some(subject.with_model(self.form_on(subject.model(), nodes)?)))
    }

    fn control(&self) -> Control {
        Control::ChoosesNothing
    }
}

impl Word for Precompute {
    type Made = Box<dyn Step>;
    const WORD: &'static str = "precompute";
    const HELP: &'static str =
        "Run the encoder before a decoder once, and keep its rows as a table";

    fn parse(_: &Settings) -> Result<Self::Made> {
        Ok(Box::new(Precompute::new()))
    }
}
