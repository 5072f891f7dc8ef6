//! What training takes, and two ways to take less: channels that go while the network trains, and
//! maps that are kept in 8 bits until backward.
//!
//! `cargo run --release --example cheaper_training [DATA]`

use gnn_prune::nn::Memory;
use gnn_prune::report::{CountingAllocator, Effort, Meter};
use gnn_prune::task::{Part, evaluate};
use gnn_prune::train::Setup;
use gnn_prune::{ChannelPruner, Dataset, EarlyBird, Gcn, Model, Result, Subset, Trainer};

/// By it the meter knows the most memory.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn main() -> Result<()> {
    let word = std::env::args().nth(1).unwrap_or_else(|| "digits".into());
    let data = Dataset::open(&word, None)?;
    let form = Gcn::builder(data.num_features(), data.num_classes()).hidden(256).build(0)?;
    let trainer = Trainer::builder().epochs(100);

    let meter = Meter::start();
    let dense = trainer.clone().build()?.fit(form.clone(), &data)?;
    show("dense", &dense, &data, meter.stop())?;

    let pruner = ChannelPruner::builder(Subset::new()).ratio(0.9).build()?;
    let bird = EarlyBird::builder(pruner).build()?;
    let (meter, mut watch) = (Meter::start(), bird.watch(&data));
    let setup = Setup::new().observer(&mut watch);
    let early = trainer.clone().build()?.fit_with(form.clone(), &data, setup)?.model;
    show("early bird", &early, &data, meter.stop())?;
    if let Some(pruned) = watch.pruned() {
        println!("  its channels went after epoch {}", pruned.epoch);
    }

    let meter = Meter::start();
    let packed = trainer.memory(Memory::EightBits).build()?.fit(form, &data)?;
    show("maps in 8 bits", &packed, &data, meter.stop())
}

fn show(name: &str, model: &Model, data: &Dataset, effort: Effort) -> Result<()> {
    println!(
        "{name:15} {:6.2} %  {:8} parameters  {:8.3} GMACs  {:6.2} s  {:6.1} MB",
        evaluate(model, data, Part::Test)?,
        model.num_params(),
        effort.macs as f64 / 1e9,
        effort.seconds,
        effort.peak_bytes.unwrap_or(0) as f64 / 1e6,
    );
    Ok(())
}
