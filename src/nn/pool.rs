//! Buffers that layers take and give back, so that nothing large is allocated twice.

use crate::kernels;
use crate::scalar::Scalar;
use ndarray::Array2;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A free buffer serves requests down to this share of it.
const LEAST_SHARE: usize = 4;

/// Free buffers, shared by everything that runs in one [`Cx`](super::Cx).
#[derive(Debug, Default)]
pub(crate) struct Pool<F> {
    free: Mutex<Free<F>>,
}

#[derive(Debug)]
struct Free<F> {
    by_capacity: BTreeMap<usize, Vec<Vec<F>>>,
    /// Numbers in what is handed out: arrays from elsewhere are kept only in its place.
    lent: usize,
}

impl<F> Default for Free<F> {
    fn default() -> Self {
        Self { by_capacity: BTreeMap::new(), lent: 0 }
    }
}

impl<F: Scalar> Pool<F> {
    /// An array of the smallest free buffer that holds it and is not much too large, else of a new one; its contents are anything.
    pub(super) fn take(&self, shape: (usize, usize)) -> Array2<F> {
        let len = shape.0 * shape.1;
        let found = {
            // A poisoned lock only means that another thread panicked between two whole operations on the map.
            let mut free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let found = free.by_capacity.range_mut(len..=len.saturating_mul(LEAST_SHARE)).find_map(|(_, buffers)| buffers.pop());
            free.lent += found.as_ref().map_or(len, Vec::capacity);
            found
        };
        let mut buffer = found.unwrap_or_else(|| kernels::pages::zeros(len));
        buffer.resize(len, F::zero());
        Array2::from_shape_vec(shape, buffer).expect("the buffer has that length")
    }

    /// Takes an array back, or one from elsewhere in its place.
    pub(super) fn give(&self, array: Array2<F>) {
        let buffer = array.into_raw_vec_and_offset().0;
        let mut free = self.free.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if buffer.capacity() > 0 && buffer.capacity() <= free.lent {
            free.lent -= buffer.capacity();
            free.by_capacity.entry(buffer.capacity()).or_default().push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_serves_what_fits_and_comes_back_whole() {
        let pool = Pool::<f32>::default();
        let large = pool.take((10, 10));
        let at = large.as_ptr();
        pool.give(large);
        let tiny = pool.take((1, 3));
        assert_ne!(tiny.as_ptr(), at, "three numbers do not take up a hundred");
        let smaller = pool.take((6, 5));
        assert_eq!((smaller.as_ptr(), smaller.dim()), (at, (6, 5)));
        pool.give(smaller);
        let large = pool.take((10, 10));
        assert_eq!((large.as_ptr(), large.dim()), (at, (10, 10)));
    }

    #[test]
    fn no_more_is_kept_than_was_handed_out() {
        let pool = Pool::<f32>::default();
        pool.give(Array2::zeros((4, 4)));
        let one = pool.take((4, 4));
        pool.give(Array2::zeros((4, 4)));
        pool.give(one);
        let kept: usize = pool.free.lock().unwrap().by_capacity.values().map(Vec::len).sum();
        assert_eq!(kept, 1);
    }
}
