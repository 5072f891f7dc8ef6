//! Buffers that layers take and give back, so that nothing large is allocated twice.

use crate::kernels::buffer::Buffer;
use crate::scalar::Scalar;
use ndarray::Array2;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Buffers that were used once and fit again, never more than were handed out.
///
/// Every mini-batch asks for other lengths, a little more or less than the one before. A buffer
/// therefore serves any length that it has room for and does not waste, one that is a little too
/// short is given up for the one that is allocated in its place, and one that nobody has taken for
/// long is given up too. So what is kept follows what is needed, and is bounded.
#[derive(Debug, Default)]
pub(crate) struct Workspace<F> {
    kept: Mutex<Kept<F>>,
}

#[derive(Debug, Default)]
struct Kept<F> {
    /// By capacity, each with the number of the take that came before it was given back.
    free: BTreeMap<usize, Vec<(u64, Buffer<F>)>>,
    /// By length, how many were handed out and are not yet given back: arrays from elsewhere are
    /// kept only in their place.
    out: BTreeMap<usize, usize>,
    takes: u64,
}

/// A buffer is wasted on lengths below its capacity over this, in per cent.
const SPARE: usize = 125;

/// Buffers are kept for so many takes: a deep network takes some hundred in a step.
const LONG: u64 = 2000;

impl<F: Scalar> Kept<F> {
    /// The shortest free buffer with room for `len` numbers that is not wasted on them.
    fn fitting(&mut self, len: usize) -> Option<Buffer<F>> {
        let most = len.saturating_mul(SPARE) / 100 + Buffer::<F>::spare(len);
        let capacity = *self.free.range(len..=most).next()?.0;
        self.pop(capacity)
    }

    fn pop(&mut self, capacity: usize) -> Option<Buffer<F>> {
        let shelf = self.free.get_mut(&capacity)?;
        let (_, buffer) = shelf.pop()?;
        if shelf.is_empty() {
            self.free.remove(&capacity);
        }
        Some(buffer)
    }

    /// Gives up what a new buffer of `len` numbers takes the place of, and what is old.
    fn give_up(&mut self, len: usize) {
        let least = len.saturating_mul(100) / SPARE;
        if let Some((&capacity, _)) = self.free.range(least..len).next_back() {
            self.pop(capacity);
        }
        let takes = self.takes;
        self.free.retain(|_, shelf| {
            shelf.retain(|(at, _)| takes - at < LONG);
            !shelf.is_empty()
        });
    }
}

impl<F: Scalar> Workspace<F> {
    pub(super) fn take(&self, shape: (usize, usize)) -> Array2<F> {
        let len = shape.0 * shape.1;
        let buffer = {
            // A poisoned lock only means that another thread panicked between two whole operations
            // on the maps.
            let mut kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            kept.takes += 1;
            *kept.out.entry(len).or_insert(0) += 1;
            let fitting = kept.fitting(len);
            if fitting.is_none() {
                kept.give_up(len);
            }
            fitting
        };
        buffer.unwrap_or_else(|| Buffer::zeros(len)).with_len(len).into_array(shape)
    }

    /// Counts an array that was handed out as one that does not come back.
    pub(super) fn forget(&self, array: &Array2<F>) {
        let mut kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(out) = kept.out.get_mut(&array.len()) {
            *out -= 1;
            if *out == 0 {
                kept.out.remove(&array.len());
            }
        }
    }

    pub(super) fn give(&self, array: Array2<F>) {
        let Some(buffer) = Buffer::of(array) else { return };
        let mut kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some(out) = kept.out.get_mut(&buffer.len()) else { return };
        *out -= 1;
        if *out == 0 {
            kept.out.remove(&buffer.len());
        }
        let takes = kept.takes;
        kept.free.entry(buffer.capacity()).or_default().push((takes, buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(workspace: &Workspace<f32>) -> usize {
        workspace.kept.lock().unwrap().free.values().map(Vec::len).sum()
    }

    #[test]
    fn a_buffer_serves_its_length_again_and_no_more_are_kept_than_were_handed_out() {
        let workspace = Workspace::<f32>::default();
        workspace.give(Array2::zeros((4, 4)));
        let one = workspace.take((4, 4));
        let at = one.as_ptr();
        workspace.give(one);
        workspace.give(Array2::zeros((4, 4)));
        assert_eq!(workspace.take((2, 8)).as_ptr(), at);
        assert_eq!(free(&workspace), 0);
    }

    #[test]
    fn steps_of_ever_other_lengths_are_served_by_as_many_buffers_as_one_needs() {
        let workspace = Workspace::<f32>::default();
        for step in 0..500usize {
            // Two at a time, of lengths that come back in no order.
            let rows = 1000 + step * 37 % 211;
            let pair = [workspace.take((rows, 8)), workspace.take((rows / 3, 8))];
            assert!(pair.iter().all(|array| array.is_standard_layout()));
            assert_eq!(pair[0].dim(), (rows, 8));
            pair.into_iter().for_each(|array| workspace.give(array));
            assert!(free(&workspace) <= 2, "{} at step {step}", free(&workspace));
        }
        assert!(workspace.kept.lock().unwrap().out.is_empty());
    }

    #[test]
    fn what_nobody_takes_for_long_is_given_up() {
        let workspace = Workspace::<f32>::default();
        workspace.give(workspace.take((5000, 100)));
        for step in 0..LONG as usize {
            workspace.give(workspace.take((10, 10)));
            assert_eq!(free(&workspace), 2, "{step}");
        }
        workspace.give(workspace.take((100, 100)));
        assert_eq!(free(&workspace), 2);
    }
}
