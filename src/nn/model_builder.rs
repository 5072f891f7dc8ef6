//! Putting a model together, every width checked as a layer is added.

use super::erased::DynLayer;
use super::ids::NodeId;
use super::layer::Layer;
use super::model::{Model, Node};
use super::param::Axis;
use super::rows::RowSpace;
use super::wiring::Wiring;
use crate::error::{Error, ModelError, Result};
use crate::scalar::Scalar;

/// Builder of a [`Model`]: nodes are added in an order in which every input is there already.
#[derive(Debug, Clone)]
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
        if name.is_empty() || name == "input" || name.contains('.') {
            return Err(ModelError::NameIllegal(name.into()).into());
        }
        if self.has(name) {
            return Err(ModelError::NameTaken(name.into()).into());
        }
        if let Some(missing) = inputs.iter().find(|id| id.0 > self.nodes.len()) {
            let (node, input) = (name.into(), missing.0);
            return Err(ModelError::UnknownInput { node, input }.into());
        }
        let (least, most) = layer.arity();
        if inputs.len() < least || inputs.len() > most {
            return Err(Error::InputCount { at: name.into(), least, most, found: inputs.len() });
        }
        let widths: Vec<usize> = inputs.iter().map(|&id| self.channels(id)).collect();
        let spaces: Vec<RowSpace> = inputs.iter().map(|&id| self.rows(id)).collect();
        let rows = layer.rows(&spaces).ok_or_else(|| rows_differ(name, &spaces))?;
        let channels = out_channels(name, &*layer, &widths)?;
        check_axes(name, &*layer, &widths, channels)?;
        let mut next = self.num_params;
        layer.visit_mut(&mut |param| {
            param.id.0 = next;
            next += 1;
        });
        self.num_params = next;
        self.nodes.push(Node { name: name.into(), layer, inputs: inputs.to_vec(), channels, rows });
        Ok(NodeId(self.nodes.len()))
    }

    /// Whether a node has this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.name == name)
    }

    /// How many channels a node puts out.
    pub fn channels(&self, id: NodeId) -> usize {
        if id == NodeId::INPUT { self.in_channels } else { self.nodes[id.0 - 1].channels }
    }

    /// What the rows of a node are.
    fn rows(&self, id: NodeId) -> RowSpace {
        if id == NodeId::INPUT { RowSpace::Nodes } else { self.nodes[id.0 - 1].rows }
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
            return Err(ModelError::NoOutput.into());
        }
        let mut read = vec![false; self.nodes.len() + 1];
        read[output.0] = true;
        self.nodes.iter().flat_map(|node| &node.inputs).for_each(|id| read[id.0] = true);
        if let Some(unread) = (1..read.len()).find(|&k| !read[k]) {
            return Err(ModelError::Unread(self.nodes[unread - 1].name.clone()).into());
        }
        let Self { in_channels, nodes, num_params } = self;
        Ok(Model { in_channels, nodes, output, num_params, seed, origin: None })
    }
}

/// A node has at most as many channels: each of them is a number for every node of the graph.
pub(crate) const MOST_CHANNELS: usize = 1 << 24;

/// The refusal of inputs whose rows a layer cannot join.
pub(super) fn rows_differ(name: &str, spaces: &[RowSpace]) -> Error {
    let rows = spaces.iter().map(RowSpace::to_string).collect();
    ModelError::RowsDiffer { node: name.into(), rows }.into()
}

fn out_channels<F: Scalar>(name: &str, layer: &dyn DynLayer<F>, widths: &[usize]) -> Result<usize> {
    let same = || match widths.iter().find(|&&width| width != widths[0]) {
        None => Ok(widths[0]),
        Some(&other) => {
            let widths = [widths[0], other];
            Err(Error::from(ModelError::WidthsDiffer { node: name.into(), widths }))
        }
    };
    if layer.ties_inputs() {
        same()?;
    }
    match layer.wiring() {
        Wiring::Fresh { channels: 0, .. } => Err(ModelError::NoChannels(name.into()).into()),
        Wiring::Fresh { channels, .. } => Ok(channels),
        Wiring::Concat => {
            let sum = widths.iter().try_fold(0usize, |sum, &width| {
                sum.checked_add(width).filter(|&sum| sum <= MOST_CHANNELS)
            });
            sum.ok_or_else(|| {
                ModelError::TooManyChannels { node: name.into(), most: MOST_CHANNELS }.into()
            })
        }
        Wiring::Same => same(),
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
            // A part that all repeat.
            Axis::OutPart => {
                (1..=len).rev().find(|&part| channels.is_multiple_of(part)).unwrap_or(0)
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
    /// Lets `f` change the layers of a copy, then works out all widths anew and checks that
    /// everything still fits.
    pub(crate) fn rebuilt(
        &self,
        mut f: impl FnMut(NodeId, &mut Node<F>) -> Result<()>,
    ) -> Result<Self> {
        let mut builder = ModelBuilder::new(self.in_channels);
        for (id, node) in self.iter() {
            let mut node = node.clone();
            f(id, &mut node)?;
            builder.add_boxed(&node.name, node.layer, &node.inputs)?;
        }
        let mut model = builder.build_undrawn(self.output, self.seed)?;
        model.origin.clone_from(&self.origin);
        Ok(model)
    }
}
