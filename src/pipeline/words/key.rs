//! A setting of a word: its name, what it may be, and a line of help.

use super::kind::Kind;
use crate::error::Result;

/// A setting of a word, as recipes and the command line read it.
///
/// ```
/// use gnn_prune::pipeline::{Key, Words};
/// const NOISE: Key = Key::number("noise", "a positive number", |v| v > 0.0, "Size of the noise")
///     .value_name("SIZE")
///     .default("0.1");
/// assert_eq!(Words::standard().line(&NOISE), "Size of the noise [default: 0.1]");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub(super) name: &'static str,
    flag: Option<&'static str>,
    value_name: &'static str,
    pub(super) form: Form,
    pub(super) default: Option<&'static str>,
    pub(super) default_words: Option<&'static str>,
    written: bool,
    help: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
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

    /// What help says of the default, where the word decides, or its value is long; nothing, where
    /// this is empty.
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
}
