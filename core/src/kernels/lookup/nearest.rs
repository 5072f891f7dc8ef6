//! Which word is nearest.

use crate::kernels::simd::{Isa, by_level};
use crate::scalar::Scalar;

/// Words whose products are summed up in registers together.
const TOGETHER: usize = 32;

/// The most words.
const WORDS: usize = 256;

/// The word of each row of `x: [n, s]` that is nearest to it in squared distance, of equally near
/// ones the first; `words: [at most 256, s]`, both row by row. What is not a number is nearest to
/// the first word.
///
/// `argmax_k x·w_k − |w_k|²/2`, summed up column by column without fused multiply-adds: every level
/// of instructions gives the same words.
///
/// # Panics
/// If there is no column or no word, if there are too many words, or if rows are not whole.
pub fn nearest_words(x: &[f32], words: &[f32], width: usize) -> Vec<u8> {
    nearest_words_with(Isa::best(), x, words, width)
}

/// As [`nearest_words`], with the instructions of a level.
///
/// # Panics
/// As [`nearest_words`], and if the processor does not have the level.
pub fn nearest_words_with(isa: Isa, x: &[f32], words: &[f32], width: usize) -> Vec<u8> {
    let count = words.len() / width;
    assert!((1..=WORDS).contains(&count) && words.len() == count * width, "words: {count} rows");
    assert!(x.len().is_multiple_of(width), "rows of {width} columns");
    let padded = count.next_multiple_of(TOGETHER);
    // A word that is not there is farther than any.
    let mut columns = vec![0.0; padded * width];
    let mut halves = vec![f32::INFINITY; padded];
    for (k, word) in words.chunks_exact(width).enumerate() {
        halves[k] = 0.5 * word.iter().map(|w| w * w).sum::<f32>();
        word.iter().enumerate().for_each(|(c, &w)| columns[c * padded + k] = w);
    }
    let mut codes = vec![0; x.len() / width];
    assign(isa, x, &columns, &halves, &mut codes);
    codes
}

by_level! {
    fn assign<F>(x: &[F], columns: &[F], halves: &[F], codes: &mut [u8]) = assign_here
}

#[inline(always)]
fn assign_here<F: Scalar>(x: &[F], columns: &[F], halves: &[F], codes: &mut [u8]) {
    let (padded, width) = (halves.len(), columns.len() / halves.len());
    let mut scores = [F::zero(); WORDS];
    let scores = &mut scores[..padded];
    for (x, code) in x.chunks_exact(width).zip(codes) {
        let mut most = [F::neg_infinity(); TOGETHER];
        for (at, (scores, halves)) in
            scores.as_chunks_mut::<TOGETHER>().0.iter_mut().zip(halves.as_chunks().0).enumerate()
        {
            let mut sums: [F; TOGETHER] = *halves;
            sums.iter_mut().for_each(|sum| *sum = -*sum);
            for (&x, column) in x.iter().zip(columns.chunks_exact(padded)) {
                let column: &[F; TOGETHER] = &column.as_chunks().0[at];
                sums.iter_mut().zip(column).for_each(|(sum, &w)| *sum += x * w);
            }
            for (most, &sum) in most.iter_mut().zip(&sums) {
                *most = if sum > *most { sum } else { *most };
            }
            *scores = sums;
        }
        let most = most.into_iter().fold(F::neg_infinity(), |a, b| if b > a { b } else { a });
        *code = scores.iter().position(|&score| score == most).unwrap_or(0) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::dense;

    #[test]
    fn every_level_names_the_first_of_the_nearest_words() {
        for (rows, count, width) in
            [(1, 1, 1), (40, 3, 2), (70, 33, 5), (300, 256, 8), (64, 255, 3), (9, 32, 17)]
        {
            let x = dense::<f32>(rows, width, 1).into_raw_vec_and_offset().0;
            let mut words = dense::<f32>(count, width, 2).into_raw_vec_and_offset().0;
            // The last word is there before.
            if count > 2 {
                let (first, last) = words.split_at_mut((count - 1) * width);
                last.copy_from_slice(&first[width..2 * width]);
            }
            let expected = nearest_words_with(Isa::Portable, &x, &words, width);
            for (x, &code) in x.chunks_exact(width).zip(&expected) {
                let distance = |word: &[f32]| -> f64 {
                    x.iter().zip(word).map(|(x, w)| f64::from(x - w).powi(2)).sum()
                };
                let all: Vec<f64> = words.chunks_exact(width).map(distance).collect();
                let least = all.iter().copied().fold(f64::INFINITY, f64::min);
                assert!(all[usize::from(code)] <= least + 1e-5);
                assert!(count < 3 || usize::from(code) < count - 1, "the first of two equal ones");
            }
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                assert_eq!(nearest_words_with(isa, &x, &words, width), expected, "{isa:?}");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_has_the_first_word() {
        assert_eq!(nearest_words(&[f32::NAN, 1.0], &[0.0, 0.0, 5.0, 5.0], 2), [0]);
    }
}
