//! Compares programs of integers with those of floats: paired medians on one thread and on two, and
//! what each pass takes.
//!
//! ```sh
//! GNN_PRUNE_DATA=folder cargo run --release --example integers            # every graph and model
//! cargo run --release --example integers -- cora/gcn-64 --stages          # one, pass by pass
//! cargo run --release --example integers -- arxiv --integers              # every stage on integers, faster or not
//! ```

use gnn_prune::data::Splits;
use gnn_prune::ndarray::Array2;
use gnn_prune::program::StageTime;
use gnn_prune::quant::{Form, Forms, Rounding};
use gnn_prune::{
    AppnpNet, Bits, Dataset, Gcn, Gcn2, Gin, Graph, Mlp, Model, Quantizer, Result, Sage, Sgc, Split,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const ARXIV: &str = "powerlaw:nodes=169343,edges=2300000,features=128,classes=40,homophily=0.64,community=300,seed=0";
const DBLP: &str = "powerlaw:nodes=17716,edges=105734,features=1639,classes=4,seed=0";
const GRAPHS: [&str; 8] = [
    "cora",
    "citeseer",
    "amazon_computers",
    "coauthor_physics",
    "tolokers",
    "chameleon_filtered",
    "blogcatalog",
    "digits",
];
/// Pairs are taken for so long ...
const TIME: Duration = Duration::from_millis(1500);
/// ... and at least so many.
const LEAST_PAIRS: usize = 9;
/// Runs of less than this are repeated within their turn.
const TURN: f64 = 2e-3;

fn model(word: &str, inputs: usize, outputs: usize, hidden: usize) -> Result<Model> {
    match word {
        "gcn" => Gcn::builder(inputs, outputs).hidden(hidden).build(0),
        "gcn3" => Gcn::builder(inputs, outputs).hidden(hidden).layers(3).build(0),
        "sage" => Sage::builder(inputs, outputs).hidden(hidden).build(0),
        "gin" => Gin::builder(inputs, outputs).hidden(hidden).build(0),
        "sgc" => Sgc::builder(inputs, outputs).build(0),
        "appnp" => AppnpNet::builder(inputs, outputs).hidden(hidden).build(0),
        "gcn2" => Gcn2::builder(inputs, outputs).hidden(hidden).build(0),
        _ => Mlp::builder(inputs, outputs).hidden(hidden).build(0),
    }
}

fn open_data(place: &str) -> Result<Dataset> {
    if place != "grid" {
        return Dataset::open(place, None);
    }
    const SIDE: usize = 100;
    let nodes = SIDE * SIDE;
    let edges = (0..nodes).flat_map(|i| {
        [(i % SIDE + 1 < SIDE).then_some((i, i + 1)), (i + SIDE < nodes).then_some((i, i + SIDE))]
    });
    let graph = Graph::builder(nodes).edges(edges.flatten()).undirected(true).build()?;
    let features =
        Array2::from_shape_fn((nodes, 16), |(i, c)| ((i * 37 + c * 11) % 41) as f32 / 20.0 - 1.0);
    let labels = (0..nodes as u32).map(|i| i % 4).collect();
    let split =
        Split { train: (0..40).collect(), val: (40..80).collect(), test: (80..120).collect() };
    Dataset::new("grid", graph, features.into(), labels, None, Splits::Fixed(split))
}

fn seconds(mut run: impl FnMut(), times: usize) -> f64 {
    let begin = Instant::now();
    (0..times).for_each(|_| run());
    begin.elapsed().as_secs_f64() / times as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Median milliseconds of both, and the median of the ratios of pairs.
fn pairs(mut float: impl FnMut(), mut integer: impl FnMut()) -> (f64, f64, f64) {
    float();
    integer();
    let times = (TURN / seconds(&mut float, 1)).ceil().clamp(1.0, 1e4) as usize;
    let (mut floats, mut integers) = (Vec::new(), Vec::new());
    let begin = Instant::now();
    while floats.len() < LEAST_PAIRS || begin.elapsed() < TIME {
        // Who is first changes from pair to pair.
        if floats.len().is_multiple_of(2) {
            floats.push(seconds(&mut float, times));
            integers.push(seconds(&mut integer, times));
        } else {
            integers.push(seconds(&mut integer, times));
            floats.push(seconds(&mut float, times));
        }
    }
    let ratios = floats.iter().zip(&integers).map(|(f, i)| f / i).collect();
    (median(floats) * 1e3, median(integers) * 1e3, median(ratios))
}

fn print_stages(kind: &str, mut profile: impl FnMut() -> Result<Vec<StageTime>>) -> Result<()> {
    let mut times: BTreeMap<usize, (String, Vec<f64>)> = BTreeMap::new();
    for _ in 0..30 {
        for (k, stage) in profile()?.into_iter().enumerate() {
            times
                .entry(k)
                .or_insert_with(|| (stage.what, Vec::new()))
                .1
                .push(stage.took.as_secs_f64());
        }
    }
    for (what, times) in times.into_values() {
        println!("    {kind:8} {what:32} {:9.3} ms", median(times) * 1e3);
    }
    Ok(())
}

fn compare(
    id: &str,
    data: &Dataset,
    word: &str,
    hidden: usize,
    forms: Forms,
    stages: bool,
) -> Result<()> {
    let model = model(word, data.num_features(), data.num_classes(), hidden)?;
    let small = match Quantizer::builder(Bits::Eight)
        .rounding(Rounding::Nearest)
        .build()?
        .quantize(&model, data)
    {
        Ok(small) => small,
        Err(error) => {
            println!("{id:28} {error}");
            return Ok(());
        }
    };
    let x = data.features();
    let (mut float, mut integer) =
        (model.compile(data.graph(), x)?, small.compile_as(data.graph(), x, forms)?);
    let on_integers = integer.forms().iter().filter(|stage| stage.form == Form::Integers).count();
    let of = integer.forms().len();
    for threads in [1, 2] {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build()?.install(|| -> Result<()> {
            let mut prepared = integer.prepare(x)?;
            let (f, i, ratio) = pairs(|| drop(float.run(x)), || _ = prepared.run());
            println!(
                "{id:28} threads={threads} floats {f:8.3} ms  8 bits {i:8.3} ms  {ratio:5.2}x  {on_integers} of {of} stages on integers"
            );
            if stages {
                print_stages("float", || float.profile(x))?;
                print_stages("8 bits", || Ok(prepared.profile()))?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let (flags, wanted): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|arg| arg.starts_with("--"));
    let forms = if flags.iter().any(|flag| flag == "--integers") {
        Forms::Integers
    } else {
        Forms::Fastest
    };
    let stages = flags.iter().any(|flag| flag == "--stages");
    let folder = std::env::var("GNN_PRUNE_DATA").unwrap_or_else(|_| ".".into());
    let mut cases: Vec<(String, String, &str, usize)> = Vec::new();
    for graph in GRAPHS {
        let place =
            if graph == "digits" { graph.to_string() } else { format!("{folder}/{graph}.npz") };
        for word in ["gcn", "sage", "gin", "sgc", "appnp", "gcn2", "mlp"] {
            cases.push((graph.into(), place.clone(), word, 64));
        }
    }
    for graph in ["amazon_computers", "coauthor_physics"] {
        cases.push((graph.into(), format!("{folder}/{graph}.npz"), "gcn", 256));
    }
    cases.push(("dblp".into(), DBLP.into(), "gcn", 64));
    cases.push(("grid".into(), "grid".into(), "sage", 64));
    cases.push(("arxiv".into(), ARXIV.into(), "gcn3", 256));
    let mut open: Option<(String, Dataset)> = None;
    for (graph, place, word, hidden) in cases {
        let id = format!("{graph}/{word}-{hidden}");
        if !wanted.is_empty() && !wanted.iter().any(|part| id.contains(part.as_str())) {
            continue;
        }
        if open.as_ref().is_none_or(|(name, _)| *name != place) {
            match open_data(&place) {
                Ok(data) => open = Some((place.clone(), data)),
                Err(error) => {
                    println!("{id:28} skipped: {error}");
                    continue;
                }
            }
        }
        if let Some((_, data)) = &open {
            compare(&id, data, word, hidden, forms, stages)?;
        }
    }
    Ok(())
}
