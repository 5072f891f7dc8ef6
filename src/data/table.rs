//! Tables of numbers in CSV, plain or packed by gzip.

use crate::error::{Error, Result};
use crate::files::Budget;
use crate::files::budget::FACTOR;
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::str::FromStr;

/// Numbers row by row; every row has `width` of them.
pub(super) struct Table<T> {
    pub width: usize,
    pub values: Vec<T>,
}

impl<T> Table<T> {
    pub(super) fn rows(&self) -> std::slice::ChunksExact<'_, T> {
        self.values.chunks_exact(self.width.max(1))
    }

    pub(super) fn num_rows(&self) -> usize {
        self.values.len() / self.width.max(1)
    }
}

/// Opens a file, and unpacks what is packed as it is read.
///
/// # Errors
/// [`Error::File`] where it cannot be opened.
pub(super) fn opened(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path)
        .map_err(|error| Error::file(path, format!("cannot be opened: {error}")))?;
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    let bytes = file
        .metadata()
        .map_err(|error| Error::file(path, format!("cannot be opened: {error}")))?
        .len();
    let unpacked = |file| Unpacked {
        from: MultiGzDecoder::new(BufReader::new(file)),
        left: Budget::of_bytes(bytes).left(),
    };
    Ok(if packed { Box::new(unpacked(file)) } else { Box::new(file) })
}

/// Reads a table whose rows all have `widths` numbers, any of them, and no heading: one would name
/// columns that are read by place here.
///
/// # Errors
/// [`Error::File`] with the line for a row of another length or what is no number, for a file that
/// is missing, cut off, or too long.
pub(super) fn read<T: FromStr>(
    path: &Path,
    widths: impl Fn(usize) -> bool,
    expected: &str,
) -> Result<Table<T>> {
    read_as(path, widths, expected, |field| field.parse().ok())
}

/// As [`read`], with what makes a number of a field.
///
/// # Errors
/// As [`read`].
pub(super) fn read_as<T>(
    path: &Path,
    widths: impl Fn(usize) -> bool,
    expected: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Table<T>> {
    let from = opened(path)?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .from_reader(from);
    let mut table = Table { width: 0, values: Vec::new() };
    let mut record = csv::StringRecord::new();
    loop {
        let more = reader.read_record(&mut record).map_err(|error| {
            let words = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            Error::file(path, format!("cannot be read: {words}"))
        })?;
        if !more {
            return Ok(table);
        }
        let line = record.position().map_or(0, csv::Position::line);
        let numbers: Vec<Option<T>> = record.iter().map(&parse).collect();
        if line == 1 && table.values.is_empty() && numbers.iter().all(Option::is_none) {
            return Err(Error::file(
                path,
                format!(
                    "has a heading, and its columns are read by their places ({expected}); take it out"
                ),
            ));
        }
        if table.width == 0 {
            table.width = numbers.len();
        }
        if numbers.len() != table.width || !widths(numbers.len()) {
            return Err(Error::file(
                path,
                format!("line {line} has {} fields, expected {expected}", numbers.len()),
            ));
        }
        for (field, number) in record.iter().zip(numbers) {
            let shown: String = field.chars().take(20).collect();
            table.values.push(number.ok_or_else(|| {
                Error::file(
                    path,
                    format!("line {line}: `{shown}` is not a number of the kind expected here"),
                )
            })?);
        }
    }
}

/// What a packed file holds, up to the most that it may.
struct Unpacked<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        let left = self.left.checked_sub(count as u64);
        self.left = left.ok_or_else(|| {
            io::Error::other(format!("it unpacks to more than {FACTOR} times its size"))
        })?;
        Ok(count)
    }
}
