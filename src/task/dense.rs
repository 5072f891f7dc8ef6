//! A task on features that are sparse, read as dense ones.

use super::{Batch, Batches, Metric, Part, Rankings, Tally, Task};
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

    fn chooses(&self) -> bool {
        self.of.chooses()
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

    fn losses(&self, y: ArrayView2<F>, batch: &Batch<F>) -> Result<Option<Vec<F>>> {
        self.of.losses(y, batch)
    }

    fn rankings(&self) -> Option<Rankings> {
        self.of.rankings()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Csr, Value, ValueRef};

    /// A node task that trains on one hop around another node in every epoch.
    struct Sampled(Dataset);

    impl Task<f32> for Sampled {
        fn name(&self) -> &str {
            "sampled"
        }

        fn data(&self) -> &Dataset {
            &self.0
        }

        fn inputs(&self) -> usize {
            self.0.inputs()
        }

        fn outputs(&self) -> usize {
            self.0.outputs()
        }

        fn batches(&self, _: Part, _: u64) -> Result<Batches<'_, f32>> {
            Ok(Batches::drawn(|epoch| std::iter::once(Batch::around(&self.0, &[epoch as u32], 1))))
        }

        fn loss(&self, y: ArrayView2<f32>, batch: &Batch<f32>) -> Result<(f32, Array2<f32>)> {
            self.0.loss(y, batch)
        }

        fn metric(&self) -> Metric {
            Task::metric(&self.0)
        }

        fn judge(&self, y: ArrayView2<f32>, batch: &Batch<f32>, tally: &mut Tally) -> Result<()> {
            self.0.judge(y, batch, tally)
        }
    }

    #[test]
    fn every_batch_has_the_features_that_it_had_in_dense_form() {
        let data = Dataset::sbm(200, 2).features(6).seed(2).build().unwrap();
        let x = data.features().to_dense().mapv(|v| if v > 0.0 { v } else { 0.0 });
        let x = Value::Sparse(Csr::csr_from_dense(x.view(), 0.0));
        let (graph, splits) = (data.graph().clone(), data.splits().clone());
        let classes = data.classes().unwrap().to_vec();
        let data = Dataset::new("sparse", graph, x, classes, Some(2), splits).unwrap();
        let sampled = Sampled(data.clone());
        for task in [&data as &dyn Task<f32>, &sampled] {
            let dense = DenseFeatures::of(task);
            let first = |task: &dyn Task<f32>| {
                let batches = task.batches(Part::Train, 0).unwrap();
                batches.epoch(3).next().unwrap().unwrap()
            };
            for (was, is) in
                [(first(task), first(&dense)), (task.whole().unwrap(), dense.whole().unwrap())]
            {
                assert!(matches!(was.features(), ValueRef::Sparse(_)));
                let ValueRef::Dense(x) = is.features() else { panic!("it is sparse") };
                assert_eq!((x, is.rows()), (was.features().to_dense().view(), was.rows()));
            }
            let whole = dense.whole().unwrap();
            assert!(Arc::ptr_eq(whole.shared_features(), &dense.data().shared_features()));
            assert_eq!(dense.settings(), task.settings());
        }
    }
}
