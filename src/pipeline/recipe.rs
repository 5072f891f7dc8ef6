//! Recipes: the stages of a compression as data, in the words of the command line.

use super::compressed::Compressed;
use super::compression::{Compression, Outcome};
use super::controls::Controls;
use super::step::Step;
use super::steps::{Distill, FineTune, Student};
use crate::error::{Error, Result};
use crate::files;
use crate::prune::{
    Ablation, ChannelPruner, LayerPruner, Magnitude, Random, Scope, Subset, Taylor, WeightPruner,
};
use crate::quant::{Bits, Calibration, Quantizer};
use crate::reconstruct::Calibrate;
use crate::report::Report;
use std::fmt::Write;
use std::path::Path;

/// Words that begin a stage.
const STAGES: [&str; 6] = ["channels", "weights", "drop-layers", "distill", "finetune", "bits"];
/// Words that qualify a stage, each with the stage that it qualifies.
const QUALIFIERS: [(&str, &[&str]); 6] = [
    ("criterion", &["channels"]),
    ("scope", &["channels"]),
    ("calibrate", &["channels", "weights", "bits"]),
    ("calibration", &["bits"]),
    ("act-bits", &["bits"]),
    ("qat", &["bits"]),
];

/// What scores channels, by its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum CriterionWord {
    #[default]
    Subset,
    L1,
    L2,
    Taylor,
    Random,
}

impl CriterionWord {
    fn word(self) -> &'static str {
        match self {
            CriterionWord::Subset => "subset",
            CriterionWord::L1 => "l1",
            CriterionWord::L2 => "l2",
            CriterionWord::Taylor => "taylor",
            CriterionWord::Random => "random",
        }
    }
}

/// Qualifiers of stages.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Qualifiers {
    criterion: CriterionWord,
    scope: Scope,
    calibrate: Calibrate,
    /// Without one: by the outputs.
    calibration: Option<Calibration>,
    act_bits: Option<Bits>,
    qat: usize,
}

/// One stage with its amount.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stage {
    Channels(f64),
    Weights(f64),
    DropLayers(usize),
    Distill(Student),
    FineTune(usize),
    Bits(Bits),
}

/// The stages of a compression, read from TOML or from the words of a command line; decided at run
/// time whether it ends in integers.
///
/// ```
/// use gnn_prune::pipeline::Recipe;
/// let recipe: Recipe = "[[stage]]\nchannels = 0.75\ncriterion = \"l1\"\n[[stage]]\ndistill = \"self\"\n[[stage]]\nbits = 8\n".parse()?;
/// assert_eq!(recipe.words(), ["channels 0.75", "distill self", "bits 8"]);
/// let misspelt = "[[stage]]\nchanels = 0.75".parse::<Recipe>().unwrap_err().to_string();
/// assert!(misspelt.contains("did you mean `channels`"));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recipe {
    stages: Vec<(Stage, Qualifiers)>,
    controls: Option<Controls>,
}

impl Recipe {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read, is not TOML, or has a word that is not known; the
    /// nearest known word is named.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = String::from_utf8(files::read(path)?)
            .map_err(|_| Error::file(path, "is not text; a recipe is TOML"))?;
        text.parse().map_err(|error| Error::file(path, error))
    }

    /// A recipe from stages `(word, amount)` in order and qualifiers `(word, value)`, which hold
    /// for all stages that they fit.
    ///
    /// # Errors
    /// [`Error::Setting`] for a word or an amount that is not legal, stages in an order that is
    /// not, or a qualifier that fits none.
    pub fn from_words(stages: &[(&str, &str)], qualifiers: &[(&str, &str)]) -> Result<Self> {
        let mut common = Qualifiers::default();
        qualifiers.iter().try_for_each(|(word, value)| common.set(word, value))?;
        let parsed = stages
            .iter()
            .map(|(word, value)| Ok((Stage::parse(word, value)?, common)))
            .collect::<Result<_>>()?;
        let words: Vec<&str> = stages.iter().map(|(word, _)| *word).collect();
        qualifiers
            .iter()
            .try_for_each(|(qualifier, _)| check_fits(qualifier, &words, "given alone"))?;
        Recipe { stages: parsed, controls: None }.checked()
    }

    /// The stages in the command line's words, which also name the report's rows.
    pub fn words(&self) -> Vec<String> {
        self.stages.iter().map(|(stage, _)| stage.words()).collect()
    }

    /// Whether there are no stages.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// The recipe as TOML that reads back as the same stages, each with all of its qualifiers.
    ///
    /// ```
    /// use gnn_prune::Recipe;
    /// let recipe = Recipe::from_words(&[("channels", "0.75"), ("bits", "8")], &[("criterion", "l1"), ("qat", "20")])?;
    /// let read: Recipe = recipe.to_toml().parse()?;
    /// assert_eq!(read.words(), recipe.words());
    /// assert!(recipe.to_toml().contains("criterion = \"l1\"") && recipe.to_toml().contains("qat = 20"));
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        if let Some(controls) = self.controls {
            let _ = writeln!(text, "controls = \"{}\"", controls.word());
        }
        for (stage, qualifiers) in &self.stages {
            let gap = if text.is_empty() { "" } else { "\n" };
            let words = stage.words();
            let (word, amount) = words.split_once(' ').expect("a stage is a word and its amount");
            let _ = writeln!(text, "{gap}[[stage]]\n{word} = {}", toml_value(amount));
            for (qualifier, _) in QUALIFIERS.iter().filter(|(_, stages)| stages.contains(&word)) {
                if let Some(value) = qualifiers.get(qualifier) {
                    let _ = writeln!(text, "{qualifier} = {}", toml_value(&value));
                }
            }
        }
        text
    }

    /// Runs the stages on what `compression` starts from, after its own steps.
    ///
    /// # Errors
    /// [`Error::Setting`] for an amount out of range, and what the steps return.
    pub fn run(&self, compression: Compression<'_>) -> Result<Outcome<Compressed>> {
        let mut compression = match self.controls {
            Some(controls) => compression.controls(controls),
            None => compression,
        };
        let complete = Recipe { controls: Some(compression.wanted_controls()), ..self.clone() };
        let toml = (!self.is_empty()).then(|| complete.to_toml());
        let told = |report| Report { recipe_toml: toml, ..report };
        for (stage, qualifiers) in &self.stages {
            compression = match stage {
                Stage::Bits(bits) => {
                    let outcome = compression.quantize(qualifiers.quantizer(*bits)?).run()?;
                    return Ok(Outcome {
                        model: Compressed::Integer(outcome.model),
                        report: told(outcome.report),
                    });
                }
                other => compression.boxed_step(other.step(qualifiers)?),
            };
        }
        let outcome = compression.run()?;
        Ok(Outcome { model: Compressed::Float(outcome.model), report: told(outcome.report) })
    }

    fn checked(self) -> Result<Self> {
        let last = self.stages.len().saturating_sub(1);
        match self.stages.iter().position(|(stage, _)| matches!(stage, Stage::Bits(_))) {
            Some(k) if k != last => Err(Error::setting(
                "`bits`",
                format!("stage {}", k + 1),
                "the last stage: integers cannot be changed further",
            )),
            _ => Ok(self),
        }
    }
}

impl std::str::FromStr for Recipe {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let one_line = |error: toml::de::Error| {
            Error::data(
                "recipe",
                format!("{}; it is TOML with `[[stage]]` tables", error.message()),
            )
        };
        let table: toml::Table = text.parse().map_err(one_line)?;
        let mut recipe = Recipe::default();
        let mut common = Qualifiers::default();
        for (word, value) in &table {
            match word.as_str() {
                "stage" => {}
                "controls" => recipe.controls = Some(plain(word, value)?.parse()?),
                word if is_qualifier(word) => common.set(word, &plain(word, value)?)?,
                other => return Err(unknown(other, &["stage", "controls"])),
            }
        }
        let wrong = |found: &toml::Value| {
            Error::setting("`stage`", found.type_str(), "a list of tables: `[[stage]]`")
        };
        let tables = match table.get("stage") {
            None => {
                return Err(Error::data(
                    "recipe",
                    "has no stages; it needs at least one `[[stage]]` table",
                ));
            }
            Some(value) => value.as_array().ok_or_else(|| wrong(value))?,
        };
        for value in tables {
            recipe.stages.push(stage_table(value.as_table().ok_or_else(|| wrong(value))?, common)?);
        }
        let words: Vec<&str> = recipe.stages.iter().map(|(stage, _)| stage.word()).collect();
        table
            .keys()
            .filter(|word| is_qualifier(word))
            .try_for_each(|qualifier| check_fits(qualifier, &words, "given alone"))?;
        recipe.checked()
    }
}

fn stage_table(table: &toml::Table, mut qualifiers: Qualifiers) -> Result<(Stage, Qualifiers)> {
    let words: Vec<&str> =
        table.keys().map(String::as_str).filter(|word| STAGES.contains(word)).collect();
    if let Some(word) =
        table.keys().find(|word| !STAGES.contains(&word.as_str()) && !is_qualifier(word))
    {
        return Err(unknown(word, &[]));
    }
    let &[word] = words.as_slice() else {
        let found = if words.is_empty() { "no stage".into() } else { words.join(" and ") };
        return Err(Error::setting(
            "a `[[stage]]` table",
            found,
            format!("one of {}", STAGES.join(", ")),
        ));
    };
    for (qualifier, value) in table.iter().filter(|(key, _)| *key != word) {
        check_fits(qualifier, &[word], &format!("beside `{word}`"))?;
        qualifiers.set(qualifier, &plain(qualifier, value)?)?;
    }
    Ok((Stage::parse(word, &plain(word, &table[word])?)?, qualifiers))
}

/// An amount or a qualifier of the command line as TOML writes it; none of them has a character
/// that a string must escape.
fn toml_value(word: &str) -> String {
    if word.parse::<f64>().is_ok() { word.into() } else { format!("\"{word}\"") }
}

/// A number or a string as the command line would write it.
fn plain(word: &str, value: &toml::Value) -> Result<String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        other => Err(Error::setting(format!("`{word}`"), other.type_str(), "a number or a string")),
    }
}

/// Refuses a qualifier that qualifies none of these stages; `found` says where it stands.
fn check_fits(qualifier: &str, stages: &[&str], found: &str) -> Result<()> {
    let fitting = QUALIFIERS
        .iter()
        .find(|(name, _)| *name == qualifier)
        .map_or(&[][..], |(_, stages)| stages);
    if fitting.iter().any(|stage| stages.contains(stage)) {
        return Ok(());
    }
    let fitting = fitting.iter().map(|stage| format!("`{stage}`")).collect::<Vec<_>>().join(" or ");
    Err(Error::setting(
        format!("`{qualifier}`"),
        found,
        format!("beside a stage that it qualifies: {fitting}"),
    ))
}

fn is_qualifier(word: &str) -> bool {
    QUALIFIERS.iter().any(|(qualifier, _)| *qualifier == word)
}

fn unknown(word: &str, more: &[&str]) -> Error {
    let known =
        STAGES.into_iter().chain(QUALIFIERS.map(|(word, _)| word)).chain(more.iter().copied());
    let nearest = known
        .max_by(|a, b| strsim::jaro_winkler(a, word).total_cmp(&strsim::jaro_winkler(b, word)));
    Error::setting(
        "a word of the recipe",
        format!("`{word}`"),
        format!("known; did you mean `{}`?", nearest.unwrap_or("stage")),
    )
}

fn number<T: std::str::FromStr>(word: &str, value: &str, legal: &str) -> Result<T> {
    value.parse().map_err(|_| Error::setting(format!("`{word}`"), format!("`{value}`"), legal))
}

fn share(word: &str, value: &str) -> Result<f64> {
    let share: f64 = number(word, value, "a share in [0, 1]")?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err(Error::setting(format!("`{word}`"), value, "a share in [0, 1]"))
    }
}

fn bits(word: &str, value: &str) -> Result<Bits> {
    match value {
        "8" => Ok(Bits::Eight),
        "4" => Ok(Bits::Four),
        "2" => Ok(Bits::Two),
        "1" => Err(Error::setting(format!("`{word}`"), value, "8, 4 or 2; 1 bit is not built yet")),
        _ => Err(Error::setting(format!("`{word}`"), format!("`{value}`"), "8, 4 or 2")),
    }
}

fn activation_bits(word: &str, value: &str) -> Result<Bits> {
    match bits(word, value) {
        Ok(bits @ (Bits::Eight | Bits::Four)) => Ok(bits),
        _ => Err(Error::setting(format!("`{word}`"), format!("`{value}`"), "8 or 4")),
    }
}

impl Qualifiers {
    fn set(&mut self, word: &str, value: &str) -> Result<()> {
        let illegal =
            |legal: &str| Err(Error::setting(format!("`{word}`"), format!("`{value}`"), legal));
        match (word, value) {
            ("criterion", "subset") => self.criterion = CriterionWord::Subset,
            ("criterion", "l1") => self.criterion = CriterionWord::L1,
            ("criterion", "l2") => self.criterion = CriterionWord::L2,
            ("criterion", "taylor") => self.criterion = CriterionWord::Taylor,
            ("criterion", "random") => self.criterion = CriterionWord::Random,
            ("criterion", _) => return illegal("subset, l1, l2, taylor or random"),
            ("scope", "layer") => self.scope = Scope::Layer,
            ("scope", "global") => self.scope = Scope::Global,
            ("scope", _) => return illegal("layer or global"),
            ("calibrate", value) => self.calibrate = value.parse()?,
            ("calibration", "outputs") => self.calibration = None,
            ("calibration", value) => match value.parse() {
                Ok(calibration) => self.calibration = Some(calibration),
                Err(_) => {
                    return illegal("outputs, max or percentile:P with P above 0 and at most 100");
                }
            },
            ("act-bits", value) => self.act_bits = Some(activation_bits(word, value)?),
            ("qat", value) => self.qat = number(word, value, "a whole number of epochs")?,
            (other, _) => return Err(unknown(other, &[])),
        }
        Ok(())
    }

    /// The value that [`Qualifiers::set`] reads; nothing where a qualifier was not given and its
    /// default depends on the others.
    fn get(&self, word: &str) -> Option<String> {
        match word {
            "criterion" => Some(self.criterion.word().into()),
            "scope" => Some(if self.scope == Scope::Global { "global" } else { "layer" }.into()),
            "calibrate" => Some(self.calibrate.to_string()),
            "act-bits" => self.act_bits.map(|bits| bits.count().to_string()),
            "qat" => Some(self.qat.to_string()),
            _ => None,
        }
    }

    fn quantizer(&self, bits: Bits) -> Result<Quantizer> {
        let builder = Quantizer::builder(bits)
            .qat(self.qat)
            .calibrate(self.calibrate)
            .activation_bits(self.act_bits.unwrap_or(Bits::Eight));
        match self.calibration {
            Some(calibration) => builder.calibration(calibration).build(),
            None => builder.build(),
        }
    }
}

impl Stage {
    fn parse(word: &str, value: &str) -> Result<Self> {
        Ok(match word {
            "channels" => Stage::Channels(share(word, value)?),
            "weights" => Stage::Weights(share(word, value)?),
            "drop-layers" => Stage::DropLayers(number(word, value, "a whole number of layers")?),
            "distill" => Stage::Distill(value.parse()?),
            "finetune" => match number(word, value, "a whole number of epochs, at least 1")? {
                0 => {
                    return Err(Error::setting(
                        "`finetune`",
                        0,
                        "a whole number of epochs, at least 1",
                    ));
                }
                epochs => Stage::FineTune(epochs),
            },
            "bits" => Stage::Bits(bits(word, value)?),
            "edges" => {
                return Err(Error::setting(
                    "`edges`",
                    "given",
                    "left out: this stage is not built yet",
                ));
            }
            other => return Err(unknown(other, &[])),
        })
    }

    fn word(&self) -> &'static str {
        match self {
            Stage::Channels(_) => "channels",
            Stage::Weights(_) => "weights",
            Stage::DropLayers(_) => "drop-layers",
            Stage::Distill(_) => "distill",
            Stage::FineTune(_) => "finetune",
            Stage::Bits(_) => "bits",
        }
    }

    fn words(&self) -> String {
        let amount: &dyn std::fmt::Display = match self {
            Stage::Channels(share) | Stage::Weights(share) => share,
            Stage::DropLayers(count) | Stage::FineTune(count) => count,
            Stage::Distill(student) => student,
            Stage::Bits(bits) => bits,
        };
        format!("{} {amount}", self.word())
    }

    fn step(&self, qualifiers: &Qualifiers) -> Result<Box<dyn Step>> {
        Ok(match *self {
            Stage::Channels(ratio) => {
                let builder = match qualifiers.criterion {
                    CriterionWord::Subset => ChannelPruner::builder(Subset::new()),
                    CriterionWord::L1 => ChannelPruner::builder(Magnitude::l1()),
                    CriterionWord::L2 => ChannelPruner::builder(Magnitude::l2()),
                    CriterionWord::Taylor => ChannelPruner::builder(Taylor::new()),
                    CriterionWord::Random => ChannelPruner::builder(Random::new()),
                };
                Box::new(
                    builder
                        .ratio(ratio)
                        .scope(qualifiers.scope)
                        .calibrate(qualifiers.calibrate)
                        .build()?,
                )
            }
            Stage::Weights(sparsity) => Box::new(
                WeightPruner::builder()
                    .sparsity(sparsity)
                    .calibrate(qualifiers.calibrate)
                    .build()?,
            ),
            Stage::DropLayers(count) => {
                Box::new(LayerPruner::builder(Ablation::new()).remove(count).build()?)
            }
            Stage::Distill(student) => Box::new(Distill::into(student)),
            Stage::FineTune(epochs) => Box::new(FineTune::epochs(epochs)),
            Stage::Bits(_) => {
                return Err(Error::setting("`bits`", "a step", "the end of a compression"));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_reads_back_as_the_same_recipe() {
        let stages = [
            ("distill", "gcn:16"),
            ("channels", "0.0000001"),
            ("weights", "1"),
            ("drop-layers", "2"),
            ("finetune", "30"),
            ("distill", "self"),
            ("bits", "4"),
        ];
        for (criterion, scope, calibrate, act_bits, qat) in [
            ("subset", "layer", "all", "8", "0"),
            ("random", "global", "train", "4", "7"),
            ("taylor", "global", "all", "4", "0"),
        ] {
            let qualifiers = [
                ("criterion", criterion),
                ("scope", scope),
                ("calibrate", calibrate),
                ("act-bits", act_bits),
                ("qat", qat),
            ];
            for controls in [None, Some(Controls::All), Some(Controls::None)] {
                let recipe =
                    Recipe { controls, ..Recipe::from_words(&stages, &qualifiers).unwrap() };
                let read: Recipe = recipe.to_toml().parse().unwrap();
                // What qualifies nothing, such as the criterion of a fine-tuning, is not written.
                assert_eq!((read.words(), read.controls), (recipe.words(), controls));
                assert_eq!(read.to_toml(), recipe.to_toml());
                let of = |recipe: &Recipe, word: &str| {
                    recipe.stages.iter().find(|(stage, _)| stage.words().starts_with(word)).copied()
                };
                let (before, after) =
                    (of(&recipe, "channels").unwrap(), of(&read, "channels").unwrap());
                assert_eq!((before.0, before.1.criterion, before.1.scope, before.1.calibrate), {
                    (after.0, after.1.criterion, after.1.scope, after.1.calibrate)
                });
                let (before, after) = (of(&recipe, "bits").unwrap(), of(&read, "bits").unwrap());
                assert_eq!(
                    (before.1.act_bits, before.1.qat, before.1.calibrate),
                    (after.1.act_bits, after.1.qat, after.1.calibrate)
                );
            }
        }
    }

    #[test]
    fn a_qualifier_of_every_stage_is_written() {
        let recipe = Recipe::from_words(&[("channels", "0.5"), ("bits", "8")], &[]).unwrap();
        assert_eq!(
            recipe.to_toml(),
            "[[stage]]\nchannels = 0.5\ncriterion = \"subset\"\nscope = \"layer\"\ncalibrate = \"all\"\n\n[[stage]]\nbits = 8\n\
             calibrate = \"all\"\nqat = 0\n"
        );
    }
}
