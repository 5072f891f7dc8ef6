//! Layers that join several nodes of a model, one per file.

mod add;
mod concat;
mod max;

pub use add::Add;
pub use concat::Concat;
pub use max::Max;
