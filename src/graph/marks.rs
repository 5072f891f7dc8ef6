//! Where some of a graph's nodes stand, looked up by their numbers.

/// A place for some of the nodes of a graph: one word per node, which are allocated once and never
/// cleared. A word holds the use that wrote it beside the place, so that starting anew is adding
/// one to a number.
#[derive(Debug)]
pub(super) struct Marks {
    words: Vec<u64>,
    now: u32,
}

impl Marks {
    /// For a graph of so many nodes; memory that is never touched is never taken from the system.
    pub(super) fn new(nodes: usize) -> Self {
        Self { words: vec![0; nodes], now: 1 }
    }

    /// Forgets all places.
    pub(super) fn clear(&mut self) {
        match self.now.checked_add(1) {
            Some(next) => self.now = next,
            None => {
                self.words.fill(0);
                self.now = 1;
            }
        }
    }

    /// Gives a node a place; whether it had none.
    pub(super) fn set(&mut self, node: u32, place: u32) -> bool {
        let fresh = self.get(node).is_none();
        self.words[node as usize] = u64::from(self.now) << 32 | u64::from(place);
        fresh
    }

    /// The place of a node, if it has one.
    #[inline]
    pub(super) fn get(&self, node: u32) -> Option<u32> {
        let word = self.words[node as usize];
        ((word >> 32) as u32 == self.now).then_some(word as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_forgotten_at_once_and_also_where_the_count_of_uses_ends() {
        let mut marks = Marks::new(3);
        assert!(marks.set(2, 7) && !marks.set(2, 8));
        assert_eq!((marks.get(2), marks.get(0)), (Some(8), None));
        marks.clear();
        assert_eq!(marks.get(2), None);
        marks.now = u32::MAX;
        marks.set(1, 5);
        marks.clear();
        assert_eq!((0..3).filter_map(|node| marks.get(node)).count(), 0);
        assert!(marks.set(1, 6) && marks.get(1) == Some(6));
    }
}
