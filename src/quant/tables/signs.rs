//! A matrix of signs with a scale for each part of each row.

use crate::kernels::{self, LOOKUP_LANES, LOOKUP_TABLES};
use ndarray::{Array2, ArrayView2};
use std::ops::Range;
use std::sync::Arc;

/// A table of one bit a number, `w_ic = scale_ip · ±1` for the columns `c` of part `p`: a row has a
/// bit per column, those of each part filled up to whole bytes, and a float per part. Clones share
/// them.
///
/// The scale of a part is the mean of its magnitudes, which is that of the smallest squared error.
///
/// *Shapes*: signs `[rows, c]`, scales `[rows, parts]`.
///
/// *Source*: Rastegari et al., "XNOR-Net", ECCV 2016, §3.1; of the rows of each layer of a
/// recommender, Chen et al., "Learning Binarized Graph Representations with Multi-faceted
/// Quantization Reinforcement for Top-K Recommendation" (BiGeaR), KDD 2022, equation 3.
///
/// ```
/// use gnn_prune::ndarray::array;
/// use gnn_prune::quant::SignTable;
/// let table = SignTable::of(array![[0.5f32, -1.5, 0.0, 8.0]].view(), 2);
/// assert_eq!(table.to_floats(), array![[1.0, -1.0, 4.0, 4.0]]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SignTable {
    shape: (usize, usize),
    parts: usize,
    /// Part after part: blocks of rows, byte after byte; a bit is set where a number is negative.
    blocks: Arc<Vec<[u8; LOOKUP_LANES]>>,
    /// Part after part, all rows of each.
    scales: Arc<Vec<f32>>,
}

/// Columns of a part that look-ups add up in 16 bits.
pub(super) const WIDEST: usize = 8 * LOOKUP_TABLES;

/// Bytes of a row of so many columns.
fn row_bytes(cols: usize, parts: usize) -> usize {
    parts * (cols / parts).div_ceil(8)
}

impl SignTable {
    /// Signs of `w: [rows, c]`, of which zero's is positive, in equal parts of the columns.
    ///
    /// # Panics
    /// If the columns cannot be cut into so many equal parts.
    pub fn of(w: ArrayView2<f32>, parts: usize) -> Self {
        let (rows, cols) = w.dim();
        assert!(parts > 0 && cols.is_multiple_of(parts), "{parts} equal parts of {cols} columns");
        let mut blocks = vec![[0; LOOKUP_LANES]; num_blocks(rows, cols, parts)];
        let mut scales = vec![0.0; rows * parts];
        for (i, row) in w.rows().into_iter().enumerate() {
            for (c, &w) in row.iter().enumerate() {
                let at = Place::of((i, c), (rows, cols), parts);
                blocks[at.block][at.lane] |= u8::from(w < 0.0) << at.bit;
            }
            for (p, part) in row.to_vec().chunks(cols / parts).enumerate() {
                scales[p * rows + i] = scale_of(part);
            }
        }
        Self { shape: (rows, cols), parts, blocks: blocks.into(), scales: scales.into() }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Parts of the columns that have a scale each.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// The numbers that the signs stand for.
    pub fn to_floats(&self) -> Array2<f32> {
        let mut floats = Array2::zeros(self.shape);
        kernels::map_rows(floats.view_mut(), |i, to| self.write(i, to));
        floats
    }

    /// The scales of all rows in part `p`.
    pub(crate) fn scales(&self, p: usize) -> &[f32] {
        &self.scales[p * self.shape.0..][..self.shape.0]
    }

    /// The numbers of row `i`.
    pub(super) fn write(&self, i: usize, to: &mut [f32]) {
        for p in 0..self.parts {
            let scale = self.scales(p)[i];
            for (to, bits) in to[self.span(p)].chunks_mut(8).zip(self.bits(i, p)) {
                for (k, to) in to.iter_mut().enumerate() {
                    *to = if bits >> k & 1 == 1 { -scale } else { scale };
                }
            }
        }
    }

    /// The columns of part `p`.
    pub(super) fn span(&self, p: usize) -> Range<usize> {
        let part = self.shape.1 / self.parts;
        p * part..(p + 1) * part
    }

    /// The blocks of part `p`.
    pub(super) fn blocks(&self, p: usize) -> &[[u8; LOOKUP_LANES]] {
        let all = self.blocks.len() / self.parts;
        &self.blocks[p * all..][..all]
    }

    /// Bytes of a part of a row.
    pub(super) fn part_bytes(&self) -> usize {
        (self.shape.1 / self.parts).div_ceil(8)
    }

    /// The signs of a part of row `i`, as bits.
    pub(super) fn bits(&self, i: usize, p: usize) -> impl Iterator<Item = u8> {
        let width = self.part_bytes();
        let block = &self.blocks(p)[i / LOOKUP_LANES * width..][..width];
        block.iter().map(move |column| column[i % LOOKUP_LANES])
    }

    /// The bits row by row, as a file has them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        (0..self.shape.0).flat_map(|i| (0..self.parts).flat_map(move |p| self.bits(i, p))).collect()
    }

    /// All scales, part after part.
    pub(crate) fn all_scales(&self) -> &[f32] {
        &self.scales
    }

    /// The table of bits and scales.
    ///
    /// # Errors
    /// What is wrong with them, as the end of a sentence.
    pub(crate) fn from_bytes(
        (rows, cols): (usize, usize),
        parts: usize,
        bytes: &[u8],
        scales: Vec<f32>,
    ) -> Result<Self, String> {
        if rows == 0 || cols == 0 || parts == 0 || !cols.is_multiple_of(parts) {
            return Err(format!("has {parts} parts of {rows} x {cols} signs"));
        }
        if cols / parts > WIDEST {
            return Err(format!("has parts of {} columns, more than {WIDEST}", cols / parts));
        }
        let width = row_bytes(cols, parts);
        if rows.checked_mul(width) != Some(bytes.len()) {
            return Err(format!("has {} bytes of signs for {rows} x {cols}", bytes.len()));
        }
        if rows.checked_mul(parts) != Some(scales.len()) {
            return Err(format!("has {} scales for {rows} rows in {parts} parts", scales.len()));
        }
        if let Some(at) = scales.iter().position(|scale| !(*scale >= 0.0 && scale.is_finite())) {
            return Err(format!("has a scale in row {} that no magnitudes have", at % rows));
        }
        let of_part = width / parts;
        // Of the last byte of a part, what its columns leave is zero.
        let used = cols / parts - 8 * (of_part - 1);
        let fits = |row: &[u8]| {
            row.chunks_exact(of_part).all(|part| u32::from(part[of_part - 1]) >> used == 0)
        };
        if let Some(row) = bytes.chunks_exact(width).position(|row| !fits(row)) {
            return Err(format!("has signs in row {row} of columns that are not there"));
        }
        let mut blocks = vec![[0; LOOKUP_LANES]; num_blocks(rows, cols, parts)];
        let all = blocks.len() / parts;
        for (i, row) in bytes.chunks_exact(width).enumerate() {
            for (p, part) in row.chunks_exact(of_part).enumerate() {
                let block = &mut blocks[p * all + i / LOOKUP_LANES * of_part..][..of_part];
                let columns = block.iter_mut().zip(part);
                columns.for_each(|(column, &byte)| column[i % LOOKUP_LANES] = byte);
            }
        }
        Ok(Self { shape: (rows, cols), parts, blocks: blocks.into(), scales: scales.into() })
    }
}

fn num_blocks(rows: usize, cols: usize, parts: usize) -> usize {
    rows.div_ceil(LOOKUP_LANES) * row_bytes(cols, parts)
}

/// Where the sign of a number is.
struct Place {
    block: usize,
    lane: usize,
    bit: usize,
}

impl Place {
    fn of((i, c): (usize, usize), (rows, cols): (usize, usize), parts: usize) -> Self {
        let part = cols / parts;
        let bytes = part.div_ceil(8);
        let before = c / part * rows.div_ceil(LOOKUP_LANES) + i / LOOKUP_LANES;
        let byte = c % part / 8;
        Self { block: before * bytes + byte, lane: i % LOOKUP_LANES, bit: c % part % 8 }
    }
}

/// The mean of the magnitudes.
pub(super) fn scale_of(part: &[f32]) -> f32 {
    let sum: f64 = part.iter().map(|w| f64::from(w.abs())).sum();
    (sum / part.len() as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_dense;

    #[test]
    fn a_number_is_its_sign_times_the_mean_magnitude_of_its_part() {
        for (rows, cols, parts) in [(1, 1, 1), (65, 8, 1), (130, 18, 2), (64, 33, 3), (3, 64, 4)] {
            let w = random_dense::<f32>(1, (rows, cols)).into_dense();
            let table = SignTable::of(w.view(), parts);
            for ((i, c), &found) in table.to_floats().indexed_iter() {
                let part = c / (cols / parts) * (cols / parts);
                let own = w.row(i).to_vec();
                let mean = own[part..][..cols / parts].iter().map(|w| w.abs()).sum::<f32>()
                    / (cols / parts) as f32;
                assert!((found - mean * w[[i, c]].signum()).abs() < 1e-6);
            }
            let scales = table.all_scales().to_vec();
            let back = SignTable::from_bytes((rows, cols), parts, &table.to_bytes(), scales);
            assert_eq!(back.unwrap(), table);
        }
    }

    #[test]
    fn wrong_bytes_are_refused() {
        let w = random_dense::<f32>(1, (5, 6)).into_dense();
        let table = SignTable::of(w.view(), 2);
        let (bytes, scales) = (table.to_bytes(), table.all_scales().to_vec());
        let of = |shape, parts, bytes: &[u8], scales: &[f32]| {
            SignTable::from_bytes(shape, parts, bytes, scales.to_vec()).map(|_| ())
        };
        of((5, 6), 2, &bytes, &scales).unwrap();
        of((5, 6), 4, &bytes, &scales).unwrap_err();
        of((5, 6), 0, &bytes, &scales).unwrap_err();
        of((6, 6), 2, &bytes, &scales).unwrap_err();
        of((5, 6), 2, &bytes, &scales[1..]).unwrap_err();
        of((0, 6), 2, &[], &[]).unwrap_err();
        let wide = 8 * 517;
        of((1, wide), 1, &vec![0; 517], &[1.0]).unwrap_err();
        let mut wrong = bytes.clone();
        wrong[3] |= 0x80;
        assert!(of((5, 6), 2, &wrong, &scales).unwrap_err().contains("row 1"));
        let mut wrong = scales.clone();
        wrong[7] = -1.0;
        assert!(of((5, 6), 2, &bytes, &wrong).unwrap_err().contains("row 2"));
    }
}
