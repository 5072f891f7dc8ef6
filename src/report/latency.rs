//! Measured inference time of a compiled program.

use crate::error::Result;
use crate::program::Runnable;
use crate::value::ValueRef;
use serde::Serialize;
use std::time::{Duration, Instant};

/// Milliseconds of one run over many runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// The fastest.
    pub min: f64,
    /// Half of the runs took less.
    pub median: f64,
    /// 99 % of the runs took less.
    pub p99: f64,
}

/// The same program on one thread and on all.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latencies {
    /// One thread.
    pub threads_1: Latency,
    /// As many threads as asked for, by default one per core.
    pub threads_all: Latency,
}

/// Fewest runs that are counted.
const LEAST_RUNS: usize = 30;
/// Most runs that are counted.
const MOST_RUNS: usize = 1000;
/// Between the two, measuring goes on for this long.
const ENOUGH: Duration = Duration::from_millis(300);
/// Runs before the clock starts: buffers are allocated and caches warm.
const WARM_UP: usize = 3;

impl Latencies {
    /// Measures `program` on the fixed input `x` in pools of one thread and of `threads`; what
    /// depends on `x` alone is done before.
    ///
    /// # Errors
    /// [`Error::Threads`](crate::Error::Threads) where a pool cannot be made,
    /// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) for another input.
    pub fn measure(program: &mut dyn Runnable, x: &ValueRef<f32>, threads: usize) -> Result<Self> {
        let mut program = program.prepare(x.reborrow())?;
        let mut on = |threads: usize| -> Result<Latency> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
            pool.install(|| Latency::measure(|| program.run().map(|_| ())))
        };
        Ok(Self { threads_1: on(1)?, threads_all: on(threads)? })
    }
}

impl Latency {
    /// Times `run` at least 30 times, after a warm-up, on the ambient pool.
    ///
    /// # Errors
    /// What `run` returns.
    pub fn measure(mut run: impl FnMut() -> Result<()>) -> Result<Self> {
        for _ in 0..WARM_UP {
            run()?;
        }
        let begin = Instant::now();
        let mut times = Vec::new();
        while times.len() < LEAST_RUNS || (times.len() < MOST_RUNS && begin.elapsed() < ENOUGH) {
            let start = Instant::now();
            run()?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(Self::of(times))
    }

    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| {
            times[((times.len() as f64 * share).ceil() as usize).clamp(1, times.len()) - 1]
        };
        Self { min: times[0], median: at(0.5), p99: at(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times() {
        let times = (1..=200).rev().map(f64::from).collect();
        assert_eq!(Latency::of(times), Latency { min: 1.0, median: 100.0, p99: 198.0 });
        assert_eq!(Latency::of(vec![2.0]), Latency { min: 2.0, median: 2.0, p99: 2.0 });
    }

    /// Says on how many threads it ran.
    #[derive(Default)]
    struct Counts(std::collections::BTreeSet<usize>, ndarray::Array2<f32>);

    impl Runnable for Counts {
        fn run(&mut self, _: ValueRef<f32>) -> Result<ndarray::ArrayView2<'_, f32>> {
            Ok(self.1.view())
        }

        fn cost(&self) -> crate::program::Cost {
            unreachable!("nobody asks")
        }

        fn prepare<'a>(
            &'a mut self,
            _: ValueRef<'a, f32>,
        ) -> Result<Box<dyn crate::program::Ready + 'a>> {
            Ok(Box::new(self))
        }
    }

    impl crate::program::Ready for &mut Counts {
        fn run(&mut self) -> Result<ndarray::ArrayView2<'_, f32>> {
            self.0.insert(rayon::current_num_threads());
            Ok(self.1.view())
        }
    }

    #[test]
    fn one_thread_is_one_and_all_threads_are_all() {
        let x = ndarray::Array2::<f32>::zeros((1, 1));
        let mut counts = Counts::default();
        Latencies::measure(&mut counts, &ValueRef::Dense(x.view()), 3).unwrap();
        assert_eq!(counts.0.into_iter().collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn at_least_thirty_runs_are_measured() {
        let mut runs = 0;
        Latency::measure(|| {
            runs += 1;
            Ok(())
        })
        .unwrap();
        assert!(runs >= LEAST_RUNS + WARM_UP);
    }
}
