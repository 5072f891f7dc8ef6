//! Distils a wide graph network into a narrow one and into a multi-layer perceptron, which then needs no graph.
//!
//! ```sh
//! cargo run --release --example distill
//! ```

use gnn_prune::nn::Cx;
use gnn_prune::train::evaluate;
use gnn_prune::{Adversarial, Dataset, Distiller, Error, Gcn, InputGradients, Mlp, Model, SoftLabels, Trainer};

fn main() -> Result<(), Error> {
    let data = Dataset::digits()?;
    let (features, classes, seed) = (data.num_features(), data.num_classes(), 0);
    let test = data.split(seed).test;
    let show = |name: &str, model: &Model| -> Result<(), Error> {
        let accuracy = evaluate(model, &data, &test)?;
        println!("{name:46} {:5} parameters, {accuracy:.2} % of the test nodes right", model.num_params());
        Ok(())
    };

    // Student and teacher share the seed, and with it the split: a teacher that has seen other labels would pass them on.
    let teacher = Trainer::protocol().fit(Gcn::builder(features, classes).hidden(64).build(seed)?, &data)?;
    show("teacher, gcn of 64", &teacher)?;
    for (name, student) in [
        ("gcn of 16", Gcn::builder(features, classes).hidden(16).build(seed)?),
        ("mlp of 64", Mlp::builder(features, classes).hidden(64).build(seed)?),
    ] {
        show(&format!("{name}, from the labels alone"), &Trainer::protocol().fit(student.clone(), &data)?)?;
        let soft = || Distiller::builder(SoftLabels::default());
        for (how, distiller) in [
            ("distilled", soft()),
            ("distilled, with input gradients", soft().also(0.1, InputGradients::new())),
            ("distilled, with a discriminator", soft().also(0.1, Adversarial::builder().build()?)),
        ] {
            show(&format!("{name}, {how}"), &distiller.build()?.distill(student.clone(), &teacher, &data)?)?;
        }
    }

    let mlp = Mlp::builder(features, classes).hidden(64).build(seed)?;
    let mlp = Distiller::builder(SoftLabels::default()).build()?.distill(mlp, &teacher, &data)?;
    let logits = mlp.infer(&Cx::without_graph(), data.features())?;
    println!("the multi-layer perceptron gives {:?} logits without a graph", logits.dim());
    Ok(())
}
