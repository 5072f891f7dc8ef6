//! A network of PyTorch from its state dict.

use super::assumptions::{Assumptions, Open};
use super::forms::{Activated, InnerForm};
use super::modules::numbered;
use super::network::{Network, NetworkLayer, width_in};
use super::recognise::{self, Found, Reading};
use super::told::Told;
use crate::error::{Error, Result};
use crate::files::Tensors;
use crate::graph::AdjacencyNorm;
use crate::nn::{Aggregation, Attrs, EDGE_WEIGHTS, Model};
use std::collections::BTreeSet;
use std::path::Path;

/// Where a file may hold a [`Network`], which then tells all that its tensors do not.
pub(super) const NETWORK: &str = "network";

/// A model read from a state dict, and what had to be assumed.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The model.
    pub model: Model,
    /// The network as a list of layers, filled in as far as it is known.
    pub network: Network,
    /// One line: the architecture that was found, and every setting that names and shapes do not
    /// tell.
    pub note: String,
}

impl Checkpoint {
    /// Reads a network from its state dict: a file that
    /// `safetensors.torch.save_file(model.state_dict(), FILE)` wrote, one of
    /// [`export`](super::export), or another that [`Tensors::read`] reads.
    ///
    /// The layers are those of `torch_geometric.nn.models` (GCN, GraphSAGE, GAT, GATv2 and GIN,
    /// with norms and jumping knowledge), or of any class of one's own, whatever they are called:
    /// each is told by its tensors, their order by numbers and widths. A prefix that all names
    /// share says nothing. Where the file holds a [`Network`] that is what is built.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is no such network, in one line that says why.
    pub fn read(path: impl AsRef<Path>, assumed: &Assumptions) -> Result<Self> {
        let path = path.as_ref();
        let tensors = Tensors::read(path)?;
        Self::from_tensors(&tensors, assumed).map_err(|error| Error::file(path, error))
    }

    /// Reads a network whose layers `network` lists; `seed` is that of splits and of what is drawn
    /// later.
    ///
    /// # Errors
    /// [`Error::File`] for a file whose tensors are not those of the network.
    pub fn read_as(path: impl AsRef<Path>, network: &Network, seed: u64) -> Result<Self> {
        let path = path.as_ref();
        let tensors = Tensors::read(path)?;
        Self::listed(&tensors, network.clone(), seed, "the network file")
            .map_err(|error| Error::file(path, error))
    }

    /// As [`Checkpoint::read`], from tensors at hand.
    ///
    /// # Errors
    /// [`Error::Network`] for tensors that are no such network; [`Error::Setting`] for an
    /// assumption that changes nothing there.
    pub fn from_tensors(tensors: &Tensors, assumed: &Assumptions) -> Result<Self> {
        if let Some(text) = tensors.metadata.get(NETWORK) {
            assumed.named(&Open { told: true, ..Open::default() })?;
            return Self::listed(tensors, text.parse()?, assumed.seed, "its metadata");
        }
        if tensors.floats.is_empty() {
            return Err(Error::Network("holds no tensors of floats: not a state dict".into()));
        }
        let metadata = &tensors.metadata;
        let (prefix, tensors) = unwrapped(tensors);
        let told = Told::of(metadata, &prefix);
        let Recognised { network, open, found } = if is_basic(&tensors) {
            basic(&tensors, assumed, &told)?
        } else {
            own(&tensors, assumed, &told)?
        };
        let model = network.build(&tensors, assumed.seed)?;
        let place = if prefix.is_empty() { String::new() } else { format!(" under `{prefix}`") };
        let unused: Vec<&str> = tensors
            .integers
            .keys()
            .map(String::as_str)
            .filter(|name| !name.ends_with("num_batches_tracked"))
            .collect();
        let unused = if unused.is_empty() {
            String::new()
        } else {
            format!("; not used: {}", unused.join(", "))
        };
        let assumed = match assumed.named(&open)? {
            nothing if nothing.is_empty() => "nothing assumed, the file tells it".to_string(),
            named => format!("assumed: {named} (`--assume` NAME=VALUE,…)"),
        };
        let note = format!("{found}{place}; {assumed}{unused}");
        Ok(Self { model, network: network.under(&prefix), note })
    }

    fn listed(tensors: &Tensors, network: Network, seed: u64, told: &str) -> Result<Self> {
        let model = network.build(tensors, seed)?;
        let note = format!("{} layers as {told} lists them", network.layers.len());
        Ok(Self { model, network, note })
    }
}

/// A network as it was recognised.
struct Recognised {
    network: Network,
    open: Open,
    /// What was found, for people.
    found: String,
}

/// The tensors without what all their names begin with, as wrappers add it (`module.`,
/// `_orig_mod.`, `model.`), as long as several parts are left, and that prefix.
fn unwrapped(tensors: &Tensors) -> (String, Tensors) {
    let mut prefix = String::new();
    let mut inner = Tensors {
        floats: tensors.floats.clone(),
        integers: tensors.integers.clone(),
        ..Tensors::default()
    };
    while !is_basic(&inner) {
        let names = || inner.floats.keys().chain(inner.integers.keys());
        let heads: BTreeSet<Option<&str>> =
            names().map(|name| name.split_once('.').map(|(head, _)| head)).collect();
        let head = match heads.into_iter().collect::<Vec<_>>()[..] {
            [Some(head)] => format!("{head}."),
            _ => return (prefix, inner),
        };
        let without = inner.under(&head);
        // Below a layer stand its tensors, not layers.
        if without.floats.keys().any(|name| !name.contains('.'))
            || match recognise::layers(&inner) {
                Ok(found) => found.len() < 2 && !found[0].path.contains('.'),
                // Its name may be what the reason is about.
                Err(_) => recognise::convolutional(&head),
            }
        {
            return (prefix, inner);
        }
        let integers = inner
            .integers
            .iter()
            .map(|(name, array)| (name[head.len()..].to_string(), array.clone()))
            .collect();
        prefix += &head;
        inner = Tensors { integers, ..without };
    }
    (prefix, inner)
}

/// Whether these are the names of `torch_geometric.nn.models`.
fn is_basic(tensors: &Tensors) -> bool {
    let known = ["convs.", "norms.", "lin.", "jk."];
    let names = || tensors.floats.keys();
    names().any(|name| name.starts_with("convs.0."))
        && names().all(|name| known.iter().any(|part| name.starts_with(part)))
}

/// The names of a network's layers as they are added.
struct Listing<'a> {
    layers: Vec<NetworkLayer>,
    assumed: &'a Assumptions,
    told: &'a Told,
    open: Open,
}

impl<'a> Listing<'a> {
    fn new(assumed: &'a Assumptions, told: &'a Told) -> Self {
        Self { layers: Vec::new(), assumed, told, open: Open::default() }
    }

    fn last(&self) -> String {
        self.layers.last().map_or_else(|| "x".into(), |layer| layer.name.clone())
    }

    fn push(&mut self, layer: NetworkLayer) {
        self.layers.push(layer);
    }

    /// A convolution or a linear map, its tensors under `path`.
    fn map(
        &mut self,
        name: &str,
        kind: &'static str,
        path: &str,
        tensors: &Tensors,
        next: Option<usize>,
    ) -> Result<()> {
        let has = |part: &str| tensors.floats.contains_key(part);
        let inner = matches!(kind, "gin_conv" | "gine_conv") && !has("nn.weight");
        let told = self.told.layer(kind, path, self.assumed)?;
        // Of a layer that the file tells nothing is open.
        if told.is_none() {
            self.open.kinds.insert(kind);
            self.open.edge_features |= has("att_edge") || has("lin_edge.weight");
            self.open.inner |= inner;
            self.open.layer_norms |= inner
                && tensors
                    .floats
                    .keys()
                    .any(|key| key.starts_with("nn.norms.") && !key.contains("running"))
                && !tensors.floats.keys().any(|key| key.contains("running_mean"));
        }
        let assumed = told.as_ref().unwrap_or(self.assumed);
        let settings = settings_of(kind, tensors, next, assumed)?;
        let settings = if inner { InnerForm::of(assumed).written(settings) } else { settings };
        self.push(NetworkLayer::new(name, kind, settings).tensors(path));
        Ok(())
    }

    /// What stands behind hidden layer `k`: norm, activation and dropout.
    fn hidden(&mut self, k: &str, norm: Option<(&'static str, &str)>) -> Result<()> {
        self.open.hidden = true;
        let act = |listing: &mut Self| {
            if let Some(function) = listing.assumed.activation {
                let activated = Activated::new(function, listing.assumed.leaky_slope);
                listing.push(NetworkLayer::new(
                    format!("act{k}"),
                    "activation",
                    activated.settings(),
                ));
            }
        };
        if self.assumed.activation_first {
            act(self);
        }
        match norm {
            Some((kind, path)) => self.norm(&format!("norm{k}"), kind, path)?,
            None if self.assumed.bare_layer_norm => {
                self.push(NetworkLayer::new(format!("norm{k}"), "layer_norm", self.layer_norm()))
            }
            None => {}
        }
        if !self.assumed.activation_first {
            act(self);
        }
        if self.assumed.dropout > 0.0 {
            self.push(NetworkLayer::new(
                format!("dropout{k}"),
                "dropout",
                Attrs::new().with("p", self.assumed.dropout),
            ));
        }
        Ok(())
    }

    fn norm(&mut self, name: &str, kind: &'static str, path: &str) -> Result<()> {
        self.open.norms = true;
        let settings = match (kind, self.told.layer(kind, path, self.assumed)?) {
            ("layer_norm", Some(told)) => Attrs::new().with("per_graph", told.graph_norm),
            ("layer_norm", None) => {
                self.open.layer_norms = true;
                self.layer_norm()
            }
            _ => Attrs::new(),
        };
        self.push(NetworkLayer::new(name, kind, settings).tensors(path));
        Ok(())
    }

    fn layer_norm(&self) -> Attrs {
        Attrs::new().with("per_graph", self.assumed.graph_norm)
    }
}

/// A network of `torch_geometric.nn.models`.
fn basic(tensors: &Tensors, assumed: &Assumptions, told: &Told) -> Result<Recognised> {
    let of_network = told.network(assumed)?;
    let known = of_network.is_some();
    let assumed = of_network.as_ref().unwrap_or(assumed);
    let convs = numbered(tensors, "convs.")?;
    let norms = numbered(tensors, "norms.")?;
    let last_linear = tensors.under("lin.");
    let jumps = !last_linear.floats.is_empty();
    let count = convs.len();
    if tensors.floats.keys().any(|name| name.starts_with("jk.")) {
        return Err(Error::Network(
            "has jumping knowledge by an LSTM (`jk.`), which is not built; cat, max and last are"
                .into(),
        ));
    }
    let hidden_layers = if jumps { count } else { count - 1 };
    if !norms.is_empty() && norms.len() != hidden_layers {
        return Err(Error::Network(format!(
            "has {} norms for {hidden_layers} hidden layers",
            norms.len()
        )));
    }
    let found = recognise::layers(tensors)?;
    let at = |path: &str| {
        let own = found.iter().find(|layer| layer.path == path);
        own.ok_or_else(|| {
            Error::Network(format!("`{path}` is no layer of `torch_geometric.nn.models`"))
        })
    };
    let mut listing = Listing::new(assumed, told);
    let mut kept: Vec<(String, usize)> = Vec::new();
    let mut kinds = Vec::new();
    for k in 0..count {
        let path = format!("convs.{k}");
        let conv = at(&path)?;
        if !conv.is_conv() {
            return Err(Error::Network(format!("`{path}` is a {}, and no convolution", conv.kind)));
        }
        let next = if k + 1 < count {
            Some(at(&format!("convs.{}", k + 1))?.input)
        } else {
            jumps.then_some(conv.output)
        };
        kinds.push(conv.kind);
        listing.map(&format!("conv{}", k + 1), conv.kind, &path, &conv.tensors, next)?;
        if k == hidden_layers {
            break;
        }
        let norm = if norms.is_empty() { None } else { Some(at(&format!("norms.{k}"))?) };
        listing.hidden(&(k + 1).to_string(), norm.map(|norm| (norm.kind, norm.path.as_str())))?;
        kept.push((listing.last(), conv.output));
    }
    let mut jump = "";
    if jumps {
        let read = width_in("linear", &last_linear);
        let widths: Vec<usize> = kept.iter().map(|(_, width)| *width).collect();
        let names = || kept.iter().map(|(name, _)| name.clone());
        if count > 1 && read == widths.iter().sum::<usize>() {
            jump = ", jumping knowledge by concatenation";
            listing.push(NetworkLayer::new("jump", "concat", Attrs::new()).inputs(names()));
        } else if assumed.jumping_last && widths.last() == Some(&read) {
            (jump, listing.open.jumping) = (", jumping knowledge", true);
        } else if widths.iter().all(|&width| width == read) {
            (jump, listing.open.jumping) = (", jumping knowledge", true);
            listing.push(NetworkLayer::new("jump", "max", Attrs::new()).inputs(names()));
        } else {
            return Err(Error::Network(format!(
                "`lin.weight` reads {read} channels, and the layers before have {widths:?}"
            )));
        }
        listing.push(NetworkLayer::new("out", "linear", Attrs::new()).tensors("lin"));
    }
    if known {
        let Open { kinds, layer_norms, .. } = listing.open;
        listing.open = Open { kinds, layer_norms, told: true, ..Open::default() };
    }
    let kinds = if kinds.windows(2).all(|pair| pair[0] == pair[1]) {
        kinds[0].to_string()
    } else {
        kinds.join(", ")
    };
    let found = format!(
        "{count} layers of {kinds}{}{jump}",
        if norms.is_empty() { "" } else { " with norms" }
    );
    Ok(Recognised { network: Network { layers: listing.layers }, open: listing.open, found })
}

/// A network of one's own class.
fn own(tensors: &Tensors, assumed: &Assumptions, told: &Told) -> Result<Recognised> {
    let found = recognise::layers(tensors)?;
    told.check(&found)?;
    let order = recognise::order(&found)?;
    let maps = |from: usize| {
        order[from..].iter().map(|(k, _)| &found[*k]).filter(|layer| !layer.is_norm())
    };
    let mut listing = Listing::new(assumed, told);
    let mut kept: Vec<String> = Vec::new();
    let mut joined = false;
    let mut names = BTreeSet::new();
    for (at, &(k, reading)) in order.iter().enumerate() {
        let layer = &found[k];
        if layer.is_norm() && at > 0 && !found[order[at - 1].0].is_norm() {
            // It was added with the map before it.
            continue;
        }
        if layer.is_norm() {
            listing.norm(&name_of(layer, &mut names), layer.kind, &layer.path)?;
            continue;
        }
        if reading == Reading::All {
            joined = true;
            listing.push(
                NetworkLayer::new("jump", "concat", Attrs::new()).inputs(kept.iter().cloned()),
            );
        }
        if layer.kind == "gcn2_conv" {
            let reason = "is a GCN2Conv, which reads the first hidden features beside the layer before it; a network file says which";
            return Err(Error::Network(format!("`{}` {reason}", layer.path)));
        }
        let next = maps(at + 1).next().map(|next| next.input);
        listing.map(&name_of(layer, &mut names), layer.kind, &layer.path, &layer.tensors, next)?;
        let norm = order.get(at + 1).map(|(k, _)| &found[*k]).filter(|next| next.is_norm());
        let norm = norm.map(|norm| (norm.kind, norm.path.as_str()));
        if next.is_some() {
            listing.hidden(&format!("_{}", listing.last()), norm)?;
        } else if let Some((kind, path)) = norm {
            listing.norm("norm_last", kind, path)?;
        }
        kept.push(listing.last());
    }
    let told: Vec<String> =
        order.iter().map(|(k, _)| format!("{} ({})", found[*k].path, found[*k].kind)).collect();
    let joined = if joined { ", all layers joined before the last" } else { "" };
    let found = format!(
        "{}{joined}; read as a chain without residual sums, other networks by `--network FILE`",
        told.join(" → ")
    );
    Ok(Recognised { network: Network { layers: listing.layers }, open: listing.open, found })
}

/// A layer's name in the model: its path in the state dict, in letters, digits and underscores.
fn name_of(layer: &Found, taken: &mut BTreeSet<String>) -> String {
    let plain: String =
        layer.path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let plain = if plain.is_empty() || plain.starts_with(|c: char| c.is_ascii_digit()) {
        format!("layer{plain}")
    } else {
        plain
    };
    let mut name = plain.clone();
    let mut k = 2;
    while !taken.insert(name.clone()) {
        name = format!("{plain}_{k}");
        k += 1;
    }
    name
}

/// Settings of a layer, by its tensors and what is assumed; `next` is what the layer after it
/// reads.
fn settings_of(
    kind: &str,
    tensors: &Tensors,
    next: Option<usize>,
    assumed: &Assumptions,
) -> Result<Attrs> {
    let shape = |name: &str| tensors.floats.get(name).map(|array| array.shape.as_slice());
    Ok(match kind {
        "gat_conv" | "gatv2_conv" => {
            let name = if kind == "gat_conv" { "att_src" } else { "att" };
            let (heads, dim) = match shape(name) {
                Some(&[1, heads, dim]) if heads > 0 && dim > 0 => (heads, dim),
                shape => {
                    return Err(Error::Network(format!(
                        "tensor `{name}` has shape {shape:?}, expected [1, heads, channels]"
                    )));
                }
            };
            let width = shape("bias").and_then(|shape| shape.first().copied()).or(next);
            let average = if width.is_none() {
                assumed.average_heads
            } else {
                heads > 1 && width == Some(dim)
            };
            Attrs::new()
                .with("heads", heads)
                .with("average", average)
                .with("negative_slope", assumed.negative_slope)
                .with("dropout", assumed.dropout)
                .with("self_loops", assumed.self_loops)
        }
        "sage_conv" => Attrs::new()
            .with("aggregation", assumed.aggregation)
            .with("normalize", assumed.normalized(false))
            .with(EDGE_WEIGHTS, false),
        "gin_conv" => Attrs::new().with(EDGE_WEIGHTS, false),
        "rgcn_conv" => match assumed.aggregation {
            Aggregation::Max => {
                return Err(Error::Network("an RGCNConv by maxima is not built".into()));
            }
            aggregation => Attrs::new().with("sum", aggregation == Aggregation::Sum),
        },
        "gcn_conv" if !assumed.normalized(true) => Attrs::new().with("norm", AdjacencyNorm::Sum),
        // Without self-loops there are none that could weigh 2.
        "gcn_conv" if assumed.improved && assumed.self_loops => Attrs::new().with("improved", true),
        "gcn_conv" => Attrs::new().with(
            "norm",
            if assumed.self_loops {
                AdjacencyNorm::Symmetric
            } else {
                AdjacencyNorm::SymmetricPlain
            },
        ),
        _ => Attrs::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Array;

    fn state(tensors: &[(&str, &[usize])]) -> Tensors {
        let mut state = Tensors::default();
        for (name, shape) in tensors {
            let values =
                (0..shape.iter().product()).map(|k: usize| 0.1 + k as f32 * 0.01).collect();
            state.floats.insert((*name).into(), Array { shape: shape.to_vec(), values });
        }
        state
    }

    #[test]
    fn jumping_knowledge_by_an_lstm_is_refused_by_name() {
        let tensors = state(&[
            ("convs.0.lin.weight", &[4, 3]),
            ("lin.weight", &[2, 4]),
            ("jk.lstm.weight_ih_l0", &[4, 4]),
        ]);
        let error =
            Checkpoint::from_tensors(&tensors, &Assumptions::default()).err().unwrap().to_string();
        assert!(error.contains("LSTM"), "{error}");
    }

    #[test]
    fn a_prefix_that_all_names_share_says_nothing() {
        let plain = [
            ("conv1.lin.weight", &[4usize, 3][..]),
            ("conv1.bias", &[4]),
            ("conv2.lin.weight", &[2, 4]),
            ("conv2.bias", &[2]),
        ];
        let expected = Checkpoint::from_tensors(&state(&plain), &Assumptions::default()).unwrap();
        assert!(
            expected.note.starts_with("conv1 (gcn_conv) → conv2 (gcn_conv); read as a chain"),
            "{}",
            expected.note
        );
        for prefix in ["module.", "model._orig_mod.", "a.b.c."] {
            let names: Vec<(String, &[usize])> =
                plain.iter().map(|(name, shape)| (format!("{prefix}{name}"), *shape)).collect();
            let names: Vec<(&str, &[usize])> =
                names.iter().map(|(name, shape)| (name.as_str(), *shape)).collect();
            let wrapped =
                Checkpoint::from_tensors(&state(&names), &Assumptions::default()).unwrap();
            assert_eq!(wrapped.model.to_string(), expected.model.to_string());
            assert!(wrapped.note.contains(&format!("under `{prefix}`")), "{}", wrapped.note);
            // The list of layers reads the file as it is.
            let again = wrapped.network.build(&state(&names), 0).unwrap();
            assert_eq!(again.to_string(), expected.model.to_string());
        }
        let alone = state(&[("conv1.lin.weight", &[4, 3]), ("conv1.bias", &[4])]);
        assert!(
            Checkpoint::from_tensors(&alone, &Assumptions::default())
                .unwrap()
                .note
                .starts_with("conv1 (gcn_conv);")
        );
    }

    #[test]
    fn what_reads_a_layer_without_a_bias_tells_whether_its_heads_are_averaged() {
        for reads in [6, 3] {
            let tensors = state(&[
                ("convs.0.lin.weight", &[6, 4]),
                ("convs.0.att_src", &[1, 2, 3]),
                ("convs.0.att_dst", &[1, 2, 3]),
                ("convs.1.lin.weight", &[2, reads]),
                ("convs.1.bias", &[2]),
            ]);
            let found = Checkpoint::from_tensors(&tensors, &Assumptions::default()).unwrap();
            let conv =
                found.model.nodes().iter().find(|node| node.layer().kind() == "gat_conv").unwrap();
            assert_eq!(conv.channels(), reads);
        }
    }

    #[test]
    fn jumping_knowledge_is_of_the_last_layer_where_that_is_assumed() {
        let tensors = state(&[
            ("convs.0.lin.weight", &[4, 3]),
            ("convs.0.bias", &[4]),
            ("convs.1.lin.weight", &[4, 4]),
            ("convs.1.bias", &[4]),
            ("lin.weight", &[2, 4]),
            ("lin.bias", &[2]),
        ]);
        for (words, joins) in [("", 1), ("jumping=last", 0)] {
            let found = Checkpoint::from_tensors(&tensors, &words.parse().unwrap()).unwrap();
            let joined =
                found.model.nodes().iter().filter(|node| node.layer().kind() == "max").count();
            assert_eq!(joined, joins, "`{words}`: {}", found.model);
        }
    }

    #[test]
    fn whole_numbers_that_are_not_used_are_named() {
        let mut tensors = state(&[("conv1.lin.weight", &[4, 3]), ("conv1.bias", &[4])]);
        tensors.integers.insert("bn.num_batches_tracked".into(), (vec![], vec![7]));
        assert!(
            !Checkpoint::from_tensors(&tensors, &Assumptions::default())
                .unwrap()
                .note
                .contains("not used")
        );
        tensors.integers.insert("steps".into(), (vec![], vec![7]));
        let note = Checkpoint::from_tensors(&tensors, &Assumptions::default()).unwrap().note;
        assert!(note.ends_with("; not used: steps"), "{note}");
    }

    #[test]
    fn a_list_of_layers_comes_back_as_it_was_written() {
        let tensors = state(&[
            ("convs.0.nn.0.weight", &[4, 3]),
            ("convs.0.nn.0.bias", &[4]),
            ("convs.0.nn.2.weight", &[4, 4]),
            ("convs.0.nn.2.bias", &[4]),
            ("convs.0.eps", &[1]),
            ("convs.1.lin_l.weight", &[2, 4]),
            ("convs.1.lin_l.bias", &[2]),
            ("convs.1.lin_r.weight", &[2, 4]),
        ]);
        let assumed: Assumptions =
            "activation=leaky_relu:0.3,act_last=true,dropout=0.2".parse().unwrap();
        let found = Checkpoint::from_tensors(&tensors, &assumed).unwrap();
        let written = found.network.to_string();
        let read: Network = written.parse().unwrap();
        assert_eq!(read, found.network, "{written}");
        assert_eq!(read.build(&tensors, 0).unwrap().to_string(), found.model.to_string());
        let mut kept = tensors.clone();
        kept.metadata.insert(NETWORK.into(), written.clone());
        let told = Checkpoint::from_tensors(&kept, &Assumptions::default()).unwrap();
        assert_eq!(told.model.to_string(), found.model.to_string());
        assert!(told.note.contains("as its metadata lists them"), "{}", told.note);
        let idle = Checkpoint::from_tensors(&kept, &assumed).err().unwrap().to_string();
        assert!(idle.contains("assumption"), "{idle}");
    }

    #[test]
    fn what_was_exported_comes_back_with_the_weights_of_edges_that_it_reads() {
        use crate::nn::{GinConv, ModelBuilder, NodeId, SageConv};
        let graph = crate::Graph::<f32>::builder(3)
            .weighted_edges([(0, 1, 0.5), (2, 1, 4.0), (1, 2, 2.0)])
            .build()
            .unwrap();
        let x = ndarray::array![[1.0f32, 2.0], [-1.0, 0.5], [3.0, 1.0]];
        let mut seen = Vec::new();
        for weighted in [true, false] {
            let mut b = ModelBuilder::<f32>::new(2);
            let (sage, gin) = (SageConv::builder(2, 4), GinConv::builder(4, 4, 3));
            let (sage, gin) = if weighted {
                (sage, gin)
            } else {
                (sage.edge_weights(false), gin.edge_weights(false))
            };
            let h = b.add("sage", sage.build().unwrap(), &[NodeId::INPUT]).unwrap();
            let y = b.add("gin", gin.build().unwrap(), &[h]).unwrap();
            let model = b.build(y, 1).unwrap();
            let back = Checkpoint::from_tensors(
                &super::super::export(&model, "out").unwrap().tensors,
                &Assumptions::default(),
            )
            .unwrap();
            let infer = |model: &Model| {
                model
                    .infer(&crate::nn::Cx::eval(&graph), crate::value::ValueRef::Dense(x.view()))
                    .unwrap()
            };
            assert_eq!(infer(&back.model), infer(&model), "weighted: {weighted}");
            seen.push(infer(&model));
        }
        assert_ne!(seen[0], seen[1], "the weights change nothing here");
    }

    #[test]
    fn relations_are_summed_and_improved_loops_left_out_where_that_is_told() {
        let of = |kind, words: &str| {
            settings_of(kind, &Tensors::default(), None, &words.parse().unwrap())
        };
        assert_eq!(of("rgcn_conv", "aggregation=add").unwrap(), Attrs::new().with("sum", true));
        assert_eq!(of("rgcn_conv", "").unwrap(), Attrs::new().with("sum", false));
        assert!(of("rgcn_conv", "aggregation=max").unwrap_err().to_string().contains("maxima"));
        assert_eq!(of("gcn_conv", "improved=true").unwrap(), Attrs::new().with("improved", true));
        assert_eq!(
            of("gcn_conv", "improved=true,self_loops=false").unwrap(),
            Attrs::new().with("norm", AdjacencyNorm::SymmetricPlain)
        );
    }

    #[test]
    fn a_list_of_layers_that_does_not_fit_says_where() {
        let tensors = state(&[("conv1.lin.weight", &[4, 3]), ("conv1.bias", &[4])]);
        let one = |more: &str| format!("[[layer]]\nname = \"conv1\"\nkind = \"gcn_conv\"\n{more}");
        let message = |text: String| {
            text.parse::<Network>()
                .and_then(|network| network.build(&tensors, 0))
                .err()
                .unwrap()
                .to_string()
        };
        assert!(one("").parse::<Network>().unwrap().build(&tensors, 0).is_ok());
        for (text, word) in [
            (one("heads = 3"), "no setting `heads`"),
            (one("norm = \"none\""), "norm"),
            (one("improved = true\nnorm = \"symmetric_plain\""), "give one of the two"),
            (one("inputs = [\"y\"]"), "reads `y`"),
            (one("tensors = \"other\""), "no layer"),
            (
                one("[[layer]]\nname = \"conv1\"\nkind = \"dropout\"\np = 0.5"),
                "two layers are called `conv1`",
            ),
            (one("[[layer]]\nname = \"b\"\nkind = \"gru\""), "kind `gru` is not known"),
            (
                one("[[layer]]\nname = \"b\"\nkind = \"lg_conv\"\nnorms = \"sum\""),
                "no setting `norms`",
            ),
            (
                one("[[layer]]\nname = \"b\"\nkind = \"embedding\""),
                "whose rows are of the nodes of one graph",
            ),
            (one("[[layer]]\nname = \"b\""), "line 4: missing field `kind`"),
            (
                one(
                    "[[layer]]\nname = \"b\"\nkind = \"activation\"\nfunction = \"relu\"\nslope = 0.2",
                ),
                "leaky_relu alone",
            ),
            (one("improved = nan"), "setting `improved` of layer `conv1` is not finite"),
            ("layer = []".into(), "has 0 layers"),
            ("layers = []".into(), "unknown field"),
        ] {
            let message = message(text.clone());
            assert!(message.contains(word) && !message.contains('\n'), "{text}: {message}");
        }
    }
}
