//! How many bits of two rows differ.

use super::LANES;
use crate::kernels::simd::Isa;

/// `y_i = Σ_m |code_im xor query_m|`: in how many bits the rows of whole blocks differ from one
/// other row of as many bytes.
///
/// # Panics
/// If the codes are not so many blocks of as many columns as the query has bytes, if there are more
/// than 8,191 of them, and if the processor does not have the level.
pub fn bit_differences(isa: Isa, codes: &[[u8; LANES]], query: &[u8], y: &mut [[u16; LANES]]) {
    assert_eq!(codes.len(), y.len() * query.len(), "codes: blocks of as many columns");
    assert!(query.len() <= usize::from(u16::MAX) / 8, "differences pass 16 bits");
    if query.is_empty() {
        return y.fill([0; LANES]);
    }
    assert!(isa.available(), "this processor has no {isa:?}");
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 {
        return super::bits_x86::differences(isa, codes, query, y);
    }
    portable(codes, query, y);
}

fn portable(codes: &[[u8; LANES]], query: &[u8], y: &mut [[u16; LANES]]) {
    for (codes, y) in codes.chunks_exact(query.len()).zip(y) {
        *y = [0; LANES];
        for (codes, &query) in codes.iter().zip(query) {
            for (y, &code) in y.iter_mut().zip(codes) {
                *y += (code ^ query).count_ones() as u16;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::generator;
    use rand_chacha::rand_core::RngCore;

    #[test]
    fn every_level_counts_the_bits_that_differ() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            for columns in [1, 2, 3, 8, 30, 31, 32, 33, 64, 70, 257] {
                for count in [1, 2, 5] {
                    let mut codes = vec![0; count * columns * LANES];
                    generator(1, &[columns as u64]).fill_bytes(&mut codes);
                    let mut query = vec![0; columns];
                    generator(2, &[columns as u64]).fill_bytes(&mut query);
                    // All bits differ in one row, whose sums are the largest.
                    (0..columns).for_each(|m| codes[m * LANES + 9] = !query[m]);
                    let mut y = vec![[7; LANES]; count];
                    bit_differences(isa, codes.as_chunks().0, &query, &mut y);
                    for (i, &found) in y.as_flattened().iter().enumerate() {
                        let code = |m: usize| codes[(i / LANES * columns + m) * LANES + i % LANES];
                        let expected: u32 =
                            (0..columns).map(|m| (code(m) ^ query[m]).count_ones()).sum();
                        assert_eq!(u32::from(found), expected, "{isa:?}, {columns} columns");
                    }
                }
            }
        }
    }
}
