//! The tables of docs/results.md on pruning and rounding by least squares: every way beside its
//! controls, over several seeds.
//!
//! ```sh
//! cargo run --release --example least_squares -- cora.npz channels --features l1 --seeds 10
//! ```
//!
//! DATA, then what to compare: `channels`, `weights`, `bits` or `one-shot`, or several with commas
//! between. `--model gcn|sage|gat|gin|residual`, `--retrain` for fine-tuning of 50 epochs after
//! each cut, `--healed` for one-shot compression with distillation or training on the grid beside
//! it, `--calibrate all|train`, `--inductive` for test nodes out of the graph while calibrating,
//! `--times` for the latency of one-shot models.

use gnn_prune::data::{FeatureNorm, Splits};
use gnn_prune::io::stored_bytes;
use gnn_prune::nn::Model;
use gnn_prune::pipeline::{Distill, Env, Step, Student, Subject};
use gnn_prune::prune::Compensation;
use gnn_prune::quant::Rounding;
use gnn_prune::task::{NodeTask, Part, evaluate};
use gnn_prune::{
    Bits, Calibrate, ChannelPruner, Dataset, FineTune, Gat, Gcn, Gin, Magnitude, OneShot,
    QuantModel, Quantizer, Random, Sage, Subset, Taylor, Trainer, WeightPruner,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const SHARES: [f64; 4] = [0.5, 0.75, 0.875, 0.9375];
const SPARSITIES: [f64; 3] = [0.9, 0.95, 0.98];
const EPOCHS: usize = 50;
/// Runs of a latency.
const RUNS: usize = 31;

struct Settings {
    model: String,
    seeds: u64,
    retrain: bool,
    inductive: bool,
    healed: bool,
    times: bool,
    calibrate: Calibrate,
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| {
        args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1).cloned())
    };
    let [path, what, ..] = args.as_slice() else {
        return Err("give DATA and one of channels, weights, bits, one-shot".into());
    };
    let data = match value("--features") {
        Some(norm) => Dataset::open(path, Some(norm.parse::<FeatureNorm>()?))?,
        None => Dataset::open(path, None)?,
    };
    let settings = Settings {
        model: value("--model").unwrap_or_else(|| "gcn".into()),
        seeds: value("--seeds").and_then(|seeds| seeds.parse().ok()).unwrap_or(10),
        retrain: args.iter().any(|arg| arg == "--retrain"),
        inductive: args.iter().any(|arg| arg == "--inductive"),
        healed: args.iter().any(|arg| arg == "--healed"),
        times: args.iter().any(|arg| arg == "--times"),
        calibrate: value("--calibrate").unwrap_or_else(|| "all".into()).parse()?,
    };
    let wanted: Vec<&str> = what.split(',').collect();
    let mut tables: Vec<Table> = wanted.iter().map(|_| Table::default()).collect();
    for seed in 0..settings.seeds {
        let run = Run::start(&data, &settings, seed)?;
        for (what, table) in wanted.iter().zip(&mut tables) {
            table.add("dense", run.judge(&run.dense)?, Some(stored_bytes(&run.dense)), 0.0);
            match *what {
                "channels" => run.channels(table)?,
                "weights" => run.weights(table)?,
                "bits" => run.bits(table)?,
                "one-shot" => run.one_shot(table)?,
                other => {
                    return Err(
                        format!("`{other}`: give channels, weights, bits or one-shot").into()
                    );
                }
            }
        }
    }
    for (what, table) in wanted.iter().zip(&tables) {
        let nodes = if settings.inductive { ", test nodes out of the graph" } else { "" };
        println!(
            "{} {} {what}, {} seeds, {}{nodes}",
            data.name(),
            settings.model,
            settings.seeds,
            settings.calibrate.in_words()
        );
        table.print();
    }
    Ok(())
}

/// One seed: a trained network and what it is judged on.
struct Run<'a> {
    data: &'a Dataset,
    /// What least squares may look at.
    seen: Dataset,
    settings: &'a Settings,
    dense: Model,
    seed: u64,
}

impl<'a> Run<'a> {
    fn start(data: &'a Dataset, settings: &'a Settings, seed: u64) -> Result<Self> {
        let dense = Trainer::protocol().fit(form(&settings.model, data, seed)?, data)?;
        let seen = if settings.inductive { without_tests(data, seed)? } else { data.clone() };
        Ok(Self { data, seen, settings, dense, seed })
    }

    fn judge(&self, model: &Model) -> Result<f64> {
        Ok(evaluate(model, self.data, Part::Test)?)
    }

    fn judge_integers(&self, model: &QuantModel) -> Result<f64> {
        let mut program = model.compile(self.data.graph(), self.data.features())?;
        let test = self.data.split(self.seed).test;
        Ok(NodeTask::of(self.data).measured_on(program.run(self.data.features())?, &test))
    }

    fn healed(&self, model: Model) -> Result<Model> {
        if self.settings.retrain { self.after(&FineTune::epochs(EPOCHS), model) } else { Ok(model) }
    }

    fn after(&self, step: &dyn Step, model: Model) -> Result<Model> {
        let env = Env::new(self.data, &self.dense, self.seed);
        Ok(step.run(Subject::new(model, self.data.graph().clone()), &env)?.into_model())
    }

    fn channels(&self, table: &mut Table) -> Result<()> {
        for share in SHARES {
            let mut narrow = None;
            for name in ["subset", "l2", "l1", "taylor", "random"] {
                let builder = match name {
                    "subset" => ChannelPruner::builder(Subset::new()),
                    "l2" => ChannelPruner::builder(Magnitude::l2()),
                    "l1" => ChannelPruner::builder(Magnitude::l1()),
                    "taylor" => ChannelPruner::builder(Taylor::new()),
                    _ => ChannelPruner::builder(Random::new()),
                };
                let started = Instant::now();
                let pruned = builder
                    .ratio(share)
                    .calibrate(self.settings.calibrate)
                    .build()?
                    .prune(&self.dense, &self.seen);
                let took = started.elapsed().as_secs_f64();
                // Heads of 8 channels cannot lose 15 of 16.
                let Ok(pruned) = pruned else { continue };
                narrow.get_or_insert_with(|| pruned.fresh(self.seed));
                let model = self.healed(pruned)?;
                table.add(
                    &format!("{share} {name}"),
                    self.judge(&model)?,
                    Some(stored_bytes(&model)),
                    took,
                );
            }
            if let Some(narrow) = narrow {
                let trained = Trainer::protocol().fit(narrow, self.data)?;
                table.add(
                    &format!("{share} narrow"),
                    self.judge(&trained)?,
                    Some(stored_bytes(&trained)),
                    0.0,
                );
            }
        }
        Ok(())
    }

    fn weights(&self, table: &mut Table) -> Result<()> {
        for sparsity in SPARSITIES {
            for (name, compensation, random) in [
                ("solved again", Compensation::Refit, false),
                ("truncated", Compensation::None, false),
                ("random, solved again", Compensation::Refit, true),
            ] {
                let pruner = WeightPruner::builder()
                    .sparsity(sparsity)
                    .compensation(compensation)
                    .calibrate(self.settings.calibrate)
                    .build()?;
                let pruner = if random { pruner.at_random() } else { pruner };
                let started = Instant::now();
                let pruned = pruner.prune(&self.dense, &self.seen)?;
                let took = started.elapsed().as_secs_f64();
                let model = self.healed(pruned)?;
                table.add(
                    &format!("{sparsity} {name}"),
                    self.judge(&model)?,
                    Some(stored_bytes(&model)),
                    took,
                );
            }
        }
        Ok(())
    }

    fn bits(&self, table: &mut Table) -> Result<()> {
        for bits in [Bits::Eight, Bits::Four, Bits::Two] {
            for (name, rounding) in
                [("compensated", Rounding::Compensated), ("nearest", Rounding::Nearest)]
            {
                let quantizer =
                    Quantizer::builder(bits).rounding(rounding).calibrate(self.settings.calibrate);
                let quantizer =
                    if self.settings.retrain { quantizer.qat(EPOCHS) } else { quantizer };
                let started = Instant::now();
                let model = quantizer.build()?.quantize(&self.dense, &self.seen)?;
                let took = started.elapsed().as_secs_f64();
                table.add(
                    &format!("{bits} bits {name}"),
                    self.judge_integers(&model)?,
                    Some(model.stored_bytes()),
                    took,
                );
            }
        }
        Ok(())
    }

    fn one_shot(&self, table: &mut Table) -> Result<()> {
        for (channels, weights, bits) in [
            (0.8125, 0.9, Bits::Four),
            (0.8125, 0.95, Bits::Four),
            (0.875, 0.9, Bits::Four),
            (0.8125, 0.9, Bits::Two),
        ] {
            let one_shot = OneShot::builder()
                .channels(channels)
                .weights(weights)
                .bits(bits)
                .calibrate(self.settings.calibrate)
                .build()?;
            let started = Instant::now();
            let small = one_shot.compress(&self.dense, &self.seen)?;
            let took = started.elapsed().as_secs_f64();
            table.add(
                &format!("{channels} {weights} {bits}"),
                self.judge_integers(&small)?,
                Some(small.stored_bytes()),
                took,
            );
            if self.settings.times {
                let (mut float, mut integer) = (
                    self.dense.compile(self.data.graph(), self.data.features())?,
                    small.compile(self.data.graph(), self.data.features())?,
                );
                let times = |run: &mut dyn FnMut()| {
                    let mut took: Vec<f64> = (0..RUNS)
                        .map(|_| (Instant::now(), run()).0.elapsed().as_secs_f64() * 1e3)
                        .collect();
                    took.sort_by(f64::total_cmp);
                    took[RUNS / 2]
                };
                let x = self.data.features();
                let (dense, small) =
                    (times(&mut || drop(float.run(x))), times(&mut || drop(integer.run(x))));
                println!(
                    "seed {}, {channels} {weights} {bits}: dense {dense:.3} ms, small {small:.3} ms, compressed in {took:.2} s",
                    self.seed
                );
            }
        }
        if self.settings.healed {
            self.healed_one_shot(table)?;
        }
        let narrow = Trainer::protocol()
            .fit(form_of_width(&self.settings.model, self.data, 1, self.seed)?, self.data)?;
        table.add("narrow, one channel", self.judge(&narrow)?, Some(stored_bytes(&narrow)), 0.0);
        Ok(())
    }

    /// The default amounts, healed by the dense network before the bits, or trained on the grid.
    fn healed_one_shot(&self, table: &mut Table) -> Result<()> {
        let narrow = ChannelPruner::builder(Subset::new())
            .ratio(0.8125)
            .calibrate(self.settings.calibrate)
            .build()?;
        let sparse =
            WeightPruner::builder().sparsity(0.9).calibrate(self.settings.calibrate).build()?;
        for (name, distil, epochs) in [
            ("distilled", true, 0),
            ("30 epochs on the grid", false, 30),
            ("distilled, 30 epochs", true, 30),
        ] {
            let started = Instant::now();
            let mut model = sparse.prune(&narrow.prune(&self.dense, &self.seen)?, &self.seen)?;
            if distil {
                model = self.after(&Distill::into(Student::Itself), model)?;
            }
            let quantizer = Quantizer::builder(Bits::Four)
                .qat(epochs)
                .calibrate(self.settings.calibrate)
                .build()?;
            let small = quantizer.quantize(&model, &self.seen)?;
            let took = started.elapsed().as_secs_f64();
            table.add(
                &format!("0.8125 0.9 4 {name}"),
                self.judge_integers(&small)?,
                Some(small.stored_bytes()),
                took,
            );
        }
        Ok(())
    }
}

fn form(model: &str, data: &Dataset, seed: u64) -> Result<Model> {
    form_of_width(model, data, if model == "gat" { 8 } else { 64 }, seed)
}

fn form_of_width(model: &str, data: &Dataset, width: usize, seed: u64) -> Result<Model> {
    let (inputs, classes) = (data.num_features(), data.num_classes());
    Ok(match model {
        "gcn" => Gcn::builder(inputs, classes).hidden(width).build(seed)?,
        "sage" => Sage::builder(inputs, classes).hidden(width).build(seed)?,
        "gat" => Gat::builder(inputs, classes).hidden(width).heads(8).build(seed)?,
        "gin" => Gin::builder(inputs, classes).hidden(width).build(seed)?,
        "residual" => {
            Gcn::builder(inputs, classes).hidden(width).layers(6).residual(true).build(seed)?
        }
        other => {
            return Err(format!("--model {other}: give gcn, sage, gat, gin or residual").into());
        }
    })
}

/// The data without its test nodes and all their edges: what is at hand before they come.
fn without_tests(data: &Dataset, seed: u64) -> Result<Dataset> {
    let split = data.split(seed);
    let kept: Vec<u32> = (0..data.num_nodes() as u32)
        .filter(|node| split.test.binary_search(node).is_err())
        .collect();
    let mut place = vec![None; data.num_nodes()];
    kept.iter().enumerate().for_each(|(at, &node)| place[node as usize] = Some(at as u32));
    let edges = data.graph().adjacency();
    let edges = edges.iter().filter_map(|(_, (target, source))| {
        Some((place[source as usize]? as usize, place[target as usize]? as usize))
    });
    let graph = gnn_prune::Graph::builder(kept.len()).edges(edges.collect::<Vec<_>>()).build()?;
    let features = match data.features() {
        gnn_prune::ValueRef::Dense(x) => {
            let rows: Vec<usize> = kept.iter().map(|&node| node as usize).collect();
            gnn_prune::Value::Dense(x.select(gnn_prune::ndarray::Axis(0), &rows))
        }
        gnn_prune::ValueRef::Sparse(x) => {
            let (mut starts, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
            for &node in &kept {
                let row = x.outer_view(node as usize).expect("it is a node");
                indices.extend_from_slice(row.indices());
                values.extend_from_slice(row.data());
                starts.push(indices.len());
            }
            gnn_prune::Value::Sparse(gnn_prune::sprs::CsMatI::new(
                (kept.len(), x.cols()),
                starts,
                indices,
                values,
            ))
        }
    };
    let labels = kept.iter().map(|&node| data.classes().unwrap()[node as usize]).collect();
    let places =
        |nodes: &[u32]| nodes.iter().filter_map(|&node| place[node as usize]).collect::<Vec<u32>>();
    let (train, val) = (places(&split.train), places(&split.val));
    // No node is judged here; a split needs one all the same.
    let (val, test) = val.split_at(val.len() / 2);
    let split = gnn_prune::Split { train, val: val.to_vec(), test: test.to_vec() };
    Ok(Dataset::new(
        data.name(),
        graph,
        features,
        labels,
        Some(data.num_classes()),
        Splits::Fixed(split),
    )?)
}

/// Per-seed figures of every row, in the order in which rows came.
#[derive(Default)]
struct Table {
    order: Vec<String>,
    rows: BTreeMap<String, Vec<(f64, Option<u64>, f64)>>,
}

impl Table {
    fn add(&mut self, name: &str, metric: f64, bytes: Option<u64>, seconds: f64) {
        if !self.rows.contains_key(name) {
            self.order.push(name.into());
        }
        self.rows.entry(name.into()).or_default().push((metric, bytes, seconds));
    }

    fn metrics(&self, name: &str) -> Vec<f64> {
        self.rows
            .get(name)
            .map_or(Vec::new(), |row| row.iter().map(|(metric, ..)| *metric).collect())
    }

    fn print(&self) {
        println!(
            "| | metric % | − dense | − narrow | − random | kB | smaller | s |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
        );
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let deviation = |values: &[f64]| {
            let centre = mean(values);
            (values.iter().map(|v| (v - centre).powi(2)).sum::<f64>()
                / (values.len() as f64 - 1.0).max(1.0))
            .sqrt()
        };
        let bytes = |name: &str| {
            mean(
                &self.rows[name]
                    .iter()
                    .filter_map(|(_, bytes, _)| bytes.map(|b| b as f64))
                    .collect::<Vec<_>>(),
            )
        };
        for name in &self.order {
            let own = self.metrics(name);
            let against = |other: &str| {
                let other = self.metrics(other);
                if other.len() != own.len() || other == own {
                    return String::new();
                }
                let differences: Vec<f64> = own.iter().zip(&other).map(|(a, b)| a - b).collect();
                format!(
                    "{:+.2} ± {:.2}",
                    mean(&differences),
                    deviation(&differences) / (differences.len() as f64).sqrt()
                )
            };
            let share = name.split(' ').next().unwrap_or_default();
            let seconds = mean(&self.rows[name].iter().map(|(.., s)| *s).collect::<Vec<_>>());
            println!(
                "| {name} | {:.2} ± {:.2} | {} | {} | {} | {:.2} | {:.1} | {seconds:.2} |",
                mean(&own),
                deviation(&own),
                against("dense"),
                if name.contains("narrow") {
                    String::new()
                } else {
                    against(&format!("{share} narrow"))
                },
                against(&format!("{share} random")),
                bytes(name) / 1e3,
                bytes("dense") / bytes(name),
            );
        }
    }
}
