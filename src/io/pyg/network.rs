//! A network as a list of layers: what names and shapes of a state dict cannot tell, said.

use super::forms::{Activated, InnerForm, RUNNING, add_activation};
use super::modules::add_module;
use super::names::{layer_from, twin_of};
use crate::error::{Error, Result};
use crate::files::{self, Array, Tensors};
use crate::nn::{
    Add, Aggregation, Attrs, EDGE_WEIGHTS, Model, ModelBuilder, NodeId, Registry, Shapes,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;

/// A network as a list of layers, which says of a state dict what its names and shapes do not:
/// order, activations, sums, settings.
///
/// As text it is TOML, one `[[layer]]` after the other:
///
/// ```toml
/// [[layer]]
/// name = "conv1"
/// kind = "gcn_conv"
///
/// [[layer]]
/// name = "relu1"
/// kind = "activation"
/// function = "relu"
///
/// [[layer]]
/// name = "sum1"
/// kind = "add"
/// inputs = ["x", "relu1"]
/// ```
///
/// A layer has a `name`, a `kind` of the registry, the `inputs` that it reads (`x` are the
/// features; without, the layer before), the place of its `tensors` in the state dict (without, its
/// name), and its settings. What the last layer computes is the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The layers, each after those that it reads.
    #[serde(rename = "layer")]
    pub layers: Vec<NetworkLayer>,
}

/// One layer of a [`Network`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NetworkLayer {
    /// Its name in the model.
    pub name: String,
    /// Its kind, as `gnn-prune inspect` prints it.
    pub kind: String,
    /// What its tensors' names begin with in the state dict, without the dot; its name where this
    /// is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensors: Option<String>,
    /// The layers that it reads, `x` for the features; the one before where this is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
    /// Its settings.
    #[serde(flatten)]
    pub settings: Attrs,
}

/// What the features are called.
const FEATURES: &str = "x";
/// Layers of a network file: each is a layer of a model, with a few parts.
const MOST_LAYERS: usize = 10_000;
/// How often the numbers of a file may stand in a model whose layers share them.
const MOST_COPIES: usize = 16;

impl NetworkLayer {
    /// A layer that reads the one before it.
    pub(super) fn new(name: impl Into<String>, kind: &str, settings: Attrs) -> Self {
        Self { name: name.into(), kind: kind.into(), tensors: None, inputs: Vec::new(), settings }
    }

    pub(super) fn tensors(mut self, path: impl Into<String>) -> Self {
        self.tensors = Some(path.into());
        self
    }

    pub(super) fn inputs(mut self, inputs: impl IntoIterator<Item = String>) -> Self {
        self.inputs = inputs.into_iter().collect();
        self
    }

    fn path(&self) -> &str {
        self.tensors.as_deref().unwrap_or(&self.name)
    }

    /// Whether it has no tensors.
    fn is_bare(&self) -> bool {
        twin_of(&self.kind).is_ok_and(|twin| twin.tensors.is_empty())
    }
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let network: Self = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            Error::Network(format!("network file, line {line}: {}", error.message().trim()))
        })?;
        let wrong = |layer: &NetworkLayer| {
            Some((
                layer.name.clone(),
                layer.settings.iter().find(|(_, value)| !is_finite(value))?.0.to_string(),
            ))
        };
        match network.layers.iter().find_map(wrong) {
            Some((layer, name)) => Err(Error::Network(format!(
                "network file: setting `{name}` of layer `{layer}` is not finite"
            ))),
            None => Ok(network),
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&toml::to_string(self).map_err(|_| std::fmt::Error)?)
    }
}

impl Network {
    /// Reads a network file.
    ///
    /// # Errors
    /// [`Error::File`] for a file that cannot be read or is no list of layers, with the line.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = String::from_utf8(files::read(path)?)
            .map_err(|_| Error::file(path, "is no text: a network file is TOML"))?;
        text.parse().map_err(|error| Error::file(path, error))
    }

    /// The network that a model is: each of its layers, with tensors as [`export`](super::export)
    /// names them.
    pub fn of(model: &Model) -> Self {
        let name = |id: NodeId| {
            if id == NodeId::INPUT { FEATURES.to_string() } else { model.name_of(id).to_string() }
        };
        let layer = |node: &crate::nn::Node<f32>| {
            let (kind, mut settings) = (node.layer().kind(), node.layer().attrs());
            // How many there are is what the list of inputs says.
            if kind == "max" {
                settings = Attrs::new();
            }
            // A model that says nothing reads weights, a network file that says nothing does not.
            if settings_of(kind).contains(&EDGE_WEIGHTS)
                && settings.iter().all(|(name, _)| name != EDGE_WEIGHTS)
            {
                settings = settings.with(EDGE_WEIGHTS, true);
            }
            NetworkLayer::new(node.name(), kind, settings)
                .inputs(node.inputs().iter().map(|&id| name(id)))
        };
        Self { layers: model.nodes().iter().map(layer).collect() }
    }

    /// The same network, its tensors under `prefix`.
    pub(super) fn under(mut self, prefix: &str) -> Self {
        for layer in self.layers.iter_mut().filter(|layer| !layer.is_bare()) {
            let path = format!("{prefix}{}", layer.path());
            layer.tensors = (path != layer.name).then_some(path);
        }
        self
    }

    /// Builds the model with its parameters from `tensors`, of which each must belong to a layer;
    /// `seed` is kept with the model.
    ///
    /// # Errors
    /// [`Error::Network`] for a layer of an unknown kind, one that reads what does not stand before
    /// it, settings or tensors that do not fit, a tensor that is missing or belongs to no layer.
    pub fn build(&self, tensors: &Tensors, seed: u64) -> Result<Model> {
        let wrong = |problem: String| Error::Network(format!("network file: {problem}"));
        if self.layers.is_empty() || self.layers.len() > MOST_LAYERS {
            return Err(wrong(format!(
                "has {} layers, expected 1 to {MOST_LAYERS}",
                self.layers.len()
            )));
        }
        let mut before = BTreeSet::from([FEATURES]);
        for layer in &self.layers {
            if let Some(missing) = layer.inputs.iter().find(|name| !before.contains(name.as_str()))
            {
                return Err(wrong(format!(
                    "layer `{}` reads `{missing}`, which does not stand before it",
                    layer.name
                )));
            }
            if !before.insert(&layer.name) {
                return Err(wrong(format!("two layers are called `{}`", layer.name)));
            }
        }
        let parts = self.parts(tensors)?;
        let Some(first) = self.first(&parts) else {
            return Err(wrong(
                "no layer that reads the features `x` tells how many there are".into(),
            ));
        };
        let mut b = ModelBuilder::new(width_in(&self.layers[first].kind, &parts[first]));
        let mut known = BTreeMap::from([(FEATURES, NodeId::INPUT)]);
        let mut x = NodeId::INPUT;
        for (layer, part) in self.layers.iter().zip(&parts) {
            let inputs = if layer.inputs.is_empty() {
                vec![x]
            } else {
                layer.inputs.iter().map(|name| known[name.as_str()]).collect()
            };
            x = add(&mut b, layer, part, &inputs).map_err(|error| in_layer(layer, error))?;
            known.insert(&layer.name, x);
        }
        b.build_undrawn(x, seed)
    }

    /// The first layer that reads the features and tells how many there are, directly or through
    /// layers that keep the width.
    fn first(&self, parts: &[Tensors]) -> Option<usize> {
        let mut features = BTreeSet::from([FEATURES]);
        let mut before = FEATURES;
        for (k, layer) in self.layers.iter().enumerate() {
            let reads = layer.inputs.iter().any(|name| features.contains(name.as_str()))
                || layer.inputs.is_empty() && features.contains(before);
            let told = width_in(&layer.kind, &parts[k]) > 0;
            if reads && told {
                return Some(k);
            }
            if reads {
                features.insert(&layer.name);
            }
            before = &layer.name;
        }
        None
    }

    /// For each layer its tensors: those under its place, but for those under the place of another
    /// layer below it.
    fn parts(&self, tensors: &Tensors) -> Result<Vec<Tensors>> {
        let full = || self.layers.iter().filter(|layer| !layer.is_bare());
        let mut of: BTreeMap<&str, Tensors> =
            full().map(|layer| (layer.path(), Tensors::default())).collect();
        let lost = |name: &str| {
            Error::Network(format!("tensor `{name}` belongs to no layer of the network file"))
        };
        for (name, array) in &tensors.floats {
            // The longest path is the one that is meant.
            let cuts = name.char_indices().rev().filter(|(_, c)| *c == '.').map(|(at, _)| at);
            let home = cuts
                .map(|at| (&name[..at], &name[at + 1..]))
                .find(|(path, _)| of.contains_key(path));
            let (path, rest) = home
                .or_else(|| of.contains_key("").then_some(("", name.as_str())))
                .ok_or_else(|| lost(name))?;
            of.get_mut(path).expect("it was found").floats.insert(rest.into(), array.clone());
        }
        let numbers =
            |part: &Tensors| part.floats.values().map(|array| array.values.len()).sum::<usize>();
        // Layers may share tensors, and each has a copy.
        if full().map(|layer| numbers(&of[layer.path()])).sum::<usize>()
            > MOST_COPIES * numbers(tensors)
        {
            return Err(Error::Network(format!(
                "network file: layers share tensors more than {MOST_COPIES} times over"
            )));
        }
        let part = |layer: &NetworkLayer| {
            if layer.is_bare() { Tensors::default() } else { of[layer.path()].clone() }
        };
        Ok(self.layers.iter().map(part).collect())
    }
}

/// Whether all numbers of a setting are finite: of others TOML has words, and settings have none.
fn is_finite(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => false,
        serde_json::Value::Array(values) => values.iter().all(is_finite),
        serde_json::Value::Object(values) => values.values().all(is_finite),
        _ => true,
    }
}

fn in_layer(layer: &NetworkLayer, error: Error) -> Error {
    match error {
        Error::Network(problem) => Error::Network(format!("{}: {problem}", layer.path())),
        Error::Model(problem) => Error::Network(format!("{}: {problem}", layer.path())),
        other => other,
    }
}

/// Adds a layer, of several parts where the registry has none of its kind.
fn add(
    b: &mut ModelBuilder<f32>,
    layer: &NetworkLayer,
    tensors: &Tensors,
    inputs: &[NodeId],
) -> Result<NodeId> {
    let (name, kind, settings) = (layer.name.as_str(), layer.kind.as_str(), &layer.settings);
    match kind {
        "activation" => add_activation(b, name, Activated::from_settings(settings)?, inputs),
        "add" if settings.is_empty() => b.add(name, Add::new(inputs.len())?, inputs),
        "max" if settings.is_empty() => b.add(name, crate::nn::Max::new(inputs.len())?, inputs),
        _ if layer.is_bare() => b.add_boxed(
            name,
            Registry::standard().load(
                kind,
                &with_defaults(kind, settings, tensors)?,
                &Shapes::default(),
            )?,
            inputs,
        ),
        "batch_norm" | "layer_norm" => {
            let width = inputs.first().map_or(0, |&id| b.channels(id));
            b.add_boxed(
                name,
                layer_from(
                    kind,
                    &with_defaults(kind, settings, tensors)?,
                    &whole_norm(kind, tensors, width)?,
                )?,
                inputs,
            )
        }
        _ => {
            twin_of(kind)?;
            add_module(
                b,
                name,
                kind,
                &with_defaults(kind, settings, tensors)?,
                tensors,
                &InnerForm::from_settings(settings)?,
                inputs,
            )
        }
    }
}

/// The channels that a layer reads, by its tensors.
pub(super) fn width_in(kind: &str, tensors: &Tensors) -> usize {
    let axis = |name: &str, axis: usize| {
        tensors.floats.get(name).and_then(|array| array.shape.get(axis)).copied()
    };
    let linear = [
        "lin.weight",
        "lin_src.weight",
        "lin_l.weight",
        "nn.lins.0.weight",
        "nn.0.weight",
        "nn.weight",
    ];
    match kind {
        "rgcn_conv" => axis("weight", 1),
        "gcn2_conv" => axis("weight1", 0),
        // What it reads is as wide as what the features of edges are mapped to.
        "gine_aggregation" => axis("lin.weight", 0),
        "batch_norm" | "layer_norm" => {
            ["weight", "module.weight", "running_mean", "module.running_mean"]
                .iter()
                .find_map(|name| axis(name, 0))
        }
        "gin_conv" | "gine_conv" => inner_maps(tensors).first().map(|&[_, width]| width),
        _ => linear.iter().find_map(|name| axis(name, 1)).or_else(|| axis("weight", 1)),
    }
    .unwrap_or(0)
}

/// Rows and columns of the linear maps of an inner network, in their order: of a list, which may
/// begin with what has no tensors, or of one map alone.
pub(super) fn inner_maps(tensors: &Tensors) -> Vec<[usize; 2]> {
    let place = |name: &str| match name.strip_prefix("nn.")? {
        "weight" => Some(0),
        rest => rest.trim_start_matches("lins.").split('.').next()?.parse::<u64>().ok(),
    };
    let map = |(name, array): (&String, &Array)| {
        Some((place(name)?, array.shape.clone().try_into().ok()?))
    };
    let mut maps: Vec<(u64, [usize; 2])> = tensors.floats.iter().filter_map(map).collect();
    maps.sort_unstable();
    maps.into_iter().map(|(_, shape)| shape).collect()
}

/// A norm's tensors without the `module.` that PyTorch Geometric wraps batch norm in; what a norm
/// without weights lacks is one and zero.
fn whole_norm(kind: &str, tensors: &Tensors, width: usize) -> Result<Tensors> {
    let inner = tensors.under("module.");
    let mut whole = if inner.floats.is_empty() { tensors.clone() } else { inner };
    if kind == "batch_norm" && !whole.floats.contains_key("running_mean") {
        return Err(Error::Network(RUNNING.into()));
    }
    let constant = |value: f32| Array { shape: vec![width], values: vec![value; width] };
    whole.floats.entry("weight".into()).or_insert_with(|| constant(1.0));
    whole.floats.entry("bias".into()).or_insert_with(|| constant(0.0));
    Ok(whole)
}

/// The names of the settings of a kind.
fn settings_of(kind: &str) -> &'static [&'static str] {
    twin_of(kind).map_or(&[], |twin| twin.settings)
}

/// Settings with PyTorch Geometric's defaults where none were given; what no such layer has is
/// refused.
fn with_defaults(kind: &str, settings: &Attrs, tensors: &Tensors) -> Result<Attrs> {
    let mut attrs = match kind {
        "sage_conv" => Attrs::new()
            .with("aggregation", Aggregation::Mean)
            .with("normalize", false)
            .with(EDGE_WEIGHTS, false),
        "gin_conv" | "gin_aggregation" => Attrs::new().with(EDGE_WEIGHTS, false),
        "rgcn_conv" => {
            let rows = |name: &str| {
                tensors.floats.get(name).and_then(|array| array.shape.first()).copied()
            };
            Attrs::new()
                .with("relations", rows("comp").or(rows("weight")).unwrap_or(0))
                .with(EDGE_WEIGHTS, false)
        }
        "gat_conv" | "gatv2_conv" => {
            let shape = ["att_src", "att"]
                .iter()
                .find_map(|name| tensors.floats.get(*name))
                .map(|array| array.shape.as_slice());
            let heads = shape.and_then(|shape| shape.get(1)).copied().unwrap_or(1);
            Attrs::new()
                .with("heads", heads)
                .with("average", false)
                .with("negative_slope", 0.2)
                .with("dropout", 0.0)
                .with("self_loops", true)
        }
        "layer_norm" => Attrs::new().with("per_graph", true),
        "gcn2_conv" => Attrs::new().with("alpha", 0.1).with("beta", 1.0),
        _ => Attrs::new(),
    };
    let known = settings_of(kind);
    let inner = matches!(kind, "gin_conv" | "gine_conv");
    for (name, value) in settings.iter() {
        match name {
            _ if inner && InnerForm::SETTINGS.contains(&name) => {}
            _ if known.contains(&name) => attrs = attrs.with(name, value),
            _ if known.is_empty() => {
                return Err(Error::Network(format!(
                    "a {kind} has no setting `{name}`, nor any other"
                )));
            }
            _ => {
                return Err(Error::Network(format!(
                    "a {kind} has no setting `{name}`; it has {}",
                    known.join(", ")
                )));
            }
        }
    }
    Ok(attrs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ActivationFn;

    #[test]
    fn a_setting_that_is_not_given_is_that_of_pytorch_geometric() {
        let attention = Attrs::new()
            .with("heads", 4)
            .with("average", false)
            .with("negative_slope", 0.2)
            .with("dropout", 0.0)
            .with("self_loops", true);
        let heads = |name: &str| {
            let mut tensors = Tensors::default();
            tensors
                .floats
                .insert(name.into(), Array { shape: vec![1, 4, 2], values: vec![0.0; 8] });
            tensors
        };
        let none = Tensors::default();
        for (kind, tensors, expected) in [
            ("gat_conv", &heads("att_src"), attention.clone()),
            ("gatv2_conv", &heads("att"), attention),
            (
                "sage_conv",
                &none,
                Attrs::new()
                    .with("aggregation", Aggregation::Mean)
                    .with("normalize", false)
                    .with(EDGE_WEIGHTS, false),
            ),
            ("gin_conv", &none, Attrs::new().with(EDGE_WEIGHTS, false)),
            ("layer_norm", &none, Attrs::new().with("per_graph", true)),
            ("gcn2_conv", &none, Attrs::new().with("alpha", 0.1).with("beta", 1.0)),
            ("gcn_conv", &none, Attrs::new()),
        ] {
            assert_eq!(with_defaults(kind, &Attrs::new(), tensors).unwrap(), expected, "{kind}");
        }
        let given =
            with_defaults("gat_conv", &Attrs::new().with("negative_slope", 0.3), &heads("att_src"))
                .unwrap();
        assert_eq!(given.get::<f64>("negative_slope").unwrap(), 0.3);
    }

    #[test]
    fn a_leaky_relu_of_any_slope_keeps_what_is_positive() {
        use crate::nn::Cx;
        use crate::value::ValueRef;
        let graph = crate::Graph::<f32>::builder(2).edges([(0, 1)]).build().unwrap();
        let x = ndarray::array![[2.0f32], [-1.0]];
        for slope in [ActivationFn::LEAKY_SLOPE, 0.25] {
            let mut b = ModelBuilder::<f32>::new(1);
            let y = add_activation(
                &mut b,
                "act",
                Activated::new(ActivationFn::LeakyRelu, slope),
                &[NodeId::INPUT],
            )
            .unwrap();
            let y =
                b.build(y, 0).unwrap().infer(&Cx::eval(&graph), ValueRef::Dense(x.view())).unwrap();
            assert_eq!(y, ndarray::array![[2.0], [-slope as f32]]);
        }
    }
}
