//! Models in files: safetensors with the architecture in one metadata key.

mod coder;
mod header;
mod int_codec;
mod model_file;
mod param_codec;
mod positions;
#[cfg(feature = "readers")]
pub mod pyg;
mod quant_file;
mod sparse_code;
mod table_codec;
mod tensors;

pub use header::{Kind, is_own, kind_of};
pub use model_file::stored_bytes;
