//! The ways in which the rows of a table are stored.

use super::codes::CodeTable;
use super::signs::SignTable;
use super::table::QuantTable;
use ndarray::Array2;

/// A table of rows as it is stored: what an [`Embedding`](crate::nn::Embedding) becomes.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum StoredTable {
    /// Integers with a scale per row.
    Ints(QuantTable),
    /// Codes, which name words.
    Codes(CodeTable),
    /// Signs with a scale per part of a row.
    Signs(SignTable),
}

impl StoredTable {
    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            StoredTable::Ints(table) => table.shape(),
            StoredTable::Codes(table) => table.shape(),
            StoredTable::Signs(table) => table.shape(),
        }
    }

    /// The numbers that it stands for.
    pub fn to_floats(&self) -> Array2<f32> {
        match self {
            StoredTable::Ints(table) => table.to_floats(),
            StoredTable::Codes(table) => table.to_floats(),
            StoredTable::Signs(table) => table.to_floats(),
        }
    }

    /// Its integers, where they are those of rows.
    pub fn ints(&self) -> Option<&QuantTable> {
        match self {
            StoredTable::Ints(table) => Some(table),
            _ => None,
        }
    }

    /// Its codes, where it has them.
    pub fn codes(&self) -> Option<&CodeTable> {
        match self {
            StoredTable::Codes(table) => Some(table),
            _ => None,
        }
    }

    /// How many numbers it holds: entries of rows, or codes and entries of words.
    pub(crate) fn num_params(&self) -> usize {
        match self {
            StoredTable::Codes(table) => table.num_params(),
            table => table.shape().0 * table.shape().1,
        }
    }

    /// How many of them are not zero; every code counts, and every sign.
    pub(crate) fn num_nonzero(&self) -> usize {
        match self {
            StoredTable::Ints(table) => table.num_nonzero(),
            table => table.num_params(),
        }
    }

    /// The numbers of row `i`.
    pub(super) fn write(&self, i: usize, to: &mut [f32]) {
        match self {
            StoredTable::Ints(table) => table.write(i, to),
            StoredTable::Codes(table) => table.write(i, to),
            StoredTable::Signs(table) => table.write(i, to),
        }
    }
}

impl std::fmt::Display for StoredTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoredTable::Ints(table) => write!(f, "{}-bit", table.bits()),
            StoredTable::Codes(table) => {
                write!(f, "{} codes of {} words", table.spaces(), table.words().shape().0)
            }
            StoredTable::Signs(_) => f.write_str("1-bit"),
        }
    }
}
