//! A network of `torch_geometric.nn.models` from its state dict: the architecture follows from names and shapes.

use super::names::layer_from;
use crate::error::{Error, Result};
use crate::files::Tensors;
use crate::nn::{Activation, ActivationFn, Attrs, Concat, Dropout, DynLayer, Max, Model, ModelBuilder, NodeId};
use std::path::Path;

/// What a state dict does not tell; the defaults are those of PyTorch Geometric.
#[derive(Debug, Clone, PartialEq)]
pub struct Assumptions {
    /// Activation after hidden layers. Default ReLU.
    pub activation: ActivationFn,
    /// Dropout in training. Default 0.
    pub dropout: f64,
    /// Aggregation of GraphSAGE: `mean`, `sum` or `max`. Default `mean`.
    pub aggregation: String,
    /// Seed of the splits and of what is drawn later. Default 0.
    pub seed: u64,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self { activation: ActivationFn::Relu, dropout: 0.0, aggregation: "mean".into(), seed: 0 }
    }
}

/// A model read from a state dict, and what had to be assumed.
#[derive(Clone)]
pub struct Checkpoint {
    /// The model.
    pub model: Model,
    /// One line: the architecture that was found, and every setting that names and shapes do not tell.
    pub note: String,
}

impl Checkpoint {
    /// Whether a file holds a state dict that this may read: convolutions under `convs.`.
    pub fn looks_like(path: impl AsRef<Path>) -> bool {
        Tensors::read(path).is_ok_and(|tensors| tensors.floats.keys().any(|name| name.starts_with("convs.")))
    }

    /// Reads a network that `safetensors.torch.save_file(model.state_dict(), FILE)` wrote: GCN, GraphSAGE, GAT, GATv2 or GIN of
    /// `torch_geometric.nn.models`, with batch or layer norm and jumping knowledge.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is no such network, in one line that says why.
    pub fn read(path: impl AsRef<Path>, assumed: &Assumptions) -> Result<Self> {
        let path = path.as_ref();
        let tensors = Tensors::read(path)?;
        Self::from_tensors(&tensors, assumed).map_err(|error| Error::file(path, error))
    }

    /// As [`Checkpoint::read`], from tensors at hand.
    ///
    /// # Errors
    /// [`Error::Model`] for tensors that are no such network.
    pub fn from_tensors(tensors: &Tensors, assumed: &Assumptions) -> Result<Self> {
        let convs = numbered(tensors, "convs.")?;
        if convs.is_empty() {
            return Err(Error::Model("has no tensor under `convs.`: not a network of torch_geometric.nn.models".into()));
        }
        let norms = numbered(tensors, "norms.")?;
        let last_linear = tensors.under("lin.");
        let jumps = !last_linear.floats.is_empty();
        let count = convs.len();
        if let Some(name) = tensors.floats.keys().find(|name| !["convs.", "norms.", "lin."].iter().any(|known| name.starts_with(known))) {
            return Err(Error::Model(format!("tensor `{name}` belongs to no part that is read (convs, norms, lin)")));
        }
        let hidden_layers = if jumps { count } else { count - 1 };
        if !norms.is_empty() && norms.len() != hidden_layers {
            return Err(Error::Model(format!("has {} norms for {hidden_layers} hidden layers", norms.len())));
        }

        let mut found = Vec::new();
        let mut layers: Vec<Box<dyn DynLayer<f32>>> = Vec::new();
        for (k, conv) in convs.iter().enumerate() {
            let next = convs.get(k + 1).map(width_in).or_else(|| jumps.then(|| width_in(&convs[k])));
            let (kind, attrs) = kind_of(conv, next, assumed)?;
            layers.push(layer_from(kind, &attrs, conv).map_err(|error| Error::Model(format!("convs.{k}: {error}")))?);
            found.push(kind);
        }
        let mut b = ModelBuilder::new(width_in(&convs[0]));
        let mut x = NodeId::INPUT;
        let mut kept = Vec::new();
        for (k, layer) in layers.into_iter().enumerate() {
            let name = k + 1;
            x = b.add_boxed(&format!("conv{name}"), layer, &[x])?;
            if k == hidden_layers {
                break;
            }
            if let Some(norm) = norms.get(k) {
                x = b.add_boxed(
                    &format!("norm{name}"),
                    norm_from(norm).map_err(|error| Error::Model(format!("norms.{k}: {error}")))?,
                    &[x],
                )?;
            }
            x = b.add(&format!("act{name}"), Activation::new(assumed.activation), &[x])?;
            if assumed.dropout > 0.0 {
                x = b.add(&format!("dropout{name}"), Dropout::new(assumed.dropout)?, &[x])?;
            }
            kept.push(x);
        }
        let mut jump = "";
        if jumps {
            let read = width_in(&last_linear);
            let widths: Vec<usize> = kept.iter().map(|&id| b.channels(id)).collect();
            x = if count > 1 && read == widths.iter().sum::<usize>() {
                jump = ", jumping knowledge by concatenation";
                b.add("jump", Concat::new(), &kept)?
            } else if widths.iter().all(|&width| width == read) {
                jump = ", jumping knowledge assumed to be the maximum";
                b.add("jump", Max::new(kept.len())?, &kept)?
            } else {
                return Err(Error::Model(format!("`lin.weight` reads {read} channels, and the layers before have {widths:?}")));
            };
            let linear = layer_from("linear", &Attrs::new(), &last_linear).map_err(|error| Error::Model(format!("lin: {error}")))?;
            x = b.add_boxed("out", linear, &[x])?;
        }
        let model = b.build_undrawn(x, assumed.seed)?;
        let kinds = if found.windows(2).all(|pair| pair[0] == pair[1]) { found[0].to_string() } else { found.join(", ") };
        let mut note = format!("{count} layers of {kinds}{}{jump}", if norms.is_empty() { "" } else { " with norms" });
        note += &format!("; assumed: activation {}, dropout {}", format!("{:?}", assumed.activation).to_lowercase(), assumed.dropout);
        if found.contains(&"sage_conv") {
            note += &format!(", aggregation {}", assumed.aggregation);
        }
        if found.iter().any(|kind| kind.starts_with("gat")) {
            note += ", negative slope 0.2, no attention dropout";
        }
        Ok(Self { model, note })
    }
}

/// The tensors under `{prefix}0.`, `{prefix}1.` and so on.
fn numbered(tensors: &Tensors, prefix: &str) -> Result<Vec<Tensors>> {
    let number = |name: &String| name.strip_prefix(prefix).map(|rest| rest.split('.').next().and_then(|k| k.parse::<usize>().ok()));
    let mut numbers: Vec<usize> = Vec::new();
    for name in tensors.floats.keys() {
        match number(name) {
            Some(Some(k)) => numbers.push(k),
            Some(None) => return Err(Error::Model(format!("tensor `{name}` has no number after `{prefix}`"))),
            None => {}
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    match numbers.iter().enumerate().find(|(k, number)| k != *number) {
        Some((k, _)) => Err(Error::Model(format!("has no tensor under `{prefix}{k}.`"))),
        None => Ok((0..numbers.len()).map(|k| tensors.under(&format!("{prefix}{k}."))).collect()),
    }
}

/// The channels that a layer reads: columns of the first of its linear maps.
fn width_in(tensors: &Tensors) -> usize {
    let linear = ["lin.weight", "lin_l.weight", "nn.lins.0.weight", "nn.0.weight", "weight"];
    let shape = linear.iter().find_map(|name| tensors.floats.get(*name)).map(|array| &array.shape);
    shape.and_then(|shape| shape.get(1)).copied().unwrap_or(0)
}

/// Kind and settings of a convolution; `next` is what the layer after it reads.
fn kind_of(tensors: &Tensors, next: Option<usize>, assumed: &Assumptions) -> Result<(&'static str, Attrs)> {
    let has = |name: &str| tensors.floats.contains_key(name);
    let heads = |name: &str| match tensors.floats[name].shape[..] {
        [1, heads, dim] if heads > 0 && dim > 0 => Ok((heads, dim)),
        _ => Err(Error::Model(format!("tensor `{name}` has shape {:?}, expected [1, heads, channels]", tensors.floats[name].shape))),
    };
    let attention = |(heads, dim): (usize, usize)| {
        let width = tensors.floats.get("bias").and_then(|bias| bias.shape.first().copied()).or(next);
        let average = heads > 1 && width == Some(dim) || width.is_none();
        Attrs::new().with("heads", heads).with("average", average).with("negative_slope", 0.2).with("dropout", 0.0)
    };
    Ok(if has("att_src") {
        ("gat_conv", attention(heads("att_src")?))
    } else if has("att") {
        ("gatv2_conv", attention(heads("att")?))
    } else if has("eps") {
        ("gin_conv", Attrs::new())
    } else if has("lin_l.weight") {
        ("sage_conv", Attrs::new().with("aggregation", &assumed.aggregation).with("normalize", false))
    } else if has("lin.weight") {
        ("gcn_conv", Attrs::new())
    } else {
        let names: Vec<&str> = tensors.floats.keys().map(String::as_str).collect();
        return Err(Error::Model(format!("a convolution of tensors {} is not known", names.join(", "))));
    })
}

/// A norm: PyTorch Geometric wraps batch norm in a `module`, and its layer norm is over the whole graph.
fn norm_from(tensors: &Tensors) -> Result<Box<dyn DynLayer<f32>>> {
    let inner = tensors.under("module.");
    match inner.floats.contains_key("running_mean") {
        true => layer_from("batch_norm", &Attrs::new(), &inner),
        false => layer_from("layer_norm", &Attrs::new().with("per_graph", true), tensors),
    }
}
