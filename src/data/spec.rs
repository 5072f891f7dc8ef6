//! Settings of a generator as one word: `sbm:nodes=1000,classes=5`.

use crate::error::{Error, Result};
use std::fmt::Display;
use std::str::FromStr;

/// The settings that a word gives, until they are taken.
pub(super) struct Settings<'a> {
    kind: &'static str,
    given: Vec<(&'a str, &'a str)>,
    known: Vec<&'static str>,
}

impl<'a> Settings<'a> {
    /// Splits `a=1,b=2`; nothing at all is no settings.
    pub(super) fn parse(kind: &'static str, text: &'a str) -> Result<Self> {
        let mut given: Vec<(&str, &str)> = Vec::new();
        for setting in text.split(',').filter(|_| !text.is_empty()) {
            let (name, value) = setting.split_once('=').ok_or_else(|| {
                Error::setting(format!("setting of {kind}"), format!("`{setting}`"), "name=value")
            })?;
            if given.iter().any(|(other, _)| *other == name) {
                return Err(Error::setting(
                    format!("setting `{name}` of {kind}"),
                    "given twice",
                    "given once",
                ));
            }
            given.push((name, value));
        }
        Ok(Self { kind, given, known: Vec::new() })
    }

    /// The value of `name`, or `default`.
    pub(super) fn take<T: FromStr>(&mut self, name: &'static str, default: T) -> Result<T> {
        self.known.push(name);
        match self.given.iter().position(|(given, _)| *given == name) {
            None => Ok(default),
            Some(k) => {
                let (_, value) = self.given.swap_remove(k);
                value.parse().map_err(|_| {
                    let kind = std::any::type_name::<T>();
                    Error::setting(
                        name,
                        value,
                        if kind.starts_with('f') {
                            "a number"
                        } else {
                            "a whole number, 0 or more"
                        },
                    )
                })
            }
        }
    }

    /// Refuses settings that nobody took.
    pub(super) fn finish(self) -> Result<()> {
        match self.given.first() {
            None => Ok(()),
            Some((name, _)) => Err(Error::setting(
                format!("setting of {}", self.kind),
                name,
                format!("one of {}", self.known.join(", ")),
            )),
        }
    }
}

/// The word for settings: those without a default, and the others where they differ from theirs.
pub(super) fn word<'a>(
    kind: &str,
    settings: impl IntoIterator<Item = (&'a str, &'a dyn Display, Option<&'a dyn Display>)>,
) -> String {
    let shown = settings.into_iter().filter_map(|(name, value, default)| {
        let value = value.to_string();
        (default.map(ToString::to_string).as_ref() != Some(&value))
            .then(|| format!("{name}={value}"))
    });
    format!("{kind}:{}", shown.collect::<Vec<_>>().join(","))
}
