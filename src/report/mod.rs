//! Accounts: what a model costs and how good it is, measured, as rows of a table, JSON or Markdown.

mod account;
#[cfg(test)]
mod cases;
mod control;
mod curve;
mod difference;
mod effort;
mod html;
mod latency;
mod machine;
mod markdown;
mod plot;
mod row;
mod serve;
mod words;

pub use crate::program::{Ready, Runnable};
pub use account::{Account, Bytes};
pub use control::Control;
pub use curve::{Curve, LayerWidth};
pub use difference::{Difference, Verdict};
pub use effort::{CountingAllocator, Effort, Meter};
pub use html::Page;
pub use latency::{Latencies, Latency};
pub use machine::Machine;
pub use row::{Compares, DataInfo, Report, Row, Summary};
pub use serve::Servable;
