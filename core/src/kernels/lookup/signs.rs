//! Scores of rows of signs: a scale for each part of a row, and how many bits differ.

use super::LANES;
use super::bits::{Compared, SignQuery, SignRows, portable};
#[cfg(target_arch = "x86_64")]
use super::bits_x86;
use crate::kernels::simd::Isa;

/// The most columns of a part, whose differences are counted in 16 bits.
const WIDEST: usize = u16::MAX as usize;

/// `y_ji = Σ_p (s_jp · (width − 2·|bits_jp xor bits_ip|)) · t_ip`: the products of queries `j` with
/// rows `i`, each the signs of parts of `width` columns with a scale per part. The rows are those
/// from `skip` on, which is within the first block. Products and sums are rounded one by one, in
/// this order, so that every level of instructions gives the same numbers.
///
/// # Panics
/// If blocks, scales and queries do not have so many parts, rows and columns, if a part has more
/// than 65,535 columns, and if the processor does not have the level.
pub fn sign_scores(
    isa: Isa,
    rows: &[SignRows],
    width: usize,
    queries: &[&SignQuery],
    skip: usize,
    y: &mut [&mut [f32]],
) {
    if queries.is_empty() && y.is_empty() {
        return;
    }
    let count = y.first().map_or(0, |y| y.len());
    let (columns, blocks) = (width.div_ceil(8), (skip + count).div_ceil(LANES));
    assert!(skip < LANES, "rows are skipped within a block");
    assert!(width <= WIDEST, "differences pass 16 bits");
    assert!(y.len() == queries.len() && y.iter().all(|y| y.len() == count), "scores: all rows");
    for query in queries {
        assert_eq!(query.scales.len(), rows.len(), "a scale for each part of a query");
        assert_eq!(query.words.len(), rows.len() * columns, "signs for each part of a query");
    }
    for part in rows {
        assert_eq!(part.scales.len(), count, "a scale per row");
        assert!(part.codes.len() >= blocks * columns, "codes: blocks of as many columns");
    }
    if rows.is_empty() {
        return y.iter_mut().for_each(|y| y.fill(0.0));
    }
    assert!(isa.available(), "this processor has no {isa:?}");
    let of = Compared { rows, width, columns, blocks, skip };
    #[cfg(target_arch = "x86_64")]
    if isa >= Isa::Avx2 {
        return bits_x86::scores(isa, &of, queries, y);
    }
    of.block_by_block(queries, y, portable);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reference;
    use crate::seed::generator;
    use rand_chacha::rand_core::RngCore;

    /// Bytes, of which those after `width` bits of a row are zero.
    fn bits(seed: u64, count: usize, width: usize) -> Vec<Vec<u8>> {
        let columns = width.div_ceil(8);
        let mut draws = generator(seed, &[count as u64, width as u64]);
        let row = |_| {
            let mut row = vec![0; columns];
            draws.fill_bytes(&mut row);
            row.iter_mut().last().into_iter().for_each(|last| *last >>= 8 * columns - width);
            row
        };
        (0..count).map(row).collect()
    }

    fn scale(k: usize) -> f32 {
        0.37 + (k * 7 % 11) as f32 * 0.1
    }

    #[test]
    fn every_level_gives_the_numbers_of_the_formula() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            for (width, parts) in
                [(1, 1), (8, 3), (20, 2), (248, 1), (256, 1), (256, 2), (520, 1), (2100, 1)]
            {
                for (skip, count) in [(0, 0), (0, 1), (5, 64), (63, 70), (0, 256), (36, 200)] {
                    // So many that some are left over of every number that is taken at once.
                    for num_queries in [1, 2, 7] {
                        agrees(isa, (width, parts), (skip, count), num_queries);
                    }
                }
            }
        }
    }

    fn agrees(
        isa: Isa,
        (width, parts): (usize, usize),
        (skip, count): (usize, usize),
        num_queries: usize,
    ) {
        let (columns, blocks) = (width.div_ceil(8), (skip + count).div_ceil(LANES));
        let queries: Vec<Vec<u8>> = bits(1, num_queries * parts, width);
        let of_query = |j: usize, p: usize| &queries[j * parts + p];
        let mut rows = Vec::new();
        for p in 0..parts {
            let mut part = bits(2 + p as u64, blocks * LANES, width);
            // No bit differs in one row, and all do in another.
            if count > 2 {
                part[skip + 1] = of_query(0, p).clone();
                let all = (0..width).fold(vec![0u8; columns], |mut all, c| {
                    all[c / 8] |= 1 << (c % 8);
                    all
                });
                part[skip + 2] = all.iter().zip(of_query(0, p)).map(|(all, b)| all ^ b).collect();
            }
            rows.push(part);
        }
        let codes: Vec<Vec<[u8; LANES]>> = rows
            .iter()
            .map(|part| {
                let column = |at: usize| {
                    std::array::from_fn(|lane| part[at / columns * LANES + lane][at % columns])
                };
                (0..blocks * columns).map(column).collect()
            })
            .collect();
        let scales: Vec<Vec<f32>> =
            (0..parts).map(|p| (0..count).map(|i| scale(i + p)).collect()).collect();
        let own: Vec<SignRows> =
            codes.iter().zip(&scales).map(|(codes, scales)| SignRows { codes, scales }).collect();
        let asked: Vec<SignQuery> = (0..num_queries)
            .map(|j| {
                let bits = (0..parts).flat_map(|p| of_query(j, p).iter().copied());
                SignQuery::new(bits, (0..parts).map(|p| scale(5 * j + 3 * p)).collect())
            })
            .collect();
        let mut y = vec![vec![f32::NAN; count]; num_queries];
        let mut to: Vec<&mut [f32]> = y.iter_mut().map(Vec::as_mut_slice).collect();
        sign_scores(isa, &own, width, &asked.iter().collect::<Vec<_>>(), skip, &mut to);
        for (j, y) in y.iter().enumerate() {
            for (i, y) in y.iter().enumerate() {
                let part = |p: usize| {
                    let (query, row) = (of_query(j, p), &rows[p][skip + i]);
                    ((&query[..], asked[j].scales[p]), (&row[..], scales[p][i]))
                };
                let expected = reference::sign_score((0..parts).map(part), width);
                assert_eq!(
                    y.to_bits(),
                    expected.to_bits(),
                    "{isa:?}, {width} x {parts}, rows {skip} + {count}, query {j}, row {i}"
                );
            }
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let (codes, scales) = ([[0; LANES]; 4], [1.0; 70]);
        let refused = |width: usize, parts: usize, skip: usize, rows: usize| {
            let query = SignQuery::new([0; 2], vec![1.0]);
            let part = SignRows { codes: &codes, scales: &scales };
            let mut y = vec![0.0; rows];
            std::panic::catch_unwind(move || {
                let parts = vec![part; parts];
                sign_scores(Isa::best(), &parts, width, &[&query], skip, &mut [&mut y]);
            })
            .is_err()
        };
        // Nobody asks, whatever the rows are.
        sign_scores(
            Isa::best(),
            &[SignRows { codes: &codes, scales: &scales }],
            7,
            &[],
            0,
            &mut [],
        );
        assert!(!refused(16, 1, 0, 70));
        assert!(!refused(9, 1, 58, 70));
        // Another width, another number of parts, rows past the blocks, and past the scales.
        assert!(refused(17, 1, 0, 70));
        assert!(refused(16, 2, 0, 70));
        assert!(refused(16, 1, 59, 70));
        assert!(refused(16, 1, 64, 70));
        assert!(refused(16, 1, 0, 71));
        assert!(refused(16, 1, 0, 69));
    }
}
