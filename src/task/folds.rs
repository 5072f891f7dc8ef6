//! Folds of a cross-validation.

use super::Part;
use crate::error::{Error, Result};
use crate::rng::{generator, purpose};
use ndarray_rand::rand::Rng;
use std::sync::Arc;

/// Which folds are held out of the training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Holdout {
    /// Fold `k` tests, the next one (that after the last being the first) validates, all others
    /// train.
    #[default]
    TestAndValidation,
    /// Fold `k` validates, all others train, and nothing tests: the protocol of Xu et al. 2019,
    /// whose figures are chosen on what they are measured on.
    ValidationOnly,
}

/// A partition of examples into folds of nearly equal size, in which every class has nearly equal
/// parts. A seed `s` holds out fold `s mod folds`, so that seeds `0..folds` are the folds of one
/// partition. Clones share it.
///
/// ```
/// use gnn_prune::task::{Folds, Holdout, Part};
/// let labels = [0, 0, 0, 1, 1, 1, 1, 1, 1];
/// let folds = Folds::stratified(&labels, 3, 0)?;
/// let test = folds.part(4, Part::Test, Holdout::TestAndValidation);
/// assert_eq!(test.iter().filter(|&&k| labels[k as usize] == 0).count(), 1);
/// assert_eq!(test, folds.part(1, Part::Test, Holdout::TestAndValidation));
/// assert_eq!(test, folds.part(1, Part::Validation, Holdout::ValidationOnly));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folds {
    fold_of: Arc<[u32]>,
    count: usize,
}

impl Folds {
    /// Draws a stratified partition into `folds` folds from `seed`: the examples of each class, in
    /// random order, are dealt out one by one, each class going on where the one before it ended.
    ///
    /// # Errors
    /// [`Error::Setting`] for fewer than 3 folds, and where a class that occurs has fewer examples
    /// than there are folds.
    pub fn stratified(labels: &[u32], folds: usize, seed: u64) -> Result<Self> {
        if folds < 3 {
            return Err(Error::setting("folds", folds, "at least 3: to train, validate and test"));
        }
        let mut order: Vec<u32> = (0..labels.len() as u32).collect();
        order.sort_by_key(|&example| labels[example as usize]);
        let same = |a: &u32, b: &u32| labels[*a as usize] == labels[*b as usize];
        let mut fold_of = vec![0; labels.len()];
        let mut dealt = 0;
        for members in order.chunk_by_mut(same) {
            let class = labels[members[0] as usize];
            if members.len() < folds {
                let legal = format!("at most the {} examples of class {class}", members.len());
                return Err(Error::setting("folds", folds, legal));
            }
            let mut rng = generator(seed, &[purpose::FOLDS, class.into()]);
            for i in (1..members.len()).rev() {
                members.swap(i, rng.random_range(0..=i));
            }
            for &example in &*members {
                fold_of[example as usize] = (dealt % folds) as u32;
                dealt += 1;
            }
        }
        Ok(Self { fold_of: fold_of.into(), count: folds })
    }

    /// Number of folds.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The fold of each example.
    pub fn fold_of(&self) -> &[u32] {
        &self.fold_of
    }

    /// The fold that a seed holds out first: the seed modulo the number of folds.
    pub fn fold(&self, seed: u64) -> usize {
        (seed % self.count as u64) as usize
    }

    /// The examples of a part under a seed, ascending; none where nothing tests.
    pub fn part(&self, seed: u64, part: Part, holdout: Holdout) -> Vec<u32> {
        let first = self.fold(seed) as u32;
        let next = (first + 1) % self.count as u32;
        let (test, validation) = match holdout {
            Holdout::TestAndValidation => (Some(first), next),
            Holdout::ValidationOnly => (None, first),
        };
        let is_in = |fold: u32| match part {
            Part::Test => Some(fold) == test,
            Part::Validation => fold == validation,
            Part::Train => Some(fold) != test && fold != validation,
        };
        (0..).zip(&*self.fold_of).filter(|(_, fold)| is_in(**fold)).map(|(k, _)| k).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [Part; 3] = [Part::Train, Part::Validation, Part::Test];

    fn labels() -> Vec<u32> {
        // 63 of one class and 125 of another, as MUTAG has, and 11 of a third, mixed.
        (0..199).map(|k| if k % 3 == 0 && k < 189 { 0 } else { 1 + u32::from(k >= 188) }).collect()
    }

    #[test]
    fn folds_are_disjoint_complete_and_stratified() {
        let labels = labels();
        for (count, seed) in [(10, 0), (10, 7), (3, 1), (11, 2)] {
            let folds = Folds::stratified(&labels, count, seed).unwrap();
            let held = |k: u64| folds.part(k, Part::Test, Holdout::TestAndValidation);
            let mut all: Vec<u32> = (0..count as u64).flat_map(held).collect();
            all.sort_unstable();
            assert_eq!(all, (0..labels.len() as u32).collect::<Vec<_>>());
            let of_class = |k: u64, class| {
                held(k).iter().filter(|&&example| labels[example as usize] == class).count()
            };
            for class in 0..3 {
                let counts = (0..count as u64).map(|k| of_class(k, class));
                let (least, most) = (counts.clone().min().unwrap(), counts.max().unwrap());
                assert!(most - least <= 1, "class {class}: {least} to {most}");
            }
            let sizes = (0..count as u64).map(|k| held(k).len());
            assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
        }
    }

    #[test]
    fn the_parts_of_a_seed_are_a_partition_in_which_the_next_fold_validates() {
        let folds = Folds::stratified(&labels(), 10, 3).unwrap();
        for seed in [0, 4, 9, 14] {
            for holdout in [Holdout::TestAndValidation, Holdout::ValidationOnly] {
                let mut all: Vec<u32> =
                    PARTS.iter().flat_map(|&part| folds.part(seed, part, holdout)).collect();
                all.sort_unstable();
                assert_eq!(all, (0..199).collect::<Vec<_>>(), "{seed}, {holdout:?}");
            }
            let test = |seed| folds.part(seed, Part::Test, Holdout::TestAndValidation);
            let validation = folds.part(seed, Part::Validation, Holdout::TestAndValidation);
            assert_eq!(validation, test(seed + 1));
            assert_eq!(test(seed), test(seed + 10), "a seed is its fold modulo ten");
            assert!(folds.part(seed, Part::Test, Holdout::ValidationOnly).is_empty());
            assert_eq!(folds.part(seed, Part::Validation, Holdout::ValidationOnly), test(seed));
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_folds_and_another_one_others() {
        let draw = |seed| Folds::stratified(&labels(), 10, seed).unwrap();
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn more_folds_than_a_class_has_examples_and_fewer_than_three_are_refused() {
        let words = |folds| Folds::stratified(&labels(), folds, 0).unwrap_err().to_string();
        assert!(words(12).contains("11 examples of class 2"), "{}", words(12));
        assert!(words(2).contains("at least 3"));
    }
}
