//! A model as a state dict for PyTorch, with the lines of Python that run it there.

use super::names::state_of;
use crate::error::{Error, Result};
use crate::files::Tensors;
use crate::nn::{Model, Node, NodeId};
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
    let output = variable(model, model.output());
    let python = format!(
        "import torch, torch_geometric.nn as pyg\nfrom safetensors.torch import load_file\n\n\
         class Net(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n{init}\n    \
         def forward(self, x, edge_index):\n{forward}        return {output}\n\n\
         net = Net()\nnet.load_state_dict(load_file({file:?}), strict=False)\nnet.eval()\n"
    );
    Ok(Exported { tensors, python })
}

fn variable(model: &Model, id: NodeId) -> String {
    if id == NodeId::INPUT { "x".into() } else { format!("h_{}", model.name_of(id)) }
}

/// The module of a node, where it has one, and the expression of its value.
fn python_of(model: &Model, node: &Node<f32>, inputs: &[String]) -> Result<(Option<String>, String)> {
    let layer = node.layer();
    let attrs = layer.attrs();
    let width = model.channels(node.inputs()[0]);
    let out = node.channels();
    let (mut bias, mut root, mut hidden, mut heads_width) = (false, false, 0, 0);
    layer.visit(&mut |param| match param.name() {
        "bias" => bias = true,
        "root" => root = true,
        "weight1" => hidden = param.value().ncols(),
        "att_src" | "att" => heads_width = param.value().ncols(),
        _ => {}
    });
    let py = |value: bool| if value { "True" } else { "False" };
    let name = node.name();
    let with_edges = || format!("self.{name}({}, edge_index)", inputs[0]);
    let plain = || format!("self.{name}({})", inputs[0]);
    let flag = |key: &str| attrs.get::<bool>(key).unwrap_or(false);
    Ok(match layer.kind() {
        "gcn_conv" => (Some(format!("pyg.GCNConv({width}, {out}, improved={}, bias={})", py(flag("improved")), py(bias))), with_edges()),
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
            let dim = heads_width / heads.max(1);
            (Some(format!("pyg.{class}({width}, {dim}, heads={heads}, concat={}, bias={})", py(!average), py(bias))), with_edges())
        }
        "gin_conv" => {
            let inner = format!("pyg.MLP([{width}, {hidden}, {out}], act='relu', norm=None)");
            (Some(format!("pyg.GINConv({inner}, train_eps=True)")), with_edges())
        }
        "sg_conv" => (Some(format!("pyg.SGConv({width}, {out}, K={}, bias={})", attrs.get::<usize>("hops")?, py(bias))), with_edges()),
        "linear" => (Some(format!("torch.nn.Linear({width}, {out}, bias={})", py(bias))), plain()),
        "batch_norm" => (Some(format!("torch.nn.BatchNorm1d({width})")), plain()),
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
