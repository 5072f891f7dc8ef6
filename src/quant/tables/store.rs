//! What large tables are to be stored as.

use super::codes::ProductCodes;
use super::signs::WIDEST;
use crate::error::{Error, Result};

/// What large tables are stored as in the place of integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::quant) enum TableStore {
    Codes(ProductCodes),
    /// Signs in so many parts of the columns.
    Signs(usize),
}

impl TableStore {
    /// Refuses what a table of so many columns cannot be stored as.
    pub(super) fn check(self, cols: usize) -> Result<()> {
        match self {
            TableStore::Codes(how) => how.check(cols),
            TableStore::Signs(parts) if parts == 0 || !cols.is_multiple_of(parts) => {
                let legal = format!("a number that divides the {cols} columns of the table");
                Err(Error::setting("parts of a row of signs", parts, legal))
            }
            TableStore::Signs(parts) if cols / parts > WIDEST => {
                let legal = format!("so many that each has at most {WIDEST} columns");
                Err(Error::setting("parts of a row of signs", parts, legal))
            }
            TableStore::Signs(_) => Ok(()),
        }
    }
}
