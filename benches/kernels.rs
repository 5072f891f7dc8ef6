//! Kernels beside their limits and beside other crates, on graphs from the generator.
//!
//! `cargo bench --bench kernels`, or some of it: `-- spmm`, `-- int8`, `-- max`, `-- attend`,
//! `-- dense`, `-- hub`. Everybody's result is compared with the naive twin's before anybody is
//! timed. The package in `peers` runs the same beside sprs, nalgebra-sparse and faer, compiled in
//! the way that is best for them: here nothing is optimised across units, which generic code of
//! others suffers from. sprs returns a new array; the others write into a kept one.

mod harness;

use gnn_prune::__kernels::{
    Activate, AdditiveScores, Attend, Epilogue, Finish, Isa, NO_NEIGHBOUR, Out, SparseInt8,
    buffer::Buffer, matmul, matmul_with, reference, spmm, spmm_int8_with, spmm_max_with, spmm_with,
};
use gnn_prune::data::PowerLaw;
use gnn_prune::rng::mix;
use gnn_prune::value::Csr;
use gnn_prune::{AdjacencyNorm, Graph, NodeOrder};
use harness::limits::Limit;
use harness::{Contender, contender, keep, largest, pool, short, thread_counts, wanted};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use rayon::prelude::*;
use std::time::Duration;

const TIME: Duration = Duration::from_millis(2500);
const WIDTHS: [usize; 4] = [16, 64, 128, 256];

/// Numbers in [-1, 1) on huge pages.
fn dense(rows: usize, cols: usize, seed: u64) -> Array2<f32> {
    let mut numbers = Buffer::zeros(rows * cols);
    numbers
        .par_iter_mut()
        .enumerate()
        .for_each(|(k, x)| *x = (mix(seed ^ (k as u64)) >> 40) as f32 / (1u32 << 23) as f32 - 1.0);
    numbers.into_array((rows, cols))
}

/// `|ours − naive|` may be a few roundings of the terms' magnitudes.
fn assert_close(found: ArrayView2<f32>, expected: ArrayView2<f32>, terms: usize, what: &str) {
    let most = 4.0 * f32::EPSILON * (terms as f32).max(16.0);
    let worst = found
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs() / (1.0 + b.abs()))
        .fold(0.0, largest);
    assert!(worst <= most, "{what} differs from the reference by {worst}, more than {most}");
}

fn time(id: &str, threads: usize, limit: Limit, contenders: Vec<Contender>) {
    let names: Vec<String> = contenders.iter().map(|c| c.name.clone()).collect();
    let (times, limit) = limit.beside(TIME, contenders);
    for (name, ms) in names.iter().zip(&times) {
        let (of_limit, of_ours) = (ms / limit, ms / times[0]);
        println!(
            "{id:34} threads={threads} {name:22} {ms:9.3} ms  {of_limit:6.2} x of limit  {of_ours:6.2} x of ours"
        );
    }
}

fn most_terms(a: &Csr<f32>) -> usize {
    a.outer_iterator().map(|row| row.nnz()).max().unwrap_or(0)
}

fn spmm_on(name: &str, graph: &Graph, widths: &[usize], threads: usize, peers: bool) {
    let operator = graph.operator(AdjacencyNorm::Symmetric).expect("no weight is negative");
    let a: Csr<f32> = operator.forward().to_owned();
    let (n, terms) = (a.rows(), most_terms(&a));
    for &width in widths {
        let id = format!("spmm/{name}/n={n}/c={width}");
        if !wanted(&id) {
            continue;
        }
        let x = dense(n, width, 1);
        let mut expected = Array2::zeros((n, width));
        reference::spmm(a.view(), x.view(), expected.view_mut());
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let mut y = dense(n, width, 2);
            spmm_with(isa, a.view(), x.view(), y.view_mut(), Epilogue::NONE);
            assert_close(y.view(), expected.view(), terms, &format!("{id} {isa:?}"));
        }
        let limit = Limit::gather(n, width, a.nnz());
        let (mut y, mut own, mut plain) =
            (dense(n, width, 2), dense(n, width, 2), dense(n, width, 2));
        let (a, x) = (&a, &x);
        let mut contenders =
            vec![contender("ours", move || spmm(a.view(), x.view(), y.view_mut()))];
        if peers {
            for (what, isa) in levels().into_iter().skip(1) {
                let mut y = dense(n, width, 2);
                contenders.push(contender(what, move || {
                    spmm_with(isa, a.view(), x.view(), y.view_mut(), Epilogue::NONE)
                }));
            }
            contenders.push(contender("naive rayon", move || naive_rayon(a, x, &mut own)));
            if threads == 1 {
                contenders.push(contender("naive", move || {
                    reference::spmm(a.view(), x.view(), plain.view_mut())
                }));
                #[cfg(feature = "peers")]
                {
                    let mut sum = dense(n, width, 2);
                    contenders.push(contender("sprs", move || keep(a * x)));
                    contenders.push(contender("sprs, accumulating", move || {
                        sum.fill(0.0);
                        sprs::prod::csr_mulacc_dense_rowmaj(a.view(), x.view(), sum.view_mut());
                    }));
                    contenders.push(contender("nalgebra-sparse", gnn_prune_peers::nalgebra(a, x)));
                }
            }
        }
        time(&id, threads, limit, contenders);
    }
}

/// Our levels of instructions, the best first, under the names of contenders.
fn levels() -> Vec<(String, Isa)> {
    let others = [Isa::Avx2, Isa::Portable].into_iter().filter(|isa| isa.available());
    std::iter::once(("ours".to_string(), Isa::best()))
        .chain(others.map(|isa| (format!("ours, {isa:?}"), isa)))
        .collect()
}

/// Aggregation of rows of bytes, as quantised models do it; its limit is that of rows of as many
/// bytes.
fn int8_on(name: &str, graph: &Graph, threads: usize) {
    let operator = graph.operator(AdjacencyNorm::Symmetric).expect("no weight is negative");
    let (n, nnz) = (operator.forward().rows(), operator.stored());
    let (starts, cols, _) = operator.forward().into_raw_storage();
    let bytes = |len: usize, seed: u64| {
        let mut bytes = Buffer::zeros(len);
        bytes
            .iter_mut()
            .enumerate()
            .for_each(|(k, v)| *v = ((mix(seed ^ k as u64) % 255) as i16 - 127) as i8);
        bytes
    };
    let vals: Vec<i8> = bytes(nnz, 1).iter().map(|v| v / 2).collect();
    for width in [64, 256] {
        let id = format!("int8/{name}/n={n}/c={width}");
        if !wanted(&id) {
            continue;
        }
        let x = bytes(n * width, 2);
        let expected = reference::spmm_int8(starts, cols, &vals, &x, width);
        let scales = vec![1.0; width];
        let finish = Finish { rows: None, cols: &scales, bias: None, activate: Activate::Identity };
        let mut contenders = Vec::new();
        for (what, isa) in levels() {
            let mut y = Buffer::zeros(n * width);
            let (vals, x) = (&vals, &x);
            let run = move |y: &mut [f32]| {
                spmm_int8_with(
                    isa,
                    SparseInt8 { starts, cols, vals },
                    x,
                    width,
                    finish,
                    Out::Real(y),
                )
            };
            run(&mut y);
            assert!(
                y.iter().zip(&expected).all(|(&y, &acc)| y == acc as f32),
                "{id} {isa:?} differs from the reference"
            );
            contenders.push(contender(what, move || run(&mut y)));
        }
        time(&id, threads, Limit::gather(n, width / 4, nnz), contenders);
    }
}

/// The largest of the neighbours.
fn max_on(name: &str, graph: &Graph, threads: usize) {
    let (n, width) = (graph.num_nodes(), 64);
    let id = format!("max/{name}/n={n}/c={width}");
    if !wanted(&id) {
        return;
    }
    let x = dense(n, width, 1);
    let a = graph.adjacency();
    let mut contenders = Vec::new();
    let mut expected = Array2::from_elem(x.dim(), f32::NEG_INFINITY);
    for (row, mut most) in a.outer_iterator().zip(expected.outer_iter_mut()) {
        row.indices().iter().for_each(|&j| {
            most.zip_mut_with(&x.row(j as usize), |most, &x| *most = largest(*most, x))
        });
    }
    for (what, isa) in levels() {
        let (y, who) = spmm_max_with(isa, a, x.view());
        for (((i, c), &who), &most) in who.indexed_iter().zip(&expected) {
            let right = if who == NO_NEIGHBOUR {
                most == f32::NEG_INFINITY
            } else {
                y[[i, c]] == most && x[[who as usize, c]] == most
            };
            assert!(right, "{id} {isa:?}");
        }
        let x = &x;
        contenders.push(contender(what, move || keep(spmm_max_with(isa, a, x.view()))));
    }
    time(&id, threads, Limit::gather(n, width, a.nnz()), contenders);
}

/// Scores, softmax and weighted sum of 8 heads of 8; its limit is that of fetching the rows and
/// what scores them.
fn attend_on(name: &str, graph: &Graph, threads: usize) {
    let (n, heads, dim) = (graph.num_nodes(), 8, 8);
    let id = format!("attend/{name}/n={n}/heads={heads}/dim={dim}");
    if !wanted(&id) {
        return;
    }
    let edges = graph.attention();
    let lists = edges.neighbourhoods();
    let numbers =
        |cols: usize, seed: u64| Buffer::of(dense(n, cols, seed)).expect("standard layout");
    let (z, source, target) = (numbers(heads * dim, 1), numbers(heads, 2), numbers(heads, 3));
    let att = vec![0.0; heads * dim];
    let scores = AdditiveScores {
        source: &source,
        target: &target,
        edge: None,
        att_source: &att,
        att_target: &att,
        heads,
        slope: 0.2,
    };
    let mut scored = vec![0.0; lists.sources.len() * heads];
    for i in 0..n {
        for e in lists.starts[i]..lists.starts[i + 1] {
            for h in 0..heads {
                let v = source[lists.sources[e] as usize * heads + h] + target[i * heads + h];
                scored[e * heads + h] = v.max(0.2 * v);
            }
        }
    }
    let expected = reference::attend(lists.starts, lists.sources, &scored, &z, heads);
    let expected = ArrayView2::from_shape((n, heads * dim), &expected).expect("one row a node");
    let attend =
        Attend { edges: lists, scores: &scores, heads, dim, z: &z, dropout: None, bias: None };
    let mut contenders = Vec::new();
    for (what, isa) in levels() {
        let mut y = dense(n, heads * dim, 4);
        attend.forward_with(isa, y.as_slice_mut().expect("standard layout"));
        assert_close(y.view(), expected, 1000, &format!("{id} {isa:?}"));
        contenders.push(contender(what, move || {
            attend.forward_with(isa, y.as_slice_mut().expect("standard layout"))
        }));
    }
    let limit =
        Limit::sum([heads * dim, heads].map(|width| Limit::gather(n, width, lists.sources.len())));
    time(&id, threads, limit, contenders);
}

/// What a careful user writes first.
fn naive_rayon(a: &Csr<f32>, x: &Array2<f32>, y: &mut Array2<f32>) {
    let width = x.ncols();
    let (starts, cols, vals) = a.view().into_raw_storage();
    let x = x.as_slice().expect("standard layout");
    y.as_slice_mut().expect("standard layout").par_chunks_mut(width).enumerate().for_each(
        |(i, y)| {
            y.fill(0.0);
            for e in starts[i]..starts[i + 1] {
                let x = &x[cols[e] as usize * width..][..width];
                y.iter_mut().zip(x).for_each(|(y, x)| *y += vals[e] * x);
            }
        },
    );
}

/// One node that everybody is joined to.
fn hub(neighbours: usize) -> Graph {
    let n = neighbours + 1;
    let ring = (0..n).flat_map(|i| (1..8).map(move |k| (i, (i + k * 7919) % n)));
    Graph::builder(n).edges((1..n).map(|i| (i, 0)).chain(ring)).build().expect("nodes are in range")
}

fn dense_products(threads: usize) {
    let n = if short() { 500 } else { 169_343 };
    for (k, o) in [(128, 256), (256, 256), (256, 40), (64, 64), (256, 16)] {
        let id = format!("dense/n={n}/in={k}/out={o}");
        if !wanted(&id) {
            continue;
        }
        let (x, w) = (dense(n, k, 1), dense(k, o, 2));
        let mut expected = dense(n, o, 3);
        library(&x, &w, &mut expected);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let mut y = dense(n, o, 3);
            matmul_with(isa, x.view(), w.view(), y.view_mut(), Epilogue::NONE);
            assert_close(y.view(), expected.view(), k, &format!("{id} {isa:?}"));
        }
        let limit = Limit::dense(n, k, o);
        let (mut y, mut z, mut narrow) = (dense(n, o, 3), dense(n, o, 3), dense(n, o, 3));
        let (x, w) = (&x, &w);
        let contenders = [
            contender("ours", move || matmul(x.view(), w.view(), y.view_mut())),
            contender("ours, Avx2", move || {
                matmul_with(Isa::Avx2, x.view(), w.view(), narrow.view_mut(), Epilogue::NONE)
            }),
            contender("ndarray in row blocks", move || library(x, w, &mut z)),
            #[cfg(feature = "peers")]
            contender("faer", gnn_prune_peers::faer(x, w, dense(n, o, 3), threads)),
        ];
        time(&id, threads, limit, contenders.into());
    }
}

/// The library call that stands behind other processors, on blocks of 512 rows.
fn library(x: &Array2<f32>, w: &Array2<f32>, y: &mut Array2<f32>) {
    let (inner, width) = w.dim();
    let x = x.as_slice().expect("standard layout");
    y.as_slice_mut()
        .expect("standard layout")
        .par_chunks_mut(512 * width)
        .zip(x.par_chunks(512 * inner))
        .for_each(|(y, x)| {
            let rows = y.len() / width;
            let x = ArrayView2::from_shape((rows, inner), x).expect("whole rows");
            general_mat_mul(
                1.0,
                &x,
                w,
                0.0,
                &mut ArrayViewMut2::from_shape((rows, width), y).expect("whole rows"),
            );
        });
}

fn main() {
    harness::print_machine();
    let arxiv = harness::arxiv_like();
    let (few, many) = if short() { (600, 1000) } else { (10_000, 1_000_000) };
    for threads in thread_counts() {
        pool(threads).install(|| {
            spmm_on("arxiv", arxiv.graph(), &WIDTHS, threads, true);
            for order in [NodeOrder::Degree, NodeOrder::Rcm, NodeOrder::Communities] {
                let name = format!("arxiv, {order:?}").to_lowercase();
                if [128, 256]
                    .iter()
                    .any(|width| wanted(&format!("spmm/{name}/n={}/c={width}", arxiv.num_nodes())))
                {
                    let graph = arxiv
                        .graph()
                        .permuted(&arxiv.graph().node_order(order))
                        .expect("an order of the nodes");
                    spmm_on(&name, &graph, &[128, 256], threads, false);
                }
            }
            if wanted("spmm/hub") {
                let hub = hub(if short() { 1000 } else { 100_000 });
                spmm_on("hub", &hub, &[64], threads, false);
            }
            for (name, n) in [("small", few), ("large", many)] {
                if wanted(&format!("spmm/{name}")) {
                    let data = PowerLaw::builder(n, 16 * n)
                        .features(1)
                        .seed(1)
                        .build()
                        .expect("settings are legal");
                    spmm_on(name, data.graph(), &[64], threads, false);
                }
            }
            int8_on("arxiv", arxiv.graph(), threads);
            max_on("arxiv", arxiv.graph(), threads);
            attend_on("arxiv", arxiv.graph(), threads);
            dense_products(threads);
        });
    }
}
