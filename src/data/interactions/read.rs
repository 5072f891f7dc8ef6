//! Reading interactions from text.

use super::Interactions;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A share of each user's items tests where a file has no parts.
const TEST_SHARE: f64 = 0.2;

/// How interactions stand in the files of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `train.txt` and `test.txt`, each line a user and its items.
    Lists,
    /// `data1.txt` and `test1.txt`, each line a user, an item and a weight.
    Pairs,
    /// `u.data`, each line a user, an item, a rating and a time.
    MovieLens,
}

impl Layout {
    fn of(folder: &Path) -> Option<Self> {
        let has = |name: &str| folder.join(name).is_file();
        if has("u.data") {
            return Some(Layout::MovieLens);
        }
        if has("data1.txt") && has("test1.txt") {
            return Some(Layout::Pairs);
        }
        (has("train.txt") && has("test.txt") && !has("valid.txt")).then_some(Layout::Lists)
    }
}

/// The whole numbers of a line.
fn numbers<'a>(path: &'a Path, k: usize, line: &'a str) -> impl Iterator<Item = Result<u32>> + 'a {
    line.split_whitespace().map(move |word| {
        word.parse().map_err(|_| {
            let problem = format!("line {}: `{word}` is no whole number, 0 or more", k + 1);
            Error::file(path, problem)
        })
    })
}

fn lines(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| Error::file(path, error))
}

/// One part: the items of each user, by their numbers in the file.
type Part = BTreeMap<u32, Vec<u32>>;

/// Lines of a user and its items; a user without items is one.
fn lists(path: &Path) -> Result<Part> {
    let mut part = Part::new();
    for (k, line) in lines(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut words = numbers(path, k, line);
        let user = words.next().expect("the line is not empty")?;
        let own = words.collect::<Result<Vec<u32>>>()?;
        if part.insert(user, own).is_some() {
            let problem = format!("line {}: user {user} has a line already", k + 1);
            return Err(Error::file(path, problem));
        }
    }
    Ok(part)
}

/// Lines of a user, an item and what else is not looked at, `columns` in all.
fn pairs(path: &Path, columns: usize, what: &str) -> Result<Part> {
    let mut part = Part::new();
    for (k, line) in lines(path)?.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let found = line.split_whitespace().count();
        if found != columns {
            let problem = format!("line {} has {found} columns; expected {what}", k + 1);
            return Err(Error::file(path, problem));
        }
        let first = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let ids = numbers(path, k, &first).collect::<Result<Vec<u32>>>()?;
        part.entry(ids[0]).or_default().push(ids[1]);
    }
    Ok(part)
}

impl Interactions {
    /// Whether a folder holds interactions.
    pub fn are_in(folder: &Path) -> bool {
        Layout::of(folder).is_some()
    }

    /// Reads interactions of a folder: `train.txt` and `test.txt`, in each line a user and its
    /// items; or `data1.txt` and `test1.txt`, in each line a user, an item and a weight; or
    /// MovieLens' `u.data`, in each line a user, an item, a rating and a time, of which a fifth of
    /// each user's items, drawn by seed 0, tests. Numbers are counted from the smallest one of the
    /// files, which is 0 or 1. Weights, ratings and times are not used. An item that stands twice
    /// in a part is taken once.
    ///
    /// # Errors
    /// [`Error::File`] with the line that is none of these; as [`Interactions::new`].
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let name = folder
            .file_name()
            .map_or_else(|| "interactions".into(), |name| name.to_string_lossy().into_owned());
        let missing = "has neither `train.txt` and `test.txt`, nor `data1.txt` and `test1.txt`, \
                       nor `u.data`";
        let layout = Layout::of(folder).ok_or_else(|| Error::file(folder, missing))?;
        let at = |name: &str| -> PathBuf { folder.join(name) };
        let mut notes = Vec::new();
        let (train, test) = match layout {
            Layout::Lists => (lists(&at("train.txt"))?, lists(&at("test.txt"))?),
            Layout::Pairs => {
                notes.push("weights are not used: an interaction is there or not".into());
                let read = |name| pairs(&at(name), 3, "user, item and weight");
                (read("data1.txt")?, read("test1.txt")?)
            }
            Layout::MovieLens => {
                notes.push(
                    "ratings and times are not used; a fifth of each user's items, drawn by seed \
                     0, tests"
                        .into(),
                );
                let read = pairs(&at("u.data"), 4, "user, item, rating and time")?;
                (read, Part::new())
            }
        };
        let parts = [&train, &test];
        let users = || parts.iter().flat_map(|part| part.keys().copied());
        let items = || parts.iter().flat_map(|part| part.values().flatten().copied());
        let (Some(most_users), Some(most_items)) = (users().max(), items().max()) else {
            return Err(Error::data(name, "has no interaction"));
        };
        let (first_user, first_item) = (users().min().unwrap_or(0), items().min().unwrap_or(0));
        let known = users().count().max(items().count());
        for (most, what) in [(most_users, "user"), (most_items, "item")] {
            // A table has a row for every number.
            if most as usize > 100 * known {
                let problem =
                    format!("{what}s are numbered up to {most}, and there are {known} numbers");
                return Err(Error::data(name, problem));
            }
        }
        let (first_user, first_item) = (first_user.min(1), first_item.min(1));
        if (first_user, first_item) != (0, 0) {
            notes.push(format!("users are counted from {first_user}, items from {first_item}"));
        }
        let mut twice = 0;
        let mut rows = |part: &Part| -> Vec<Vec<u32>> {
            let mut all = vec![Vec::new(); (most_users - first_user) as usize + 1];
            for (&user, own) in part {
                let mut own: Vec<u32> = own.iter().map(|item| item - first_item).collect();
                own.sort_unstable();
                let before = own.len();
                own.dedup();
                twice += before - own.len();
                all[(user - first_user) as usize] = own;
            }
            all
        };
        let (mut train, mut test) = (rows(&train), rows(&test));
        let items = (most_items - first_item) as usize + 1;
        if layout == Layout::MovieLens {
            let none = vec![vec![0]; train.len()];
            let all = Self { test: none.into(), ..Self::whole(name.clone(), items, train) };
            [train, test] = all.held_out(TEST_SHARE, 0)?;
        }
        if twice > 0 {
            notes.push(format!("{twice} interactions stand twice in a part, and are taken once"));
        }
        Self::noted(name, items, train, test, [first_user, first_item], notes)
    }

    /// All in the training part, unchecked.
    fn whole(name: String, items: usize, train: Vec<Vec<u32>>) -> Self {
        let (train, test, notes) = (train.into(), Vec::new().into(), Vec::new().into());
        Self { name, items, train, test, first: [0, 0], notes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder =
            std::env::temp_dir().join(format!("gnn-prune-{}-taken-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            std::fs::write(folder.join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn all_layouts_are_read() {
        let lists = folder("lists", &[("train.txt", "0 1 2\n1 0 2\n"), ("test.txt", "0 0\n1\n")]);
        let taken = Interactions::read(&lists).unwrap();
        assert_eq!((taken.train(), taken.num_items()), (&[vec![1, 2], vec![0, 2]][..], 3));
        let weighted = folder(
            "pairs",
            &[("data1.txt", "1\t1\t9\n1\t3\t2\n2\t2\t7\n2\t2\t7\n"), ("test1.txt", "1\t2\t1\n")],
        );
        let taken = Interactions::read(&weighted).unwrap();
        assert_eq!(
            (taken.train(), taken.test()),
            (&[vec![0, 2], vec![1]][..], &[vec![1], vec![]][..])
        );
        assert_eq!(taken.notes().len(), 3, "{:?}", taken.notes());
        assert_eq!((taken.user(1), taken.item(2)), (2, 3));
        let lines: String = (1..=10).map(|item| format!("1\t{item}\t5\t881250949\n")).collect();
        let movies = folder("movies", &[("u.data", &lines)]);
        let taken = Interactions::read(&movies).unwrap();
        assert_eq!((taken.train()[0].len(), taken.test()[0].len()), (8, 2));
        for folder in [lists, weighted, movies] {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn lines_that_are_none_are_named() {
        for (files, what) in [
            (&[("train.txt", "0 1\n0 2\n"), ("test.txt", "0 0")][..], "line 2: user 0 has a line"),
            (&[("train.txt", "0 x\n"), ("test.txt", "0 0")], "line 1: `x` is no whole number"),
            (&[("train.txt", "0 4000000000\n"), ("test.txt", "0 0")], "numbered up to 4000000000"),
            (&[("data1.txt", "1\t2\n"), ("test1.txt", "1\t2\t3")], "line 1 has 2 columns"),
            (&[("u.data", "1\t2\t3\t4\t5\t6\t7\t8\t9\t10\n")], "line 1 has 10 columns"),
            (&[("other", "")], "has neither"),
        ] {
            let folder = folder("wrong", files);
            let error = Interactions::read(&folder).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}
