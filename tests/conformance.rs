//! Agreement with PyTorch Geometric, forward and backward, on every case of a folder.
//!
//! A case is a safetensors file as `tests/pytorch/make_cases.py` writes it: layer and arguments as
//! JSON in the metadata, inputs, parameters, output, upstream gradient, and the gradients that
//! PyTorch computed. `GNN_PRUNE_FIXTURES` names another folder.

use gnn_prune::data::Splits;
use gnn_prune::distill::{DistillLoss, Signals, SoftLabels};
use gnn_prune::files::{Array, Tensors};
use gnn_prune::graph::{AdjacencyNorm, Duplicates};
use gnn_prune::io::pyg::{Assumptions, Checkpoint, InnerForm, add_module, state_of};
use gnn_prune::ndarray::{Array2, ArrayView2};
use gnn_prune::nn::{
    Attrs, Cx, DynLayer, Grads, Io, Linear, Mode, ModelBuilder, NodeId, Registry, Shapes,
};
use gnn_prune::quant::{FakeQuant, Granularity};
use gnn_prune::task::cross_entropy;
use gnn_prune::{
    Bits, ChannelPruner, Dataset, Graph, Magnitude, Model, Split, Value, ValueRef, WeightPruner,
};
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

/// Absolute, and relative on top of it.
const TOLERANCE: f32 = 1e-4;

fn folder() -> PathBuf {
    std::env::var_os("GNN_PRUNE_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pyg"),
        PathBuf::from,
    )
}

#[test]
fn every_case_agrees() {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    let mut agree = 0;
    for path in &files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // A case that panics does not agree, and must not hide the others.
        match std::panic::catch_unwind(|| check(path)).unwrap_or_else(|_| Err("panicked".into())) {
            Ok(()) => agree += 1,
            Err(problem) => eprintln!("{name}: {problem}"),
        }
    }
    println!("conformance: {} files, {agree} agree", files.len());
    assert!(!files.is_empty() && agree == files.len());
}

/// Cases of `tests/pytorch/make_cases.py` that once did not agree.
#[test]
fn cases_that_once_did_not_agree_do() {
    let mut cases = 0;
    for entry in
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/more"))
            .unwrap()
    {
        let path = entry.unwrap().path();
        check(&path).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        cases += 1;
    }
    assert!(cases > 0);
}

fn check(path: &Path) -> Result<(), String> {
    let tensors = Tensors::read(path).map_err(|error| error.to_string())?;
    let case: Json =
        serde_json::from_str(tensors.metadata.get("case").map_or("{}", String::as_str))
            .map_err(|error| error.to_string())?;
    match case["layer"].as_str() {
        None => check_losses_quantisers_and_masks(&tensors),
        Some(layer) => {
            check_arguments(layer, &case["args"])?;
            match layer {
                "GCN" | "GraphSAGE" | "GAT" | "GIN" => check_model(&tensors, &case["args"]),
                _ => check_layer(&tensors, layer, &case["args"]),
            }
        }
    }
}

fn matrix(tensors: &Tensors, name: &str) -> Result<Array2<f32>, String> {
    let array = tensors.floats.get(name).ok_or_else(|| format!("has no tensor `{name}`"))?;
    array.matrix(if array.shape.len() < 2 { 1 } else { array.shape[0] })
}

fn agrees(what: &str, found: ArrayView2<f32>, expected: ArrayView2<f32>) -> Result<(), String> {
    if found.dim() != expected.dim() {
        return Err(format!("{what}: shape {:?}, expected {:?}", found.dim(), expected.dim()));
    }
    // Not "more than": NaN must fail.
    let near = |(found, expected): (&f32, &f32)| {
        (found - expected).abs() <= TOLERANCE + TOLERANCE * expected.abs()
    };
    match found.iter().zip(&expected).find(|pair| !near(*pair)) {
        Some((found, expected)) => Err(format!("{what}: {found}, expected {expected}")),
        None => Ok(()),
    }
}

fn array_agrees(what: &str, found: Option<&Array>, expected: &Array) -> Result<(), String> {
    let found = found.ok_or_else(|| format!("{what}: there is none"))?;
    if found.shape != expected.shape {
        return Err(format!("{what}: shape {:?}, expected {:?}", found.shape, expected.shape));
    }
    agrees(what, found.matrix(1)?.view(), expected.matrix(1)?.view())
}

fn graph(tensors: &Tensors, nodes: usize) -> Result<Graph, String> {
    let Some((_, ends)) = tensors.integers.get("edge_index") else {
        return Graph::builder(nodes).build().map_err(|error| error.to_string());
    };
    let count = ends.len() / 2;
    let pairs = (0..count).map(|e| (ends[e] as usize, ends[count + e] as usize));
    let mut builder = match tensors.floats.get("edge_weight") {
        Some(weights) => Graph::builder(nodes)
            .weighted_edges(pairs.zip(&weights.values).map(|((j, i), &w)| (j, i, w))),
        None => Graph::builder(nodes).edges(pairs),
    };
    if tensors.floats.contains_key("edge_attr") {
        builder = builder.edge_features(matrix(tensors, "edge_attr")?);
    }
    if let Some((_, types)) = tensors.integers.get("edge_type") {
        builder = builder.edge_types(types.iter().map(|&t| t as u32).collect());
    }
    builder.duplicates(Duplicates::Keep).build().map_err(|error| error.to_string())
}

/// The arguments of each layer and network that are read; shapes tell the others.
const ARGUMENTS: [(&str, &str); 17] = [
    ("GCNConv", "improved bias add_self_loops normalize"),
    ("SAGEConv", "aggr normalize root_weight project bias"),
    ("GATConv", "heads concat negative_slope edge_dim residual bias add_self_loops"),
    (
        "GATv2Conv",
        "heads concat negative_slope edge_dim residual bias add_self_loops share_weights",
    ),
    ("GINConv", "mlp eps train_eps"),
    ("GINEConv", "mlp eps train_eps edge_dim"),
    ("SGConv", "K bias add_self_loops"),
    ("APPNP", "K alpha add_self_loops"),
    ("GCN2Conv", "alpha theta layer shared_weights add_self_loops normalize"),
    ("RGCNConv", "num_relations num_bases root_weight bias aggr"),
    ("LGConv", "normalize"),
    ("BatchNorm1d", "num_features training"),
    ("BatchNorm", "training"),
    ("LayerNorm", "mode normalized_shape"),
    (
        "GCN GraphSAGE GIN",
        "aggr improved normalize add_self_loops bias root_weight project eps train_eps",
    ),
    ("GAT", "heads concat v2 edge_dim residual bias add_self_loops negative_slope share_weights"),
    ("GCN GraphSAGE GIN GAT", "hidden_channels num_layers act act_first norm norm_kwargs jk"),
];

/// Arguments that change nothing here: widths that shapes tell, dropout in evaluation mode, and
/// what is the same by another way.
const ALWAYS: [&str; 6] =
    ["in_channels", "out_channels", "channels", "dropout", "cached", "training"];

fn check_arguments(layer: &str, args: &Json) -> Result<(), String> {
    let known = |name: &str| {
        let of_layer =
            ARGUMENTS.iter().filter(|(layers, _)| layers.split(' ').any(|known| known == layer));
        ALWAYS.contains(&name)
            || of_layer.flat_map(|(_, names)| names.split(' ')).any(|known| known == name)
    };
    let mut given = args.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    given
        .find(|(name, _)| !known(name))
        .map_or(Ok(()), |(name, _)| Err(format!("argument `{name}` of {layer} is not read")))
}

/// A layer's kind and settings here, from its name and arguments there.
fn layer_of(layer: &str, args: &Json) -> Option<(&'static str, Attrs)> {
    let flag = |name: &str, default: bool| args[name].as_bool().unwrap_or(default);
    let number = |name: &str, default: f64| args[name].as_f64().unwrap_or(default);
    let count = |name: &str, default: u64| args[name].as_u64().unwrap_or(default);
    let attrs = Attrs::new();
    let norm = match (layer, flag("normalize", true), flag("add_self_loops", true)) {
        (_, false, _) => AdjacencyNorm::Sum,
        ("LGConv", ..) | (_, _, false) => AdjacencyNorm::SymmetricPlain,
        _ if flag("improved", false) => AdjacencyNorm::SymmetricImproved,
        _ => AdjacencyNorm::Symmetric,
    };
    Some(match layer {
        "GCNConv" => ("gcn_conv", attrs.with("norm", norm)),
        "SAGEConv" => {
            let aggregation = args["aggr"].as_str().unwrap_or("mean");
            (
                "sage_conv",
                attrs.with("aggregation", aggregation).with("normalize", flag("normalize", false)),
            )
        }
        "GATConv" | "GATv2Conv" => {
            let attrs =
                attrs.with("heads", count("heads", 1)).with("average", !flag("concat", true));
            let attrs =
                attrs.with("negative_slope", number("negative_slope", 0.2)).with("dropout", 0.0);
            let attrs = attrs.with("self_loops", flag("add_self_loops", true));
            (if layer == "GATConv" { "gat_conv" } else { "gatv2_conv" }, attrs)
        }
        "GINConv" => ("gin_conv", attrs.with("train_eps", flag("train_eps", false))),
        "GINEConv" => ("gine_conv", attrs.with("train_eps", flag("train_eps", false))),
        "SGConv" => ("sg_conv", attrs.with("hops", count("K", 1)).with("norm", norm)),
        "APPNP" => (
            "appnp",
            attrs
                .with("hops", count("K", 10))
                .with("alpha", number("alpha", 0.1))
                .with("norm", norm),
        ),
        "GCN2Conv" => {
            // β = ln(θ/ℓ + 1), and 1 without θ.
            let beta = args["theta"]
                .as_f64()
                .map_or(1.0, |theta| (theta / number("layer", 1.0) + 1.0).ln());
            (
                "gcn2_conv",
                attrs.with("alpha", number("alpha", 0.1)).with("beta", beta).with("norm", norm),
            )
        }
        "RGCNConv" => {
            let sum = match args["aggr"].as_str() {
                None | Some("mean") => false,
                Some("sum" | "add") => true,
                _ => return None,
            };
            ("rgcn_conv", attrs.with("relations", count("num_relations", 1)).with("sum", sum))
        }
        "LGConv" => ("lg_conv", attrs.with("norm", norm)),
        "BatchNorm1d" | "BatchNorm" => ("batch_norm", attrs),
        "LayerNorm" => {
            ("layer_norm", attrs.with("per_graph", args["mode"].as_str() == Some("graph")))
        }
        _ => return None,
    })
}

fn check_layer(tensors: &Tensors, layer: &str, args: &Json) -> Result<(), String> {
    let (kind, attrs) = layer_of(layer, args)
        .ok_or_else(|| format!("layer {layer} with arguments {args} is not known"))?;
    let x = matrix(tensors, "x")?;
    let graph = graph(tensors, x.nrows())?;
    // PyTorch Geometric wraps batch norm.
    let (under, wrapped) = (tensors.under("param/"), tensors.under("param/module."));
    let params = if wrapped.floats.is_empty() { under } else { wrapped };
    let mut builder = ModelBuilder::new(x.ncols());
    let output = if params.floats.is_empty() {
        let layer = Registry::standard().load(kind, &attrs, &Shapes::default()).map_err(words)?;
        builder.add_boxed("layer", layer, &[NodeId::INPUT])
    } else {
        let inputs = vec![NodeId::INPUT; if kind == "gcn2_conv" { 2 } else { 1 }];
        add_module(&mut builder, "layer", kind, &attrs, &params, &InnerForm::default(), &inputs)
    };
    let model = builder.build_as_is(output.map_err(words)?).map_err(words)?;
    if model.nodes().len() > 1 {
        return check_network(tensors, &model, &graph, x.view());
    }
    let layer = model.nodes()[0].layer();

    let mut xs = vec![Value::Dense(x)];
    if tensors.floats.contains_key("x_0") {
        xs.push(Value::Dense(matrix(tensors, "x_0")?));
    }
    let xs: Vec<ValueRef<f32>> = xs.iter().map(Value::view).collect();
    let mode = if args["training"].as_bool() == Some(true) {
        Mode::Train { seed: 0, step: 0 }
    } else {
        Mode::Eval
    };
    let cx = Cx::eval(&graph).with_mode(mode);
    let (y, cache) = layer.forward(&cx, &xs).map_err(words)?;
    agrees("out", y.view().to_dense().view(), matrix(tensors, "out")?.view())?;
    let upstream = matrix(tensors, "grad_out")?;
    let mut grads = Grads::default();
    let dxs = layer.backward(
        &cx,
        &Io::of(&xs, y.view()),
        cache,
        ValueRef::Dense(upstream.view()),
        &mut grads,
    );
    if tensors.floats.contains_key("grad/x") {
        let expected = matrix(tensors, "grad/x")?;
        // Nothing came from the input where there is no edge and no root.
        let dx = dxs
            .into_iter()
            .next()
            .flatten()
            .map_or_else(|| Array2::zeros(expected.dim()), Value::into_dense);
        agrees("grad/x", dx.view(), expected.view())?;
    }
    check_gradients(tensors, &model, &grads)
}

/// The gradients of all parameters against those of the case.
fn check_gradients(tensors: &Tensors, model: &Model, grads: &Grads<f32>) -> Result<(), String> {
    let mut found = Tensors::default();
    for node in model.nodes() {
        let mut params = 0;
        node.layer().visit(&mut |_| params += 1);
        if params == 0 {
            continue;
        }
        for (parameter, array) in gradients(node.layer(), grads)?.floats {
            for place in their_names(node.name()) {
                // An inner network is an `MLP` or a `Sequential`.
                let sequential =
                    parameter.replace("nn.lins.0", "nn.0").replace("nn.lins.1", "nn.2");
                found.floats.insert(format!("{place}{sequential}"), array.clone());
                found.floats.insert(format!("{place}{parameter}"), array.clone());
            }
        }
    }
    for (name, expected) in tensors.under("grad/param/").floats {
        array_agrees(&format!("grad/param/{name}"), found.floats.get(&name), &expected)?;
    }
    Ok(())
}

fn gradients(layer: &dyn DynLayer<f32>, grads: &Grads<f32>) -> Result<Tensors, String> {
    let zeros = |shape| Array2::zeros(shape);
    state_of(layer, &|param| {
        grads.get(param.id()).cloned().unwrap_or_else(|| zeros(param.value().dim()))
    })
    .map_err(|error| error.to_string())
}

fn check_model(tensors: &Tensors, args: &Json) -> Result<(), String> {
    let mut assumed = Vec::new();
    let pairs = [
        ("act", "activation"),
        ("act_first", "act_first"),
        ("aggr", "aggregation"),
        ("normalize", "normalize"),
    ];
    let others = [
        ("negative_slope", "negative_slope"),
        ("add_self_loops", "self_loops"),
        ("improved", "improved"),
    ];
    for (theirs, ours) in pairs.into_iter().chain(others) {
        match &args[theirs] {
            Json::Null => {}
            Json::String(word) => assumed.push(format!("{ours}={word}")),
            value => assumed.push(format!("{ours}={value}")),
        }
    }
    if args["jk"].as_str() == Some("last") {
        assumed.push("jumping=last".into());
    }
    if let Some(mode) = args["norm_kwargs"]["mode"].as_str() {
        assumed.push(format!("layer_norm={mode}"));
    }
    let assumed: Assumptions = assumed.join(",").parse().map_err(words)?;
    let model = Checkpoint::from_tensors(&tensors.under("param/"), &assumed).map_err(words)?.model;
    let x = matrix(tensors, "x")?;
    let graph = graph(tensors, x.nrows())?;
    check_network(tensors, &model, &graph, x.view())
}

fn check_network(
    tensors: &Tensors,
    model: &Model,
    graph: &Graph,
    x: ArrayView2<f32>,
) -> Result<(), String> {
    let cx = Cx::eval(graph);
    let x = ValueRef::Dense(x);
    let out = matrix(tensors, "out")?;
    agrees("out", model.infer(&cx, x).map_err(words)?.view(), out.view())?;
    let mut program = model.compile(graph, x).map_err(|error| format!("{error:?}"))?;
    agrees("compiled out", program.run(x).map_err(words)?.view(), out.view())?;
    let trace = model.trace(&cx, x).map_err(words)?;
    let (grads, dx) = model
        .backward_to_input(&cx, trace, &[(model.output(), matrix(tensors, "grad_out")?)])
        .map_err(words)?;
    agrees("grad/x", dx.into_dense().view(), matrix(tensors, "grad/x")?.view())?;
    check_gradients(tensors, model, &grads)
}

fn words(error: gnn_prune::Error) -> String {
    error.to_string()
}

/// What the parameters of a node may be called there, without their own names: the reader named the
/// node.
fn their_names(node: &str) -> Vec<String> {
    let (module, part) = node.split_once('_').unwrap_or((node, ""));
    let number =
        |name: &str, prefix: &str| name.strip_prefix(prefix).and_then(|k| k.parse::<usize>().ok());
    let place = match (number(module, "conv"), number(module, "norm")) {
        (Some(k), _) => format!("convs.{}.", k - 1),
        (_, Some(k)) => {
            return vec![format!("norms.{}.module.", k - 1), format!("norms.{}.", k - 1)];
        }
        _ if module == "out" => return vec!["lin.".into()],
        _ => String::new(),
    };
    let parts: Vec<String> = match part {
        "" => vec![String::new(), "module.".into()],
        "res" => vec!["res.".into()],
        "project" => vec!["lin.".into()],
        "root" => vec!["lin_r.".into()],
        part => match (number(part, "lin"), number(part, "norm")) {
            (Some(k), _) => vec![format!("nn.lins.{k}."), format!("nn.{k}."), "nn.".into()],
            (_, Some(k)) => {
                vec![format!("nn.norms.{k}.module."), format!("nn.norms.{k}."), format!("nn.{k}.")]
            }
            _ => Vec::new(),
        },
    };
    parts.into_iter().map(|part| format!("{place}{part}")).collect()
}

fn check_losses_quantisers_and_masks(tensors: &Tensors) -> Result<(), String> {
    let (student, teacher) = (matrix(tensors, "student")?, matrix(tensors, "teacher")?);
    let rows: Vec<u32> = (0..student.nrows() as u32).collect();
    let value = |name: &str, found: f32| {
        agrees(name, Array2::from_elem((1, 1), found).view(), matrix(tensors, name)?.view())
    };
    for (name, _) in tensors
        .floats
        .iter()
        .filter(|(name, _)| name.starts_with("kd_T") && name.ends_with("/loss"))
    {
        let temperature = name
            .trim_start_matches("kd_T")
            .trim_end_matches("/loss")
            .parse()
            .map_err(|_| format!("temperature of {name}"))?;
        let (student, teacher) = (
            Signals::new(NodeId::INPUT, student.view(), &[]),
            Signals::new(NodeId::INPUT, teacher.view(), &[]),
        );
        let loss = SoftLabels::new(temperature).map_err(words)?;
        let (found, gradient) =
            DistillLoss::loss(&loss, &student.map_err(words)?, &teacher.map_err(words)?, &rows)
                .map_err(words)?;
        value(name, found)?;
        agrees(
            name,
            gradient[0].1.view(),
            matrix(tensors, &name.replace("/loss", "/grad_student"))?.view(),
        )?;
    }
    let labels: Vec<u32> = tensors
        .integers
        .get("labels")
        .ok_or("has no labels")?
        .1
        .iter()
        .map(|&y| y as u32)
        .collect();
    let (loss, gradient) = cross_entropy(student.view(), &labels, &rows);
    value("ce/loss", loss)?;
    agrees("ce/grad_student", gradient.view(), matrix(tensors, "ce/grad_student")?.view())?;

    // PyTorch's weight is [out, in]: its rows are our columns.
    let weight = matrix(tensors, "weight")?.reversed_axes();
    for name in tensors.floats.keys().filter(|name| name.starts_with("fakequant_")) {
        let (kind, bits) =
            name.trim_start_matches("fakequant_").rsplit_once("_b").ok_or("name of a quantiser")?;
        let bits = match bits {
            "2" => Bits::Two,
            "4" => Bits::Four,
            "8" => Bits::Eight,
            _ => return Err(format!("{name}: no such quantiser")),
        };
        let granularity = match kind {
            "sym_tensor" => Granularity::SymmetricTensor,
            "sym_channel" => Granularity::SymmetricColumn,
            "asym_tensor" => Granularity::AffineTensor,
            _ => return Err(format!("{name}: no such quantiser")),
        };
        let found = FakeQuant::new(bits, granularity).forward(weight.view());
        agrees(name, found.view(), matrix(tensors, name)?.reversed_axes().view())?;
    }
    for name in tensors
        .floats
        .keys()
        .chain(tensors.integers.keys())
        .filter(|name| name.starts_with("mask_"))
    {
        let expected = match (tensors.floats.get(name), tensors.integers.get(name)) {
            (Some(_), _) => matrix(tensors, name)?.reversed_axes(),
            (_, Some((shape, values))) => {
                let values = values.iter().map(|&v| v as f32).collect();
                Array2::from_shape_vec((shape[0], shape[1]), values)
                    .map_err(|error| error.to_string())?
                    .reversed_axes()
            }
            _ => unreachable!("it is in one of them"),
        };
        agrees(name, mask_of(name, &weight)?.view(), expected.view())?;
    }
    Ok(())
}

/// The mask that the crate's pruners leave on `weight: [in, out]`, 1 where it is kept.
fn mask_of(name: &str, weight: &Array2<f32>) -> Result<Array2<f32>, String> {
    let (kind, share) = name.rsplit_once('_').ok_or("name of a mask")?;
    let share: f64 = share.parse().map_err(|_| format!("share of {name}"))?;
    let (inputs, outputs) = weight.dim();
    let mut builder = ModelBuilder::new(inputs);
    let linear = |i, o| Linear::builder(i, o).bias(false).build::<f32>().map_err(words);
    let first = builder.add("first", linear(inputs, outputs)?, &[NodeId::INPUT]).map_err(words)?;
    let second = builder.add("second", linear(outputs, 1)?, &[first]).map_err(words)?;
    let mut model = builder.build_as_is(second).map_err(words)?;
    model.visit_mut(&mut |param| {
        if param.value().dim() == weight.dim() {
            param.value_mut().assign(weight);
        }
    });
    let masked = match kind {
        "mask_l1_unstructured" => {
            // Only the weight counts: what reads it is zero, and would go first.
            let mut builder = ModelBuilder::new(inputs);
            let only =
                builder.add("first", linear(inputs, outputs)?, &[NodeId::INPUT]).map_err(words)?;
            let mut model = builder.build_as_is(only).map_err(words)?;
            model.visit_mut(&mut |param| param.value_mut().assign(weight));
            let pruner = WeightPruner::builder().sparsity(share).build().map_err(words)?;
            pruner.plan(&model).map_err(words)?.apply(&model).map_err(words)?
        }
        "mask_l2_structured_rows" => {
            let data = Dataset::new(
                "none",
                Graph::builder(3).build().map_err(words)?,
                Value::Dense(Array2::zeros((3, inputs))),
                vec![0, 1, 0],
                Some(2),
                Splits::Fixed(Split { train: vec![0], val: vec![1], test: vec![2] }),
            );
            let pruner =
                ChannelPruner::builder(Magnitude::l2()).ratio(share).build().map_err(words)?;
            pruner
                .plan(&model, &data.map_err(words)?)
                .map_err(words)?
                .mask(&model)
                .map_err(words)?
        }
        _ => return Err(format!("{name}: no such mask")),
    };
    let mut mask = None;
    masked.nodes()[0].layer().visit(&mut |param| {
        mask = param.mask().map(|mask| mask.mapv(|keep| f32::from(u8::from(keep))))
    });
    mask.ok_or_else(|| format!("{name}: no mask was left"))
}
