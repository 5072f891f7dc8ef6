//! What the machine can do at most: rows gathered, bytes streamed, multiply-adds.

use super::{median, short};
use gnn_prune::kernels::pages;
use gnn_prune::rng::mix;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

/// Bytes of the array that is streamed: beyond every cache.
const STREAM_BYTES: usize = 256 << 20;

/// Limits on the current rayon pool, measured at the first question and kept.
#[derive(Default)]
pub struct Limits {
    gather: BTreeMap<(usize, usize), f64>,
    stream: Option<f64>,
    fma: Option<f64>,
}

impl Limits {
    /// Milliseconds to fetch `count` random rows of `width` numbers out of `rows`.
    pub fn gather_ms(&mut self, rows: usize, width: usize, count: usize) -> f64 {
        let per_row = *self.gather.entry((rows, width)).or_insert_with(|| measure_gather(rows, width));
        per_row * count as f64
    }

    /// Milliseconds to read and write so many bytes one after the other.
    pub fn stream_ms(&mut self, bytes: usize) -> f64 {
        *self.stream.get_or_insert_with(measure_stream) * bytes as f64
    }

    /// Milliseconds of so many multiply-adds in `f32`.
    pub fn fma_ms(&mut self, multiply_adds: usize) -> f64 {
        *self.fma.get_or_insert_with(measure_fma) * multiply_adds as f64
    }

    /// Milliseconds of a dense product `[n, k]·[k, o]`: the larger of its arithmetic and of its bytes.
    pub fn dense_ms(&mut self, n: usize, k: usize, o: usize) -> f64 {
        self.fma_ms(n * k * o).max(self.stream_ms(4 * (n * k + k * o + n * o)))
    }
}

fn best_of(rounds: usize, mut run: impl FnMut()) -> f64 {
    run();
    let rounds = if short() { 1 } else { rounds };
    let mut times: Vec<f64> = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    median(&mut times)
}

/// Rows are summed into registers, so that nothing but the fetch costs; the better of fetching ahead and not.
fn measure_gather(rows: usize, width: usize) -> f64 {
    let count: usize = if short() { 10_000 } else { 1_000_000 };
    let mut x: Vec<f32> = pages::zeros(rows * width);
    x.par_iter_mut().enumerate().for_each(|(k, x)| *x = k as f32);
    let picks: Vec<u32> = (0..count).map(|k| (mix(k as u64) % rows as u64) as u32).collect();
    let gather: fn(&[f32], &[u32], usize, bool) = match width {
        16 => fixed::<16>,
        32 => fixed::<32>,
        40 => fixed::<40>,
        64 => fixed::<64>,
        128 => fixed::<128>,
        256 => fixed::<256>,
        _ => any,
    };
    let part = count.div_ceil(rayon::current_num_threads() * 8);
    let run = |ahead: bool| best_of(5, || picks.par_chunks(part).for_each(|picks| gather(&x, picks, width, ahead)));
    run(false).min(run(true)) / count as f64
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
    let mut sum = [0.0f32; W];
    for (k, &pick) in picks.iter().enumerate() {
        if ahead {
            fetch(&rows[picks[(k + 8).min(picks.len() - 1)] as usize]);
        }
        sum.iter_mut().zip(&rows[pick as usize]).for_each(|(sum, &x)| *sum += x);
    }
    black_box(sum);
}

#[inline(always)]
fn fetch(row: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(16) {
        // SAFETY: a prefetch never faults.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) };
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

/// Milliseconds a byte, half of them read and half written.
fn measure_stream() -> f64 {
    let len = if short() { 1 << 16 } else { STREAM_BYTES / 8 };
    let from: Vec<f32> = pages::zeros(len);
    let mut to: Vec<f32> = pages::zeros(len);
    let ms = best_of(5, || {
        to.par_chunks_mut(1 << 16).zip(from.par_chunks(1 << 16)).for_each(|(to, from)| to.copy_from_slice(from));
        black_box(&to);
    });
    ms / (8 * len) as f64
}

/// Milliseconds a multiply-add.
fn measure_fma() -> f64 {
    let steps = if short() { 1000 } else { 4_000_000 };
    let threads = rayon::current_num_threads();
    let lanes = chains(0);
    let ms = best_of(5, || {
        (0..threads).into_par_iter().with_max_len(1).for_each(|_| {
            black_box(chains(steps));
        })
    });
    ms / (threads * steps * lanes) as f64
}

/// Runs independent chains of multiply-adds; says how many a step.
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
