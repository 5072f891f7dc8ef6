//! A network of `torch_geometric.nn.models` from its state dict: the architecture follows from names and shapes.

use super::modules::{add_activated, add_module, numbered};
use super::names::layer_from;
use crate::error::{Error, Result};
use crate::files::Tensors;
use crate::graph::Norm;
use crate::nn::{ActivationFn, Aggregation, Attrs, Concat, Dropout, Max, Model, ModelBuilder, NodeId};
use std::fmt::Write;
use std::path::Path;
use std::str::FromStr;

/// What a state dict does not tell; the defaults are those of PyTorch Geometric.
///
/// From text as `activation=elu,aggregation=max`: each name with its value, separated by commas.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Assumptions {
    /// `activation`: function after hidden layers, `relu`, `leaky_relu`, `elu`, `tanh` or `sigmoid`. Default ReLU.
    pub activation: ActivationFn,
    /// `act_first`: whether the activation comes before the norm. Default `false`.
    pub activation_first: bool,
    /// `dropout`: dropout in training, of attention weights too. Default 0.
    pub dropout: f64,
    /// `aggregation` of GraphSAGE: `mean`, `sum` or `max`. Default `mean`.
    pub aggregation: Aggregation,
    /// `normalize`: whether GraphSAGE divides rows by their lengths. Default `false`.
    pub normalize: bool,
    /// `jumping`: where the last linear layer reads one hidden width, of all layers their `max` or the `last` alone. Default `max`.
    pub jumping_last: bool,
    /// `layer_norm`: over the whole `graph` or each `node`. Default `graph`.
    pub graph_norm: bool,
    /// `negative_slope` of attention scores. Default 0.2.
    pub negative_slope: f64,
    /// `self_loops`: whether attention and GCN add self-loops. Default `true`.
    pub self_loops: bool,
    /// `improved` of GCN. Default `false`.
    pub improved: bool,
    /// `seed` of the splits and of what is drawn later. Default 0.
    pub seed: u64,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self {
            activation: ActivationFn::Relu,
            activation_first: false,
            dropout: 0.0,
            aggregation: Aggregation::Mean,
            normalize: false,
            jumping_last: false,
            graph_norm: true,
            negative_slope: 0.2,
            self_loops: true,
            improved: false,
            seed: 0,
        }
    }
}

impl FromStr for Assumptions {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut found = Self::default();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            found.set(name.trim(), value.trim())?;
        }
        Ok(found)
    }
}

impl Assumptions {
    /// What was assumed of a network of layers of these kinds, as [`Assumptions::from_str`] reads it.
    fn named(&self, kinds: &[&str], norms: bool, layer_norms: bool, jumping: bool) -> String {
        let any = |known: &[&str]| kinds.iter().any(|kind| known.contains(kind));
        let (gcn, sage, gat) = (any(&["gcn_conv"]), any(&["sage_conv"]), any(&["gat_conv", "gatv2_conv"]));
        let either = |first: bool, words: [&str; 2]| words[usize::from(!first)].to_string();
        let named = [
            (true, "activation", self.activation.word().into()),
            (norms, "act_first", self.activation_first.to_string()),
            (true, "dropout", self.dropout.to_string()),
            (sage, "aggregation", format!("{:?}", self.aggregation).to_lowercase()),
            (sage, "normalize", self.normalize.to_string()),
            (jumping, "jumping", either(self.jumping_last, ["last", "max"])),
            (layer_norms, "layer_norm", either(self.graph_norm, ["graph", "node"])),
            (gat, "negative_slope", self.negative_slope.to_string()),
            (gcn || gat, "self_loops", self.self_loops.to_string()),
            (gcn, "improved", self.improved.to_string()),
        ];
        let named = named.into_iter().filter(|(relevant, ..)| *relevant).map(|(_, name, value)| format!("{name}={value}"));
        named.collect::<Vec<_>>().join(",")
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let refuse = |allowed: &str| Error::setting(format!("assumption `{name}`"), value, allowed.to_string());
        let number = |allowed: &str, fits: fn(&f64) -> bool| value.parse().ok().filter(fits).ok_or_else(|| refuse(allowed));
        let flag = || value.parse().map_err(|_| refuse("true or false"));
        let either = |yes: &str, no: &str| match value {
            _ if value == yes => Ok(true),
            _ if value == no => Ok(false),
            _ => Err(refuse(&format!("{yes} or {no}"))),
        };
        match name {
            "activation" => {
                let word = |function: &ActivationFn| function.word() == value;
                let functions = ActivationFn::ALL.map(ActivationFn::word).join(", ");
                self.activation = ActivationFn::ALL.into_iter().find(word).ok_or_else(|| refuse(&functions))?;
            }
            "act_first" => self.activation_first = flag()?,
            "dropout" => self.dropout = number("in [0, 1)", |p| (0.0..1.0).contains(p))?,
            "aggregation" => self.aggregation = value.parse()?,
            "normalize" => self.normalize = flag()?,
            "jumping" => self.jumping_last = either("last", "max")?,
            "layer_norm" => self.graph_norm = either("graph", "node")?,
            "negative_slope" => self.negative_slope = number("finite and at least 0", |s| (0.0..f64::INFINITY).contains(s))?,
            "self_loops" => self.self_loops = flag()?,
            "improved" => self.improved = flag()?,
            "seed" => self.seed = value.parse().map_err(|_| refuse("a whole number"))?,
            _ => return Err(Error::setting("assumption", name, ASSUMED)),
        }
        Ok(())
    }
}

/// The names of all assumptions.
const ASSUMED: &str =
    "activation, act_first, dropout, aggregation, normalize, jumping, layer_norm, negative_slope, self_loops, improved or seed";

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
        if tensors.floats.keys().any(|name| name.starts_with("jk.")) {
            return Err(Error::Model("has jumping knowledge by an LSTM (`jk.`), which is not built; cat, max and last are".into()));
        }
        if let Some(name) = tensors.floats.keys().find(|name| !["convs.", "norms.", "lin."].iter().any(|known| name.starts_with(known))) {
            return Err(Error::Model(format!("tensor `{name}` belongs to no part that is read (convs, norms, lin)")));
        }
        let hidden_layers = if jumps { count } else { count - 1 };
        if !norms.is_empty() && norms.len() != hidden_layers {
            return Err(Error::Model(format!("has {} norms for {hidden_layers} hidden layers", norms.len())));
        }

        let mut found = Vec::new();
        let mut b = ModelBuilder::new(width_in(&convs[0]));
        let mut x = NodeId::INPUT;
        let mut kept = Vec::new();
        for (k, conv) in convs.iter().enumerate() {
            let next = convs.get(k + 1).map(width_in).or_else(|| jumps.then(|| width_in(&convs[k])));
            let (kind, attrs) = kind_of(conv, next, assumed)?;
            found.push(kind);
            let at = |what: &str, error: Error| Error::Model(format!("{what}.{k}: {error}"));
            let name = k + 1;
            x = add_module(&mut b, &format!("conv{name}"), kind, &attrs, conv, assumed, &[x]).map_err(|error| at("convs", error))?;
            if k == hidden_layers {
                break;
            }
            x = add_activated(&mut b, "", &name.to_string(), norms.get(k), assumed, x).map_err(|error| at("norms", error))?;
            if assumed.dropout > 0.0 {
                x = b.add(&format!("dropout{name}"), Dropout::new(assumed.dropout)?, &[x])?;
            }
            kept.push(x);
        }
        let (mut jump, mut ambiguous) = ("", false);
        if jumps {
            let read = width_in(&last_linear);
            let widths: Vec<usize> = kept.iter().map(|&id| b.channels(id)).collect();
            x = if count > 1 && read == widths.iter().sum::<usize>() {
                jump = ", jumping knowledge by concatenation";
                b.add("jump", Concat::new(), &kept)?
            } else if assumed.jumping_last && widths.last() == Some(&read) {
                (jump, ambiguous) = (", jumping knowledge", true);
                x
            } else if widths.iter().all(|&width| width == read) {
                (jump, ambiguous) = (", jumping knowledge", true);
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
        let layer_norms = norms.iter().any(|norm| !norm.floats.contains_key("module.running_mean"));
        let _ = write!(note, "; assumed: {} (`--assume` NAME=VALUE,…)", assumed.named(&found, !norms.is_empty(), layer_norms, ambiguous));
        Ok(Self { model, note })
    }
}

/// The channels that a layer reads: columns of the first of its linear maps.
fn width_in(tensors: &Tensors) -> usize {
    let linear = ["lin.weight", "lin_src.weight", "lin_l.weight", "nn.lins.0.weight", "nn.0.weight", "nn.weight", "weight"];
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
        Attrs::new()
            .with("heads", heads)
            .with("average", average)
            .with("negative_slope", assumed.negative_slope)
            .with("dropout", assumed.dropout)
            .with("self_loops", assumed.self_loops)
    };
    Ok(if has("att_src") {
        ("gat_conv", attention(heads("att_src")?))
    } else if has("att") {
        ("gatv2_conv", attention(heads("att")?))
    } else if has("eps") {
        ("gin_conv", Attrs::new())
    } else if has("lin_l.weight") {
        ("sage_conv", Attrs::new().with("aggregation", assumed.aggregation).with("normalize", assumed.normalize))
    } else if has("lin.weight") {
        let norm = if assumed.self_loops { Norm::Symmetric } else { Norm::SymmetricPlain };
        ("gcn_conv", if assumed.improved { Attrs::new().with("improved", true) } else { Attrs::new().with("norm", norm) })
    } else {
        let names: Vec<&str> = tensors.floats.keys().map(String::as_str).collect();
        return Err(Error::Model(format!("a convolution of tensors {} is not known", names.join(", "))));
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Array;

    #[test]
    fn what_is_assumed_is_named_as_it_is_given() {
        let text = "activation=elu,act_first=true,dropout=0.25,aggregation=max,normalize=true,jumping=last,layer_norm=node,\
                    negative_slope=0.1,self_loops=false,improved=true";
        let assumed: Assumptions = text.parse().unwrap();
        assert_eq!(assumed.named(&["gcn_conv", "sage_conv", "gat_conv"], true, true, true), text);
        assert_eq!(Assumptions::default().named(&["gin_conv"], false, false, false), "activation=relu,dropout=0");
        assert_eq!("".parse::<Assumptions>().unwrap(), Assumptions::default());
        for (wrong, word) in [("aggr=max", "aggr"), ("dropout=1", "dropout"), ("activation=gelu", "gelu"), ("jumping", "last or max")] {
            let message = wrong.parse::<Assumptions>().unwrap_err().to_string();
            assert!(message.contains(word) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn jumping_knowledge_by_an_lstm_is_refused_by_name() {
        let mut tensors = Tensors::default();
        let mut add = |name: &str, shape: &[usize]| {
            let values = vec![0.5; shape.iter().product()];
            tensors.floats.insert(name.into(), Array { shape: shape.to_vec(), values });
        };
        add("convs.0.lin.weight", &[4, 3]);
        add("lin.weight", &[2, 4]);
        add("jk.lstm.weight_ih_l0", &[4, 4]);
        let error = Checkpoint::from_tensors(&tensors, &Assumptions::default()).err().unwrap().to_string();
        assert!(error.contains("LSTM"), "{error}");
    }
}
