//! Buffers that layers take and give back, so that nothing large is allocated twice.

use crate::kernels::buffer::Buffer;
use crate::scalar::Scalar;
use ndarray::Array2;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Buffers that were used once and fit again: kept by length, never more than were handed out.
#[derive(Debug, Default)]
pub(crate) struct Workspace<F> {
    shelves: Mutex<BTreeMap<usize, Shelf<F>>>,
}

#[derive(Debug)]
struct Shelf<F> {
    free: Vec<Buffer<F>>,
    /// Handed out and not yet given back: arrays from elsewhere are kept only in their place.
    out: usize,
}

impl<F: Scalar> Workspace<F> {
    pub(super) fn take(&self, shape: (usize, usize)) -> Array2<F> {
        let len = shape.0 * shape.1;
        let buffer = {
            // A poisoned lock only means that another thread panicked between two whole operations
            // on the map.
            let mut shelves = self.shelves.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let shelf = shelves.entry(len).or_insert(Shelf { free: Vec::new(), out: 0 });
            shelf.out += 1;
            shelf.free.pop()
        };
        buffer.unwrap_or_else(|| Buffer::zeros(len)).into_array(shape)
    }

    pub(super) fn give(&self, array: Array2<F>) {
        let Some(buffer) = Buffer::of(array) else { return };
        let mut shelves = self.shelves.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(shelf) = shelves.get_mut(&buffer.len()).filter(|shelf| shelf.out > 0) {
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
        assert!(workspace.shelves.lock().unwrap()[&16].free.is_empty());
    }
}
