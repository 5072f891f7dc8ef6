//! Scores of rows that are codes or signs: a query's products with all words, once, and a sum of
//! them for each row; or how many signs differ, where a query has two values alone.

use super::codes::CodeTable;
use super::signs::SignTable;
use crate::kernels::{self, CodeQuery, Isa, LOOKUP_LANES, LOOKUP_MOST, LookupTables};
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
        let query = CodeQuery::Tables(&self.numbers);
        kernels::code_scores(isa, codes, query, skip, scale, None, y);
    }
}

/// A query as one part of a table of signs is compared with it.
pub(super) enum OfSigns {
    /// One magnitude with signs of its own.
    Bits(Vec<u8>, f32),
    /// Its sums under all signs of eight columns.
    Sums(LookedUp),
}

impl OfSigns {
    /// The parts of a query.
    pub(super) fn all(q: &[f32], table: &SignTable) -> Vec<Self> {
        (0..table.parts()).map(|p| Self::new(&q[table.span(p)])).collect()
    }

    fn new(q: &[f32]) -> Self {
        let scale = q[0].abs();
        if q.iter().all(|q| q.abs() == scale) {
            let bits = |q: &[f32]| {
                q.iter().enumerate().fold(0, |bits, (k, &q)| bits | u8::from(q < 0.0) << k)
            };
            return Self::Bits(q.chunks(8).map(bits).collect(), scale);
        }
        let sums: Vec<Vec<f32>> = q.chunks(8).map(sums_of_signs).collect();
        let sums: Vec<&[f32]> = sums.iter().map(Vec::as_slice).collect();
        Self::Sums(LookedUp::new(&sums, false))
    }

    /// Writes the scores of the rows in `range` in part `p`.
    pub(super) fn score(
        &self,
        isa: Isa,
        (table, p): (&SignTable, usize),
        range: Range<usize>,
        y: &mut [f32],
    ) {
        let first = range.start / LOOKUP_LANES;
        let codes = &table.blocks(p)[first * table.part_bytes()..];
        let (skip, scales) = (range.start % LOOKUP_LANES, &table.scales(p)[range]);
        let (query, scale) = match self {
            Self::Bits(bits, scale) => {
                let count = table.span(p).len() as f32;
                (CodeQuery::Bits(bits), (scale * count, -2.0 * scale))
            }
            Self::Sums(sums) => (CodeQuery::Tables(&sums.numbers), (sums.base, sums.step)),
        };
        kernels::code_scores(isa, codes, query, skip, scale, Some(scales), y);
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
