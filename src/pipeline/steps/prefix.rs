//! Keeping the first channels of a model that was trained for it.

use crate::error::Result;
use crate::pipeline::step::{Control, Env, Step, Subject};
use crate::pipeline::words::{Key, Settings, Word};
use crate::prune::ChannelPlan;

/// Keeps the first channels of every group ([`ChannelPlan::prefix`]): of a model that was trained
/// by [`Prefixes`](crate::prune::Prefixes) that is a model of its own, of any other it is no better
/// than a random choice.
///
/// ```
/// use gnn_prune::{Step, pipeline::Prefix};
/// assert_eq!(Prefix::of(16).name(), "prefix 16");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    width: usize,
}

impl Prefix {
    /// The first `width` channels, at least 1 and at most what the widest group has.
    pub fn of(width: usize) -> Self {
        Self { width }
    }
}

impl Step for Prefix {
    fn name(&self) -> String {
        format!("prefix {}", self.width)
    }

    fn run(&self, subject: Subject, _: &Env) -> Result<Subject> {
        let model = subject.model();
        let narrow = ChannelPlan::prefix(model, self.width)?.shrink(model)?;
        Ok(subject.with_model(narrow))
    }

    fn rehearse(&self, subject: &Subject, env: &Env) -> Result<Option<Subject>> {
        self.run(subject.clone(), env).map(Some)
    }

    fn control(&self) -> Control {
        Control::ChoosesNothing
    }
}

impl Word for Prefix {
    type Made = Box<dyn Step>;
    const WORD: &'static str = "prefix";
    const HELP: &'static str = "Keep the first channels of a model trained with `--prefixes`";
    const AMOUNT: Option<Key> =
        Some(Key::count("prefix", 1, "a whole number from 1 on", "Width").value_name("WIDTH"));

    fn parse(settings: &Settings) -> Result<Self::Made> {
        Ok(Box::new(Prefix::of(settings.amount()?)))
    }
}
