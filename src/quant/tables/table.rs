//! A matrix of integers with a scale for each row.

use crate::kernels::{self, max_abs, quantize_with};
use crate::quant::bits::{Bits, pack, per_byte};
use crate::reconstruct::Grid;
use ndarray::{Array2, ArrayView2};
use std::sync::Arc;

/// Rows that are quantised or read together.
const ROWS: usize = 256;

/// Columns have offsets where at most this share of the squares is left without their means, and
/// where the offsets take at most this share of the rows' bytes.
const LEFT: f64 = 0.9;
const OFFSET_BYTES: f64 = 1.0 / 64.0;

/// A table of integers, `w_ic = scale_i · int_ic + offset_c`: one row per node or relation, each
/// with a scale of its own and packed to whole bytes. Clones share them.
///
/// Most tables have no offsets. Those of cosines have: all their rows point the same way, and a
/// scale that must reach along it leaves little of what tells rows apart.
///
/// A row of 128 numbers takes 132 bytes at 8 bits, 68 at 4 and 36 at 2, where floats take 512.
///
/// *Shapes*: integers `[rows, c]`, scales `[rows]`, offsets `[c]`.
///
/// *Source*: row-wise quantisation of embedding tables as in Guan et al., "Post-Training 4-bit
/// Quantization on Embedding Tables", 2019, with symmetric integers.
///
/// ```
/// use gnn_prune::ndarray::array;
/// use gnn_prune::Bits;
/// use gnn_prune::quant::QuantTable;
/// let table = QuantTable::of(array![[0.5f32, -1.0, 0.0], [20.0, 40.0, 0.0]].view(), Bits::Eight);
/// assert_eq!(table.shape(), (2, 3));
/// assert_eq!((table.ints()[1], table.ints()[4], table.ints()[5]), (-127, 127, 0));
/// assert!((table.to_floats()[[1, 0]] - 20.0).abs() <= table.scales()[1] / 2.0);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct QuantTable {
    shape: (usize, usize),
    bits: Bits,
    /// Row after row, the first integer of a byte in its lowest bits; bytes as signed numbers, so
    /// that those of 8 bits are the integers themselves.
    packed: Arc<Vec<i8>>,
    scales: Arc<Vec<f32>>,
    offsets: Option<Arc<Vec<f32>>>,
}

/// Bytes of a row of so many integers.
fn row_bytes(cols: usize, bits: Bits) -> usize {
    cols.div_ceil(per_byte(bits))
}

impl QuantTable {
    /// Quantises `w: [rows, c]`: each row with that scale whose squared error is the smallest of
    /// those that clip ever more of its range, the largest magnitude first. A row of zeros has
    /// integers 0, and so has every zero.
    ///
    /// Columns have their means as offsets where these are at least a tenth of all squares and cost
    /// next to nothing, and where nothing is zero, since masks stay.
    pub fn of(w: ArrayView2<f32>, bits: Bits) -> Self {
        Self::rounded(w, bits, usize::MAX)
    }

    /// As [`QuantTable::of`], of at most so many ranges: 1 is the largest magnitude alone.
    pub(super) fn rounded(w: ArrayView2<f32>, bits: Bits, ranges: usize) -> Self {
        let (rows, cols) = w.dim();
        let grid = Grid::new(bits.most());
        let shrinks: Vec<f64> = grid.shrinks().take(ranges).collect();
        let w = w.as_standard_layout();
        let w = w.as_slice().expect("a standard layout is a slice");
        let offsets = if ranges > 1 { offsets(w, cols, row_bytes(cols, bits)) } else { None };
        let blocks = (0..rows).step_by(ROWS).collect();
        let done = kernels::run(blocks, w.len() * shrinks.len(), |start: usize| {
            let end = rows.min(start + ROWS);
            let (mut packed, mut scales) = (Vec::new(), Vec::new());
            let (mut q, mut best) = (vec![0; cols], vec![0; cols]);
            let mut left = vec![0.0; cols];
            for row in (start..end).map(|i| &w[i * cols..][..cols]) {
                left.copy_from_slice(row);
                for (left, offset) in left.iter_mut().zip(offsets.iter().flatten()) {
                    *left -= offset;
                }
                scales.push(quantise(&left, grid, &shrinks, &mut q, &mut best));
                packed.extend(pack(&best, bits).into_iter().map(|byte| byte as i8));
            }
            (packed, scales)
        });
        let (mut packed, mut scales) =
            (Vec::with_capacity(rows * row_bytes(cols, bits)), Vec::with_capacity(rows));
        for (some, own) in done {
            packed.extend(some);
            scales.extend(own);
        }
        let offsets = offsets.map(Arc::new);
        Self { shape: (rows, cols), bits, packed: packed.into(), scales: scales.into(), offsets }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Width of the integers.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// The scale of each row.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// What every row has added, column by column, where the table has that.
    pub fn offsets(&self) -> Option<&[f32]> {
        self.offsets.as_ref().map(|offsets| offsets.as_slice())
    }

    /// The integers, row by row, in ±[`Bits::most`].
    pub fn ints(&self) -> Vec<i8> {
        let (rows, cols) = self.shape;
        let mut ints = vec![0; rows * cols];
        for (i, to) in ints.chunks_exact_mut(cols.max(1)).enumerate() {
            self.unpack(i, to);
        }
        ints
    }

    /// The numbers that the integers stand for.
    pub fn to_floats(&self) -> Array2<f32> {
        let mut floats = Array2::zeros(self.shape);
        kernels::map_rows(floats.view_mut(), |i, to| self.write(i, to));
        floats
    }

    /// How many numbers are not zero: all of them where there are offsets.
    pub(crate) fn num_nonzero(&self) -> usize {
        let (rows, cols) = self.shape;
        if self.offsets.is_some() { rows * cols } else { self.num_nonzero_ints() }
    }

    /// How many integers are not zero.
    pub(crate) fn num_nonzero_ints(&self) -> usize {
        let (rows, cols) = self.shape;
        let mut q = vec![0; cols];
        let mut count = |i: usize| {
            self.unpack(i, &mut q);
            q.iter().filter(|q| **q != 0).count()
        };
        (0..rows).map(&mut count).sum()
    }

    /// The packed rows, as a file has them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.packed.iter().map(|&byte| byte as u8).collect()
    }

    /// The table of packed rows and their scales.
    ///
    /// # Errors
    /// What is wrong with them, as the end of a sentence.
    pub(crate) fn from_bytes(
        shape: (usize, usize),
        bits: Bits,
        bytes: &[u8],
        scales: Vec<f32>,
    ) -> Result<Self, String> {
        let (rows, cols) = shape;
        let width = row_bytes(cols, bits);
        if rows == 0 || cols == 0 || rows.checked_mul(width) != Some(bytes.len()) {
            let found = bytes.len();
            return Err(format!(
                "has {found} bytes of rows for {rows} x {cols} integers of {bits} bits"
            ));
        }
        // What padding leaves of the last byte of a row.
        let used = 8 - (width * per_byte(bits) - cols) as u32 * bits.count();
        let lowest = -i16::from(bits.most()) - 1;
        let legal: Vec<bool> = (0..=u8::MAX)
            .map(|byte| {
                let mut q = [0; 8];
                let q = &mut q[..per_byte(bits)];
                unpack(&[byte as i8], bits, q);
                q.iter().all(|&q| i16::from(q) != lowest)
            })
            .collect();
        let row_is_legal = |row: &[u8]| {
            row.iter().all(|&byte| legal[usize::from(byte)])
                && u32::from(row[width - 1]) >> used == 0
        };
        if let Some(row) = bytes.chunks_exact(width).position(|row| !row_is_legal(row)) {
            return Err(format!("has bytes in row {row} that no table is packed to"));
        }
        let packed = bytes.iter().map(|&byte| byte as i8).collect();
        Self::with_scales(shape, bits, packed, scales)
    }

    /// The table of integers in ±[`Bits::most`], row by row.
    ///
    /// # Errors
    /// As [`QuantTable::from_bytes`].
    pub(crate) fn from_ints(
        shape: (usize, usize),
        bits: Bits,
        ints: &[i8],
        scales: Vec<f32>,
    ) -> Result<Self, String> {
        let (rows, cols) = shape;
        if rows == 0 || cols == 0 || rows.checked_mul(cols) != Some(ints.len()) {
            return Err(format!("has {} integers for {rows} x {cols}", ints.len()));
        }
        let packed = ints.chunks_exact(cols).flat_map(|row| pack(row, bits));
        Self::with_scales(shape, bits, packed.map(|byte| byte as i8).collect(), scales)
    }

    fn with_scales(
        shape: (usize, usize),
        bits: Bits,
        packed: Vec<i8>,
        scales: Vec<f32>,
    ) -> Result<Self, String> {
        if scales.len() != shape.0 {
            return Err(format!("has {} scales for {} rows", scales.len(), shape.0));
        }
        match scales.iter().position(|scale| !(*scale > 0.0 && scale.is_finite())) {
            Some(row) => Err(format!("has a scale in row {row} that is not a positive number")),
            None => {
                let (packed, scales) = (packed.into(), scales.into());
                Ok(Self { shape, bits, packed, scales, offsets: None })
            }
        }
    }

    /// The table with offsets of its columns.
    ///
    /// # Errors
    /// As [`QuantTable::from_bytes`].
    pub(crate) fn with_offsets(mut self, offsets: Vec<f32>) -> Result<Self, String> {
        if offsets.len() != self.shape.1 {
            return Err(format!("has {} offsets for {} columns", offsets.len(), self.shape.1));
        }
        match offsets.iter().position(|offset| !offset.is_finite()) {
            Some(column) => Err(format!("has an offset in column {column} that is not a number")),
            None => {
                self.offsets = Some(offsets.into());
                Ok(self)
            }
        }
    }

    /// The integers of row `i`.
    pub(super) fn unpack(&self, i: usize, to: &mut [i8]) {
        let width = row_bytes(self.shape.1, self.bits);
        unpack(&self.packed[i * width..][..width], self.bits, to);
    }

    /// The numbers of row `i`.
    pub(super) fn write(&self, i: usize, to: &mut [f32]) {
        let scale = self.scales[i];
        let width = row_bytes(self.shape.1, self.bits);
        let packed = &self.packed[i * width..][..width];
        let mut ints = [0i8; 64];
        for (to, packed) in to.chunks_mut(64).zip(packed.chunks(64 / per_byte(self.bits))) {
            let ints = &mut ints[..to.len()];
            unpack(packed, self.bits, ints);
            to.iter_mut().zip(&*ints).for_each(|(to, &q)| *to = f32::from(q) * scale);
        }
        for (to, offset) in to.iter_mut().zip(self.offsets().into_iter().flatten()) {
            *to += offset;
        }
    }
}

/// The means of the columns of `w`, where a table is to have them as offsets; `row` is how many
/// bytes the integers of one row take.
fn offsets(w: &[f32], cols: usize, row: usize) -> Option<Vec<f32>> {
    let rows = w.len() / cols.max(1);
    let cost = (size_of::<f32>() * cols) as f64;
    if cols == 0 || cost > OFFSET_BYTES * (rows * row) as f64 || w.contains(&0.0) {
        return None;
    }
    let (mut means, mut squares) = (vec![0.0; cols], 0.0);
    for w in w.chunks_exact(cols) {
        for (mean, &w) in means.iter_mut().zip(w) {
            *mean += f64::from(w);
            squares += f64::from(w).powi(2);
        }
    }
    means.iter_mut().for_each(|mean| *mean /= rows as f64);
    let of_means = rows as f64 * means.iter().map(|mean| mean * mean).sum::<f64>();
    (squares - of_means <= LEFT * squares)
        .then(|| means.into_iter().map(|mean| mean as f32).collect())
}

/// Writes the integers of the best scale to `best`, and returns it.
fn quantise(w: &[f32], grid: Grid, shrinks: &[f64], q: &mut [i8], best: &mut [i8]) -> f32 {
    let range = f64::from(max_abs(w));
    let (mut least, mut found) = (f64::INFINITY, 1.0);
    for shrink in shrinks {
        let scale = grid.scale(range * shrink);
        quantize_with(w, scale as f32, grid.most(), q);
        let error = |(&w, &q): (&f32, &i8)| (f64::from(w) - f64::from(q) * scale).powi(2);
        let error: f64 = w.iter().zip(&*q).map(error).sum();
        if error < least {
            (least, found) = (error, scale as f32);
            best.copy_from_slice(q);
        }
    }
    found
}

fn unpack(packed: &[i8], bits: Bits, to: &mut [i8]) {
    match bits {
        Bits::Eight => to.copy_from_slice(packed),
        Bits::Four => {
            let (pairs, rest) = to.as_chunks_mut::<2>();
            for (pair, &byte) in pairs.iter_mut().zip(packed) {
                *pair = [byte << 4 >> 4, byte >> 4];
            }
            if let ([last], Some(&byte)) = (rest, packed.last()) {
                *last = byte << 4 >> 4;
            }
        }
        Bits::Two => {
            for (to, &byte) in to.chunks_mut(4).zip(packed) {
                to.iter_mut().enumerate().for_each(|(k, to)| *to = byte << (6 - 2 * k) >> 6);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_dense;

    fn random(rows: usize, cols: usize) -> Array2<f32> {
        random_dense(3, (rows, cols)).into_dense()
    }

    #[test]
    fn rows_of_every_length_are_packed_and_read_back() {
        for bits in [Bits::Two, Bits::Four, Bits::Eight] {
            for cols in [1, 2, 3, 4, 5, 63, 64, 65, 130] {
                let w = random(300, cols);
                let table = QuantTable::of(w.view(), bits);
                let (ints, floats) = (table.ints(), table.to_floats());
                assert_eq!(table.to_bytes().len(), 300 * row_bytes(cols, bits));
                for ((i, c), &found) in floats.indexed_iter() {
                    let q = ints[i * cols + c];
                    assert!(q.abs() <= bits.most());
                    assert_eq!(found, f32::from(q) * table.scales()[i]);
                    // Rounded to the nearest, but for what is clipped.
                    let off = (found - w[[i, c]]).abs();
                    let clipped = q.abs() == bits.most();
                    assert!(clipped || off <= 0.5001 * table.scales()[i], "{bits} {cols}: {off}");
                }
                let back = |bytes: &[u8]| {
                    QuantTable::from_bytes((300, cols), bits, bytes, table.scales().to_vec())
                };
                assert_eq!(back(&table.to_bytes()).unwrap(), table);
                let whole =
                    QuantTable::from_ints((300, cols), bits, &ints, table.scales().to_vec());
                assert_eq!(whole.unwrap(), table);
                assert_eq!(table.num_nonzero(), ints.iter().filter(|q| **q != 0).count());
            }
        }
    }

    #[test]
    fn the_scale_of_a_row_is_no_worse_than_that_of_its_largest_magnitude() {
        let w = random(50, 40);
        for bits in [Bits::Two, Bits::Four, Bits::Eight] {
            let error = |table: QuantTable| {
                let off = &table.to_floats() - &w;
                off.rows().into_iter().map(|row| row.dot(&row)).collect::<Vec<f32>>()
            };
            let best = error(QuantTable::of(w.view(), bits));
            let plain = error(QuantTable::rounded(w.view(), bits, 1));
            assert!(best.iter().zip(&plain).all(|(a, b)| *a <= b * 1.001), "{bits}");
            let (best, plain): (f32, f32) = (best.iter().sum(), plain.iter().sum());
            assert!(bits == Bits::Eight || best < 0.95 * plain, "{bits}: {best} of {plain}");
        }
    }

    #[test]
    fn rows_that_point_the_same_way_have_offsets() {
        let far = random(1100, 40) + 3.0;
        let error = |table: &QuantTable, w: &Array2<f32>| {
            (&table.to_floats() - w).iter().map(|off| off * off).sum::<f32>()
        };
        for bits in [Bits::Two, Bits::Four, Bits::Eight] {
            let table = QuantTable::of(far.view(), bits);
            let plain = QuantTable::rounded(far.view(), bits, 1);
            let offsets = table.offsets().expect("the columns have means").to_vec();
            assert!(plain.offsets().is_none() && table.num_nonzero() == 1100 * 40);
            assert!(error(&table, &far) < 0.3 * error(&plain, &far), "{bits}");
            let read = |offsets| {
                let scales = table.scales().to_vec();
                QuantTable::from_bytes((1100, 40), bits, &table.to_bytes(), scales)
                    .and_then(|table| table.with_offsets(offsets))
            };
            assert_eq!(read(offsets.clone()).unwrap(), table);
            assert!(read(offsets[1..].to_vec()).unwrap_err().contains("39 offsets for 40"));
            assert!(read(vec![f32::NAN; 40]).unwrap_err().contains("column 0"));
        }
        // Neither where means are nothing, nor where one zero is to stay, nor for a few rows.
        let mut masked = far.clone();
        masked[[7, 3]] = 0.0;
        let few = far.slice(ndarray::s![..9, ..]);
        let empty = Array2::zeros((1100, 0));
        for w in [random(1100, 40).view(), masked.view(), few, empty.view()] {
            assert!(QuantTable::of(w, Bits::Eight).offsets().is_none());
        }
    }

    #[test]
    fn zeros_stay_zeros_and_rows_of_them_have_a_scale() {
        let mut w = random(9, 6);
        w.row_mut(4).fill(0.0);
        w.column_mut(2).fill(0.0);
        for bits in [Bits::Two, Bits::Four, Bits::Eight] {
            let table = QuantTable::of(w.view(), bits);
            let floats = table.to_floats();
            assert!(floats.indexed_iter().all(|((i, c), v)| (i != 4 && c != 2) || *v == 0.0));
            assert_eq!(table.scales()[4], 1.0);
        }
    }

    #[test]
    fn bytes_that_no_table_is_packed_to_are_refused_in_words() {
        let read = |shape, bits, bytes: &[u8], scales: &[f32]| {
            QuantTable::from_bytes(shape, bits, bytes, scales.to_vec()).unwrap_err()
        };
        for (problem, words) in [
            (read((1, 3), Bits::Eight, &[0; 2], &[1.0]), "2 bytes of rows"),
            (read((usize::MAX, 16), Bits::Four, &[0; 8], &[1.0]), "8 bytes of rows"),
            (read((0, 3), Bits::Eight, &[], &[]), "0 bytes of rows"),
            (read((2, 1), Bits::Eight, &[0, 0x80], &[1.0; 2]), "in row 1"),
            (read((1, 3), Bits::Four, &[0, 0x10], &[1.0]), "in row 0"),
            (read((1, 2), Bits::Four, &[0x80], &[1.0]), "in row 0"),
            (read((1, 3), Bits::Two, &[0b01_00_00_00], &[1.0]), "in row 0"),
            (read((1, 3), Bits::Two, &[0b00_10_00_00], &[1.0]), "in row 0"),
            (read((2, 1), Bits::Eight, &[0; 2], &[1.0]), "1 scales for 2 rows"),
            (read((2, 1), Bits::Eight, &[0; 2], &[1.0, 0.0]), "scale in row 1"),
            (read((1, 1), Bits::Eight, &[0], &[f32::NAN]), "scale in row 0"),
        ] {
            assert!(problem.contains(words), "{problem}");
        }
    }
}
