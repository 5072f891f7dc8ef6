//! Which nodes train, validate and test.

use crate::error::{Error, Result};
use crate::rng::{generator, purpose};
use ndarray_rand::rand::Rng;

/// Three disjoint sets of nodes, each sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Nodes whose labels train.
    pub train: Vec<u32>,
    /// Nodes that choose between models.
    pub val: Vec<u32>,
    /// Nodes that are only reported on.
    pub test: Vec<u32>,
}

/// Where the split of a seed comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Splits {
    /// The same for every seed.
    Fixed(Split),
    /// Seed `s` takes number `s mod len`.
    Masks(Vec<Split>),
    /// Drawn by the seed: so many nodes of each class, the rest tests.
    PerClass {
        /// Training nodes a class, at least 1.
        train: usize,
        /// Validation nodes a class, at least 1.
        val: usize,
    },
}

impl Default for Splits {
    /// 20 training and 30 validation nodes a class (Shchur et al. 2018).
    fn default() -> Self {
        Splits::PerClass { train: 20, val: 30 }
    }
}

impl Splits {
    /// Sorts the parts and makes sure that every seed gives a split of `labels.len()` nodes.
    pub(super) fn validated(mut self, name: &str, labels: &[u32], num_classes: usize) -> Result<Self> {
        match &mut self {
            Splits::Fixed(split) => split.validate(&format!("{name}: split"), &mut vec![0; labels.len()])?,
            Splits::Masks(splits) if splits.is_empty() => return Err(Error::data(name, "the list of masks is empty")),
            Splits::Masks(splits) => {
                let mut part_of = vec![0; labels.len()];
                for (k, split) in splits.iter_mut().enumerate() {
                    part_of.fill(0);
                    split.validate(&format!("{name}: mask {k}"), &mut part_of)?;
                }
            }
            Splits::PerClass { train, val } => check_per_class(name, *train, *val, labels, num_classes)?,
        }
        Ok(self)
    }

    /// The split of `seed`; `self` is valid for `labels`.
    pub(super) fn of(&self, seed: u64, labels: &[u32], num_classes: usize) -> Split {
        match self {
            Splits::Fixed(split) => split.clone(),
            Splits::Masks(splits) => splits[(seed % splits.len() as u64) as usize].clone(),
            Splits::PerClass { train, val } => per_class(*train, *val, seed, labels, num_classes),
        }
    }
}

impl Split {
    /// Sorts the parts; `part_of` holds a zero for each node.
    fn validate(&mut self, at: &str, part_of: &mut [u8]) -> Result<()> {
        const PARTS: [&str; 4] = ["no part", "train", "val", "test"];
        for (part, nodes) in (1u8..).zip([&mut self.train, &mut self.val, &mut self.test]) {
            let word = PARTS[usize::from(part)];
            if nodes.is_empty() {
                return Err(Error::data(at, format!("no node is in {word}; every part needs at least one")));
            }
            nodes.sort_unstable();
            for &node in nodes.iter() {
                let len = part_of.len();
                let Some(seen) = part_of.get_mut(node as usize) else {
                    return Err(Error::IndexOutOfRange { at: format!("{at}: {word}"), index: node as usize, len });
                };
                if *seen != 0 {
                    let other = PARTS[usize::from(*seen)];
                    return Err(Error::data(at, format!("node {node} is in {other} and again in {word}; the parts must not overlap")));
                }
                *seen = part;
            }
        }
        Ok(())
    }
}

fn check_per_class(name: &str, train: usize, val: usize, labels: &[u32], num_classes: usize) -> Result<()> {
    for (part, count) in [("training", train), ("validation", val)] {
        if count == 0 {
            return Err(Error::setting(format!("{part} nodes a class"), count, "at least 1"));
        }
    }
    let needed = train.saturating_add(val).saturating_add(1);
    // Of more classes than nodes one of the first is empty, so there is no need to count them all.
    let mut counts = vec![0usize; num_classes.min(labels.len() + 1)];
    for &label in labels {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    match counts.iter().enumerate().find(|(_, count)| **count < needed) {
        None => Ok(()),
        Some((class, count)) => Err(Error::data(
            name,
            format!(
                "class {class} has {count} nodes, and a split of {train} training and {val} validation nodes a class needs {needed}; \
                 give masks, or fewer nodes a class"
            ),
        )),
    }
}

fn per_class(train: usize, val: usize, seed: u64, labels: &[u32], num_classes: usize) -> Split {
    let mut members = vec![Vec::new(); num_classes];
    (0u32..).zip(labels).for_each(|(node, &label)| members[label as usize].push(node));
    let mut rng = generator(seed, &[purpose::SPLIT]);
    let mut split = Split { train: Vec::new(), val: Vec::new(), test: Vec::new() };
    for nodes in &mut members {
        // Fisher and Yates, as far as the drawn part goes.
        for i in 0..train + val {
            let j = rng.random_range(i..nodes.len());
            nodes.swap(i, j);
        }
        split.train.extend_from_slice(&nodes[..train]);
        split.val.extend_from_slice(&nodes[train..train + val]);
        split.test.extend_from_slice(&nodes[train + val..]);
    }
    split.train.sort_unstable();
    split.val.sort_unstable();
    split.test.sort_unstable();
    split
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<u32> {
        (0..60).map(|i| i % 3).collect()
    }

    fn message(splits: Splits) -> String {
        splits.validated("toy", &labels(), 3).unwrap_err().to_string()
    }

    #[test]
    fn per_class_draws_so_many_of_each_class_and_depends_on_the_seed_alone() {
        let splits = Splits::PerClass { train: 4, val: 6 }.validated("toy", &labels(), 3).unwrap();
        let split = splits.of(1, &labels(), 3);
        assert_eq!(split, splits.of(1, &labels(), 3));
        assert_ne!(split, splits.of(2, &labels(), 3));
        for (part, size) in [(&split.train, 4), (&split.val, 6), (&split.test, 10)] {
            assert!(part.is_sorted());
            for class in 0..3 {
                assert_eq!(part.iter().filter(|node| *node % 3 == class).count(), size);
            }
        }
        assert!(Splits::Fixed(split).validated("toy", &labels(), 3).is_ok(), "a drawn split is itself valid");
    }

    #[test]
    fn every_node_may_be_drawn_for_every_part() {
        let splits = Splits::PerClass { train: 4, val: 6 }.validated("toy", &labels(), 3).unwrap();
        let drawn: Vec<Split> = (0..60).map(|seed| splits.of(seed, &labels(), 3)).collect();
        for node in 0..60 {
            for part in [|split: &Split| split.train.clone(), |split: &Split| split.val.clone(), |split: &Split| split.test.clone()] {
                assert!(drawn.iter().any(|split| part(split).contains(&node)), "{node}");
            }
        }
    }

    #[test]
    fn masks_are_taken_modulo_their_number_and_sorted() {
        let one = |train: Vec<u32>| Split { train, val: vec![10], test: vec![11] };
        let splits = Splits::Masks(vec![one(vec![2, 1]), one(vec![3])]).validated("toy", &labels(), 3).unwrap();
        assert_eq!(splits.of(2, &labels(), 3).train, [1, 2]);
        assert_eq!(splits.of(u64::MAX, &labels(), 3).train, [3]);
    }

    #[test]
    fn a_split_that_cannot_be_used_is_refused_with_its_place() {
        let split = |train: &[u32], val: &[u32], test: &[u32]| Split { train: train.into(), val: val.into(), test: test.into() };
        assert!(message(Splits::Fixed(split(&[0], &[], &[1]))).contains("no node is in val"));
        assert!(message(Splits::Masks(vec![])).contains("empty"));
        let overlap = message(Splits::Masks(vec![split(&[0], &[1], &[2]), split(&[0], &[1], &[0])]));
        assert!(overlap.contains("mask 1") && overlap.contains("node 0 is in train and again in test"), "{overlap}");
        assert!(message(Splits::Fixed(split(&[5, 5], &[1], &[0]))).contains("node 5"));
        assert!(message(Splits::Fixed(split(&[60], &[1], &[0]))).contains("60"));
        let few = message(Splits::default());
        assert!(few.contains("class 0 has 20 nodes") && few.contains("51"), "{few}");
        assert!(message(Splits::PerClass { train: 0, val: 1 }).contains("training nodes a class"));
        assert!(message(Splits::PerClass { train: usize::MAX, val: 1 }).contains("class 0"));
        let empty = Splits::PerClass { train: 1, val: 1 }.validated("toy", &labels(), usize::MAX).unwrap_err().to_string();
        assert!(empty.contains("class 3 has 0 nodes"), "{empty}");
    }
}
