//! The recipe that turns a float model into integers.

use super::bits::Bits;
use super::calibration::Calibration;
use super::convert;
use super::model::QuantModel;
use super::qat;
use super::rounding::{self, Rounded};
use super::settings::{Rounding, Settings};
use super::tables::{self, PartRankings, ProductCodes, TableStore};
use crate::error::{Error, Result};
use crate::log;
use crate::nn::Model;
use crate::reconstruct::Calibrate;
use crate::task::Task;
use crate::train::OnEpoch;

/// Builder of a [`Quantizer`]; see [`Quantizer::builder`].
#[derive(Debug, Clone)]
pub struct QuantizerBuilder {
    weights: Bits,
    activations: Bits,
    calibration: Option<Calibration>,
    calibrate: Calibrate,
    rounding: Rounding,
    epochs: usize,
    tables: Option<TableStore>,
    rankings: Option<PartRankings>,
}

impl QuantizerBuilder {
    /// Width of activations: [`Bits::Eight`] or [`Bits::Four`]. Default [`Bits::Eight`].
    #[must_use]
    pub fn activation_bits(mut self, bits: Bits) -> Self {
        self.activations = bits;
        self
    }

    /// One way to find the ranges of all activations; a percentile lies in (0, 100]. Default: for
    /// each activation the one of the largest magnitude and the percentiles 99.99, 99.9, 99.5, 99,
    /// 98 and 95 with which the model of integers says the most similar of all nodes, by the
    /// squared error of its probabilities against the float model's;
    /// [`QuantStage::calibration`](super::QuantStage::calibration) tells which.
    #[must_use]
    pub fn calibration(mut self, calibration: Calibration) -> Self {
        self.calibration = Some(calibration);
        self
    }

    /// How weights become integers. Default [`Rounding::Compensated`].
    #[must_use]
    pub fn rounding(mut self, rounding: Rounding) -> Self {
        self.rounding = rounding;
        self
    }

    /// Which nodes weights are rounded on; ranges of activations are those of all nodes, since
    /// nothing else may be clipped. Default [`Calibrate::All`].
    #[must_use]
    pub fn calibrate(mut self, calibrate: Calibrate) -> Self {
        self.calibrate = calibrate;
        self
    }

    /// Epochs of quantisation-aware training before the conversion. Default 0: none.
    #[must_use]
    pub fn qat(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    /// Stores tables of rows as codes, which training (`qat`) moves. Tables that are small beside
    /// the whole model, and all other weights, have the integers that they have without; training
    /// moves these as floats, and they are rounded afterwards. Default: integers.
    #[must_use]
    pub fn codes(mut self, codes: ProductCodes) -> Self {
        self.tables = Some(TableStore::Codes(codes));
        self
    }

    /// Stores tables of rows as signs, one bit a number, with a scale for each of so many equal
    /// parts of a row. Where scores are dot products of rows, or of sums of rows, these are rotated
    /// first so that signs say the most of them, which changes no score. Small tables and other
    /// weights have integers as with [`QuantizerBuilder::codes`]. Default: integers.
    #[must_use]
    pub fn signs(mut self, parts: usize) -> Self {
        self.tables = Some(TableStore::Signs(parts));
        self
    }

    /// Trains signs (`signs` and `qat`) on what their parts answer first before they are signs,
    /// beside the task's loss. Default: on that loss alone.
    #[must_use]
    pub fn rankings(mut self, rankings: PartRankings) -> Self {
        self.rankings = Some(rankings);
        self
    }

    /// Builds the quantiser.
    ///
    /// # Errors
    /// [`Error::Setting`] for activations of 2 bits, which no integer kernel has, for a percentile
    /// out of range, and for rankings where no signs are trained.
    pub fn build(self) -> Result<Quantizer> {
        if !matches!(self.activations, Bits::Four | Bits::Eight) {
            return Err(Error::setting("bits of activations", self.activations, "4 or 8"));
        }
        self.calibration.map_or(Ok(()), Calibration::check)?;
        let trains_signs = matches!(self.tables, Some(TableStore::Signs(_))) && self.epochs > 0;
        if self.rankings.is_some() && !trains_signs {
            return Err(Error::setting(
                "rankings of parts",
                "given",
                "beside signs that are trained: `signs` and `qat`",
            ));
        }
        Ok(Quantizer { settings: self })
    }
}

/// Turns a trained model into integers: weights with one scale per output column, rounded so that
/// outputs change least, the input with a scale per node, every other activation with one per
/// tensor, found by running the compiled model on the data.
///
/// Tables of nodes and of relations have a scale per row, found on the row alone, less the means
/// of the columns where a [`QuantTable`](super::QuantTable) keeps these. What runs after
/// a table runs on floats: no activation of such a model is calibrated, and it cannot be trained on
/// the grid.
///
/// *Source*: Jacob et al., "Quantization and Training of Neural Networks for Efficient
/// Integer-Arithmetic-Only Inference", CVPR 2018; granularity as in Krishnamoorthi, "Quantizing
/// deep convolutional networks for efficient inference", 2018, §3.
///
/// ```
/// use gnn_prune::{Bits, Dataset, Gcn, Quantizer};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(64).build(0)?;
/// let small = Quantizer::builder(Bits::Four).build()?.quantize(&model, &data)?;
/// assert_eq!(small.num_params(), model.num_params());
/// assert!(small.stored_bytes() * 4 < 4 * model.num_params() as u64);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Quantizer {
    settings: QuantizerBuilder,
}

impl Quantizer {
    /// Starts a quantiser with weights of that many bits. Of fewer than 8 bits are all matrices but
    /// those that have at most a sixteenth of all weights, such as the last one of a classifier.
    pub fn builder(weights: Bits) -> QuantizerBuilder {
        QuantizerBuilder {
            weights,
            activations: Bits::Eight,
            calibration: None,
            calibrate: Calibrate::All,
            rounding: Rounding::Compensated,
            epochs: 0,
            tables: None,
            rankings: None,
        }
    }

    /// Width of weights.
    pub fn bits(&self) -> Bits {
        self.settings.weights
    }

    /// The codes that tables of rows are stored as, where they are.
    pub fn codes(&self) -> Option<ProductCodes> {
        match self.settings.tables {
            Some(TableStore::Codes(codes)) => Some(codes),
            _ => None,
        }
    }

    /// The quantiser that draws where this one chooses: what the choice has to beat. There is none
    /// where nothing is chosen.
    pub fn random(&self) -> Option<Self> {
        let codes = self.codes()?.random();
        Some(Self { settings: self.settings.clone().codes(codes) })
    }

    /// Width of activations.
    pub fn activation_bits(&self) -> Bits {
        self.settings.activations
    }

    /// How the ranges of all activations are found; `None` where each has its own, chosen by the
    /// outputs.
    pub fn calibration(&self) -> Option<Calibration> {
        self.settings.calibration
    }

    /// Which nodes least squares looks at; `None` where weights are rounded one by one.
    pub fn calibrates(&self) -> Option<Calibrate> {
        (self.settings.rounding == Rounding::Compensated).then_some(self.settings.calibrate)
    }

    /// Trains where that was asked for, calibrates on all of `task`, and converts.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a layer that has no integer stages, and naming the stage whose
    /// 32-bit accumulators could overflow on the graph of `task`; [`Error::NotFinite`] for weights
    /// or activations that are not finite; [`Error::ShapeMismatch`] where model and task do not
    /// fit; [`Error::Diverged`] from training.
    pub fn quantize(&self, model: &Model, task: &dyn Task<f32>) -> Result<QuantModel> {
        self.quantize_with(model, task, &|_| Ok(()))
    }

    /// Refuses a form that has no integers, before any time is spent on it; the weights of `model`
    /// need not be trained yet.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a layer that has no integer stages, and for an aggregation whose
    /// 32-bit accumulators could overflow on the graph of `task`.
    pub fn check(&self, model: &Model, task: &dyn Task<f32>) -> Result<()> {
        self.check_training(model)?;
        self.settings.rankings.map_or(Ok(()), |of| of.check(model, task, self.settings()))?;
        convert::check(model, task, self.settings())
    }

    fn check_training(&self, model: &Model) -> Result<()> {
        let trains_tables = self.settings.epochs == 0 || self.settings.tables.is_some();
        if trains_tables { Ok(()) } else { tables::refuse_training(model) }
    }

    /// As [`Quantizer::quantize`], and `told` is called after each epoch of training.
    ///
    /// # Errors
    /// As [`Quantizer::quantize`], and what `told` returns.
    pub fn quantize_with(
        &self,
        model: &Model,
        task: &dyn Task<f32>,
        told: OnEpoch,
    ) -> Result<QuantModel> {
        let (settings, task) = (self.settings(), &*convert::as_read(model, task)?);
        let integers = convert::convert(&self.rounded(model, task, told)?, model, task, settings)?;
        log::info!(
            "quantised to {} bits: {} stages",
            settings.weights.count(),
            integers.stages().len()
        );
        Ok(integers)
    }

    /// The float model after the epochs of quantisation-aware training: its weights lie on the grid
    /// of the integers, so that converting it loses nothing more of them. Without such epochs the
    /// model's weights are only put on the grid. A table that keeps the means of its columns is the
    /// exception: what is left of a rounded table has other means, so that it is rounded again. So
    /// are codes and signs: to convert this model finds others, while [`Quantizer::quantize`] of
    /// the model before training stores those that were trained.
    ///
    /// # Errors
    /// As [`Quantizer::quantize`].
    pub fn train(&self, model: &Model, task: &dyn Task<f32>) -> Result<Model> {
        let rounded = self.rounded(model, &*convert::as_read(model, task)?, &|_| Ok(()))?;
        tables::on_grid(rounded.model, &rounded.tables, self.settings())
    }

    /// On a task as the integers read it.
    fn rounded(&self, model: &Model, task: &dyn Task<f32>, told: OnEpoch) -> Result<Rounded> {
        let settings = self.settings();
        self.check_training(model)?;
        convert::check(model, task, settings)?;
        let turned = match settings.tables {
            Some(TableStore::Signs(_)) => Some(tables::rotated(model, settings)?),
            _ => None,
        };
        let model = turned.as_ref().unwrap_or(model);
        if settings.tables.is_some() && self.settings.epochs > 0 {
            let how = (self.settings.epochs, self.settings.rankings);
            let (model, tables) = tables::train(model, task, settings, how, told)?;
            return Ok(Rounded { tables, ..rounding::round(&model, task, settings)? });
        }
        let rounded = rounding::round(model, task, settings)?;
        match self.settings.epochs {
            0 => Ok(rounded),
            // Where scales follow the weights, the weights behind the rounded ones are the model's.
            epochs if settings.rounding == Rounding::Nearest => qat::train(
                Rounded { model: model.clone(), ..rounded },
                model,
                task,
                settings,
                epochs,
                told,
            ),
            epochs => qat::train(rounded, model, task, settings, epochs, told),
        }
    }

    fn settings(&self) -> Settings {
        let QuantizerBuilder {
            weights, activations, calibration, calibrate, rounding, tables, ..
        } = self.settings;
        Settings { weights, activations, calibration, calibrate, rounding, tables }
    }
}

impl std::fmt::Display for Quantizer {
    /// What a report calls it: `bits 8`, `codes 32`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.settings.tables {
            Some(TableStore::Codes(codes)) => write!(f, "{codes}"),
            Some(TableStore::Signs(_)) => f.write_str("bits 1"),
            None => write!(f, "bits {}", self.bits()),
        }
    }
}
