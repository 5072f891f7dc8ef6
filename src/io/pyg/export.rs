//! A model as a state dict for PyTorch, with the lines of Python that run it there.

use super::checkpoint::NETWORK;
use super::names::state_of;
use super::network::Network;
use crate::error::{Error, Result, Unsupported};
use crate::files::Tensors;
use crate::graph::Norm;
use crate::nn::{Aggregation, Attrs, EDGE_WEIGHTS, Model, Node, NodeId};
use std::collections::BTreeMap;
use std::fmt::Write;

/// A state dict, and the Python that loads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// Tensors named `node.parameter` as PyTorch Geometric names parameters.
    pub tensors: Tensors,
    /// A `torch.nn.Module` called `Net`, and how to load the file.
    pub python: String,
}

/// Writes `model` as a state dict and a module of rectangular shapes for PyTorch Geometric; `file` is what the Python opens.
///
/// # Errors
/// [`Error::Unsupported`](crate::Error::Unsupported) for a layer that PyTorch Geometric has no twin of here.
pub fn export(model: &Model, file: &str) -> Result<Exported> {
    let mut tensors = Tensors::default();
    let (mut init, mut forward) = (String::new(), String::new());
    for (k, node) in model.nodes().iter().enumerate() {
        if !is_python_name(node.name()) {
            let reason = "its name cannot stand in a Python program; use letters, digits and underscores".into();
            return Err(Unsupported { layer: node.name().into(), reason }.into());
        }
        let inputs: Vec<String> = node.inputs().iter().map(|&id| variable(model, id)).collect();
        let (made, call) = python_of(model, node, &inputs)?;
        if let Some(made) = made {
            let _ = writeln!(init, "        self.{} = {made}", node.name());
            for (name, array) in state_of(node.layer(), &|param| param.value().clone())?.floats {
                tensors.floats.insert(format!("{}.{name}", node.name()), array);
            }
        }
        let _ = writeln!(forward, "        {} = {call}", variable(model, NodeId(k + 1)));
    }
    tensors.metadata.insert(NETWORK.into(), Network::of(model).to_string());
    let weighted = weighted(model)?;
    if !weighted.is_empty() {
        let names = weighted.join(", ");
        forward.insert_str(
            0,
            &format!(
                "        assert edge_weight is None, \"{names}: reads the weights of edges, and the layer of PyTorch Geometric does not\"\n"
            ),
        );
    }
    let output = variable(model, model.output());
    let python = format!(
        "import torch, torch_geometric.nn as pyg\nfrom safetensors.torch import load_file\n\n\
         class Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n{init}\n    \
         def forward(self, x, edge_index, edge_weight=None, edge_attr=None, edge_type=None):\n{forward}        return {output}\n\n\
         net = Net()\nnet.load_state_dict(load_file({file:?}))\nnet.eval()\n"
    );
    Ok(Exported { tensors, python })
}

/// Layers that read the weights of edges here and not there.
fn weighted(model: &Model) -> Result<Vec<&str>> {
    let mut names = Vec::new();
    for node in model.nodes() {
        let attrs = node.layer().attrs();
        let reads = match node.layer().kind() {
            "sage_conv" => attrs.get_or("aggregation", Aggregation::Mean)? != Aggregation::Max,
            kind => matches!(kind, "gin_conv" | "gin_aggregation" | "rgcn_conv"),
        };
        if reads && attrs.get_or(EDGE_WEIGHTS, true)? {
            names.push(node.name());
        }
    }
    Ok(names)
}

/// Words of Python, and members of a module that the written program calls.
const TAKEN: [&str; 39] = [
    "False",
    "None",
    "True",
    "and",
    "as",
    "assert",
    "async",
    "await",
    "break",
    "class",
    "continue",
    "def",
    "del",
    "elif",
    "else",
    "except",
    "finally",
    "for",
    "from",
    "global",
    "if",
    "import",
    "in",
    "is",
    "lambda",
    "nonlocal",
    "not",
    "or",
    "pass",
    "raise",
    "return",
    "try",
    "while",
    "with",
    "yield",
    "eval",
    "forward",
    "load_state_dict",
    "train",
];

fn is_python_name(name: &str) -> bool {
    let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    letters && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty() && !TAKEN.contains(&name)
}

fn variable(model: &Model, id: NodeId) -> String {
    if id == NodeId::INPUT { "x".into() } else { format!("h_{}", model.name_of(id)) }
}

/// Arguments of a layer that propagates by a norm other than its default.
fn norm_arguments(attrs: &Attrs, kind: &str) -> Result<&'static str> {
    let default = if kind == "lg_conv" { Norm::SymmetricPlain } else { Norm::Symmetric };
    match attrs.get_or("norm", default)? {
        norm if norm == default => Ok(""),
        Norm::SymmetricPlain => Ok(", add_self_loops=False"),
        Norm::Sum if matches!(kind, "gcn_conv" | "gcn2_conv" | "lg_conv") => Ok(", normalize=False"),
        norm => Err(Error::Model(format!("a {kind} by the norm {norm:?} is not exported"))),
    }
}

/// The module of a node, where it has one, and the expression of its value.
fn python_of(model: &Model, node: &Node<f32>, inputs: &[String]) -> Result<(Option<String>, String)> {
    let layer = node.layer();
    let attrs = layer.attrs();
    let width = model.channels(node.inputs()[0]);
    let out = node.channels();
    let mut shapes: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    layer.visit(&mut |param| {
        shapes.insert(param.name(), param.value().dim());
    });
    let has = |name: &str| shapes.contains_key(name);
    let columns = |name: &str| shapes.get(name).map_or(0, |shape| shape.1);
    let rows = |name: &str| shapes.get(name).map_or(0, |shape| shape.0);
    let (bias, root, hidden) = (has("bias"), has("root"), columns("weight1"));
    let edge_dim = if has("edge_weight") { format!(", edge_dim={}", rows("edge_weight")) } else { String::new() };
    let edge_features = || format!("self.{}({}, edge_index, edge_attr)", node.name(), inputs[0]);
    let refuse = |what: &str| Error::Model(format!("layer `{}` is a {} {what}, which is not exported", node.name(), layer.kind()));
    let norm = norm_arguments(&attrs, layer.kind())?;
    let py = |value: bool| if value { "True" } else { "False" };
    let name = node.name();
    let with_edges = || format!("self.{name}({}, edge_index)", inputs[0]);
    let weighted = || format!("self.{name}({}, edge_index, edge_weight)", inputs[0]);
    let plain = || format!("self.{name}({})", inputs[0]);
    let flag = |key: &str| attrs.get::<bool>(key).unwrap_or(false);
    Ok(match layer.kind() {
        "gcn_conv" => {
            (Some(format!("pyg.GCNConv({width}, {out}, improved={}, bias={}{norm})", py(flag("improved")), py(bias))), weighted())
        }
        "sage_conv" => {
            let aggregation: String = attrs.get("aggregation")?;
            let normalize = py(flag("normalize"));
            let made = format!(
                "pyg.SAGEConv({width}, {out}, aggr={aggregation:?}, normalize={normalize}, root_weight={}, bias={})",
                py(root),
                py(bias)
            );
            (Some(made), with_edges())
        }
        "gat_conv" | "gatv2_conv" => {
            let (heads, average): (usize, bool) = (attrs.get("heads")?, flag("average"));
            let class = if layer.kind() == "gat_conv" { "GATConv" } else { "GATv2Conv" };
            let dim = columns(if has("att") { "att" } else { "att_src" }) / heads.max(1);
            let (slope, dropout): (f64, f64) = (attrs.get("negative_slope")?, attrs.get("dropout")?);
            let loops = py(attrs.get_or("self_loops", true)?);
            if class == "GATv2Conv" && has("bias_src") != bias {
                return Err(refuse("with some of its biases"));
            }
            let shared = if class == "GATv2Conv" && !has("weight_dst") { ", share_weights=True" } else { "" };
            let made = format!(
                "pyg.{class}({width}, {dim}, heads={heads}, concat={}, negative_slope={slope:?}, dropout={dropout:?}, \
                 add_self_loops={loops}{edge_dim}{shared}, bias={})",
                py(!average),
                py(bias)
            );
            (Some(made), if has("edge_weight") { edge_features() } else { with_edges() })
        }
        "gin_conv" | "gine_conv" => {
            let inner = format!("pyg.MLP([{width}, {hidden}, {out}], act='relu', norm=None)");
            let eps = py(flag("train_eps"));
            match layer.kind() {
                "gine_conv" => (Some(format!("pyg.GINEConv({inner}, train_eps={eps}{edge_dim})")), edge_features()),
                _ => (Some(format!("pyg.GINConv({inner}, train_eps={eps})")), with_edges()),
            }
        }
        "gin_aggregation" => (Some(format!("pyg.GINConv(torch.nn.Identity(), train_eps={})", py(flag("train_eps")))), with_edges()),
        "appnp" => (Some(format!("pyg.APPNP({}, {:?}{norm})", attrs.get::<usize>("hops")?, attrs.get::<f64>("alpha")?)), weighted()),
        "lg_conv" => (Some(format!("pyg.LGConv({})", norm.trim_start_matches(", "))), weighted()),
        "gcn2_conv" => {
            // With layer 1, β = ln(θ + 1).
            let theta = attrs.get::<f64>("beta")?.exp_m1();
            let shared = py(!has("initial"));
            let made = format!("pyg.GCN2Conv({width}, {:?}, {theta:?}, 1, shared_weights={shared}{norm})", attrs.get::<f64>("alpha")?);
            (Some(made), format!("self.{name}({}, {}, edge_index, edge_weight)", inputs[0], inputs[1]))
        }
        "rgcn_conv" => {
            let bases = if has("comp") { format!(", num_bases={}", columns("comp")) } else { String::new() };
            let aggregation = if flag("sum") { "sum" } else { "mean" };
            let made = format!(
                "pyg.RGCNConv({width}, {out}, {}{bases}, root_weight={}, aggr={aggregation:?}, bias={})",
                attrs.get::<usize>("relations")?,
                py(root),
                py(bias)
            );
            (Some(made), format!("self.{name}({}, edge_index, edge_type)", inputs[0]))
        }
        "sg_conv" => (Some(format!("pyg.SGConv({width}, {out}, K={}, bias={}{norm})", attrs.get::<usize>("hops")?, py(bias))), weighted()),
        "linear" => (Some(format!("torch.nn.Linear({width}, {out}, bias={})", py(bias))), plain()),
        "batch_norm" => (Some(format!("torch.nn.BatchNorm1d({width})")), plain()),
        "layer_norm" if attrs.get_or::<Option<Vec<usize>>>("kept", None)?.is_some() => return Err(refuse("of which channels are masked")),
        "layer_norm" => {
            let mode = if flag("per_graph") { "graph" } else { "node" };
            (Some(format!("pyg.LayerNorm({width}, mode='{mode}')")), plain())
        }
        "dropout" => (None, inputs[0].clone()),
        "activation" => {
            let function: String = attrs.get("function")?;
            let call = match function.as_str() {
                "identity" => inputs[0].clone(),
                function => format!("torch.nn.functional.{function}({})", inputs[0]),
            };
            (None, call)
        }
        "add" => {
            let coefficients: Vec<f64> = attrs.get("coefficients").unwrap_or_default();
            let term = |(k, input): (usize, &String)| match coefficients.get(k) {
                Some(a) if *a != 1.0 => format!("{a} * {input}"),
                _ => input.clone(),
            };
            (None, inputs.iter().enumerate().map(term).collect::<Vec<_>>().join(" + "))
        }
        "concat" => (None, format!("torch.cat([{}], dim=-1)", inputs.join(", "))),
        "max" => (None, format!("torch.stack([{}]).amax(0)", inputs.join(", "))),
        kind => return Err(Error::Model(format!("layer `{name}` is a {kind}, which is not exported"))),
    })
}
