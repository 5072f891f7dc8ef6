//! What a word is made of: its amount and settings, given or by default.

use super::{Entry, Key, Made, Words, sealed};
use crate::error::{Error, Result};
use std::any::type_name;
use std::collections::BTreeMap;
use std::str::FromStr;

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
