//! How 32-bit accumulators become outputs: the one definition of requantisation.

use super::round::to_ints;
use crate::kernels::blocks::{Cut, for_row_blocks};
use crate::kernels::elementwise::relu;
use std::ops::Range;

/// Outputs that are finished together.
const PIECE: usize = 64;

/// Outputs of a register.
const LANES: usize = 16;

/// What becomes of a real number before it is stored.
#[derive(Clone, Copy)]
pub enum Activate<'a> {
    /// Nothing.
    Identity,
    /// `max(y, 0)`.
    Relu,
    /// This function, on any part of a row.
    Map(&'a (dyn Fn(&mut [f32]) + Sync)),
}

/// Where outputs go: to integers of a scale, or to real numbers.
#[derive(Debug)]
pub enum Out<'a> {
    /// `round_ties_even(y / scale)` clamped to ±`qmax`.
    Int {
        /// The integers, `[n, width]`.
        data: &'a mut [i8],
        /// `s_out`, positive.
        scale: f32,
        /// The largest integer: 127 for 8 bits, 7 for 4.
        qmax: i8,
    },
    /// `y` itself, `[n, width]`.
    Real(&'a mut [f32]),
    /// What stands there plus the scaled accumulator, `[n, width]`, before bias and activation.
    /// Products only.
    Added(&'a mut [f32]),
}

/// How a 32-bit accumulator becomes an output, in this order and without fused multiply-adds:
/// `y = acc·(row·col)`, `y + bias`, activation, then [`Out`].
///
/// *Shapes*: `rows: [n]` or absent (then 1), `cols: [width]`, `bias: [width]` or absent.
#[derive(Clone, Copy)]
pub struct Finish<'a> {
    /// The part of the scale that varies by row.
    pub rows: Option<&'a [f32]>,
    /// The part of the scale that varies by column.
    pub cols: &'a [f32],
    /// Added to the scaled accumulator.
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activate: Activate<'a>,
}

impl Finish<'_> {
    /// Finishes `acc`, the accumulators of row `i` from channel `first` on; `at` is where the row's
    /// part of `out` begins. `FMA` as in [`quantize_row`].
    #[inline(always)]
    pub(super) fn write<const FMA: bool>(
        &self,
        i: usize,
        first: usize,
        acc: &[i32],
        out: &mut Out,
        at: usize,
    ) {
        let row = self.rows.map_or(1.0, |rows| rows[i]);
        let (pieces, rest) = acc.as_chunks::<PIECE>();
        let (registers, tail) = rest.as_chunks::<LANES>();
        let mut done = 0;
        // Lengths that the compiler knows become whole registers.
        for piece in pieces {
            self.write_piece::<FMA>(row, first + done, piece, out, at + done);
            done += PIECE;
        }
        for piece in registers {
            self.write_piece::<FMA>(row, first + done, piece, out, at + done);
            done += LANES;
        }
        if !tail.is_empty() {
            self.write_piece::<FMA>(row, first + done, tail, out, at + done);
        }
    }

    /// At most [`PIECE`] numbers of [`write`](Self::write).
    #[inline(always)]
    fn write_piece<const FMA: bool>(
        &self,
        row: f32,
        first: usize,
        acc: &[i32],
        out: &mut Out,
        at: usize,
    ) {
        let mut y = [0.0f32; PIECE];
        let y = &mut y[..acc.len()];
        for ((y, &acc), &col) in y.iter_mut().zip(acc).zip(&self.cols[first..][..acc.len()]) {
            *y = acc as f32 * (row * col);
        }
        if let Out::Added(before) = out {
            y.iter_mut().zip(&before[at..]).for_each(|(y, &before)| *y += before);
        }
        if let Some(bias) = self.bias {
            y.iter_mut().zip(&bias[first..][..acc.len()]).for_each(|(y, &b)| *y += b);
        }
        finish_real::<FMA>(y, self.activate, out, at);
    }
}

/// Activation and storing: the second half of [`Finish`].
#[inline(always)]
pub(super) fn finish_real<const FMA: bool>(
    y: &mut [f32],
    activate: Activate,
    out: &mut Out,
    at: usize,
) {
    match activate {
        Activate::Identity => {}
        Activate::Relu => y.iter_mut().for_each(|y| *y = relu(*y)),
        Activate::Map(f) => f(y),
    }
    match out {
        Out::Int { data, scale, qmax } => {
            to_ints::<FMA>(y, *scale, *qmax, &mut data[at..at + y.len()]);
        }
        Out::Real(data) | Out::Added(data) => data[at..at + y.len()].copy_from_slice(y),
    }
}

impl<'a> Out<'a> {
    /// The same place with a shorter life.
    pub fn reborrow(&mut self) -> Out<'_> {
        match self {
            Out::Int { data, scale, qmax } => Out::Int { data, scale: *scale, qmax: *qmax },
            Out::Real(data) => Out::Real(data),
            Out::Added(data) => Out::Added(data),
        }
    }

    /// Cuts the first `count` numbers off.
    ///
    /// # Panics
    /// If there are fewer.
    pub(super) fn split_off(&mut self, count: usize) -> Out<'a> {
        let enough = "the output holds all rows";
        match self {
            Out::Int { data, scale, qmax } => Out::Int {
                data: data.split_off_mut(..count).expect(enough),
                scale: *scale,
                qmax: *qmax,
            },
            Out::Real(data) => Out::Real(data.split_off_mut(..count).expect(enough)),
            Out::Added(data) => Out::Added(data.split_off_mut(..count).expect(enough)),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Out::Int { data, .. } => data.len(),
            Out::Real(data) | Out::Added(data) => data.len(),
        }
    }
}

/// Runs `f` on the rows of each block, in parallel where there is enough to do.
pub(super) fn for_blocks(
    out: Out,
    width: usize,
    cut: Cut,
    work: usize,
    f: impl Fn(Range<usize>, Out) + Sync,
) {
    match out {
        Out::Int { data, scale, qmax } => {
            for_row_blocks(data, width, cut, work, |block, data| {
                f(block, Out::Int { data, scale, qmax })
            });
        }
        Out::Real(data) => {
            for_row_blocks(data, width, cut, work, |block, data| f(block, Out::Real(data)))
        }
        Out::Added(data) => {
            for_row_blocks(data, width, cut, work, |block, data| f(block, Out::Added(data)))
        }
    }
}
