//! The whole way down to integers, with a step of one's own; then the same stages from a recipe.
//!
//! ```sh
//! cargo run --release --example compress
//! ```

use gnn_prune::graph::EdgeMask;
use gnn_prune::pipeline::{Control, Distill, Env, Student, Subject};
use gnn_prune::{
    Bits, ChannelPruner, Compressed, Compression, Dataset, Error, Gcn, Magnitude, Quantizer,
    Recipe, Report, Step, Trainer,
};

/// Keeps the first in-neighbours of every node and no more: a step that changes the graph and not
/// the model.
struct FewNeighbours {
    most: usize,
}

impl Step for FewNeighbours {
    fn name(&self) -> String {
        format!("neighbours {}", self.most)
    }

    fn run(&self, subject: Subject, _: &Env) -> Result<Subject, Error> {
        let mut taken = vec![0; subject.graph().num_nodes()];
        let keep = EdgeMask::from_fn(subject.graph(), |edge| {
            taken[edge.target] += 1;
            taken[edge.target] <= self.most
        });
        // What stays keeps its weight, features and type.
        let graph = subject.graph().retain(&keep)?;
        Ok(subject.with_graph(graph))
    }

    /// The first neighbours are no choice.
    fn control(&self) -> Control {
        Control::ChoosesNothing
    }
}

/// Stages as data; a file is read by `Recipe::read`, and by `gnn-prune compress --recipe`.
const RECIPE: &str = r#"
[[stage]]
channels = 0.75

[[stage]]
distill = "self"

[[stage]]
bits = 8
"#;

fn show(report: &Report) {
    for row in &report.rows {
        let (account, accuracy) = (&row.account, row.accuracy.mean);
        println!(
            "{:15} {:6} bytes of weights, {:9} MACs, {:6} edges, {accuracy:.2} %",
            row.name, account.bytes.weights, account.macs, account.edges
        );
    }
    println!();
}

fn main() -> Result<(), Error> {
    let data = Dataset::digits()?;
    let model =
        Gcn::builder(data.num_features(), data.num_classes()).hidden(64).layers(2).build(0)?;
    let model = Trainer::protocol().fit(model, &data)?;

    let outcome = Compression::of(model.clone(), &data)
        .step(FewNeighbours { most: 8 })
        .step(ChannelPruner::builder(Magnitude::l2()).ratio(0.75).build()?)
        .step(Distill::into(Student::Itself))
        .quantize(Quantizer::builder(Bits::Eight).build()?)
        .run()?;
    show(&outcome.report);

    let recipe: Recipe = RECIPE.parse()?;
    println!("{}", recipe.words().join(", "));
    let outcome = recipe.run(Compression::of(model, &data))?;
    show(&outcome.report);
    if let Compressed::Integer(model) = &outcome.model {
        print!("{model}");
    }
    Ok(())
}
