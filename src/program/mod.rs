//! Compiled models: stages fused into passes, buffers planned once, work counted.
//!
//! [`Model::compile`](crate::Model::compile) makes a [`Program`] of floats;
//! [`QuantProgram`](crate::quant::QuantProgram), of integers, shares its planner and its cost. Both
//! are [`Runnable`].

mod cost;
mod float;
mod fuse;
mod instruction;
mod op;
mod order;
mod plan;
mod run;

pub use cost::{Cost, Products, StageTime};
pub use float::Program;
pub use run::{Form, Ready, Runnable, StageForm};

pub(crate) use cost::product_cost;
pub(crate) use fuse::{Fused, fuse};
pub(crate) use op::Op;
pub(crate) use plan::{Buffers, Span};
