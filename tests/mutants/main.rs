//! Small wrong changes of the source, and whether a test sees them.
//!
//! ```sh
//! cargo test --all-features --test mutants                    # all of them, some hours on two cores
//! cargo test --all-features --test mutants -- --only 3,17     # some
//! cargo test --all-features --test mutants -- --quick         # by the tests of their rooms alone, in minutes
//! cargo test --all-features --test mutants -- --survivors     # all tests on those that survived the last time
//! ```
//!
//! The lists beside this file name each change: a piece of a source file in which `«…»` marks what
//! is replaced, and what stands there instead. A copy of the crate is written in which every marked
//! part became a choice, `if mutant(k) { changed } else { original }`, so that one build holds them
//! all and an environment variable says which one is live. For each, the tests run until the first
//! one fails. Documentation tests are not run, nor `house`, which reads the sources themselves.
//!
//! The program ends with 1 if a change survived that has no `survives` in its list, the reason why
//! no test can see it.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The variable that the copy reads.
const LIVE: &str = "GNN_PRUNE_MUTANT";

/// A change that makes a loop endless is seen by this.
const LONGEST: Duration = Duration::from_secs(900);

/// What the copy needs.
const TREE: [&str; 9] = [
    "core",
    "src",
    "tests",
    "benches",
    "examples",
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "CHANGELOG.md",
];

/// Programs of tests.
const PROGRAMS: [&str; 5] = ["gnn_prune", "suite", "conformance", "memory", "gnn_prune_core"];

/// The modules of `suite` that look at a room first; of the library's own tests those of the room
/// do.
const FIRST: [(&str, &[&str]); 15] = [
    ("data", &["readers::", "hostile::"]),
    ("files", &["readers::", "hostile::", "golden::", "pt_files::"]),
    ("graph", &["formulas::", "oracle::", "registry::", "symmetry::"]),
    ("nn", &["formulas::", "oracle::", "registry::", "gradients::"]),
    ("models", &["formulas::"]),
    ("kernels", &["kernels::", "oracle::", "gradients::", "quantization::"]),
    ("reconstruct", &["choices::", "weights::"]),
    ("quant", &["quantization::", "golden::"]),
    ("prune", &["choices::", "pruning::", "weights::", "layers::"]),
    ("io", &["golden::", "hostile::", "registry::"]),
    ("train", &["loops::", "training::", "multi_label::", "labels::"]),
    ("distill", &["loops::", "distillation::", "labels::"]),
    ("pipeline", &["pipeline::", "words::", "resume::", "loops::", "labels::"]),
    ("report", &["pipeline::"]),
    ("bin", &["cli::"]),
];

/// What is run for a change of this file: a program, by its place in [`PROGRAMS`], and what it is
/// asked for. What can see the change soonest comes first; the last passes are all tests.
fn passes(file: &str) -> Vec<(usize, Vec<String>)> {
    let (inside, unit) = match file.strip_prefix("core/") {
        Some(inside) => (inside, 4),
        None => (file, 0),
    };
    let room = inside.trim_start_matches("src/").split(['/', '.']).next().unwrap_or_default();
    let first = FIRST.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, first)| first);
    let words = |words: &[&str]| words.iter().map(|word| word.to_string()).collect::<Vec<_>>();
    let rest: Vec<&str> = first.iter().flat_map(|module| ["--skip", *module]).collect();
    let own = (unit, vec![format!("{room}::")]);
    let looked = (!first.is_empty()).then(|| (1, words(first)));
    [own]
        .into_iter()
        .chain(looked)
        .chain([
            (unit, Vec::new()),
            (4 - unit, Vec::new()),
            (2, Vec::new()),
            (3, Vec::new()),
            (1, words(&rest)),
        ])
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mutant: Vec<Mutant>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Mutant {
    file: String,
    /// A piece of the file that is there once, the part to be replaced between `«` and `»`.
    at: String,
    /// What stands there instead.
    with: String,
    what: String,
    /// Why no test can see it.
    survives: Option<String>,
}

impl Mutant {
    /// The bytes of `text` that are replaced.
    fn span(&self, text: &str) -> Result<Range<usize>> {
        let parts: Vec<&str> = self.at.split(['«', '»']).collect();
        let [before, part, _] = parts[..] else {
            return Err(format!("{}: one « and one » in {:?}", self.file, self.at).into());
        };
        let whole = parts.concat();
        let mut found = text.match_indices(&whole);
        match (found.next(), found.next()) {
            (Some((at, _)), None) => Ok(at + before.len()..at + before.len() + part.len()),
            (None, _) => Err(format!("{}: has no {whole:?}", self.file).into()),
            (Some(_), Some(_)) => {
                Err(format!("{}: has {whole:?} more than once", self.file).into())
            }
        }
    }

    /// The choice between the part as it is and as it is changed.
    fn choice(&self, number: usize, part: &str) -> String {
        let root = if self.file.starts_with("src/bin") { "gnn_prune" } else { "crate" };
        let choice = format!("if {root}::mutant({number}) {{ {} }} else {{ {part} }}", self.with);
        let is_statement = part.trim_end().ends_with([';', '}']) || self.with.trim().is_empty();
        if is_statement { choice } else { format!("({choice})") }
    }
}

/// All lists beside this file, in the order of their names.
fn mutants(root: &Path) -> Result<Vec<Mutant>> {
    let mut lists: Vec<PathBuf> = fs::read_dir(root.join("tests/mutants"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    lists.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    lists.sort();
    let mut all = Vec::new();
    for path in lists {
        all.extend(
            toml::from_str::<List>(&fs::read_to_string(&path)?)
                .map_err(|e| format!("{}: {e}", path.display()))?
                .mutant,
        );
    }
    Ok(all)
}

fn write(to: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    Ok(fs::write(to, bytes)?)
}

/// Writes the copy with all choices; mutants are numbered from 1.
fn write_tree(root: &Path, tree: &Path, mutants: &[Mutant]) -> Result<()> {
    let mut changed: BTreeMap<PathBuf, String> = BTreeMap::new();
    let mut by_file: BTreeMap<&str, Vec<(usize, &Mutant)>> = BTreeMap::new();
    for (k, mutant) in mutants.iter().enumerate() {
        by_file.entry(&mutant.file).or_default().push((k + 1, mutant));
    }
    for (file, mutants) in by_file {
        let mut text = fs::read_to_string(root.join(file))?;
        let mut spans = mutants
            .iter()
            .map(|(k, mutant)| Ok((mutant.span(&text)?, *k, *mutant)))
            .collect::<Result<Vec<_>>>()?;
        spans.sort_by_key(|(span, ..)| std::cmp::Reverse(span.start));
        if let Some(pair) = spans.windows(2).find(|pair| pair[1].0.end > pair[0].0.start) {
            return Err(format!("{file}: {:?} and {:?} overlap", pair[1].2.at, pair[0].2.at).into());
        }
        for (span, k, mutant) in spans {
            let choice = mutant.choice(k, &text[span.clone()]);
            text.replace_range(span, &choice);
        }
        changed.insert(file.into(), text);
    }
    let text = |file: &str| fs::read_to_string(root.join(file));
    let lib = changed.entry("src/lib.rs".into()).or_insert(text("src/lib.rs")?);
    lib.push_str("\npub use gnn_prune_core::mutant;\n");
    let lib = changed.entry("core/src/lib.rs".into()).or_insert(text("core/src/lib.rs")?);
    lib.push_str(&format!(
        "\n/// Whether this change is live.\npub fn mutant(number: usize) -> bool {{\n    \
         static LIVE: std::sync::LazyLock<usize> = std::sync::LazyLock::new(|| std::env::var(\"{LIVE}\").map_or(0, |v| v.parse().unwrap()));\n    \
         *LIVE == number\n}}\n"
    ));
    for name in TREE {
        copy_changed(&root.join(name), &tree.join(name), Path::new(name), &changed)?;
    }
    Ok(())
}

/// Copies a file or a folder, with changes, leaving alone what is there already, so that a second
/// build is short.
fn copy_changed(
    from: &Path,
    to: &Path,
    path: &Path,
    changed: &BTreeMap<PathBuf, String>,
) -> Result<()> {
    if !from.is_dir() {
        return match changed.get(path) {
            Some(text) => write(to, text.as_bytes()),
            None => write(to, &fs::read(from)?),
        };
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let name = entry?.file_name();
        copy_changed(&from.join(&name), &to.join(&name), &path.join(&name), changed)?;
    }
    Ok(())
}

/// Builds the copy; its programs of tests in the order of [`PROGRAMS`].
fn build(tree: &Path, target: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["test", "--no-run", "--all-features", "--message-format=json-render-diagnostics"])
        .current_dir(tree);
    // The choices are not written as a person would.
    let output = command
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", "--cap-lints allow")
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the copy does not compile".into());
    }
    let mut found = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        let name = message["target"]["name"]
            .as_str()
            .and_then(|name| PROGRAMS.iter().position(|program| *program == name));
        if let (Some(place), Some(path), Some(true)) =
            (name, message["executable"].as_str(), message["profile"]["test"].as_bool())
        {
            found.insert(place, PathBuf::from(path));
        }
    }
    if found.len() != PROGRAMS.len() {
        return Err(format!("only {found:?} were built").into());
    }
    Ok(found.into_values().collect())
}

/// What came of one mutant.
enum Fate {
    /// The test that failed first.
    Seen(String),
    Survived,
}

/// Runs the tests until one fails.
fn fate(programs: &[PathBuf], tree: &Path, number: usize, file: &str, most: usize) -> Result<Fate> {
    for (program, args) in passes(file).into_iter().take(most) {
        let mut command = Command::new(&programs[program]);
        command.args(args).current_dir(tree).env(LIVE, number.to_string());
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        if let Some(test) = first_failure(child)? {
            return Ok(Fate::Seen(test));
        }
    }
    Ok(Fate::Survived)
}

fn first_failure(mut child: Child) -> Result<Option<String>> {
    let stdout = child.stdout.take().expect("it is piped");
    let child = Arc::new(Mutex::new(child));
    let (ended, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let watch = {
        let (child, ended, late) = (Arc::clone(&child), Arc::clone(&ended), Arc::clone(&late));
        let started = Instant::now();
        std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                if started.elapsed() > LONGEST {
                    late.store(true, Ordering::Relaxed);
                    let _ = child.lock().expect("nobody panics").kill();
                    return;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        })
    };
    let mut failed = None;
    for line in BufReader::new(stdout).lines() {
        if let Some(test) =
            line?.strip_prefix("test ").and_then(|line| line.split_once(" ... FAILED"))
        {
            failed = Some(test.0.to_string());
            let _ = child.lock().expect("nobody panics").kill();
            break;
        }
    }
    ended.store(true, Ordering::Relaxed);
    watch.join().expect("it does not panic");
    let status = child.lock().expect("nobody panics").wait()?;
    let late = late.load(Ordering::Relaxed).then(|| format!("not done in {} s", LONGEST.as_secs()));
    Ok(failed
        .or(late)
        .or_else(|| (!status.success()).then(|| format!("the program ended with {status}"))))
}

struct Wanted {
    only: Option<Vec<usize>>,
    survivors: bool,
    /// That all tests pass without a change is not seen to first.
    trusting: bool,
    /// Only what looks at the mutant's room is run.
    quick: bool,
    jobs: usize,
}

fn wanted() -> Result<Wanted> {
    let mut wanted =
        Wanted { only: None, survivors: false, trusting: false, quick: false, jobs: 2 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--survivors" => wanted.survivors = true,
            "--trusting" => wanted.trusting = true,
            "--quick" => wanted.quick = true,
            "--only" => {
                let list = args.next().ok_or("give numbers after --only")?;
                wanted.only =
                    Some(list.split(',').map(|number| Ok(number.parse()?)).collect::<Result<_>>()?);
            }
            "--jobs" => wanted.jobs = args.next().ok_or("give a number after --jobs")?.parse()?,
            other => {
                return Err(format!(
                    "`{other}`: give --only K,K, --survivors, --trusting, --quick or --jobs N"
                )
                .into());
            }
        }
    }
    Ok(wanted)
}

/// One line of the record that is kept from run to run: what is changed, a tab, the test that saw
/// it.
fn record(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(key, test)| (key.to_string(), test.to_string()))
        .collect()
}

fn run() -> Result<bool> {
    let wanted = wanted()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), PathBuf::from)
        .join("mutants");
    let (tree, kept) = (own.join("tree"), own.join("seen.txt"));
    let mutants = mutants(root)?;
    fs::create_dir_all(&tree)?;
    write_tree(root, &tree, &mutants)?;
    let programs = build(&tree, &own.join("target"))?;
    let key = |mutant: &Mutant| format!("{}: {}", mutant.file, mutant.what);
    let before = record(&kept);
    let is_wanted = |k: &usize, mutant: &Mutant| match &wanted.only {
        Some(only) => only.contains(k),
        None => !wanted.survivors || before.get(&key(mutant)).is_none_or(String::is_empty),
    };
    let queue: Vec<(usize, &Mutant)> =
        (1..).zip(&mutants).filter(|(k, mutant)| is_wanted(k, mutant)).collect();
    if !wanted.trusting
        && let Fate::Seen(test) = fate(&programs, &tree, 0, "", usize::MAX)?
    {
        return Err(format!("without any change {test} fails").into());
    }
    // Those of the room, in the library and in the suite, are the first two passes.
    let most = if wanted.quick { 2 } else { usize::MAX };
    let (next, seen) = (AtomicUsize::new(0), Mutex::new(before));
    let work = || -> std::result::Result<(), String> {
        while let Some(&(k, mutant)) = queue.get(next.fetch_add(1, Ordering::Relaxed)) {
            let started = Instant::now();
            let test =
                match fate(&programs, &tree, k, &mutant.file, most).map_err(|e| e.to_string())? {
                    Fate::Seen(test) => test,
                    Fate::Survived => String::new(),
                };
            let by = if test.is_empty() { "SURVIVED" } else { &test };
            println!("{k:3} {} ({} s): {by}", key(mutant), started.elapsed().as_secs());
            let mut seen = seen.lock().expect("nobody panics");
            seen.insert(key(mutant), test);
            let lines: String = seen.iter().map(|(key, test)| format!("{key}\t{test}\n")).collect();
            fs::write(&kept, lines).map_err(|e| e.to_string())?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..wanted.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it does not panic"))
    })?;
    let seen = seen.into_inner().expect("nobody panics");
    let survived = |mutant: &&Mutant| seen.get(&key(mutant)).is_some_and(String::is_empty);
    let survivors: Vec<&Mutant> = mutants.iter().filter(survived).collect();
    println!(
        "{} changes, {} were run, {} survived",
        mutants.len(),
        mutants.iter().filter(|m| seen.contains_key(&key(m))).count(),
        survivors.len()
    );
    for mutant in &survivors {
        println!(
            "  {}: {}",
            key(mutant),
            mutant.survives.as_deref().unwrap_or("no reason is known")
        );
    }
    Ok(survivors.iter().all(|mutant| mutant.survives.is_some()))
}

fn main() {
    match run() {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(2);
        }
    }
}
