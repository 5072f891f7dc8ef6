//! What a compression may end in, where that is decided at run time.

use crate::error::Result;
use crate::io::{self, Kind};
use crate::nn::{Model, Origin, Registry};
use crate::quant::QuantModel;
use crate::report::{Runnable, Servable};
use crate::task::{Batch, Measured, Part, Task, evaluate_all, measure};
use std::path::Path;

/// A model of floats or of integers.
#[derive(Debug, Clone)]
pub enum Compressed {
    /// A model of floats.
    Float(Model),
    /// A model of integers.
    Integer(QuantModel),
}

impl Compressed {
    /// Reads a model of either kind.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) as [`Model::load`] and [`QuantModel::load`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        Self::load_with(path, &Registry::standard())
    }

    /// As [`Compressed::load`], with layers of one's own in the registry.
    ///
    /// # Errors
    /// As [`Compressed::load`].
    pub fn load_with(path: impl AsRef<Path>, registry: &Registry<f32>) -> Result<Self> {
        let path = path.as_ref();
        match io::kind_of(path)? {
            Kind::Float => Model::load_with(path, registry).map(Compressed::Float),
            Kind::Integer => QuantModel::load(path).map(Compressed::Integer),
        }
    }

    /// Writes the model to a file.
    ///
    /// # Errors
    /// [`Error::File`](crate::Error::File) where it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        match self {
            Compressed::Float(model) => model.save(path),
            Compressed::Integer(model) => model.save(path),
        }
    }

    /// Features per node that the model reads.
    pub fn in_channels(&self) -> usize {
        match self {
            Compressed::Float(model) => model.in_channels(),
            Compressed::Integer(model) => model.in_channels(),
        }
    }

    /// Channels that the model puts out.
    pub fn out_channels(&self) -> usize {
        match self {
            Compressed::Float(model) => model.out_channels(),
            Compressed::Integer(model) => model.out_channels(),
        }
    }

    /// The model's seed.
    pub fn seed(&self) -> u64 {
        match self {
            Compressed::Float(model) => model.seed(),
            Compressed::Integer(model) => model.seed(),
        }
    }

    /// What the model was trained on, if it was.
    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Compressed::Float(model) => model.origin(),
            Compressed::Integer(model) => model.origin(),
        }
    }

    /// The metrics on a part of `task`, as [`evaluate_all`] of a model of floats; the split is that
    /// of the model's seed.
    ///
    /// # Errors
    /// As [`evaluate_all`], and what compiling returns.
    pub fn measured(&self, task: &dyn Task<f32>, part: Part) -> Result<Measured> {
        match self {
            Compressed::Float(model) => evaluate_all(model, task, part),
            Compressed::Integer(model) => measured(model, task, part),
        }
    }

    fn servable(&self) -> &dyn Servable {
        match self {
            Compressed::Float(model) => model,
            Compressed::Integer(model) => model,
        }
    }
}

/// As [`evaluate_all`], of integers.
pub(super) fn measured(model: &QuantModel, task: &dyn Task<f32>, part: Part) -> Result<Measured> {
    measure(task, part, model.seed(), |batch| {
        let mut program = model.compiled(batch)?;
        Ok(program.run(batch.features())?.to_owned())
    })
}

impl Servable for Compressed {
    fn num_params(&self) -> usize {
        self.servable().num_params()
    }
    fn num_nonzero_params(&self) -> usize {
        self.servable().num_nonzero_params()
    }
    fn stored_bytes(&self) -> u64 {
        self.servable().stored_bytes()
    }
    fn compiled(&self, batch: &Batch<f32>) -> Result<Box<dyn Runnable>> {
        self.servable().compiled(batch)
    }
}

impl std::fmt::Display for Compressed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Compressed::Float(model) => model.fmt(f),
            Compressed::Integer(model) => model.fmt(f),
        }
    }
}
