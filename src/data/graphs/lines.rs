//! Numbers of text files line by line; what is wrong is said with the file and the line.

use crate::error::{Error, Result};
use crate::files;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A file of lines.
pub(super) struct Lines {
    path: PathBuf,
    text: String,
}

/// A line that is not empty, and its number, counted from 1.
#[derive(Clone, Copy)]
pub(super) struct Line<'t> {
    pub path: &'t Path,
    pub number: usize,
    pub text: &'t str,
}

impl Lines {
    /// Reads the whole file.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read or is no text.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = String::from_utf8(files::read(path)?)
            .map_err(|_| Error::file(path, "is no text: it holds bytes that are no UTF-8"))?;
        Ok(Self { path: path.into(), text })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> u64 {
        self.text.len() as u64
    }

    /// The lines that have more in them than blanks.
    pub(super) fn iter(&self) -> impl Iterator<Item = Line<'_>> {
        let numbered = self.text.lines().enumerate().map(|(k, text)| Line {
            path: &self.path,
            number: k + 1,
            text: text.trim(),
        });
        numbered.filter(|line| !line.text.is_empty())
    }

    /// What is wrong with the whole file.
    pub(super) fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::file(&self.path, problem)
    }
}

impl<'t> Line<'t> {
    pub(super) fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        Error::file(self.path, format!("line {}: {problem}", self.number))
    }

    /// The fields between blanks.
    pub(super) fn words(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        self.text.split_whitespace()
    }

    /// The fields between commas.
    pub(super) fn fields(&self) -> impl Iterator<Item = &'t str> + use<'t> {
        self.text.split(',').map(str::trim)
    }

    /// A field as a number; `expected` says of which kind.
    pub(super) fn number<T: FromStr>(&self, field: &str, expected: &str) -> Result<T> {
        field.parse().map_err(|_| {
            let shown: String = field.chars().take(20).collect();
            self.wrong(format!("`{shown}` is not {expected}"))
        })
    }

    /// A field as a finite number.
    pub(super) fn finite(&self, field: &str) -> Result<f32> {
        let value: f32 = self.number(field, "a number")?;
        if value.is_finite() {
            Ok(value)
        } else {
            Err(self.wrong(format!("{value} is not finite")))
        }
    }
}
