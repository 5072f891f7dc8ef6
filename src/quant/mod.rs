//! Quantisation: models of 8-bit, 4-bit and 2-bit integers that run on integer kernels, training
//! that prepares for them, and the fake quantiser.
//!
//! `real = scale · (int − zero)`, and everything that runs on integers here is symmetric,
//! `zero = 0`. A scale may vary along an index that is not summed: weights have one per output
//! column, the model's input one per node, the aggregation operator one per target; every other
//! activation has one per tensor, found by running the compiled float program on the data
//! ([`Calibration`]).
//!
//! Tables of nodes and of relations have a scale per row, and scores of pairs are made of them
//! ([`QuantTable`], [`QuantDecoder`]).
//!
//! [`Quantizer`] makes a [`QuantModel`] of a [`Model`](crate::Model); [`QuantModel::compile`] makes
//! a [`QuantProgram`] of it for one graph.

mod bits;
mod calibration;
mod candidates;
mod checked;
mod compile;
mod convert;
mod fake;
mod forms;
mod lower;
mod model;
mod plan;
mod program;
mod qat;
mod quantizer;
mod rounding;
mod settings;
mod tables;

pub use crate::program::{Form, StageForm};
pub use bits::Bits;
pub use calibration::Calibration;
pub use fake::{FakeQuant, Granularity};
pub use forms::Forms;
pub use model::{QuantModel, QuantOp, QuantStage, QuantWeight};
pub use program::{Prepared, QuantProgram};
pub use quantizer::{Quantizer, QuantizerBuilder};
pub use settings::Rounding;
pub use tables::{
    CodeTable, PartRankings, ProductCodes, QuantDecoder, QuantTable, SignTable, StoredTable,
};

pub(crate) use bits::{pack, unpack};
