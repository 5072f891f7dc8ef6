//! How pairs are scored.

use super::table::QuantTable;
use crate::nn::Form;

/// A [`Decoder`](crate::nn::Decoder) whose relations are a table of integers.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantDecoder {
    pub(crate) form: Form,
    pub(crate) relations: Option<QuantTable>,
}

impl QuantDecoder {
    /// How it scores.
    pub fn form(&self) -> Form {
        self.form
    }

    /// The rows of the relations, where it has any.
    pub fn relations(&self) -> Option<&QuantTable> {
        self.relations.as_ref()
    }

    /// Whether it scores rows of so many channels.
    pub(crate) fn fits(&self, channels: usize) -> bool {
        self.form.has_relations() == self.relations.is_some()
            && channels.is_multiple_of(self.form.parts())
            && self.relations.iter().all(|table| table.shape().1 == channels)
    }
}
