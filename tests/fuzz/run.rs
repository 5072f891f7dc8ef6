//! Runs cases on threads, watches their time, and says what became of them.

use super::alloc;
use super::case::{Kind, Starts};
use super::laws::{Broken, Found, Lawful};
use super::options::Options;
use super::read;
use super::tally::Tallies;
use std::cell::{Cell, RefCell};
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// No case takes longer.
const SLOW: Duration = Duration::from_secs(5);
/// Cases of one fault that are shown.
const SHOWN: u64 = 3;

thread_local! {
    /// Whether this thread runs cases, whose panics are kept and not printed.
    static RUNS: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<Broken>> = const { RefCell::new(None) };
}

/// The case that a thread is at; the time is in milliseconds after the start, and 0 between cases.
#[derive(Default)]
struct Now {
    since: AtomicU64,
    number: AtomicU64,
}

struct Run<'a> {
    options: &'a Options,
    starts: &'a Starts,
    scratch: &'a Path,
    begun: Instant,
    /// Seconds that earlier processes of this run have taken.
    past: Duration,
    next: AtomicU64,
    now: Vec<Now>,
    tallies: Mutex<Tallies>,
}

/// How the process ends when a case is too slow: nothing else ends that case.
pub const TOO_SLOW: u8 = 3;

/// Where a run goes on after a case that ended its process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// The first case.
    pub first: u64,
    /// What was spent before.
    pub past: Duration,
}

/// The file that says at which case a thread is, for whoever finds the process dead.
fn note(scratch: &Path, thread: usize) -> PathBuf {
    scratch.join(format!("now-{thread}"))
}

/// At which case of the run a thread was, and the case's number.
pub fn noted(scratch: &Path, thread: usize) -> Option<(u64, u64)> {
    let bytes = fs::read(note(scratch, thread)).ok()?;
    let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    Some((word(0)?, word(8)?))
}

/// Keeps a case for later, says so in one line, and gives where.
pub fn keep(starts: &Starts, number: u64, fault: &Broken) {
    let kind = Kind::of(number).word();
    let folder = std::env::temp_dir().join("gnn-prune-fuzz").join(format!("{kind}-{number:#018x}"));
    let place = starts
        .case(number)
        .write(&folder)
        .map_or_else(|error| error.to_string(), |path| path.display().to_string());
    let detail: String = fault.detail.chars().take(300).flat_map(char::escape_debug).collect();
    println!("FAILED {kind} --case {number:#018x}: {}: {detail}; kept as {place}", fault.law);
}

/// Runs the cases, and tells what became of them.
pub fn run(
    options: &Options,
    starts: &Starts,
    scratch: &Path,
    Progress { first, past }: Progress,
) -> Tallies {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !RUNS.get() {
            return usual(info);
        }
        let payload = info.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        let message = text.unwrap_or("no message").to_string();
        let place = info
            .location()
            .map_or_else(String::new, |place| format!("{}:{}", place.file(), place.line()));
        PANIC.set(Some(Broken { law: format!("panic at {place}"), detail: message }));
    }));
    let run = Run {
        options,
        starts,
        scratch,
        begun: Instant::now(),
        past,
        next: AtomicU64::new(first),
        now: (0..options.threads).map(|_| Now::default()).collect(),
        tallies: Mutex::new(Tallies::load(scratch)),
    };
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> =
            (0..options.threads).map(|thread| scope.spawn(move || run.work(thread))).collect();
        while !threads.iter().all(|thread| thread.is_finished()) {
            run.watch();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    run.tallies.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Run<'_> {
    fn work(&self, thread: usize) {
        RUNS.set(true);
        // This thread alone, so that what is allocated for a case is counted with it.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        pool.as_ref().expect("a thread can be the only one of its pool");
        let folder = self.scratch.join(format!("case-{thread}"));
        loop {
            let k = self.next.fetch_add(1, Ordering::Relaxed);
            if k >= self.options.most() || self.options.is_over(self.past + self.begun.elapsed()) {
                return;
            }
            let number = self.options.number(k);
            let begun = Instant::now();
            let found = self.case(thread, k, number, &folder);
            let count = locked(&self.tallies).add(Kind::of(number), &found, begun.elapsed());
            // Of every fault the first cases are shown, and the others counted.
            if let (Err(fault), ..=SHOWN) = (found, count) {
                keep(self.starts, number, &fault);
            }
        }
    }

    fn case(&self, thread: usize, k: u64, number: u64, folder: &Path) -> Lawful<Found> {
        fs::write(note(self.scratch, thread), [k.to_le_bytes(), number.to_le_bytes()].concat())
            .expect("the scratch folder can be written");
        let case = self.starts.case(number);
        case.write(folder).expect("the scratch folder can be written");
        alloc::reset();
        let now = &self.now[thread];
        now.number.store(number, Ordering::Relaxed);
        now.since.store(self.begun.elapsed().as_millis() as u64 + 1, Ordering::Release);
        let found = panic::catch_unwind(AssertUnwindSafe(|| {
            read::read(Kind::of(number), &case, folder, number)
        }));
        now.since.store(0, Ordering::Release);
        found.unwrap_or_else(|_| {
            Err(PANIC.take().unwrap_or(Broken { law: "panic".into(), detail: String::new() }))
        })
    }

    /// A case that hangs cannot be ended, so the process is.
    fn watch(&self) {
        locked(&self.tallies).save(self.scratch);
        for now in &self.now {
            let since = now.since.load(Ordering::Acquire);
            let number = now.number.load(Ordering::Relaxed);
            let late = since > 0 && self.begun.elapsed() > Duration::from_millis(since) + SLOW;
            if late && now.since.load(Ordering::Acquire) == since {
                let fault = Broken {
                    law: "too slow".into(),
                    detail: format!("still at it after {SLOW:?}"),
                };
                keep(self.starts, number, &fault);
                let mut tallies = locked(&self.tallies);
                tallies.add(Kind::of(number), &Err(fault), SLOW);
                tallies.save(self.scratch);
                std::process::exit(TOO_SLOW.into());
            }
        }
    }
}

/// Counts are whole whatever panicked beside them.
fn locked<T>(counts: &Mutex<T>) -> MutexGuard<'_, T> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}
