//! Accounts: what a model costs and how good it is, measured, as rows of a table, JSON or Markdown.

mod account;
mod latency;
mod markdown;
mod row;

pub use account::{Account, Bytes};
pub use latency::{Latencies, Latency};
pub use row::{DataInfo, Report, Row, Summary};
