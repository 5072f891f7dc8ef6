//! What people met who brought networks and graphs of their own: each case has inputs, the numbers
//! of PyTorch Geometric, and a script that made both.
//!
//! `cases.json` lists the commands and what must come of them: `near` a file of logits, `metric` of
//! the first row or `last_metric` at least, `refuses` in a line that says one of some words;
//! `or_says` and `or_refuses` are other ways that are right.
#![cfg(feature = "cli")]

use gnn_prune::ndarray::Array2;
use ndarray_npy::ReadNpyExt;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Absolute, and relative beside it.
const TOLERANCE: f32 = 1e-4;

fn matrix(path: &Path) -> Option<Array2<f32>> {
    Array2::read_npy(fs::File::open(path).ok()?).ok()
}

fn is_near(found: &Path, expected: &Path) -> bool {
    let expected = matrix(expected).expect("expected logits are a matrix");
    matrix(found).is_some_and(|found| {
        let close = |(a, b): (&f32, &f32)| (a - b).abs() <= TOLERANCE + TOLERANCE * b.abs();
        found.dim() == expected.dim() && found.iter().zip(&expected).all(close)
    })
}

/// Runs one command in a copy of its case; what is wrong with what came of it.
fn problem(case: &Path, check: &Value) -> Option<String> {
    let folder = std::env::temp_dir().join(format!("gnn-prune-case-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(case).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let line = check["run"].as_str().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_gnn-prune"))
        .args(line.split(' '))
        .current_dir(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    let word = |key: &str| {
        check[key].as_str().is_some_and(|words| words.split('|').any(|word| said.contains(word)))
    };
    let errors = said.lines().filter(|line| !line.starts_with("note: ")).collect::<Vec<_>>();
    let refused = done.status.code() == Some(2)
        && matches!(errors[..], [error] if error.starts_with("error: "));
    let percent = |row: fn(&[Value]) -> Option<&Value>| {
        let report: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
        report["rows"]
            .as_array()
            .and_then(|rows| row(rows)?["accuracy"]["mean"].as_f64())
            .unwrap_or(f64::NAN)
    };
    let near = || {
        done.status.success()
            && check["near"]
                .as_str()
                .is_some_and(|file| is_near(&folder.join("logits.npy"), &case.join(file)))
    };
    let right = near()
        || done.status.success() && word("or_says")
        || refused && (word("refuses") || word("or_refuses"))
        || check["metric"]
            .as_f64()
            .is_some_and(|wanted| (percent(|rows| rows.first()) - wanted).abs() < 0.01)
        || check["last_metric"].as_f64().is_some_and(|least| percent(|rows| rows.last()) >= least);
    let _ = fs::remove_dir_all(&folder);
    (!right).then(|| format!("{}: gnn-prune {line}: {} {said}", case.display(), done.status))
}

#[test]
fn every_case_gives_pytorchs_numbers_or_says_why_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cases");
    let cases: Value = serde_json::from_slice(&fs::read(root.join("cases.json")).unwrap()).unwrap();
    let checks = cases.as_object().unwrap().iter().flat_map(|(case, checks)| {
        checks.as_array().unwrap().iter().map(move |check| (case, check))
    });
    let problems: Vec<String> =
        checks.clone().filter_map(|(case, check)| problem(&root.join(case), check)).collect();
    assert!(checks.count() >= 27, "some cases are gone");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
