//! Accounts: what a model costs and how good it is, measured, as rows of a table, JSON or Markdown.

mod account;
mod html;
mod latency;
mod machine;
mod markdown;
mod plot;
mod row;
mod serve;

pub use account::{Account, Bytes};
pub use html::Page;
pub use latency::{Latencies, Latency};
pub use row::{DataInfo, Report, Row, Summary};
pub use serve::{Ready, Runnable, Servable};
