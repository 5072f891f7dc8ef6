//! What the machine can do at most: rows gathered, bytes streamed, multiply-adds.
//!
//! A limit is timed in turn with what it limits, so that both see the same machine.

use super::{Contender, contender, medians, short};
use gnn_prune::__kernels::buffer::Buffer;
use gnn_prune::rng::mix;
use rayon::prelude::*;
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the array that is streamed: beyond every cache.
const STREAM_BYTES: usize = 256 << 20;

/// Something that a kernel does at least as often as the limit says.
#[derive(Clone, Copy, PartialEq)]
enum Probe {
    /// Fetch random rows of `width` numbers out of `rows`.
    Gather { rows: usize, width: usize },
    /// Read and write bytes one after the other.
    Stream,
    /// Multiply and add in `f32`.
    MultiplyAdd,
}

/// The least time that some stages can take: the sum of theirs, each the largest of its parts. A
/// part is how often something is done.
#[derive(Clone, Default)]
pub struct Limit {
    stages: Vec<Vec<(Probe, usize)>>,
}

impl Limit {
    /// `count` random rows of `width` numbers out of `rows` are fetched.
    pub fn gather(rows: usize, width: usize, count: usize) -> Self {
        Limit { stages: vec![vec![(Probe::Gather { rows, width }, count)]] }
    }

    /// A dense product `[n, k]·[k, o]`: its arithmetic or its bytes.
    pub fn dense(n: usize, k: usize, o: usize) -> Self {
        Limit {
            stages: vec![vec![
                (Probe::MultiplyAdd, n * k * o),
                (Probe::Stream, 4 * (n * k + k * o + n * o)),
            ]],
        }
    }

    /// One after the other.
    pub fn sum(limits: impl IntoIterator<Item = Limit>) -> Self {
        Limit { stages: limits.into_iter().flat_map(|limit| limit.stages).collect() }
    }

    /// Median milliseconds of each contender, and the limit; see [`medians`].
    pub fn beside(&self, time: Duration, mut contenders: Vec<Contender>) -> (Vec<f64>, f64) {
        let count = contenders.len();
        // Each probe, how often a run of it does it, and its forms among the contenders.
        let mut probes: Vec<(Probe, usize, Range<usize>)> = Vec::new();
        for &(probe, _) in self.stages.iter().flatten() {
            if probes.iter().all(|(other, ..)| *other != probe) {
                let (done, mut forms) = probe.contenders();
                probes.push((probe, done, contenders.len()..contenders.len() + forms.len()));
                contenders.append(&mut forms);
            }
        }
        let mut times = medians(time, &mut contenders);
        let unit = |probe: Probe| {
            let (_, done, forms) =
                probes.iter().find(|(other, ..)| *other == probe).expect("every probe was timed");
            times[forms.clone()].iter().copied().fold(f64::INFINITY, f64::min) / *done as f64
        };
        let stage = |parts: &Vec<(Probe, usize)>| {
            parts.iter().map(|&(probe, count)| unit(probe) * count as f64).fold(0.0, f64::max)
        };
        let limit = self.stages.iter().map(stage).sum();
        times.truncate(count);
        (times, limit)
    }
}

impl Probe {
    /// How often each form does it, and the forms, of which the fastest counts.
    fn contenders(self) -> (usize, Vec<Contender<'static>>) {
        match self {
            Probe::Gather { rows, width } => {
                let count = if short() { 10_000 } else { 1_000_000 };
                (count, gather_contenders(rows, width, count))
            }
            Probe::Stream => {
                let len = if short() { 1 << 16 } else { STREAM_BYTES / 8 };
                let (mut from, mut to) = (Buffer::zeros(len), Buffer::zeros(len));
                // What was never written may be one page for all.
                from.fill(1.0f32);
                let run = move || {
                    to.par_chunks_mut(1 << 16)
                        .zip(from.par_chunks(1 << 16))
                        .for_each(|(to, from)| to.copy_from_slice(from));
                    black_box(&to);
                };
                // Half of them are read and half written.
                (8 * len, vec![contender("stream", run)])
            }
            Probe::MultiplyAdd => {
                let steps = if short() { 1000 } else { 1_000_000 };
                let threads = rayon::current_num_threads();
                let run = move || {
                    (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
                        black_box(chains(steps));
                    })
                };
                (threads * steps * chains(0), vec![contender("multiply-add", run)])
            }
        }
    }
}

/// Rows are summed into registers, so that nothing but the fetch costs; fetched ahead or not.
fn gather_contenders(rows: usize, width: usize, count: usize) -> Vec<Contender<'static>> {
    let mut x = Buffer::zeros(rows * width);
    x.par_iter_mut().enumerate().for_each(|(k, x)| *x = k as f32);
    let picks: Vec<u32> = (0..count).map(|k| (mix(k as u64) % rows as u64) as u32).collect();
    let gather: fn(&[f32], &[u32], usize, bool) = match width {
        1 => fixed::<1>,
        8 => fixed::<8>,
        16 => fixed::<16>,
        32 => fixed::<32>,
        40 => fixed::<40>,
        64 => fixed::<64>,
        128 => fixed::<128>,
        256 => fixed::<256>,
        _ => any,
    };
    let part = count.div_ceil(rayon::current_num_threads() * 8);
    let both = Arc::new((x, picks));
    let form = |ahead: bool| {
        let both = both.clone();
        contender("gather", move || {
            both.1.par_chunks(part).for_each(|picks| gather(&both.0, picks, width, ahead))
        })
    };
    vec![form(false), form(true)]
}

fn fixed<const W: usize>(x: &[f32], picks: &[u32], _: usize, ahead: bool) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has it.
            return unsafe { avx512::<W>(x, picks, ahead) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has it.
            return unsafe { avx2::<W>(x, picks, ahead) };
        }
    }
    gather::<W>(x, picks, ahead);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512<const W: usize>(x: &[f32], picks: &[u32], ahead: bool) {
    gather::<W>(x, picks, ahead);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<const W: usize>(x: &[f32], picks: &[u32], ahead: bool) {
    gather::<W>(x, picks, ahead);
}

#[inline(always)]
fn gather<const W: usize>(x: &[f32], picks: &[u32], ahead: bool) {
    let (rows, _) = x.as_chunks::<W>();
    // Narrow rows would wait for each other's additions.
    let mut sums = [[0.0f32; W]; 4];
    let distance = (512 / W).clamp(8, 32);
    for (k, &pick) in picks.iter().enumerate() {
        if ahead {
            fetch(&rows[picks[(k + distance).min(picks.len() - 1)] as usize]);
        }
        let sum = if W < 16 { &mut sums[k % 4] } else { &mut sums[0] };
        sum.iter_mut().zip(&rows[pick as usize]).for_each(|(sum, &x)| *sum += x);
    }
    black_box(sums);
}

#[inline(always)]
fn fetch(row: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(16) {
        // SAFETY: a prefetch never faults.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                line.as_ptr().cast(),
            )
        };
    }
    #[cfg(not(target_arch = "x86_64"))]
    black_box(row.len());
}

fn any(x: &[f32], picks: &[u32], width: usize, _: bool) {
    let mut sum = vec![0.0f32; width];
    for &pick in picks {
        sum.iter_mut().zip(&x[pick as usize * width..][..width]).for_each(|(sum, &x)| *sum += x);
    }
    black_box(sum);
}

/// Runs independent chains of multiply-adds; says how many per step.
fn chains(steps: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        #[target_feature(enable = "avx512f")]
        fn wide(steps: usize) {
            let (by, plus) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
            let mut sums = [_mm512_set1_ps(1.0); 24];
            for _ in 0..steps {
                for sum in &mut sums {
                    *sum = _mm512_fmadd_ps(*sum, by, plus);
                }
            }
            black_box(sums);
        }
        #[target_feature(enable = "avx2,fma")]
        fn narrow(steps: usize) {
            let (by, plus) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
            let mut sums = [_mm256_set1_ps(1.0); 12];
            for _ in 0..steps {
                for sum in &mut sums {
                    *sum = _mm256_fmadd_ps(*sum, by, plus);
                }
            }
            black_box(sums);
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has it.
            unsafe { wide(steps) };
            return 24 * 16;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the processor has it.
            unsafe { narrow(steps) };
            return 12 * 8;
        }
    }
    let (by, plus) = (black_box(0.999f32), black_box(0.001f32));
    let mut sums = [1.0f32; 32];
    for _ in 0..steps {
        sums.iter_mut().for_each(|sum| *sum = *sum * by + plus);
    }
    black_box(sums);
    32
}
