//! What it takes to make a model: products, time and memory of the process while it is made.

use crate::kernels;
use serde::{Deserialize, Serialize};
use std::fs;
use std::time::Instant;

pub use crate::kernels::CountingAllocator;

/// What a stage took, training with its validation, criteria and least squares alike.
///
/// Counted for the whole process: where something else computes at the same time, its share is in
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Effort {
    /// Multiply-adds of all products of floats: forward, backward, validation, least squares, from
    /// the shapes and stored entries of each. What is done element by element (activations, norms,
    /// steps of the optimiser) is not in it.
    pub macs: u64,
    /// Seconds by the clock.
    pub seconds: f64,
    /// Seconds of processors, of all threads: the nearest there is to energy without a meter. In
    /// hundredths; `None` where the system does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Most bytes that were allocated at once, above those that were there before; `None` in a
    /// program that does not use [`CountingAllocator`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
}

impl Effort {
    /// The mean over seeds; what not all of them know is not in it.
    pub fn mean(all: &[Effort]) -> Option<Effort> {
        let n = all.len() as f64;
        let mean = |of: &dyn Fn(&Effort) -> Option<f64>| {
            all.iter().map(of).sum::<Option<f64>>().map(|sum| sum / n)
        };
        (!all.is_empty()).then(|| Effort {
            macs: mean(&|effort| Some(effort.macs as f64)).unwrap_or(0.0) as u64,
            seconds: mean(&|effort| Some(effort.seconds)).unwrap_or(0.0),
            cpu_seconds: mean(&|effort| effort.cpu_seconds),
            peak_bytes: mean(&|effort| effort.peak_bytes.map(|bytes| bytes as f64))
                .map(|bytes| bytes as u64),
        })
    }
}

/// Measures from when it is made. The most bytes are known in a program with the counting
/// allocator.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: gnn_prune::report::CountingAllocator = gnn_prune::report::CountingAllocator;
///
/// use gnn_prune::report::Meter;
/// use gnn_prune::{Dataset, Gcn, Trainer};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(8).build(0)?;
/// let meter = Meter::start();
/// Trainer::builder().epochs(5).build()?.fit(model, &data)?;
/// let effort = meter.stop();
/// assert!(effort.macs > 0 && effort.peak_bytes.is_some_and(|bytes| bytes > 1000));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug)]
pub struct Meter {
    began: Instant,
    macs: u64,
    cpu_seconds: Option<f64>,
    allocated: Option<usize>,
}

impl Meter {
    /// Begins. Of two that overlap the later one alone knows the most bytes.
    pub fn start() -> Self {
        kernels::forget_most();
        Self {
            began: Instant::now(),
            macs: kernels::multiply_adds(),
            cpu_seconds: cpu_seconds(),
            allocated: kernels::allocated(),
        }
    }

    /// What it took since.
    pub fn stop(self) -> Effort {
        let most = kernels::most_allocated().zip(self.allocated);
        Effort {
            macs: kernels::multiply_adds() - self.macs,
            seconds: self.began.elapsed().as_secs_f64(),
            cpu_seconds: cpu_seconds().zip(self.cpu_seconds).map(|(now, then)| now - then),
            peak_bytes: most.map(|(most, before)| most.saturating_sub(before) as u64),
        }
    }
}

/// Ticks of a second in what Linux tells programs, the same on every machine (`USER_HZ`).
const TICKS: f64 = 100.0;

/// Seconds of processors that this process has had, in user and system mode.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program stands in brackets, and may have any in it. After it comes field 3;
    // 14 and 15 are the times.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_leaves_out_what_one_seed_does_not_know() {
        let one = Effort { macs: 10, seconds: 1.0, cpu_seconds: Some(2.0), peak_bytes: Some(5) };
        let other = Effort { macs: 30, seconds: 2.0, cpu_seconds: Some(4.0), peak_bytes: None };
        let mean = Effort { macs: 20, seconds: 1.5, cpu_seconds: Some(3.0), peak_bytes: None };
        assert_eq!(Effort::mean(&[one, other]), Some(mean));
        assert_eq!(Effort::mean(&[]), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn work_takes_processor_time() {
        let before = cpu_seconds().unwrap();
        let began = Instant::now();
        while began.elapsed().as_millis() < 60 {
            std::hint::spin_loop();
        }
        assert!(cpu_seconds().unwrap() > before);
    }
}
