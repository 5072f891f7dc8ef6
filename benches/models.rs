//! Whole models: inference by the compiled program and training epochs, beside the sum of the
//! limits of their stages.
//!
//! `cargo bench --bench models`, or one part of it: `cargo bench --bench models -- gcn/infer`. The
//! last line is the peak memory of the process: with `--memory` and one part that of this part, on
//! all threads and without the check against the layers.

mod harness;

use gnn_prune::nn::{Cx, Mode};
use gnn_prune::task::cross_entropy;
use gnn_prune::train::{self, Adam};
use gnn_prune::{Dataset, Gat, Gcn, Model, NodeOrder, Program, Sage};
use harness::limits::Limit;
use harness::{Contender, contender, largest, pool, thread_counts, wanted};
use std::time::Duration;

/// Time for the rounds of one row.
const TIME: Duration = Duration::from_secs(4);
const FEW_ULPS: f32 = 2e-3;

struct Case {
    name: &'static str,
    model: Model,
    /// Of one inference.
    limit: Limit,
}

fn arxiv_cases(data: &Dataset) -> Vec<Case> {
    let (inputs, outputs) = (data.num_features(), data.num_classes());
    let (n, e) = (data.num_nodes(), data.graph().num_edges());
    let dense = || [(128, 256), (256, 256), (256, 40)].map(|(k, o)| Limit::dense(n, k, o));
    let gather = |widths: &[usize], edges| {
        Limit::sum(widths.iter().map(|&width| Limit::gather(n, width, edges)))
    };
    vec![
        Case {
            name: "gcn",
            model: Gcn::builder(inputs, outputs)
                .hidden(256)
                .layers(3)
                .build(0)
                .expect("widths are legal"),
            limit: Limit::sum(dense().into_iter().chain([gather(&[128, 256, 40], e + n)])),
        },
        Case {
            name: "sage",
            model: Sage::builder(inputs, outputs)
                .hidden(256)
                .layers(3)
                .build(0)
                .expect("widths are legal"),
            limit: Limit::sum(
                dense().into_iter().chain(dense()).chain([gather(&[128, 256, 40], e)]),
            ),
        },
        Case {
            name: "gat",
            model: gat(data),
            // Rows, and what scores them.
            limit: Limit::sum([
                gather(&[64, 8, 40, 1], e + n),
                Limit::dense(n, 128, 64),
                Limit::dense(n, 64, 40),
            ]),
        },
    ]
}

fn cora_cases(data: &Dataset) -> Vec<Case> {
    let (inputs, outputs) = (data.num_features(), data.num_classes());
    let (n, e) = (data.num_nodes(), data.graph().num_edges() + data.num_nodes());
    let layers = |width| {
        [
            Limit::gather(1433, width, 18 * n),
            Limit::gather(n, width, e),
            Limit::dense(n, width, 7),
            Limit::gather(n, 16, e),
        ]
    };
    let scores = [8, 1].map(|heads| Limit::gather(n, heads, e));
    vec![
        Case {
            name: "cora/gcn",
            model: Gcn::builder(inputs, outputs).hidden(16).build(0).expect("widths are legal"),
            limit: Limit::sum(layers(16)),
        },
        Case {
            name: "cora/gat",
            model: gat(data),
            limit: Limit::sum(layers(64).into_iter().chain(scores)),
        },
    ]
}

/// 8 heads of 8, then one output head.
fn gat(data: &Dataset) -> Model {
    Gat::builder(data.num_features(), data.num_classes())
        .hidden(8)
        .heads(8)
        .output_heads(1)
        .build(0)
        .expect("widths are legal")
}

/// Whether only memory is asked for.
fn memory() -> bool {
    std::env::args().any(|arg| arg == "--memory")
}

/// The compiled program must say what the layers say.
fn assert_agrees(model: &Model, data: &Dataset) {
    let expected =
        model.infer(&Cx::eval(data.graph()), data.features()).expect("model and data fit");
    let mut program = model.compile(data.graph(), data.features()).expect("every layer has stages");
    let found = program.run(data.features()).expect("model and data fit");
    let worst = found
        .iter()
        .zip(&expected)
        .map(|(a, b)| (a - b).abs() / (1.0 + b.abs()))
        .fold(0.0, largest);
    assert!(worst < FEW_ULPS, "program and layers differ by {worst}");
}

fn infer(program: gnn_prune::Result<Program>, data: &Dataset) -> Contender<'_> {
    let mut program = program.expect("every layer has stages");
    contender("infer", move || {
        program.run(data.features()).expect("model and data fit");
    })
}

fn epoch<'a>(model: &Model, data: &'a Dataset) -> Contender<'a> {
    let (mut model, split, cx) = (model.clone(), data.split(0), Cx::eval(data.graph()));
    let mut adam = Adam::builder().build().expect("defaults are legal");
    let mut step = 0;
    contender("epoch", move || {
        step += 1;
        let cx = cx.with_mode(Mode::Train { seed: 0, step });
        let trace = model.trace(&cx, data.features()).expect("model and data fit");
        let (_, gradient) = cross_entropy(trace.output(), data.classes().unwrap(), &split.train);
        let seeds = vec![(model.output(), gradient)];
        let grads = model.backward(&cx, trace, seeds).expect("the seed has the output's shape");
        train::step(&mut adam, &mut model, &grads, 1.0);
    })
}

fn run(data: &Dataset, cases: &[Case], threads: usize) {
    for case in cases {
        for what in ["infer", "infer ordered", "epoch"] {
            let id = format!("{}/{what}", case.name);
            if !wanted(&id) {
                continue;
            }
            if what == "infer" && !memory() {
                assert_agrees(&case.model, data);
            }
            let (graph, x) = (data.graph(), data.features());
            let contender = match what {
                "infer" => infer(case.model.compile(graph, x), data),
                "infer ordered" => {
                    infer(case.model.compile_ordered(graph, x, NodeOrder::Communities), data)
                }
                _ => epoch(&case.model, data),
            };
            let limit =
                if what == "epoch" || memory() { Limit::default() } else { case.limit.clone() };
            let (times, limit) = limit.beside(TIME, vec![contender]);
            let of_limit = if limit > 0.0 {
                format!("limit {limit:8.2}, {:5.2} x of limit", times[0] / limit)
            } else {
                String::new()
            };
            println!("{id:20} threads={threads} {:9.3} ms  {of_limit}", times[0]);
        }
    }
}

fn main() {
    harness::print_machine();
    let part = |name: &str| {
        ["infer", "infer ordered", "epoch"].iter().any(|what| wanted(&format!("{name}/{what}")))
    };
    let counts = thread_counts();
    for &threads in if memory() { &counts[counts.len() - 1..] } else { &counts } {
        if ["cora/gcn", "cora/gat"].iter().any(|name| part(name)) {
            let data = harness::cora_like();
            pool(threads).install(|| run(&data, &cora_cases(&data), threads));
        }
        if ["gcn", "sage", "gat"].iter().any(|name| part(name)) {
            let data = harness::arxiv_like();
            pool(threads).install(|| run(&data, &arxiv_cases(&data), threads));
        }
    }
    if let Some(peak) = harness::peak_memory() {
        println!("peak resident memory {peak:.0} MB");
    }
}
