//! A model: a directed acyclic graph of named layers with one output.

use super::init::Init;
use super::layer::{AnyCache, Cx, DynLayer, Grads, Io, Layer, Mode, Reads};
use super::param::{Axis, Param};
use super::product::gradient_like;
use super::program::Program;
use super::stage::Lowering;
use super::wiring::Wiring;
use crate::error::{Error, Result, Unsupported};
use crate::graph::{Graph, NodeOrder};
use crate::rng::{generator, purpose};
use crate::scalar::Scalar;
use crate::value::{Value, ValueRef};
use ndarray::{Array2, ArrayView2};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// A node of a model: 0 is the input, the others are layers in the order in which they were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub(crate) usize);

impl NodeId {
    /// The model's input.
    pub const INPUT: NodeId = NodeId(0);

    /// Position: 0 is the input, k the k-th layer.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a model was trained on, kept in its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the data set.
    pub data: String,
    /// Its number of nodes.
    pub nodes: usize,
    /// How its features were normalised, in the command line's words.
    pub features: String,
}

/// A layer at its place in a model.
#[derive(Clone)]
pub struct Node<F: Scalar> {
    pub(crate) name: String,
    pub(crate) layer: Box<dyn DynLayer<F>>,
    pub(crate) inputs: Vec<NodeId>,
    pub(crate) channels: usize,
}

impl<F: Scalar> Node<F> {
    /// Its name, unique in the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its layer.
    pub fn layer(&self) -> &dyn DynLayer<F> {
        &*self.layer
    }

    /// Where its inputs come from.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// How many channels it puts out.
    pub fn channels(&self) -> usize {
        self.channels
    }
}

/// A directed acyclic graph of named layers, with its parameters and the seed of its splits and
/// draws.
///
/// *Shapes*: input `[n, in_channels]`, output `[n, out_channels]`.
/// ```
/// use gnn_prune::nn::{Activation, ActivationFn, Cx, GcnConv, Linear, NodeId};
/// use gnn_prune::{Dataset, Model};
///
/// let data = Dataset::sbm(300, 3).features(8).build()?;
/// let mut builder = Model::builder(8);
/// let h = builder.add("conv", GcnConv::builder(8, 16).build()?, &[NodeId::INPUT])?;
/// let h = builder.add("relu", Activation::new(ActivationFn::Relu), &[h])?;
/// let y = builder.add("out", Linear::builder(16, 3).build()?, &[h])?;
/// let model = builder.build(y, 0)?;
///
/// let logits = model.infer(&Cx::eval(data.graph()), data.features())?;
/// let mut program = model.compile(data.graph(), data.features())?; // for this graph, with planned buffers
/// assert_eq!(program.run(data.features())?.dim(), logits.dim());
/// assert_eq!(Model::from_bytes(&model.to_bytes()?)?.num_params(), 8 * 16 + 16 + 16 * 3 + 3);
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Clone)]
pub struct Model<F: Scalar = f32> {
    in_channels: usize,
    nodes: Vec<Node<F>>,
    output: NodeId,
    num_params: usize,
    seed: u64,
    origin: Option<Origin>,
}

/// Builder of a [`Model`]: nodes are added in an order in which every input is there already.
#[derive(Clone)]
pub struct ModelBuilder<F: Scalar = f32> {
    in_channels: usize,
    nodes: Vec<Node<F>>,
    num_params: usize,
}

impl<F: Scalar> ModelBuilder<F> {
    /// Adds a layer, reading from `inputs`; returns its node.
    ///
    /// # Errors
    /// [`Error::Model`] for a name that is taken or an input that is not there,
    /// [`Error::InputCount`] for a wrong number of inputs, [`Error::ShapeMismatch`] where a
    /// parameter does not fit the channels that it carries.
    pub fn add(&mut self, name: &str, layer: impl Layer<F>, inputs: &[NodeId]) -> Result<NodeId> {
        self.add_boxed(name, Box::new(layer), inputs)
    }

    /// Adds a boxed layer; see [`ModelBuilder::add`].
    ///
    /// # Errors
    /// As [`ModelBuilder::add`].
    pub fn add_boxed(
        &mut self,
        name: &str,
        mut layer: Box<dyn DynLayer<F>>,
        inputs: &[NodeId],
    ) -> Result<NodeId> {
        if name.is_empty()
            || name == "input"
            || name.contains('.')
            || self.nodes.iter().any(|node| node.name == name)
        {
            let problem = format!("node name `{name}` is taken, empty or has a dot in it");
            return Err(Error::Model(problem));
        }
        if let Some(missing) = inputs.iter().find(|id| id.0 > self.nodes.len()) {
            return Err(Error::Model(format!(
                "node `{name}` reads node {}, which is not there yet",
                missing.0
            )));
        }
        let (least, most) = layer.arity();
        if inputs.len() < least || inputs.len() > most {
            let expected =
                if least == most { least.to_string() } else { format!("at least {least}") };
            return Err(Error::InputCount { at: name.into(), expected, found: inputs.len() });
        }
        let widths: Vec<usize> = inputs.iter().map(|&id| self.channels(id)).collect();
        let channels = out_channels(name, &*layer, &widths)?;
        check_axes(name, &*layer, &widths, channels)?;
        let mut next = self.num_params;
        layer.visit_mut(&mut |param| {
            param.id.0 = next;
            next += 1;
        });
        self.num_params = next;
        self.nodes.push(Node { name: name.into(), layer, inputs: inputs.to_vec(), channels });
        Ok(NodeId(self.nodes.len()))
    }

    /// How many channels a node puts out.
    pub fn channels(&self, id: NodeId) -> usize {
        if id == NodeId::INPUT { self.in_channels } else { self.nodes[id.0 - 1].channels }
    }

    /// Ends the model at `output` and draws its parameters from `seed`.
    ///
    /// # Errors
    /// [`Error::Model`] if `output` is the input, or a node leads nowhere.
    pub fn build(self, output: NodeId, seed: u64) -> Result<Model<F>> {
        self.build_undrawn(output, seed).map(|model| model.fresh(seed))
    }

    /// Ends the model at `output` with the parameters that its layers have; the seed is 0.
    ///
    /// # Errors
    /// As [`ModelBuilder::build`].
    pub fn build_as_is(self, output: NodeId) -> Result<Model<F>> {
        self.build_undrawn(output, 0)
    }

    /// Ends the model with the parameters as they are.
    pub(crate) fn build_undrawn(self, output: NodeId, seed: u64) -> Result<Model<F>> {
        if output == NodeId::INPUT || output.0 > self.nodes.len() {
            return Err(Error::Model("the output must be one of the model's layers".into()));
        }
        let mut read = vec![false; self.nodes.len() + 1];
        read[output.0] = true;
        self.nodes.iter().flat_map(|node| &node.inputs).for_each(|id| read[id.0] = true);
        if let Some(unread) = (1..read.len()).find(|&k| !read[k]) {
            return Err(Error::Model(format!(
                "nothing reads node `{}`",
                self.nodes[unread - 1].name
            )));
        }
        let Self { in_channels, nodes, num_params } = self;
        Ok(Model { in_channels, nodes, output, num_params, seed, origin: None })
    }
}

/// A node has at most as many channels: each of them is a number for every node of the graph.
pub(crate) const MOST_CHANNELS: usize = 1 << 24;

fn out_channels<F: Scalar>(name: &str, layer: &dyn DynLayer<F>, widths: &[usize]) -> Result<usize> {
    match layer.wiring() {
        Wiring::Fresh { channels: 0, .. } => {
            Err(Error::Model(format!("node `{name}` has no output channels")))
        }
        Wiring::Fresh { channels, .. } => Ok(channels),
        Wiring::Concat => {
            let sum = widths.iter().try_fold(0usize, |sum, &width| {
                sum.checked_add(width).filter(|&sum| sum <= MOST_CHANNELS)
            });
            sum.ok_or_else(|| {
                Error::Model(format!(
                    "node `{name}` joins its inputs to more than {MOST_CHANNELS} channels"
                ))
            })
        }
        Wiring::Same => match widths.iter().find(|&&width| width != widths[0]) {
            None => Ok(widths[0]),
            Some(&other) => {
                let problem = format!(
                    "node `{name}` joins {} channels with {other}; all its inputs need the same width",
                    widths[0]
                );
                Err(Error::Model(problem))
            }
        },
    }
}

fn check_axes<F: Scalar>(
    name: &str,
    layer: &dyn DynLayer<F>,
    widths: &[usize],
    channels: usize,
) -> Result<()> {
    let mut wrong = None;
    layer.visit(&mut |param| {
        let found = param.value().dim();
        let fit = |axis, len: usize| match axis {
            Axis::Fixed | Axis::Nodes | Axis::Hidden(_) => len,
            Axis::In(k) => widths.get(k).copied().unwrap_or(0),
            Axis::Out => channels,
            Axis::InTiled(k) => {
                widths.get(k).map_or(0, |&width| len.next_multiple_of(width.max(1)).max(width))
            }
            Axis::OutTiled => len.next_multiple_of(channels).max(channels),
        };
        let expected = (fit(param.axes()[0], found.0), fit(param.axes()[1], found.1));
        if expected != found && wrong.is_none() {
            wrong = Some(Error::ShapeMismatch {
                at: format!("{name}.{}", param.name()),
                expected,
                found,
            });
        }
    });
    wrong.map_or(Ok(()), Err)
}

impl Model<f32> {
    /// Starts a model that reads `in_channels` features per node.
    pub fn builder(in_channels: usize) -> ModelBuilder<f32> {
        ModelBuilder::new(in_channels)
    }
}

impl<F: Scalar> ModelBuilder<F> {
    /// Starts a model of any scalar that reads `in_channels` features per node; see
    /// [`Model::builder`].
    pub fn new(in_channels: usize) -> Self {
        Self { in_channels, nodes: Vec::new(), num_params: 0 }
    }
}

impl<F: Scalar> Model<F> {
    /// Features per node that the model reads.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Channels that the model puts out: classes, for a classifier.
    pub fn out_channels(&self) -> usize {
        self.channels(self.output)
    }

    /// How many channels a node puts out.
    pub fn channels(&self, id: NodeId) -> usize {
        if id == NodeId::INPUT { self.in_channels } else { self.nodes[id.0 - 1].channels }
    }

    /// The layers in the order in which they run; `nodes()[k]` is node `k + 1`.
    pub fn nodes(&self) -> &[Node<F>] {
        &self.nodes
    }

    /// The node whose value is the model's output.
    pub fn output(&self) -> NodeId {
        self.output
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name).map(|k| NodeId(k + 1))
    }

    /// The seed that every split and every dropout mask of this model follows, and that drew the
    /// parameters unless it was given another by [`Model::following`].
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The same model with the splits and the dropout of `seed`; its parameters stay. A student
    /// drawn from another seed than its teacher shares the teacher's split by it:
    /// `student.following(teacher.seed())`.
    #[must_use]
    pub fn following(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What the model was trained on, if it was.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Records what the model was trained on.
    pub fn set_origin(&mut self, origin: Option<Origin>) {
        self.origin = origin;
    }

    /// Shows every parameter with its full name `node.parameter`, in the order of the model.
    pub fn visit<'a>(&'a self, f: &mut dyn FnMut(&str, &'a Param<F>)) {
        for node in &self.nodes {
            node.layer.visit(&mut |param| f(&format!("{}.{}", node.name, param.name()), param));
        }
    }

    /// Shows every parameter, to change; shapes must stay.
    pub fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Param<F>)) {
        self.nodes.iter_mut().for_each(|node| node.layer.visit_mut(f));
    }

    /// Number of parameters, zeros included.
    pub fn num_params(&self) -> usize {
        let mut count = 0;
        self.visit(&mut |_, param| count += param.value().len());
        count
    }

    /// Number of parameters that are not zero.
    pub fn num_nonzero_params(&self) -> usize {
        let mut count = 0;
        self.visit(&mut |_, param| {
            count += param.value().iter().filter(|w| **w != F::zero()).count()
        });
        count
    }

    /// A model of the same shapes, drawn anew from `seed`, without masks: the network of that form
    /// trained from scratch starts here.
    #[must_use]
    pub fn fresh(&self, seed: u64) -> Self {
        let mut model = Self { seed, origin: None, ..self.clone() };
        let mut index = 0;
        model.visit_mut(&mut |param| {
            param.draw(&mut generator(seed, &[purpose::INIT, index]));
            index += 1;
        });
        model
    }

    /// Runs the model and returns its output `[n, out_channels]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for an input of another width or number of rows, [`Error::NoGraph`]
    /// where one is needed.
    pub fn infer(&self, cx: &Cx<F>, x: ValueRef<F>) -> Result<Array2<F>> {
        let mut kept = vec![Keep::No; self.nodes.len() + 1];
        let sources = self.sources(cx.mode());
        let output = sources[self.output.0];
        kept[output.0] = Keep::Whole;
        let mut run = self.run(cx, x, kept, sources, false)?;
        let value = run.values[output.0].take();
        Ok(value.map_or_else(|| run.x.to_dense(), Value::into_dense))
    }

    /// Runs the model and keeps what [`Model::backward`] needs.
    ///
    /// # Errors
    /// As [`Model::infer`].
    pub fn trace<'x>(&self, cx: &Cx<F>, x: ValueRef<'x, F>) -> Result<Trace<'x, F>> {
        self.trace_keeping(cx, x, &[])
    }

    /// As [`Model::trace`], and keeps the values of the nodes in `keep`.
    ///
    /// # Errors
    /// As [`Model::infer`].
    pub fn trace_keeping<'x>(
        &self,
        cx: &Cx<F>,
        x: ValueRef<'x, F>,
        keep: &[NodeId],
    ) -> Result<Trace<'x, F>> {
        let sources = self.sources(cx.mode());
        let mut kept = vec![Keep::No; self.nodes.len() + 1];
        keep.iter().chain([&self.output]).for_each(|id| kept[sources[id.0].0] = Keep::Whole);
        for (k, node) in self.nodes.iter().enumerate() {
            let output = match node.layer.reads() {
                Reads::SignOfOutput => Keep::Sign,
                reads if reads.output() => Keep::Whole,
                _ => Keep::No,
            };
            kept[k + 1] = kept[k + 1].max(output);
            if node.layer.reads().inputs() {
                node.inputs.iter().for_each(|id| kept[sources[id.0].0] = Keep::Whole);
            }
        }
        self.run(cx, x, kept, sources, true)
    }

    /// For each node the node whose value it has: itself, or what it hands on untouched in this
    /// mode. The output is its own.
    fn sources(&self, mode: Mode) -> Vec<NodeId> {
        let mut sources = vec![NodeId::INPUT];
        for (k, node) in self.nodes.iter().enumerate() {
            sources.push(if node.layer.is_identity(mode) && NodeId(k + 1) != self.output {
                sources[node.inputs[0].0]
            } else {
                NodeId(k + 1)
            });
        }
        sources
    }

    /// Runs every layer; a value that is neither kept nor sparse goes back to the pool after its
    /// last reader, or becomes that reader's.
    fn run<'x>(
        &self,
        cx: &Cx<F>,
        x: ValueRef<'x, F>,
        mut kept: Vec<Keep>,
        sources: Vec<NodeId>,
        caches: bool,
    ) -> Result<Trace<'x, F>> {
        self.check_input(cx, &x)?;
        let mut readers = vec![Readers::default(); self.nodes.len() + 1];
        for (k, node) in
            self.nodes.iter().enumerate().filter(|(k, _)| sources[k + 1] == NodeId(k + 1))
        {
            for id in &node.inputs {
                let readers = &mut readers[sources[id.0].0];
                (readers.count, readers.last) = (readers.count + 1, k);
            }
        }
        let mut trace =
            Trace { x, values: vec![None], caches: Vec::new(), output: self.output, sources };
        for (k, node) in self.nodes.iter().enumerate() {
            if trace.sources[k + 1] != NodeId(k + 1) {
                trace.values.push(None);
                trace.caches.push(None);
                continue;
            }
            let at = cx.at(NodeId(k + 1), &node.name);
            let from = trace.sources[node.inputs[0].0].0;
            let (value, cache) =
                match self.to_overwrite(&mut trace, k, from, kept[from], readers[from]) {
                    Some(mut value) => {
                        node.layer.forward_in_place(&at, &mut value);
                        // Whoever still asks for the sign of what was overwritten reads it here.
                        trace.sources[from] = NodeId(k + 1);
                        kept[k + 1] = kept[k + 1].max(kept[from]);
                        (Value::Dense(value), Box::new(()) as AnyCache)
                    }
                    None => {
                        let xs: Vec<_> = node
                            .inputs
                            .iter()
                            .map(|&id| {
                                trace
                                    .value(id)
                                    .expect("a value lives until its last reader has run")
                            })
                            .collect();
                        match caches {
                            true => node.layer.forward(&at, &xs)?,
                            false => (node.layer.infer(&at, &xs)?, Box::new(()) as AnyCache),
                        }
                    }
                };
            let is_output = trace.sources[self.output.0] == NodeId(k + 1);
            trace.values.push(Some(if is_output {
                Value::Dense(value.into_dense())
            } else {
                value
            }));
            trace.caches.push(caches.then_some(cache));
            for id in &node.inputs {
                let source = trace.sources[id.0].0;
                // Sparse values stay: they are small, and the gradients of their readers follow
                // their pattern.
                let done = readers[source].last == k && source <= k && kept[source] == Keep::No;
                if done && matches!(trace.values[source], Some(Value::Dense(_))) {
                    recycle(cx, trace.values[source].take());
                }
            }
        }
        Ok(trace)
    }

    /// The value of node `from`, where the layer at `k` may turn it into its own output in place.
    fn to_overwrite(
        &self,
        trace: &mut Trace<F>,
        k: usize,
        from: usize,
        kept: Keep,
        readers: Readers,
    ) -> Option<Array2<F>> {
        let free = match kept {
            Keep::No => readers.last == k,
            // Where a second reader sends a gradient, the sign must be the true one.
            Keep::Sign => readers.count == 1 && self.nodes[k].layer.keeps_signs(),
            Keep::Whole => false,
        };
        if !free || from == 0 || !self.nodes[k].layer.works_in_place() {
            return None;
        }
        match trace.values[from].take() {
            Some(Value::Dense(value)) if value.is_standard_layout() => Some(value),
            other => {
                trace.values[from] = other;
                None
            }
        }
    }

    /// Gradients of all parameters, given the gradients of the loss by the values of some nodes.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a seed of another shape than its node's value.
    pub fn backward<'s>(
        &self,
        cx: &Cx<F>,
        trace: Trace<F>,
        seeds: impl Into<Cow<'s, [(NodeId, Array2<F>)]>>,
    ) -> Result<Grads<F>> {
        self.backward_from(cx, trace, seeds.into().into_owned(), false).map(|(grads, _)| grads)
    }

    /// As [`Model::backward`], with the gradient of the model's input, on its stored entries where
    /// it is sparse.
    ///
    /// # Errors
    /// As [`Model::backward`].
    pub fn backward_to_input(
        &self,
        cx: &Cx<F>,
        trace: Trace<F>,
        seeds: &[(NodeId, Array2<F>)],
    ) -> Result<(Grads<F>, Value<F>)> {
        let x = trace.x;
        let (grads, dx) = self.backward_from(cx, trace, seeds.to_vec(), true)?;
        let zeros = || match x {
            ValueRef::Dense(x) => Value::Dense(Array2::zeros(x.dim())),
            ValueRef::Sparse(x) => Value::Sparse(x.map(|_| F::zero())),
        };
        Ok((grads, dx.unwrap_or_else(zeros)))
    }

    fn backward_from(
        &self,
        cx: &Cx<F>,
        mut trace: Trace<F>,
        seeds: Vec<(NodeId, Array2<F>)>,
        to_input: bool,
    ) -> Result<(Grads<F>, Option<Value<F>>)> {
        let rows = trace.x.rows();
        let mut pending: Vec<Option<Value<F>>> = (0..=self.nodes.len()).map(|_| None).collect();
        for (id, seed) in seeds {
            let expected = (rows, self.channels(id));
            if seed.dim() != expected {
                return Err(Error::ShapeMismatch {
                    at: format!("gradient of node {}", id.0),
                    expected,
                    found: seed.dim(),
                });
            }
            add_gradient(&mut pending[id.0], gradient_like(trace.value(id), Value::Dense(seed)))?;
        }
        let needed = self.needed(to_input);
        let mut grads = Grads::new(self.num_params);
        for (k, node) in self.nodes.iter().enumerate().rev() {
            let cache = trace.caches[k].take();
            let Some(dy) = pending[k + 1].take() else { continue };
            let Some(cache) = cache else {
                // The layer handed its input on untouched, and so goes its gradient.
                add_gradient(&mut pending[node.inputs[0].0], dy)?;
                continue;
            };
            let held = (0..=k).rev().find(|&earlier| trace.overwritten(earlier, k + 1));
            if held.is_none()
                && !node.layer.reads().output()
                && matches!(trace.values[k + 1], Some(Value::Dense(_)))
            {
                recycle(cx, trace.values[k + 1].take());
            }
            let io = Io {
                inputs: node.inputs.iter().map(|&id| trace.value(id)).collect(),
                output: trace.value(NodeId(k + 1)),
                wants: node.inputs.iter().map(|id| needed[id.0]).collect(),
                widths: node.inputs.iter().map(|&id| self.channels(id)).collect(),
            };
            let at = cx.at(NodeId(k + 1), &node.name);
            let dxs = node.layer.backward_owned(&at, &io, cache, dy, &mut grads);
            for (id, dx) in node.inputs.iter().zip(dxs) {
                if let (true, Some(dx)) = (needed[id.0], dx) {
                    add_gradient(&mut pending[id.0], gradient_like(trace.value(*id), dx))?;
                }
            }
            // What was made in place of an earlier value is that one's to read.
            match held {
                Some(earlier) if self.nodes[earlier - 1].layer.reads().output() => {
                    trace.values[earlier] = trace.values[k + 1].take();
                    trace.sources[earlier] = NodeId(earlier);
                }
                _ => recycle(cx, trace.values[k + 1].take()),
            }
        }
        Ok((grads, pending[0].take()))
    }

    /// Which nodes' gradients lead to a parameter, or to the input where that is asked for.
    fn needed(&self, to_input: bool) -> Vec<bool> {
        let mut needed = vec![to_input];
        for node in &self.nodes {
            let mut own = false;
            node.layer.visit(&mut |param| own |= param.is_trainable());
            needed.push(own || node.inputs.iter().any(|id| needed[id.0]));
        }
        needed
    }

    /// Lets layers take running statistics from a forward pass in training mode.
    pub fn absorb(&mut self, trace: &Trace<F>) {
        for (node, cache) in self.nodes.iter_mut().zip(&trace.caches) {
            if let Some(cache) = cache {
                node.layer.absorb(cache);
            }
        }
    }

    /// Compiles the model for inference on `graph` and inputs like `x`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where a layer has no stages, [`Error::ShapeMismatch`] for an input of
    /// another width.
    pub fn compile(&self, graph: &Graph<F>, x: ValueRef<F>) -> Result<Program<F>> {
        self.check_input(&Cx::eval(graph), &x)?;
        Program::compile(self.lower(Some(graph), x)?)
    }

    /// As [`Model::compile`], for nodes in an order that keeps neighbours close together; input and
    /// output stay in the caller's order. Worth it where the graph has communities and rows are
    /// wide: every run moves the rows of `x` and of the output once.
    ///
    /// # Errors
    /// As [`Model::compile`].
    pub fn compile_ordered(
        &self,
        graph: &Graph<F>,
        x: ValueRef<F>,
        order: NodeOrder,
    ) -> Result<Program<F>> {
        self.check_input(&Cx::eval(graph), &x)?;
        let tied = |node: &&Node<F>| {
            let mut tied = false;
            node.layer.visit(&mut |param| tied |= param.axes().contains(&Axis::Nodes));
            tied
        };
        if let Some(node) = self.nodes.iter().find(tied) {
            let reason = "its rows belong to the nodes in the order that they have".into();
            return Err(Error::Unsupported(Unsupported { layer: node.name.clone(), reason }));
        }
        let order = graph.node_order(order);
        let graph = graph.permuted(&order)?;
        Ok(Program::compile(self.lower(Some(&graph), x)?)?.in_order(order))
    }

    /// The stages of the model, not yet fused.
    pub(crate) fn lower(&self, graph: Option<&Graph<F>>, x: ValueRef<F>) -> Result<Lowering<F>> {
        let mut lowering = Lowering::new(graph.cloned(), x);
        let mut stages = vec![lowering.input()];
        for node in &self.nodes {
            let xs: Vec<_> = node.inputs.iter().map(|id| stages[id.0]).collect();
            lowering.enter(&node.name);
            stages.push(node.layer.lower(&mut lowering, &xs)?);
        }
        let output = stages[self.output.0];
        // A program ends in a stage: where no layer changes anything, in a copy of the input.
        let output = if output == lowering.input() { lowering.concat(&[output]) } else { output };
        lowering.finish(output, stages);
        Ok(lowering)
    }

    fn check_input(&self, cx: &Cx<F>, x: &ValueRef<F>) -> Result<()> {
        cx.at(NodeId::INPUT, "input").check(x, self.in_channels)
    }

    /// Lets `f` change the layers of a copy, then works out all widths anew and checks that
    /// everything still fits.
    pub(crate) fn rebuilt(
        &self,
        mut f: impl FnMut(NodeId, &mut Node<F>) -> Result<()>,
    ) -> Result<Self> {
        let mut builder = ModelBuilder::new(self.in_channels);
        for (k, node) in self.nodes.iter().enumerate() {
            let mut node = node.clone();
            f(NodeId(k + 1), &mut node)?;
            builder.add_boxed(&node.name, node.layer, &node.inputs)?;
        }
        let mut model = builder.build_undrawn(self.output, self.seed)?;
        model.origin.clone_from(&self.origin);
        Ok(model)
    }
}

fn recycle<F: Scalar>(cx: &Cx<F>, value: Option<Value<F>>) {
    if let Some(Value::Dense(array)) = value {
        cx.give(array);
    }
}

fn add_gradient<F: Scalar>(sum: &mut Option<Value<F>>, gradient: Value<F>) -> Result<()> {
    match sum {
        Some(sum) => sum.accumulate(gradient),
        empty => {
            *empty = Some(gradient);
            Ok(())
        }
    }
}

/// How much of a node's value must outlive its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Keep {
    No,
    /// Only which entries are positive.
    Sign,
    Whole,
}

/// How many layers read a value, and which is the last.
#[derive(Debug, Clone, Copy, Default)]
struct Readers {
    count: usize,
    last: usize,
}

/// The values of a forward pass that its backward pass needs.
pub struct Trace<'x, F: Scalar> {
    x: ValueRef<'x, F>,
    values: Vec<Option<Value<F>>>,
    caches: Vec<Option<AnyCache>>,
    output: NodeId,
    sources: Vec<NodeId>,
}

impl<F: Scalar> std::fmt::Debug for Trace<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kept = self.values.iter().filter(|value| value.is_some()).count();
        f.debug_struct("Trace").field("input", &self.x.shape()).field("kept", &kept).finish()
    }
}

impl<F: Scalar> Trace<'_, F> {
    /// Whether the value of node `earlier`, once its own, was overwritten by node `later`.
    fn overwritten(&self, earlier: usize, later: usize) -> bool {
        earlier > 0
            && self.sources[earlier] == NodeId(later)
            && self.caches.get(earlier - 1).is_some_and(Option::is_some)
    }

    /// The model's output.
    pub fn output(&self) -> ArrayView2<'_, F> {
        match self.value(self.output) {
            Some(ValueRef::Dense(y)) => y,
            _ => unreachable!("the output is kept, in dense form"),
        }
    }

    /// The value of a node, if it was kept.
    pub fn value(&self, id: NodeId) -> Option<ValueRef<'_, F>> {
        match self.sources[id.0] {
            NodeId::INPUT => Some(self.x.reborrow()),
            source => self.values[source.0].as_ref().map(Value::view),
        }
    }
}

impl<F: Scalar> std::fmt::Display for Model<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "model: {} -> {} channels, {} parameters",
            self.in_channels,
            self.out_channels(),
            self.num_params()
        )?;
        for node in &self.nodes {
            let inputs: Vec<&str> = node.inputs.iter().map(|&id| self.name_of(id)).collect();
            write!(
                f,
                "  {:<12} {:<12} [n, {}] from {}",
                node.name,
                node.layer.kind(),
                node.channels,
                inputs.join(", ")
            )?;
            for (name, value) in node.layer.attrs().iter() {
                write!(f, " {name}={value}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

impl<F: Scalar> std::fmt::Debug for Model<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl<F: Scalar> Model<F> {
    /// Name of a node.
    pub fn name_of(&self, id: NodeId) -> &str {
        if id == NodeId::INPUT { "input" } else { &self.nodes[id.0 - 1].name }
    }
}

/// A parameter that starts as `Init` says, for layers' builders.
pub(crate) fn bias<F: Scalar>(channels: usize) -> Param<F> {
    Param::new("bias", (1, channels), [Axis::Fixed, Axis::Out], Init::Zeros)
}
