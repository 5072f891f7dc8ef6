//! Where results go, looked at before there is work to lose.

use crate::failure::{Failure, Result};
use gnn_prune::Report;
use std::path::Path;

/// Where results go.
#[derive(Default)]
pub struct Places<'a> {
    pub out: Option<&'a Path>,
    pub report: Option<&'a Path>,
    pub json: Option<&'a Path>,
    pub work: Option<&'a Path>,
}

impl Places<'_> {
    /// A long run must not end with a place that takes no file.
    pub fn check(&self) -> Result<()> {
        let json = self.json.filter(|path| *path != Path::new("-"));
        let given: Vec<(&str, &Path)> = [
            ("--out", self.out),
            ("--report", self.report),
            ("--json", json),
            ("--work", self.work),
        ]
        .into_iter()
        .filter_map(|(flag, path)| Some((flag, path?)))
        .collect();
        for (k, (flag, path)) in given.iter().enumerate() {
            if let Some((other, _)) = given[..k].iter().find(|(_, other)| is_one_file(other, path))
            {
                return Err(Failure::OnePlace {
                    path: path.into(),
                    flags: format!("{other} and {flag}"),
                });
            }
        }
        self.out.map_or(Ok(()), check_place)?;
        json.map_or(Ok(()), check_place)?;
        self.work.map_or(Ok(()), check_folder)?;
        let Some(report) = self.report else { return Ok(()) };
        Report::check_suffix(report)?;
        check_place(report)
    }
}

/// Whether one would be written over the other: the same path, or two that lead to the same file
/// that is there; a device may be named twice.
fn is_one_file(a: &Path, b: &Path) -> bool {
    let is_file = |path: &Path| path.metadata().map_or(true, |found| found.is_file());
    let real = |path: &Path| {
        path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.into())
    };
    is_file(a) && is_file(b) && real(a) == real(b)
}

/// A folder that is there, or can be made in one that is.
fn check_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if path.exists() {
        return Err(Failure::Output {
            path: path.into(),
            problem: "is no folder; stages are kept in a folder of their own",
        });
    }
    check_place(path)
}

/// A file that can be written.
pub fn check_place(path: &Path) -> Result<()> {
    let refuse = |problem| Err(Failure::Output { path: path.into(), problem });
    if path == Path::new("-") {
        return refuse(
            "only `--json` writes to stdout; give the name of a file, `./-` for one of that name",
        );
    }
    if path.file_name().is_none() {
        return refuse("is not the name of a file; give one");
    }
    if path.is_dir() {
        return refuse("is a folder; give the name of a file");
    }
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) if !folder.is_dir() => refuse("its folder does not exist; make it first"),
        _ => Ok(()),
    }
}
