//! The words of a sub-space: k-means.

use crate::kernels;
use crate::rng::{Draws, purpose};
use ndarray::{Array2, ArrayView2, Axis};

/// The most rounds of Lloyd's algorithm; it ends where no row changes its word.
const ROUNDS: usize = 25;

/// The word of each row of `x: [n, s]` that is nearest to it.
pub(super) fn nearest(x: ArrayView2<f32>, words: ArrayView2<f32>) -> Vec<u8> {
    let (x, words) = (x.as_standard_layout(), words.as_standard_layout());
    let [x, own] = [&x, &words].map(|rows| rows.as_slice().expect("a standard layout"));
    kernels::nearest_words(x, own, words.ncols())
}

/// The means of the rows that have each code: `[count, s]`; a code that no row has keeps the word
/// of `before`.
pub(super) fn means(x: ArrayView2<f32>, codes: &[u8], before: ArrayView2<f32>) -> Array2<f32> {
    let mut sums = Array2::<f64>::zeros(before.dim());
    let mut counts = vec![0u32; before.nrows()];
    for (x, &code) in x.rows().into_iter().zip(codes) {
        let code = usize::from(code);
        sums.row_mut(code).zip_mut_with(&x, |sum, &x| *sum += f64::from(x));
        counts[code] += 1;
    }
    let mut words = before.to_owned();
    for ((mut word, sum), &count) in words.rows_mut().into_iter().zip(sums.rows()).zip(&counts) {
        if count > 0 {
            word.zip_mut_with(&sum, |word, sum| *word = (sum / f64::from(count)) as f32);
        }
    }
    words
}

/// `count` words of the rows of `x: [n, s]`, at most as many as there are rows, and the code of
/// each row: k-means by Lloyd's algorithm, from rows that are drawn. A word that no row has becomes
/// the row that is farthest from its own.
///
/// *Source*: Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory,
/// 1982.
pub(super) fn k_means(x: ArrayView2<f32>, count: usize, key: (u64, u64)) -> (Array2<f32>, Vec<u8>) {
    let rows = x.nrows();
    let count = count.min(rows);
    // The first of a shuffled list.
    let mut draws = Draws::of(key.0, &[purpose::STAGE, key.1]);
    let mut order: Vec<usize> = (0..rows).collect();
    for k in 0..count {
        order.swap(k, k + draws.below(rows - k));
    }
    let mut words = x.select(Axis(0), &order[..count]);
    let mut codes = nearest(x, words.view());
    for _ in 0..ROUNDS {
        words = means(x, &codes, words.view());
        move_unused(x, &codes, &mut words);
        let next = nearest(x, words.view());
        if next == codes {
            break;
        }
        codes = next;
    }
    (words, codes)
}

/// Words without rows become the rows that are farthest from their words, each another one.
fn move_unused(x: ArrayView2<f32>, codes: &[u8], words: &mut Array2<f32>) {
    let mut used = vec![false; words.nrows()];
    codes.iter().for_each(|&code| used[usize::from(code)] = true);
    let unused: Vec<usize> = (0..words.nrows()).filter(|&code| !used[code]).collect();
    if unused.is_empty() {
        return;
    }
    let distance = |(x, &code): (ndarray::ArrayView1<f32>, &u8)| -> f32 {
        let word = words.row(usize::from(code));
        x.iter().zip(word).map(|(x, word)| (x - word).powi(2)).sum()
    };
    let distances: Vec<f32> = x.rows().into_iter().zip(codes).map(distance).collect();
    let mut order: Vec<usize> = (0..distances.len()).collect();
    order.sort_by(|&a, &b| distances[b].total_cmp(&distances[a]));
    for (code, row) in unused.into_iter().zip(order) {
        words.row_mut(code).assign(&x.row(row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random_dense;

    /// The sum of squared distances from the words.
    fn left(x: ArrayView2<f32>, words: &Array2<f32>, codes: &[u8]) -> f64 {
        let of = |(x, &code): (ndarray::ArrayView1<f32>, &u8)| -> f64 {
            let word = words.row(usize::from(code));
            x.iter().zip(word).map(|(x, w)| f64::from(x - w).powi(2)).sum()
        };
        x.rows().into_iter().zip(codes).map(of).sum()
    }

    #[test]
    fn clusters_that_are_far_apart_are_found_each_with_a_word() {
        // Forty points around each of nine far corners, of which random starts miss some.
        let near = random_dense::<f32>(3, (360, 2)).into_dense();
        let x = Array2::from_shape_fn((360, 2), |(i, c)| {
            let corner = [i % 9 / 3, i % 3][c] as f32;
            10.0 * corner + 0.1 * near[[i, c]]
        });
        let found = (0..10).filter(|&seed| {
            let (words, codes) = k_means(x.view(), 9, (seed, 0));
            left(x.view(), &words, &codes) < 360.0
        });
        assert!(found.count() >= 3);
        let (words, codes) = k_means(x.view(), 256, (0, 0));
        assert!(left(x.view(), &words, &codes) < 0.3);
        let mut used: Vec<u8> = codes;
        used.sort_unstable();
        used.dedup();
        assert!(used.len() > 200, "{} words are used", used.len());
    }

    #[test]
    fn rounds_never_make_it_worse_and_as_many_words_as_rows_leave_nothing() {
        let x = random_dense(4, (500, 4)).into_dense();
        let (words, codes) = k_means(x.view(), 32, (7, 1));
        let by_hand = nearest(x.view(), words.view());
        assert_eq!(by_hand, codes);
        let moved = means(x.view(), &codes, words.view());
        assert!(left(x.view(), &moved, &codes) <= left(x.view(), &words, &codes) + 1e-6);
        let few = x.slice(ndarray::s![..20, ..]);
        let (words, codes) = k_means(few, 256, (7, 1));
        assert_eq!(words.nrows(), 20);
        assert!(left(few, &words, &codes) < 1e-9);
    }
}
