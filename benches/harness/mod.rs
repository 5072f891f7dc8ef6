//! Interleaved timing, the limits of the machine, and the graphs that every bench runs on.
//!
//! Contenders are run in turn, A B C A B C …, and judged by medians, so that a machine whose speed
//! drifts treats all alike. Limits are contenders like the others: random rows fetched from an
//! array, numbers streamed, multiply-adds in registers.
#![allow(dead_code, reason = "every bench uses its part")]

pub mod limits;

use gnn_prune::data::PowerLaw;
use gnn_prune::value::Csr;
use gnn_prune::{Dataset, Graph};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Something to be timed, under a name.
pub struct Contender<'a> {
    pub name: String,
    pub run: Box<dyn FnMut() + 'a>,
}

/// A contender by that name.
pub fn contender<'a>(name: impl Into<String>, run: impl FnMut() + 'a) -> Contender<'a> {
    Contender { name: name.into(), run: Box::new(run) }
}

/// The larger of two; NaN if either is, where `f32::max` passes over it and a kernel that computes
/// NaN would agree with anything.
pub fn largest(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() { f32::NAN } else { a.max(b) }
}

/// Whether each contender is to run once only, as in CI: `cargo bench -- --test`.
pub fn short() -> bool {
    std::env::args().any(|arg| arg == "--test")
}

/// Whether a part of the bench was asked for: all are, where no name stands on the line. A name
/// that begins with `=` is the whole name.
pub fn wanted(part: &str) -> bool {
    let names: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let fits = |name: &String| {
        name.strip_prefix('=').map_or_else(|| part.contains(name.as_str()), |whole| part == whole)
    };
    names.is_empty() || names.iter().any(fits)
}

/// What takes less is run for so long in its turn, and timed the last time: what it reads may lie
/// in the cache, as it would in use.
const TURN_MS: f64 = 30.0;

fn milliseconds(contender: &mut Contender) -> f64 {
    let start = Instant::now();
    (contender.run)();
    start.elapsed().as_secs_f64() * 1e3
}

/// Median milliseconds of each contender, in the order given: one round to warm up, then rounds
/// until `time` is over, 5 at least.
pub fn medians(time: Duration, contenders: &mut [Contender]) -> Vec<f64> {
    let mut times = vec![Vec::new(); contenders.len()];
    contenders.iter_mut().for_each(|c| (c.run)());
    let (begin, rounds) = (Instant::now(), if short() { 1 } else { 5 });
    while times[0].len() < rounds || (!short() && begin.elapsed() < time && times[0].len() < 200) {
        for (contender, times) in contenders.iter_mut().zip(&mut times) {
            let turn = Instant::now();
            let mut last = milliseconds(contender);
            while !short() && turn.elapsed().as_secs_f64() * 1e3 < TURN_MS {
                last = milliseconds(contender);
            }
            times.push(last);
        }
    }
    times.iter_mut().map(|times| median(times)).collect()
}

pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A pool of so many threads.
pub fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool")
}

/// One thread, and all where there are more.
pub fn thread_counts() -> Vec<usize> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    if all > 1 { vec![1, all] } else { vec![1] }
}

/// Prints what the figures were measured on.
pub fn print_machine() {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or(" unknown")
        .trim_start_matches([' ', '\t', ':']);
    println!(
        "{cpu}, {} threads, medians in ms",
        thread_counts().last().expect("there is one thread")
    );
}

/// 169,343 nodes, 2.3 million directed edges of a power law, 128 features, 40 classes, communities
/// of 300 nodes, nodes in random order.
pub fn arxiv_like() -> Dataset {
    let (nodes, edges, classes) = if short() { (600, 8000, 8) } else { (169_343, 2_300_000, 40) };
    PowerLaw::builder(nodes, edges)
        .features(128)
        .classes(classes)
        .homophily(0.64)
        .community(300)
        .seed(0)
        .build()
        .expect("settings are legal")
}

/// 2,708 nodes, 10,556 edges, 1,433 sparse features of which 18 per node are ones, 7 classes.
pub fn cora_like() -> Dataset {
    let data = PowerLaw::builder(2708, 10_556)
        .features(1)
        .classes(7)
        .seed(0)
        .build()
        .expect("settings are legal");
    let mut starts = vec![0];
    let mut columns = Vec::new();
    for node in 0..2708u32 {
        // 18 different columns, 79 apart from each other.
        let mut row: Vec<u32> = (0..18).map(|k| (node * 131 + k * 79) % 1433).collect();
        row.sort_unstable();
        columns.extend(row);
        starts.push(columns.len());
    }
    let ones = vec![1.0f32 / 18.0; columns.len()];
    let features = Csr::new((2708, 1433), starts, columns, ones);
    let graph: Graph = data.graph().clone();
    Dataset::new(
        "cora-like",
        graph,
        gnn_prune::Value::Sparse(features),
        data.classes().unwrap().to_vec(),
        Some(7),
        data.splits().clone(),
    )
    .expect("features and graph have the same nodes")
}

/// Peak resident memory of this process in MB, where the system tells.
pub fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok().map(|kb| kb / 1e3)
}

/// Keeps the optimiser from dropping a result.
pub fn keep<T>(value: T) {
    black_box(value);
}
