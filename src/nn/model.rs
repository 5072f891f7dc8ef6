//! A model: a directed acyclic graph of named layers with one output.

use super::cx::Cx;
use super::erased::DynLayer;
use super::ids::NodeId;
use super::param::Param;
use super::rows::{RowSpace, Rows};
use super::stage::Lowering;
use crate::error::{Error, Result, Unsupported};
use crate::graph::Graph;
use crate::rng::{generator, purpose};
use crate::scalar::Scalar;
use crate::value::ValueRef;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

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
    pub(crate) rows: RowSpace,
}

impl<F: Scalar> std::fmt::Debug for Node<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inputs: Vec<usize> = self.inputs.iter().map(|id| id.index()).collect();
        let (name, kind, channels) = (&self.name, self.layer.kind(), self.channels);
        write!(f, "{name}: {kind} of nodes {inputs:?}, {channels} channels")
    }
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

    /// What its rows are, where the model reads a graph's nodes.
    pub fn rows(&self) -> RowSpace {
        self.rows
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
    pub(super) in_channels: usize,
    pub(super) nodes: Vec<Node<F>>,
    pub(super) output: NodeId,
    pub(super) num_params: usize,
    pub(super) seed: u64,
    pub(super) origin: Option<Origin>,
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

    /// What the rows of the output are, where the model reads a graph's nodes.
    pub fn rows(&self) -> RowSpace {
        self.rows_of(self.output)
    }

    /// What the rows of a node's value are, where the model reads a graph's nodes.
    pub fn rows_of(&self, id: NodeId) -> RowSpace {
        if id == NodeId::INPUT { RowSpace::Nodes } else { self[id].rows }
    }

    /// How many channels a node puts out.
    pub fn channels(&self, id: NodeId) -> usize {
        if id == NodeId::INPUT { self.in_channels } else { self[id].channels }
    }

    /// The nodes in the order in which they run, each with its id.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node<F>)> + ExactSizeIterator {
        self.nodes.iter().enumerate().map(|(k, node)| (NodeId(k + 1), node))
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
        self.iter().find(|(_, node)| node.name == name).map(|(id, _)| id)
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
            node.layer.visit(&mut |param| f(&full_name(&node.name, param), param));
        }
    }

    /// Shows every parameter, to change; shapes must stay.
    pub fn visit_mut(&mut self, f: &mut dyn FnMut(&mut Param<F>)) {
        self.nodes.iter_mut().for_each(|node| node.layer.visit_mut(f));
    }

    /// Every parameter with its full name `node.parameter`, in the order of the model.
    pub fn params(&self) -> impl Iterator<Item = (String, &Param<F>)> {
        self.nodes.iter().flat_map(|node| {
            let mut params = Vec::new();
            node.layer.visit(&mut |param| params.push((full_name(&node.name, param), param)));
            params
        })
    }

    /// As [`Model::params`], to change; shapes must stay.
    ///
    /// ```
    /// let mut model = gnn_prune::Gcn::builder(4, 3).build(0)?;
    /// let biases = model.params_mut().filter(|(name, _)| name.ends_with(".bias"));
    /// biases.for_each(|(_, bias)| bias.set_trainable(false));
    /// let weight = model.param_mut("conv1.weight").expect("a GCN has one");
    /// weight.value_mut()[[0, 0]] = 1.0;
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn params_mut(&mut self) -> impl Iterator<Item = (String, &mut Param<F>)> {
        self.nodes.iter_mut().flat_map(|Node { name, layer, .. }| {
            let mut params = Vec::new();
            layer.visit_mut(&mut |param| params.push((full_name(name, param), param)));
            params
        })
    }

    /// The parameter of that full name, `conv1.weight` say, to change.
    pub fn param_mut(&mut self, name: &str) -> Option<&mut Param<F>> {
        self.params_mut().find(|(full, _)| full == name).map(|(_, param)| param)
    }

    /// Number of parameters, zeros included.
    pub fn num_params(&self) -> usize {
        self.params().map(|(_, param)| param.value().len()).sum()
    }

    /// Number of parameters that are not zero.
    pub fn num_nonzero_params(&self) -> usize {
        let nonzero = |param: &Param<F>| param.value().iter().filter(|w| **w != F::zero()).count();
        self.params().map(|(_, param)| nonzero(param)).sum()
    }

    /// A model of the same shapes, drawn anew from `seed`, without masks: the network of that form
    /// trained from scratch starts here.
    #[must_use]
    pub fn fresh(&self, seed: u64) -> Self {
        let mut model = Self { seed, origin: None, ..self.clone() };
        for (index, (_, param)) in (0..).zip(model.params_mut()) {
            param.draw(&mut generator(seed, &[purpose::INIT, index]));
        }
        model
    }

    /// The stages of the model, not yet fused.
    pub(crate) fn lower(&self, graph: Option<&Graph<F>>, x: ValueRef<F>) -> Result<Lowering<F>> {
        self.lower_within(graph, x, &Rows::new())
    }

    /// The same, where the rows of its values are what `rows` says: no sample, whose hops no stage
    /// aggregates over.
    pub(crate) fn lower_within(
        &self,
        graph: Option<&Graph<F>>,
        x: ValueRef<F>,
        rows: &Rows<F>,
    ) -> Result<Lowering<F>> {
        let cx = Cx::in_workspace(graph, Arc::default());
        let cx = cx.within(rows);
        if rows.num_hops() > 0 {
            return Err(Error::OnlyAHop { at: "program".into() });
        }
        let mut lowering = Lowering::new(graph.cloned(), x, rows.clone());
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
        for (id, _) in lowering.iter().filter(|(id, _)| lowering.space(*id) != RowSpace::Nodes) {
            let layer = lowering.layer(id);
            cx.at(NodeId::INPUT, layer).num_rows(lowering.space(id)).map_err(|_| Unsupported {
                layer: layer.into(),
                reason: format!("its rows are {}, and the batch has none", lowering.space(id)),
            })?;
        }
        Ok(lowering)
    }

    /// Name of a node.
    pub fn name_of(&self, id: NodeId) -> &str {
        if id == NodeId::INPUT { "input" } else { &self[id].name }
    }
}

/// # Panics
/// For [`NodeId::INPUT`], which is no layer, and for a node of another model.
impl<F: Scalar> std::ops::Index<NodeId> for Model<F> {
    type Output = Node<F>;

    fn index(&self, id: NodeId) -> &Node<F> {
        let k = id.0.checked_sub(1).expect("the input of a model is no layer");
        &self.nodes[k]
    }
}

fn full_name<F: Scalar>(node: &str, param: &Param<F>) -> String {
    format!("{node}.{}", param.name())
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
