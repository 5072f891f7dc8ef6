//! Models in files: safetensors with the architecture in one metadata key.

mod model_file;
pub mod pyg;
mod quant_file;
mod tensors;

pub use model_file::{Kind, kind_of, stored_bytes};
