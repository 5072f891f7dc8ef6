//! Scores of all candidates in a range, by the rows of a table: some queries and some candidates at
//! a time, so that the table is read as it is stored and never unpacked as a whole.

use super::codes::CodeTable;
use super::look_up::{LookedUp, OfSigns};
use super::rows::TableRows;
use super::signs::SignTable;
use super::stored::StoredTable;
use super::table::QuantTable;
use crate::kernels::{self, Activate, Finish, Isa, Out, PackedInt8};
use crate::nn::decode::Match;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};
use std::ops::Range;

/// Queries that are compared at once: a row of the table is unpacked once for all of them.
const QUERIES: usize = 128;

/// Candidates of a job, and those that are unpacked at once. Constants, so that no number depends
/// on the number of threads.
const CANDIDATES: usize = 1024;
const BLOCK: usize = 128;

/// Some queries, as what is compared with candidates.
enum Asked<'a> {
    /// Each in 8 bits with a scale of its own, `[d, queries]`, and what every candidate's score has
    /// added where the table has offsets.
    Ints(Box<PackedInt8>, Vec<f32>, Option<Vec<f32>>),
    /// Each as what the codes of every candidate are looked up in.
    LookedUp(Vec<LookedUp>),
    OfSigns(Vec<OfSigns>),
    Floats(ArrayView2<'a, f32>),
}

/// Some queries and some candidates, and where each query's scores of these go.
struct Job<'a, 'q> {
    asked: &'a Asked<'q>,
    first: usize,
    out: Vec<&'a mut [f32]>,
}

/// Writes the scores `y: [queries, candidates]` of `q: [queries, d]` and rows `range` of a batch:
/// on the integer kernels of a level, or without one on floats.
///
/// On integers and by look-ups the rows of the batch are those of the table. On integers
/// `y_jk = (s_j·s_k) · Σ_c q_jc·t_kc`, where `q_j` is the query in 8 bits, and the product of the
/// query in floats with the table's offsets.
pub(super) fn score_range(
    q: ArrayView2<f32>,
    rows: &TableRows,
    range: Range<u32>,
    how: Match,
    isa: Option<Isa>,
    y: &mut [f32],
) {
    let asked: Vec<Asked> = q
        .axis_chunks_iter(Axis(0), QUERIES)
        .map(|q| match (&rows.table, isa) {
            (_, None) => Asked::Floats(q),
            (StoredTable::Ints(table), _) => quantised(q, table),
            (StoredTable::Codes(table), _) => Asked::LookedUp(LookedUp::all(q, table)),
            (StoredTable::Signs(table), _) => of_signs(q, table),
        })
        .collect();
    score_asked(&asked, rows, range, (how, isa), y);
}

/// As [`score_range`] on the kernels of a level, where the queries are rows of the table themselves
/// and the table is one of signs: none is unpacked.
pub(super) fn score_rows(
    queries: &[usize],
    (rows, table): (&TableRows, &SignTable),
    range: Range<u32>,
    isa: Isa,
    y: &mut [f32],
) {
    let of_rows = |rows: &[usize]| rows.iter().map(|&i| OfSigns::row(i, table)).collect();
    let asked: Vec<Asked> =
        queries.chunks(QUERIES).map(|rows| Asked::OfSigns(of_rows(rows))).collect();
    score_asked(&asked, rows, range, (Match::Dot, Some(isa)), y);
}

fn score_asked(
    asked: &[Asked],
    rows: &TableRows,
    range: Range<u32>,
    (how, isa): (Match, Option<Isa>),
    y: &mut [f32],
) {
    let (count, work) = (range.len(), y.len() * rows.width());
    let mut jobs = Vec::new();
    for (asked, y) in asked.iter().zip(y.chunks_mut((QUERIES * count).max(1))) {
        let mut parts: Vec<Vec<&mut [f32]>> =
            (0..count.div_ceil(CANDIDATES)).map(|_| Vec::new()).collect();
        for y in y.chunks_exact_mut(count) {
            parts.iter_mut().zip(y.chunks_mut(CANDIDATES)).for_each(|(part, y)| part.push(y));
        }
        let first = |part: usize| range.start as usize + part * CANDIDATES;
        jobs.extend(parts.into_iter().enumerate().map(|(part, out)| Job {
            asked,
            first: first(part),
            out,
        }));
    }
    kernels::run(jobs, work, |job| match (job.asked, isa, &rows.table) {
        (Asked::Ints(q, scales, added), Some(isa), StoredTable::Ints(table)) => {
            job.on_integers(q, scales, added.as_deref(), (rows, table), isa);
        }
        (Asked::LookedUp(queries), Some(isa), StoredTable::Codes(table)) => {
            job.by_look_up(queries, table, isa);
        }
        (Asked::OfSigns(queries), Some(isa), StoredTable::Signs(table)) => {
            OfSigns::score(queries, isa, table, job.first, job.out);
        }
        (Asked::Floats(q), ..) => job.on_floats(*q, rows, how),
        _ => unreachable!("what was asked with a level of kernels, and for this table"),
    });
}

fn of_signs<'a>(q: ArrayView2<f32>, table: &SignTable) -> Asked<'a> {
    let values = q.as_slice().expect("rows of a new array");
    let rows: Vec<&[f32]> = values.chunks_exact(table.shape().1).collect();
    let work = 64 * q.len();
    Asked::OfSigns(kernels::run(rows, work, |q: &[f32]| OfSigns::new(q, table)))
}

fn quantised<'a>(q: ArrayView2<'a, f32>, table: &QuantTable) -> Asked<'a> {
    let (count, width) = q.dim();
    let values = q.as_slice().expect("rows of a new array");
    let starts: Vec<usize> = (0..=count).map(|i| i * width).collect();
    let (mut ints, mut scales) = (vec![0; count * width], vec![0.0; count]);
    kernels::quantize_rows(&starts, values, i8::MAX, &mut ints, &mut scales);
    let mut columns = vec![0; count * width];
    for (j, q) in ints.chunks_exact(width.max(1)).enumerate() {
        q.iter().enumerate().for_each(|(c, &q)| columns[c * count + j] = q);
    }
    let added = table.offsets().map(|offsets| {
        let terms = |q: &[f32]| -> f64 {
            q.iter().zip(offsets).map(|(&q, &offset)| f64::from(q) * f64::from(offset)).sum()
        };
        values.chunks_exact(offsets.len()).map(|q| terms(q) as f32).collect()
    });
    Asked::Ints(Box::new(PackedInt8::new(&columns, width, count)), scales, added)
}

impl Job<'_, '_> {
    /// Where each block of its candidates begins, and how many there are.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let count = self.out.first().map_or(0, |out| out.len());
        (0..count).step_by(BLOCK).map(move |start| (start, BLOCK.min(count - start)))
    }

    fn on_integers(
        mut self,
        q: &PackedInt8,
        cols: &[f32],
        added: Option<&[f32]>,
        (rows, table): (&TableRows, &QuantTable),
        isa: Isa,
    ) {
        let (width, queries) = (rows.width(), self.out.len());
        let mut ints = vec![0i8; BLOCK * width];
        let (mut scales, mut scores) = (vec![0.0; BLOCK], vec![0.0; BLOCK * queries]);
        for (start, count) in self.blocks() {
            for (k, scale) in scales[..count].iter_mut().enumerate() {
                let place = rows.place(self.first + start + k);
                table.unpack(place, &mut ints[k * width..][..width]);
                *scale = table.scales()[place];
            }
            let (x, scores) = (&ints[..count * width], &mut scores[..count * queries]);
            let finish = Finish {
                rows: Some(&scales[..count]),
                cols,
                bias: added,
                activate: Activate::Identity,
            };
            kernels::matmul_int8_with(isa, x, q, finish, Out::Real(scores));
            // Candidates lie one below the other here, and beside each other where they go: a query
            // at a time, since its scores are far from those of the others.
            for (j, out) in self.out.iter_mut().enumerate() {
                for (k, out) in out[start..start + count].iter_mut().enumerate() {
                    *out = scores[k * queries + j];
                }
            }
        }
    }

    fn by_look_up(self, queries: &[LookedUp], table: &CodeTable, isa: Isa) {
        for (query, out) in queries.iter().zip(self.out) {
            let range = self.first..self.first + out.len();
            query.score(isa, table, range, out);
        }
    }

    fn on_floats(mut self, q: ArrayView2<f32>, rows: &TableRows, how: Match) {
        let (width, queries) = (rows.width(), self.out.len());
        let mut floats = vec![0.0; BLOCK * width];
        let mut scores = vec![0.0; BLOCK * queries];
        for (start, count) in self.blocks() {
            for (k, to) in floats.chunks_exact_mut(width).take(count).enumerate() {
                rows.write(self.first + start + k, to);
            }
            let floats = &floats[..count * width];
            if how == Match::Dot {
                let t = ArrayView2::from_shape((count, width), floats).expect("whole rows");
                let scores = &mut scores[..count * queries];
                let y = ArrayViewMut2::from_shape((queries, count), &mut *scores);
                kernels::matmul_nt(q, t, y.expect("whole rows"));
                for (out, scores) in self.out.iter_mut().zip(scores.chunks_exact(count)) {
                    out[start..start + count].copy_from_slice(scores);
                }
                continue;
            }
            for (out, q) in self.out.iter_mut().zip(q.rows()) {
                let q = q.as_slice().expect("rows of a new array");
                for (out, t) in out[start..].iter_mut().zip(floats.chunks_exact(width)) {
                    *out = how.of(q, t);
                }
            }
        }
    }
}
