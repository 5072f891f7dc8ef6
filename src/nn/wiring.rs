//! How a layer's output channels come from its inputs' channels.

/// What the output channels of a layer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wiring {
    /// New channels, made by the layer's own parameters; each unit is kept or removed as a whole.
    Fresh {
        /// How many channels the output has.
        channels: usize,
        /// What belongs together.
        units: PruneUnits,
    },
    /// Channel `c` of the output is channel `c` of every input: activations, norms, sums.
    Same,
    /// The channels of the first input, then those of the second, and so on.
    Concat,
}

/// Which channels of a fresh output can only be removed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PruneUnits {
    /// Every channel by itself.
    Single,
    /// Whole heads of `dim` neighbouring channels.
    WholeHeads {
        /// Channels per head.
        dim: usize,
    },
    /// The same channel of every head.
    AcrossHeads {
        /// Number of heads.
        heads: usize,
    },
}

impl PruneUnits {
    /// The unit that channel `c` of `channels` belongs to.
    pub fn unit_of(self, c: usize, channels: usize) -> usize {
        match self {
            PruneUnits::Single => c,
            PruneUnits::WholeHeads { dim } => c / dim,
            PruneUnits::AcrossHeads { heads } => c % (channels / heads),
        }
    }
}

/// The channels that a plan leaves at one layer, as positions in the old widths, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Kept channels of each input.
    pub inputs: Vec<Vec<usize>>,
    /// Old width of each input.
    pub in_widths: Vec<usize>,
    /// Kept channels of the output.
    pub output: Vec<usize>,
    /// Old width of the output.
    pub out_width: usize,
    /// Kept channels of each inner hidden map.
    pub hidden: Vec<Vec<usize>>,
}
