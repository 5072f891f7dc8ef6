//! How a trace keeps what the way back reads, in words.

use crate::error::{Error, Result};
use std::fmt;
use std::str::FromStr;

/// How the maps of a forward pass in training are kept until its backward pass has read them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Memory {
    /// As they are.
    #[default]
    Whole,
    /// In 8 bits and a scale a row, rounded stochastically: forward computes the same to the bit;
    /// gradients of linear maps are the same on average, but for numbers below a step, which keep
    /// their sign and not their size. Layers that can also compute in the memory
    /// of their input, some columns at a time. What is sparse, the model's input and what an
    /// observer or a loss reads stays whole, and so do maps of the hops of a sample.
    ///
    /// *Source*: Liu et al., "EXACT: Scalable Graph Neural Networks Training via Extreme
    /// Activation Compression", ICLR 2022.
    EightBits,
    /// What comes out of each hop is kept, and all between two hops is computed once more on the
    /// way back, some thousand rows at a time; hops run in the memory of what they aggregate. Each
    /// of these is computed as ever; only gradients that are sums over nodes are added up in
    /// another order, and a second dropout of sparse features draws others. For chains of layers
    /// that say what they are made of ([`Layer::pieces`](super::Layer::pieces)), on whole graphs;
    /// all others are refused, and so are losses and observers that read a map.
    ///
    /// *Source*: Chen et al., "Training deep nets with sublinear memory cost", arXiv 1604.06174,
    /// 2016, with segments that end where nodes look at each other.
    Recompute,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Memory::Whole => "whole",
            Memory::EightBits => "8bit",
            Memory::Recompute => "recompute",
        })
    }
}

impl FromStr for Memory {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        match word {
            "whole" => Ok(Memory::Whole),
            "8bit" => Ok(Memory::EightBits),
            "recompute" => Ok(Memory::Recompute),
            _ => Err(Error::setting("`memory`", format!("`{word}`"), "whole, 8bit or recompute")),
        }
    }
}
