//! What a learning rate and a weight decay may be.

use crate::error::{Error, Result};

/// Refuses a learning rate or a weight decay outside its range.
pub(super) fn check_rates(learning_rate: f64, weight_decay: f64) -> Result<()> {
    if !(learning_rate > 0.0 && learning_rate.is_finite()) {
        return Err(Error::setting("learning rate", learning_rate, "a positive number"));
    }
    if !(weight_decay >= 0.0 && weight_decay.is_finite()) {
        return Err(Error::setting("weight decay", weight_decay, "0 or more"));
    }
    Ok(())
}
