//! Stage flags, in the order in which they stand on the line.

use crate::args::{CriterionKind, ScopeKind};
use crate::failure::Result;
use clap::ArgMatches;
use gnn_prune::{ChannelPruner, FineTune, Magnitude, Random, Scope, Step, Taylor};

/// One stage flag with its value.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    Channels(f64),
    FineTune(usize),
}

/// What `compress` does where no stage is given.
const DEFAULT: [Stage; 2] = [Stage::Channels(0.5), Stage::FineTune(50)];

/// The stages of a command line.
pub fn given(flags: &ArgMatches) -> Vec<Stage> {
    let mut placed = placed(flags, "channels", Stage::Channels);
    placed.extend(self::placed(flags, "finetune", Stage::FineTune));
    placed.sort_by_key(|(place, _)| *place);
    if placed.is_empty() { DEFAULT.to_vec() } else { placed.into_iter().map(|(_, stage)| stage).collect() }
}

/// Every occurrence of a flag with its place on the line.
fn placed<T: Clone + Send + Sync + 'static>(flags: &ArgMatches, flag: &str, stage: impl Fn(T) -> Stage) -> Vec<(usize, Stage)> {
    let places = flags.indices_of(flag).into_iter().flatten();
    let values = flags.get_many::<T>(flag).into_iter().flatten().cloned();
    places.zip(values.map(stage)).collect()
}

impl Stage {
    /// The library's step for the stage.
    pub fn step(&self, criterion: CriterionKind, scope: ScopeKind) -> Result<Box<dyn Step>> {
        match *self {
            Stage::FineTune(epochs) => Ok(Box::new(FineTune::epochs(epochs))),
            Stage::Channels(ratio) => {
                let builder = match criterion {
                    CriterionKind::L1 => ChannelPruner::builder(Magnitude::l1()),
                    CriterionKind::L2 => ChannelPruner::builder(Magnitude::l2()),
                    CriterionKind::Taylor => ChannelPruner::builder(Taylor::new()),
                    CriterionKind::Random => ChannelPruner::builder(Random::new()),
                };
                let scope = match scope {
                    ScopeKind::Layer => Scope::Layer,
                    ScopeKind::Global => Scope::Global,
                };
                Ok(Box::new(builder.ratio(ratio).scope(scope).build()?))
            }
        }
    }
}
