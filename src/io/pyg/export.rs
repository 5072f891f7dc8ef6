//! A model as a state dict for PyTorch, with the lines of Python that run it there.

use super::checkpoint::NETWORK;
use super::names::state_of;
use super::network::Network;
use crate::error::{Error, Result};
use crate::files::Tensors;
use crate::nn::{Model, NodeId, Place, Registry};
use std::fmt::Write;

/// A state dict, and the Python that loads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// Tensors named `node.parameter` as PyTorch Geometric names parameters.
    pub tensors: Tensors,
    /// A `torch.nn.Module` called `Net`, and how to load the file.
    pub python: String,
}

/// Writes `model` as a state dict and a module of rectangular shapes for PyTorch Geometric; `file`
/// is what the Python opens.
///
/// # Errors
/// [`Error::Network`] for a layer that PyTorch Geometric has no twin of, or one whose name cannot
/// stand in Python.
pub fn export(model: &Model, file: &str) -> Result<Exported> {
    let mut tensors = Tensors::default();
    let registry = Registry::standard();
    let (mut init, mut forward, mut weighted) = (String::new(), String::new(), Vec::new());
    for (k, node) in model.nodes().iter().enumerate() {
        if !is_python_name(node.name()) {
            let problem = "the name of a layer cannot stand in a Python program; use letters, digits and underscores";
            return Err(Error::Network(format!("`{}`: {problem}", node.name())));
        }
        let inputs: Vec<String> = node.inputs().iter().map(|&id| variable(model, id)).collect();
        let at =
            Place::new(node.name(), &inputs, model.channels(node.inputs()[0]), node.channels());
        let kind = node.layer().kind();
        let refused = |reason: String| {
            Error::Network(format!(
                "layer `{}` is a {kind} {reason}, which is not exported",
                node.name()
            ))
        };
        let entry = registry.entry(kind).ok_or_else(|| refused("of another crate".into()))?;
        let python = entry.to_python(node.layer(), &at).map_err(refused)?;
        if python.ignores_edge_weights {
            weighted.push(node.name());
        }
        if let Some(made) = python.module {
            let _ = writeln!(init, "        self.{} = {made}", node.name());
            for (name, array) in state_of(node.layer(), &|param| param.value().clone())?.floats {
                tensors.floats.insert(format!("{}.{name}", node.name()), array);
            }
        }
        let _ = writeln!(forward, "        {} = {}", variable(model, NodeId(k + 1)), python.value);
    }
    tensors.metadata.insert(NETWORK.into(), Network::of(model).to_string());
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
    letters
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && !TAKEN.contains(&name)
}

fn variable(model: &Model, id: NodeId) -> String {
    if id == NodeId::INPUT { "x".into() } else { format!("h_{}", model.name_of(id)) }
}
