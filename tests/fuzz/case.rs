//! A case: some files, one of them or their folder to be read, made from the case's number alone.

use super::draw::Draw;
use super::tree::Tree;
use super::{arrays, bytes, graphs, models, pickles, tensors, text};
use std::fs;
use std::path::{Path, PathBuf};

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Model files of floats.
    Model,
    /// Model files of integers.
    Quant,
    /// State dicts of PyTorch Geometric's networks, and what is assumed of them.
    Checkpoint,
    /// State dicts, and the list of the network's layers.
    Network,
    /// State dicts of its layers, and their settings.
    Layer,
    /// Archives of arrays.
    Npz,
    /// Lists of edges beside arrays.
    Csv,
    /// Folders of packed tables.
    Ogb,
    /// Data sets as tensors.
    Tensors,
    /// What PyTorch saves.
    Pt,
    /// Plans and settings in JSON.
    Plan,
    /// Recipes in TOML.
    Recipe,
    /// Words for data sets, assumptions, stages and options.
    Words,
}

impl Kind {
    pub const ALL: [Self; 13] = [
        Kind::Model,
        Kind::Quant,
        Kind::Checkpoint,
        Kind::Network,
        Kind::Layer,
        Kind::Npz,
        Kind::Csv,
        Kind::Ogb,
        Kind::Tensors,
        Kind::Pt,
        Kind::Plan,
        Kind::Recipe,
        Kind::Words,
    ];

    pub fn word(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The number of a case has its kind in the lowest byte.
    pub fn of(case: u64) -> Self {
        Self::ALL[(case & 0xff) as usize % Self::ALL.len()]
    }

    pub fn number(self, word: u64) -> u64 {
        word & !0xff | self as u64
    }
}

/// Files by name; the first is the one to read, if it is not their folder.
#[derive(Debug, Clone, Default)]
pub struct Case {
    pub files: Vec<(String, Vec<u8>)>,
}

impl Case {
    pub fn of(files: impl IntoIterator<Item = (&'static str, Vec<u8>)>) -> Self {
        Self { files: files.into_iter().map(|(name, bytes)| (name.to_string(), bytes)).collect() }
    }

    pub fn bytes(&self) -> usize {
        self.files.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    pub fn name(&self) -> &str {
        self.files.first().map_or("", |(name, _)| name)
    }

    /// The text of a file, empty if there is none.
    pub fn text(&self, name: &str) -> String {
        let bytes =
            self.files.iter().find(|(known, _)| known == name).map_or(&[][..], |(_, bytes)| bytes);
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Writes the files to a folder of their own, and gives the path of the first.
    pub fn write(&self, folder: &Path) -> std::io::Result<PathBuf> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder)?;
        for (name, bytes) in &self.files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(path, bytes)?;
        }
        Ok(folder.join(self.name()))
    }
}

/// The files that cases start from.
pub struct Starts {
    by_kind: Vec<Vec<Case>>,
    /// What every case is, where one that was kept is run again.
    kept: Option<Case>,
}

impl Starts {
    /// `folder` is for what the crate's own writers write.
    pub fn new(folder: &Path) -> gnn_prune::Result<Self> {
        let starts = |kind: Kind| match kind {
            Kind::Model => models::floats(folder),
            Kind::Quant => models::integers(folder),
            Kind::Checkpoint => models::checkpoints(folder),
            Kind::Network => models::networks(folder),
            Kind::Layer => models::layers(),
            Kind::Pt => Ok(models::pickles()),
            Kind::Plan => models::plans(),
            Kind::Npz => Ok(graphs::archives()),
            Kind::Csv => Ok(graphs::lists()),
            Kind::Ogb => Ok(graphs::folders()),
            Kind::Tensors => Ok(graphs::tensors()),
            Kind::Recipe => Ok(graphs::recipes()),
            Kind::Words => Ok(graphs::words()),
        };
        Ok(Self {
            by_kind: Kind::ALL.into_iter().map(starts).collect::<gnn_prune::Result<_>>()?,
            kept: None,
        })
    }

    pub fn of(&self, kind: Kind) -> &[Case] {
        &self.by_kind[kind as usize]
    }

    /// Makes every case the one whose files lie in a folder, as far as cases of that kind have
    /// files of these names.
    pub fn keep_to(&mut self, kind: Kind, folder: &Path) {
        let read =
            |(name, _): &(String, Vec<u8>)| Some((name.clone(), fs::read(folder.join(name)).ok()?));
        let files = |start: &Case| Case { files: start.files.iter().filter_map(read).collect() };
        // Kinds have several sets of names: the folder is of the one that has its first file and
        // most of the others.
        let fitting =
            self.of(kind).iter().filter(|start| folder.join(start.name()).is_file()).map(files);
        self.kept = fitting.max_by_key(|case| case.files.len());
    }

    /// The case of that number; one in sixteen is as it was written.
    pub fn case(&self, number: u64) -> Case {
        if let Some(kept) = &self.kept {
            return kept.clone();
        }
        let mut draw = Draw::new(number);
        let starts = self.of(Kind::of(number));
        let mut case = draw.pick(starts).clone();
        let other = draw.pick(starts);
        if draw.one_in(16) {
            return case;
        }
        for _ in 0..if draw.one_in(6) { 2 } else { 1 } {
            let at = draw.below(case.files.len());
            let (name, bytes) = &mut case.files[at];
            let like = other
                .files
                .iter()
                .find(|(known, _)| known == name)
                .map_or(&bytes[..], |(_, bytes)| bytes);
            *bytes = mutated(name, bytes, like, &mut draw);
        }
        if case.files.len() > 2 && draw.one_in(40) {
            case.files.remove(1 + draw.below(case.files.len() - 1));
        }
        case
    }
}

fn mutated(name: &str, file: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let end = name.rsplit('.').next().unwrap_or_default();
    if draw.one_in(if matches!(end, "txt" | "safetensors" | "pt") { 12 } else { 6 }) {
        let mut changed = file.to_vec();
        bytes::mutate(&mut changed, other, draw);
        return if name == "dataset.txt" {
            text::modest(&words(&changed)).into_bytes()
        } else {
            changed
        };
    }
    let tree = |tree: Option<Tree>, write: fn(&Tree) -> String, draw: &mut Draw| match tree {
        Some(mut tree) => {
            tree.mutate(draw);
            write(&tree)
        }
        None => words(file),
    };
    match end {
        "safetensors" => tensors::mutate(file, other, draw),
        "pt" => pickles::mutate(file, other, draw),
        "npz" => arrays::mutate_zip(file, other, draw),
        "npy" => arrays::mutate_npy(file, other, draw),
        "gz" => arrays::mutate_gz(file, other, draw),
        "csv" => text::table(&words(file), &words(other), draw).into_bytes(),
        "json" => tree(Tree::json(&words(file)), Tree::to_json, draw).into_bytes(),
        "toml" => tree(Tree::toml(&words(file)), Tree::to_toml, draw).into_bytes(),
        _ if name == "dataset.txt" => {
            text::modest(&text::words(&words(file), &words(other), draw)).into_bytes()
        }
        _ => text::words(&words(file), &words(other), draw).into_bytes(),
    }
}
