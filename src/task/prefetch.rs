//! What is made on another thread before it is asked for.

use std::io;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

/// The items of an iterator that runs on a thread of its own, in their order.
#[derive(Debug)]
pub(super) struct Ahead<T> {
    /// Until the last has come.
    items: Option<Receiver<T>>,
    worker: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Ahead<T> {
    /// Makes the iterator on a new thread, which then is at most so many items ahead, and one that
    /// it is making.
    ///
    /// # Errors
    /// Where the system has no thread.
    pub(super) fn start<I: Iterator<Item = T>>(
        waiting: usize,
        make: impl FnOnce() -> I + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, items) = sync_channel(waiting);
        let work = move || {
            for item in make() {
                if sender.send(item).is_err() {
                    // Nobody will ask for more.
                    return;
                }
            }
        };
        let worker = Builder::new().name("batches".into()).spawn(work)?;
        Ok(Self { items: Some(items), worker: Some(worker) })
    }
}

impl<T> Iterator for Ahead<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if let Ok(item) = self.items.as_ref()?.recv() {
            return Some(item);
        }
        self.items = None;
        // A panic goes on where its item would have come.
        if let Some(Err(panic)) = self.worker.take().map(JoinHandle::join) {
            resume_unwind(panic);
        }
        None
    }
}

impl<T> Drop for Ahead<T> {
    /// Waits for the item that is being made. What it panics with, where panics unwind,
    /// nobody asked for.
    fn drop(&mut self) {
        self.items = None;
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn items_come_in_order_and_the_end_stays_the_end() {
        let mut ahead = Ahead::start(2, || 0..100).unwrap();
        assert!(ahead.by_ref().eq(0..100));
        assert_eq!((ahead.next(), ahead.next()), (None, None));
    }

    #[test]
    fn no_more_are_made_than_may_wait_and_none_after_the_last_was_asked_for() {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&made);
        let count = move || {
            (0..).inspect(move |_| {
                counted.fetch_add(1, Ordering::SeqCst);
            })
        };
        let mut ahead = Ahead::start(2, count).unwrap();
        assert_eq!(ahead.next(), Some(0));
        // One that was taken, two that wait, one that finds no room.
        while made.load(Ordering::SeqCst) < 4 {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), 4);
        drop(ahead);
        // The worker has ended, or the counter would still be shared with it.
        assert_eq!(Arc::strong_count(&made), 1);
        assert_eq!(made.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn a_panic_comes_in_its_place_and_not_at_all_where_nobody_asks() {
        let panics = || (0..4).inspect(|&k| assert!(k < 2, "number {k}"));
        let mut ahead = Ahead::start(1, panics).unwrap();
        assert_eq!((ahead.next(), ahead.next()), (Some(0), Some(1)));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ahead.next()));
        let message = caught.unwrap_err();
        assert_eq!(message.downcast_ref::<String>().map(String::as_str), Some("number 2"));
        assert_eq!(ahead.next(), None);
        drop(Ahead::start(1, panics).unwrap());
    }
}
