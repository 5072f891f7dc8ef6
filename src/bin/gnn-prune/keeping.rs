//! Long work that is kept: where, and what Ctrl-C does meanwhile.

use crate::args::KeepArgs;
use crate::failure::{Failure, Result};
use crate::output::remark;
use gnn_prune::{Checkpoints, Compression, Error};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a shell gives a program that Ctrl-C has ended.
pub const INTERRUPTED: u8 = 130;

/// Where finished stages go, if anywhere.
pub struct Keeping {
    folder: Option<PathBuf>,
    resume: bool,
    /// Whether the folder goes once all is written.
    passing: bool,
}

impl Keeping {
    /// Beside the model that is written, unless a folder is named.
    pub fn new(args: &KeepArgs, out: Option<&Path>) -> Result<Self> {
        // A pipe or a device has no room beside it.
        let beside =
            || out.filter(|out| out.metadata().map_or(true, |found| found.is_file())).map(beside);
        let folder = args.work.clone().or_else(beside);
        if folder.is_none() && args.resume {
            return Err(Failure::NothingToResume);
        }
        Ok(Self { folder, resume: args.resume, passing: args.work.is_none() })
    }

    /// The folder.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// The compression that keeps its stages, and that Ctrl-C stops.
    pub fn applied<'a>(&self, compression: Compression<'a>) -> Result<Compression<'a>> {
        let Some(folder) = &self.folder else { return Ok(compression) };
        let checkpoints =
            if self.resume { Checkpoints::resume(folder) } else { Checkpoints::begin(folder)? };
        let stop = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&stop);
        // Where no handler can be set, Ctrl-C ends the program as ever, and costs the stage at
        // hand.
        let _ = ctrlc::set_handler(move || {
            if heard.swap(true, Ordering::Relaxed) {
                std::process::exit(INTERRUPTED.into());
            }
            remark(
                "stopping after this epoch, or this stage where it has none; Ctrl-C again leaves at once",
            );
        });
        Ok(compression.keep(checkpoints).stop_when(move || stop.load(Ordering::Relaxed)))
    }

    /// What an error of the compression means to the user.
    pub fn failure(&self, error: Error) -> Failure {
        match (error, &self.folder) {
            (Error::Interrupted, Some(folder)) => Failure::Interrupted {
                kept: Checkpoints::count(folder),
                folder: folder.clone(),
                command: command(std::env::args_os()),
            },
            (error, _) => error.into(),
        }
    }

    /// Removes what is no longer needed: all results are written.
    pub fn done(&self) -> Result<()> {
        match &self.folder {
            Some(folder) if self.passing => Ok(Checkpoints::remove(folder)?),
            _ => Ok(()),
        }
    }
}

fn beside(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".work");
    name.into()
}

/// The command that goes on, as it is typed into a shell.
fn command(args: impl Iterator<Item = OsString>) -> String {
    let mut words: Vec<String> = args.map(|word| quoted(&word.to_string_lossy())).collect();
    if !words.iter().any(|word| word == "--resume") {
        words.push("--resume".into());
    }
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=+.,:/@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.into()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}
