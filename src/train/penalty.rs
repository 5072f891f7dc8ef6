//! Penalties on the rows of tables that a batch names.

use crate::error::{Error, Result};
use crate::kernels;
use crate::nn::decode::Decoder;
use crate::nn::{Axis, Grads, Model, Param, RelationTable};
use crate::scalar::Scalar;
use crate::task::{Asked, Batch};
use ndarray::{Array2, ArrayView1, ArrayViewMut1};

/// `λ/q · Σ |w|^p` over the rows of tables that a batch of `q` queries names, as often as it names
/// them: those of nodes in every [`Embedding`](crate::nn::Embedding), those of relations in a
/// [`Decoder`], or in the [`RelationTable`] that it reads. Of a complex number, two neighbouring channels, `|w|` is the modulus. Batches that
/// ask about no pairs have none.
///
/// *Source*: with p = 3 the N3 of Lacroix et al., ICML 2018, eq. 10; with p = 2 the penalty of
/// LightGCN (He et al., SIGIR 2020, eq. 15) at twice the weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Penalty {
    weight: f64,
    power: u8,
}

impl Penalty {
    /// `λ` and `p`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a negative weight, and a power that is not 2 or 3.
    pub fn new(weight: f64, power: u8) -> Result<Self> {
        if !(weight >= 0.0 && weight.is_finite()) {
            return Err(Error::setting("weight of the penalty", weight, "a number, 0 or more"));
        }
        if !(2..=3).contains(&power) {
            return Err(Error::setting("power of the penalty", power, "2 or 3"));
        }
        Ok(Self { weight, power })
    }

    /// The value on a batch; its gradients are added to `grads`.
    pub(super) fn add<F: Scalar>(
        &self,
        model: &Model<F>,
        batch: &Batch<F>,
        grads: &mut Grads<F>,
    ) -> F {
        let (Some(asked), Some(queries)) = (batch.attached::<Asked>(), batch.spaces().asked())
        else {
            return F::zero();
        };
        let ids = batch.spaces().node_ids();
        let node = |&row: &u32| ids.map_or(row, |ids| ids[row as usize]);
        let nodes: Vec<u32> = asked.penalized.iter().map(node).collect();
        let relations: Vec<u32> = queries.queries().iter().map(|query| query.relation).collect();
        let decoder =
            model.nodes().iter().find_map(|n| n.layer().as_any().downcast_ref::<Decoder<F>>());
        let parts = decoder.map_or(1, |decoder| decoder.form().parts());
        let mut table = decoder.and_then(Decoder::relations).map(Param::id);
        for node in model.nodes() {
            if node.layer().as_any().is::<RelationTable<F>>() {
                node.layer().visit(&mut |param| table = table.or(Some(param.id())));
            }
        }
        let scale = F::of(self.weight / queries.queries().len().max(1) as f64);
        let mut total = F::zero();
        model.visit(&mut |_, param| {
            let rows = match param.axes()[0] {
                Axis::Nodes => &nodes,
                _ if table == Some(param.id()) => &relations,
                _ => return,
            };
            let mut gradient = Array2::zeros((rows.len(), param.value().ncols()));
            let jobs = rows.iter().zip(gradient.rows_mut()).collect();
            let values = kernels::run(jobs, rows.len() * param.value().ncols(), |(&row, out)| {
                self.of_row(param.value().row(row as usize), parts, scale, out)
            });
            total += values.into_iter().sum();
            grads.add_rows(param, rows, gradient.view());
        });
        total * scale
    }

    fn of_row<F: Scalar>(
        &self,
        row: ArrayView1<F>,
        parts: usize,
        scale: F,
        mut gradient: ArrayViewMut1<F>,
    ) -> F {
        let (mut total, power) = (F::zero(), F::of(f64::from(self.power)));
        for k in (0..row.len()).step_by(parts) {
            let end = (k + parts).min(row.len());
            let square: F = (k..end).map(|k| row[k] * row[k]).sum();
            let length = square.sqrt();
            // d|w|^p/dw = p·|w|^(p−2)·w.
            let slope = if self.power == 2 { power } else { power * length };
            total += if self.power == 2 { square } else { square * length };
            (k..end).for_each(|k| gradient[k] = scale * slope * row[k]);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Triples;
    use crate::nn::decode::Form;
    use crate::nn::{Embedding, ModelBuilder, NodeId};
    use crate::task::{LinkTask, Part, Task};

    #[test]
    fn penalties_have_the_gradients_that_differences_give() {
        let train = vec![[0, 0, 1], [1, 1, 2], [0, 1, 3]];
        let facts = Triples::new("t", 4, 2, train, vec![[0, 0, 2]], vec![[0, 0, 3]]).unwrap();
        for form in [Form::DistMult, Form::ComplEx] {
            for alone in [false, true] {
                let task = LinkTask::builder(facts.clone())
                    .candidates(crate::task::Candidates::Sampled(2))
                    .tables_alone(alone)
                    .build()
                    .unwrap()
                    .cast::<f64>();
                let mut builder = ModelBuilder::<f64>::new(1);
                let table = Embedding::new(4, 4).unwrap();
                let table = builder.add("table", table, &[NodeId::INPUT]).unwrap();
                let decoder = Decoder::builder(form, 4).relations(2).build().unwrap();
                let out = builder.add("decoder", decoder, &[table]).unwrap();
                let model = builder.build(out, 1).unwrap();
                let batch = task.batches(Part::Train, 0).unwrap().epoch(1).next().unwrap().unwrap();
                for power in [2, 3] {
                    let penalty = Penalty::new(0.7, power).unwrap();
                    let mut grads = Grads::new(0);
                    let value = penalty.add(&model, &batch, &mut grads);
                    assert!(value > 0.0);
                    let of = |model: &Model<f64>| penalty.add(model, &batch, &mut Grads::new(0));
                    let mut checked = 0;
                    model.visit(&mut |name, param| {
                        for at in [(0, 0), (1, 3)] {
                            let moved = |h: f64| {
                                let mut moved = model.clone();
                                moved.visit_mut(&mut |other| {
                                    if other.id() == param.id() {
                                        other.value_mut()[at] += h;
                                    }
                                });
                                of(&moved)
                            };
                            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                            let found = grads.get(param.id()).unwrap()[at];
                            assert!(
                                (slope - found).abs() < 1e-8,
                                "{name} {at:?}: {slope}, {found}"
                            );
                            checked += 1;
                        }
                    });
                    assert_eq!(checked, 4);
                }
            }
        }
        assert!(Penalty::new(-1.0, 2).is_err() && Penalty::new(1.0, 4).is_err());
    }
}
