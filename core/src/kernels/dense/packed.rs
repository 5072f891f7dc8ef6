//! The packed form of dense products: right operands laid out for the register block, and blocks of
//! rows of the result.
//!
//! A panel is as many columns as a register block is wide, all rows of the inner dimension one
//! after the other: the block reads it from front to back, whatever the matrix is wide. The last
//! panel is as narrow as whole registers allow; its missing columns are zeros in the packing, and
//! are masked when the result is stored, so that a product with a padded column is computed and
//! never seen. Rows are not padded: fewer than a block has go through a lower block.

use crate::kernels::buffer::Buffer;
use crate::kernels::epilogue::Epilogue;

/// Terms of a sum that are added up in registers before they are stored: a panel of so many rows
/// stays in the cache near the core.
const INNER: usize = 512;

/// The dense kernel of one level of instructions.
pub(super) struct GemmKernel {
    /// Numbers in a register.
    pub(super) lanes: usize,
    /// Registers of one row of the result that are kept at once.
    pub(super) vectors: usize,
    /// Rows of the result that are computed at once.
    pub(super) rows: usize,
    /// Computes a block of rows.
    pub(super) block: fn(&GemmBlock, &mut [f32]),
}

/// Rows of a product `A·B` with `B` packed: element `a_ik` stands at
/// `i·row_stride + k·inner_stride`.
#[derive(Clone, Copy)]
pub(super) struct GemmBlock<'a> {
    pub(super) a: &'a [f32],
    pub(super) rows: usize,
    pub(super) row_stride: usize,
    pub(super) inner_stride: usize,
    pub(super) b: &'a Panels,
    pub(super) epilogue: Epilogue<'a, f32>,
}

/// One pass over the inner dimension that fits the cache.
pub(super) struct InnerPart {
    pub(super) begin: usize,
    pub(super) len: usize,
    pub(super) last: bool,
}

/// A right operand `[inner, width]` in panels of some registers, each row by row, filled up with
/// zeros.
#[derive(Debug, Clone, Default)]
pub(super) struct Panels {
    pub(super) packed: Buffer<f32>,
    pub(super) inner: usize,
    pub(super) width: usize,
    lanes: usize,
    /// Columns of a whole panel.
    step: usize,
}

/// A panel: its columns, and where its numbers begin.
pub(super) struct Panel {
    pub(super) first: usize,
    pub(super) width: usize,
    pub(super) vectors: usize,
    pub(super) start: usize,
}

impl Panels {
    /// Packs the matrix whose element `b_kj` stands at `k·row_stride + j·col_stride`, in place of
    /// what was packed before.
    pub(super) fn pack(
        &mut self,
        kernel: &GemmKernel,
        b: &[f32],
        (inner, width): (usize, usize),
        (row_stride, col_stride): (usize, usize),
    ) {
        (self.inner, self.width) = (inner, width);
        (self.lanes, self.step) = (kernel.lanes, kernel.vectors * kernel.lanes);
        let len = inner * width.next_multiple_of(kernel.lanes);
        if self.packed.len() != len {
            self.packed = Buffer::zeros(len);
        }
        for panel in panels(width, inner, kernel.lanes, self.step) {
            let rows = self.packed[panel.start..]
                .chunks_exact_mut(panel.vectors * kernel.lanes)
                .take(inner);
            for (k, to) in rows.enumerate() {
                let from = &b[k * row_stride + panel.first * col_stride..];
                let (to, padding) = to.split_at_mut(panel.width);
                match col_stride {
                    1 => to.copy_from_slice(&from[..panel.width]),
                    _ => to.iter_mut().enumerate().for_each(|(j, to)| *to = from[j * col_stride]),
                }
                padding.fill(0.0);
            }
        }
    }

    pub(super) fn panels(&self) -> impl Iterator<Item = Panel> {
        panels(self.width, self.inner, self.lanes, self.step)
    }

    pub(super) fn inner_parts(&self) -> impl Iterator<Item = InnerPart> {
        let inner = self.inner;
        (0..inner).step_by(INNER).map(move |begin| InnerPart {
            begin,
            len: INNER.min(inner - begin),
            last: begin + INNER >= inner,
        })
    }
}

fn panels(width: usize, inner: usize, lanes: usize, step: usize) -> impl Iterator<Item = Panel> {
    (0..width).step_by(step.max(1)).map(move |first| {
        let width = step.min(width - first);
        Panel { first, width, vectors: width.div_ceil(lanes), start: first * inner }
    })
}
