//! A matrix whose rows are codes: numbers of words, one for each part of its columns.

use super::table::QuantTable;
use super::words::{k_means, means, nearest};
use crate::error::{Error, Result};
use crate::kernels::{self, LOOKUP_LANES, LOOKUP_TABLES};
use crate::quant::bits::Bits;
use crate::rng::{Draws, purpose};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// How the rows of tables become codes: into how many parts columns are cut, and how many words
/// each part has.
///
/// *Source*: Jégou, Douze and Schmid, "Product Quantization for Nearest Neighbor Search", IEEE
/// Transactions on Pattern Analysis and Machine Intelligence, 2011.
///
/// ```
/// use gnn_prune::quant::ProductCodes;
/// let codes = ProductCodes::new(16);
/// assert_eq!((codes.spaces(), codes.words(), codes.row_bytes()), (16, 256, 16));
/// assert_eq!(codes.with_words(16)?.row_bytes(), 8);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProductCodes {
    spaces: usize,
    words: usize,
    random: bool,
}

impl ProductCodes {
    /// So many parts of the columns, each with 256 words: a row takes as many bytes.
    pub fn new(spaces: usize) -> Self {
        Self { spaces, words: 256, random: false }
    }

    /// So many words for each part: 256, or 16, of which two codes share a byte and which are
    /// looked up in registers on any processor with AVX2.
    ///
    /// # Errors
    /// [`Error::Setting`] for another number, and for 16 words of an odd number of parts.
    pub fn with_words(mut self, words: usize) -> Result<Self> {
        if words != 16 && words != 256 {
            return Err(Error::setting("words of a code", words, "16 or 256"));
        }
        if words == 16 && !self.spaces.is_multiple_of(2) {
            let legal = "an even number where there are 16 words, since two share a byte";
            return Err(Error::setting("parts of a code", self.spaces, legal));
        }
        self.words = words;
        Ok(self)
    }

    /// Codes that are drawn and not chosen, each with the mean of its rows as its word: what a
    /// choice has to beat.
    ///
    /// *Source*: Li et al., "Random Entity Quantization for Parameter-Efficient Compositional
    /// Knowledge Graph Representation", EMNLP 2023.
    #[must_use]
    pub fn random(mut self) -> Self {
        self.random = true;
        self
    }

    /// Parts of the columns.
    pub fn spaces(&self) -> usize {
        self.spaces
    }

    /// Words of each part.
    pub fn words(&self) -> usize {
        self.words
    }

    /// Whether codes are drawn.
    pub fn is_random(&self) -> bool {
        self.random
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        row_bytes(self.spaces, self.words)
    }

    /// Refuses a number of parts that a table of so many columns cannot have.
    pub(super) fn check(&self, cols: usize) -> Result<()> {
        if self.spaces == 0 || self.spaces > cols {
            let legal = format!("between 1 and the {cols} columns of the table");
            return Err(Error::setting("parts of a code", self.spaces, legal));
        }
        if self.spaces > LOOKUP_TABLES {
            let legal = format!("at most {LOOKUP_TABLES}");
            return Err(Error::setting("parts of a code", self.spaces, legal));
        }
        Ok(())
    }
}

impl std::fmt::Display for ProductCodes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "codes {}", self.spaces)?;
        if self.words != 256 { write!(f, " of {} words", self.words) } else { Ok(()) }
    }
}

fn row_bytes(spaces: usize, words: usize) -> usize {
    if words > 16 { spaces } else { spaces.div_ceil(2) }
}

/// The columns of part `m`.
fn span(cols: usize, spaces: usize, m: usize) -> Range<usize> {
    cols * m / spaces..cols * (m + 1) / spaces
}

/// The words of each part, side by side, and the code of every row in every part.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Coded {
    pub(super) words: Array2<f32>,
    /// Part after part.
    pub(super) codes: Vec<Vec<u8>>,
}

impl Coded {
    /// Words and codes of `w: [rows, cols]`.
    pub(super) fn of(w: ArrayView2<f32>, how: ProductCodes, seed: u64) -> Self {
        let (rows, cols) = w.dim();
        let count = how.words.min(rows);
        let work = ROUNDS_OF_WORK * rows * cols * count;
        let found = kernels::run((0..how.spaces).collect(), work, |m: usize| {
            let x = w.slice(s![.., span(cols, how.spaces, m)]);
            let x = x.as_standard_layout();
            if how.random {
                let codes = random_codes(rows, count, (seed, m as u64));
                let words = Array2::zeros((count, x.ncols()));
                (means(x.view(), &codes, words.view()), codes)
            } else {
                k_means(x.view(), count, (seed, m as u64))
            }
        });
        Self::of_parts(found, (count, cols))
    }

    /// The words and codes of each part side by side; a part may have fewer words than the others.
    fn of_parts(parts: Vec<(Array2<f32>, Vec<u8>)>, shape: (usize, usize)) -> Self {
        let (mut words, spaces) = (Array2::zeros(shape), parts.len());
        let mut codes = Vec::with_capacity(spaces);
        for (m, (own, own_codes)) in parts.into_iter().enumerate() {
            words.slice_mut(s![..own.nrows(), span(shape.1, spaces, m)]).assign(&own);
            codes.push(own_codes);
        }
        Self { words, codes }
    }

    /// The codes of rows that words and codes have been [written](Self::write) to.
    pub(super) fn exact(w: ArrayView2<f32>, how: ProductCodes) -> Self {
        let (rows, cols) = w.dim();
        let found = kernels::run((0..how.spaces).collect(), w.len(), |m: usize| {
            let part = w.slice(s![.., span(cols, how.spaces, m)]);
            let mut known: HashMap<Vec<u32>, u8> = HashMap::new();
            // Where each word is met first.
            let mut first = Vec::new();
            let mut codes = Vec::with_capacity(rows);
            for (i, row) in part.rows().into_iter().enumerate() {
                let bits = row.iter().map(|w| w.to_bits()).collect();
                codes.push(*known.entry(bits).or_insert_with(|| {
                    first.push(i);
                    u8::try_from(first.len() - 1).expect("a part has at most 256 words")
                }));
            }
            (part.select(Axis(0), &first), codes)
        });
        Self::of_parts(found, (how.words.min(rows), cols))
    }

    /// The columns of part `m`.
    pub(super) fn span(&self, m: usize) -> Range<usize> {
        span(self.words.ncols(), self.codes.len(), m)
    }

    /// Every row of `w` gets the codes that are nearest to it, of rows `rows` where there are any
    /// given.
    pub(super) fn assign(&mut self, w: ArrayView2<f32>, rows: Option<&[u32]>) {
        let (words, spaces) = (&self.words, self.codes.len());
        let count = rows.map_or(w.nrows(), <[u32]>::len);
        let work = count * words.len();
        kernels::run(self.codes.iter_mut().enumerate().collect(), work, |(m, codes)| {
            let span = span(words.ncols(), spaces, m);
            let words = words.slice(s![.., span.clone()]);
            let words = words.as_standard_layout();
            let x = w.slice(s![.., span]);
            match rows {
                None => *codes = nearest(x.as_standard_layout().view(), words.view()),
                Some(rows) => {
                    let ids: Vec<usize> = rows.iter().map(|&row| row as usize).collect();
                    let x = x.select(Axis(0), &ids);
                    let found = nearest(x.view(), words.view());
                    rows.iter().zip(found).for_each(|(&row, code)| codes[row as usize] = code);
                }
            }
        });
    }

    /// The rows that the codes stand for.
    pub(super) fn write(&self, to: ArrayViewMut2<f32>) {
        let words = self.words.as_slice().expect("words are in standard layout");
        let cols = self.words.ncols();
        let spans: Vec<Range<usize>> = (0..self.codes.len()).map(|m| self.span(m)).collect();
        kernels::map_rows(to, |i, to| {
            for (codes, span) in self.codes.iter().zip(&spans) {
                let word = &words[usize::from(codes[i]) * cols..][..cols];
                to[span.clone()].copy_from_slice(&word[span.clone()]);
            }
        });
    }
}

/// What a row takes of k-means, in products of its columns with all words.
const ROUNDS_OF_WORK: usize = 20;

/// Codes of which every word has as many rows, up to one.
fn random_codes(rows: usize, count: usize, key: (u64, u64)) -> Vec<u8> {
    let mut draws = Draws::of(key.0, &[purpose::RANDOM_CRITERION, key.1]);
    let mut codes: Vec<u8> = (0..rows).map(|i| (i % count) as u8).collect();
    for i in (1..rows).rev() {
        codes.swap(i, draws.below(i + 1));
    }
    codes
}

/// A table whose rows are codes: part `m` of row `i` is word `code_im` of that part. A row takes a
/// byte a part with 256 words, and half of one with 16. The words are integers of 8 bits with a
/// scale each, and clones share all.
///
/// *Shapes*: codes `[rows, parts]`, words `[words, c]`, each with the columns of all parts side by
/// side.
///
/// *Source*: as [`ProductCodes`].
///
/// ```
/// use gnn_prune::ndarray::array;
/// use gnn_prune::quant::{CodeTable, ProductCodes};
/// let rows = array![[1.0f32, 2.0], [1.0, 7.0], [1.0, 2.0]];
/// let table = CodeTable::of(rows.view(), ProductCodes::new(2), 0)?;
/// assert_eq!(table.shape(), (3, 2));
/// assert_eq!(table.codes(0), table.codes(2));
/// assert!((table.to_floats()[[1, 1]] - 7.0).abs() < 0.1);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct CodeTable {
    rows: usize,
    spaces: usize,
    /// Words that a code can name, whether or not there are as many: 16 or 256.
    range: usize,
    /// Blocks of rows, byte after byte; what fills up the last block is zero.
    blocks: Arc<Vec<[u8; LOOKUP_LANES]>>,
    words: QuantTable,
    /// The numbers of the words.
    floats: Arc<Array2<f32>>,
}

impl CodeTable {
    /// Codes of `w: [rows, c]`.
    ///
    /// # Errors
    /// [`Error::Setting`] for more parts than columns.
    pub fn of(w: ArrayView2<f32>, how: ProductCodes, seed: u64) -> Result<Self> {
        how.check(w.ncols())?;
        Ok(Self::settled(w, Coded::of(w, how, seed), how))
    }

    /// The table of words that are rounded now. Where codes are chosen, they are those nearest to
    /// the rows of `w` once words are rounded.
    pub(super) fn settled(w: ArrayView2<f32>, coded: Coded, how: ProductCodes) -> Self {
        let words = QuantTable::rounded(coded.words.view(), Bits::Eight, usize::MAX);
        let mut coded = Coded { words: words.to_floats(), ..coded };
        if !how.random {
            coded.assign(w, None);
        }
        let width = how.row_bytes();
        let mut blocks = vec![[0; LOOKUP_LANES]; w.nrows().div_ceil(LOOKUP_LANES) * width];
        for (m, codes) in coded.codes.iter().enumerate() {
            for (i, &code) in codes.iter().enumerate() {
                let (at, shift) = if how.words > 16 { (m, 0) } else { (m / 2, m % 2 * 4) };
                blocks[i / LOOKUP_LANES * width + at][i % LOOKUP_LANES] |= code << shift;
            }
        }
        let (spaces, range) = (how.spaces, how.words);
        let (blocks, floats) = (blocks.into(), coded.words.into());
        Self { rows: w.nrows(), spaces, range, blocks, words, floats }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.floats.ncols())
    }

    /// Parts of the columns.
    pub fn spaces(&self) -> usize {
        self.spaces
    }

    /// The words: `[words, c]`.
    pub fn words(&self) -> &QuantTable {
        &self.words
    }

    /// The codes of row `i`, part by part.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn codes(&self, i: usize) -> Vec<u8> {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        (0..self.spaces).map(|m| self.code(i, m)).collect()
    }

    fn code(&self, i: usize, m: usize) -> u8 {
        let width = row_bytes(self.spaces, self.range);
        let byte = |at: usize| self.blocks[i / LOOKUP_LANES * width + at][i % LOOKUP_LANES];
        if self.range > 16 { byte(m) } else { byte(m / 2) >> (m % 2 * 4) & 15 }
    }

    /// The numbers that the codes stand for.
    pub fn to_floats(&self) -> Array2<f32> {
        let mut floats = Array2::zeros(self.shape());
        kernels::map_rows(floats.view_mut(), |i, to| self.write(i, to));
        floats
    }

    /// How many numbers it holds: codes, and entries of words.
    pub(crate) fn num_params(&self) -> usize {
        self.rows * self.spaces + self.floats.len()
    }

    /// The numbers of row `i`.
    pub(super) fn write(&self, i: usize, to: &mut [f32]) {
        let cols = self.floats.ncols();
        let words = self.floats.as_slice().expect("words are in standard layout");
        for m in 0..self.spaces {
            let span = span(cols, self.spaces, m);
            let word = &words[usize::from(self.code(i, m)) * cols..][..cols];
            to[span.clone()].copy_from_slice(&word[span]);
        }
    }

    /// Whether two codes share a byte.
    pub(super) fn is_of_halves(&self) -> bool {
        self.range <= 16
    }

    /// Bytes of a row.
    pub(super) fn row_bytes(&self) -> usize {
        row_bytes(self.spaces, self.range)
    }

    /// The codes as look-ups read them.
    pub(super) fn blocks(&self) -> &[[u8; LOOKUP_LANES]] {
        &self.blocks
    }

    /// The products of queries `q: [n, c]` with every word, part by part: `[n, words]` each.
    pub(super) fn products(&self, q: ArrayView2<f32>) -> Vec<Array2<f32>> {
        let of_part = |m: usize| {
            let span = span(q.ncols(), self.spaces, m);
            let mut products = Array2::zeros((q.nrows(), self.floats.nrows()));
            let words = self.floats.slice(s![.., span.clone()]);
            kernels::matmul_nt(q.slice(s![.., span]), words, products.view_mut());
            products
        };
        (0..self.spaces).map(of_part).collect()
    }

    /// The codes row by row, as a file has them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let width = self.row_bytes();
        let mut bytes = Vec::with_capacity(self.rows * width);
        for i in 0..self.rows {
            let block = &self.blocks[i / LOOKUP_LANES * width..][..width];
            bytes.extend(block.iter().map(|column| column[i % LOOKUP_LANES]));
        }
        bytes
    }

    /// Words that a code can name: 16 or 256.
    pub(crate) fn range(&self) -> usize {
        self.range
    }

    /// The table of codes and words.
    ///
    /// # Errors
    /// What is wrong with them, as the end of a sentence.
    pub(crate) fn from_bytes(
        rows: usize,
        (spaces, range): (usize, usize),
        bytes: &[u8],
        words: QuantTable,
    ) -> std::result::Result<Self, String> {
        let (count, cols) = words.shape();
        if range != 16 && range != 256 || count > range {
            return Err(format!("has {count} words for codes of {range}, legal are 16 and 256"));
        }
        if spaces == 0 || spaces > cols || spaces > LOOKUP_TABLES {
            return Err(format!("has {spaces} parts of {cols} columns"));
        }
        if range == 16 && !spaces.is_multiple_of(2) {
            return Err(format!("has {spaces} parts of 16 words, where two share a byte"));
        }
        let width = row_bytes(spaces, range);
        if rows == 0 || rows.checked_mul(width) != Some(bytes.len()) {
            return Err(format!("has {} bytes of codes for {rows} x {spaces}", bytes.len()));
        }
        let known = |code: u8| usize::from(code) < count;
        let legal = |&byte: &u8| match range {
            16 => known(byte & 15) && known(byte >> 4),
            _ => known(byte),
        };
        if let Some(at) = bytes.iter().position(|byte| !legal(byte)) {
            return Err(format!("has a code in row {} for which there is no word", at / width));
        }
        let mut blocks = vec![[0; LOOKUP_LANES]; rows.div_ceil(LOOKUP_LANES) * width];
        for (i, row) in bytes.chunks_exact(width).enumerate() {
            let block = &mut blocks[i / LOOKUP_LANES * width..][..width];
            block.iter_mut().zip(row).for_each(|(column, &byte)| column[i % LOOKUP_LANES] = byte);
        }
        let (blocks, floats) = (blocks.into(), words.to_floats().into());
        Ok(Self { rows, spaces, range, blocks, words, floats })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_dense;

    fn tables() -> impl Iterator<Item = (Array2<f32>, CodeTable)> {
        let cases =
            [(3, 5, 1, 256), (64, 8, 8, 256), (65, 9, 4, 256), (300, 13, 6, 16), (130, 6, 2, 16)];
        cases.into_iter().map(|(rows, cols, spaces, words)| {
            let w = random_dense(5, (rows, cols)).into_dense();
            let how = ProductCodes::new(spaces).with_words(words).unwrap();
            let table = CodeTable::of(w.view(), how, 3).unwrap();
            (w, table)
        })
    }

    #[test]
    fn a_row_is_the_words_that_its_codes_name() {
        for (w, table) in tables() {
            let (floats, words) = (table.to_floats(), table.words().to_floats());
            assert_eq!(floats.dim(), w.dim());
            for i in 0..w.nrows() {
                for (m, code) in table.codes(i).into_iter().enumerate() {
                    for c in span(w.ncols(), table.spaces(), m) {
                        assert_eq!(floats[[i, c]], words[[usize::from(code), c]]);
                    }
                }
            }
            let left = (&floats - &w).mapv(|d| d * d).sum() / w.mapv(|w| w * w).sum();
            assert!(left < 0.55, "{left} of the squares are lost, {:?}", w.dim());
        }
    }

    #[test]
    fn products_with_words_add_up_to_those_with_rows() {
        for (w, table) in tables() {
            let q = random_dense::<f32>(9, (2, w.ncols())).into_dense();
            let products = table.products(q.view());
            for (i, row) in table.to_floats().rows().into_iter().enumerate() {
                let whole: f32 = row.iter().zip(q.row(1)).map(|(w, q)| w * q).sum();
                let codes = table.codes(i);
                let parts: f32 = codes
                    .iter()
                    .enumerate()
                    .map(|(m, &code)| products[m][[1, usize::from(code)]])
                    .sum();
                assert!((whole - parts).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn bytes_are_read_back_and_wrong_ones_refused() {
        for (_, table) in tables() {
            let key = (table.spaces(), table.range());
            let (bytes, words) = (table.to_bytes(), table.words().clone());
            let rows = table.shape().0;
            let back = CodeTable::from_bytes(rows, key, &bytes, words.clone()).unwrap();
            assert_eq!(back, table);
            let refused = |rows: usize, key, bytes: &[u8]| {
                CodeTable::from_bytes(rows, key, bytes, words.clone()).unwrap_err()
            };
            refused(rows + 1, key, &bytes);
            refused(0, key, &[]);
            refused(rows, (0, key.1), &bytes);
            refused(rows, (key.0, 17), &bytes);
            if words.shape().0 < key.1 {
                let mut wrong = bytes.clone();
                *wrong.last_mut().unwrap() = 255;
                assert!(refused(rows, key, &wrong).contains(&format!("row {}", rows - 1)));
            }
        }
    }

    #[test]
    fn drawn_codes_are_worse_than_chosen_ones_and_use_all_words() {
        let w = random_dense(5, (600, 8)).into_dense();
        let left = |how: ProductCodes| {
            let table = CodeTable::of(w.view(), how, 3).unwrap();
            (&table.to_floats() - &w).mapv(|d| d * d).sum()
        };
        let how = ProductCodes::new(4).with_words(16).unwrap();
        assert!(left(how) < 0.7 * left(how.random()));
        let codes = random_codes(600, 16, (0, 0));
        assert!((0..16).all(|word| codes.iter().filter(|code| **code == word).count() >= 37));
    }

    #[test]
    fn what_a_table_cannot_have_is_refused() {
        let w = random_dense(5, (10, 4)).into_dense();
        assert!(CodeTable::of(w.view(), ProductCodes::new(5), 0).is_err());
        assert!(CodeTable::of(w.view(), ProductCodes::new(0), 0).is_err());
        assert!(ProductCodes::new(3).with_words(16).is_err());
        assert!(ProductCodes::new(4).with_words(32).is_err());
    }
}
