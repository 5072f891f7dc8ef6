//! Words and their registry: how they are spelt, what settings they have, and how they are made.

use super::key::{Form, Key};
use super::kind::Kind;
use crate::distill::DistillLoss;
use crate::error::{Error, Result};
use crate::pipeline::step::Step;
use crate::prune::Criterion;
use crate::quant::{Calibration, Quantizer};
use crate::train::Optimizer;
use std::any::type_name;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::FromStr;

/// A word of recipes and of the command line.
///
/// A step that shrinks all weights, in a recipe:
///
/// ```
/// use gnn_prune::pipeline::{Control, Env, Key, Settings, Subject, Word, Words};
/// use gnn_prune::{Compression, Controls, Dataset, Gcn, Recipe, Result, Step};
///
/// struct Shrink(f32);
///
/// impl Step for Shrink {
///     fn name(&self) -> String {
///         format!("shrink {}", self.0)
///     }
///
///     fn run(&self, mut subject: Subject, _: &Env) -> Result<Subject> {
///         subject.model_mut().visit_mut(&mut |param| param.value_mut().mapv_inplace(|w| w * self.0));
///         Ok(subject)
///     }
///
///     fn control(&self) -> Control {
///         Control::ChoosesNothing
///     }
/// }
///
/// impl Word for Shrink {
///     type Made = Box<dyn Step>;
///     const WORD: &'static str = "shrink";
///     const HELP: &'static str = "Multiply every weight by this share";
///     const AMOUNT: Option<Key> = Some(Key::share("shrink", ""));
///
///     fn parse(settings: &Settings) -> Result<Box<dyn Step>> {
///         Ok(Box::new(Shrink(settings.amount()?)))
///     }
/// }
///
/// let recipe = Recipe::parse_with("[[stage]]\nshrink = 0.5", &Words::standard().with::<Shrink>())?;
/// let data = Dataset::sbm(200, 2).build()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(8).build(0)?;
/// let out = recipe.run(Compression::of(model, &data).controls(Controls::None))?;
/// assert_eq!(out.report.rows[1].name, "shrink 0.5");
/// # Ok::<(), gnn_prune::Error>(())
/// ```
pub trait Word: Sized + 'static {
    /// What it is made into, which is also its kind: a boxed [`Step`], [`Criterion`] or
    /// [`DistillLoss`] or [`Optimizer`], a [`Quantizer`], or a calibration.
    type Made: Made;

    /// How it is spelt.
    const WORD: &'static str;

    /// What it does, in a line of help.
    const HELP: &'static str;

    /// What stands behind it: of a stage after `=` or a space, of another word after `:`. Default:
    /// nothing, and such a stage is written `word = true`.
    const AMOUNT: Option<Key> = None;

    /// Its other settings, which stand beside it in a recipe, and anywhere on a command line.
    /// Default: none.
    const KEYS: &'static [Key] = &[];

    /// Makes it.
    ///
    /// # Errors
    /// Settings that do not go together, and what the thing itself refuses.
    fn parse(settings: &Settings) -> Result<Self::Made>;
}

/// What words are made into; one per [`Kind`].
pub trait Made: Sized + sealed::Sealed {
    /// Its kind.
    const KIND: Kind;
}

mod sealed {
    use super::{Make, Settings};
    use crate::error::Result;

    pub trait Sealed: Sized {
        fn wrapped(make: fn(&Settings) -> Result<Self>) -> Make;
        fn unwrapped(make: Make) -> Option<fn(&Settings) -> Result<Self>>;
    }
}

macro_rules! made {
    ($($kind:ident: $made:ty),+ $(,)?) => {
        /// How a word of each kind is made.
        #[doc(hidden)]
        #[derive(Debug, Clone, Copy)]
        pub enum Make {
            $(
                #[allow(missing_docs)]
                $kind(fn(&Settings) -> Result<$made>),
            )+
        }

        $(
            impl Made for $made {
                const KIND: Kind = Kind::$kind;
            }

            impl sealed::Sealed for $made {
                fn wrapped(make: fn(&Settings) -> Result<Self>) -> Make {
                    Make::$kind(make)
                }

                fn unwrapped(make: Make) -> Option<fn(&Settings) -> Result<Self>> {
                    match make {
                        Make::$kind(make) => Some(make),
                        _ => None,
                    }
                }
            }
        )+
    };
}

made! {
    Step: Box<dyn Step>,
    Quantizer: Quantizer,
    Criterion: Box<dyn Criterion<f32>>,
    Loss: Box<dyn DistillLoss<f32>>,
    // Without one, ranges follow what the next layer computes.
    Calibration: Option<Calibration>,
    Optimizer: Box<dyn Optimizer<f32>>,
}

/// One registered word.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    kind: Kind,
    word: &'static str,
    help: &'static str,
    amount: Option<Key>,
    keys: &'static [Key],
    make: Make,
}

impl Entry {
    fn of<W: Word>() -> Self {
        Self {
            kind: W::Made::KIND,
            word: W::WORD,
            help: W::HELP,
            amount: W::AMOUNT,
            keys: W::KEYS,
            make: sealed::Sealed::wrapped(W::parse),
        }
    }

    /// What it stands for.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How it is spelt.
    pub fn word(&self) -> &'static str {
        self.word
    }

    /// What it does, in a line.
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// What stands behind it.
    pub fn amount(&self) -> Option<&Key> {
        self.amount.as_ref()
    }

    /// Its other settings.
    pub fn keys(&self) -> &'static [Key] {
        self.keys
    }

    /// `percentile:P`, as lists of words show it.
    fn spelling(&self) -> String {
        match &self.amount {
            Some(amount) => format!("{}:{}", self.word, amount.value()),
            None => self.word.into(),
        }
    }

    /// The same, and what it may be.
    fn spelling_in_full(&self) -> String {
        match &self.amount {
            Some(amount) => format!("{} with {}", self.spelling(), amount.help()),
            None => self.spelling(),
        }
    }

    /// What stands behind the word of a setting, as it is written down.
    fn read_argument(&self, words: &Words, setting: &str, text: Option<&str>) -> Result<String> {
        match (&self.amount, text) {
            (None, None) => Ok(self.word.into()),
            (Some(amount), Some(text)) => match words.read(amount, text) {
                Ok(read) => Ok(format!("{}:{read}", self.word)),
                Err(_) => {
                    let (found, legal) = (format!("{}:{text}", self.word), self.spelling_in_full());
                    Err(Error::setting(format!("`{setting}`"), format!("`{found}`"), legal))
                }
            },
            (_, text) => {
                let found = text.map_or(self.word.into(), |text| format!("{}:{text}", self.word));
                let legal = format!("spelt `{}`", self.spelling());
                Err(Error::setting(format!("`{setting}`"), format!("`{found}`"), legal))
            }
        }
    }

    /// Whether it begins a stage.
    pub fn is_stage(&self) -> bool {
        matches!(self.kind, Kind::Step | Kind::Quantizer)
    }

    pub(in crate::pipeline) fn make(&self) -> Make {
        self.make
    }
}

/// All known words.
#[derive(Clone)]
pub struct Words {
    pub(super) entries: Vec<Entry>,
}

/// Stages that are planned: known so that they are refused by name.
const LATER: [&str; 1] = ["edges"];

impl Words {
    /// The same and one more; it takes the place of a word of its kind that is spelt alike.
    #[must_use]
    pub fn with<W: Word>(mut self) -> Self {
        let entry = Entry::of::<W>();
        let alike = |known: &&mut Entry| (known.kind, known.word) == (entry.kind, entry.word);
        match self.entries.iter_mut().find(alike) {
            Some(known) => *known = entry,
            None => self.entries.push(entry),
        }
        self
    }

    /// All of them.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Those of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.kind == kind)
    }

    /// Those that begin a stage.
    pub fn stages(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.is_stage())
    }

    /// Stages that are planned and not built; a recipe that names one is refused with its name.
    pub fn later(&self) -> &'static [&'static str] {
        &LATER
    }

    /// All settings but amounts, each once, by the first word that has it: those of stages, then
    /// those of the words that qualify them.
    pub fn qualifiers(&self) -> Vec<&'static Key> {
        let others = self.entries.iter().filter(|entry| !entry.is_stage());
        let mut found: Vec<&Key> = Vec::new();
        for key in self.stages().chain(others).flat_map(|entry| entry.keys) {
            if !found.iter().any(|known| known.name() == key.name()) {
                found.push(key);
            }
        }
        found
    }

    /// The stage that is spelt so.
    pub(in crate::pipeline) fn stage(&self, word: &str) -> Option<&Entry> {
        self.stages().find(|entry| entry.word == word)
    }

    /// The word of a kind, and what stands behind its `:`.
    fn split<'t>(&self, kind: Kind, text: &'t str) -> Option<(&Entry, Option<&'t str>)> {
        let (word, amount) = match text.split_once(':') {
            Some((word, amount)) => (word, Some(amount)),
            None => (text, None),
        };
        self.of(kind).find(|entry| entry.word == word).map(|entry| (entry, amount))
    }

    /// The word that a setting names by this value.
    pub(in crate::pipeline) fn named(&self, key: &Key, value: &str) -> Option<&Entry> {
        key.kind().and_then(|kind| self.split(kind, value)).map(|(entry, _)| entry)
    }

    /// The line of help of a setting: what it is, its words where it has some, its default.
    pub fn line(&self, key: &Key) -> String {
        let choices = self.choices(key);
        let choices =
            if choices.is_empty() { String::new() } else { format!(": {}", choices.join(", ")) };
        let default = key.default_words.or(key.default).filter(|words| !words.is_empty());
        let default = default.map_or(String::new(), |value| format!(" [default: {value}]"));
        format!("{}{choices}{default}", key.help())
    }

    /// The words that a setting may be; none where it is no word.
    pub fn choices(&self, key: &Key) -> Vec<String> {
        match key.form {
            Form::Choice(choices) => choices.iter().map(ToString::to_string).collect(),
            Form::Word(kind) => self.of(kind).map(|entry| entry.spelling()).collect(),
            _ => Vec::new(),
        }
    }

    /// The value of a setting as it is written down, if it is legal.
    pub(in crate::pipeline) fn read(&self, key: &Key, text: &str) -> Result<String> {
        let name = || format!("`{}`", key.name);
        let illegal = |legal: String| Err(Error::setting(name(), format!("`{text}`"), legal));
        let outside = |legal: &str| Err(Error::setting(name(), text, legal));
        match key.form {
            Form::Share => match text.parse::<f64>() {
                Ok(share) if (0.0..=1.0).contains(&share) => Ok(share.to_string()),
                Ok(_) => outside("a share in [0, 1]"),
                Err(_) => illegal("a share in [0, 1]".into()),
            },
            Form::Count { least, legal } => match text.parse::<usize>() {
                Ok(count) if count >= least => Ok(count.to_string()),
                Ok(_) => outside(legal),
                Err(_) => illegal(legal.into()),
            },
            Form::Number { legal, fits } => match text.parse::<f64>() {
                Ok(number) if number.is_finite() && fits(number) => Ok(number.to_string()),
                Ok(_) => outside(legal),
                Err(_) => illegal(legal.into()),
            },
            Form::Choice(choices) if choices.contains(&text) => Ok(text.into()),
            Form::Choice(choices) => {
                illegal(one_of(choices.iter().copied(), choices.iter().copied(), text))
            }
            Form::Word(kind) => match self.split(kind, text) {
                Some((entry, amount)) => entry.read_argument(self, key.name, amount),
                None => {
                    let known: Vec<String> = self.of(kind).map(Entry::spelling_in_full).collect();
                    let spelt = self.of(kind).map(Entry::word);
                    illegal(one_of(known.iter().map(String::as_str), spelt, text))
                }
            },
            Form::Text { read } => read(text),
        }
    }

    /// The table of stages and their qualifiers in README.md.
    pub fn to_markdown(&self) -> String {
        let mut table: String =
            "| stage | does | qualifiers, anywhere on the line |\n|---|---|---|\n".into();
        for stage in self.stages() {
            let flag = match stage.amount() {
                Some(amount) => format!("`--{} {}`", stage.word, amount.value()),
                None => format!("`--{}`", stage.word),
            };
            // Settings of the words that a setting may be, each with the words that have it.
            let kinds = stage.keys.iter().filter_map(Key::kind);
            let entries: Vec<&Entry> = kinds.flat_map(|kind| self.of(kind)).collect();
            let mut keys: Vec<(&Key, Vec<String>)> =
                stage.keys.iter().map(|key| (key, Vec::new())).collect();
            for (entry, key) in
                entries.iter().flat_map(|entry| entry.keys.iter().map(move |key| (entry, key)))
            {
                let of = format!("`{}`", entry.word);
                match keys.iter_mut().find(|(known, _)| known.name() == key.name()) {
                    Some((_, words)) => words.push(of),
                    None => keys.push((key, vec![of])),
                }
            }
            let qualifiers: Vec<String> = keys
                .into_iter()
                .map(|(key, of)| {
                    let of = match of.is_empty() {
                        true => String::new(),
                        false => format!(" (of {})", of.join(", ")),
                    };
                    let choices = self.choices(key);
                    let value = match choices.is_empty() {
                        true => key.value().to_string(),
                        false => choices.join("\\|"),
                    };
                    format!("`--{} {value}`{of}", key.flag_name())
                })
                .collect();
            // Writing to a string cannot fail.
            let _ = writeln!(table, "| {flag} | {} | {} |", stage.help, qualifiers.join(", "));
        }
        table
    }
}

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| entry.word)).finish()
    }
}

/// Values as they were given, by the names of their keys; each is legal and as it is written down.
pub(in crate::pipeline) type Given = BTreeMap<String, String>;

/// The amount and the settings of one word, already checked against its [`Key`]s.
#[derive(Debug)]
pub struct Settings<'a> {
    words: &'a Words,
    entry: &'a Entry,
    amount: Option<&'a str>,
    given: &'a Given,
}

impl<'a> Settings<'a> {
    pub(in crate::pipeline) fn new(
        words: &'a Words,
        entry: &'a Entry,
        amount: Option<&'a str>,
        given: &'a Given,
    ) -> Self {
        Self { words, entry, amount, given }
    }

    /// What stands behind the word.
    ///
    /// # Errors
    /// [`Error::Setting`] where the word has no amount, or one of another type.
    pub fn amount<T: FromStr>(&self) -> Result<T> {
        let name = format!("`{}`", self.entry.word);
        let text = self
            .amount
            .filter(|_| self.entry.amount.is_some())
            .ok_or_else(|| Error::setting(&*name, "without an amount", "a word that has one"))?;
        parsed(name, text)
    }

    /// The value of a setting, given or by default; `None` where it was not given and has no
    /// default.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that the word does not have, or has in another type.
    pub fn get<T: FromStr>(&self, key: &str) -> Result<Option<T>> {
        let text = self.text(key)?;
        text.map(|text| parsed(format!("`{key}`"), text)).transpose()
    }

    /// The same, of a setting that has a default.
    ///
    /// # Errors
    /// As [`Settings::get`], and for a setting without a default that was not given.
    pub fn value<T: FromStr>(&self, key: &str) -> Result<T> {
        self.get(key)?.ok_or_else(|| Error::setting(format!("`{key}`"), "missing", "given"))
    }

    /// Whether a setting, or one of those that it names, was written: a default is not.
    pub fn is_given(&self, key: &str) -> bool {
        self.given.get(key).is_some()
    }

    /// What a setting names, made: [`Key::word`].
    ///
    /// # Errors
    /// As [`Settings::value`], and what the word refuses.
    pub fn made<M: Made>(&self, key: &str) -> Result<M> {
        let unknown = || {
            let legal = format!("a word of the kind {:?}", M::KIND);
            Error::setting(format!("`{key}`"), "something else", legal)
        };
        let text = self.text(key)?.ok_or_else(unknown)?;
        let (entry, amount) = self.words.split(M::KIND, text).ok_or_else(unknown)?;
        let make = <M as sealed::Sealed>::unwrapped(entry.make).ok_or_else(unknown)?;
        make(&Settings::new(self.words, entry, amount, self.given))
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        let known = self.entry.keys.iter().find(|known| known.name() == key).ok_or_else(|| {
            let keys: Vec<&str> = self.entry.keys.iter().map(Key::name).collect();
            let legal = format!("a setting of `{}`: {}", self.entry.word, keys.join(", "));
            Error::setting(format!("`{key}`"), "asked for", legal)
        })?;
        Ok(self.given.get(key).map(String::as_str).or(known.default_value()))
    }
}

fn parsed<T: FromStr>(name: String, text: &str) -> Result<T> {
    text.parse().map_err(|_| {
        Error::setting(name, format!("`{text}`"), format!("read as {}", type_name::<T>()))
    })
}

/// `a, b or c`, and which of the words was meant where one is near.
fn one_of<'a, 'b>(
    listed: impl Iterator<Item = &'a str>,
    words: impl Iterator<Item = &'b str>,
    text: &str,
) -> String {
    let all: Vec<&str> = listed.collect();
    let (last, rest) = all.split_last().expect("there is a word of every kind");
    let list =
        if rest.is_empty() { (*last).into() } else { format!("{} or {last}", rest.join(", ")) };
    let word = text.split(':').next().unwrap_or(text);
    match nearest(words, word) {
        Some((near, likeness)) if likeness > 0.8 => format!("{list}; did you mean `{near}`?"),
        _ => list,
    }
}

/// The known word that is most like `text`, and how much from 0 to 1.
pub(in crate::pipeline) fn nearest<'a>(
    known: impl Iterator<Item = &'a str>,
    text: &str,
) -> Option<(&'a str, f64)> {
    known.map(|word| (word, strsim::jaro_winkler(word, text))).max_by(|a, b| a.1.total_cmp(&b.1))
}
