//! Whole models: inference by the compiled program and training epochs, beside the sum of the
//! limits of their stages.
//!
//! `cargo bench --bench models`, or one part of it: `cargo bench --bench models -- gcn/infer`, or
//! `-- tables`, scores of all entities of WN18RR's size by floats and by integers. The
//! last line is the peak memory of the process: with `--memory` and one part that of this part, on
//! all threads and without the check against the layers.

mod harness;

use gnn_prune::__kernels::Isa;
use gnn_prune::data::Triples;
use gnn_prune::nn::decode::{Decoder, Form};
use gnn_prune::nn::{Cx, Embedding, Memory, Mode, ModelBuilder, NodeId, Queries, Query, Rows};
use gnn_prune::quant::{Forms, ProductCodes};
use gnn_prune::task::{LinkTask, Task, cross_entropy};
use gnn_prune::train::{self, Adam};
use gnn_prune::{Bits, Dataset, Gat, Gcn, Model, NodeOrder, Program, Quantizer, Sage};
use harness::limits::Limit;
use harness::{Contender, contender, largest, pool, short, thread_counts, wanted};
use std::time::Duration;

/// Time for the rounds of one row.
const TIME: Duration = Duration::from_secs(4);
const FEW_ULPS: f32 = 2e-3;

/// What is run of each model.
const WHAT: [&str; 5] = ["infer", "infer ordered", "epoch", "epoch 8bit", "epoch recompute"];

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

fn epoch<'a>(model: &Model, data: &'a Dataset, memory: Memory) -> Contender<'a> {
    let (mut model, split, cx) = (model.clone(), data.split(0), Cx::eval(data.graph()));
    let mut adam = Adam::builder().build().expect("defaults are legal");
    let mut step = 0;
    contender("epoch", move || {
        step += 1;
        let cx = cx.with_mode(Mode::Train { seed: 0, step }).with_memory(memory);
        let trace = model.trace(&cx, data.features()).expect("model and data fit");
        let (_, gradient) = cross_entropy(trace.output(), data.classes().unwrap(), &split.train);
        let seeds = vec![(model.output(), gradient)];
        let grads = model.backward(&cx, trace, seeds).expect("the seed has the output's shape");
        train::step(&mut adam, &mut model, &grads, 1.0);
    })
}

fn run(data: &Dataset, cases: &[Case], threads: usize) {
    for case in cases {
        for what in WHAT {
            let id = format!("{}/{what}", case.name);
            let refused = what == "epoch recompute" && !case.name.ends_with("gcn");
            if !wanted(&id) || refused {
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
                "epoch" => epoch(&case.model, data, Memory::Whole),
                "epoch 8bit" => epoch(&case.model, data, Memory::EightBits),
                _ => epoch(&case.model, data, Memory::Recompute),
            };
            let limit = if what.starts_with("epoch") || memory() {
                Limit::default()
            } else {
                case.limit.clone()
            };
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

/// `count` queries against a table of `nodes` rows.
fn tables(threads: usize) {
    let (nodes, channels, count) = if short() { (700, 128, 16) } else { (40_943, 128, 256) };
    let id = format!("tables/n={nodes}/c={channels}/queries={count}");
    if !wanted(&id) {
        return;
    }
    let mut builder = ModelBuilder::new(1);
    let table = Embedding::new(nodes, channels).expect("it is not empty");
    let table = builder.add("table", table, &[NodeId::INPUT]).expect("it reads the input");
    let decoder = Decoder::builder(Form::DistMult, channels).relations(11);
    let decoder = decoder.build().expect("widths are legal");
    let scores = builder.add("decoder", decoder, &[table]).expect("widths fit");
    let model = builder.build(scores, 0).expect("it has an output");
    let fact = |k| vec![[k, 0, k + 1]];
    let facts = Triples::new("facts", nodes, 11, fact(0), fact(1), fact(2));
    let task = LinkTask::builder(facts.expect("they are in range")).build().expect("defaults");
    let ask = |k: u32| Query { node: k * 31 % nodes as u32, relation: k % 11, inverse: false };
    let queries = Queries::among((0..count).map(ask).collect::<Vec<_>>(), 0..nodes as u32);
    let rows = Rows::new().queries(queries.expect("there are rows"));
    let data = Task::<f32>::data(&task);
    let (graph, x) = (data.graph(), data.features());
    let mut floats = model.compile_within(graph, x, &rows).expect("every layer has stages");
    let expected = floats.run(x).expect("model and data fit").to_owned();
    let (mut names, mut contenders) =
        (vec![("floats".to_string(), 4 * model.num_params() as u64)], Vec::new());
    contenders.push(contender("floats", move || {
        floats.run(x).expect("model and data fit");
    }));
    let far = expected.iter().fold(0.0, |most, v| largest(most, v.abs()));
    let parts = ProductCodes::new(channels / 8);
    let codes = [parts, parts.with_words(16).expect("an even number of parts")];
    let ways = [(Bits::Eight, None), (Bits::Four, None)].into_iter();
    for (bits, codes) in ways.chain(codes.map(|codes| (Bits::Eight, Some(codes)))) {
        let mut quantizer = Quantizer::builder(bits);
        if let Some(codes) = codes {
            quantizer = quantizer.codes(codes);
        }
        let quantizer = quantizer.build().expect("widths are legal");
        let small = quantizer.quantize(&model, &task).expect("every layer has stages");
        for forms in [Forms::Integers, Forms::Floats] {
            let program = small.compile_within_as(graph, x, &rows, forms);
            let mut program = program.expect("it was quantised");
            let found = program.run(x).expect("model and data fit");
            let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, largest);
            let most = match (bits, codes) {
                (Bits::Eight, None) => 0.05,
                (_, None) => 0.5,
                // Words of drawn numbers say little of them.
                (_, Some(_)) => 2.0,
            };
            assert!(off <= most * far, "{quantizer}, {forms:?}: {off} of {far}");
            names.push((format!("{quantizer} on {forms:?}").to_lowercase(), small.stored_bytes()));
            contenders.push(contender("integers", move || {
                program.run(x).expect("model and data fit");
            }));
        }
    }
    let (times, _) = Limit::default().beside(TIME, contenders);
    for ((name, bytes), ms) in names.iter().zip(&times) {
        let of_floats = ms / times[0];
        println!(
            "{id} threads={threads} {name:32} {bytes:9} bytes {ms:9.3} ms  {of_floats:5.2} x of floats"
        );
    }
}

/// 128 users against all items by floats and by signs, of lastfm's size and of Gowalla's.
fn signs(threads: usize) {
    let cases = match short() {
        true => vec![("lastfm", 150, 300)],
        false => vec![("lastfm", 1892, 4489), ("gowalla", 29_858, 40_981)],
    };
    for (name, users, items) in cases {
        for (channels, parts) in [(256, 1), (256, 4), (64, 1)] {
            let id = format!("signs/{name}/c={channels}/parts={parts}");
            if wanted(&id) {
                signs_of(&id, (users, items), (channels, parts), threads);
            }
        }
    }
}

fn signs_of(
    id: &str,
    (users, items): (u32, u32),
    (channels, parts): (usize, usize),
    threads: usize,
) {
    let nodes = (users + items) as usize;
    let mut builder = ModelBuilder::new(1);
    let table = Embedding::new(nodes, channels).expect("it is not empty");
    let table = builder.add("table", table, &[NodeId::INPUT]).expect("it reads the input");
    let decoder = Decoder::builder(Form::Dot, channels).build().expect("widths are legal");
    let scores = builder.add("decoder", decoder, &[table]).expect("widths fit");
    let model = builder.build(scores, 0).expect("it has an output");
    let fact = |k| vec![[k, 0, k + 1]];
    let facts = Triples::new("facts", nodes, 1, fact(0), fact(1), fact(2));
    let task = LinkTask::builder(facts.expect("they are in range")).build().expect("defaults");
    let ask = |k: u32| Query { node: k * 31 % users, relation: 0, inverse: false };
    let queries = Queries::among((0..128).map(ask).collect::<Vec<_>>(), users..users + items);
    let rows = Rows::new().queries(queries.expect("there are rows"));
    let data = Task::<f32>::data(&task);
    let (graph, x) = (data.graph(), data.features());
    let small = Quantizer::builder(Bits::Eight).signs(parts).build().expect("parts are equal");
    let small = small.quantize(&model, &task).expect("every layer has stages");
    let of_signs = |forms| small.compile_within_as(graph, x, &rows, forms).expect("it has scores");
    let (mut unpacked, mut signs) = (of_signs(Forms::Floats), of_signs(Forms::Integers));
    let expected = unpacked.run(x).expect("model and data fit").to_owned();
    let far = expected.iter().fold(0.0, |most, v| largest(most, v.abs()));
    let found = signs.run(x).expect("model and data fit");
    let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, largest);
    assert!(off <= FEW_ULPS * far, "{id}: {off} of {far}");
    let mut floats = model.compile_within(graph, x, &rows).expect("every layer has stages");
    let mut contenders = vec![contender("floats", move || {
        floats.run(x).expect("model and data fit");
    })];
    let mut names = vec!["floats".to_string()];
    for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
        names.push(format!("signs, {isa:?}"));
        let mut signs = of_signs(Forms::Integers).on(isa);
        contenders.push(contender("signs", move || {
            signs.run(x).expect("model and data fit");
        }));
    }
    let (times, _) = Limit::default().beside(TIME, contenders);
    for (name, ms) in names.iter().zip(&times) {
        let times = times[0] / ms;
        println!("{id} threads={threads} {name:16} {ms:9.3} ms  {times:6.2} x as fast as floats");
    }
}

fn main() {
    harness::print_machine();
    let part = |name: &str| WHAT.iter().any(|what| wanted(&format!("{name}/{what}")));
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
    for &threads in if memory() { &counts[..0] } else { &counts[..] } {
        pool(threads).install(|| tables(threads));
        pool(threads).install(|| signs(threads));
    }
    if let Some(peak) = harness::peak_memory() {
        println!("peak resident memory {peak:.0} MB");
    }
}
