//! Seeded randomness: the seed is always an argument, and the same seed gives the same bits on any
//! machine.

pub use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// A generator for `seed` and the words that say what it is for: `generator(seed, &[INIT, 3])`.
///
/// Generators of different keys are independent; the stream of one key never changes between
/// platforms or versions (ChaCha8).
pub fn generator(seed: u64, key: &[u64]) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(hash(seed, key))
}

/// One 64-bit word from `seed` and a key of any length.
pub fn hash(seed: u64, key: &[u64]) -> u64 {
    key.iter().fold(mix(seed ^ 0x9e37_79b9_7f4a_7c15), |state, &word| {
        mix(state.rotate_left(23) ^ mix(word))
    })
}

/// SplitMix64's finaliser: every input bit changes every output bit with probability one half
/// (Steele et al., OOPSLA 2014).
#[inline]
pub fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::RngCore;

    #[test]
    fn keys_give_different_streams_and_the_same_key_the_same() {
        let draw = |seed, key: &[u64]| generator(seed, key).next_u64();
        assert_eq!(draw(7, &[1, 2]), draw(7, &[1, 2]));
        let all = [
            draw(7, &[1, 2]),
            draw(7, &[2, 1]),
            draw(7, &[1]),
            draw(8, &[1, 2]),
            draw(7, &[1, 2, 0]),
        ];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b), "two keys share a stream");
        }
    }
}
