//! The training loop.

use super::adam::Adam;
use super::loss::{Loss, Objective, Seeds, supervised};
use super::metrics::Metric;
use crate::data::{Dataset, Split, check_part};
use crate::error::{Error, Result};
use crate::log;
use crate::nn::{Cx, Mode, Model, Origin, Trace};
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a progress callback hears after each epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Most epochs that there will be.
    pub epochs: usize,
    /// Loss of the step, with dropout.
    pub loss: f64,
    /// Metric on the validation nodes, in percent.
    pub validation: f64,
}

/// How the learning rate goes from the first epoch to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    /// It stays.
    #[default]
    Constant,
    /// `η_t = η·(1 + cos(π·t/T))/2` for epochs `t = 0 … T−1` (Loshchilov and Hutter, ICLR 2017, eq.
    /// 5, one cycle).
    Cosine,
}

impl Schedule {
    /// The factor of the learning rate at `epoch`, counted from 1, of `epochs`.
    pub fn factor(self, epoch: usize, epochs: usize) -> f64 {
        match self {
            Schedule::Constant => 1.0,
            Schedule::Cosine => {
                (1.0 + (std::f64::consts::PI * (epoch - 1) as f64 / epochs as f64).cos()) / 2.0
            }
        }
    }
}

/// What training sees of a model; see [`Trainer::fit_through`].
pub type Through<'a, F> = &'a dyn Fn(&Model<F>) -> Model<F>;

/// Who hears of every epoch of a training, and may end it: an error that it returns is what the
/// training returns. [`Error::Interrupted`] is there for that.
///
/// ```
/// use gnn_prune::{Dataset, Error, Gcn, Trainer};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(8).build(0)?;
/// let three = |epoch: gnn_prune::train::Epoch| if epoch.epoch < 3 { Ok(()) } else { Err(Error::Interrupted) };
/// let stopped = Trainer::protocol().fit_heard(model, &data, &three);
/// assert!(matches!(stopped, Err(Error::Interrupted)));
/// # Ok::<(), Error>(())
/// ```
pub type Hear<'a> = &'a (dyn Fn(Epoch) -> Result<()> + Sync);

type Progress = Arc<dyn Fn(Epoch) + Send + Sync>;

/// Builder of a [`Trainer`]; see [`Trainer::builder`].
#[derive(Clone)]
pub struct TrainerBuilder {
    epochs: usize,
    learning_rate: f64,
    weight_decay: f64,
    schedule: Schedule,
    patience: usize,
    keep_start: bool,
    dropout_seed: Option<u64>,
    progress: Option<Progress>,
}

impl TrainerBuilder {
    /// Most epochs, at least 1. Default 200.
    #[must_use]
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    /// Step size of Adam, positive. Default 0.01.
    #[must_use]
    pub fn learning_rate(mut self, learning_rate: f64) -> Self {
        self.learning_rate = learning_rate;
        self
    }

    /// L2 penalty on all parameters, at least 0. Default 5e-4.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = weight_decay;
        self
    }

    /// Course of the learning rate. Default [`Schedule::Constant`].
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// Stops after this many epochs without a better validation metric, at least 1. Default 100.
    #[must_use]
    pub fn patience(mut self, patience: usize) -> Self {
        self.patience = patience;
        self
    }

    /// Counts the model as it comes as a candidate too: what fine-tuning wants. Default: only
    /// trained states count.
    #[must_use]
    pub fn keep_start(mut self) -> Self {
        self.keep_start = true;
        self
    }

    /// Seed of the dropout masks. Default: the model's own.
    #[must_use]
    pub fn dropout_seed(mut self, seed: u64) -> Self {
        self.dropout_seed = Some(seed);
        self
    }

    /// Calls `progress` after each epoch. Default: no callback.
    #[must_use]
    pub fn on_epoch(mut self, progress: impl Fn(Epoch) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Builds the trainer.
    ///
    /// # Errors
    /// [`Error::Setting`] for a number outside its range.
    pub fn build(self) -> Result<Trainer> {
        if self.epochs == 0 {
            return Err(Error::setting("epochs", 0, "at least 1"));
        }
        if self.patience == 0 {
            return Err(Error::setting("patience", 0, "at least 1"));
        }
        let adam =
            Adam::builder().learning_rate(self.learning_rate).weight_decay(self.weight_decay);
        adam.clone().build::<f32>()?;
        Ok(Trainer { settings: self })
    }
}

/// Full-batch training by Adam; keeps the first epoch with the strictly best metric on the
/// validation nodes.
///
/// Split, dropout and initial weights all follow the model's own seed.
///
/// ```
/// use gnn_prune::{Dataset, Gcn, Trainer};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(8).build(0)?;
/// let model = Trainer::builder().epochs(5).build()?.fit(model, &data)?;
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Clone)]
pub struct Trainer {
    settings: TrainerBuilder,
}

/// A trained model and how it got there.
#[derive(Debug, Clone)]
pub struct Fit<F: Scalar> {
    /// The model of the best epoch.
    pub model: Model<F>,
    /// Its metric on the validation nodes, in percent.
    pub validation: f64,
    /// Which epoch it was; 0 is the model as it came.
    pub best_epoch: usize,
    /// Loss of each epoch's step, before the step.
    pub losses: Vec<f64>,
}

impl std::fmt::Display for Trainer {
    /// All that the outcome depends on, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TrainerBuilder {
            epochs,
            learning_rate,
            weight_decay,
            schedule,
            patience,
            keep_start,
            dropout_seed,
            ..
        } = &self.settings;
        write!(
            f,
            "{epochs} epochs, learning rate {learning_rate} ({schedule:?}), weight decay {weight_decay}, patience {patience}"
        )?;
        f.write_str(if *keep_start { ", the start a candidate" } else { "" })?;
        dropout_seed.map_or(Ok(()), |seed| write!(f, ", dropout by seed {seed}"))
    }
}

impl Trainer {
    /// Starts from the protocol: 200 epochs, Adam at 0.01, weight decay 5e-4, patience 100.
    pub fn builder() -> TrainerBuilder {
        TrainerBuilder {
            epochs: 200,
            learning_rate: 0.01,
            weight_decay: 5e-4,
            schedule: Schedule::Constant,
            patience: 100,
            keep_start: false,
            dropout_seed: None,
            progress: None,
        }
    }

    /// The trainer of the protocol: [`Trainer::builder`] with every default.
    pub fn protocol() -> Self {
        Trainer { settings: Self::builder() }
    }

    /// Trains on cross-entropy of the training nodes and returns the best model.
    ///
    /// # Errors
    /// [`Error::Diverged`] where the loss is no longer finite, [`Error::ShapeMismatch`] where model
    /// and data do not fit, [`Error::Data`] for data without training or validation nodes.
    pub fn fit<F: Scalar>(&self, model: Model<F>, data: &Dataset<F>) -> Result<Model<F>> {
        self.fit_logged(model, data).map(|fit| fit.model)
    }

    /// As [`Trainer::fit`], with the course of the training.
    ///
    /// # Errors
    /// As [`Trainer::fit`].
    pub fn fit_logged<F: Scalar>(&self, model: Model<F>, data: &Dataset<F>) -> Result<Fit<F>> {
        self.fit_labels(model, data, &|_| Ok(()))
    }

    fn fit_labels<F: Scalar>(
        &self,
        model: Model<F>,
        data: &Dataset<F>,
        hear: Hear,
    ) -> Result<Fit<F>> {
        let split = data.split(model.seed());
        let output = model.output();
        let mut loss = |_: &Model<F>, trace: &Trace<F>, _: usize| -> Result<(F, Seeds<F>)> {
            let (loss, gradient) = supervised(trace.output(), data, &split.train);
            Ok((loss, vec![(output, gradient)]))
        };
        self.fit_loss(model, data, &mut loss, hear)
    }

    /// As [`Trainer::fit`], and `hear` is called after each epoch too.
    ///
    /// # Errors
    /// As [`Trainer::fit`], and what `hear` returns.
    pub fn fit_heard<F: Scalar>(
        &self,
        model: Model<F>,
        data: &Dataset<F>,
        hear: Hear,
    ) -> Result<Model<F>> {
        self.fit_labels(model, data, hear).map(|fit| fit.model)
    }

    /// Trains on any loss; selection stays with the metric on the validation nodes. `hear` is
    /// called after each epoch.
    ///
    /// # Errors
    /// As [`Trainer::fit`], and what `hear` returns.
    pub fn fit_loss<F: Scalar>(
        &self,
        model: Model<F>,
        data: &Dataset<F>,
        loss: &mut dyn Loss<F>,
        hear: Hear,
    ) -> Result<Fit<F>> {
        self.fit_through(model, data, loss, hear, None)
    }

    /// As [`Trainer::fit_loss`], seen through `weights`: what it makes of the model (the same
    /// layers with other values in the parameters) runs forward and backward and is validated, and
    /// its gradients move the model itself. This is the straight-through estimator of training with
    /// quantised weights (Bengio et al. 2013).
    ///
    /// # Errors
    /// As [`Trainer::fit`], and what `hear` returns.
    pub fn fit_through<F: Scalar>(
        &self,
        mut model: Model<F>,
        data: &Dataset<F>,
        loss: &mut dyn Loss<F>,
        hear: Hear,
        weights: Option<Through<F>>,
    ) -> Result<Fit<F>> {
        check_fits(&model, data)?;
        let settings = &self.settings;
        let split = data.split(model.seed());
        check_part(data.name(), "train", &split.train)?;
        check_part(data.name(), "val", &split.val)?;
        let cx = Cx::eval(data.graph());
        let mut adam = Adam::builder()
            .learning_rate(settings.learning_rate)
            .weight_decay(settings.weight_decay)
            .build()?;
        let mut through = weights.map(|weights| weights(&model));
        let start = match settings.keep_start {
            true => validation(through.as_ref().unwrap_or(&model), &cx, data, &split)?,
            false => f64::NEG_INFINITY,
        };
        let mut best =
            Fit { model: model.clone(), validation: start, best_epoch: 0, losses: Vec::new() };
        for epoch in 1..=settings.epochs {
            let cx_train = cx.with_mode(Mode::Train {
                seed: settings.dropout_seed.unwrap_or(model.seed()),
                step: epoch as u64,
            });
            let seen = through.as_ref().unwrap_or(&model);
            let trace = seen.trace(&cx_train, data.features())?;
            let Objective { value, seeds, grads: direct } = loss.loss(seen, &trace, epoch)?;
            if !value.is_finite() {
                return Err(Error::Diverged { epoch, loss: value.as_f64() });
            }
            model.absorb(&trace);
            let mut grads = through.as_ref().unwrap_or(&model).backward(&cx_train, trace, seeds)?;
            direct.iter().for_each(|direct| grads.add_scaled(direct, F::one()));
            adam.set_learning_rate(
                settings.learning_rate * settings.schedule.factor(epoch, settings.epochs),
            );
            adam.step(&mut model, &grads);
            through = weights.map(|weights| weights(&model));
            let validation = validation(through.as_ref().unwrap_or(&model), &cx, data, &split)?;
            best.losses.push(value.as_f64());
            if validation > best.validation {
                // A last step too large would else be kept: the loss that shows it would only come
                // with the next epoch.
                if !is_finite(&model) {
                    return Err(Error::Diverged { epoch, loss: f64::NAN });
                }
                (best.validation, best.best_epoch) = (validation, epoch);
                best.model.clone_from(&model);
            }
            let progress =
                Epoch { epoch, epochs: settings.epochs, loss: value.as_f64(), validation };
            log::debug!(
                "epoch {epoch} of {}: loss {:.4}, validation {validation:.2} %",
                settings.epochs,
                progress.loss
            );
            settings.progress.iter().for_each(|listener| listener(progress));
            hear(progress)?;
            if epoch - best.best_epoch >= settings.patience {
                break;
            }
        }
        let origin = Origin {
            data: data.name().into(),
            nodes: data.num_nodes(),
            features: data.feature_norm().to_string(),
        };
        best.model.set_origin(Some(origin));
        let (ran, kept, validation) = (best.losses.len(), best.best_epoch, best.validation);
        log::info!(
            "trained seed {} on {} for {ran} epochs: epoch {kept} is kept, validation {validation:.2} %",
            best.model.seed(),
            data.name()
        );
        Ok(best)
    }
}

fn is_finite<F: Scalar>(model: &Model<F>) -> bool {
    let mut finite = true;
    model.visit(&mut |_, param| finite &= param.value().iter().all(|w| w.is_finite()));
    finite
}

/// Refuses a model whose features or classes are not those of `data`.
pub(crate) fn check_fits<F: Scalar>(model: &Model<F>, data: &Dataset<F>) -> Result<()> {
    let expected = (data.num_features(), data.num_classes());
    let found = (model.in_channels(), model.out_channels());
    if expected == found {
        return Ok(());
    }
    Err(Error::ShapeMismatch {
        at: format!("features and classes of `{}` against the model", data.name()),
        expected,
        found,
    })
}

fn validation<F: Scalar>(
    model: &Model<F>,
    cx: &Cx<F>,
    data: &Dataset<F>,
    split: &Split,
) -> Result<f64> {
    let logits = model.infer(cx, data.features())?;
    let validation = Metric::of(data).measure(logits.view(), data, &split.val);
    cx.give(logits);
    Ok(validation)
}

/// The metric of `model` on those of `rows` of `data` that have a label, in percent, in evaluation
/// mode.
///
/// # Errors
/// [`Error::ShapeMismatch`] where model and data do not fit, [`Error::Data`] where no row has a
/// label.
pub fn evaluate<F: Scalar>(model: &Model<F>, data: &Dataset<F>, rows: &[u32]) -> Result<f64> {
    check_fits(model, data)?;
    check_part(data.name(), "the part to be measured on", &data.labelled(rows))?;
    let logits = model.infer(&Cx::eval(data.graph()), data.features())?;
    Ok(Metric::of(data).measure(logits.view(), data, rows))
}
