//! GraphSAGE on a graph that is too large for whole-graph training: neighbours are sampled, and the
//! whole graph is seen when it is judged.
//!
//! ```text
//! cargo run --release --example minibatch -- [nodes] [edges] [epochs] [sampler]
//! cargo run --release --example minibatch -- 1000000 30000000 3
//! ```
//!
//! A sampler is one of `neighbors` (15 and 10 of each node's), `walks`, `edges`, `clusters`, or
//! `whole` for whole-graph training.

use gnn_prune::data::PowerLaw;
use gnn_prune::task::{Part, Sampler, evaluate};
use gnn_prune::train::{Epoch, Setup};
use gnn_prune::{Dataset, Error, NodeTask, Result, Sage, Task, Trainer};
use std::sync::Mutex;
use std::time::Instant;

/// The largest resident memory of this process so far, where the system says.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kilobytes.map_or("unknown".into(), |k| format!("{:.2} GB", k / 1024.0 / 1024.0))
}

/// The task with the batches that were asked for.
fn task_of(data: &Dataset, sampler: &str) -> Result<Box<dyn Task<f32>>> {
    let nodes = data.num_nodes();
    let sampler = match sampler {
        "neighbors" => Sampler::neighbors([15, 10]),
        "walks" => Sampler::walks((nodes / 60).max(1), 2).coverage(10),
        "edges" => Sampler::edges((nodes / 40).max(1)).coverage(10),
        "clusters" => Sampler::clusters((nodes / 500).max(1), 10.min(nodes / 500).max(1)),
        "whole" => return Ok(Box::new(NodeTask::of(data))),
        _ => {
            let legal = "neighbors, walks, edges, clusters or whole";
            return Err(Error::Other(format!("sampler is {sampler}, it must be {legal}")));
        }
    };
    println!("batches: {sampler}");
    Ok(Box::new(sampler.over(data)?))
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |k: usize, usual: usize| match words.get(k) {
        None => Ok(usual),
        Some(word) => word.parse().map_err(|_| Error::Other(format!("{word} is no number"))),
    };
    let (nodes, edges, epochs) = (number(0, 20_000)?, number(1, 400_000)?, number(2, 5)?);
    let classes = 10;
    // Half of the nodes train, a tenth validates.
    let (train, val) = (nodes / classes / 2, nodes / classes / 10);
    let started = Instant::now();
    let data = PowerLaw::builder(nodes, edges)
        .classes(classes)
        .features(32)
        .signal(0.5)
        .per_class(train, val)
        .build()?;
    println!(
        "{} nodes, {} edges, drawn in {:.1} s; peak memory {}",
        data.num_nodes(),
        data.graph().num_edges(),
        started.elapsed().as_secs_f64(),
        peak_memory()
    );
    let task = task_of(&data, words.get(3).map_or("neighbors", String::as_str))?;
    let started = Instant::now();
    let steps = task.batches(Part::Train, 0)?.epoch(1).count();
    println!("{steps} batches, made in {:.2} s", started.elapsed().as_secs_f64());

    let model = Sage::builder(data.num_features(), classes).hidden(64).layers(2).build(0)?;
    let last = Mutex::new(Instant::now());
    let told = |at: Epoch| {
        let started = std::mem::replace(&mut *last.lock().expect("one epoch"), Instant::now());
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "epoch {}: loss {:.4}, validation {:.2}, {seconds:.2} s, peak memory {}",
            at.epoch,
            at.loss,
            at.validation,
            peak_memory()
        );
        Ok(())
    };
    let trainer = Trainer::builder().epochs(epochs).weight_decay(0.0).build()?;
    let fit = trainer.fit_with(model, &*task, Setup::new().on_epoch(&told))?;
    let started = Instant::now();
    let accuracy = evaluate(&fit.model, &*task, Part::Test)?;
    println!(
        "test accuracy {accuracy:.2}, on the whole graph in {:.2} s; peak memory {}",
        started.elapsed().as_secs_f64(),
        peak_memory()
    );
    Ok(())
}
