//! Reports of made-up numbers, for the tests of what is made of them.

use super::account::{Account, Bytes};
use super::latency::{Latencies, Latency};
use super::row::{Report, Row, Summary};
use crate::data::Dataset;
use crate::program::Products;
use crate::task::Metric;

/// A row of so many percent for each seed, bytes, and milliseconds on one thread.
pub(super) fn row(name: &str, per_seed: &[f64], bytes: u64, ms: f64) -> Row {
    let latency = Latency { min: ms, median: ms, p99: ms };
    let account = Account {
        params: bytes as usize / 4,
        nonzero_params: bytes as usize / 4,
        bytes: Bytes { weights: bytes, peak_activations: 0 },
        macs: 1_000_000,
        edges: 10,
        forms: Vec::new(),
        products: Products::default(),
        latency_ms: Latencies { threads_1: latency, threads_all: latency },
    };
    Row {
        name: name.into(),
        metric: Metric::ACCURACY,
        accuracy: Summary::of(per_seed.to_vec()),
        metrics: Default::default(),
        effort: None,
        account,
    }
}

/// A report of a build with optimisation, whatever this one is.
pub(super) fn report(rows: Vec<Row>) -> Report {
    let data = Dataset::sbm(200, 2).build().unwrap();
    let seeds = (0..rows[0].accuracy.per_seed.len() as u64).collect();
    let mut report = Report::new(&data, seeds, rows);
    report.machine.optimised = true;
    report
}
