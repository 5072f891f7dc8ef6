//! Distils a wide graph network into a narrow one and into a multi-layer perceptron, which then
//! needs no graph.
//!
//! ```sh
//! cargo run --release --example distill
//! cargo run --release --example distill -- cora.npz 10     # a file, scaled by row sums; ten seeds
//! ```

use gnn_prune::data::FeatureNorm;
use gnn_prune::nn::Cx;
use gnn_prune::task::{Part, evaluate};
use gnn_prune::{
    Adversarial, Dataset, Distiller, Error, Gcn, InputGradients, Mlp, Model, SoftLabels, Trainer,
};

fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let data = match args.next() {
        Some(file) => Dataset::open(&file, Some(FeatureNorm::L1))?,
        None => Dataset::digits()?,
    };
    let seeds = args.next().and_then(|count| count.parse().ok()).unwrap_or(1);
    let mut rows: Vec<(String, usize, Vec<f64>)> = Vec::new();
    for seed in 0..seeds {
        for (k, (name, model)) in all_ways(&data, seed)?.into_iter().enumerate() {
            let accuracy = evaluate(&model, &data, Part::Test)?;
            match rows.get_mut(k) {
                Some(row) => row.2.push(accuracy),
                None => rows.push((name, model.num_params(), vec![accuracy])),
            }
        }
    }
    for (name, params, accuracies) in rows {
        let count = accuracies.len() as f64;
        let mean = accuracies.iter().sum::<f64>() / count;
        let deviation = (accuracies.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / count).sqrt();
        println!(
            "{name:46} {params:6} parameters, {mean:.2} ± {deviation:.2} % of the test nodes right"
        );
    }

    let mlp = Mlp::builder(data.num_features(), data.num_classes()).hidden(64).build(0)?;
    let logits = mlp.infer(&Cx::without_graph(), data.features())?;
    println!("a multi-layer perceptron gives {:?} logits without a graph", logits.dim());
    Ok(())
}

/// The teacher, and each student by labels alone, by soft labels, and by soft labels with one more
/// loss.
fn all_ways(data: &Dataset, seed: u64) -> Result<Vec<(String, Model)>, Error> {
    let (features, classes) = (data.num_features(), data.num_classes());
    // Student and teacher share the seed, and with it the split: a teacher that has seen other
    // labels would pass them on.
    let teacher =
        Trainer::protocol().fit(Gcn::builder(features, classes).hidden(64).build(seed)?, data)?;
    let mut models = vec![("teacher, gcn of 64".to_string(), teacher.clone())];
    for (name, student) in [
        ("gcn of 16", Gcn::builder(features, classes).hidden(16).build(seed)?),
        ("mlp of 64", Mlp::builder(features, classes).hidden(64).build(seed)?),
    ] {
        models.push((
            format!("{name}, from the labels alone"),
            Trainer::protocol().fit(student.clone(), data)?,
        ));
        let soft = || Distiller::builder(SoftLabels::default());
        for (how, distiller) in [
            ("distilled", soft()),
            ("distilled, with input gradients", soft().also(0.01, InputGradients::new())),
            ("distilled, with a discriminator", soft().also(0.1, Adversarial::builder().build()?)),
        ] {
            models.push((
                format!("{name}, {how}"),
                distiller.build()?.distill(student.clone(), &teacher, data)?,
            ));
        }
    }
    Ok(models)
}
