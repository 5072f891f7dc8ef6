//! Which rows of a table a batch has.

use super::stored::StoredTable;
use std::sync::Arc;

/// The rows of a batch in a table: all of them in order, or those of its nodes.
#[derive(Debug, Clone)]
pub(in crate::quant) struct TableRows {
    pub(in crate::quant) table: StoredTable,
    pub(in crate::quant) ids: Option<Arc<[u32]>>,
}

impl TableRows {
    /// The row of the table that row `i` of the batch is.
    pub(super) fn place(&self, i: usize) -> usize {
        self.ids.as_ref().map_or(i, |ids| ids[i] as usize)
    }

    pub(super) fn width(&self) -> usize {
        self.table.shape().1
    }

    /// The numbers of row `i` of the batch.
    pub(super) fn write(&self, i: usize, to: &mut [f32]) {
        self.table.write(self.place(i), to);
    }
}
