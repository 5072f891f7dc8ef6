//! What is said on the command line.

use super::case::Kind;
use gnn_prune::rng::hash;
use std::path::PathBuf;

pub const USAGE: &str = "usage: fuzz [--seconds 60] [--cases N] [--seed 0] [--threads 2] [--kinds a,b] [--case NUMBER] [--kept FOLDER] [--starts FOLDER]";

#[derive(Debug, Clone)]
pub struct Options {
    pub seconds: u64,
    /// Bounded by number instead of time.
    pub cases: Option<u64>,
    pub seed: u64,
    pub threads: usize,
    pub kinds: Vec<Kind>,
    /// This one alone.
    pub case: Option<u64>,
    /// A case whose files were kept, and its kind.
    pub kept: Option<(Kind, PathBuf)>,
    /// Where to write the files that cases start from, instead of running any.
    pub starts: Option<PathBuf>,
}

impl Options {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seconds: 60,
            cases: None,
            seed: 0,
            threads: 2,
            kinds: Kind::ALL.to_vec(),
            case: None,
            kept: None,
            starts: None,
        };
        while let Some(flag) = words.next() {
            let value = words.next().ok_or_else(|| format!("`{flag}` has no value; {USAGE}"))?;
            let number = || {
                let parsed = value
                    .strip_prefix("0x")
                    .map_or_else(|| value.parse(), |digits| u64::from_str_radix(digits, 16));
                parsed.map_err(|_| format!("`{flag}` is `{value}`, it must be a whole number"))
            };
            match flag.as_str() {
                "--seconds" => options.seconds = number()?,
                "--cases" => options.cases = Some(number()?),
                "--seed" => options.seed = number()?,
                "--threads" => options.threads = number()?.clamp(1, 64) as usize,
                "--case" => options.case = Some(number()?),
                "--kept" => options.keep_to(value.into())?,
                "--starts" => options.starts = Some(value.into()),
                "--kinds" => {
                    options.kinds = value.split(',').map(kind).collect::<Result<_, _>>()?
                }
                _ => return Err(format!("`{flag}` is not known; {USAGE}")),
            }
        }
        Ok(options)
    }

    /// The folder is named after the kind and the number of its case.
    fn keep_to(&mut self, folder: PathBuf) -> Result<(), String> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (word, number) = name.split_once('-').unwrap_or((&name, ""));
        let kind = kind(word)?;
        let number = u64::from_str_radix(number.trim_start_matches("0x"), 16).unwrap_or(0);
        self.case = Some(kind.number(number));
        self.kept = Some((kind, folder));
        Ok(())
    }

    /// The number of case `k`: it alone decides the bytes.
    pub fn number(&self, k: u64) -> u64 {
        let kind = self.kinds[(k % self.kinds.len() as u64) as usize];
        self.case.unwrap_or_else(|| kind.number(hash(self.seed, &[k])))
    }

    /// How many cases there are at most.
    pub fn most(&self) -> u64 {
        if self.case.is_some() { 1 } else { self.cases.unwrap_or(u64::MAX) }
    }

    /// For how long cases are begun.
    pub fn is_over(&self, elapsed: std::time::Duration) -> bool {
        self.cases.is_none() && self.case.is_none() && elapsed.as_secs() >= self.seconds
    }
}

fn kind(word: &str) -> Result<Kind, String> {
    let known = || Kind::ALL.map(Kind::word).join(", ");
    Kind::ALL
        .into_iter()
        .find(|kind| kind.word() == word)
        .ok_or_else(|| format!("`{word}` is no kind; there are {}", known()))
}
