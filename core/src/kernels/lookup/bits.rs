//! Rows of signs and what they are compared with, and the scores of blocks whose differences are
//! counted one by one.

use super::{Codes, LANES, Sums};

/// One part of some rows of signs.
#[derive(Debug, Clone, Copy)]
pub struct SignRows<'a> {
    /// Whole blocks, column after column of eight signs each.
    pub codes: &'a [[u8; LANES]],
    /// One for each row that is scored.
    pub scales: &'a [f32],
}

/// A row of signs that others are compared with: all its parts, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct SignQuery {
    /// Eight signs each, four times: so a register is filled with them by reading alone.
    pub(super) words: Vec<u32>,
    pub(super) scales: Vec<f32>,
}

impl SignQuery {
    /// Of eight signs a byte, those of every part filled up to whole bytes, and a scale per part.
    pub fn new(bits: impl IntoIterator<Item = u8>, scales: Vec<f32>) -> Self {
        let words = bits.into_iter().map(|bits| u32::from_ne_bytes([bits; 4])).collect();
        Self { words, scales }
    }
}

/// The rows that queries are compared with; every length has been checked.
pub(super) struct Compared<'a> {
    pub(super) rows: &'a [SignRows<'a>],
    pub(super) width: usize,
    pub(super) columns: usize,
    pub(super) blocks: usize,
    pub(super) skip: usize,
}

impl Compared<'_> {
    /// Counts the differences of a block, then makes scores of them.
    #[inline(always)]
    pub(super) fn block_by_block(
        &self,
        queries: &[&SignQuery],
        y: &mut [&mut [f32]],
        differences: impl Fn(&[Codes], &[u32], &mut Sums),
    ) {
        let (columns, width) = (self.columns, self.width as f32);
        let mut sums = [0; LANES];
        for (query, y) in queries.iter().zip(y) {
            for block in 0..self.blocks {
                let first = if block == 0 { self.skip } else { 0 };
                let start = block * LANES + first - self.skip;
                let end = y.len().min((block + 1) * LANES - self.skip);
                let y = &mut y[start..end];
                for (p, part) in self.rows.iter().enumerate() {
                    let words = &query.words[p * columns..][..columns];
                    differences(&part.codes[block * columns..][..columns], words, &mut sums);
                    let (sums, scales) = (&sums[first..][..y.len()], &part.scales[start..end]);
                    let scale = query.scales[p];
                    for ((y, &sum), t) in y.iter_mut().zip(sums).zip(scales) {
                        let score = (scale * (width - 2.0 * f32::from(sum))) * t;
                        *y = if p == 0 { score } else { *y + score };
                    }
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn portable(codes: &[Codes], words: &[u32], y: &mut Sums) {
    *y = [0; LANES];
    for (codes, &word) in codes.iter().zip(words) {
        let [query, ..] = word.to_ne_bytes();
        for (y, &code) in y.iter_mut().zip(codes) {
            *y += (code ^ query).count_ones() as u16;
        }
    }
}
