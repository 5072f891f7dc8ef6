//! Quantised classifiers of graphs with every stage on integers, beside the forms that are served:
//! each model on the fold that its seed tests.
//!
//! ```sh
//! gnn-prune compress MUTAG --channels 0.75 --finetune 100 --bits 8 --seeds 30 --work work
//! cargo run --release --example graph_integers MUTAG work/gnn-prune-seed*-3.safetensors
//! ```

use gnn_prune::data::GraphSet;
use gnn_prune::quant::Forms;
use gnn_prune::report::{Difference, Summary};
use gnn_prune::task::{Part, measure};
use gnn_prune::{Error, GraphTask, QuantModel};

fn main() -> Result<(), Error> {
    let mut words = std::env::args().skip(1);
    let data = words.next().expect("graphs, and files of quantised models");
    let task = GraphTask::builder(&GraphSet::read(data)?).build()?;
    let mut scores = [Vec::new(), Vec::new()];
    for path in words {
        let model = QuantModel::load(&path)?;
        let of = |forms| {
            let measured = measure(&task, Part::Test, model.seed(), |batch| {
                let (graph, x, rows) = (batch.graph(), batch.features(), batch.spaces());
                Ok(model.compile_within_as(graph, x, rows, forms)?.run(x)?.to_owned())
            });
            measured.map(|measured| measured.value)
        };
        let [served, integers] = [of(Forms::Fastest)?, of(Forms::Integers)?];
        println!("seed {}: served {served:.2} %, on integers {integers:.2} %", model.seed());
        scores[0].push(served);
        scores[1].push(integers);
    }
    let [served, integers] = scores.map(Summary::of);
    let apart = Difference::between(&integers, &served);
    println!(
        "served {:.2} ± {:.2}, on integers {:.2} ± {:.2} over {} models; integers over served {:+.2} ± {:.2} (standard error)",
        served.mean,
        served.std,
        integers.mean,
        integers.std,
        apart.pairs,
        apart.mean,
        apart.standard_error.unwrap_or(f64::NAN)
    );
    Ok(())
}
