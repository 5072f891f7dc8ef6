//! Stage flags, in the order in which they stand on the line.

use crate::args::CompressArgs;
use crate::failure::{Failure, Result};
use clap::ArgMatches;
use clap::parser::ValueSource;
use gnn_prune::{OneShot, Recipe};

/// Flags that are stages.
const STAGES: [&str; 6] = ["channels", "weights", "drop-layers", "distill", "finetune", "bits"];
/// Flags that qualify stages.
const QUALIFIERS: [&str; 6] = ["criterion", "scope", "calibrate", "calibration", "act-bits", "qat"];
/// What `compress` does where no stage and no recipe is given.
const DEFAULT: [(&str, &str); 2] = [("channels", "0.5"), ("finetune", "50")];

/// The stages of a command line: of its recipe, or of its flags.
pub fn given(args: &CompressArgs, flags: &ArgMatches) -> Result<Recipe> {
    let set = |flag: &&&str| flags.value_source(flag) == Some(ValueSource::CommandLine);
    if let Some(path) = &args.recipe {
        return match STAGES.iter().chain(&QUALIFIERS).chain(&["one-shot"]).find(set) {
            Some(flag) => Err(Failure::WithRecipe { flag: (*flag).into() }),
            None => Ok(Recipe::read(path)?),
        };
    }
    let mut placed: Vec<(usize, &str, &str)> = Vec::new();
    for flag in STAGES {
        let places = flags.indices_of(flag).into_iter().flatten();
        let values = flags.get_many::<String>(flag).into_iter().flatten();
        placed.extend(places.zip(values).map(|(place, value)| (place, flag, value.as_str())));
    }
    placed.sort_unstable();
    let mut stages: Vec<(&str, &str)> =
        placed.into_iter().map(|(_, flag, value)| (flag, value)).collect();
    if args.stages.one_shot {
        complete(&mut stages);
    }
    if stages.is_empty() {
        stages = DEFAULT.to_vec();
    }
    let one =
        |flag: &'static str| flags.get_one::<String>(flag).map(|value| (flag, value.as_str()));
    let qualifiers: Vec<(&str, &str)> = QUALIFIERS.into_iter().filter_map(one).collect();
    Ok(Recipe::from_words(&stages, &qualifiers)?)
}

/// Adds the stages of a one-shot compression that the line does not have: channels and weights
/// before all others but a fresh student, bits at the end.
fn complete(stages: &mut Vec<(&str, &str)>) {
    let has = |stages: &[(&str, &str)], word: &str| stages.iter().any(|(stage, _)| *stage == word);
    let [channels, weights, bits] = OneShot::STAGES;
    let first = usize::from(
        stages.first().is_some_and(|(stage, value)| *stage == "distill" && *value != "self"),
    );
    if !has(stages, weights.0) {
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
