//! A setting of a word: its name, what it may be, and a line of help.

use super::{Entry, Kind, Words};
use crate::error::{Error, Result};

/// A setting of a word, as recipes and the command line read it.
///
/// ```
/// use gnn_prune::pipeline::{Key, Words};
/// const NOISE: Key = Key::number("noise", "a positive number", |v| v > 0.0, "Size of the noise")
///     .value_name("SIZE")
///     .default("0.1");
/// assert_eq!(NOISE.line(&Words::standard()), "Size of the noise [default: 0.1]");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Key {
    name: &'static str,
    flag: Option<&'static str>,
    value_name: &'static str,
    form: Form,
    default: Option<&'static str>,
    default_words: Option<&'static str>,
    written: bool,
    help: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
enum Form {
    Share,
    Count { least: usize, legal: &'static str },
    Number { legal: &'static str, fits: fn(f64) -> bool },
    Choice(&'static [&'static str]),
    Word(Kind),
    Text { read: fn(&str) -> Result<String> },
}

impl Key {
    const fn new(name: &'static str, value: &'static str, form: Form, help: &'static str) -> Self {
        Self {
            name,
            flag: None,
            value_name: value,
            form,
            default: None,
            default_words: None,
            written: true,
            help,
        }
    }

    /// A share in [0, 1].
    pub const fn share(name: &'static str, help: &'static str) -> Self {
        Self::new(name, "SHARE", Form::Share, help)
    }

    /// A whole number of at least `least`, which `legal` says in words.
    pub const fn count(
        name: &'static str,
        least: usize,
        legal: &'static str,
        help: &'static str,
    ) -> Self {
        Self::new(name, "N", Form::Count { least, legal }, help)
    }

    /// A number that `fits`, which `legal` says in words.
    pub const fn number(
        name: &'static str,
        legal: &'static str,
        fits: fn(f64) -> bool,
        help: &'static str,
    ) -> Self {
        Self::new(name, "NUMBER", Form::Number { legal, fits }, help)
    }

    /// One of several words.
    pub const fn choice(
        name: &'static str,
        words: &'static [&'static str],
        help: &'static str,
    ) -> Self {
        Self::new(name, "HOW", Form::Choice(words), help)
    }

    /// A registered word of a kind, with `:` and its amount where it has one.
    pub const fn word(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self::new(name, "HOW", Form::Word(kind), help)
    }

    /// Whatever `read` takes; it returns the value as it is written down.
    pub const fn text(
        name: &'static str,
        read: fn(&str) -> Result<String>,
        help: &'static str,
    ) -> Self {
        Self::new(name, "HOW", Form::Text { read }, help)
    }

    /// The flag of the command line, where that is not the name: without dashes.
    #[must_use]
    pub const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    /// What stands for the value in help: `SHARE`.
    #[must_use]
    pub const fn value_name(mut self, name: &'static str) -> Self {
        self.value_name = name;
        self
    }

    /// The value where none is given. Default: none, and the word decides.
    #[must_use]
    pub const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    /// What help says of the default, where the word decides.
    #[must_use]
    pub const fn default_words(mut self, words: &'static str) -> Self {
        self.default_words = Some(words);
        self
    }

    /// A recipe that is written down says it only where it was given. Default: it says defaults
    /// too.
    #[must_use]
    pub const fn unwritten(mut self) -> Self {
        self.written = false;
        self
    }

    /// Its name in a recipe.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its flag on the command line, without dashes.
    pub fn flag_name(&self) -> &'static str {
        self.flag.unwrap_or(self.name)
    }

    /// What stands for its value in help.
    pub fn value(&self) -> &'static str {
        self.value_name
    }

    /// The value where none is given, if that is known.
    pub fn default_value(&self) -> Option<&'static str> {
        self.default
    }

    /// The line of help: what it is, its words where it has some, its default.
    pub fn line(&self, words: &Words) -> String {
        let choices = self.choices(words);
        let choices =
            if choices.is_empty() { String::new() } else { format!(": {}", choices.join(", ")) };
        let default = self.default.or(self.default_words);
        let default = default.map_or(String::new(), |value| format!(" [default: {value}]"));
        format!("{}{choices}{default}", self.help)
    }

    /// The words that its value may be; none where it is no word.
    pub fn choices(&self, words: &Words) -> Vec<String> {
        match self.form {
            Form::Choice(choices) => choices.iter().map(ToString::to_string).collect(),
            Form::Word(kind) => words.of(kind).map(|entry| entry.spelling()).collect(),
            _ => Vec::new(),
        }
    }

    /// The line of help without words and default.
    pub fn help(&self) -> &'static str {
        self.help
    }

    pub(in crate::pipeline) fn kind(&self) -> Option<Kind> {
        match self.form {
            Form::Word(kind) => Some(kind),
            _ => None,
        }
    }

    pub(in crate::pipeline) fn is_written(&self) -> bool {
        self.written
    }

    /// The value as it is written down, if it is legal.
    pub(in crate::pipeline) fn read(&self, words: &Words, text: &str) -> Result<String> {
        let name = || format!("`{}`", self.name);
        let illegal = |legal: String| Err(Error::setting(name(), format!("`{text}`"), legal));
        let outside = |legal: &str| Err(Error::setting(name(), text, legal));
        match self.form {
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
            Form::Word(kind) => match words.split(kind, text) {
                Some((entry, amount)) => entry.read_argument(words, self.name, amount),
                None => {
                    let known: Vec<String> = words.of(kind).map(Entry::spelling_in_full).collect();
                    let spelt = words.of(kind).map(Entry::word);
                    illegal(one_of(known.iter().map(String::as_str), spelt, text))
                }
            },
            Form::Text { read } => read(text),
        }
    }
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
