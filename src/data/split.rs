//! Which nodes train, validate and test.

use super::labels::UNLABELED;
use super::purpose::Purpose;
use crate::error::{Error, Result};
use crate::rng::{generator, purpose};
use ndarray_rand::rand::Rng;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

/// Three disjoint sets of nodes, each sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Split {
    /// Nodes whose labels train.
    pub train: Vec<u32>,
    /// Nodes that choose between models.
    pub val: Vec<u32>,
    /// Nodes that are only reported on.
    pub test: Vec<u32>,
}

/// Where the split of a seed comes from. Nodes without a label are in no part.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Splits {
    /// The same for every seed.
    Fixed(Split),
    /// Seed `s` takes number `s mod len`.
    Masks(Vec<Split>),
    /// Drawn by the seed: so many nodes of each class that occurs, the rest tests.
    PerClass {
        /// Training nodes per class, at least 1.
        train: usize,
        /// Validation nodes per class, at least 1.
        val: usize,
    },
    /// Drawn by the seed: shares of all nodes that have a label, each at least one node. Where they
    /// add up to less than 1, the rest is in no part.
    Shares {
        /// Share that trains, in (0, 1).
        train: f64,
        /// Share that validates, in (0, 1).
        val: f64,
        /// Share that tests, in (0, 1).
        test: f64,
    },
    /// Every part is empty: such data are predicted on and nothing else.
    None,
}

impl Default for Splits {
    /// 20 training and 30 validation nodes per class (Shchur et al. 2018).
    fn default() -> Self {
        Splits::PerClass { train: 20, val: 30 }
    }
}

impl Splits {
    /// Sorts the parts and makes sure that every seed gives a split of `labels.len()` nodes with
    /// what `purpose` reads; what it does not read of parts that were given is dropped.
    pub(super) fn validated(
        mut self,
        name: &str,
        labels: &[u32],
        purpose: Purpose,
    ) -> Result<Self> {
        match &mut self {
            Splits::Fixed(split) => split.validate(
                &format!("{name}: split"),
                labels,
                purpose,
                &mut vec![0; labels.len()],
            )?,
            Splits::Masks(splits) if splits.is_empty() => {
                return Err(Error::data(name, "the list of masks is empty"));
            }
            Splits::Masks(splits) => {
                let mut part_of = vec![0; labels.len()];
                for (k, split) in splits.iter_mut().enumerate() {
                    part_of.fill(0);
                    split.validate(&format!("{name}: mask {k}"), labels, purpose, &mut part_of)?;
                }
            }
            Splits::PerClass { train, val } => check_per_class(name, *train, *val, labels)?,
            Splits::Shares { train, val, test } => {
                for (part, share) in [("training", *train), ("validation", *val), ("test", *test)] {
                    if !(share > 0.0 && share < 1.0) {
                        return Err(Error::setting(
                            format!("the share of {part} nodes"),
                            share,
                            "between 0 and 1",
                        ));
                    }
                }
                let sum = *train + *val + *test;
                if sum > 1.0 + SUM_ROUNDING {
                    return Err(Error::setting(
                        "the sum of the shares of the split",
                        sum,
                        "at most 1",
                    ));
                }
                let labelled = labels.iter().filter(|label| **label != UNLABELED).count();
                if counts_of_shares([*train, *val, *test], labelled).is_none() {
                    return Err(Error::data(
                        name,
                        format!(
                            "has {labelled} nodes with labels, too few for one in each part of the split"
                        ),
                    ));
                }
            }
            Splits::None if purpose == Purpose::Predict => {}
            Splits::None => {
                return Err(Error::data(
                    name,
                    "no node is in train, val or test; give masks or a split",
                ));
            }
        }
        Ok(self)
    }

    /// The split of `seed`; `self` is valid for `labels`.
    pub(super) fn of(&self, seed: u64, labels: &[u32]) -> Split {
        match self {
            Splits::Fixed(split) => split.clone(),
            Splits::Masks(splits) => splits[(seed % splits.len() as u64) as usize].clone(),
            Splits::PerClass { train, val } => per_class(*train, *val, seed, labels),
            Splits::Shares { train, val, test } => by_shares([*train, *val, *test], seed, labels),
            Splits::None => Split::default(),
        }
    }
}

/// Shares that are written in tenths do not add up to 1 to the last bit.
const SUM_ROUNDING: f64 = 1e-9;

impl Split {
    fn sort(&mut self) {
        [&mut self.train, &mut self.val, &mut self.test]
            .into_iter()
            .for_each(|part| part.sort_unstable());
    }

    /// Sorts the parts; `part_of` holds a zero for each node.
    fn validate(
        &mut self,
        at: &str,
        labels: &[u32],
        purpose: Purpose,
        part_of: &mut [u8],
    ) -> Result<()> {
        const PARTS: [&str; 4] = ["no part", "train", "val", "test"];
        for (part, nodes) in (1u8..).zip([&mut self.train, &mut self.val, &mut self.test]) {
            let word = PARTS[usize::from(part)];
            let read = purpose == Purpose::Learn || word == "test";
            if nodes.is_empty() && read {
                return Err(Error::data(
                    at,
                    format!("no node is in {word}; every part needs at least one"),
                ));
            }
            nodes.sort_unstable();
            for &node in nodes.iter() {
                let len = part_of.len();
                let Some(seen) = part_of.get_mut(node as usize) else {
                    return Err(Error::IndexOutOfRange {
                        at: format!("{at}: {word}"),
                        index: node as usize,
                        len,
                    });
                };
                if *seen != 0 {
                    let other = PARTS[usize::from(*seen)];
                    return Err(Error::data(
                        at,
                        format!(
                            "node {node} is in {other} and again in {word}; the parts must not overlap"
                        ),
                    ));
                }
                *seen = part;
                if read && labels[node as usize] == UNLABELED {
                    return Err(Error::data(
                        at,
                        format!(
                            "node {node} is in {word} and has no label; take it out of the masks or label it"
                        ),
                    ));
                }
            }
        }
        if purpose != Purpose::Learn {
            // They were looked at for nodes that also test.
            (self.train, self.val) = (Vec::new(), Vec::new());
        }
        Ok(())
    }
}

/// Refuses to go on without nodes in a part of the split; `word` says which.
pub(crate) fn check_part(data: &str, word: &str, nodes: &[u32]) -> Result<()> {
    if nodes.is_empty() {
        return Err(Error::data(
            data,
            format!("no node is in {word}; give masks or a split, and read the data to learn"),
        ));
    }
    Ok(())
}

/// The nodes of each class that occurs.
fn members(labels: &[u32]) -> BTreeMap<u32, Vec<u32>> {
    let mut members: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let labelled = (0u32..).zip(labels).filter(|(_, label)| **label != UNLABELED);
    labelled.for_each(|(node, &label)| members.entry(label).or_default().push(node));
    members
}

fn check_per_class(name: &str, train: usize, val: usize, labels: &[u32]) -> Result<()> {
    for (part, count) in [("training", train), ("validation", val)] {
        if count == 0 {
            return Err(Error::setting(format!("{part} nodes a class"), count, "at least 1"));
        }
    }
    let needed = train.saturating_add(val).saturating_add(1);
    let members = members(labels);
    if members.is_empty() {
        return Err(Error::data(
            name,
            "no node has a label, so there is nothing to draw a split from",
        ));
    }
    match members.iter().find(|(_, nodes)| nodes.len() < needed) {
        None => Ok(()),
        Some((class, nodes)) => Err(Error::data(
            name,
            format!(
                "class {class} has {} nodes, and a split of {train} training and {val} validation nodes a class needs {needed}; \
                 give masks, or fewer nodes a class",
                nodes.len()
            ),
        )),
    }
}

/// Fisher and Yates, as far as the drawn part goes.
fn draw(nodes: &mut [u32], count: usize, rng: &mut impl Rng) {
    for i in 0..count {
        let j = rng.random_range(i..nodes.len());
        nodes.swap(i, j);
    }
}

fn per_class(train: usize, val: usize, seed: u64, labels: &[u32]) -> Split {
    let mut rng = generator(seed, &[purpose::SPLIT]);
    let mut split = Split::default();
    for nodes in members(labels).values_mut() {
        draw(nodes, train + val, &mut rng);
        split.train.extend_from_slice(&nodes[..train]);
        split.val.extend_from_slice(&nodes[train..train + val]);
        split.test.extend_from_slice(&nodes[train + val..]);
    }
    split.sort();
    split
}

/// Nodes in each part; nothing where one would be empty.
fn counts_of_shares(shares: [f64; 3], nodes: usize) -> Option<[usize; 3]> {
    let mut counts = shares.map(|share| ((share * nodes as f64).round() as usize).max(1));
    // Three times a half may round up.
    let over = (counts.iter().sum::<usize>()).saturating_sub(nodes);
    counts[2] = counts[2].saturating_sub(over);
    // What rounding leaves of shares that add up to 1 tests.
    if shares.iter().sum::<f64>() > 1.0 - SUM_ROUNDING {
        counts[2] += nodes.saturating_sub(counts.iter().sum());
    }
    (counts[2] > 0 && counts.iter().sum::<usize>() <= nodes).then_some(counts)
}

fn by_shares(shares: [f64; 3], seed: u64, labels: &[u32]) -> Split {
    let mut nodes: Vec<u32> = (0u32..)
        .zip(labels)
        .filter(|(_, label)| **label != UNLABELED)
        .map(|(node, _)| node)
        .collect();
    let [train, val, test] =
        counts_of_shares(shares, nodes.len()).expect("the shares were validated for these labels");
    draw(&mut nodes, train + val + test, &mut generator(seed, &[purpose::SPLIT]));
    let part = |range: std::ops::Range<usize>| nodes[range].to_vec();
    let mut split = Split {
        train: part(0..train),
        val: part(train..train + val),
        test: part(train + val..train + val + test),
    };
    split.sort();
    split
}

/// Where a split comes from that is to replace the data's own: a rule, or a file with the part of
/// every node.
///
/// As a word: `0.6/0.2/0.2` are shares of training, validation and test nodes, `20/30` training and
/// validation nodes per class, anything else a file: `.npy` with 0, 1, 2 for the parts and -1 for
/// none, or `.csv` with these or the words `train`, `val`, `test`.
///
/// ```
/// use gnn_prune::data::{SplitSource, Splits};
/// let drawn: SplitSource = "20/30".parse()?;
/// assert_eq!(drawn, Splits::PerClass { train: 20, val: 30 }.into());
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SplitSource {
    /// A rule.
    Rule(Splits),
    /// A file.
    File(PathBuf),
}

impl From<Splits> for SplitSource {
    fn from(splits: Splits) -> Self {
        SplitSource::Rule(splits)
    }
}

impl FromStr for SplitSource {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let parts: Vec<&str> = word.split('/').collect();
        let numbers: Option<Vec<f64>> = parts.iter().map(|part| part.parse().ok()).collect();
        match (numbers.as_deref(), parts.as_slice()) {
            (Some(&[train, val, test]), _) => Ok(Splits::Shares { train, val, test }.into()),
            (Some([_, _]), [train, val]) => match (train.parse(), val.parse()) {
                (Ok(train), Ok(val)) => Ok(Splits::PerClass { train, val }.into()),
                _ => Err(Error::setting(
                    "split",
                    word,
                    "two whole numbers of nodes a class, three shares such as 0.6/0.2/0.2, or a file",
                )),
            },
            (Some(_), _) => Err(Error::setting(
                "split",
                word,
                "nodes a class such as 20/30, shares such as 0.6/0.2/0.2, or a file",
            )),
            (None, _) => Ok(SplitSource::File(word.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Vec<u32> {
        (0..60).map(|i| i % 3).collect()
    }

    fn message(splits: Splits) -> String {
        splits.validated("toy", &labels(), Purpose::Learn).unwrap_err().to_string()
    }

    #[test]
    fn per_class_draws_so_many_of_each_class_and_depends_on_the_seed_alone() {
        let splits = Splits::PerClass { train: 4, val: 6 }
            .validated("toy", &labels(), Purpose::Learn)
            .unwrap();
        let split = splits.of(1, &labels());
        assert_eq!(split, splits.of(1, &labels()));
        assert_ne!(split, splits.of(2, &labels()));
        for (part, size) in [(&split.train, 4), (&split.val, 6), (&split.test, 10)] {
            assert!(part.is_sorted());
            for class in 0..3 {
                assert_eq!(part.iter().filter(|node| *node % 3 == class).count(), size);
            }
        }
        assert!(
            Splits::Fixed(split).validated("toy", &labels(), Purpose::Learn).is_ok(),
            "a drawn split is itself valid"
        );
    }

    #[test]
    fn every_node_may_be_drawn_for_every_part() {
        let splits = Splits::PerClass { train: 4, val: 6 }
            .validated("toy", &labels(), Purpose::Learn)
            .unwrap();
        let drawn: Vec<Split> = (0..60).map(|seed| splits.of(seed, &labels())).collect();
        for node in 0..60 {
            for part in [
                |split: &Split| split.train.clone(),
                |split: &Split| split.val.clone(),
                |split: &Split| split.test.clone(),
            ] {
                assert!(drawn.iter().any(|split| part(split).contains(&node)), "{node}");
            }
        }
    }

    #[test]
    fn masks_are_taken_modulo_their_number_and_sorted() {
        let one = |train: Vec<u32>| Split { train, val: vec![10], test: vec![11] };
        let splits = Splits::Masks(vec![one(vec![2, 1]), one(vec![3])])
            .validated("toy", &labels(), Purpose::Learn)
            .unwrap();
        assert_eq!(splits.of(2, &labels()).train, [1, 2]);
        assert_eq!(splits.of(u64::MAX, &labels()).train, [3]);
    }

    #[test]
    fn a_split_that_cannot_be_used_is_refused_with_its_place() {
        let split = |train: &[u32], val: &[u32], test: &[u32]| Split {
            train: train.into(),
            val: val.into(),
            test: test.into(),
        };
        assert!(message(Splits::Fixed(split(&[0], &[], &[1]))).contains("no node is in val"));
        assert!(message(Splits::Masks(vec![])).contains("empty"));
        let overlap =
            message(Splits::Masks(vec![split(&[0], &[1], &[2]), split(&[0], &[1], &[0])]));
        assert!(
            overlap.contains("mask 1") && overlap.contains("node 0 is in train and again in test"),
            "{overlap}"
        );
        assert!(message(Splits::Fixed(split(&[5, 5], &[1], &[0]))).contains("node 5"));
        assert!(message(Splits::Fixed(split(&[60], &[1], &[0]))).contains("60"));
        let few = message(Splits::default());
        assert!(few.contains("class 0 has 20 nodes") && few.contains("51"), "{few}");
        assert!(message(Splits::PerClass { train: 0, val: 1 }).contains("training nodes a class"));
        assert!(message(Splits::PerClass { train: usize::MAX, val: 1 }).contains("class 0"));
        let empty = Splits::PerClass { train: 1, val: 1 }
            .validated("toy", &[UNLABELED; 9], Purpose::Learn)
            .unwrap_err()
            .to_string();
        assert!(empty.contains("no node has a label"), "{empty}");
        let shares = |train, val, test| message(Splits::Shares { train, val, test });
        assert!(shares(0.0, 0.5, 0.5).contains("share of training nodes is 0"));
        assert!(shares(0.5, f64::NAN, 0.1).contains("share of validation nodes"));
        assert!(shares(0.5, 0.4, 0.2).contains("sum of the shares"));
        let few = Splits::Shares { train: 0.4, val: 0.3, test: 0.3 };
        assert!(
            few.validated("toy", &[0, 1], Purpose::Learn)
                .unwrap_err()
                .to_string()
                .contains("2 nodes with labels")
        );
        assert!(message(Splits::None).contains("no node is in train, val or test"));
    }

    /// Labels 0, 2 and 5, and every tenth node without one.
    fn with_gaps() -> Vec<u32> {
        (0..90).map(|i| if i % 10 == 9 { UNLABELED } else { [0, 2, 5][i % 3] }).collect()
    }

    #[test]
    fn nodes_without_labels_are_in_no_drawn_part_and_classes_without_nodes_are_skipped() {
        let labels = with_gaps();
        for splits in [
            Splits::PerClass { train: 4, val: 6 },
            Splits::Shares { train: 0.2, val: 0.3, test: 0.5 },
        ] {
            let splits = splits.validated("toy", &labels, Purpose::Learn).unwrap();
            let split = splits.of(7, &labels);
            let all: Vec<u32> = [&split.train[..], &split.val, &split.test].concat();
            assert_eq!(all.len(), 81, "{splits:?}");
            assert!(all.iter().all(|&node| labels[node as usize] != UNLABELED), "{splits:?}");
            assert!(
                Splits::Fixed(split.clone()).validated("toy", &labels, Purpose::Learn).is_ok(),
                "{splits:?}"
            );
            assert_ne!(split, splits.of(8, &labels));
        }
        let split = Splits::PerClass { train: 4, val: 6 }.of(7, &labels);
        assert!([0, 2, 5].iter().all(|class| {
            split.train.iter().filter(|node| labels[**node as usize] == *class).count() == 4
        }));
    }

    #[test]
    fn shares_are_of_the_labelled_nodes_and_what_is_left_over_is_in_no_part() {
        let split = |shares: [f64; 3]| by_shares(shares, 1, &with_gaps());
        let sizes = |split: Split| (split.train.len(), split.val.len(), split.test.len());
        assert_eq!(sizes(split([0.6, 0.2, 0.2])), (49, 16, 16));
        assert_eq!(sizes(split([0.5, 0.25, 0.25])), (41, 20, 20));
        assert_eq!(sizes(split([0.1, 0.1, 0.1])), (8, 8, 8));
        assert_eq!(sizes(split([0.001, 0.001, 0.998])), (1, 1, 79));
        assert_eq!(counts_of_shares([0.5, 0.25, 0.25], 3), None, "two and one leave none");
        for nodes in 5..200 {
            let counts = counts_of_shares([0.6, 0.2, 0.2], nodes).unwrap();
            assert_eq!(counts.iter().sum::<usize>(), nodes);
        }
    }

    #[test]
    fn a_node_of_a_part_that_is_read_must_have_a_label_and_a_part_that_is_not_may_be_missing() {
        let labels = [UNLABELED, 0, 1, UNLABELED];
        let split = |train: &[u32], val: &[u32], test: &[u32]| Split {
            train: train.into(),
            val: val.into(),
            test: test.into(),
        };
        let validated =
            |split: Split, purpose| Splits::Fixed(split).validated("toy", &labels, purpose);
        let message = validated(split(&[1], &[0], &[2]), Purpose::Learn).unwrap_err().to_string();
        assert!(message.contains("node 0 is in val and has no label"), "{message}");
        assert_eq!(
            validated(split(&[3], &[], &[2, 1]), Purpose::Measure).unwrap(),
            Splits::Fixed(split(&[], &[], &[1, 2]))
        );
        assert!(
            validated(split(&[1], &[2], &[0]), Purpose::Measure)
                .unwrap_err()
                .to_string()
                .contains("node 0 is in test")
        );
        assert!(
            validated(split(&[1], &[2], &[]), Purpose::Measure)
                .unwrap_err()
                .to_string()
                .contains("no node is in test")
        );
        assert!(
            validated(split(&[1], &[], &[1]), Purpose::Measure)
                .unwrap_err()
                .to_string()
                .contains("node 1 is in train and again in test")
        );
    }

    #[test]
    fn words_are_rules_or_files() {
        let of = |word: &str| word.parse::<SplitSource>();
        assert_eq!(
            of("0.6/0.2/0.2").unwrap(),
            Splits::Shares { train: 0.6, val: 0.2, test: 0.2 }.into()
        );
        assert_eq!(of("20/30").unwrap(), Splits::PerClass { train: 20, val: 30 }.into());
        assert_eq!(of("a/split.csv").unwrap(), SplitSource::File("a/split.csv".into()));
        for word in ["0.5/0.5", "20", "1/2/3/4", "-1/3"] {
            assert!(of(word).unwrap_err().to_string().contains(word), "{word}");
        }
    }
}
