//! Products of 8-bit integers with 32-bit accumulators, and the one definition of requantisation.
//!
//! Sums of integers are exact in any order as long as they fit, which callers check when they
//! build; so every level of instructions, every cut into blocks and every number of threads gives
//! the same accumulators, and [`Finish`] turns them into the same outputs: its few floating-point
//! operations stand in one fixed order, without fused multiply-adds.
//!
//! Quantisers give integers in ±127; the kernels take −128 as well.

#[cfg(target_arch = "x86_64")]
use super::int8_dense_x86::{self, Columns, Panels};
use super::isa::Isa;
use super::pages::Buffer;
use super::quantize::{ColumnScales, quantize_columns_row, quantize_row, to_ints};
use super::rows::{Cut, for_row_blocks, parts_for};
use std::ops::Range;
#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

/// Accumulators of one row that are at hand at once.
pub(super) const TILE: usize = 256;

/// Outputs that are finished together.
const PIECE: usize = 64;

/// Most multiply-accumulates of ±127 by ±127 that a 32-bit accumulator surely holds:
/// `⌊(2³¹ − 1) / 127²⌋`. What does not fit wraps.
pub const MOST_TERMS: usize = 133_144;

/// Multiply-accumulates of a block of rows of a dense product.
const BLOCK_WORK: usize = 1 << 22;

/// Numbers of a block of rows of a join.
const JOIN_NUMBERS: usize = 1 << 14;

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
    /// `round_ties_even(y / scale)` clamped to ±`most`.
    Int {
        /// The integers, `[n, width]`.
        data: &'a mut [i8],
        /// `s_out`, positive.
        scale: f32,
        /// The largest integer: 127 for 8 bits, 7 for 4.
        most: i8,
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
fn finish_real<const FMA: bool>(y: &mut [f32], activate: Activate, out: &mut Out, at: usize) {
    match activate {
        Activate::Identity => {}
        Activate::Relu => y.iter_mut().for_each(|y| *y = if *y <= 0.0 { 0.0 } else { *y }),
        Activate::Map(f) => f(y),
    }
    match out {
        Out::Int { data, scale, most } => {
            to_ints::<FMA>(y, *scale, *most, &mut data[at..at + y.len()]);
        }
        Out::Real(data) | Out::Added(data) => data[at..at + y.len()].copy_from_slice(y),
    }
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

pub(super) static PORTABLE: Int8Kernels = Int8Kernels {
    spmm: spmm_rows,
    matmul: matmul_rows,
    join: join_rows::<false>,
    quantize_row: quantize_row::<false>,
    quantize_columns: quantize_columns_row::<false>,
};

/// Outputs of a register.
const LANES: usize = 16;

/// An 8-bit matrix `[inner, width]` for dense products: row by row, and laid out as the
/// instructions of a level read it, once they are asked for.
#[derive(Debug, Clone)]
pub struct PackedInt8 {
    pub(super) inner: usize,
    pub(super) width: usize,
    pub(super) rows: Buffer<i8>,
    #[cfg(target_arch = "x86_64")]
    pairs: OnceLock<Panels<i16>>,
    #[cfg(target_arch = "x86_64")]
    columns: OnceLock<Columns>,
    /// And `−128·Σ_k w_kc`: what is too much where the left operand was shifted by 128 to be
    /// unsigned.
    #[cfg(target_arch = "x86_64")]
    fours: OnceLock<(Panels<i8>, Vec<i32>)>,
}

impl PackedInt8 {
    /// Packs `w: [inner, width]`, row by row.
    ///
    /// # Panics
    /// If the slice has another length.
    pub fn new(w: &[i8], inner: usize, width: usize) -> Self {
        assert_eq!(w.len(), inner * width, "packed matrix of {inner} x {width}");
        let mut rows = Buffer::zeros(w.len());
        rows.copy_from_slice(w);
        Self {
            inner,
            width,
            rows,
            #[cfg(target_arch = "x86_64")]
            pairs: OnceLock::new(),
            #[cfg(target_arch = "x86_64")]
            columns: OnceLock::new(),
            #[cfg(target_arch = "x86_64")]
            fours: OnceLock::new(),
        }
    }
}

impl PackedInt8 {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(target_arch = "x86_64")]
impl PackedInt8 {
    pub(super) fn pairs(&self) -> &Panels<i16> {
        self.pairs.get_or_init(|| int8_dense_x86::pairs(&self.rows, self.inner, self.width))
    }

    pub(super) fn columns(&self) -> &Columns {
        self.columns.get_or_init(|| int8_dense_x86::columns(&self.rows, self.inner, self.width))
    }

    pub(super) fn fours(&self) -> &(Panels<i8>, Vec<i32>) {
        self.fours.get_or_init(|| {
            // Zero where a panel has no column.
            let mut shift = vec![0i32; self.width.next_multiple_of(LANES)];
            for row in self.rows.chunks_exact(self.width.max(1)) {
                shift.iter_mut().zip(row).for_each(|(shift, &value)| {
                    *shift = shift.wrapping_sub(128 * i32::from(value))
                });
            }
            (int8_dense_x86::fours(&self.rows, self.inner, self.width), shift)
        })
    }
}

/// Runs `f` on the rows of each block, in parallel where there is enough to do.
fn for_blocks(out: Out, width: usize, cut: Cut, work: usize, f: impl Fn(Range<usize>, Out) + Sync) {
    match out {
        Out::Int { data, scale, most } => {
            for_row_blocks(data, width, cut, work, |block, data| {
                f(block, Out::Int { data, scale, most })
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

impl<'a> Out<'a> {
    /// The same place with a shorter life.
    pub fn reborrow(&mut self) -> Out<'_> {
        match self {
            Out::Int { data, scale, most } => Out::Int { data, scale: *scale, most: *most },
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
            Out::Int { data, scale, most } => Out::Int {
                data: data.split_off_mut(..count).expect(enough),
                scale: *scale,
                most: *most,
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

/// Sparse × dense product of 8-bit integers, `acc_ic = Σ_j a_ij x_jc`, finished into `out`.
///
/// *Shapes*: `a: [n, m]`, `x: [m, width]`, `out: [n, width]`. *Cost*: `nnz·width`
/// multiply-accumulates on a quarter of the bytes of [`spmm`](fn@super::spmm). Accumulators must
/// fit: `Σ_j |a_ij|·127 < 2³¹`, see [`MOST_TERMS`].
///
/// # Panics
/// If the shapes do not fit, or an index of `a` is past the rows of `x`.
pub fn spmm_int8(a: SparseInt8, x: &[i8], width: usize, finish: Finish, out: Out) {
    spmm_int8_with(Isa::best(), a, x, width, finish, out);
}

/// [`spmm_int8`] with the instructions of one level.
///
/// # Panics
/// As [`spmm_int8`], and if the processor does not have the level.
#[doc(hidden)]
pub fn spmm_int8_with(isa: Isa, a: SparseInt8, x: &[i8], width: usize, finish: Finish, out: Out) {
    assert!(!a.starts.is_empty(), "spmm_int8: the left operand has no row ends");
    let rows = a.starts.len() - 1;
    check(&finish, rows, width, &out);
    // The forms of the levels read entries without a check each: all that they rely on is checked
    // here and where a block begins.
    assert!(
        a.starts[0] == 0 && a.starts[rows] == a.cols.len() && a.cols.len() == a.vals.len(),
        "spmm_int8: entries of the left operand"
    );
    assert!(a.starts.is_sorted(), "spmm_int8: a row of the left operand ends before it begins");
    if rows == 0 || width == 0 {
        return;
    }
    assert_eq!(x.len() % width, 0, "spmm_int8: the right operand is whole rows");
    let work = a.cols.len() * width;
    let cut = Cut::ByNonzeros { starts: a.starts, parts: parts_for(work) };
    let job = SparseJob { a, x, width, finish };
    let kernels = isa.int8();
    for_blocks(out, width, cut, work, |block, out| (kernels.spmm)(&job, block, out));
}

/// Dense product of 8-bit integers, `acc_ic = Σ_k x_ik w_kc`, finished into `out`.
///
/// *Shapes*: `x: [n, inner]`, `w: [inner, width]`, `out: [n, width]`. Accumulators must fit:
/// `127·Σ_k |w_kc| < 2³¹`.
///
/// # Panics
/// If the shapes do not fit.
pub fn matmul_int8(x: &[i8], w: &PackedInt8, finish: Finish, out: Out) {
    matmul_int8_with(Isa::best(), x, w, finish, out);
}

/// [`matmul_int8`] with the instructions of one level.
///
/// # Panics
/// As [`matmul_int8`], and if the processor does not have the level.
#[doc(hidden)]
pub fn matmul_int8_with(isa: Isa, x: &[i8], w: &PackedInt8, finish: Finish, out: Out) {
    let rows = out.len() / w.width.max(1);
    check(&finish, rows, w.width, &out);
    assert_eq!(x.len(), rows * w.inner, "matmul_int8: left operand of {rows} rows of {}", w.inner);
    if rows == 0 || w.width == 0 {
        return;
    }
    let row_work = w.inner * w.width;
    let cut = Cut::Even {
        rows,
        height: (BLOCK_WORK / row_work.max(1)).clamp(24, 1024).next_multiple_of(12),
    };
    let job = DenseJob { x, w, finish };
    let kernels = isa.int8();
    for_blocks(out, w.width, cut, rows * row_work, |block, out| (kernels.matmul)(&job, block, out));
}

fn check(finish: &Finish, rows: usize, width: usize, out: &Out) {
    assert!(
        finish.rows.is_none_or(|scales| scales.len() == rows),
        "integer product: one scale a row"
    );
    assert!(finish.cols.len() == width, "integer product: one scale a column");
    assert!(
        finish.bias.is_none_or(|bias| bias.len() == width),
        "integer product: one bias a column"
    );
    assert!(
        out.len() == rows * width,
        "integer product: {rows} rows of {width} do not fit the output"
    );
}

/// The portable form of [`spmm_int8`].
fn spmm_rows(job: &SparseJob, block: Range<usize>, mut out: Out) {
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
fn matmul_rows(job: &DenseJob, block: Range<usize>, mut out: Out) {
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
    terms: &'a [Term<'a>],
    bias: Option<&'a [f32]>,
    activate: Activate<'a>,
    out_width: usize,
    place: usize,
}

/// Joins integers of different scales: `y = Σ_k q_k·col_k`, added from the first term to the last,
/// then bias, activation and [`Out`].
///
/// The join is a requantisation like [`Finish`], with a sum of scaled integers in the place of the
/// scaled accumulator.
///
/// *Shapes*: every term `[n, width]`; the output's columns `place..place + width` of
/// `[n, out_width]` are written.
///
/// # Panics
/// If the shapes do not fit.
pub fn join_int8(
    terms: &[Term],
    bias: Option<&[f32]>,
    activate: Activate,
    out: Out,
    out_width: usize,
    place: usize,
) {
    join_int8_with(Isa::best(), terms, bias, activate, out, out_width, place);
}

/// [`join_int8`] with the instructions of one level.
///
/// # Panics
/// As [`join_int8`], and if the processor does not have the level.
#[doc(hidden)]
pub fn join_int8_with(
    isa: Isa,
    terms: &[Term],
    bias: Option<&[f32]>,
    activate: Activate,
    out: Out,
    out_width: usize,
    place: usize,
) {
    let width = terms[0].cols.len();
    assert!(
        terms.iter().all(|term| term.cols.len() == width && term.data.len() == terms[0].data.len()),
        "join_int8: terms differ in shape"
    );
    assert!(
        place + width <= out_width && out.len() * width == terms[0].data.len() * out_width,
        "join_int8: output"
    );
    assert!(bias.is_none_or(|bias| bias.len() == width), "join_int8: one bias a column");
    if width == 0 || out.len() == 0 {
        return;
    }
    let rows = out.len() / out_width;
    let cut = Cut::Even { rows, height: JOIN_NUMBERS.div_ceil(width) };
    let job = JoinJob { terms, bias, activate, out_width, place };
    let kernels = isa.int8();
    for_blocks(out, out_width, cut, terms.len() * rows * width, |block, out| {
        (kernels.join)(&job, block, out)
    });
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

#[cfg(test)]
mod tests {
    use super::super::cases::{SHAPES, assert_same_in_all_pools, widths};
    use super::super::{cases, reference};
    use super::*;
    use crate::rng::generator;
    use rand_chacha::rand_core::RngCore;

    fn levels() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.available())
    }

    /// Integers of 8 bits, the ends often.
    fn ints(count: usize, seed: u64) -> Vec<i8> {
        let mut rng = generator(seed, &[count as u64, 9]);
        let mut draw = || match rng.next_u32() % 8 {
            0 => i8::MAX,
            1 => i8::MIN,
            _ => rng.next_u32() as i8,
        };
        (0..count).map(|_| draw()).collect()
    }

    fn scales(count: usize, seed: u64) -> Vec<f32> {
        cases::dense::<f32>(1, count, seed).iter().map(|v| v.abs() / 100.0 + 1e-3).collect()
    }

    fn relu(y: f32) -> f32 {
        if y <= 0.0 { 0.0 } else { y }
    }

    /// Runs `product` to integers and to real numbers with and without bias, and compares each with
    /// the reference.
    fn assert_finishes(acc: &[i32], width: usize, what: &str, product: impl Fn(Finish, Out)) {
        let n = acc.len() / width;
        let (rows, cols, biases) =
            (scales(n, 1), scales(width, 2), cases::dense::<f32>(1, width, 3));
        let tanh = |values: &mut [f32]| values.iter_mut().for_each(|v| *v = v.tanh());
        for case in 0..4 {
            let bias = (case % 2 == 0).then(|| biases.as_slice().unwrap());
            let row_scales = (case < 2).then_some(&rows[..]);
            let activate =
                [Activate::Identity, Activate::Relu, Activate::Map(&tanh), Activate::Relu][case];
            let finish = Finish { rows: row_scales, cols: &cols, bias, activate };
            let (mut q, mut y) = (vec![99i8; acc.len()], vec![f32::NAN; acc.len()]);
            let (scale, most) = (0.37, if case == 1 { 7 } else { 127 });
            product(finish, Out::Int { data: &mut q, scale, most });
            product(finish, Out::Real(&mut y));
            let mut sum = vec![0.5f32; acc.len()];
            product(finish, Out::Added(&mut sum));
            for (at, &acc) in acc.iter().enumerate() {
                let (i, c) = (at / width, at % width);
                let row = row_scales.map_or(1.0, |rows| rows[i]);
                let activated = |real: f32| match case {
                    0 => real,
                    2 => real.tanh(),
                    _ => relu(real),
                };
                let real =
                    activated(reference::rescale(acc, row, cols[c], bias.map(|bias| bias[c])));
                let added = 0.5 + reference::rescale(acc, row, cols[c], None);
                let added = activated(bias.map_or(added, |bias| added + bias[c]));
                assert_eq!(
                    sum[at].to_bits(),
                    added.to_bits(),
                    "{what} case {case} at {i}, {c}: {} for {added}",
                    sum[at]
                );
                assert_eq!(
                    y[at].to_bits(),
                    real.to_bits(),
                    "{what} case {case} at {i}, {c}: {} for {real}",
                    y[at]
                );
                assert_eq!(
                    q[at],
                    reference::requantize(real, scale, most),
                    "{what} case {case} at {i}, {c}: {real}"
                );
            }
        }
    }

    #[test]
    fn every_level_of_the_sparse_product_is_the_reference_at_every_width() {
        for (rows, inner, degree) in SHAPES {
            let a = cases::sparse::<f32>(rows, inner, degree, 1);
            let (starts, cols, _) = a.view().into_raw_storage();
            let vals = ints(cols.len(), 2);
            for width in widths().chain([320, 515]) {
                let x = ints(inner * width, 3);
                let acc = reference::spmm_int8(starts, cols, &vals, &x, width);
                for isa in levels() {
                    assert_finishes(
                        &acc,
                        width,
                        &format!("{isa:?} {rows}x{inner} width {width}"),
                        |finish, out| {
                            spmm_int8_with(
                                isa,
                                SparseInt8 { starts, cols, vals: &vals },
                                &x,
                                width,
                                finish,
                                out,
                            );
                        },
                    );
                }
            }
        }
    }

    #[test]
    fn rows_of_one_number_are_the_reference_at_every_width_and_length() {
        for (value, degree) in [(127, 3), (-127, 700), (1, 256), (0, 5)] {
            let (rows, inner) = (4, 900);
            let starts: Vec<usize> = (0..=rows).map(|i| i * degree).collect();
            let cols: Vec<u32> = (0..rows * degree).map(|e| (e * 37 % inner) as u32).collect();
            let vals = vec![value; rows * degree];
            for width in widths().chain([144, 320, 515]) {
                // The longest row at its largest: what 16 bits cannot hold.
                let x =
                    if degree > 500 { vec![127; inner * width] } else { ints(inner * width, 3) };
                let acc = reference::spmm_int8(&starts, &cols, &vals, &x, width);
                for isa in levels() {
                    assert_finishes(
                        &acc,
                        width,
                        &format!("{isa:?} {degree} times {value} width {width}"),
                        |finish, out| {
                            spmm_int8_with(
                                isa,
                                SparseInt8 { starts: &starts, cols: &cols, vals: &vals },
                                &x,
                                width,
                                finish,
                                out,
                            );
                        },
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_and_scales_that_cannot_be_inverted_finish_alike_at_every_level() {
        // From left to right: infinite both ways, NaN by a bias, huge, and tiny.
        let (x, w) = ([1i8; 2], vec![100i8; 2 * 21]);
        let packed = PackedInt8::new(&w, 2, 21);
        let cols: Vec<f32> =
            (0..21).map(|c| [f32::MAX, -f32::MAX, f32::INFINITY, 1e30, 1e-42][c % 5]).collect();
        let bias: Vec<f32> =
            (0..21).map(|c| if c % 5 == 2 { f32::NEG_INFINITY } else { 0.0 }).collect();
        for scale in [1e-3, 1e35, 1e-38] {
            for activate in [Activate::Identity, Activate::Relu] {
                let on = |isa| {
                    let mut q = [99i8; 21];
                    let finish = Finish { rows: None, cols: &cols, bias: Some(&bias), activate };
                    matmul_int8_with(
                        isa,
                        &x,
                        &packed,
                        finish,
                        Out::Int { data: &mut q, scale, most: 127 },
                    );
                    q
                };
                let expected = on(Isa::Portable);
                levels().for_each(|isa| assert_eq!(on(isa), expected, "{isa:?} {scale:e}"));
            }
        }
    }

    #[test]
    fn every_level_of_the_dense_product_is_the_reference_at_every_width() {
        for (rows, inner) in
            [(0, 3), (1, 1), (3, 2), (5, 4), (7, 7), (4, 64), (9, 129), (130, 33), (2, 0)]
        {
            for width in widths() {
                let (x, w) = (ints(rows * inner, 4), ints(inner * width, 5));
                let packed = PackedInt8::new(&w, inner, width);
                let acc = if inner == 0 {
                    vec![0; rows * width]
                } else {
                    reference::matmul_int8(&x, &w, inner, width)
                };
                for isa in levels() {
                    assert_finishes(
                        &acc,
                        width,
                        &format!("{isa:?} {rows}x{inner} width {width}"),
                        |finish, out| {
                            matmul_int8_with(isa, &x, &packed, finish, out);
                        },
                    );
                }
            }
        }
    }

    #[test]
    fn the_largest_integers_neither_saturate_nor_overflow() {
        let count = MOST_TERMS;
        let (cols, starts) = ((0..count as u32).collect::<Vec<_>>(), [0, count]);
        for (left, right) in [(127, 127), (-127, 127), (127, -127), (-127, -127)] {
            let (vals, x) = (vec![left; count], vec![right; count * 3]);
            let exact = i32::from(left) * i32::from(right) * count as i32;
            for isa in levels() {
                let mut y = [0.0; 3];
                let finish = Finish {
                    rows: None,
                    cols: &[1.0; 3],
                    bias: None,
                    activate: Activate::Identity,
                };
                spmm_int8_with(
                    isa,
                    SparseInt8 { starts: &starts, cols: &cols, vals: &vals },
                    &x,
                    3,
                    finish,
                    Out::Real(&mut y),
                );
                assert_eq!(y, [exact as f32; 3], "{isa:?}");
                matmul_int8_with(
                    isa,
                    &vals,
                    &PackedInt8::new(&x, count, 3),
                    finish,
                    Out::Real(&mut y),
                );
                assert_eq!(y, [exact as f32; 3], "{isa:?}");
            }
        }
        assert_eq!(MOST_TERMS, i32::MAX as usize / (127 * 127));
    }

    #[test]
    fn threads_do_not_change_bits() {
        let a = cases::sparse::<f32>(5000, 700, 9, 7);
        let (starts, cols, _) = a.view().into_raw_storage();
        let (vals, row_scales) = (ints(cols.len(), 6), scales(5000, 7));
        let (x, w) = (ints(700 * 70, 8), ints(64 * 33, 9));
        let packed = PackedInt8::new(&w, 64, 33);
        assert_same_in_all_pools(|| {
            let (mut y, mut z) = (vec![0; 5000 * 70], vec![0.0; 700 * 70 / 64 * 33]);
            let finish = Finish {
                rows: Some(&row_scales),
                cols: &[0.01; 70],
                bias: None,
                activate: Activate::Relu,
            };
            let out = Out::Int { data: &mut y, scale: 0.1, most: 127 };
            spmm_int8(SparseInt8 { starts, cols, vals: &vals }, &x, 70, finish, out);
            let finish =
                Finish { rows: None, cols: &[0.01; 33], bias: None, activate: Activate::Identity };
            matmul_int8(&x[..z.len() / 33 * 64], &packed, finish, Out::Real(&mut z));
            (y, z.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        });
    }

    #[test]
    fn joins_add_in_order_and_leave_other_columns_alone() {
        let (a, b) = ([1, 2, 3, 4], [10, 20, 30, 40]);
        let mut y = [9i8; 6];
        let terms = [Term { data: &a, cols: &[1.0, 2.0] }, Term { data: &b, cols: &[0.5, -0.5] }];
        join_int8(
            &terms,
            Some(&[0.0, 1.0]),
            Activate::Relu,
            Out::Int { data: &mut y, scale: 1.0, most: 127 },
            3,
            1,
        );
        assert_eq!(y, [9, 6, 0, 9, 18, 0]);
    }
}
