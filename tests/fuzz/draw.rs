//! What a case draws: everything follows from its number.

use gnn_prune::rng::{ChaCha8Rng, generator};
use ndarray_rand::rand::Rng;

/// The first word of every generator's key here.
const FUZZ: u64 = 0x6675_7a7a;

/// Numbers at which something ends: a type, a mask, a power.
const EDGES: [u64; 18] = [
    0,
    1,
    2,
    127,
    128,
    255,
    256,
    65_535,
    65_536,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 53,
    1 << 62,
    (1 << 63) - 1,
    1 << 63,
    u64::MAX,
];

pub struct Draw(ChaCha8Rng);

impl Draw {
    pub fn new(case: u64) -> Self {
        Self(generator(case, &[FUZZ]))
    }

    /// One of `0..end`, and 0 where there is none.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { self.0.random_range(0..end) }
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn word<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// How often to do something: mostly once, so that what it did is seen.
    pub fn few(&mut self) -> usize {
        *self.pick(&[1, 1, 1, 1, 2, 2, 3, 5])
    }

    pub fn byte(&mut self) -> u8 {
        self.0.random()
    }

    pub fn edge(&mut self) -> u64 {
        *self.pick(&EDGES)
    }

    /// A part of `0..len`, short in most draws.
    pub fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len);
        let most = if self.one_in(3) { len - start } else { (len - start).min(16) };
        start..start + self.below(most + 1)
    }
}
