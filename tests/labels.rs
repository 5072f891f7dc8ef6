//! Labels of test nodes are read where a model is judged, and nowhere else: with all of them wrong,
//! whatever is trained, chosen, healed, calibrated or saved has the same bits. And what is not
//! trained on has no part in a loss.

use gnn_prune::data::Splits;
use gnn_prune::pipeline::{Distill, Student};
use gnn_prune::{
    Ablation, Adversarial, Bits, ChannelPruner, Compression, Controls, Cosine, Criterion, Dataset,
    DistillLoss, Distiller, FineTune, Gcn, InputGradients, LayerPruner, Model, Nodes, OneShot,
    Quantizer, Random, Sage, SoftLabels, Split, Subset, Taylor, Trainer, WeightPruner,
};
use std::sync::Arc;

const EPOCHS: usize = 12;
const CLASSES: usize = 3;

fn data() -> Dataset {
    Dataset::open("sbm:nodes=300,classes=3,degree=8,seed=1", None).unwrap()
}

/// The same graph and nodes, with the labels of `nodes` turned into others.
fn with_wrong_labels(data: &Dataset, split: &Split, nodes: &[u32]) -> Dataset {
    let mut labels = data.classes().unwrap().to_vec();
    nodes.iter().for_each(|&node| {
        labels[node as usize] = (labels[node as usize] + 1 + node % 2) % CLASSES as u32
    });
    let splits = Splits::Fixed(split.clone());
    Dataset::new(
        data.name(),
        data.graph().clone(),
        data.features().to_owned(),
        labels,
        Some(CLASSES),
        splits,
    )
    .unwrap()
}

/// The honest data, and those in which every node has a wrong label that is neither trained on nor
/// validated on.
fn pair() -> [Dataset; 2] {
    let data = data();
    let split = data.split(0);
    let seen: Vec<u32> = split.train.iter().chain(&split.val).copied().collect();
    let others: Vec<u32> =
        (0..data.num_nodes() as u32).filter(|node| !seen.contains(node)).collect();
    assert!(others.len() > 100);
    [with_wrong_labels(&data, &split, &[]), with_wrong_labels(&data, &split, &others)]
}

fn bits(model: &Model) -> Vec<u32> {
    let mut bits = Vec::new();
    model.visit(&mut |_, param| bits.extend(param.value().iter().map(|w| w.to_bits())));
    bits
}

fn trained(data: &Dataset) -> Model {
    let form = Gcn::builder(data.num_features(), CLASSES)
        .hidden(8)
        .layers(4)
        .residual(true)
        .build(0)
        .unwrap();
    Trainer::builder().epochs(EPOCHS).build().unwrap().fit(form, data).unwrap()
}

/// Runs `work` on both and compares what it gives.
fn assert_blind<R: PartialEq>(what: &str, work: impl Fn(&Dataset) -> R) {
    let [honest, wrong] = pair();
    assert!(work(&honest) == work(&wrong), "{what} looks at labels of test nodes");
}

#[test]
fn training_and_fine_tuning_look_at_no_test_label() {
    assert_blind("training", |data| bits(&trained(data)));
    assert_blind("training with the protocol", |data| {
        let form = Sage::builder(data.num_features(), CLASSES).hidden(8).build(3).unwrap();
        bits(&Trainer::protocol().fit(form, data).unwrap())
    });
    assert_blind("fine-tuning", |data| {
        let compression = Compression::of(trained(data), data)
            .step(ChannelPruner::builder(Random::new()).ratio(0.5).build().unwrap());
        bits(
            &compression
                .step(FineTune::epochs(EPOCHS))
                .controls(Controls::None)
                .run()
                .unwrap()
                .model,
        )
    });
}

#[test]
fn what_chooses_looks_at_no_test_label() {
    assert_blind("Taylor", |data| {
        bits(
            &ChannelPruner::builder(Taylor::new())
                .ratio(0.5)
                .build()
                .unwrap()
                .prune(&trained(data), data)
                .unwrap(),
        )
    });
    assert_blind("subset", |data| {
        bits(
            &ChannelPruner::builder(Subset::new())
                .ratio(0.5)
                .build()
                .unwrap()
                .prune(&trained(data), data)
                .unwrap(),
        )
    });
    assert_blind("truncation", |data| {
        bits(
            &WeightPruner::builder()
                .sparsity(0.8)
                .build()
                .unwrap()
                .prune(&trained(data), data)
                .unwrap(),
        )
    });
    let both: [Arc<dyn Criterion<f32>>; 2] = [Arc::new(Ablation::new()), Arc::new(Cosine::new())];
    for criterion in both {
        assert_blind("the choice of layers", |data| {
            let pruner = LayerPruner::builder(criterion.clone()).remove(1).build().unwrap();
            let model = trained(data);
            bits(&pruner.plan(&model, data).unwrap().shrink(&model).unwrap())
        });
    }
    assert_blind("the saved seed", |data| {
        let form = Gcn::builder(data.num_features(), CLASSES).hidden(4).build(0).unwrap();
        let trainer = Trainer::builder().epochs(EPOCHS).build().unwrap();
        let outcome = Compression::train(form, trainer, 4, data)
            .unwrap()
            .controls(Controls::None)
            .run()
            .unwrap();
        (outcome.model.seed(), bits(&outcome.model))
    });
}

#[test]
fn what_heals_and_calibrates_looks_at_no_test_label() {
    fn distilled(data: &Dataset, loss: impl DistillLoss<f32> + 'static, labels: f64) -> Vec<u32> {
        let student = Gcn::builder(data.num_features(), CLASSES).hidden(4).build(1).unwrap();
        let distiller = Distiller::builder(loss).labels(labels).epochs(EPOCHS).build().unwrap();
        bits(&distiller.distill(student, &trained(data), data).unwrap())
    }
    assert_blind("soft labels", |data| distilled(data, SoftLabels::new(2.0).unwrap(), 0.5));
    assert_blind("input gradients", |data| distilled(data, InputGradients::new(), 0.5));
    assert_blind("a discriminator", |data| {
        distilled(data, Adversarial::builder().build().unwrap(), 0.5)
    });
    assert_blind("soft labels of all nodes", |data| {
        let student = Gcn::builder(data.num_features(), CLASSES).hidden(4).build(1).unwrap();
        let builder =
            Distiller::builder(SoftLabels::new(1.0).unwrap()).labels(0.3).nodes(Nodes::All);
        bits(
            &builder
                .epochs(EPOCHS)
                .build()
                .unwrap()
                .distill(student, &trained(data), data)
                .unwrap(),
        )
    });
    assert_blind("healing", |data| {
        let compression = Compression::of(trained(data), data)
            .step(WeightPruner::builder().sparsity(0.8).build().unwrap());
        bits(
            &compression
                .step(Distill::into(Student::Itself))
                .controls(Controls::None)
                .run()
                .unwrap()
                .model,
        )
    });
    for bits_of in [Bits::Eight, Bits::Four, Bits::Two] {
        for epochs in [0, EPOCHS] {
            assert_blind("quantisation", |data| {
                let model = Gcn::builder(data.num_features(), CLASSES).hidden(8).build(0).unwrap();
                let model =
                    Trainer::builder().epochs(EPOCHS).build().unwrap().fit(model, data).unwrap();
                Quantizer::builder(bits_of)
                    .qat(epochs)
                    .build()
                    .unwrap()
                    .quantize(&model, data)
                    .unwrap()
                    .to_bytes()
                    .unwrap()
            });
        }
    }
    assert_blind("one shot", |data| {
        let small = OneShot::builder()
            .channels(0.5)
            .weights(0.5)
            .build()
            .unwrap()
            .compress(&trained(data), data)
            .unwrap();
        small.to_bytes().unwrap()
    });
}

/// Not even validation labels are trained on: where every epoch is run, they decide only which one
/// is kept.
#[test]
fn the_loss_reads_training_nodes_alone() {
    let data = data();
    let split = data.split(0);
    let wrong = with_wrong_labels(&data, &split, &split.val);
    let losses = |data: &Dataset| {
        let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let to = heard.clone();
        let trainer = Trainer::builder()
            .epochs(EPOCHS)
            .patience(EPOCHS)
            .on_epoch(move |epoch| to.lock().unwrap().push(epoch.loss.to_bits()));
        let form = Gcn::builder(data.num_features(), CLASSES).hidden(8).build(0).unwrap();
        trainer.build().unwrap().fit(form, data).unwrap();
        heard.lock().unwrap().clone()
    };
    let [honest, wrong] = [with_wrong_labels(&data, &split, &[]), wrong].map(|data| losses(&data));
    assert!(
        honest.len() == EPOCHS && honest == wrong,
        "validation labels change the losses of training"
    );
    let one_wrong = losses(&with_wrong_labels(&data, &split, &split.train[..1]));
    assert!(one_wrong != honest, "labels of training nodes are in the loss");
}
