//! Scores of rows that are codes: a query's products with all words, once, and a sum of them for
//! each row.

use super::codes::CodeTable;
use crate::kernels::{self, Isa, LOOKUP_LANES, LOOKUP_MOST, LookupTables};
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
            Self::new(&own, table)
        })
    }

    /// Of the products with the words of each part.
    fn new(products: &[&[f32]], table: &CodeTable) -> Self {
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
        let parts = 0..table.row_bytes();
        let numbers = if table.is_of_halves() {
            let table = |at: usize| {
                let mut numbers = [[0; 16]; 2];
                numbers.iter_mut().enumerate().for_each(|(k, to)| write(2 * at + k, to));
                numbers
            };
            LookupTables::halves(parts.map(table).collect())
        } else {
            let table = |m: usize| {
                let mut numbers = [0; 256];
                write(m, &mut numbers);
                numbers
            };
            LookupTables::bytes(parts.map(table).collect())
        };
        Self { numbers, step, base: base as f32 }
    }

    /// Writes the scores of the rows in `range`.
    pub(super) fn score(&self, isa: Isa, table: &CodeTable, range: Range<usize>, y: &mut [f32]) {
        let first = range.start / LOOKUP_LANES;
        let codes = &table.blocks()[first * table.row_bytes()..];
        let (skip, scale) = (range.start % LOOKUP_LANES, (self.base, self.step));
        kernels::lookup_scores(isa, codes, &self.numbers, skip, scale, y);
    }
}
