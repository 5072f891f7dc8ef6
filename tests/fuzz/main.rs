//! Feeds damaged files and words to everything that the crate reads, and holds what comes of it to
//! a few laws.
//!
//! No case may panic, take longer than five seconds, take more memory while reading than its bytes
//! grant, or be refused in other than one line; what was read is used a little. See `README.md`
//! beside this file.

mod alloc;
mod arrays;
mod bytes;
mod case;
mod draw;
mod graphs;
mod laws;
mod models;
mod options;
mod pickles;
mod read;
mod run;
mod tally;
mod tensors;
mod text;
mod tree;
mod uses;

use case::{Kind, Starts};
use laws::{Broken, Found};
use options::Options;
use run::Progress;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use tally::Tallies;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// Set for the process that runs the cases: the folder that it may write to.
const SCRATCH: &str = "GNN_PRUNE_FUZZ_SCRATCH";
/// Set as well: at which case to begin, and how many seconds of the run are over.
const FIRST: &str = "GNN_PRUNE_FUZZ_FIRST";
const PAST: &str = "GNN_PRUNE_FUZZ_PAST";
/// After so many a run ends.
const MOST_DEATHS: usize = 50;
/// Bytes that the process may take.
const MEMORY: u64 = 4 << 30;

/// A folder in memory where there is one: models are synced to disk when they are saved.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
    root.join(format!("gnn-prune-fuzz-{}", std::process::id()))
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    match std::env::var_os(SCRATCH) {
        Some(scratch) => work(&options, Path::new(&scratch)),
        None => watch(&options),
    }
}

/// Runs the cases in a process of its own. Where that dies, the case of it is found and named, and
/// another goes on with the next one.
fn watch(options: &Options) -> ExitCode {
    let (scratch, begun) = (scratch(), Instant::now());
    std::fs::create_dir_all(&scratch).expect("the folder for temporary files can be written");
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut first = 0;
    for _ in 0..MOST_DEATHS {
        match code(child(&words, &scratch, first, begun.elapsed())) {
            Some(0) => break,
            // The case was named when it was found too slow.
            Some(code) if code == i32::from(run::TOO_SLOW) => {}
            Some(_) => {
                let _ = std::fs::remove_dir_all(&scratch);
                return ExitCode::FAILURE;
            }
            None => dead(options, &words, &scratch),
        }
        first = (0..options.threads)
            .filter_map(|thread| Some(run::noted(&scratch, thread)?.0 + 1))
            .max()
            .unwrap_or(first + 1);
    }
    let tallies = Tallies::load(&scratch);
    let _ = std::fs::remove_dir_all(&scratch);
    if options.starts.is_none() {
        tallies.print();
    }
    if tallies.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A process that runs cases.
fn child(words: &[String], scratch: &Path, first: u64, past: Duration) -> Command {
    let program = std::env::current_exe().expect("a running program has a path");
    let mut command = Command::new(program);
    command
        .args(words)
        .env(SCRATCH, scratch)
        .env(FIRST, first.to_string())
        .env(PAST, past.as_secs().to_string());
    command
}

/// How it ended; `None` if it was killed.
fn code(mut child: Command) -> Option<i32> {
    child.status().expect("a running program can be run").code()
}

/// Names the cases of a process that died, of those that were under way, which alone kill another.
fn dead(options: &Options, words: &[String], scratch: &Path) {
    let starts = Starts::new(scratch).expect("the crate writes its own files");
    for (_, number) in (0..options.threads).filter_map(|thread| run::noted(scratch, thread)) {
        let alone = scratch.join("alone");
        let _ = std::fs::create_dir_all(&alone);
        let mut child = child(
            &[words, &["--case".into(), number.to_string()]].concat(),
            &alone,
            0,
            Duration::ZERO,
        );
        child.stdout(Stdio::null()).stderr(Stdio::null());
        if code(child).is_none() {
            let fault =
                Broken { law: "the process died".into(), detail: "see what it said last".into() };
            run::keep(&starts, number, &fault);
            let mut tallies = Tallies::load(scratch);
            tallies.add(Kind::of(number), &Err(fault), Duration::ZERO);
            tallies.save(scratch);
        }
    }
}

fn work(options: &Options, scratch: &Path) -> ExitCode {
    alloc::limit_process(MEMORY);
    let mut starts = match Starts::new(scratch) {
        Ok(starts) => starts,
        Err(error) => {
            eprintln!("files to start from cannot be made: {error}");
            return ExitCode::from(2);
        }
    };
    let told =
        |name: &str| std::env::var(name).ok().and_then(|word| word.parse().ok()).unwrap_or(0);
    let progress = Progress { first: told(FIRST), past: Duration::from_secs(told(PAST)) };
    if let Some((kind, folder)) = &options.kept {
        starts.keep_to(*kind, folder);
    }
    if let Some(folder) = &options.starts {
        return written(&starts, folder);
    }
    if options.case.is_none() && progress.first == 0 && !all_are_read(&starts, scratch) {
        return ExitCode::FAILURE;
    }
    let tallies = run::run(options, &starts, scratch, progress);
    tallies.save(scratch);
    ExitCode::SUCCESS
}

/// Writes what cases start from, a folder a kind: the corpus of another fuzzer.
fn written(starts: &Starts, folder: &Path) -> ExitCode {
    for kind in Kind::ALL {
        for (k, case) in starts.of(kind).iter().enumerate() {
            for (name, bytes) in &case.files {
                let path = folder.join(kind.word()).join(format!("{k}-{}", name.replace('/', "-")));
                let folder = path.parent().unwrap_or(folder);
                if let Err(error) =
                    std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, bytes))
                {
                    eprintln!("{}: {error}", path.display());
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    ExitCode::SUCCESS
}

/// What cases start from is read: else they would test nothing but refusals.
fn all_are_read(starts: &Starts, scratch: &Path) -> bool {
    let folder = scratch.join("start");
    let mut wrong = 0;
    for kind in Kind::ALL {
        for (k, case) in starts.of(kind).iter().enumerate() {
            let found =
                case.write(&folder).map(|_| read::read(kind, case, &folder, kind.number(0)));
            if !matches!(found, Ok(Ok(Found::Read))) {
                println!("start {k} of {}, {}: {found:?}", kind.word(), case.name());
                wrong += 1;
            }
        }
    }
    wrong == 0
}
