//! One hop that goes.

use serde::{Deserialize, Serialize};

/// A layer that a plan takes its neighbours from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemovedHop {
    /// The layer.
    pub name: String,
    /// Which of its forms takes its place, from 0: see
    /// [`Layer::without_hop`](crate::nn::Layer::without_hop).
    pub form: usize,
    /// What the criterion said when it was its turn; `None` where nobody was asked.
    pub score: Option<f64>,
}
