//! Stage flags, in the order in which they stand on the line.

use clap::ArgMatches;
use gnn_prune::{ChannelPruner, Error, FineTune, Magnitude, Random, Result, Scope, Step, Taylor};

use crate::args::{CriterionKind, ScopeKind};

/// One stage flag with its value.
#[derive(Debug, Clone, PartialEq)]
pub enum Stage {
    Channels(f64),
    FineTune(usize),
}

/// What `compress` does where no stage is given.
const DEFAULT: [Stage; 2] = [Stage::Channels(0.5), Stage::FineTune(50)];

/// Stage flags that the command line names and this version has not built.
const NOT_BUILT: [&str; 5] = ["weights", "edges", "drop_layers", "distill", "bits"];

/// The stages of a command line.
pub fn given(matches: &ArgMatches) -> Result<Vec<Stage>> {
    if let Some(flag) = NOT_BUILT.into_iter().find(|flag| matches.value_source(flag).is_some()) {
        let name = format!("--{}", flag.replace('_', "-"));
        return Err(Error::Setting { name, value: "given".into(), legal: "left out: this stage is not built yet".into() });
    }
    let mut stages: Vec<(usize, Stage)> = Vec::new();
    let indices = |flag: &str| matches.indices_of(flag).into_iter().flatten().collect::<Vec<_>>();
    let channels = matches.get_many::<f64>("channels").into_iter().flatten().map(|&ratio| Stage::Channels(ratio));
    stages.extend(indices("channels").into_iter().zip(channels));
    let finetune = matches.get_many::<usize>("finetune").into_iter().flatten().map(|&epochs| Stage::FineTune(epochs));
    stages.extend(indices("finetune").into_iter().zip(finetune));
    stages.sort_by_key(|(index, _)| *index);
    let stages: Vec<Stage> = stages.into_iter().map(|(_, stage)| stage).collect();
    Ok(if stages.is_empty() { DEFAULT.to_vec() } else { stages })
}

impl Stage {
    /// The library's step for the stage.
    pub fn step(&self, criterion: CriterionKind, scope: ScopeKind) -> Result<Box<dyn Step>> {
        match *self {
            Stage::FineTune(0) => Err(Error::Setting { name: "--finetune".into(), value: "0".into(), legal: "at least 1".into() }),
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
