//! Reading triples from text.

use super::{Names, Triple, Triples};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The files of the parts, in their order.
const PARTS: [&str; 3] = ["train.txt", "valid.txt", "test.txt"];

/// One part as it stands in its file.
struct Lines {
    path: PathBuf,
    text: String,
}

impl Lines {
    fn read(path: PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(&path).map_err(|error| Error::file(&path, error))?;
        Ok(Self { path, text })
    }

    /// The three words of each line, split at tabs where there are any, else at spaces.
    fn triples(&self) -> impl Iterator<Item = Result<[&str; 3]>> {
        let lines = self.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        lines.map(|(k, line)| {
            let words: Vec<&str> = if line.contains('\t') {
                line.split('\t').map(str::trim).collect()
            } else {
                line.split_whitespace().collect()
            };
            match <[&str; 3]>::try_from(words) {
                Ok(words) if words.iter().all(|word| !word.is_empty()) => Ok(words),
                Ok(_) => Err(Error::file(&self.path, format!("line {}: a name is empty", k + 1))),
                Err(words) => {
                    let problem = format!(
                        "line {} has {} columns; expected head, relation and tail",
                        k + 1,
                        words.len()
                    );
                    Err(Error::file(&self.path, problem))
                }
            }
        })
    }
}

fn are_text(folder: &Path) -> bool {
    PARTS.iter().all(|part| folder.join(part).is_file())
}

impl Triples {
    /// Whether a folder holds triples: `train.txt`, `valid.txt` and `test.txt`, or with the feature
    /// `readers` the layout of the Open Graph Benchmark.
    pub fn are_in(folder: &Path) -> bool {
        #[cfg(feature = "readers")]
        if super::ogb::holds_triples(folder) {
            return true;
        }
        are_text(folder)
    }

    /// Reads `train.txt`, `valid.txt` and `test.txt` of a folder: in each line head, relation and
    /// tail, by names or by numbers, separated by tabs or spaces. Names are numbered in their
    /// sorted order; numbers are taken as they are where they leave no large gaps. Entities of the
    /// other parts that no training triple has are kept, and counted in [`Triples::notes`].
    ///
    /// With the features `readers` and `pt` also a folder in the layout of the Open Graph Benchmark
    /// (`ogbl-wikikg2`): `train.pt`, `valid.pt` and `test.pt` with `head`, `relation` and `tail` in
    /// the one folder below `split`, and `raw/edge_reltype.csv.gz` and `raw/num-node-list.csv.gz`
    /// beside. Its lists of wrong answers are not read: ranks are among all entities.
    ///
    /// # Errors
    /// [`Error::File`] with the line that is no triple; [`Error::Data`] for an empty part.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        #[cfg(feature = "readers")]
        if !are_text(folder) && super::ogb::holds_triples(folder) {
            return super::ogb::triples(folder);
        }
        let name = folder
            .file_name()
            .map_or_else(|| "triples".into(), |name| name.to_string_lossy().into_owned());
        let files = [
            Lines::read(folder.join(PARTS[0]))?,
            Lines::read(folder.join(PARTS[1]))?,
            Lines::read(folder.join(PARTS[2]))?,
        ];
        let (mut entities, mut relations) = (BTreeSet::new(), BTreeSet::new());
        let mut parts: [Vec<[&str; 3]>; 3] = Default::default();
        for (part, file) in parts.iter_mut().zip(&files) {
            for triple in file.triples() {
                let [head, relation, tail] = triple?;
                entities.extend([head, tail]);
                relations.insert(relation);
                part.push([head, relation, tail]);
            }
        }
        let (entities, relations) = (Numbering::of(entities), Numbering::of(relations));
        let parts = parts.map(|part| -> Vec<Triple> {
            let number = |[head, relation, tail]: [&str; 3]| {
                [entities.number(head), relations.number(relation), entities.number(tail)]
            };
            part.into_iter().map(number).collect()
        });
        let mut notes = Vec::new();
        super::note_unseen(&parts, &mut notes);
        if let (Numbering::Words(_), true) = (&entities, entities.are_digits()) {
            notes.push("entities are written as numbers with gaps: taken as names".into());
        }
        Self::checked(name, entities.into_names(), relations.into_names(), parts, notes)
    }
}

/// What stands in a line for what is asked.
const ASKED: &str = "?";

impl Triples {
    /// Reads queries: in each line head, relation and tail, as [`Triples::read`] reads them, of
    /// which the head or the tail is `?`. Each is the entity and the relation that are known, and
    /// whether it is the head that is asked for.
    ///
    /// # Errors
    /// [`Error::File`] with the line that is no query, or names what there is not.
    pub fn read_queries(&self, path: impl AsRef<Path>) -> Result<Vec<(u32, u32, bool)>> {
        let lines = Lines::read(path.as_ref().into())?;
        let mut queries = Vec::new();
        for (k, words) in lines.triples().enumerate() {
            let wrong =
                |problem: String| Error::file(&lines.path, format!("query {}: {problem}", k + 1));
            let [head, relation, tail] = words?;
            let (own, inverse) = match (head == ASKED, tail == ASKED) {
                (false, true) => (head, false),
                (true, false) => (tail, true),
                _ => return Err(wrong("either the head or the tail is to be `?`".into())),
            };
            let unknown = |what: &str, name: &str| wrong(format!("there is no {what} `{name}`"));
            queries.push((
                self.find_entity(own).ok_or_else(|| unknown("entity", own))?,
                self.find_relation(relation).ok_or_else(|| unknown("relation", relation))?,
                inverse,
            ));
        }
        Ok(queries)
    }
}

/// How words become numbers.
enum Numbering<'a> {
    /// They are numbers, below this.
    Numbers(usize),
    Words(BTreeMap<&'a str, u32>),
}

impl<'a> Numbering<'a> {
    fn of(words: BTreeSet<&'a str>) -> Self {
        let plain = |word: &&str| {
            let number = word.parse::<u32>().ok()?;
            (number.to_string() == *word).then_some(number as usize)
        };
        let largest = words
            .iter()
            .map(plain)
            .try_fold(0, |largest: usize, number| number.map(|number| largest.max(number)));
        match largest {
            // With larger gaps they are names, as the numbers of synsets are.
            Some(largest) if largest < 2 * words.len() => Numbering::Numbers(largest + 1),
            _ => Numbering::Words(words.into_iter().zip(0..).collect()),
        }
    }

    fn number(&self, word: &str) -> u32 {
        match self {
            Numbering::Numbers(_) => word.parse().expect("all words are numbers"),
            Numbering::Words(words) => words[word],
        }
    }

    fn are_digits(&self) -> bool {
        match self {
            Numbering::Numbers(_) => true,
            Numbering::Words(words) => {
                words.keys().all(|word| word.bytes().all(|byte| byte.is_ascii_digit()))
            }
        }
    }

    fn into_names(self) -> Names {
        match self {
            Numbering::Numbers(count) => Names::Numbers(count),
            Numbering::Words(words) => {
                Names::Words(words.into_keys().map(str::to_string).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, parts: [&str; 3]) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("gnn-prune-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (part, text) in PARTS.iter().zip(parts) {
            std::fs::write(folder.join(part), text).unwrap();
        }
        folder
    }

    #[test]
    fn names_and_numbers_are_read_and_unseen_entities_kept() {
        let words = folder("words", ["b\tis a\ta\n\na\tis a\tc\n", "a\tof\tb\n", "d\tof\ta\n"]);
        let facts = Triples::read(&words).unwrap();
        assert_eq!((facts.num_entities(), facts.num_relations()), (4, 2));
        assert_eq!(facts.train(), [[1, 0, 0], [0, 0, 2]]);
        assert_eq!((facts.entity(3), facts.relation(1)), ("d".into(), "of".into()));
        assert_eq!((facts.find_entity("d"), facts.find_relation("of")), (Some(3), Some(1)));
        assert_eq!(facts.find_entity("e"), None);
        assert!(facts.notes()[0].contains("0 validation and 1 test"), "{:?}", facts.notes());
        let numbers = folder("numbers", ["0 0 3\n", "3 0 0\n", "1 0 3\n"]);
        let facts = Triples::read(&numbers).unwrap();
        assert_eq!((facts.num_entities(), facts.test()), (4, &[[1, 0, 3]][..]));
        assert_eq!((facts.find_entity("3"), facts.find_entity("4")), (Some(3), None));
        // Leading zeros and large gaps are names.
        let synsets = folder("synsets", ["007 0 0900\n", "0900 0 007\n", "007 0 007\n"]);
        assert_eq!(Triples::read(&synsets).unwrap().num_entities(), 2);
        for folder in [words, numbers, synsets] {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn queries_ask_for_one_end() {
        let folder = folder("asked", ["a b c\n", "a b c\n", "c b a\n"]);
        let facts = Triples::read(&folder).unwrap();
        let path = folder.join("asked.txt");
        let asked = |text: &str| {
            std::fs::write(&path, text).unwrap();
            facts.read_queries(&path).map_err(|error| error.to_string())
        };
        assert_eq!(asked("a b ?\n\n? b a\n").unwrap(), [(0, 0, false), (0, 0, true)]);
        for (text, what) in [
            ("a b ?\na b c\n", "query 2: either the head or the tail"),
            ("? b ?\n", "query 1: either the head or the tail"),
            ("d b ?\n", "there is no entity `d`"),
            ("a c ?\n", "there is no relation `c`"),
            ("a b\n", "line 1 has 2 columns"),
        ] {
            let error = asked(text).unwrap_err();
            assert!(error.contains(what), "{error}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn lines_that_are_no_triples_are_named() {
        for (text, what) in [
            ("a b c\na b\n", "line 2 has 2 columns"),
            ("a\tb\tc\td\te\tf\tg\th\ti\tj\n", "line 1 has 10 columns"),
            ("a\t\tc\n", "line 1: a name is empty"),
            ("", "`train` has no triple"),
        ] {
            let folder = folder("wrong", [text, "a b c", "a b c"]);
            let error = Triples::read(&folder).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}
