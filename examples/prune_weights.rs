//! Truncates 90 % of a trained network's weights, trains on under the mask, and compares file, work
//! and time.
//!
//! ```sh
//! cargo run --release --example prune_weights [cora.npz]
//! ```

use gnn_prune::report::Account;
use gnn_prune::task::{Part, evaluate};
use gnn_prune::{Dataset, Error, FeatureNorm, Gcn, Scope, Trainer, WeightPruner};

fn main() -> Result<(), Error> {
    let data = match std::env::args().nth(1) {
        Some(path) => Dataset::reader(path).features(FeatureNorm::L1).read()?,
        None => Dataset::digits()?,
    };
    for seed in 0..2 {
        let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(64).build(seed)?;
        let model = Trainer::protocol().fit(model, &data)?;
        let show = |name: &str, model: &gnn_prune::Model| -> Result<(), Error> {
            let account = Account::of(model, &data, 2)?;
            let (accuracy, bytes) = (evaluate(model, &data, Part::Test)?, account.bytes.weights);
            let ms = account.latency_ms.threads_1.min;
            println!(
                "{name:22} {accuracy:.2} %, {:6} weights not zero, {bytes:7} bytes, {:9} MACs, {ms:.3} ms",
                account.nonzero_params, account.macs
            );
            Ok(())
        };
        println!("seed {seed}");
        show("dense", &model)?;
        for (name, scope) in [("global", Scope::Global), ("layer", Scope::Layer)] {
            // A plan is a value: print it, keep it as JSON, apply it to any model of that form.
            let plan = WeightPruner::builder().sparsity(0.9).scope(scope).build()?.plan(&model)?;
            print!("{plan}");
            let sparse = plan.apply(&model)?;
            show(&format!("{name} 0.9"), &sparse)?;
            let tuned =
                Trainer::builder().epochs(50).keep_start(true).build()?.fit(sparse, &data)?;
            show(&format!("{name} 0.9, finetune 50"), &tuned)?;
        }
    }
    Ok(())
}
