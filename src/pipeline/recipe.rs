//! Recipes: the stages of a compression as data, in the words of the command line.

use super::compressed::Compressed;
use super::compression::{Compression, Outcome};
use super::controls::Controls;
use super::words::{Entry, Given, Key, Kind, Make, Settings, Words, nearest};
use crate::error::{Error, Result};
use crate::files;
use crate::report::Report;
use std::fmt::Write;
use std::path::Path;

/// One stage: its word, its amount and the settings that were given, all as they are written down.
#[derive(Clone)]
struct Planned {
    entry: Entry,
    amount: String,
    given: Given,
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
#[derive(Clone, Default)]
pub struct Recipe {
    words: Words,
    stages: Vec<Planned>,
    controls: Option<Controls>,
}

/// The same stages with the same settings, given or by default, whatever other words are known.
impl PartialEq for Recipe {
    fn eq(&self, other: &Self) -> bool {
        let whole = |recipe: &Self| -> Vec<(String, Vec<_>)> {
            let of = |stage: &Planned| {
                let values = stage
                    .keys(&recipe.words)
                    .into_iter()
                    .map(|key| (key.name(), stage.value(key).map(str::to_string)));
                (stage.words(), values.collect())
            };
            recipe.stages.iter().map(of).collect()
        };
        self.controls == other.controls && whole(self) == whole(other)
    }
}

impl std::fmt::Debug for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_toml())
    }
}

impl Recipe {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read, is not TOML, or has a word that is not known; the
    /// nearest known word is named.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        Self::read_with(path, &Words::standard())
    }

    /// As [`Recipe::read`], with words of one's own.
    ///
    /// # Errors
    /// As [`Recipe::read`].
    pub fn read_with(path: impl AsRef<Path>, words: &Words) -> Result<Self> {
        let path = path.as_ref();
        let text = String::from_utf8(files::read(path)?)
            .map_err(|_| Error::file(path, "is not text; a recipe is TOML"))?;
        Self::parse_with(&text, words).map_err(|error| Error::file(path, error))
    }

    /// A recipe from stages `(word, amount)` in order and qualifiers `(word, value)`, which hold
    /// for all stages that they fit.
    ///
    /// # Errors
    /// [`Error::Setting`] for a word or an amount that is not legal, stages in an order that is
    /// not, or a qualifier that fits none.
    pub fn from_words(stages: &[(&str, &str)], qualifiers: &[(&str, &str)]) -> Result<Self> {
        Self::from_words_with(stages, qualifiers, &Words::standard())
    }

    /// As [`Recipe::from_words`], with words of one's own.
    ///
    /// # Errors
    /// As [`Recipe::from_words`].
    pub fn from_words_with(
        stages: &[(&str, &str)],
        qualifiers: &[(&str, &str)],
        words: &Words,
    ) -> Result<Self> {
        let mut common = Given::new();
        for (word, value) in qualifiers {
            common.insert((*word).into(), common_value(words, word, value)?);
        }
        let stages = stages
            .iter()
            .map(|(word, amount)| planned(words, word, amount, &Given::new(), &common))
            .collect::<Result<_>>()?;
        Recipe { words: words.clone(), stages, controls: None }.checked(&common)
    }

    /// The stages in the command line's words, which also name the report's rows.
    pub fn words(&self) -> Vec<String> {
        self.stages.iter().map(Planned::words).collect()
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
        for stage in &self.stages {
            let gap = if text.is_empty() { "" } else { "\n" };
            let (word, amount) = (stage.entry.word(), toml_value(&stage.amount));
            let _ = writeln!(text, "{gap}[[stage]]\n{word} = {amount}");
            for key in stage.keys(&self.words) {
                let given = stage.given.contains_key(key.name());
                if let Some(value) = stage.value(key).filter(|_| given || key.is_written()) {
                    let _ = writeln!(text, "{} = {}", key.name(), toml_value(value));
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
        for stage in &self.stages {
            let settings = stage.settings(&self.words);
            compression = match stage.entry.make() {
                Make::Step(step) => compression.boxed_step(step(&settings)?),
                Make::Quantizer(quantizer) => {
                    let outcome = compression.quantize(quantizer(&settings)?).run()?;
                    return Ok(Outcome {
                        model: Compressed::Integer(outcome.model),
                        report: told(outcome.report),
                    });
                }
                _ => return Err(unknown(&self.words, stage.entry.word(), &[])),
            };
        }
        let outcome = compression.run()?;
        Ok(Outcome { model: Compressed::Float(outcome.model), report: told(outcome.report) })
    }

    /// Reads TOML, with words of one's own.
    ///
    /// # Errors
    /// As [`Recipe::read`], but that it is no file.
    pub fn parse_with(text: &str, words: &Words) -> Result<Self> {
        let one_line = |error: toml::de::Error| {
            Error::data(
                "recipe",
                format!("{}; it is TOML with `[[stage]]` tables", error.message()),
            )
        };
        let table: toml::Table = text.parse().map_err(one_line)?;
        let mut recipe = Recipe { words: words.clone(), ..Recipe::default() };
        let mut common = Given::new();
        for (word, value) in &table {
            match word.as_str() {
                "stage" => {}
                "controls" => recipe.controls = Some(plain(word, value)?.parse()?),
                word if key_of(words, word).is_some() => {
                    common.insert(word.into(), common_value(words, word, &plain(word, value)?)?);
                }
                other => return Err(unknown(words, other, &["stage", "controls"])),
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
            let table = value.as_table().ok_or_else(|| wrong(value))?;
            recipe.stages.push(stage_table(words, table, &common)?);
        }
        recipe.checked(&common)
    }

    /// Refuses a common setting that no stage has, and a stage after integers.
    fn checked(self, common: &Given) -> Result<Self> {
        let fits = |key: &str| {
            self.stages
                .iter()
                .any(|stage| stage.keys(&self.words).iter().any(|own| own.name() == key))
        };
        if let Some(key) = common.keys().find(|key| !fits(key)) {
            return Err(misplaced(&self.words, key, "given alone", None));
        }
        let last = self.stages.len().saturating_sub(1);
        let integers = |stage: &Planned| stage.entry.kind() == Kind::Quantizer;
        match self.stages.iter().position(integers) {
            Some(k) if k != last => Err(Error::setting(
                format!("`{}`", self.stages[k].entry.word()),
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
        Self::parse_with(text, &Words::standard())
    }
}

impl Planned {
    /// Its words on a command line.
    fn words(&self) -> String {
        match self.entry.amount() {
            Some(_) => format!("{} {}", self.entry.word(), self.amount),
            None => self.entry.word().into(),
        }
    }

    /// The value of a setting, given or by default.
    fn value(&self, key: &Key) -> Option<&str> {
        self.given.get(key.name()).map(String::as_str).or(key.default_value())
    }

    fn settings<'a>(&'a self, words: &'a Words) -> Settings<'a> {
        Settings::new(words, &self.entry, Some(&self.amount), &self.given)
    }

    /// The settings that it may have: its own, each followed by those of the word that it is. Of
    /// one name there is one.
    fn keys(&self, words: &Words) -> Vec<&'static Key> {
        let mut keys: Vec<&'static Key> = self.entry.keys().iter().collect();
        let mut next = 0;
        while let Some(key) = keys.get(next) {
            next += 1;
            let named = self.value(key).and_then(|value| words.named(key, value));
            let own = named.map_or(&[][..], Entry::keys).iter();
            let new: Vec<_> =
                own.filter(|own| !keys.iter().any(|key| key.name() == own.name())).collect();
            keys.splice(next..next, new);
        }
        keys
    }
}

/// A stage of this word, with the settings that stand beside it and those that hold for all.
fn planned(
    words: &Words,
    word: &str,
    amount: &str,
    beside: &Given,
    common: &Given,
) -> Result<Planned> {
    let entry = match words.stage(word) {
        Some(entry) => *entry,
        None if words.later().contains(&word) => {
            let legal = "left out: this stage is not built yet";
            return Err(Error::setting(format!("`{word}`"), "given", legal));
        }
        None => return Err(unknown(words, word, &[])),
    };
    let amount = match entry.amount() {
        Some(key) => words.read(key, amount)?,
        None if amount == "true" => amount.into(),
        None => {
            let legal = "`true`: nothing stands behind it";
            return Err(Error::setting(format!("`{word}`"), format!("`{amount}`"), legal));
        }
    };
    let mut stage = Planned { entry, amount, given: Given::new() };
    // The settings of a word are known once that word is, so that words come first.
    loop {
        let keys = stage.keys(words);
        let next = |is_word: bool| {
            beside.iter().chain(common).find_map(|(name, text)| {
                let is_next = |key: &&&Key| key.name() == name && key.kind().is_some() == is_word;
                let key = keys.iter().find(is_next)?;
                (!stage.given.contains_key(name)).then_some((*key, text))
            })
        };
        let Some((key, text)) = next(true).or_else(|| next(false)) else { break };
        let value = words.read(key, text)?;
        stage.given.insert(key.name().into(), value);
    }
    let keys = stage.keys(words);
    if let Some(name) = beside.keys().find(|name| !keys.iter().any(|key| key.name() == *name)) {
        let found = format!("beside `{word}`");
        return Err(misplaced(words, name, &found, Some(&stage)));
    }
    // What the word itself refuses is refused now, and not after an hour of training.
    match entry.make() {
        Make::Step(step) => step(&stage.settings(words)).map(|_| ())?,
        Make::Quantizer(quantizer) => quantizer(&stage.settings(words)).map(|_| ())?,
        _ => return Err(unknown(words, word, &[])),
    }
    Ok(stage)
}

fn stage_table(words: &Words, table: &toml::Table, common: &Given) -> Result<Planned> {
    let is_stage = |word: &str| words.stage(word).is_some() || words.later().contains(&word);
    let stages: Vec<&str> =
        table.keys().map(String::as_str).filter(|word| is_stage(word)).collect();
    let known = |word: &str| is_stage(word) || key_of(words, word).is_some();
    if let Some(word) = table.keys().find(|word| !known(word)) {
        return Err(unknown(words, word, &[]));
    }
    let &[word] = stages.as_slice() else {
        let found = if stages.is_empty() { "no stage".into() } else { stages.join(" and ") };
        let all: Vec<&str> = words.stages().map(Entry::word).collect();
        let legal = format!("one of {}", all.join(", "));
        return Err(Error::setting("a `[[stage]]` table", found, legal));
    };
    let mut beside = Given::new();
    for (key, value) in table.iter().filter(|(key, _)| *key != word) {
        beside.insert(key.clone(), plain(key, value)?);
    }
    planned(words, word, &plain(word, &table[word])?, &beside, common)
}

/// A value as TOML writes it: numbers and truth as they are.
fn toml_value(word: &str) -> String {
    if word.parse::<f64>().is_ok() || word == "true" {
        word.into()
    } else {
        toml::Value::from(word).to_string()
    }
}

/// A number or a string as the command line would write it.
fn plain(word: &str, value: &toml::Value) -> Result<String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(true) => Ok("true".into()),
        other => Err(Error::setting(format!("`{word}`"), other.type_str(), "a number or a string")),
    }
}

/// The first setting of this name.
fn key_of(words: &Words, name: &str) -> Option<&'static Key> {
    words.qualifiers().into_iter().find(|key| key.name() == name)
}

/// A value that holds for all stages, if it is legal for any.
fn common_value(words: &Words, name: &str, text: &str) -> Result<String> {
    key_of(words, name)
        .ok_or_else(|| unknown(words, name, &[]))
        .and_then(|key| words.read(key, text))
}

/// What a setting is told that qualifies nothing where it stands; `found` says where, and `stage`
/// what might have others.
fn misplaced(words: &Words, name: &str, found: &str, stage: Option<&Planned>) -> Error {
    let has = |entry: &&Entry| entry.keys().iter().any(|key| key.name() == name);
    let fitting: Vec<String> =
        words.entries().iter().filter(has).map(|entry| format!("`{}`", entry.word())).collect();
    let own = stage.map_or(String::new(), |stage| {
        let names: Vec<String> =
            stage.keys(words).iter().map(|key| format!("`{}`", key.name())).collect();
        match names.is_empty() {
            true => format!("; `{}` has none", stage.entry.word()),
            false => format!("; `{}` may have {}", stage.entry.word(), names.join(", ")),
        }
    });
    let stages = words.stages().any(|entry| has(&entry));
    let what = if stages { "a stage" } else { "a word" };
    let legal = format!("beside {what} that it qualifies: {}{own}", fitting.join(" or "));
    Error::setting(format!("`{name}`"), found, legal)
}

fn unknown(words: &Words, word: &str, more: &[&str]) -> Error {
    let mut known: Vec<&str> = words.stages().map(Entry::word).collect();
    known.extend(words.qualifiers().iter().map(|key| key.name()));
    known.extend(more);
    let near = nearest(known.into_iter(), word).map_or("stage", |(near, _)| near);
    let legal = format!("known; did you mean `{near}`?");
    Error::setting("a word of the recipe", format!("`{word}`"), legal)
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
                let of = |recipe: &Recipe, word: &str, key: &str| {
                    let stage = |stage: &&Planned| stage.entry.word() == word;
                    recipe.stages.iter().find(stage).unwrap().given.get(key).cloned()
                };
                for (word, key, value) in [
                    ("channels", "criterion", criterion),
                    ("channels", "scope", scope),
                    ("channels", "calibrate", calibrate),
                    ("bits", "act-bits", act_bits),
                    ("bits", "qat", qat),
                    ("bits", "calibrate", calibrate),
                ] {
                    assert_eq!(of(&recipe, word, key).as_deref(), Some(value));
                    assert_eq!(of(&read, word, key).as_deref(), Some(value));
                }
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
