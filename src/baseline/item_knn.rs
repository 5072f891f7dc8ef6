//! Neighbours of items.

use super::together;
use crate::error::{Error, Result};

/// Scores by the nearest items: `s_uj = Σ_{i ∈ u ∩ N(j)} sim(i, j)` with the cosine of who has two
/// items, `|U_i ∩ U_j| / √(|U_i|·|U_j|)`, over the `k` items `N(j)` that are most similar to `j`.
///
/// *Source*: Sarwar et al., "Item-based collaborative filtering", WWW 2001, §3.1.
///
/// ```
/// use gnn_prune::baseline::ItemKnn;
/// let own = vec![vec![0, 1], vec![0, 1], vec![2, 3], vec![0]];
/// let scores = ItemKnn::fit(4, &own, 2)?.scores(&own[3]);
/// assert!(scores[1] > scores[2]);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ItemKnn {
    /// Of each item `i` the items that have it as a neighbour, with their similarity.
    readers: Vec<Vec<(u32, f32)>>,
}

impl ItemKnn {
    /// Learns from the items of each user.
    ///
    /// # Errors
    /// [`Error::Setting`] for no neighbours, [`Error::IndexOutOfRange`] for an item that there is
    /// not.
    pub fn fit(items: usize, own: &[Vec<u32>], neighbours: usize) -> Result<Self> {
        if neighbours == 0 {
            return Err(Error::setting("neighbours of an item", 0, "at least 1"));
        }
        check(items, own)?;
        let mut have = vec![0u32; items];
        own.iter().flatten().for_each(|&item| have[item as usize] += 1);
        let nearest = together(items, own, |item, counts| {
            let mut near: Vec<(u32, f32)> = (0u32..)
                .zip(counts)
                .filter(|(other, count)| *other as usize != item && **count > 0)
                .map(|(other, &count)| {
                    let both = f64::from(have[item]) * f64::from(have[other as usize]);
                    (other, (f64::from(count) / both.sqrt()) as f32)
                })
                .collect();
            // Of equally similar ones the first.
            near.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            near.truncate(neighbours);
            near
        });
        let mut readers = vec![Vec::new(); items];
        for (item, near) in (0u32..).zip(nearest) {
            near.into_iter().for_each(|(other, sim)| readers[other as usize].push((item, sim)));
        }
        Ok(Self { readers })
    }

    /// Scores of all items for whoever has these.
    pub fn scores(&self, own: &[u32]) -> Vec<f32> {
        let mut scores = vec![0.0; self.readers.len()];
        for &item in own {
            for &(reader, sim) in &self.readers[item as usize] {
                scores[reader as usize] += sim;
            }
        }
        scores
    }
}

pub(super) fn check(items: usize, own: &[Vec<u32>]) -> Result<()> {
    match own.iter().flatten().find(|item| **item as usize >= items) {
        Some(&item) => {
            let at = "item of a user".into();
            Err(Error::IndexOutOfRange { at, index: item as usize, len: items })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_sums_of_cosines_over_the_nearest() {
        let own = vec![vec![0, 1, 2], vec![0, 1], vec![1, 2], vec![3]];
        let scores = ItemKnn::fit(4, &own, 1).unwrap().scores(&[1]);
        // Two have 0 and 1, as many 1 and 2: of both 1 is the nearest.
        let sim = 2.0 / 6f32.sqrt();
        assert!((scores[0] - sim).abs() < 1e-6 && (scores[2] - sim).abs() < 1e-6, "{scores:?}");
        assert_eq!(scores[3], 0.0);
        assert!(ItemKnn::fit(3, &own, 1).is_err() && ItemKnn::fit(4, &own, 0).is_err());
    }
}
