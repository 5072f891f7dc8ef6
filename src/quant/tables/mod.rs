//! Tables of integers, codes and signs: rows of nodes and of relations, and scores of pairs made of
//! them.
//!
//! | file | what it has |
//! |---|---|
//! | `table` | packed integers with a scale per row |
//! | `codes` | rows that name words, and the words |
//! | `signs` | one bit a number |
//! | `rotate` | the rotation of a table that signs say the most of |
//! | `words` | k-means, which finds the words |
//! | `stored` | one of these |
//! | `store` | which of these large tables become |
//! | `decoder` | how pairs are scored, its relations a table |
//! | `rankings` | what each part of a table answers first, as a target of training its signs |
//! | `train` | training of a model whose tables are codes or signs |
//! | `known` | the layers of floats that become these, by name |
//! | `rows` | which rows of a table a batch has |
//! | `run` | what their stages compute: rows of floats, rows of length 1, scores |
//! | `score` | scores of all candidates block by block, on integers, by look-ups or on floats |
//! | `look_up` | a query as what codes are looked up in |
//! | `cost` | which of these |
//!
//! A model with any of these stages has no calibrated activations: all its other stages run on
//! floats made of the stored integers.

mod codes;
mod cost;
mod decoder;
mod known;
mod look_up;
mod rankings;
mod rotate;
mod rows;
mod run;
mod score;
mod signs;
mod store;
mod stored;
mod table;
mod train;
mod words;

pub use codes::{CodeTable, ProductCodes};
pub(super) use cost::forms;
pub use decoder::QuantDecoder;
pub(super) use known::{TableForms, is_known, of_layer, on_grid, refuse_training, table_forms};
pub use rankings::PartRankings;
pub(super) use rotate::rotated;
pub(super) use rows::TableRows;
pub(super) use run::{RowOp, Scoring};
pub use signs::SignTable;
pub(super) use store::TableStore;
pub use stored::StoredTable;
pub use table::QuantTable;
pub(super) use train::train;
