//! Cross-validation of a graph isomorphism network by two protocols, and of a network that does not
//! read edges: on a text file or a folder of graphs, or on cycles and trees with noise.
//!
//! ```sh
//! cargo run --release --example graph_classification [MUTAG.txt] [epochs] [iterations] [gin|free]
//! ```
//!
//! Settings are those of Xu et al. 2019 for molecules and proteins: 4 layers of width 32, batches
//! of 32 graphs, dropout 0.5, Adam at 0.01 halved every 50 epochs, no weight decay. An epoch is one
//! pass over the graphs that train, or as many batches as are asked for; the paper has 350 epochs
//! of 50.

use gnn_prune::data::GraphSet;
use gnn_prune::train::{CrossValidation, Schedule};
use gnn_prune::{Error, GinGraphs, GraphTask, Model, StructureFree, Trainer};
use std::time::Instant;

fn main() -> Result<(), Error> {
    let mut words = std::env::args().skip(1);
    let set = match words.next() {
        Some(path) => GraphSet::read(path)?,
        None => GraphSet::cycles_or_trees(200, 0.3, 0)?,
    };
    let number = |word: Option<String>| word.map(|word| word.parse().expect("a whole number"));
    let epochs = number(words.next()).unwrap_or(100);
    let iterations = number(words.next()).filter(|count| *count > 0);
    let only = words.next();
    let mut sizes = vec![0; set.num_classes()];
    set.labels().iter().for_each(|&label| sizes[label as usize] += 1);
    println!(
        "{}: {} graphs, {} nodes, {} features, graphs by class {sizes:?}",
        set.name(),
        set.num_graphs(),
        set.num_nodes(),
        set.num_features()
    );
    let task = GraphTask::builder(&set).batch_size(32).iterations(iterations).build()?;
    let trainer = Trainer::builder()
        .epochs(epochs)
        .patience(epochs)
        .learning_rate(0.01)
        .weight_decay(0.0)
        .schedule(Schedule::Step { every: 50, factor: 0.5 })
        .build()?;
    let (features, classes) = (set.num_features(), set.num_classes());
    let gin = GinGraphs::builder(features, classes).hidden(32).layers(4).dropout(0.5).build(0)?;
    let free = StructureFree::builder(features, classes).hidden(32).build(0)?;
    let forms: [(&str, &str, Model); 2] =
        [("gin", "GIN-0", gin), ("free", "without structure", free)];
    for (word, name, form) in &forms {
        if only.as_ref().is_some_and(|only| only != word) {
            continue;
        }
        let start = Instant::now();
        for result in CrossValidation::both(form, &trainer, &task)? {
            println!("{name}, {} parameters: {result}", form.num_params());
            let scores: Vec<String> =
                result.folds.iter().map(|fold| format!("{:.1}", fold.score)).collect();
            println!("    by fold: {}", scores.join(" "));
        }
        println!("    {:.0} s", start.elapsed().as_secs_f64());
    }
    Ok(())
}
