//! Trains a graph network on the embedded digits, looks at a pruning plan before it acts, and
//! prunes the whole way with its controls.
//!
//! ```sh
//! cargo run --release --example prune_channels
//! ```

use gnn_prune::task::{Part, evaluate};
use gnn_prune::{
    Calibrate, ChannelPruner, Compression, Dataset, Error, FineTune, Gcn, Magnitude, Trainer,
};

fn main() -> Result<(), Error> {
    let data = Dataset::digits()?;
    let model =
        Gcn::builder(data.num_features(), data.num_classes()).hidden(64).layers(2).build(0)?;
    let model = Trainer::builder().epochs(200).build()?.fit(model, &data)?;

    // A plan is a value: print it, keep it as JSON, apply it to any model of that form.
    let pruner = ChannelPruner::builder(Magnitude::l2()).ratio(0.75).build()?;
    let plan = pruner.plan(&model, &data)?;
    print!("{plan}");

    // Masking keeps the shapes and shrinking does not; the outputs are the same. Refitting wins
    // back what the cut cost.
    let (masked, small, refitted) = (
        plan.mask(&model)?,
        plan.shrink(&model)?,
        plan.shrink_refitted(&model, &data, Calibrate::All)?,
    );
    for (name, model) in
        [("dense", &model), ("masked", &masked), ("shrunk", &small), ("refitted", &refitted)]
    {
        let (params, nonzero) = (model.num_params(), model.num_nonzero_params());
        println!(
            "{name:8} {params:5} parameters, {nonzero:5} not zero, {:.2} % of the test nodes right",
            evaluate(model, &data, Part::Test)?
        );
    }

    // The same in one go: a row per step, then what pruning has to beat.
    let outcome = Compression::of(model, &data).step(pruner).step(FineTune::epochs(50)).run()?;
    println!();
    for row in &outcome.report.rows {
        println!(
            "{:15} {:5} parameters, {:9} MACs, {:.2} %",
            row.name, row.account.params, row.account.macs, row.accuracy.mean
        );
    }
    Ok(())
}
