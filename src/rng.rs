//! Seeded randomness: the seed is always an argument, and the same seed gives the same bits on any
//! machine.

#[doc(inline)]
pub use gnn_prune_core::seed::{ChaCha8Rng, generator, hash, mix};

/// Numbers drawn one after the other (SplitMix64), for draws of a few numbers under each of very
/// many keys: where [`generator`] takes longer to start than to draw.
#[derive(Debug, Clone)]
pub(crate) struct Draws {
    state: u64,
}

impl Draws {
    /// The draws of a key; see [`generator`].
    pub(crate) fn of(seed: u64, key: &[u64]) -> Self {
        Self { state: hash(seed, key) }
    }

    /// A number below `bound`, which is at least 1. What the numbers differ in probability is less
    /// than `bound / 2^64` of it (Lemire 2019, without the rejection).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let word = mix(self.state);
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(word) * bound as u128) >> 64) as usize
    }
}

/// A 64-bit digest of words in a row: what runs and files are compared by, equal on every machine.
/// It finds damage and not forgery.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Digest {
    state: u64,
    words: u64,
}

impl Digest {
    pub(crate) fn word(&mut self, word: u64) {
        self.state = mix(self.state.rotate_left(23) ^ mix(word));
        self.words += 1;
    }

    /// Eight bytes per word, and their number.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        self.word(bytes.len() as u64);
    }

    pub(crate) fn value(self) -> u64 {
        mix(self.state ^ self.words)
    }

    /// The digest of these bytes alone, as 16 digits.
    pub(crate) fn of(bytes: &[u8]) -> String {
        let mut digest = Self::default();
        digest.bytes(bytes);
        format!("{:016x}", digest.value())
    }

    /// The digest of lists of numbers, as 16 digits: it tells where each ends.
    pub(crate) fn of_lists<'a>(lists: impl IntoIterator<Item = &'a [u32]>) -> String {
        let mut digest = Self::default();
        for list in lists {
            list.iter().for_each(|&number| digest.word(number.into()));
            digest.word(list.len() as u64);
        }
        format!("{:016x}", digest.value())
    }
}

/// What a generator is for: the first word of its key, so that no two uses share a stream.
pub mod purpose {
    /// Initial weights.
    pub const INIT: u64 = 1;
    /// Dropout masks.
    pub const DROPOUT: u64 = 2;
    /// The split into training, validation and test nodes.
    pub const SPLIT: u64 = 3;
    /// Random pruning scores.
    pub const RANDOM_CRITERION: u64 = 4;
    /// Generated graphs, features and labels.
    pub const DATA: u64 = 5;
    /// A stage of a compression pipeline.
    pub const STAGE: u64 = 6;
    /// Batches of a task: order, and what stands beside an answer.
    pub const BATCHES: u64 = 7;
    /// The partition of graphs into folds.
    pub const FOLDS: u64 = 8;
    /// Which prefix of a model a batch trains.
    pub const PREFIX: u64 = 9;
    /// What stands beside the first answers of a teacher.
    pub const RANKINGS: u64 = 10;
    /// Experts that map a student's rows to its teacher's.
    pub const EXPERTS: u64 = 11;
    /// Mini-batches: whose turn it is, neighbours, walks, clusters.
    pub const SAMPLE: u64 = 20;
    /// Rounding of maps that are kept in few bits.
    pub const PACKING: u64 = 21;
    /// The edges of the graph that a network is trained on.
    pub const THINNING: u64 = 22;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_and_the_length_change_a_digest() {
        let bytes: Vec<u8> = (0..21).collect();
        let mut all = vec![Digest::of(&bytes), Digest::of(&[]), Digest::of(&[0])];
        all.extend((0..21).map(|len| Digest::of(&vec![0; len + 2])));
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            all.push(Digest::of(&flipped));
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(Digest::of(b"gnn-prune"), Digest::of(b"gnn-prune"));
    }

    #[test]
    fn a_digest_of_lists_tells_where_each_ends() {
        let of = |lists: &[&[u32]]| Digest::of_lists(lists.iter().copied());
        let all =
            [of(&[&[1, 2], &[3]]), of(&[&[1], &[2, 3]]), of(&[&[1, 2, 3]]), of(&[&[1, 2, 3], &[]])];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "{all:?}");
        }
    }
}
