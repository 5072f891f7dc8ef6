//! Files that are well formed and mean something absurd are refused, or do no harm: each case is
//! one that once did.

use gnn_prune::files::{Array, Tensors};
use gnn_prune::io::pyg::{export, layer_from};
use gnn_prune::ndarray::Array2;
use gnn_prune::nn::{Attrs, Cx, Linear, ModelBuilder, NodeId, Registry, Shapes};
use gnn_prune::{ChannelPlan, ChannelPruner, Dataset, Graph, Magnitude, Model, Value};
use serde_json::{Value as Json, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A file that is removed at the end.
struct File(PathBuf);

impl File {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "gnn-prune-hostile-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A model file with the parts of a header that matter here, and no tensors.
fn load(in_channels: u64, nodes: Json) -> gnn_prune::Result<Model> {
    let output = nodes.as_array().unwrap().len();
    let header = json!({ "format": 2, "in_channels": in_channels, "masked": {}, "nodes": nodes, "origin": null, "output": output, "seed": 0 });
    let outer = json!({ "__metadata__": { "gnn_prune": header.to_string() } }).to_string();
    let mut bytes = (outer.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(outer.as_bytes());
    let file = File::new();
    std::fs::write(&file.0, bytes).unwrap();
    Model::load(&file.0)
}

fn concat(inputs: Vec<usize>, number: usize) -> Json {
    json!({ "attrs": {}, "inputs": inputs, "kind": "concat", "name": format!("c{number}") })
}

#[test]
fn joins_of_more_channels_than_can_be_are_refused() {
    let plain = load(3, json!([concat(vec![0, 0], 0)])).unwrap();
    assert_eq!(plain.out_channels(), 6);
    for (channels, nodes) in [
        (1 << 63, vec![concat(vec![0, 0], 0)]),
        (1, (0..12).map(|k| concat(vec![k; 60], k)).collect()),
        (1 << 20, vec![concat(vec![0; 17], 0)]),
    ] {
        let message = load(channels, nodes.into()).unwrap_err().to_string();
        assert!(message.contains("joins its inputs to more than 16777216 channels"), "{message}");
    }
}

#[test]
fn columns_of_edge_features_that_no_edge_has_are_an_error_of_shape() {
    let mut b = ModelBuilder::<f32>::new(2);
    let attrs = Attrs::new().with("columns", [usize::MAX, 0]);
    let layer =
        Registry::<f32>::standard().load("gine_aggregation", &attrs, &Shapes::default()).unwrap();
    let node = b.add_boxed("middle", layer, &[NodeId::INPUT]).unwrap();
    let model = b.build(node, 0).unwrap();
    let graph =
        Graph::builder(2).edges([(0, 1)]).edge_features(Array2::zeros((1, 1))).build().unwrap();
    let message = model
        .infer(&Cx::eval(&graph), Value::from(Array2::zeros((2, 2))).view())
        .unwrap_err()
        .to_string();
    assert!(message.contains("edge features"), "{message}");
}

#[test]
fn a_layer_of_fewer_columns_than_channels_is_refused_when_it_is_pruned() {
    let mut b = ModelBuilder::<f32>::new(2);
    let before =
        b.add("before", Linear::builder(2, 5).build::<f32>().unwrap(), &[NodeId::INPUT]).unwrap();
    let attrs = Attrs::new().with("columns", [0, 1, 0]);
    let layer =
        Registry::<f32>::standard().load("gine_aggregation", &attrs, &Shapes::default()).unwrap();
    let middle = b.add_boxed("middle", layer, &[before]).unwrap();
    let out = b.add("out", Linear::builder(5, 2).build::<f32>().unwrap(), &[middle]).unwrap();
    let model = b.build(out, 0).unwrap();
    let data = Dataset::sbm(120, 2).features(2).build().unwrap();
    let pruner = ChannelPruner::builder(Magnitude::l2()).ratio(0.2).build().unwrap();
    let error =
        pruner.plan(&model, &data).and_then(|plan| plan.shrink(&model)).unwrap_err().to_string();
    assert!(error.contains("columns for 3 channels, and 5 come in"), "{error}");
}

#[test]
fn settings_of_one_layer_make_no_more_than_its_tensors_hold() {
    let mut tensors = Tensors::default();
    for (name, shape) in
        [("weight", vec![2, 3, 2]), ("comp", vec![1, 2]), ("root", vec![3, 2]), ("bias", vec![2])]
    {
        let values = vec![0.5; shape.iter().product()];
        tensors.floats.insert(name.into(), Array { shape, values });
    }
    for relations in [1u64 << 24, 1 << 31, (1 << 63) - 1] {
        let attrs = Attrs::new().with("relations", relations);
        let message =
            layer_from("rgcn_conv", &attrs, &tensors).map(|_| ()).unwrap_err().to_string();
        assert!(message.lines().count() == 1, "{message}");
    }
    assert!(layer_from("rgcn_conv", &Attrs::new().with("relations", 1), &tensors).is_ok());
}

#[test]
fn a_plan_with_more_losses_than_units_is_shown_and_not_a_panic() {
    let plan = json!({ "criterion": "x", "groups": [{ "name": "a", "units": 0, "kept": 0, "losses": [0.1, 0.2] }], "nodes": {} });
    let plan: ChannelPlan = serde_json::from_value(plan).unwrap();
    assert!(plan.to_string().contains("a: 0 -> 0 units"));
}

#[test]
fn names_that_are_none_in_python_are_not_written_into_a_program() {
    let named = |name: &str| {
        let mut b = ModelBuilder::<f32>::new(2);
        let node = b.add(name, Linear::builder(2, 2).build().unwrap(), &[NodeId::INPUT]).unwrap();
        b.build(node, 0).unwrap()
    };
    assert!(export(&named("conv_1"), "net.safetensors").is_ok());
    for name in ["a\nimport os", "1st", "a-b", "class", "forward", "é", " "] {
        let message = export(&named(name), "net.safetensors").map(|_| ()).unwrap_err().to_string();
        assert!(
            message.contains("cannot stand in a Python program") && message.lines().count() == 1,
            "{message}"
        );
    }
}

/// A file with one more tensor.
fn with_tensor(path: &std::path::Path, name: &str) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Json = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let end = bytes.len() - 8 - length;
    header[name] = json!({ "dtype": "F32", "shape": [1, 1], "data_offsets": [end, end + 4] });
    let header = header.to_string();
    let mut more = (header.len() as u64).to_le_bytes().to_vec();
    more.extend_from_slice(header.as_bytes());
    more.extend_from_slice(&bytes[8 + length..]);
    more.extend_from_slice(&1.0f32.to_le_bytes());
    more
}

#[test]
fn a_tensor_that_nobody_reads_is_refused_by_name() {
    let data = gnn_prune::Dataset::digits().unwrap();
    let model = gnn_prune::Gcn::builder(64, 10).hidden(4).build(0).unwrap();
    let small = gnn_prune::Quantizer::builder(gnn_prune::Bits::Eight)
        .build()
        .unwrap()
        .quantize(&model, &data)
        .unwrap();
    let file = File::new();
    for name in ["conv1.more", "conv9.weight", "more"] {
        model.save(&file.0).unwrap();
        std::fs::write(&file.0, with_tensor(&file.0, name)).unwrap();
        let message = Model::load(&file.0).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
        small.save(&file.0).unwrap();
        std::fs::write(&file.0, with_tensor(&file.0, name)).unwrap();
        let message = gnn_prune::QuantModel::load(&file.0).unwrap_err().to_string();
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn the_program_that_is_written_has_the_settings_of_its_layers() {
    let export_of = |model: &Model| export(model, "net.safetensors").unwrap().python;
    let deep = gnn_prune::Gcn2::builder(4, 2)
        .hidden(3)
        .layers(2)
        .alpha(0.25)
        .theta(0.75)
        .build(0)
        .unwrap();
    // β = ln(θ/l + 1), so that the module, which takes the first layer's, is given θ/l.
    for (text, theta) in
        export_of(&deep).lines().filter(|line| line.contains("GCN2Conv")).zip([0.75, 0.375])
    {
        let numbers: Vec<f64> =
            text.split(['(', ')', ',', ' ', '=']).filter_map(|word| word.parse().ok()).collect();
        assert_eq!((numbers[0], numbers[1], numbers[3]), (3.0, 0.25, 1.0), "{text}");
        assert!((numbers[2] - theta).abs() < 1e-12, "{text}");
    }
    assert_eq!(export_of(&deep).matches("GCN2Conv").count(), 2);
}

#[test]
fn what_is_assumed_of_a_network_is_what_pytorch_geometric_does_by_default() {
    let assumed = gnn_prune::io::pyg::Assumptions::default();
    assert_eq!((assumed.negative_slope, assumed.dropout), (0.2, 0.0));
}
