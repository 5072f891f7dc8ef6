//! Channels, weights and bits in one go.

use super::compression::Compression;
use crate::error::Result;
use crate::nn::Model;
use crate::prune::{ChannelPruner, Subset, WeightPruner};
use crate::quant::{Bits, QuantModel, Quantizer};
use crate::reconstruct::Calibrate;
use crate::task::Task;

/// Builder of a [`OneShot`]; see [`OneShot::builder`].
#[derive(Debug, Clone)]
pub struct OneShotBuilder {
    channels: f64,
    weights: f64,
    bits: Bits,
    calibrate: Calibrate,
}

impl OneShotBuilder {
    /// Share of the hidden channels to remove, in [0, 1]. Default 0.8125: of 64 channels 12 stay.
    #[must_use]
    pub fn channels(mut self, share: f64) -> Self {
        self.channels = share;
        self
    }

    /// Share of the weights that are left to zero, in [0, 1]. Default 0.9.
    #[must_use]
    pub fn weights(mut self, share: f64) -> Self {
        self.weights = share;
        self
    }

    /// Width of the weights. Default [`Bits::Four`].
    #[must_use]
    pub fn bits(mut self, bits: Bits) -> Self {
        self.bits = bits;
        self
    }

    /// Which nodes least squares looks at. Default [`Calibrate::All`].
    #[must_use]
    pub fn calibrate(mut self, calibrate: Calibrate) -> Self {
        self.calibrate = calibrate;
        self
    }

    /// Builds the compression.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) for a share out of range.
    pub fn build(self) -> Result<OneShot> {
        let Self { channels, weights, bits, calibrate } = self;
        Ok(OneShot {
            channels: ChannelPruner::builder(Subset::new())
                .ratio(channels)
                .calibrate(calibrate)
                .build()?,
            weights: WeightPruner::builder().sparsity(weights).calibrate(calibrate).build()?,
            quantizer: Quantizer::builder(bits).calibrate(calibrate).build()?,
        })
    }
}

/// Compresses a trained network by least squares alone: channels chosen by what their readers would
/// lose, weights truncated and solved again, the rest rounded to integers with compensation. No
/// label is read, no epoch trained.
///
/// ```
/// use gnn_prune::{Dataset, Gcn, OneShot, Trainer};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(64).build(0)?;
/// let model = Trainer::builder().epochs(30).build()?.fit(model, &data)?;
/// let small = OneShot::builder().build()?.compress(&model, &data)?;
/// assert!(small.stored_bytes() * 20 < 4 * model.num_params() as u64);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct OneShot {
    channels: ChannelPruner,
    weights: WeightPruner,
    quantizer: Quantizer,
}

impl OneShot {
    /// The same as stages of a recipe and of the command line, with the amounts that the builder
    /// begins with.
    pub const STAGES: [(&'static str, &'static str); 3] =
        [("channels", "0.8125"), ("weights", "0.9"), ("bits", "4")];

    /// Starts with 0.8125 of the channels, 0.9 of the weights, and 4 bits.
    pub fn builder() -> OneShotBuilder {
        OneShotBuilder {
            channels: 0.8125,
            weights: 0.9,
            bits: Bits::Four,
            calibrate: Calibrate::All,
        }
    }

    /// The compressed model. Of a model of tables without weight matrices no weight is truncated.
    ///
    /// # Errors
    /// As [`ChannelPruner::prune`], [`WeightPruner::prune`] and [`Quantizer::quantize`].
    pub fn compress(&self, model: &Model, task: &dyn Task<f32>) -> Result<QuantModel> {
        let narrow = self.channels.prune(model, task)?;
        if !WeightPruner::has_weights(&narrow) {
            return self.quantizer.quantize(&narrow, task);
        }
        let sparse = self.weights.prune(&narrow, task)?;
        self.quantizer.quantize(&sparse, task)
    }

    /// Adds its three stages to a compression that reports on them. A model of tables without
    /// weight matrices is refused by the second.
    pub fn after<'a>(&self, compression: Compression<'a>) -> Compression<'a, QuantModel> {
        compression
            .step(self.channels.clone())
            .step(self.weights.clone())
            .quantize(self.quantizer.clone())
    }
}
