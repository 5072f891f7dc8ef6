//! The portable forms of the integer kernels, and what every form reads.

use super::finish::{Activate, Finish, Out, finish_real};
use super::packed::PackedInt8;
use super::round::ColumnScales;
use std::ops::Range;

/// Accumulators of one row that are at hand at once.
const TILE: usize = 256;

/// The integer kernels of one level: rows `.1` of a product, finished into `.2`, which holds only
/// those rows.
pub(super) struct Int8Kernels {
    pub(super) spmm: fn(&SparseJob, Range<usize>, Out),
    pub(super) matmul: fn(&DenseJob, Range<usize>, Out),
    pub(super) join: fn(&JoinJob, Range<usize>, Out),
    /// Quantises `.0` to integers of at most `.1` with a scale of its own, which it returns.
    pub(super) quantize_row: fn(&[f32], i8, &mut [i8]) -> f32,
    /// Quantises a row by a scale per column, and says whether it is finite.
    pub(super) quantize_columns: fn(&[f32], &ColumnScales, &mut [i8]) -> bool,
}

/// A sparse left operand: rows of 8-bit entries.
#[derive(Debug, Clone, Copy)]
pub struct SparseInt8<'a> {
    /// Where each row begins, and the end: `[n + 1]`, from 0.
    pub starts: &'a [usize],
    /// Column of each entry.
    pub cols: &'a [u32],
    /// The entries.
    pub vals: &'a [i8],
}

/// One sparse product: what every part of it reads.
pub(super) struct SparseJob<'a> {
    pub(super) a: SparseInt8<'a>,
    pub(super) x: &'a [i8],
    pub(super) width: usize,
    pub(super) finish: Finish<'a>,
}

/// One dense product: what every part of it reads.
pub(super) struct DenseJob<'a> {
    pub(super) x: &'a [i8],
    pub(super) w: &'a PackedInt8,
    pub(super) finish: Finish<'a>,
}

/// One term of a join: integers and the scale of each of their columns.
#[derive(Debug, Clone, Copy)]
pub struct Term<'a> {
    /// The integers, `[n, width]`.
    pub data: &'a [i8],
    /// Scale of each column, `[width]`.
    pub cols: &'a [f32],
}

/// One join: what every part of it reads.
pub(super) struct JoinJob<'a> {
    pub(super) terms: &'a [Term<'a>],
    pub(super) bias: Option<&'a [f32]>,
    pub(super) activate: Activate<'a>,
    pub(super) out_width: usize,
    pub(super) place: usize,
}

/// The portable form of [`spmm_int8`].
pub(super) fn spmm_rows(job: &SparseJob, block: Range<usize>, mut out: Out) {
    let (a, width) = (job.a, job.width);
    for (at, i) in block.enumerate() {
        for first in (0..width).step_by(TILE) {
            let mut acc = [0i32; TILE];
            let acc = &mut acc[..TILE.min(width - first)];
            for e in a.starts[i]..a.starts[i + 1] {
                // The product of two numbers of 8 bits fits 16.
                let value = i16::from(a.vals[e]);
                let x = &job.x[a.cols[e] as usize * width + first..][..acc.len()];
                acc.iter_mut()
                    .zip(x)
                    .for_each(|(acc, &x)| *acc = acc.wrapping_add(i32::from(value * i16::from(x))));
            }
            job.finish.write::<false>(i, first, acc, &mut out, at * width + first);
        }
    }
}

/// The portable form of [`matmul_int8`].
pub(super) fn matmul_rows(job: &DenseJob, block: Range<usize>, mut out: Out) {
    let w = job.w;
    for (at, i) in block.enumerate() {
        let x = &job.x[i * w.inner..][..w.inner];
        for first in (0..w.width).step_by(TILE) {
            let mut acc = [0i32; TILE];
            let acc = &mut acc[..TILE.min(w.width - first)];
            for (&x, row) in x.iter().zip(w.rows.chunks_exact(w.width)) {
                // As above.
                acc.iter_mut().zip(&row[first..]).for_each(|(acc, &w)| {
                    *acc = acc.wrapping_add(i32::from(i16::from(x) * i16::from(w)))
                });
            }
            job.finish.write::<false>(i, first, acc, &mut out, at * w.width + first);
        }
    }
}

/// Rows `block` of a join; every level is this text, compiled with its features. `FMA` as in
/// [`quantize_row`].
#[inline(always)]
pub(super) fn join_rows<const FMA: bool>(job: &JoinJob, block: Range<usize>, mut out: Out) {
    let width = job.terms[0].cols.len();
    for (at, i) in block.enumerate() {
        for first in (0..width).step_by(TILE) {
            let mut y = [0.0f32; TILE];
            let y = &mut y[..TILE.min(width - first)];
            for (k, term) in job.terms.iter().enumerate() {
                let q = &term.data[i * width + first..][..y.len()];
                let cols = &term.cols[first..][..y.len()];
                if k == 0 {
                    for ((y, &q), &col) in y.iter_mut().zip(q).zip(cols) {
                        *y = f32::from(q) * col;
                    }
                    continue;
                }
                for ((y, &q), &col) in y.iter_mut().zip(q).zip(cols) {
                    *y += f32::from(q) * col;
                }
            }
            if let Some(bias) = job.bias {
                for (y, &b) in y.iter_mut().zip(&bias[first..]) {
                    *y += b;
                }
            }
            finish_real::<FMA>(y, job.activate, &mut out, at * job.out_width + job.place + first);
        }
    }
}
