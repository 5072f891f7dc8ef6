//! What stages on rows compute.

use super::decoder::QuantDecoder;
use super::rows::TableRows;
use super::score::{score_range, score_rows};
use super::stored::StoredTable;
use crate::kernels::{self, Isa};
use crate::nn::decode::scores;
use crate::nn::dense::length;
use crate::nn::{Candidates, Form as DecoderForm, Queries};
use crate::program::Form;
use crate::value::ValueRef;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use std::sync::Arc;

/// The scores of a batch's pairs.
#[derive(Debug, Clone)]
pub(in crate::quant) struct Scoring {
    pub(in crate::quant) decoder: QuantDecoder,
    pub(in crate::quant) asked: Queries,
    /// The rows that it compares, where they are those of a table and nothing in between.
    pub(in crate::quant) table: Option<TableRows>,
    pub(in crate::quant) form: Form,
}

/// An operation on rows. What it writes are floats.
#[derive(Debug, Clone)]
pub(in crate::quant) enum RowOp {
    /// Rows of a table.
    Table(TableRows),
    /// Rows of length 1.
    Normalize,
    /// Scores of pairs.
    Scores(Arc<Scoring>),
}

impl RowOp {
    pub(in crate::quant) fn name(&self) -> &'static str {
        match self {
            RowOp::Table(_) => "embedding",
            RowOp::Normalize => "normalize",
            RowOp::Scores(_) => "decoder",
        }
    }

    pub(in crate::quant) fn form(&self) -> Form {
        match self {
            RowOp::Scores(scoring) => scoring.form,
            _ => Form::Floats,
        }
    }

    /// Whether it reads the value before it, and not a table of its own.
    pub(in crate::quant) fn reads(&self) -> bool {
        match self {
            RowOp::Table(_) => false,
            RowOp::Normalize => true,
            RowOp::Scores(scoring) => scoring.table.is_none(),
        }
    }

    /// Multiply-accumulates of one run; `width` is that of what it reads.
    pub(in crate::quant) fn macs(&self, width: usize) -> usize {
        match self {
            RowOp::Scores(scoring) => scoring.macs(width),
            _ => 0,
        }
    }

    /// Writes its value; `x` is the one that it reads, if it does.
    pub(in crate::quant) fn run(&self, isa: Isa, x: Option<ValueRef<f32>>, y: ArrayViewMut2<f32>) {
        match (self, x) {
            (RowOp::Table(rows), _) => {
                let mut y = y;
                kernels::map_rows(y.view_mut(), |i, to| rows.write(i, to));
            }
            (RowOp::Normalize, Some(x)) => x.with_dense(|x| normalize(x, y)),
            (RowOp::Scores(scoring), None) => scoring.of_table(isa, y),
            (RowOp::Scores(scoring), Some(x)) => x.with_dense(|x| scoring.of_rows(x, y)),
            (RowOp::Normalize, None) => unreachable!("it reads a value"),
        }
    }
}

fn normalize(x: ArrayView2<f32>, mut y: ArrayViewMut2<f32>) {
    kernels::copy_rows(x, y.view_mut());
    kernels::map_rows(y, |_, row| {
        let length = length(row);
        row.iter_mut().for_each(|y| *y /= length);
    });
}

impl Scoring {
    /// A query's own row, and a comparison for each candidate; by look-ups its products with all
    /// words, and a sum for each candidate that has as many terms as a row has codes, or bytes of
    /// signs.
    fn macs(&self, width: usize) -> usize {
        let (queries, pairs) = (self.asked.queries().len(), self.asked.num_pairs());
        let width = self.table.as_ref().map_or(width, TableRows::width);
        match self.table.as_ref().map(|rows| &rows.table) {
            Some(StoredTable::Codes(table)) if self.form == Form::Integers => {
                queries * (width + width * table.words().shape().0) + pairs * table.spaces()
            }
            Some(StoredTable::Signs(table)) if self.form == Form::Integers => {
                queries * width + pairs * table.parts() * table.part_bytes()
            }
            _ => (queries + pairs) * width,
        }
    }

    /// The rows of the queries, `[queries, d]`, of what `node` writes.
    fn queries(&self, width: usize, node: impl Fn(usize, &mut [f32]) + Sync) -> Array2<f32> {
        let asked = self.asked.queries();
        let mut q = Array2::zeros((asked.len(), width));
        kernels::map_rows(q.view_mut(), |i, q| {
            let query = &asked[i];
            let mut h = vec![0.0; width];
            node(query.node as usize, &mut h);
            let mut r = Vec::new();
            if let Some(table) = &self.decoder.relations {
                r.resize(width, 0.0);
                table.write(query.relation as usize, &mut r);
            }
            self.decoder.form.compose(&h, &r, query.inverse, q);
        });
        q
    }

    /// By rows of floats: as the decoder of floats does.
    fn of_rows(&self, x: ArrayView2<f32>, y: ArrayViewMut2<f32>) {
        let x = x.as_standard_layout();
        let row = |i: usize| &x.as_slice().expect("standard layout")[i * x.ncols()..][..x.ncols()];
        let q = self.queries(x.ncols(), |i, to| to.copy_from_slice(row(i)));
        scores(self.decoder.form.compares_by(), q.view(), x.view(), &self.asked, y);
    }

    /// By the rows of the table, a block of them at a time.
    fn of_table(&self, isa: Isa, mut y: ArrayViewMut2<f32>) {
        let rows = self.table.as_ref().expect("it has one where it reads nothing");
        if let (
            StoredTable::Signs(table),
            DecoderForm::Dot,
            Form::Integers,
            Candidates::Range(range),
        ) = (&rows.table, self.decoder.form, self.form, self.asked.candidates())
        {
            let asked = self.asked.queries().iter().map(|query| rows.place(query.node as usize));
            let y = y.as_slice_mut().expect("buffers are in standard layout");
            let queries: Vec<usize> = asked.collect();
            return score_rows(&queries, (rows, table), range.clone(), isa, y);
        }
        let q = self.queries(rows.width(), |i, to| rows.write(i, to));
        let how = self.decoder.form.compares_by();
        match self.asked.candidates() {
            Candidates::Range(range) => {
                let isa = (self.form == Form::Integers).then_some(isa);
                let y = y.as_slice_mut().expect("buffers are in standard layout");
                score_range(q.view(), rows, range.clone(), how, isa, y);
            }
            candidates => {
                let count = self.asked.count();
                let y = y.into_shape_with_order((q.nrows(), count)).expect("one score per pair");
                kernels::map_rows(y, |i, y| {
                    let q = q.row(i);
                    let q = q.as_slice().expect("a new array is contiguous");
                    let mut t = vec![0.0; q.len()];
                    for (k, y) in y.iter_mut().enumerate() {
                        rows.write(candidates.of(i, k) as usize, &mut t);
                        *y = how.of(q, &t);
                    }
                });
            }
        }
    }
}
