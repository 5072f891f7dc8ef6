//! Scores of rows that are codes or signs: a query's products with all words, once, and a sum of
//! them for each row; or how many signs differ, where each part of a query has one magnitude.

use super::codes::CodeTable;
use super::signs::SignTable;
use crate::kernels::{
    self, Isa, LOOKUP_LANES, LOOKUP_MOST, LookupTables, SignQuery, SignRows, sign_scores,
};
use ndarray::ArrayView2;
use std::ops::Range;

/// A query's products with the words of each part, in steps of one size from the least product of
/// the part: `q·w_mk ≈ base_m + step · t_mk`, with `t` from 0 to 127.
pub(super) struct LookedUp {
    numbers: LookupTables,
    step: f32,
    /// The sum over all parts.
    base: f32,
}

impl LookedUp {
    /// Queries `q: [n, c]`, one after the other.
    pub(super) fn all(q: ArrayView2<f32>, table: &CodeTable) -> Vec<Self> {
        let products = table.products(q);
        let products: Vec<&[f32]> =
            products.iter().map(|of| of.as_slice().expect("a new array is contiguous")).collect();
        let count = table.words().shape().0;
        let work = products.iter().map(|of| of.len()).sum();
        kernels::run((0..q.nrows()).collect(), work, |i: usize| {
            let own: Vec<&[f32]> = products.iter().map(|of| &of[i * count..][..count]).collect();
            Self::new(&own, table.is_of_halves())
        })
    }

    /// Of the products with the words of each part.
    fn new(products: &[&[f32]], halves: bool) -> Self {
        let (mut widest, mut base) = (0.0f32, 0.0f64);
        let mut least = Vec::with_capacity(products.len());
        for products in products {
            let low = products.iter().fold(f32::INFINITY, |low, &p| if p < low { p } else { low });
            let high =
                products.iter().fold(f32::NEG_INFINITY, |high, &p| if p > high { p } else { high });
            widest = widest.max(high - low);
            base += f64::from(low);
            least.push(low);
        }
        // What is not a number stays none.
        if !base.is_finite() {
            base = f64::NAN;
        }
        let most = f32::from(LOOKUP_MOST);
        let (step, steps) = match widest > 0.0 {
            true => (widest / most, most / widest),
            false => (1.0, 0.0),
        };
        let write = |m: usize, to: &mut [u8]| {
            for (to, &product) in to.iter_mut().zip(products[m]) {
                // Halves are rounded up; the largest is 127.5 at most, and what passes a byte ends
                // at it.
                *to = (((product - least[m]) * steps + 0.5) as u8).min(LOOKUP_MOST);
            }
        };
        let numbers = if halves {
            let table = |at: usize| {
                let mut numbers = [[0; 16]; 2];
                numbers.iter_mut().enumerate().for_each(|(k, to)| write(2 * at + k, to));
                numbers
            };
            LookupTables::halves((0..products.len() / 2).map(table).collect())
        } else {
            let table = |m: usize| {
                let mut numbers = [0; 256];
                write(m, &mut numbers);
                numbers
            };
            LookupTables::bytes((0..products.len()).map(table).collect())
        };
        Self { numbers, step, base: base as f32 }
    }

    /// Writes the scores of the rows in `range`.
    pub(super) fn score(&self, isa: Isa, table: &CodeTable, range: Range<usize>, y: &mut [f32]) {
        let first = range.start / LOOKUP_LANES;
        let codes = &table.blocks()[first * table.row_bytes()..];
        let (skip, scale) = (range.start % LOOKUP_LANES, (self.base, self.step));
        kernels::code_scores(isa, codes, &self.numbers, skip, scale, None, y);
    }
}

/// A query as a table of signs is compared with it.
pub(super) enum OfSigns {
    /// One magnitude in each part, with signs of its own.
    Bits(SignQuery),
    /// The sums of each part under all signs of eight columns.
    Sums(Vec<LookedUp>),
}

impl OfSigns {
    /// Row `i` of the table itself.
    pub(super) fn row(i: usize, table: &SignTable) -> Self {
        let parts = 0..table.parts();
        let scales = parts.clone().map(|p| table.scales(p)[i]).collect();
        Self::Bits(SignQuery::new(parts.flat_map(|p| table.bits(i, p)), scales))
    }

    /// Any query.
    pub(super) fn new(q: &[f32], table: &SignTable) -> Self {
        let parts = || (0..table.parts()).map(|p| &q[table.span(p)]);
        if parts().all(|part| part.iter().all(|q| q.abs() == part[0].abs())) {
            let bits = |q: &[f32]| {
                q.iter().enumerate().fold(0, |bits, (k, &q)| bits | u8::from(q < 0.0) << k)
            };
            let scales = parts().map(|part| part[0].abs()).collect();
            return Self::Bits(SignQuery::new(parts().flat_map(|q| q.chunks(8).map(bits)), scales));
        }
        let sums = |q: &[f32]| {
            let sums: Vec<Vec<f32>> = q.chunks(8).map(sums_of_signs).collect();
            LookedUp::new(&sums.iter().map(Vec::as_slice).collect::<Vec<_>>(), false)
        };
        Self::Sums(parts().map(sums).collect())
    }

    /// Writes the scores that `y` has for each of some queries, of the rows from `first` on.
    pub(super) fn score(
        queries: &[Self],
        isa: Isa,
        table: &SignTable,
        first: usize,
        y: Vec<&mut [f32]>,
    ) {
        let range = first..first + y.first().map_or(0, |y| y.len());
        let skip = first % LOOKUP_LANES;
        let of_part = |p: usize| SignRows {
            codes: &table.blocks(p)[first / LOOKUP_LANES * table.part_bytes()..],
            scales: &table.scales(p)[range.clone()],
        };
        let rows: Vec<SignRows> = (0..table.parts()).map(of_part).collect();
        let (mut signs, mut to) = (Vec::new(), Vec::new());
        for (query, y) in queries.iter().zip(y) {
            match query {
                Self::Bits(query) => {
                    signs.push(query);
                    to.push(y);
                }
                Self::Sums(parts) => by_sums(parts, isa, &rows, skip, y),
            }
        }
        sign_scores(isa, &rows, table.span(0).len(), &signs, skip, &mut to);
    }
}

/// Writes the scores of rows in parts, with what each part is looked up in.
fn by_sums(parts: &[LookedUp], isa: Isa, rows: &[SignRows], skip: usize, y: &mut [f32]) {
    let mut own = Vec::new();
    for (p, (part, rows)) in parts.iter().zip(rows).enumerate() {
        own.resize(if p == 0 { 0 } else { y.len() }, 0.0);
        let to = if p == 0 { &mut *y } else { &mut own };
        let (scale, scales) = ((part.base, part.step), Some(rows.scales));
        kernels::code_scores(isa, rows.codes, &part.numbers, skip, scale, scales, to);
        y.iter_mut().zip(&own).for_each(|(y, own)| *y += own);
    }
}

/// `Σ_k ±q_k` for each byte of signs, whose bit `k` makes the sign of `q_k` negative.
fn sums_of_signs(q: &[f32]) -> Vec<f32> {
    let mut sums = vec![q.iter().sum::<f32>(); 256];
    for byte in 1..256usize {
        let lowest = byte.trailing_zeros() as usize;
        let twice = q.get(lowest).map_or(0.0, |q| 2.0 * q);
        sums[byte] = sums[byte & (byte - 1)] - twice;
    }
    sums
}
