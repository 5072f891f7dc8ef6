//! Takes half of the layers out of a deep residual network, trains on, and compares accuracy and
//! time.
//!
//! ```sh
//! cargo run --release --example prune_layers [cora.npz]
//! ```

use gnn_prune::report::Account;
use gnn_prune::task::{Part, evaluate};
use gnn_prune::{
    Ablation, Cosine, Dataset, Error, FeatureNorm, Gcn, LayerPruner, Trainer, prune::Criterion,
};
use std::sync::Arc;

fn main() -> Result<(), Error> {
    let data = match std::env::args().nth(1) {
        Some(path) => Dataset::reader(path).features(FeatureNorm::L1).read()?,
        None => Dataset::digits()?,
    };
    for seed in 0..2 {
        let model = Gcn::builder(data.num_features(), data.num_classes())
            .hidden(64)
            .layers(16)
            .residual(true)
            .build(seed)?;
        let model = Trainer::protocol().fit(model, &data)?;
        let show = |name: &str, model: &gnn_prune::Model| -> Result<(), Error> {
            let account = Account::of(model, &data, 2)?;
            let (one, all) = (account.latency_ms.threads_1.min, account.latency_ms.threads_all.min);
            println!(
                "{name:25} {:.2} %, {:9} MACs, {one:.3} ms on one thread, {all:.3} ms on two",
                evaluate(model, &data, Part::Test)?,
                account.macs
            );
            Ok(())
        };
        println!("seed {seed}");
        show("dense", &model)?;
        for criterion in both() {
            for remove in [8, 12] {
                let plan = LayerPruner::builder(criterion.clone())
                    .remove(remove)
                    .build()?
                    .plan(&model, &data)?;
                print!("{plan}");
                let shallow = plan.shrink(&model)?;
                show(&format!("{} {remove}", criterion.name()), &shallow)?;
                let tuned =
                    Trainer::builder().epochs(50).keep_start(true).build()?.fit(shallow, &data)?;
                show(&format!("{} {remove}, finetune 50", criterion.name()), &tuned)?;
            }
        }
    }
    Ok(())
}

fn both() -> [Arc<dyn Criterion<f32>>; 2] {
    [Arc::new(Ablation::new()), Arc::new(Cosine::new())]
}
