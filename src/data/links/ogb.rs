//! Links as the Open Graph Benchmark lays them out: below `split` one folder with `train.pt`,
//! `valid.pt` and `test.pt`, beside it `raw`.

use super::{EdgeSplit, Names, Triple, Triples};
use crate::data::listed::listed;
use crate::data::{table, tables};
use crate::error::{Error, Result};
use crate::files::Tensors;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const PARTS: [&str; 3] = ["train.pt", "valid.pt", "test.pt"];
/// Given wrong answers, which are ranked nowhere here.
const GIVEN: [&str; 2] = ["head_neg", "tail_neg"];

/// Entities and relations beside each number that a triple names, at most.
const MOST_PER_NAME: usize = 100;

/// The folder of the split, where its parts are files of PyTorch.
fn split(folder: &Path) -> Option<PathBuf> {
    let split = tables::split_folder(folder).ok().flatten()?;
    PARTS.iter().all(|part| split.join(part).is_file()).then_some(split)
}

/// Whether a folder holds triples in this layout: its edges have types.
pub(super) fn holds_triples(folder: &Path) -> bool {
    let typed = ["edge_reltype.csv.gz", "num-node-dict.csv.gz"];
    split(folder).is_some() && typed.iter().any(|file| folder.join("raw").join(file).is_file())
}

fn holds_edges(folder: &Path) -> bool {
    split(folder).is_some() && !holds_triples(folder)
}

/// One part of the split.
struct Part {
    path: PathBuf,
    tensors: Tensors,
    used: BTreeSet<&'static str>,
}

impl Part {
    fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let tensors = Tensors::read_as_listed(&path)?;
        Ok(Self { path, tensors, used: BTreeSet::new() })
    }

    fn wrong(&self, problem: String) -> Error {
        Error::file(&self.path, problem)
    }

    /// Whole numbers in rows of `width`, none below zero.
    fn rows(&mut self, key: &'static str, width: usize) -> Result<Vec<u32>> {
        let Some((shape, values)) = self.tensors.integers.get(key) else {
            let names = self.names().map(|name| format!("`{name}`"));
            let names = listed(names);
            return Err(self.wrong(format!("lacks whole numbers `{key}`; it has {names}")));
        };
        let fits = match shape[..] {
            [_] => width == 1,
            [_, columns] => columns == width,
            _ => false,
        };
        if !fits {
            return Err(self.wrong(format!("`{key}` has shape {shape:?}, expected {width} a row")));
        }
        let number = |(k, &value): (usize, &i64)| {
            let problem = || self.wrong(format!("row {} of `{key}` names {value}", k / width));
            u32::try_from(value).map_err(|_| problem())
        };
        let rows = values.iter().enumerate().map(number).collect::<Result<_>>()?;
        self.used.insert(key);
        Ok(rows)
    }

    fn pairs(&mut self, key: &'static str) -> Result<Vec<[u32; 2]>> {
        let flat = self.rows(key, 2)?;
        Ok(flat.as_chunks::<2>().0.to_vec())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.integers.keys().chain(self.tensors.floats.keys()).map(String::as_str)
    }

    /// What else it holds.
    fn left(&self) -> impl Iterator<Item = &str> {
        self.names().filter(|name| !self.used.contains(name))
    }
}

/// A note on the arrays that were not asked for.
fn unread(parts: &[Part; 3], notes: &mut Vec<String>) {
    let left: BTreeSet<&str> = parts.iter().flat_map(Part::left).collect();
    if left.iter().any(|name| GIVEN.contains(name)) {
        notes.push(
            "answers are ranked among all entities, not among those of `head_neg` and `tail_neg` \
             alone"
                .into(),
        );
    }
    let others = left.iter().filter(|name| !GIVEN.contains(name));
    let others = listed(others.map(|name| format!("`{name}`")));
    if !others.is_empty() {
        notes.push(format!("arrays of the split that are not read: {others}"));
    }
}

fn opened(folder: &Path) -> Result<[Part; 3]> {
    let split = split(folder)
        .ok_or_else(|| Error::file(folder, "has no split of `train.pt`, `valid.pt`, `test.pt`"))?;
    let [train, valid, test] = PARTS;
    Ok([Part::read(&split, train)?, Part::read(&split, valid)?, Part::read(&split, test)?])
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map_or_else(|| "links".into(), |name| name.to_string_lossy().into_owned())
}

/// The number of nodes that the folder states, if it does.
fn stated(folder: &Path) -> Result<Option<usize>> {
    let path = folder.join("raw/num-node-list.csv.gz");
    if !path.is_file() {
        return Ok(None);
    }
    let counts = table::read::<usize>(&path, |width| width == 1, "one number")?.values;
    match counts[..] {
        [nodes] => Ok(Some(nodes)),
        _ => Err(Error::file(&path, format!("has {} lines, and one graph is read", counts.len()))),
    }
}

pub(super) fn triples(folder: &Path) -> Result<Triples> {
    if folder.join("raw/num-node-dict.csv.gz").is_file() {
        let problem = "has entities of several types, each numbered from 0, which is not read; \
                       write them as `train.txt`, `valid.txt` and `test.txt` with names";
        return Err(Error::file(folder, problem));
    }
    let mut parts = opened(folder)?;
    let mut triples: [Vec<Triple>; 3] = Default::default();
    for (part, into) in parts.iter_mut().zip(&mut triples) {
        let heads = part.rows("head", 1)?;
        let (relations, tails) = (part.rows("relation", 1)?, part.rows("tail", 1)?);
        if heads.len() != tails.len() || heads.len() != relations.len() {
            return Err(part.wrong(format!(
                "has {} heads, {} relations and {} tails",
                heads.len(),
                relations.len(),
                tails.len()
            )));
        }
        into.extend(heads.into_iter().zip(relations).zip(tails).map(|((h, r), t)| [h, r, t]));
    }
    let largest = |of: fn(&Triple) -> u32| {
        let all = triples.iter().flatten().map(of);
        all.max().map_or(0, |largest| largest as usize + 1)
    };
    let relations = largest(|triple| triple[1]);
    let entities = stated(folder)?.unwrap_or_else(|| largest(|triple| triple[0].max(triple[2])));
    let named = 2 * triples.iter().map(Vec::len).sum::<usize>();
    for (count, what) in [(entities, "entities"), (relations, "relations")] {
        // A table has a row for every number.
        if count > MOST_PER_NAME.saturating_mul(named) {
            let problem = format!("has {count} {what}, and its triples name {named}");
            return Err(Error::file(folder, problem));
        }
    }
    let mut notes = Vec::new();
    super::note_unseen(&triples, &mut notes);
    unread(&parts, &mut notes);
    let (entities, relations) = (Names::Numbers(entities), Names::Numbers(relations));
    Triples::checked(name_of(folder), entities, relations, triples, notes)
}

fn edges(folder: &Path) -> Result<EdgeSplit> {
    let mut parts = opened(folder)?;
    if let Some(part) = parts.iter().find(|part| part.names().any(|name| name == "source_node")) {
        return Err(part.wrong(
            "asks which target a source has (`source_node`); links that lead both ways are read, \
             an `edge` of two nodes each"
                .into(),
        ));
    }
    let [train, valid, test] = &mut parts;
    let edges = [train.pairs("edge")?, valid.pairs("edge")?, test.pairs("edge")?];
    let others = [valid.pairs("edge_neg")?, test.pairs("edge_neg")?];
    let mut notes = Vec::new();
    unread(&parts, &mut notes);
    EdgeSplit::checked(name_of(folder), edges, others, notes)
}

impl EdgeSplit {
    /// Whether a folder holds such a split: in the Open Graph Benchmark's layout `train.pt`,
    /// `valid.pt` and `test.pt` below `split`, of edges without types.
    pub fn are_in(folder: &Path) -> bool {
        holds_edges(folder)
    }

    /// Reads the split of such a folder: `edge` and, to validate and test, `edge_neg`, each of two
    /// nodes a row. What else a part holds is named in [`EdgeSplit::notes`].
    ///
    /// # Errors
    /// [`Error::File`] for a file that is missing, damaged or holds other arrays, and without the
    /// feature `pt`.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        edges(folder.as_ref())
    }
}

#[cfg(all(test, feature = "pt"))]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_entities_that_the_triples_do_not_bear_out_is_refused() {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pt/ogb/facts");
        let to = std::env::temp_dir().join(format!("gnn-prune-{}-claims", std::process::id()));
        let parts = ["split/time/train.pt", "split/time/valid.pt", "split/time/test.pt"];
        for folder in ["split/time", "raw"] {
            std::fs::create_dir_all(to.join(folder)).unwrap();
        }
        for file in parts.into_iter().chain(["raw/edge_reltype.csv.gz"]) {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
        assert_eq!(Triples::read(&to).unwrap().num_entities(), 12);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, b"4000000000\n").unwrap();
        std::fs::write(to.join("raw/num-node-list.csv.gz"), packed.finish().unwrap()).unwrap();
        let error = Triples::read(&to).unwrap_err().to_string();
        assert!(error.contains("has 4000000000 entities, and its triples name 48"), "{error}");
        std::fs::remove_dir_all(to).unwrap();
    }
}
