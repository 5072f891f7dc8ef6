//! A task on features that are sparse, read as dense ones.

use super::{Batch, Batches, Metric, Part, Tally, Task};
use crate::data::Dataset;
use crate::error::Result;
use crate::nn::{Model, Origin};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};
use std::sync::Arc;

/// Another task whose features are dense in every batch. What [`Task`] may be asked beside them it
/// asks the other: a method that is added there is added here.
pub(crate) struct DenseFeatures<'a, F: Scalar> {
    of: &'a dyn Task<F>,
    data: Dataset<F>,
}

impl<'a, F: Scalar> DenseFeatures<'a, F> {
    pub(crate) fn of(task: &'a dyn Task<F>) -> Self {
        Self { of: task, data: task.data().clone().with_dense_features() }
    }

    /// The same batch; what reads all of the data shares its dense form.
    fn dense(&self, batch: Batch<F>) -> Batch<F> {
        let features = match Arc::ptr_eq(batch.shared_features(), &self.of.data().shared_features())
        {
            true => self.data.shared_features(),
            false => Arc::new(batch.features().to_dense().into()),
        };
        batch.with_features(features)
    }
}

impl<F: Scalar> Task<F> for DenseFeatures<'_, F> {
    fn name(&self) -> &str {
        self.of.name()
    }

    fn data(&self) -> &Dataset<F> {
        &self.data
    }

    fn whole(&self) -> Result<Batch<F>> {
        Ok(self.dense(self.of.whole()?))
    }

    fn settings(&self) -> String {
        self.of.settings()
    }

    fn inputs(&self) -> usize {
        self.of.inputs()
    }

    fn outputs(&self) -> usize {
        self.of.outputs()
    }

    fn batches(&self, part: Part, seed: u64) -> Result<Batches<'_, F>> {
        Ok(self.of.batches(part, seed)?.map(move |batch| self.dense(batch)))
    }

    fn loss(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<(F, Array2<F>)> {
        self.of.loss(y, batch)
    }

    fn metric(&self) -> Metric {
        self.of.metric()
    }

    fn judge(&self, y: ArrayView2<F>, batch: &Batch<F>, tally: &mut Tally) -> Result<()> {
        self.of.judge(y, batch, tally)
    }

    fn origin(&self) -> Option<Origin> {
        self.of.origin()
    }

    fn check(&self, model: &Model<F>) -> Result<()> {
        self.of.check(model)
    }
}
