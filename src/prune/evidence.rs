//! What criteria look at beside the weights: gathered once per plan, for whichever pruner asks.

use super::channel::{ChannelLabels, ReaderView};
use super::criterion::Needs;
use super::units::MatrixReader;
use crate::error::Result;
use crate::nn::{Cx, Grads, Model, NodeId, Param, ParamId, Trace};
use crate::reconstruct::{Calibrate, Cholesky, Reader, readers};
use crate::scalar::Scalar;
use crate::task::{Batch, Part, Task};
use crate::value::ValueRef;
use ndarray::{Array2, Axis};

/// What a criterion needs of one model on one task.
pub(super) struct Evidence<'x, F: Scalar> {
    gradients: Option<Grads<F>>,
    fisher: Option<Grads<F>>,
    activations: Option<Trace<'x, F>>,
    /// Of channels.
    pub readers: Readers,
    /// Of weights: every map, with the matrices that it is made of.
    maps: Vec<Reader>,
}

impl<F: Scalar> Default for Evidence<'_, F> {
    fn default() -> Self {
        Self {
            gradients: None,
            fisher: None,
            activations: None,
            readers: Readers::default(),
            maps: Vec::new(),
        }
    }
}

impl<'x, F: Scalar> Evidence<'x, F> {
    /// Of channels that are labelled so; `whole` is all of the task.
    pub(super) fn of_channels(
        model: &Model<F>,
        task: &dyn Task<F>,
        whole: &'x Batch<F>,
        needs: Needs,
        labels: &ChannelLabels,
        calibrate: Calibrate,
    ) -> Result<Self> {
        let mut evidence = Self::of_params(model, task, needs)?;
        if needs.contains(Needs::ACTIVATIONS) {
            let all: Vec<NodeId> = (1..=model.nodes().len()).map(NodeId).collect();
            let cx = whole.on(&Cx::without_graph());
            let trace = model.trace_keeping(&cx, whole.features(), &all)?;
            evidence.activations = Some(trace);
        }
        if needs.contains(Needs::READERS) {
            evidence.readers = Readers::gather(model, task, labels, calibrate)?;
        }
        Ok(evidence)
    }

    /// Of weights.
    pub(super) fn of_weights(
        model: &Model<F>,
        task: &dyn Task<F>,
        needs: Needs,
        calibrate: Calibrate,
    ) -> Result<Self> {
        let mut evidence = Self::of_params(model, task, needs)?;
        if needs.contains(Needs::READERS) {
            evidence.maps = readers(model, task, calibrate, &|_, _| true)?;
            for Reader { gram, ridge, .. } in &mut evidence.maps {
                gram.diag_mut().mapv_inplace(|v| v + *ridge);
            }
        }
        Ok(evidence)
    }

    fn of_params(model: &Model<F>, task: &dyn Task<F>, needs: Needs) -> Result<Self> {
        let mut evidence = Self::default();
        if needs.contains(Needs::GRADIENTS) || needs.contains(Needs::FISHER) {
            task.check(model)?;
            let batches = task.batches(Part::Train, model.seed())?;
            let batches = batches.epoch(0).collect::<Result<Vec<_>>>()?;
            if needs.contains(Needs::GRADIENTS) {
                evidence.gradients = Some(gradients(model, task, &batches)?);
            }
            if needs.contains(Needs::FISHER) {
                evidence.fisher = Some(fisher(model, task, &batches)?);
            }
        }
        Ok(evidence)
    }

    pub(super) fn gradient(&self, param: &Param<F>) -> Option<&Array2<F>> {
        self.gradients.as_ref().and_then(|grads| grads.get(param.id()))
    }

    pub(super) fn fisher(&self, param: &Param<F>) -> Option<&Array2<F>> {
        self.fisher.as_ref().and_then(|fisher| fisher.get(param.id()))
    }

    /// The value of a node, where activations were asked for.
    pub(super) fn value(&self, id: NodeId) -> Option<ValueRef<'_, F>> {
        self.activations.as_ref().and_then(|trace| trace.value(id))
    }

    /// The maps that a weight matrix is part of.
    pub(super) fn maps_of(&self, param: ParamId) -> Vec<MatrixReader<'_>> {
        let mut found = Vec::new();
        for Reader { gram, support, energy, terms, .. } in &self.maps {
            let mut first = 0;
            for &(id, _, rows) in terms {
                if id == Some(param) {
                    let (support, rows) = (support.as_ref(), first..first + rows);
                    found.push(MatrixReader { gram, support, rows, energy: *energy });
                }
                first += rows;
            }
        }
        found
    }
}

/// Gradients of the loss, in evaluation mode: the mean over batches.
fn gradients<F: Scalar>(
    model: &Model<F>,
    task: &dyn Task<F>,
    batches: &[Batch<F>],
) -> Result<Grads<F>> {
    let mut mean = Grads::new(0);
    let share = F::of(1.0 / batches.len() as f64);
    for batch in batches {
        mean.add_scaled(&of_batch(model, task, batch)?, share);
    }
    Ok(mean)
}

fn of_batch<F: Scalar>(model: &Model<F>, task: &dyn Task<F>, batch: &Batch<F>) -> Result<Grads<F>> {
    let cx = batch.on(&Cx::without_graph());
    let trace = model.trace(&cx, batch.features())?;
    let (_, gradient) = task.loss(trace.output(), batch)?;
    model.backward(&cx, trace, vec![(model.output(), gradient)])
}

/// `1/|T| Σ_{i∈T} (∂L_i/∂w)²`, each `L_i` the loss of one example.
fn fisher<F: Scalar>(
    model: &Model<F>,
    task: &dyn Task<F>,
    batches: &[Batch<F>],
) -> Result<Grads<F>> {
    let mut fisher = Grads::new(0);
    let examples: usize = batches.iter().map(|batch| batch.rows().len()).sum();
    let share = F::of(1.0 / examples as f64);
    for batch in batches {
        for &row in batch.rows() {
            let own = of_batch(model, task, &batch.clone().with_rows([row]))?;
            model.visit(&mut |_, param| {
                if let Some(gradient) = own.get(param.id()) {
                    fisher.add(param, gradient.mapv(|g| g * g * share));
                }
            });
        }
    }
    Ok(fisher)
}

/// The readers of prunable channels.
#[derive(Clone, Default)]
pub(super) struct Readers {
    readers: Vec<Known>,
}

/// One reader, and which of its rows are left.
#[derive(Clone)]
struct Known {
    name: String,
    /// `GᵀG + λI` and its product with the weights, over all rows.
    gram: Array2<f64>,
    target: Array2<f64>,
    weight: Array2<f64>,
    energy: f64,
    /// Unit of each row and column; `None` where an axis carries no channels.
    rows: Vec<Option<usize>>,
    columns: Vec<Option<usize>>,
    alive: Vec<bool>,
}

impl Readers {
    /// Runs `model` on all of `task` and keeps what every reader of a prunable channel sees.
    fn gather<F: Scalar>(
        model: &Model<F>,
        task: &dyn Task<F>,
        labels: &ChannelLabels,
        calibrate: Calibrate,
    ) -> Result<Self> {
        let prunable = |units: Vec<usize>| units.into_iter().any(|unit| !labels.is_fixed(unit));
        let found = readers(model, task, calibrate, &|node, map| {
            map.terms().iter().any(|term| {
                let weight = term.weight();
                labels
                    .along(model, node, weight.axes()[0], weight.value().nrows())
                    .is_some_and(prunable)
            })
        })?;
        Ok(Self {
            readers: found.into_iter().map(|reader| Known::of(model, labels, reader)).collect(),
        })
    }

    /// The readers that see any of these units, the units numbered by their place.
    pub(super) fn of(&self, units: &[usize]) -> Vec<ReaderView> {
        let place = |unit: &Option<usize>| unit.and_then(|unit| units.binary_search(&unit).ok());
        let view = |known: &Known| {
            let rows: Vec<usize> = (0..known.rows.len()).filter(|&row| known.alive[row]).collect();
            let unit_of: Vec<Option<usize>> =
                rows.iter().map(|&row| place(&known.rows[row])).collect();
            let reads = unit_of.iter().any(Option::is_some);
            reads.then(|| ReaderView {
                name: known.name.clone(),
                gram: known.gram.select(Axis(0), &rows).select(Axis(1), &rows),
                weight: known.best(&rows),
                energy: known.energy,
                unit_of,
                column_unit: known.columns.iter().map(place).collect(),
            })
        };
        self.readers.iter().filter_map(view).collect()
    }

    /// The same after these units went: a reader of several groups has fewer rows for the next one.
    pub(super) fn without(&mut self, gone: &[usize]) {
        for known in &mut self.readers {
            for (unit, alive) in known.rows.iter().zip(&mut known.alive) {
                *alive &= !unit.is_some_and(|unit| gone.contains(&unit));
            }
            for (c, unit) in known.columns.iter().enumerate() {
                if unit.is_some_and(|unit| gone.contains(&unit)) {
                    known.target.column_mut(c).fill(0.0);
                    known.weight.column_mut(c).fill(0.0);
                }
            }
        }
    }
}

impl Known {
    fn of<F: Scalar>(model: &Model<F>, labels: &ChannelLabels, reader: Reader) -> Self {
        let Reader { node, name, mut gram, ridge, weight, terms, energy, .. } = reader;
        gram.diag_mut().mapv_inplace(|v| v + ridge);
        let units = |axis, len| match labels.along(model, node, axis, len) {
            Some(units) => units.into_iter().map(Some).collect(),
            None => vec![None; len],
        };
        let rows: Vec<Option<usize>> =
            terms.iter().flat_map(|&(_, [rows, _], len)| units(rows, len)).collect();
        let columns = units(terms[0].1[1], weight.ncols());
        let alive = vec![true; rows.len()];
        Self { name, target: gram.dot(&weight), gram, weight, energy, rows, columns, alive }
    }

    /// The best weights on some rows.
    fn best(&self, rows: &[usize]) -> Array2<f64> {
        if rows.len() == self.rows.len() {
            return self.weight.clone();
        }
        let factor = Cholesky::of(self.gram.select(Axis(0), rows).select(Axis(1), rows));
        let mut best =
            self.target.select(Axis(0), rows).reversed_axes().as_standard_layout().into_owned();
        best.rows_mut()
            .into_iter()
            .for_each(|mut row| factor.solve(row.as_slice_mut().expect("in standard layout")));
        best.reversed_axes().as_standard_layout().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, Gcn};

    #[test]
    fn a_reader_of_several_groups_has_no_rows_of_units_that_went() {
        let data = Dataset::sbm(200, 3).features(6).seed(1).build().unwrap();
        let model = Gcn::builder(6, 3)
            .hidden(4)
            .layers(2)
            .jumping(crate::models::Jumping::Concat)
            .build(0)
            .unwrap();
        let labels = ChannelLabels::of(&model);
        let [first, second] = labels.groups() else { panic!("two layers are two groups") };
        let mut evidence = Readers::gather(&model, &data, &labels, Calibrate::All).unwrap();
        let sizes = |evidence: &Readers| -> Vec<usize> {
            let mut sizes: Vec<usize> =
                evidence.of(&second.units).iter().map(|reader| reader.gram.nrows()).collect();
            sizes.sort_unstable();
            sizes
        };
        assert_eq!(sizes(&evidence), [8], "the last layer reads both");
        evidence.without(&first.units[1..3]);
        assert_eq!(sizes(&evidence), [6]);
        let reader = &evidence.of(&second.units)[0];
        assert_eq!((reader.weight.nrows(), reader.unit_of.len()), (6, 6));
    }
}
