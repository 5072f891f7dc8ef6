//! Graphs, features, layers, models and plans drawn from a seed.

use super::TESTING;
use crate::data::{Dataset, Split, Splits};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::nn::{
    Add, Concat, DynLayer, Entry, Linear, Model, ModelBuilder, NodeId, Param, Registry,
    RelationTable, RowSpace, Wiring,
};
use crate::prune::{ChannelPlan, ChannelPruner, Random, Scope};
use crate::rng::{ChaCha8Rng, generator};
use crate::scalar::Scalar;
use crate::value::{Csr, Value};
use ndarray::Array2;
use ndarray_rand::rand::Rng;
use ndarray_rand::rand::seq::IndexedRandom;
use std::collections::BTreeSet;

/// What a generator draws: the second word of its key.
mod draws {
    pub const GRAPH: u64 = 1;
    pub const DENSE: u64 = 2;
    pub const SPARSE: u64 = 3;
    pub const LAYER: u64 = 4;
    pub const MODEL: u64 = 5;
    pub const AROUND: u64 = 6;
    pub const PLAN: u64 = 7;
    pub const SHIFT: u64 = 8;
}

/// Most hidden layers of a random model before its last one.
const MOST_HIDDEN: usize = 5;
/// Draws until a layer accepts its inputs; with every registry so far a few are enough.
const ATTEMPTS: usize = 100;

/// Width of the edge features of every random graph.
pub const RANDOM_EDGE_DIM: usize = 3;
/// Types of the edges of a random graph are below this number; not every graph has all of them.
pub const RANDOM_EDGE_TYPES: usize = 3;
/// Rows of relations that layers read beside those of nodes: of two relations, there and back.
pub const RANDOM_RELATIONS: u32 = 4;

/// A graph on `1..=max_nodes` nodes: directed or not, weighted or not, with or without self-loops,
/// often with isolated nodes.
///
/// Its edges have [`RANDOM_EDGE_DIM`] features, uniform in ±1, and types below
/// [`RANDOM_EDGE_TYPES`].
///
/// # Panics
/// If `max_nodes` is 0.
pub fn random_graph<F: Scalar>(seed: u64, max_nodes: usize) -> Graph<F> {
    let mut rng = generator(seed, &[TESTING, draws::GRAPH]);
    let nodes = rng.random_range(1..=max_nodes);
    let connected = if rng.random() { nodes } else { nodes.div_ceil(2) };
    let (undirected, weighted, loops): (bool, bool, bool) = rng.random();
    let count = rng.random_range(0..=3 * nodes);
    let mut edges = Vec::with_capacity(count);
    // Two edges of one place would differ in their features.
    let mut taken = BTreeSet::new();
    for _ in 0..count {
        let (source, target) = (rng.random_range(0..connected), rng.random_range(0..connected));
        // Weights of a quarter to two are far enough from zero for every normalisation.
        let weight = if weighted { rng.random_range(0.25f32..2.0) } else { 1.0 };
        let place =
            if undirected { (source.min(target), source.max(target)) } else { (source, target) };
        if (loops || source != target) && taken.insert(place) {
            edges.push((source, target, weight));
        }
    }
    let features = Array2::from_shape_simple_fn((edges.len(), RANDOM_EDGE_DIM), || {
        rng.random_range(-1.0f32..1.0)
    });
    let types = edges.iter().map(|_| rng.random_range(0..RANDOM_EDGE_TYPES as u32)).collect();
    let builder =
        Graph::builder(nodes).weighted_edges(edges).edge_features(features).edge_types(types);
    let graph = if undirected { builder.undirected(true).build() } else { builder.build() };
    graph.expect("edges are drawn between nodes of the graph").cast()
}

/// A dense matrix, uniform in ±1.
pub fn random_dense<F: Scalar>(seed: u64, shape: (usize, usize)) -> Value<F> {
    let mut rng = generator(seed, &[TESTING, draws::DENSE]);
    Value::Dense(Array2::from_shape_simple_fn(shape, || F::of(rng.random_range(-1.0..1.0))))
}

/// A sparse matrix with about a third of its entries stored, uniform in ±1; some rows are empty.
pub fn random_sparse<F: Scalar>(seed: u64, shape: (usize, usize)) -> Value<F> {
    let mut rng = generator(seed, &[TESTING, draws::SPARSE]);
    let (mut indptr, mut indices, mut data) = (vec![0], Vec::new(), Vec::new());
    for _ in 0..shape.0 {
        for j in 0..shape.1 {
            if rng.random_bool(1.0 / 3.0) {
                indices.push(j as u32);
                data.push(F::of(rng.random_range(-1.0..1.0)));
            }
        }
        indptr.push(indices.len());
    }
    Value::Sparse(Csr::new(shape, indptr, indices, data))
}

/// A layer of `entry` for a graph of `nodes` nodes and inputs of these widths, its parameters
/// drawn; `None` if it accepts no such inputs.
pub fn random_layer<F: Scalar>(
    seed: u64,
    entry: &Entry<F>,
    nodes: usize,
    widths: &[usize],
    out: usize,
) -> Option<Box<dyn DynLayer<F>>> {
    let mut rng = generator(seed, &[TESTING, draws::LAYER]);
    let mut layer = accepting(entry, Some(nodes), widths, out, &mut rng)?;
    layer.visit_mut(&mut |param| {
        param.draw(&mut rng);
        move_off(param, &mut rng);
    });
    Some(layer)
}

/// A directed acyclic graph of one to six layers of `registry`, and joins of what would lead
/// nowhere.
///
/// Layers read one to three earlier nodes, the input among them and the same one twice at times, so
/// that there are chains, residual sums, concatenations and branches. The last layer has parameters
/// and puts out `classes` channels. Parameters are drawn by their initialisation and then shifted,
/// so that biases are not zero.
///
/// # Panics
/// If `in_channels` or `classes` is 0.
pub fn random_model<F: Scalar>(
    seed: u64,
    registry: &Registry<F>,
    in_channels: usize,
    classes: usize,
) -> Model<F> {
    let mut rng = generator(seed, &[TESTING, draws::MODEL]);
    let mut draft = Draft {
        builder: ModelBuilder::new(in_channels),
        nodes: vec![NodeId::INPUT],
        unread: Vec::new(),
    };
    // Two widths, so that equal ones meet.
    let widths = [rng.random_range(2..=4), rng.random_range(3..=6)];
    for _ in 0..rng.random_range(0..=MOST_HIDDEN) {
        let out = *widths.choose(&mut rng).expect("there are two");
        draft.add_any(registry, out, &mut rng);
    }
    let joined = draft.join(&mut rng);
    let width = [draft.builder.channels(joined)];
    let is_last = |layer: &dyn DynLayer<F>| {
        let mut has_params = false;
        layer.visit(&mut |_| has_params = true);
        has_params
            && matches!(layer.wiring(), Wiring::Fresh { channels, .. } if channels == classes)
    };
    let last = (0..ATTEMPTS).find_map(|_| {
        let entry = registry.entries().choose(&mut rng)?;
        accepting(entry, None, &width, classes, &mut rng).filter(|layer| is_last(&**layer))
    });
    let last = last.unwrap_or_else(|| {
        Box::new(Linear::builder(width[0], classes).build::<F>().expect("both widths are positive"))
    });
    let output = draft.builder.add_boxed("last", last, &[joined]).expect("it accepts that width");
    shifted(draft.builder.build(output, seed).expect("every node is read"))
}

/// Models for a graph of `nodes` nodes in which a layer of `entry` stands between linear layers,
/// one for each number of inputs from one to three that it accepts, of equal and of different
/// widths, and one in which it reads the model's input, which may be sparse.
///
/// # Panics
/// If `in_channels` or `classes` is 0.
pub fn models_around<F: Scalar>(
    seed: u64,
    entry: &Entry<F>,
    nodes: usize,
    in_channels: usize,
    classes: usize,
) -> Vec<Model<F>> {
    let mut rng = generator(seed, &[TESTING, draws::AROUND]);
    let (a, b, out) = (rng.random_range(2..=5), rng.random_range(2..=5), rng.random_range(2..=5));
    let layouts: [&[usize]; 5] = [&[], &[a], &[a, a], &[a, b], &[a, a, a]];
    let mut model = |widths: &[usize]| {
        let read = if widths.is_empty() { &[in_channels] } else { widths };
        let layer = accepting(entry, Some(nodes), read, out, &mut rng)?;
        let mut builder = ModelBuilder::new(in_channels);
        let mut inputs = Vec::new();
        for (k, (&width, space)) in widths.iter().zip(spaces_for(&*layer, widths.len())).enumerate()
        {
            let before: Box<dyn DynLayer<F>> = match space {
                RowSpace::Relations(count) => Box::new(
                    RelationTable::<F>::new(count as usize, width).expect("both are positive"),
                ),
                _ => Box::new(
                    Linear::builder(in_channels, width).build::<F>().expect("both are positive"),
                ),
            };
            inputs.push(
                builder
                    .add_boxed(&format!("before{k}"), before, &[NodeId::INPUT])
                    .expect("it reads the input"),
            );
        }
        if inputs.is_empty() {
            inputs.push(NodeId::INPUT);
        }
        let middle = builder.add_boxed("middle", layer, &inputs).ok()?;
        let after = Linear::builder(builder.channels(middle), classes)
            .build::<F>()
            .expect("both widths are positive");
        let output = builder.add("after", after, &[middle]).expect("it has that width");
        Some(shifted(builder.build(output, seed).expect("every node is read")))
    };
    layouts.into_iter().filter_map(&mut model).collect()
}

/// What the rows of a layer's inputs are, so many of them: nodes, or of the last
/// [`RANDOM_RELATIONS`] relations where it refuses it to be nodes.
pub fn spaces_for<F: Scalar>(layer: &dyn DynLayer<F>, inputs: usize) -> Vec<RowSpace> {
    let mut spaces = vec![RowSpace::Nodes; inputs];
    if let (None, Some(last)) = (layer.rows(&spaces), spaces.last_mut()) {
        *last = RowSpace::Relations(RANDOM_RELATIONS);
    }
    spaces
}

/// A plan for `model` that removes a quarter to three quarters of the channels at random.
///
/// # Errors
/// As [`ChannelPruner::plan`]: a model may have no hidden channel, and a layer may be left with
/// none.
pub fn random_plan<F: Scalar>(seed: u64, model: &Model<F>) -> Result<ChannelPlan> {
    let mut rng = generator(seed, &[TESTING, draws::PLAN]);
    let scope = if rng.random() { Scope::Layer } else { Scope::Global };
    let pruner = ChannelPruner::builder(Random::new())
        .ratio(rng.random_range(0.25..0.75))
        .scope(scope)
        .build()?;
    // Three nodes that a random criterion does not look at.
    let split = Split { train: vec![0], val: vec![1], test: vec![2] };
    let graph = Graph::builder(3).build()?.cast();
    let data = Dataset::new(
        "unread",
        graph,
        Value::Dense(Array2::zeros((3, 1))),
        vec![0, 1, 0],
        Some(2),
        Splits::Fixed(split),
    )?;
    pruner.plan(model, &data)
}

/// A model in the making: all its nodes, and those that nothing reads yet.
struct Draft<F: Scalar> {
    builder: ModelBuilder<F>,
    nodes: Vec<NodeId>,
    unread: Vec<NodeId>,
}

impl<F: Scalar> Draft<F> {
    /// Adds a random layer that accepts random inputs.
    fn add_any(&mut self, registry: &Registry<F>, out: usize, rng: &mut ChaCha8Rng) {
        for _ in 0..ATTEMPTS {
            let inputs = self.random_inputs(rng);
            let widths: Vec<usize> = inputs.iter().map(|&id| self.builder.channels(id)).collect();
            let layer = registry
                .entries()
                .choose(rng)
                .and_then(|entry| accepting(entry, None, &widths, out, rng));
            if layer.is_some_and(|layer| self.add(layer, &inputs).is_ok()) {
                return;
            }
        }
    }

    fn add(&mut self, layer: Box<dyn DynLayer<F>>, inputs: &[NodeId]) -> Result<NodeId, Error> {
        let id = self.builder.add_boxed(&format!("n{}", self.nodes.len()), layer, inputs)?;
        self.unread.retain(|node| !inputs.contains(node));
        self.unread.push(id);
        self.nodes.push(id);
        Ok(id)
    }

    /// One to three nodes; the first is often the latest, the others often have its width.
    fn random_inputs(&self, rng: &mut ChaCha8Rng) -> Vec<NodeId> {
        let all = &self.nodes;
        let first =
            if rng.random() { all[all.len() - 1] } else { all[rng.random_range(0..all.len())] };
        let width = self.builder.channels(first);
        let equal: Vec<NodeId> =
            all.iter().copied().filter(|&id| self.builder.channels(id) == width).collect();
        let others = if rng.random() { all } else { &equal };
        // One input as often as two and three together.
        let more = rng.random_range(0..4u32).saturating_sub(1);
        let more = (0..more).map(|_| others[rng.random_range(0..others.len())]);
        std::iter::once(first).chain(more).collect()
    }

    /// One node that reads all that nothing else reads: a sum where the widths allow it, by chance,
    /// or a concatenation.
    fn join(&mut self, rng: &mut ChaCha8Rng) -> NodeId {
        let unread = self.unread.clone();
        match unread[..] {
            [] => NodeId::INPUT,
            [only] => only,
            [first, ..] => {
                let width = self.builder.channels(first);
                let equal = unread.iter().all(|&id| self.builder.channels(id) == width);
                let layer: Box<dyn DynLayer<F>> = match equal && rng.random() {
                    true => Box::new(Add::new(unread.len()).expect("there are two or more")),
                    false => Box::new(Concat::new()),
                };
                self.add(layer, &unread).expect("the widths fit")
            }
        }
    }
}

/// A sample of `entry` that takes as many inputs as there are widths.
fn accepting<F: Scalar>(
    entry: &Entry<F>,
    nodes: Option<usize>,
    widths: &[usize],
    out: usize,
    rng: &mut ChaCha8Rng,
) -> Option<Box<dyn DynLayer<F>>> {
    let layer = entry.sample(nodes, widths, out, rng)?;
    let (least, most) = layer.arity();
    (least..=most).contains(&widths.len()).then_some(layer)
}

/// Moves a parameter off its initial value; running statistics, which do not train, upwards, since
/// a variance is no less than zero.
fn move_off<F: Scalar>(param: &mut Param<F>, rng: &mut ChaCha8Rng) {
    let least = if param.is_trainable() { -0.3 } else { 0.05 };
    param.value_mut().mapv_inplace(|w| w + F::of(rng.random_range(least..0.3)));
}

/// Moves every parameter off its initial value.
fn shifted<F: Scalar>(mut model: Model<F>) -> Model<F> {
    let mut rng = generator(model.seed(), &[TESTING, draws::SHIFT]);
    model.visit_mut(&mut |param| move_off(param, &mut rng));
    model
}
