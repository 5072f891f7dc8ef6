//! The words of the crate.

use super::word::Words;
use super::{calibrations, criteria};
use crate::distill::{Adversarial, DualDistances, InputGradients, RelaxedRanking, SoftLabels};
use crate::pipeline::steps::{Distill, FineTune, Prefix};
use crate::prune::{
    ChannelPruner, EarlyBird, HopPruner, LayerPruner, Precompute, Random, Subset, Taylor,
    WeightPruner,
};
use crate::quant::{ProductCodes, Quantizer};
use crate::train::{Adam, Sgd};

impl Words {
    /// The words of the crate, stages in the order in which help lists them.
    pub fn standard() -> Self {
        Self { entries: Vec::new() }
            .with::<ChannelPruner>()
            .with::<WeightPruner>()
            .with::<LayerPruner>()
            .with::<HopPruner>()
            .with::<EarlyBird>()
            .with::<Prefix>()
            .with::<Precompute>()
            .with::<Distill>()
            .with::<FineTune>()
            .with::<Quantizer>()
            .with::<ProductCodes>()
            .with::<Subset>()
            .with::<criteria::L1>()
            .with::<criteria::L2>()
            .with::<Taylor>()
            .with::<Random>()
            .with::<SoftLabels>()
            .with::<InputGradients>()
            .with::<Adversarial<f32>>()
            .with::<RelaxedRanking>()
            .with::<DualDistances<f32>>()
            .with::<calibrations::Outputs>()
            .with::<calibrations::Max>()
            .with::<calibrations::Percentile>()
            .with::<Adam<f32>>()
            .with::<Sgd<f32>>()
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::standard()
    }
}
