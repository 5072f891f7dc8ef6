//! A social network: learnt by samples, made smaller, and asked about people who come later.
//!
//! ```sh
//! cargo run --release --example social
//! ```
//!
//! 4,000 people of five circles; most of whom one knows are of one's own.

use gnn_prune::ndarray::Array2;
use gnn_prune::task::{Part, Sampler, evaluate};
use gnn_prune::{
    Bits, ChannelPruner, Compression, Controls, Dataset, Error, Graph, Magnitude, Quantizer, Sage,
    Trainer,
};

fn main() -> Result<(), Error> {
    let data = Dataset::sbm(4000, 5).degree(12.0).homophily(0.7).features(32).seed(1).build()?;
    let task = Sampler::neighbors([10, 10]).batch(64).over(&data)?;
    let model = Sage::builder(data.num_features(), data.num_classes()).hidden(64).build(0)?;
    let model = Trainer::builder().epochs(30).build()?.fit(model, &task)?;
    println!("learnt by samples: {:.2} %", evaluate(&model, &data, Part::Test)?);

    let outcome = Compression::of(model.clone(), &data)
        .step(ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build()?)
        .quantize(Quantizer::builder(Bits::Eight).build()?)
        .controls(Controls::None)
        .run()?;
    for row in &outcome.report.rows {
        let account = &row.account;
        println!(
            "{:14} {:.2} %, {} bytes, {} MACs",
            row.name, row.accuracy.mean, account.bytes.weights, account.macs
        );
    }

    // Somebody joins, who knows three people of the circle of person 0.
    let classes = data.classes().expect("everybody has a circle");
    let circle: Vec<usize> = (0..4000).filter(|&k| classes[k] == classes[0]).take(3).collect();
    let edges = circle.iter().flat_map(|&friend| [(friend, 4000), (4000, friend)]);
    let added = Graph::builder(4001).edges(edges).build()?;
    let graph = data.graph().with_nodes(1)?.with_edges(&added)?;
    let features = data.features().to_dense();
    let mean = circle.iter().fold(Array2::<f32>::zeros((1, features.ncols())), |mean, &friend| {
        mean + &features.row(friend).insert_axis(gnn_prune::ndarray::Axis(0)) / 3.0
    });
    let grown = data.with_new_nodes(graph, mean.into())?;
    let logits = model.infer_nodes(&grown, &[4000])?;
    let best = (0..data.num_classes()).max_by(|&a, &b| logits[[0, a]].total_cmp(&logits[[0, b]]));
    println!("who came later is of circle {:?}, the three are of {}", best, classes[0]);
    Ok(())
}
