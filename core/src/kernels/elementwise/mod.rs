//! What is done number by number.

mod drop_mask;
mod exp;
mod packed_rows;
mod relu;
mod weighted_sum;

pub use drop_mask::DropMask;
pub(super) use exp::exp;
#[cfg(target_arch = "x86_64")]
pub(super) use exp::{LEAST, LN2_HIGH, LN2_LOW, ROUND, SERIES};
pub use exp::{elu, elu_with, softmax_terms};
pub use packed_rows::PackedRows;
pub use relu::relu;
pub use weighted_sum::weighted_sum;
