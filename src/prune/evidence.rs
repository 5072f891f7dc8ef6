//! What the readers of all groups see: gathered once per model, made smaller as units go.

use super::group::ReaderView;
use super::labels::ChannelLabels;
use crate::data::Dataset;
use crate::error::Result;
use crate::nn::Model;
use crate::reconstruct::{Calibrate, Cholesky, Reader, readers};
use crate::scalar::Scalar;
use ndarray::{Array2, Axis};

/// The readers of prunable channels.
#[derive(Default)]
pub(super) struct Evidence {
    readers: Vec<Known>,
}

/// One reader, and which of its rows are left.
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

impl Evidence {
    /// Runs `model` on `data` and keeps what every reader of a prunable channel sees.
    pub(super) fn gather<F: Scalar>(
        model: &Model<F>,
        data: &Dataset<F>,
        labels: &ChannelLabels,
        calibrate: Calibrate,
    ) -> Result<Self> {
        let prunable = |units: Vec<usize>| units.into_iter().any(|unit| !labels.is_fixed(unit));
        let found = readers(model, data, calibrate, &|node, map| {
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
    pub(super) fn readers(&self, units: &[usize]) -> Vec<ReaderView> {
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
        let Reader { node, name, mut gram, ridge, weight, terms, energy } = reader;
        gram.diag_mut().mapv_inplace(|v| v + ridge);
        let units = |axis, len| match labels.along(model, node, axis, len) {
            Some(units) => units.into_iter().map(Some).collect(),
            None => vec![None; len],
        };
        let rows: Vec<Option<usize>> =
            terms.iter().flat_map(|&([rows, _], len)| units(rows, len)).collect();
        let columns = units(terms[0].0[1], weight.ncols());
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
    use crate::Gcn;

    #[test]
    fn a_reader_of_several_groups_has_no_rows_of_units_that_went() {
        let data = Dataset::sbm(200, 3).features(6).seed(1).build().unwrap();
        let model = Gcn::builder(6, 3).hidden(4).layers(2).jumping_concat().build(0).unwrap();
        let labels = ChannelLabels::of(&model);
        let [first, second] = labels.groups() else { panic!("two layers are two groups") };
        let mut evidence = Evidence::gather(&model, &data, &labels, Calibrate::All).unwrap();
        let sizes = |evidence: &Evidence| -> Vec<usize> {
            let mut sizes: Vec<usize> =
                evidence.readers(&second.units).iter().map(|reader| reader.gram.nrows()).collect();
            sizes.sort_unstable();
            sizes
        };
        assert_eq!(sizes(&evidence), [8], "the last layer reads both");
        evidence.without(&first.units[1..3]);
        assert_eq!(sizes(&evidence), [6]);
        let reader = &evidence.readers(&second.units)[0];
        assert_eq!((reader.weight.nrows(), reader.unit_of.len()), (6, 6));
    }
}
