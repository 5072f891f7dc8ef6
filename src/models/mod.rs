//! Recipes: builders of whole models, one a file.

mod gcn;
mod mlp;
mod stack;

pub use gcn::{Gcn, GcnBuilder};
pub use mlp::{Mlp, MlpBuilder};
