//! Buffers that layers take and give back, so that nothing large is allocated twice.

use crate::kernels::buffer::Buffer;
use crate::scalar::Scalar;
use ndarray::Array2;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Lengths that were not asked for while so many others had to be allocated are let go: batches
/// that all have other numbers of rows would else keep every length that there ever was.
const PATIENCE: usize = 32;

/// Buffers that were used once and fit again: kept by length, never more than were handed out.
#[derive(Debug, Default)]
pub(crate) struct Workspace<F> {
    shelves: Mutex<Shelves<F>>,
}

#[derive(Debug, Default)]
struct Shelves<F> {
    by_length: BTreeMap<usize, Shelf<F>>,
    /// How often nothing fitted.
    misses: usize,
}

impl<F: Scalar> Shelves<F> {
    fn take(&mut self, len: usize) -> Option<Buffer<F>> {
        let misses = self.misses;
        let fresh = || Shelf { free: Vec::new(), out: 0, used: misses };
        let shelf = self.by_length.entry(len).or_insert_with(fresh);
        shelf.out += 1;
        shelf.used = misses;
        let found = shelf.free.pop();
        if found.is_none() {
            self.misses += 1;
            self.by_length.retain(|_, shelf| shelf.used + PATIENCE > misses);
        }
        found
    }
}

#[derive(Debug)]
struct Shelf<F> {
    free: Vec<Buffer<F>>,
    /// Handed out and not yet given back: arrays from elsewhere are kept only in their place.
    out: usize,
    /// How many misses there had been when it was last asked.
    used: usize,
}

impl<F: Scalar> Workspace<F> {
    pub(super) fn take(&self, shape: (usize, usize)) -> Array2<F> {
        let len = shape.0 * shape.1;
        let buffer = {
            // A poisoned lock only means that another thread panicked between two whole operations
            // on the map.
            self.shelves.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take(len)
        };
        buffer.unwrap_or_else(|| Buffer::zeros(len)).into_array(shape)
    }

    pub(super) fn give(&self, array: Array2<F>) {
        let Some(buffer) = Buffer::of(array) else { return };
        let mut shelves = self.shelves.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let shelf = shelves.by_length.get_mut(&buffer.len());
        if let Some(shelf) = shelf.filter(|shelf| shelf.out > 0) {
            shelf.out -= 1;
            shelf.free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_serves_its_length_again_and_no_more_are_kept_than_were_handed_out() {
        let workspace = Workspace::<f32>::default();
        workspace.give(Array2::zeros((4, 4)));
        let one = workspace.take((4, 4));
        let at = one.as_ptr();
        workspace.give(one);
        workspace.give(Array2::zeros((4, 4)));
        assert_eq!(workspace.take((2, 8)).as_ptr(), at);
        assert!(workspace.shelves.lock().unwrap().by_length[&16].free.is_empty());
    }

    #[test]
    fn lengths_that_come_once_are_not_kept() {
        let workspace = Workspace::<f32>::default();
        for rows in 1..200 {
            workspace.give(workspace.take((4, 4)));
            workspace.give(workspace.take((rows, 5)));
        }
        let shelves = workspace.shelves.lock().unwrap();
        assert!(shelves.by_length.len() <= PATIENCE + 2, "{}", shelves.by_length.len());
        assert_eq!(shelves.by_length[&16].free.len(), 1, "what is asked for again stays");
    }
}
