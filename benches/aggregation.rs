//! Sparse × dense product on generated graphs: ours against the naive form and sprs.
//!
//! `cargo bench --bench aggregation`. Ids name graph, nodes, mean degree, width, contender and threads. All contenders but sprs write
//! into a kept array; sprs returns a new one.

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use gnn_prune::kernels::{Isa, reference, spmm, spmm_with};
use gnn_prune::rng::{generator, mix};
use ndarray::Array2;
use rand_chacha::rand_core::RngCore;
use sprs::{CsMatI, TriMatI};
use std::hint::black_box;
use std::time::Duration;

const NODES: usize = 100_000;
const DEGREE: usize = 16;
const WIDTHS: [usize; 3] = [16, 64, 256];

/// Largest `|ours - naive|` that counts as agreement: rows of up to some thousand terms of magnitude below one, in `f32`.
const TOLERANCE: f32 = 2e-3;

/// How often a node is drawn, by its rank `r` in (0, 1]: alike, or as `r^-0.6`, whose degrees follow a power law of exponent 2.7.
#[derive(Clone, Copy)]
enum Degrees {
    Uniform,
    PowerLaw,
}

impl Degrees {
    fn name(self) -> &'static str {
        match self {
            Degrees::Uniform => "uniform",
            Degrees::PowerLaw => "power_law",
        }
    }

    fn node(self, word: u64) -> usize {
        let uniform = (word >> 11) as f64 / (1u64 << 53) as f64;
        let rank = match self {
            Degrees::Uniform => uniform,
            Degrees::PowerLaw => uniform.powf(2.5),
        };
        // Neighbouring ranks stand far apart, so that the order of nodes carries no locality.
        (rank * NODES as f64) as usize * 15_485_863 % NODES
    }
}

fn graph(degrees: Degrees) -> CsMatI<f32, u32, usize> {
    let mut rng = generator(1, &[]);
    let mut edges: Vec<(usize, usize)> =
        (0..NODES * DEGREE).map(|_| (degrees.node(rng.next_u64()), degrees.node(rng.next_u64()))).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut matrix = TriMatI::<f32, u32>::with_capacity((NODES, NODES), edges.len());
    for (k, (target, source)) in edges.into_iter().enumerate() {
        matrix.add_triplet(target, source, number(k));
    }
    let csr: CsMatI<f32, u32, usize> = matrix.to_csr();
    csr
}

/// The `k`-th number of a fixed sequence in [-1, 1).
fn number(k: usize) -> f32 {
    (mix(k as u64) >> 40) as f32 / (1u32 << 23) as f32 - 1.0
}

fn agree(found: &Array2<f32>, expected: &Array2<f32>) {
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= TOLERANCE, "contenders differ by {worst}");
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool")
}

fn aggregation(c: &mut Criterion) {
    let all = rayon::current_num_threads();
    let (one, many) = (pool(1), pool(all));
    for degrees in [Degrees::Uniform, Degrees::PowerLaw] {
        let a = graph(degrees);
        for width in WIDTHS {
            let mut group = c.benchmark_group(format!("spmm/{}/n={NODES}/deg={DEGREE}/c={width}", degrees.name()));
            group.sampling_mode(SamplingMode::Flat).sample_size(10);
            group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_millis(1500));
            group.throughput(Throughput::Elements((a.nnz() * width) as u64));

            let x = Array2::from_shape_fn((NODES, width), |(i, k)| number(i * width + k));
            let mut y = Array2::<f32>::zeros((NODES, width));
            let mut expected = y.clone();
            reference::spmm(a.view(), x.view(), expected.view_mut());
            agree(&(&a * &x), &expected);

            group.bench_function(BenchmarkId::new("naive", "threads=1"), |b| {
                b.iter(|| reference::spmm(a.view(), black_box(x.view()), y.view_mut()));
            });
            group.bench_function(BenchmarkId::new("sprs", "threads=1"), |b| b.iter(|| &a * black_box(&x)));
            for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                one.install(|| spmm_with(isa, a.view(), x.view(), y.view_mut()));
                agree(&y, &expected);
                group.bench_function(BenchmarkId::new(format!("ours_{isa:?}").to_lowercase(), "threads=1"), |b| {
                    one.install(|| b.iter(|| spmm_with(isa, a.view(), black_box(x.view()), y.view_mut())));
                });
            }
            many.install(|| spmm(a.view(), x.view(), y.view_mut()));
            agree(&y, &expected);
            group.bench_function(BenchmarkId::new("ours", format!("threads={all}")), |b| {
                many.install(|| b.iter(|| spmm(a.view(), black_box(x.view()), y.view_mut())));
            });
            group.finish();
        }
    }
}

criterion_group!(benches, aggregation);
criterion_main!(benches);
