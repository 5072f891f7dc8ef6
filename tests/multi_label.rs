//! Nodes that have several labels each, through training and compression.

use gnn_prune::data::Splits;
use gnn_prune::task::{Metric, Part, Task, evaluate};
use gnn_prune::{
    Bits, ChannelPruner, Compression, Controls, Dataset, Distiller, FineTune, Gcn, Magnitude,
    Quantizer, SoftLabels, Split, Trainer,
};
use ndarray::Array2;

/// Three labels that the planted class decides, one class having all and one none.
fn data() -> Dataset {
    let planted = Dataset::sbm(600, 4).seed(3).build().unwrap();
    let has = |node: usize, label: usize| planted.classes().unwrap()[node] as usize > label;
    let labels = Array2::from_shape_fn((600, 3), |(node, label)| has(node, label));
    let part = |k: u32| (0..600).filter(|i| i % 3 == k).collect();
    let split = Split { train: part(0), val: part(1), test: part(2) };
    let features = planted.features().to_dense();
    Dataset::multi_label(
        "several",
        planted.graph().clone(),
        features.into(),
        labels,
        Splits::Fixed(split),
    )
    .unwrap()
}

#[test]
fn several_labels_are_learned_pruned_and_quantised() {
    let data = data();
    let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0).unwrap();
    let model = Trainer::builder().epochs(40).build().unwrap().fit(model, &data).unwrap();
    let dense = evaluate(&model, &data, Part::Test).unwrap();
    assert!(data.metric() == Metric::ROC_AUC && dense > 90.0, "{dense}");
    let out = Compression::of(model, &data)
        .step(ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build().unwrap())
        .step(FineTune::epochs(5))
        .quantize(Quantizer::builder(Bits::Eight).build().unwrap())
        .controls(Controls::None)
        .run()
        .unwrap();
    let last = out.report.rows.last().unwrap();
    assert!(last.accuracy.mean > dense - 3.0, "{} after {dense}", last.accuracy.mean);
}

#[test]
fn what_is_built_for_one_class_a_node_refuses_several_labels() {
    let data = data();
    let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0).unwrap();
    let distiller = Distiller::builder(SoftLabels::new(1.0).unwrap()).build().unwrap();
    let message = distiller.distill(model.clone(), &model, &data).unwrap_err().to_string();
    assert!(message.contains("distillation is built for one class per node"), "{message}");
    let labels = Array2::from_elem((600, 3), true);
    let drawn = Dataset::multi_label(
        "several",
        data.graph().clone(),
        data.features().to_dense().into(),
        labels,
        Splits::default(),
    );
    assert!(drawn.unwrap_err().to_string().contains("give masks"));
}
