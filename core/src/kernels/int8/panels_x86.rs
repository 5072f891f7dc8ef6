//! Layouts of an 8-bit right operand for dense products: panels of some registers of columns, or
//! column by column where there are few.
//!
//! The instructions add two (AVX2) or four (VNNI) products along the inner dimension at once. So as
//! many rows are interleaved: the `depth` numbers that meet in one lane lie beside each other. Both
//! dimensions are filled up with zeros, the inner one to whole groups of rows and the columns to
//! whole registers; a zero adds nothing, whatever it meets in the left operand.

use crate::kernels::buffer::Buffer;

/// Columns of the widest register.
pub(super) const LANES: usize = 16;

/// A right operand as one level reads it: columns in panels, `DEPTH` rows interleaved in each.
#[derive(Debug, Clone)]
pub(super) struct Panels<T: Copy + Default> {
    pub(super) data: Buffer<T>,
    /// Inner dimension, filled up to whole groups of rows.
    pub(super) inner: usize,
    pub(super) width: usize,
    pub(super) shape: Shape,
}

/// Rows that are interleaved, columns of a register, and registers of a panel.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) depth: usize,
    pub(super) lanes: usize,
    pub(super) registers: usize,
}

pub(super) const PAIRS: Shape = Shape { depth: 2, lanes: 8, registers: 2 };
pub(super) const FOURS: Shape = Shape { depth: 4, lanes: 16, registers: 4 };

/// A panel: its first column, its registers, and where its numbers begin.
pub(super) struct Panel {
    pub(super) first: usize,
    pub(super) registers: usize,
    pub(super) start: usize,
}

impl<T: Copy + Default> Panels<T> {
    fn pack(w: &[i8], inner: usize, width: usize, shape: Shape, number: impl Fn(i8) -> T) -> Self {
        let padded = inner.next_multiple_of(shape.depth);
        let data = Buffer::zeros(padded * width.next_multiple_of(shape.lanes));
        let mut panels = Self { data, inner: padded, width, shape };
        for panel in panels.panels().collect::<Vec<_>>() {
            let columns = panel.registers * shape.lanes;
            let count = columns.min(width - panel.first);
            for (k, row) in w.chunks_exact(width).enumerate() {
                let to = &mut panels.data[panel.start + k / shape.depth * shape.depth * columns..];
                for (c, &value) in row[panel.first..][..count].iter().enumerate() {
                    to[c * shape.depth + k % shape.depth] = number(value);
                }
            }
        }
        panels
    }

    pub(super) fn panels(&self) -> impl Iterator<Item = Panel> + use<T> {
        let Shape { lanes, registers, .. } = self.shape;
        let (width, inner) = (self.width, self.inner);
        (0..width).step_by(lanes * registers).map(move |first| {
            let registers = registers.min((width - first).div_ceil(lanes));
            Panel { first, registers, start: first * inner }
        })
    }
}

/// Packs `w: [inner, width]` for AVX2.
pub(super) fn pairs(w: &[i8], inner: usize, width: usize) -> Panels<i16> {
    Panels::pack(w, inner, width, PAIRS, i16::from)
}

/// Packs `w: [inner, width]` for VNNI.
pub(super) fn fours(w: &[i8], inner: usize, width: usize) -> Panels<i8> {
    Panels::pack(w, inner, width, FOURS, |value| value)
}

/// Columns up to which each is a sum of products along its row: panels of eight columns would be
/// mostly empty, and rows need not be widened in memory.
pub(super) const NARROW: usize = 8;
/// Numbers of a register of 16 bits.
pub(super) const WORDS: usize = 16;

/// A narrow right operand: columns one after the other, each filled up to whole registers with
/// zeros.
#[derive(Debug, Clone)]
pub(super) struct Columns {
    pub(super) data: Buffer<i16>,
    pub(super) padded: usize,
}

/// Packs `w: [inner, width]` of at most [`NARROW`] columns for AVX2.
pub(super) fn columns(w: &[i8], inner: usize, width: usize) -> Columns {
    let padded = inner.next_multiple_of(WORDS);
    let mut data = Buffer::zeros(padded * width);
    for (k, row) in w.chunks_exact(width).enumerate() {
        row.iter().enumerate().for_each(|(c, &value)| data[c * padded + k] = i16::from(value));
    }
    Columns { data, padded }
}
