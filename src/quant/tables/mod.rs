//! Tables of integers: rows of nodes and of relations with one scale each, and scores of pairs made
//! of them.
//!
//! | file | what it has |
//! |---|---|
//! | `table` | packed integers with a scale per row |
//! | `decoder` | how pairs are scored, its relations a table |
//! | `known` | the layers of floats that become these, by name |
//! | `rows` | which rows of a table a batch has |
//! | `run` | what their stages compute: rows of floats, rows of length 1, scores |
//! | `score` | scores of all candidates block by block, on integers or on floats |
//! | `cost` | which of the two |
//!
//! A model with any of these stages has no calibrated activations: all its other stages run on
//! floats made of the stored integers.

mod cost;
mod decoder;
mod known;
mod rows;
mod run;
mod score;
mod table;

pub(super) use cost::forms;
pub use decoder::QuantDecoder;
pub(super) use known::{is_known, of_layer, on_grid, refuse_training, widths};
pub(super) use rows::TableRows;
pub(super) use run::{RowOp, Scoring};
pub use table::QuantTable;
