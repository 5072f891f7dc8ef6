//! What nodes, parameters and stages are called.

use serde::{Deserialize, Serialize};

/// A node of a model: 0 is the input, the others are layers in the order in which they were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// The model's input.
    pub const INPUT: NodeId = NodeId(0);

    /// Position: 0 is the input, k the k-th layer.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Identifies a parameter within its model; given out by the model's builder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParamId(pub(crate) usize);

/// A stage of a lowered model; 0 is the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub(crate) usize);
