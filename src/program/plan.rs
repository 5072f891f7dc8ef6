//! Which buffer each value lies in. Values are numbers, so that programs of floats and of integers
//! are planned alike.

/// A value that needs memory: the step that makes it, the last that reads it, and how many entries
/// it has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) value: usize,
    pub(crate) born: usize,
    pub(crate) dies: usize,
    pub(crate) len: usize,
}

/// The buffer of each value, and the entries of each buffer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Buffers {
    of_value: Vec<Option<usize>>,
    pub(crate) lens: Vec<usize>,
}

impl Buffers {
    /// Gives every span, in the order of their births, a buffer that is free then: the one that
    /// wastes least, or the largest, which grows.
    pub(crate) fn plan(spans: impl IntoIterator<Item = Span>) -> Self {
        let mut of_value = Vec::new();
        // Entries of each buffer, and when its value dies.
        let mut buffers: Vec<(usize, usize)> = Vec::new();
        for span in spans {
            let free = || (0..buffers.len()).filter(|&b| buffers[b].1 < span.born);
            let fits = free().filter(|&b| buffers[b].0 >= span.len).min_by_key(|&b| buffers[b].0);
            let buffer =
                fits.or_else(|| free().max_by_key(|&b| buffers[b].0)).unwrap_or_else(|| {
                    buffers.push((0, 0));
                    buffers.len() - 1
                });
            buffers[buffer] = (buffers[buffer].0.max(span.len), span.dies);
            of_value.resize(of_value.len().max(span.value + 1), None);
            of_value[span.value] = Some(buffer);
        }
        Self { of_value, lens: buffers.into_iter().map(|(len, _)| len).collect() }
    }

    /// The buffer of a value, if it has one.
    pub(crate) fn of(&self, value: usize) -> Option<usize> {
        self.of_value.get(value).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_serves_again_once_its_value_was_read_last_and_the_tightest_goes_first() {
        let span = |value, born, dies, len| Span { value, born, dies, len };
        let plan = Buffers::plan([
            span(1, 0, 1, 10),
            span(2, 1, 2, 40),
            // What is read in a step is not written in it.
            span(3, 2, 5, 8),
            span(4, 3, 4, 9),
            span(5, 5, 5, 50),
        ]);
        assert_eq!(plan.of(0), None);
        assert_eq!((1..6).map(|k| plan.of(k).unwrap()).collect::<Vec<_>>(), [0, 1, 0, 1, 1]);
        assert_eq!(plan.lens, [10, 50]);
    }
}
