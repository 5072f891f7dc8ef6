//! Cutting work into pieces that rayon runs in any order, each piece the only writer of what it
//! writes.
//!
//! Everything here runs on rayon's ambient pool; a caller chooses the number of threads with
//! `ThreadPool::install`.

use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use std::borrow::Cow;
use std::ops::Range;

/// Work below this many multiply-adds runs on the calling thread: handing it over costs more than
/// it saves.
pub(crate) const SERIAL_WORK: usize = 32 * 1024;

/// Parts a thread gets where parts are taken dynamically: enough to even out hub rows, few enough
/// to cost nothing.
const PARTS_PER_THREAD: usize = 32;

/// Numbers in a chunk of [`for_each_chunk`]. A constant, so that what a chunk computes never
/// depends on the number of threads.
pub const CHUNK: usize = 8 * 1024;

/// A CSR matrix as three slices; `starts` begins at zero even where the view is a slice of rows.
pub(crate) struct Rows<'a, F> {
    pub(crate) starts: Cow<'a, [usize]>,
    pub(crate) cols: &'a [u32],
    pub(crate) vals: &'a [F],
}

impl<'a, F: Scalar> Rows<'a, F> {
    /// # Panics
    /// If `a` is stored by columns.
    pub(crate) fn of(a: CsrView<'a, F>) -> Self {
        assert!(a.is_csr(), "a sparse operand must be stored by rows");
        let (starts, cols, vals) = a.into_raw_storage();
        let starts = match starts.first() {
            Some(&first) if first != 0 => Cow::Owned(starts.iter().map(|s| s - first).collect()),
            _ => Cow::Borrowed(starts),
        };
        Rows { starts, cols, vals }
    }
}

/// How many parts to cut `work` multiply-adds into, given the threads at hand. The cut must not
/// change any result.
pub(crate) fn parts_for(work: usize) -> usize {
    match rayon::current_num_threads() {
        1 => 1,
        _ if work < SERIAL_WORK => 1,
        threads => (threads * PARTS_PER_THREAD).min(work / (SERIAL_WORK / 4)),
    }
}

/// How rows are cut into consecutive blocks: a rule, so that asking for a block allocates nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cut<'a> {
    /// So many rows each, the last block fewer.
    Even {
        /// All of them.
        rows: usize,
        /// Those of a block, at least one.
        height: usize,
    },
    /// At most so many blocks of about as many stored entries each; an empty row counts as one.
    ByNonzeros {
        /// Where each row begins, from 0, and the end.
        starts: &'a [usize],
        /// Number of blocks, of which some may be empty.
        parts: usize,
    },
}

impl Cut<'_> {
    fn rows(&self) -> usize {
        match self {
            Cut::Even { rows, .. } => *rows,
            Cut::ByNonzeros { starts, .. } => starts.len().saturating_sub(1),
        }
    }

    fn count(&self) -> usize {
        match self {
            Cut::Even { rows, height } => rows.div_ceil(*height),
            Cut::ByNonzeros { parts, .. } => *parts,
        }
    }

    /// The first row of block `k`, and the number of rows for the block after the last.
    fn start(&self, k: usize) -> usize {
        match *self {
            Cut::Even { rows, height } => rows.min(k * height),
            Cut::ByNonzeros { parts, .. } if k == parts => self.rows(),
            Cut::ByNonzeros { starts, parts } => {
                let rows = self.rows();
                // `starts` is the prefix sum of the row lengths, so the cost of the rows before `i`
                // is read off, not summed.
                let cost = |i: usize| starts[i] + i;
                let goal = (cost(rows) as u128 * k as u128 / parts as u128) as usize;
                first_not(0..rows, |i| cost(i) < goal)
            }
        }
    }

    /// All blocks that have rows.
    fn blocks(self) -> Vec<Range<usize>> {
        (0..self.count())
            .map(|k| self.start(k)..self.start(k + 1))
            .filter(|block| !block.is_empty())
            .collect()
    }
}

/// Cuts rows into at most `parts` consecutive ranges of about as many stored entries each (an empty
/// row counts as one).
pub(crate) fn blocks_by_nonzeros(starts: &[usize], parts: usize) -> Vec<Range<usize>> {
    Cut::ByNonzeros { starts, parts }.blocks()
}

/// The first of `range` that does not satisfy `holds`, which holds for a prefix; the end if all do.
fn first_not(range: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// Cuts `rows` rows into consecutive ranges of `height` rows, the last one shorter.
pub(crate) fn blocks_of(rows: usize, height: usize) -> Vec<Range<usize>> {
    Cut::Even { rows, height: height.max(1) }.blocks()
}

/// Runs `f(rows, numbers of those rows)` for every block, in parallel where `work` multiply-adds
/// are worth it. Nothing is allocated.
///
/// `data` holds `width` numbers per row.
///
/// # Panics
/// If it has another number of rows.
pub(crate) fn for_row_blocks<T: Send>(
    data: &mut [T],
    width: usize,
    cut: Cut,
    work: usize,
    f: impl Fn(Range<usize>, &mut [T]) + Sync,
) {
    let (rows, count) = (cut.rows(), cut.count());
    assert_eq!(
        data.len(),
        rows * width,
        "row blocks cover {rows} rows of {width}, the array has {} numbers",
        data.len()
    );
    let serial = count < 2 || work < SERIAL_WORK || rayon::current_num_threads() == 1;
    halve(data, width, cut, 0..count, serial, &f);
}

/// Blocks `range`, whose numbers are `data`: halves of them beside each other, down to single ones.
/// `f` is called through a pointer, so that rayon's part is compiled once per type of number and
/// not once per kernel.
fn halve<T: Send>(
    data: &mut [T],
    width: usize,
    cut: Cut,
    range: Range<usize>,
    serial: bool,
    f: &(dyn Fn(Range<usize>, &mut [T]) + Sync),
) {
    match range.len() {
        0 => {}
        1 => {
            let block = cut.start(range.start)..cut.start(range.end);
            if !block.is_empty() {
                f(block, data);
            }
        }
        several => {
            let middle = range.start + several / 2;
            let (left, right) =
                data.split_at_mut((cut.start(middle) - cut.start(range.start)) * width);
            let (first, second) = (range.start..middle, middle..range.end);
            if serial {
                halve(left, width, cut, first, serial, f);
                halve(right, width, cut, second, serial, f);
            } else {
                rayon::join(
                    || halve(left, width, cut, first, serial, f),
                    || halve(right, width, cut, second, serial, f),
                );
            }
        }
    }
}

/// Cuts `data` so that each block has its rows; row `i` begins at `at(i)`.
pub(crate) fn pieces<'a, F>(
    mut data: &'a mut [F],
    blocks: &[Range<usize>],
    at: impl Fn(usize) -> usize,
) -> Vec<&'a mut [F]> {
    let pieces = blocks
        .iter()
        .map(|block| {
            data.split_off_mut(..at(block.end) - at(block.start)).expect("the array has all rows")
        })
        .collect();
    assert!(data.is_empty(), "{} numbers are in no block of rows", data.len());
    pieces
}

/// Runs all jobs, in parallel where the work is worth it, and returns what they give in their
/// order. `usize::MAX` is always worth it.
pub fn run<T: Send, R: Send>(jobs: Vec<T>, work: usize, f: impl Fn(T) -> R + Sync) -> Vec<R> {
    let mut slots: Vec<(Option<T>, Option<R>)> =
        jobs.into_iter().map(|job| (Some(job), None)).collect();
    let cut = Cut::Even { rows: slots.len(), height: 1 };
    for_row_blocks(&mut slots, 1, cut, work, |_, slots| {
        for (job, result) in slots {
            *result = job.take().map(&f);
        }
    });
    slots.into_iter().filter_map(|(_, result)| result).collect()
}

/// Runs `f(i, row i)` for every row of `y`, in parallel where there is enough to do. `y: [n, c]`.
pub fn map_rows<F: Scalar>(y: ArrayViewMut2<F>, f: impl Fn(usize, &mut [F]) + Sync) {
    let (rows, width) = y.dim();
    if rows == 0 || width == 0 {
        return;
    }
    let cut = Cut::Even { rows, height: CHUNK.div_ceil(width) };
    update_rows(y, |data| {
        for_row_blocks(data, width, cut, rows * width, |block, numbers| {
            block.zip(numbers.chunks_exact_mut(width)).for_each(|(i, row)| f(i, row));
        });
    });
}

/// Runs `f(offset, chunk)` for every chunk of [`CHUNK`] numbers (the last one shorter), in parallel
/// where there are several.
pub fn for_each_chunk<T: Send>(data: &mut [T], f: impl Fn(usize, &mut [T]) + Sync) {
    let (rows, height) = (data.len(), CHUNK);
    for_row_blocks(data, 1, Cut::Even { rows, height }, rows, |chunk, data| f(chunk.start, data));
}

crate::scalar::compiled_here! {
    /// Copies `x` to `y`, in parallel where there is enough to do. `x, y: [n, c]`.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn copy_rows<F>(x: ArrayView2<'a, F>, y: ArrayViewMut2<'a, F>) = copied
}

fn copied<F: Scalar>(x: ArrayView2<F>, mut y: ArrayViewMut2<F>) {
    assert_eq!(x.dim(), y.dim(), "copy_rows: x and y");
    match (x.as_slice(), y.as_slice_mut()) {
        (Some(x), Some(y)) => {
            for_each_chunk(y, |start, y| y.copy_from_slice(&x[start..][..y.len()]))
        }
        _ => y.assign(&x),
    }
}

/// Hands `f` the numbers of `x` row by row, copied only where the array is laid out otherwise.
pub(crate) fn with_rows<F: Scalar, R>(x: ArrayView2<F>, f: impl FnOnce(&[F]) -> R) -> R {
    match x.as_slice() {
        Some(numbers) => f(numbers),
        None => f(x.as_standard_layout().as_slice().expect("a standard layout is a slice")),
    }
}

/// Hands `f` the numbers of `y` row by row to overwrite: every number must be written.
pub(crate) fn overwrite_rows<F: Scalar>(mut y: ArrayViewMut2<F>, f: impl FnOnce(&mut [F])) {
    match y.as_slice_mut() {
        Some(numbers) => f(numbers),
        None => {
            let mut copy = Array2::zeros(y.dim());
            f(copy.as_slice_mut().expect("a new array is in standard layout"));
            y.assign(&copy);
        }
    }
}

/// Hands `f` the numbers of `y` row by row to change.
pub(crate) fn update_rows<F: Scalar>(mut y: ArrayViewMut2<F>, f: impl FnOnce(&mut [F])) {
    match y.as_slice_mut() {
        Some(numbers) => f(numbers),
        None => {
            let mut copy = y.as_standard_layout().into_owned();
            f(copy.as_slice_mut().expect("a standard layout is a slice"));
            y.assign(&copy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hub_row_gets_a_part_of_its_own() {
        let starts = [0, 1, 2, 1002, 1003, 1004];
        let blocks = blocks_by_nonzeros(&starts, 4);
        assert!(blocks.iter().all(|block| block.len() < 4), "{blocks:?}");
        assert_eq!((blocks[0].start, blocks[blocks.len() - 1].end), (0, 5));
    }

    #[test]
    fn every_number_is_visited_once_with_its_place() {
        for len in [0, 1, CHUNK, 5 * CHUNK + 3] {
            let mut data = vec![0usize; len];
            for_each_chunk(&mut data, |offset, chunk| {
                chunk.iter_mut().enumerate().for_each(|(k, v)| *v += offset + k + 1)
            });
            assert!(data.iter().enumerate().all(|(k, &v)| v == k + 1));
        }
        for (rows, cols) in [(0, 3), (3, 0), (1, 1), (5000, 7), (3, 40_000)] {
            let mut y = Array2::<f32>::zeros((rows, cols));
            map_rows(y.view_mut(), |i, row| row.iter_mut().for_each(|v| *v += i as f32));
            map_rows(y.view_mut().reversed_axes(), |c, column| {
                column.iter_mut().for_each(|v| *v += c as f32)
            });
            assert!(y.indexed_iter().all(|((i, c), &v)| v == (i + c) as f32));
        }
    }

    #[test]
    #[should_panic(expected = "row blocks cover 3 rows of 2")]
    fn blocks_must_cover_the_array() {
        for_row_blocks(&mut [0.0f32; 7], 2, Cut::Even { rows: 3, height: 2 }, 0, |_, _| {});
    }

    proptest! {
        #[test]
        fn blocks_cover_all_rows_in_order(lengths in proptest::collection::vec(0usize..30, 0..80), parts in 1usize..50) {
            let mut starts = vec![0];
            lengths.iter().for_each(|len| starts.push(starts[starts.len() - 1] + len));
            let blocks = blocks_by_nonzeros(&starts, parts);
            prop_assert!(blocks.len() <= parts && blocks.iter().all(|block| !block.is_empty()));
            prop_assert_eq!(blocks.into_iter().flatten().collect::<Vec<_>>(), (0..lengths.len()).collect::<Vec<_>>());
        }
    }
}
