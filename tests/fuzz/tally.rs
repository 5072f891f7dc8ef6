//! What became of the cases of each kind, kept in a file so that a process that dies does not take
//! it along.

use super::case::Kind;
use super::laws::{Found, Lawful};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    cases: u64,
    read: u64,
    broken: u64,
    micros: u64,
}

#[derive(Debug, Clone, Default)]
pub struct Tallies {
    kinds: BTreeMap<Kind, Tally>,
    /// How often each law was broken.
    faults: BTreeMap<(Kind, String), u64>,
}

/// Fewer cases tell nothing of a share.
const FEW: u64 = 200;

impl Tallies {
    fn place(scratch: &Path) -> PathBuf {
        scratch.join("tallies")
    }

    /// Those of the processes before this one.
    pub fn load(scratch: &Path) -> Self {
        let mut tallies = Self::default();
        for line in fs::read_to_string(Self::place(scratch)).unwrap_or_default().lines() {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            let &[kind, first, rest] = &words[..] else { continue };
            let (Ok(kind), Ok(first)) = (kind.parse().map(Kind::of), first.parse()) else {
                continue;
            };
            let numbers: Vec<u64> = rest.split(' ').map_while(|word| word.parse().ok()).collect();
            if let &[read, broken, micros] = &numbers[..] {
                tallies.kinds.insert(kind, Tally { cases: first, read, broken, micros });
            } else {
                tallies.faults.insert((kind, rest.into()), first);
            }
        }
        tallies
    }

    pub fn save(&self, scratch: &Path) {
        let counts = |(kind, tally): (&Kind, &Tally)| {
            let Tally { cases, read, broken, micros } = tally;
            format!("{} {cases} {read} {broken} {micros}\n", *kind as u64)
        };
        let fault = |((kind, law), count): (&(Kind, String), &u64)| {
            format!("{} {count} {law}\n", *kind as u64)
        };
        let lines: String =
            self.kinds.iter().map(counts).chain(self.faults.iter().map(fault)).collect();
        // What is lost where this fails is a count.
        let _ = fs::write(Self::place(scratch), lines);
    }

    /// How often the same was broken by cases of that kind, with this one; 0 if nothing was.
    pub fn add(&mut self, kind: Kind, found: &Lawful<Found>, time: Duration) -> u64 {
        let tally = self.kinds.entry(kind).or_default();
        tally.cases += 1;
        tally.micros += time.as_micros() as u64;
        match found {
            Ok(Found::Read) => tally.read += 1,
            Ok(Found::Refused) => {}
            Err(fault) => {
                tally.broken += 1;
                let count = self.faults.entry((kind, fault.law.clone())).or_default();
                *count += 1;
                return *count;
            }
        }
        0
    }

    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// One line a fault and one a kind; the rate is that of one thread.
    pub fn print(&self) {
        for ((kind, law), count) in &self.faults {
            println!("{count} of {}: {law}", kind.word());
        }
        println!(
            "{:<11}{:>9}{:>9}{:>9}{:>9}{:>10}",
            "kind", "cases", "read", "refused", "failed", "cases/s"
        );
        for (kind, &Tally { cases, read, broken, micros }) in &self.kinds {
            let refused = cases - read - broken;
            let speed = cases as f64 * 1e6 / micros.max(1) as f64;
            let warning = if cases < FEW {
                ""
            } else if read * 100 < cases {
                "  less than 1 % are read: tests nothing"
            } else if refused == 0 {
                "  nothing is refused: tests nothing"
            } else {
                ""
            };
            println!(
                "{:<11}{cases:>9}{read:>9}{refused:>9}{broken:>9}{speed:>10.0}{warning}",
                kind.word()
            );
        }
    }
}
