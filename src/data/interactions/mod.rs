//! Who took what: interactions of users and items.

mod read;

use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::rng::{generator, purpose};
use ndarray::Array2;
use ndarray_rand::rand::seq::SliceRandom;
use std::sync::Arc;

/// Interactions of users and items in two parts, of which the first trains. Clones share them.
///
/// ```
/// use gnn_prune::data::Interactions;
/// let train = vec![vec![0, 1], vec![1, 2]];
/// let taken = Interactions::new("shop", 3, train, vec![vec![2], vec![]])?;
/// assert_eq!((taken.num_users(), taken.num_items(), taken.num_train()), (2, 3, 4));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Interactions {
    name: String,
    items: usize,
    train: Arc<[Vec<u32>]>,
    test: Arc<[Vec<u32>]>,
    /// What the first user and the first item are called.
    first: [u32; 2],
    notes: Arc<[String]>,
}

impl Interactions {
    /// Interactions from memory: the items of each user, in any order.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for an item that there is not; [`Error::Data`] for parts of
    /// another number of users, a part without items, and an item that a user has twice in a part
    /// or in both.
    pub fn new(
        name: impl Into<String>,
        items: usize,
        train: Vec<Vec<u32>>,
        test: Vec<Vec<u32>>,
    ) -> Result<Self> {
        Self::noted(name.into(), items, train, test, [0, 0], Vec::new())
    }

    fn noted(
        name: String,
        items: usize,
        mut train: Vec<Vec<u32>>,
        mut test: Vec<Vec<u32>>,
        first: [u32; 2],
        notes: Vec<String>,
    ) -> Result<Self> {
        if train.len() != test.len() {
            let problem = format!("has {} users in train and {} in test", train.len(), test.len());
            return Err(Error::data(name, problem));
        }
        for (part, word) in [(&mut train, "train"), (&mut test, "test")] {
            if part.iter().all(Vec::is_empty) {
                return Err(Error::data(name, format!("the part `{word}` has no item")));
            }
            for (user, own) in part.iter_mut().enumerate() {
                own.sort_unstable();
                if let Some(&item) = own.last().filter(|item| **item as usize >= items) {
                    let at = format!("{name}: item of user {user} in `{word}`");
                    return Err(Error::IndexOutOfRange { at, index: item as usize, len: items });
                }
                if let Some(pair) = own.windows(2).find(|pair| pair[0] == pair[1]) {
                    let problem = format!("user {user} has item {} twice in `{word}`", pair[0]);
                    return Err(Error::data(name, problem));
                }
            }
        }
        for (user, (train, test)) in train.iter().zip(&test).enumerate() {
            if let Some(item) = test.iter().find(|item| train.binary_search(item).is_ok()) {
                let problem = format!("user {user} has item {item} in train and in test");
                return Err(Error::data(name, problem));
            }
        }
        Ok(Self { name, items, train: train.into(), test: test.into(), first, notes: notes.into() })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the reader assumed or did not use, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Number of users.
    pub fn num_users(&self) -> usize {
        self.train.len()
    }

    /// Number of items.
    pub fn num_items(&self) -> usize {
        self.items
    }

    /// The number of a user in the file that it comes from.
    pub fn user(&self, user: u32) -> u32 {
        user + self.first[0]
    }

    /// The number of an item in the file that it comes from.
    pub fn item(&self, item: u32) -> u32 {
        item + self.first[1]
    }

    /// Number of interactions that train.
    pub fn num_train(&self) -> usize {
        self.train.iter().map(Vec::len).sum()
    }

    /// The items of each user that train, ascending.
    pub fn train(&self) -> &[Vec<u32>] {
        &self.train
    }

    /// The items of each user that are only reported on, ascending.
    pub fn test(&self) -> &[Vec<u32>] {
        &self.test
    }

    /// Takes a share of each user's training items, rounded down, out of the training part by
    /// `seed`: what is left, and what was taken.
    ///
    /// # Errors
    /// [`Error::Setting`] for a share outside (0, 1); [`Error::Data`] where nobody has enough
    /// items.
    pub fn held_out(&self, share: f64, seed: u64) -> Result<[Vec<Vec<u32>>; 2]> {
        if !(share > 0.0 && share < 1.0) {
            return Err(Error::setting("share that is held out", share, "in (0, 1)"));
        }
        let (mut left, mut taken) = (Vec::new(), Vec::new());
        for (user, own) in (0u64..).zip(&*self.train) {
            let mut order = own.clone();
            order.shuffle(&mut generator(seed, &[purpose::SPLIT, user]));
            let mut out = order.split_off(order.len() - (own.len() as f64 * share) as usize);
            order.sort_unstable();
            out.sort_unstable();
            left.push(order);
            taken.push(out);
        }
        if taken.iter().all(Vec::is_empty) {
            let problem = format!("no user has {} items to hold one out", (1.0 / share).ceil());
            return Err(Error::data(&self.name, problem));
        }
        Ok([left, taken])
    }

    /// The graph of users, which are the first nodes, and items, with an edge each way for each
    /// of the given items of each user. Every node has one feature, which is 1.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for an item that there is not.
    pub fn dataset(&self, items: &[Vec<u32>]) -> Result<Dataset> {
        let (users, nodes) = (self.num_users(), self.num_users() + self.items);
        let edges = items
            .iter()
            .enumerate()
            .flat_map(|(user, own)| own.iter().map(move |&item| (user, users + item as usize)));
        let graph = Graph::builder(nodes).edges(edges).undirected(true).build()?;
        let data = Dataset::unlabeled(&self.name, graph, Array2::ones((nodes, 1)).into())?;
        Ok(data.noted(self.notes.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interactions_that_do_not_fit_are_refused() {
        let of = |train: &[&[u32]], test: &[&[u32]]| {
            let owned = |part: &[&[u32]]| part.iter().map(|own| own.to_vec()).collect();
            Interactions::new("t", 3, owned(train), owned(test))
        };
        assert!(of(&[&[2, 0]], &[&[1]]).is_ok());
        for (train, test, what) in [
            (&[&[3u32][..]][..], &[&[1u32][..]][..], "out of range"),
            (&[&[0, 0]], &[&[1]], "user 0 has item 0 twice"),
            (&[&[0, 1]], &[&[1]], "in train and in test"),
            (&[&[0]], &[&[]], "`test` has no item"),
            (&[&[0], &[1]], &[&[1]], "2 users in train and 1"),
        ] {
            let error = of(train, test).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn what_is_held_out_is_a_share_of_each_users_items_and_the_rest_is_left() {
        let train: Vec<Vec<u32>> = vec![(0..20).collect(), (5..14).collect()];
        let taken = Interactions::new("t", 20, train.clone(), vec![vec![], vec![0]]).unwrap();
        let [left, out] = taken.held_out(0.1, 3).unwrap();
        assert_eq!(out.iter().map(Vec::len).collect::<Vec<_>>(), [2, 0]);
        for ((left, out), all) in left.iter().zip(&out).zip(&train) {
            let mut both = [left.clone(), out.clone()].concat();
            both.sort_unstable();
            assert_eq!(both, *all);
        }
        assert_ne!(out, taken.held_out(0.1, 4).unwrap()[1]);
        let data = taken.dataset(&left).unwrap();
        assert_eq!((data.num_nodes(), data.graph().num_edges()), (22, 2 * 27));
        assert!(taken.held_out(0.01, 0).is_err() && taken.held_out(1.0, 0).is_err());
    }
}
