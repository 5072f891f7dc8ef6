//! Stage flags, in the order in which they stand on the line.

use crate::args::{CompressArgs, ONE_SHOT};
use crate::failure::{Failure, Result};
use clap::ArgMatches;
use clap::parser::ValueSource;
use gnn_prune::pipeline::{Entry, Words};
use gnn_prune::{OneShot, Recipe};

/// What `compress` does where no stage and no recipe is given.
const DEFAULT: [(&str, &str); 2] = [("channels", "0.5"), ("finetune", "50")];

/// The stages of a command line: of its recipe, or of its flags. `matrices` says whether the model
/// has weights that a one-shot compression could truncate.
pub fn given(args: &CompressArgs, flags: &ArgMatches, matrices: bool) -> Result<Recipe> {
    let words = Words::standard();
    let keys = words.qualifiers();
    if let Some(path) = &args.recipe {
        let set = |flag: &&str| flags.value_source(flag) == Some(ValueSource::CommandLine);
        let mut known = words
            .stages()
            .map(Entry::word)
            .chain(keys.iter().map(|key| key.flag_name()))
            .chain([ONE_SHOT]);
        return match known.find(set) {
            Some(flag) => Err(Failure::WithRecipe { flag: flag.into() }),
            None => Ok(Recipe::read(path)?),
        };
    }
    let mut placed: Vec<(usize, &str, &str)> = Vec::new();
    for flag in words.stages().map(Entry::word) {
        let places = flags.indices_of(flag).into_iter().flatten();
        let values = flags.get_many::<String>(flag).into_iter().flatten();
        placed.extend(places.zip(values).map(|(place, value)| (place, flag, value.as_str())));
    }
    placed.sort_unstable();
    let mut stages: Vec<(&str, &str)> =
        placed.into_iter().map(|(_, flag, value)| (flag, value)).collect();
    if args.stages.one_shot {
        complete(&mut stages, matrices);
    }
    if stages.is_empty() {
        stages = DEFAULT.to_vec();
    }
    let qualifiers: Vec<(&str, &str)> = keys
        .iter()
        .filter_map(|key| {
            flags.get_one::<String>(key.flag_name()).map(|value| (key.name(), value.as_str()))
        })
        .collect();
    Ok(Recipe::from_words(&stages, &qualifiers)?)
}

/// Adds the stages of a one-shot compression that the line does not have: channels and weights
/// before all others but a fresh student, bits at the end.
fn complete(stages: &mut Vec<(&str, &str)>, matrices: bool) {
    let has = |stages: &[(&str, &str)], word: &str| stages.iter().any(|(stage, _)| *stage == word);
    let [channels, weights, bits] = OneShot::STAGES;
    let first = usize::from(
        stages.first().is_some_and(|(stage, value)| *stage == "distill" && *value != "self"),
    );
    if matrices && !has(stages, weights.0) {
        let after =
            stages.iter().position(|(stage, _)| *stage == channels.0).map_or(first, |at| at + 1);
        stages.insert(after, weights);
    }
    if !has(stages, channels.0) {
        stages.insert(first, channels);
    }
    if !has(stages, bits.0) {
        stages.push(bits);
    }
}
