//! Rows that are codes of words: which word is nearest, and sums of looked-up bytes, which are what
//! a query's products with the words of a row come to. Rows that are signs: how many bits differ.
//!
//! Codes lie in blocks of [`LANES`] rows, column after column, so that a register holds one column
//! of a whole block. Numbers of tables are at most [`MOST`], so that two fit into a byte, and sums
//! are exact in 16 bits: every level of instructions gives the same ones.

mod bits;
#[cfg(target_arch = "x86_64")]
mod bits_x86;
mod levels;
mod nearest;
mod portable;
mod signs;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::simd::{Isa, by_level};
use crate::scalar::Scalar;

pub use bits::{SignQuery, SignRows};
pub use nearest::{nearest_words, nearest_words_with};
pub use signs::sign_scores;

/// Rows of a block.
pub const LANES: usize = 64;

/// A column of a block, and what is summed up for its rows.
type Codes = [u8; LANES];
type Sums = [u16; LANES];

/// The two tables of a column of halves.
type Halves = [[u8; 16]; 2];

/// The largest number of a table.
pub const MOST: u8 = 127;

/// The most tables: what the largest numbers of so many add up to fits into 16 bits.
pub const MOST_TABLES: usize = u16::MAX as usize / MOST as usize;

/// Tables that rows are looked up in, of numbers that add up to 16 bits.
#[derive(Debug, Clone)]
pub struct LookupTables(Numbers);

#[derive(Debug, Clone)]
enum Numbers {
    Bytes(Vec<[u8; 256]>),
    Halves(Vec<Halves>),
}

impl LookupTables {
    /// One table per column, for codes of a byte.
    ///
    /// # Panics
    /// If a number is above [`MOST`], or a sum could pass 16 bits.
    pub fn bytes(tables: Vec<[u8; 256]>) -> Self {
        check(tables.iter().map(<[u8; 256]>::as_slice));
        Self(Numbers::Bytes(tables))
    }

    /// Two tables per column, for codes of half a byte: the first is that of the lower half.
    ///
    /// # Panics
    /// As [`LookupTables::bytes`].
    pub fn halves(tables: Vec<[[u8; 16]; 2]>) -> Self {
        check(tables.as_flattened().iter().map(<[u8; 16]>::as_slice));
        Self(Numbers::Halves(tables))
    }

    /// Columns of the codes.
    fn columns(&self) -> usize {
        match &self.0 {
            Numbers::Bytes(tables) => tables.len(),
            Numbers::Halves(tables) => tables.len(),
        }
    }
}

fn check<'a>(tables: impl Iterator<Item = &'a [u8]>) {
    let mut reach = 0;
    for table in tables {
        let most = table.iter().copied().max().unwrap_or(0);
        assert!(most <= MOST, "a number of a table is above {MOST}");
        reach += usize::from(most);
    }
    assert!(reach <= usize::from(u16::MAX), "sums pass 16 bits");
}

/// `y_i = Σ_m t_m[code_im]`, the sums `y` of whole blocks of rows, with the instructions of a
/// level.
///
/// # Panics
/// If the codes are not so many blocks of as many columns as there are tables, and if the processor
/// does not have the level.
pub fn lookup_sums(isa: Isa, codes: &[[u8; LANES]], tables: &LookupTables, y: &mut [[u16; LANES]]) {
    assert_eq!(codes.len(), y.len() * tables.columns(), "codes: blocks of as many columns");
    if tables.columns() == 0 {
        return y.fill([0; LANES]);
    }
    let kernels = levels::kernels(isa);
    match &tables.0 {
        Numbers::Bytes(tables) => (kernels.bytes)(codes, tables, y),
        Numbers::Halves(tables) => (kernels.halves)(codes, tables, y),
    }
}

/// Blocks whose sums are made before they become scores.
const AT_ONCE: usize = 8;

/// `y_i = (base + step · sum_i) · scale_i` of the rows from `skip` on, which is within the first
/// block, with their [sums](lookup_sums); without scales they are 1.
///
/// # Panics
/// As these, and if the blocks or the scales have fewer rows.
pub fn code_scores(
    isa: Isa,
    codes: &[[u8; LANES]],
    tables: &LookupTables,
    skip: usize,
    (base, step): (f32, f32),
    scales: Option<&[f32]>,
    y: &mut [f32],
) {
    let blocks = (skip + y.len()).div_ceil(LANES);
    assert!(skip < LANES, "rows are skipped within a block");
    assert!(scales.is_none_or(|scales| scales.len() == y.len()), "a scale per row");
    let columns = tables.columns();
    let codes = &codes[..blocks * columns];
    let mut sums = [[0; LANES]; AT_ONCE];
    let mut rest = &mut *y;
    for start in (0..blocks).step_by(AT_ONCE) {
        let count = AT_ONCE.min(blocks - start);
        let codes = &codes[start * columns..(start + count) * columns];
        lookup_sums(isa, codes, tables, &mut sums[..count]);
        let sums = &sums[..count].as_flattened()[if start == 0 { skip } else { 0 }..];
        let (now, later) = rest.split_at_mut(sums.len().min(rest.len()));
        scale(isa, &sums[..now.len()], base, step, now);
        rest = later;
    }
    for (y, scale) in y.iter_mut().zip(scales.into_iter().flatten()) {
        *y *= scale;
    }
}

by_level! {
    fn scale<F>(sums: &[u16], base: F, step: F, y: &mut [F]) = scale_here
}

#[inline(always)]
fn scale_here<F: Scalar>(sums: &[u16], base: F, step: F, y: &mut [F]) {
    for (y, &sum) in y.iter_mut().zip(sums) {
        *y = base + step * F::of(f64::from(sum));
    }
}

/// Whether a level looks bytes up in registers, so that it is worth while beside a product.
pub fn looks_up_fast(isa: Isa, halves: bool) -> bool {
    levels::is_fast(isa, halves)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;
    use crate::seed::generator;
    use rand_chacha::rand_core::RngCore;

    fn bytes(count: usize, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; count];
        generator(seed, &[count as u64]).fill_bytes(&mut bytes);
        bytes
    }

    fn blocks(codes: &[u8]) -> &[[u8; LANES]] {
        codes.as_chunks().0
    }

    #[test]
    fn every_level_gives_the_sums_of_the_formula() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            for columns in [1, 2, 3, 4, 5, 8, 31, 64, 257] {
                for count in [1, 2, 3, 5, 8, 9] {
                    let codes = bytes(count * columns * LANES, 1);
                    let tables: Vec<u8> =
                        bytes(columns * 256, 2).into_iter().map(|t| t & MOST).collect();
                    let numbers = tables.as_chunks().0;
                    let tables = LookupTables::bytes(numbers.to_vec());
                    let mut y = vec![[7; LANES]; count];
                    lookup_sums(isa, blocks(&codes), &tables, &mut y);
                    let expected = reference::lookup_sums(&codes, numbers, count);
                    assert_eq!(y.as_flattened(), expected, "{isa:?}, {columns} columns");
                    for (skip, rows) in [(0, 1), (5, 64 * count - 9), (63, 64 * count - 63)] {
                        let mut y = vec![0.0; rows];
                        let (base, step) = (-3.0, 0.25);
                        let scales = vec![0.5; rows];
                        let scales = (skip > 0).then_some(&scales[..]);
                        let codes = blocks(&codes);
                        code_scores(isa, codes, &tables, skip, (base, step), scales, &mut y);
                        let scale = if skip > 0 { 0.5 } else { 1.0 };
                        let expected = expected[skip..][..rows].iter();
                        let expected = expected.map(|&sum| (base + step * f32::from(sum)) * scale);
                        assert!(y.into_iter().eq(expected), "{isa:?}, {rows} rows from {skip}");
                    }
                }
            }
        }
    }

    #[test]
    fn halves_are_looked_up_in_two_tables() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            for columns in [1, 2, 3, 16, 129] {
                for count in [1, 2, 5] {
                    let codes = bytes(count * columns * LANES, 3);
                    let tables: Vec<u8> =
                        bytes(columns * 32, 4).into_iter().map(|t| t & MOST).collect();
                    let tables: &[[u8; 16]] = tables.as_chunks().0;
                    let tables: &[[[u8; 16]; 2]] = tables.as_chunks().0;
                    let mut y = vec![[7; LANES]; count];
                    let own = LookupTables::halves(tables.to_vec());
                    lookup_sums(isa, blocks(&codes), &own, &mut y);
                    // Both halves of every byte, as one table of bytes.
                    let whole: Vec<[u8; 256]> = tables
                        .iter()
                        .map(|[low, high]| {
                            std::array::from_fn(|code| low[code & 15] + high[code >> 4])
                        })
                        .collect();
                    let expected = reference::lookup_sums(&codes, &whole, count);
                    assert_eq!(y.as_flattened(), expected, "{isa:?}, {columns} columns");
                }
            }
        }
    }

    #[test]
    fn what_could_overflow_is_refused() {
        let refused = |columns: usize, t: u8| {
            std::panic::catch_unwind(|| LookupTables::bytes(vec![[t; 256]; columns])).is_err()
        };
        assert!(!refused(MOST_TABLES, MOST));
        assert!(refused(MOST_TABLES + 1, MOST));
        assert!(refused(1, MOST + 1));
        assert!(!refused(0, 0));
    }
}
