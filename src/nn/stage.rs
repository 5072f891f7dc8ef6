//! Stages: the closed set of operations that every layer lowers to.
//!
//! Inference, quantisation and the cost model know only these.

use super::activation_fn::ActivationFn;
use super::cx::Cx;
use super::ids::{ParamId, StageId};
use super::param::Param;
use super::pooling::Pooling;
use super::row_norm::RowNorm;
use super::rows::{RowSpace, Rows};
use crate::error::{Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph, Operator};
use crate::scalar::Scalar;
use crate::value::ValueRef;
use ndarray::Array2;
use std::any::Any;
use std::sync::Arc;

/// One operation of a lowered model. `n` is the number of nodes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Stage<F: Scalar> {
    /// The model's input, `[n, in]`.
    Input,
    /// `X·W`: `[n, in] · [in, out]`.
    Linear {
        /// What is multiplied.
        x: StageId,
        /// `W`, shape `[in, out]`.
        weight: Arc<Array2<F>>,
        /// The parameter that it is.
        param: ParamId,
    },
    /// `Â·X`: `[n, n] · [n, c]`.
    Aggregate {
        /// What is aggregated.
        x: StageId,
        /// `Â`.
        operator: Arc<Operator<F>>,
        /// How `Â` follows from the graph.
        norm: AdjacencyNorm,
    },
    /// `P·X`: `[graphs, n] · [n, c]`, sums or means over the nodes of each graph of a batch.
    Pool {
        /// What is pooled.
        x: StageId,
        /// `P`.
        operator: Arc<Operator<F>>,
        /// What a graph takes from its nodes: no maximum, which is no product.
        pooling: Pooling,
    },
    /// `X + b`, the same row `b` for every node.
    Bias {
        /// What is shifted.
        x: StageId,
        /// `b`, one number per channel.
        bias: Arc<Vec<F>>,
    },
    /// `f(X)`, entry by entry.
    Activation {
        /// What is activated.
        x: StageId,
        /// `f`.
        function: ActivationFn,
    },
    /// `Σ_k a_k·X_k`.
    Add {
        /// The terms.
        xs: Vec<StageId>,
        /// A factor for each term.
        coefficients: Vec<F>,
    },
    /// The channels of all inputs side by side.
    Concat {
        /// The parts.
        xs: Vec<StageId>,
    },
    /// `x_ic · s_c`.
    Scale {
        /// What is scaled.
        x: StageId,
        /// `s`, one number per channel.
        scale: Arc<Vec<F>>,
    },
    /// The largest of all inputs, entry by entry.
    Max {
        /// The terms.
        xs: Vec<StageId>,
    },
    /// `x̂_ic · s_c`, where `X̂` has mean 0 and variance 1 over rows.
    RowNorm {
        /// What is normalised.
        x: StageId,
        /// Over which channels, and whether over all rows together.
        norm: Arc<RowNorm>,
        /// `s`, one number per channel.
        scale: Arc<Vec<F>>,
    },
    /// What none of the others says: the layer that lowers to it brings it along.
    Opaque {
        /// What it reads.
        xs: Vec<StageId>,
        /// What it computes.
        operation: Arc<dyn Opaque<F>>,
    },
}

/// An operation of a layer's own, in evaluation mode: it runs, says what it costs, and has no
/// integer form, but for the tables and decoders of this crate, which the quantiser knows.
/// [`Evaluated`](super::Evaluated) makes one of any layer.
pub trait Opaque<F: Scalar>: Any + Send + Sync {
    /// Its name, for reports and refusals.
    fn name(&self) -> &str;

    /// Multiply-accumulates of one run.
    fn macs(&self) -> u64;

    /// What the rows of its value are, by those of the values that it reads; nothing where it
    /// cannot join them. Default: theirs.
    fn rows(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        RowSpace::joined(inputs)
    }

    /// Computes its value from those that it reads. An array from the workspace of `cx` changes
    /// places with the program's own, and nothing is copied.
    ///
    /// # Errors
    /// What the operation refuses of its inputs or of the graph.
    fn run(&self, cx: &Cx<F>, xs: &[ValueRef<F>]) -> Result<Array2<F>>;
}

impl<F: Scalar> std::fmt::Debug for dyn Opaque<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl<F: Scalar> Stage<F> {
    /// The stages that it reads.
    pub fn inputs(&self) -> &[StageId] {
        match self {
            Stage::Input => &[],
            Stage::Linear { x, .. }
            | Stage::Aggregate { x, .. }
            | Stage::Pool { x, .. }
            | Stage::Bias { x, .. }
            | Stage::Activation { x, .. }
            | Stage::Scale { x, .. }
            | Stage::RowNorm { x, .. } => std::slice::from_ref(x),
            Stage::Add { xs, .. }
            | Stage::Concat { xs }
            | Stage::Max { xs }
            | Stage::Opaque { xs, .. } => xs,
        }
    }
}

/// Collects the stages of a model; layers write themselves into it by [`super::Layer::lower`].
#[derive(Debug)]
pub struct Lowering<F: Scalar> {
    graph: Option<Graph<F>>,
    /// What the batch has beside the graph.
    within: Rows<F>,
    /// Rows of each stage's value: what they are, and how many.
    spaces: Vec<RowSpace>,
    rows: Vec<usize>,
    input_stored: Option<usize>,
    stages: Vec<Stage<F>>,
    widths: Vec<usize>,
    layers: Vec<String>,
    /// For each stage the index of its layer's name.
    layer_of: Vec<usize>,
    output: StageId,
    of_nodes: Vec<StageId>,
    /// What readouts multiply by: all that pool alike share it.
    pools: Vec<(Pooling, Arc<Operator<F>>)>,
}

impl<F: Scalar> Lowering<F> {
    pub(crate) fn new(graph: Option<Graph<F>>, x: ValueRef<F>, within: Rows<F>) -> Self {
        let input_stored = match x {
            ValueRef::Dense(_) => None,
            ValueRef::Sparse(x) => Some(x.nnz()),
        };
        Self {
            graph,
            within,
            spaces: vec![RowSpace::Nodes],
            rows: vec![x.rows()],
            input_stored,
            stages: vec![Stage::Input],
            widths: vec![x.cols()],
            layers: vec!["input".into()],
            layer_of: vec![0],
            output: StageId(0),
            of_nodes: Vec::new(),
            pools: Vec::new(),
        }
    }

    pub(crate) fn input(&self) -> StageId {
        StageId(0)
    }

    /// Stages that follow belong to this layer.
    pub(crate) fn enter(&mut self, layer: &str) {
        self.layers.push(layer.into());
    }

    /// `of_nodes` are the stages whose values are those of the input and of each node.
    pub(crate) fn finish(&mut self, output: StageId, of_nodes: Vec<StageId>) {
        (self.output, self.of_nodes) = (output, of_nodes);
    }

    /// The stages whose values are those of the model's input and of each node, in order.
    pub(crate) fn of_nodes(&self) -> &[StageId] {
        &self.of_nodes
    }

    /// The stages so far, in an order in which every input comes first.
    pub fn stages(&self) -> &[Stage<F>] {
        &self.stages
    }

    /// The stages so far, each with its id.
    pub fn iter(&self) -> impl Iterator<Item = (StageId, &Stage<F>)> {
        self.stages.iter().enumerate().map(|(k, stage)| (StageId(k), stage))
    }

    /// The stage that is the model's output.
    pub fn output(&self) -> StageId {
        self.output
    }

    /// Columns of a stage's value.
    pub fn width(&self, id: StageId) -> usize {
        self.widths[id.0]
    }

    /// Name of the layer that wrote a stage.
    pub fn layer(&self, id: StageId) -> &str {
        &self.layers[self.layer_of[id.0]]
    }

    /// Rows of a stage's value.
    pub fn rows(&self, id: StageId) -> usize {
        self.rows[id.0]
    }

    /// What the rows of a stage's value are.
    pub fn space(&self, id: StageId) -> RowSpace {
        self.spaces[id.0]
    }

    /// What the rows are that a stage reads.
    pub(crate) fn space_read(&self, inputs: &[StageId]) -> RowSpace {
        let spaces: Vec<RowSpace> = inputs.iter().map(|&x| self.space(x)).collect();
        RowSpace::joined(&spaces).or(spaces.first().copied()).unwrap_or(RowSpace::Nodes)
    }

    /// What the batch that the model is lowered for has beside its graph.
    pub fn within(&self) -> &Rows<F> {
        &self.within
    }

    /// Whether a stage's value is sparse: only the input can be.
    pub fn is_sparse(&self, id: StageId) -> bool {
        id.0 == 0 && self.input_stored.is_some()
    }

    /// Stored entries of the model's input.
    pub fn input_stored(&self) -> usize {
        self.input_stored.unwrap_or(self.rows[0] * self.widths[0])
    }

    /// Adds `X·W`.
    pub fn linear(&mut self, x: StageId, weight: &Param<F>) -> StageId {
        let width = weight.value().ncols();
        self.push(
            Stage::Linear { x, weight: Arc::new(weight.value().clone()), param: weight.id() },
            width,
        )
    }

    /// Adds `Â·X`.
    ///
    /// # Errors
    /// [`Unsupported`] where the program has no graph or the norm no value on it, and where `X` is
    /// sparse or its rows are no nodes.
    pub fn aggregate(&mut self, x: StageId, norm: AdjacencyNorm) -> Result<StageId, Unsupported> {
        if self.is_sparse(x) {
            let layer = self.layers.last().cloned().unwrap_or_default();
            return Err(Unsupported {
                layer,
                reason: "it aggregates sparse features before a product".into(),
            });
        }
        let operator = self.operator(norm)?;
        if self.space(x) != RowSpace::Nodes {
            let layer = self.layers.last().cloned().unwrap_or_default();
            let reason =
                format!("it aggregates over neighbours, and its rows are {}", self.space(x));
            return Err(Unsupported { layer, reason });
        }
        Ok(self.push(Stage::Aggregate { x, operator, norm }, self.width(x)))
    }

    /// Adds `P·X`, sums or means over the nodes of each graph of the batch.
    ///
    /// # Errors
    /// [`Unsupported`] where the batch says nothing of graphs, or of other nodes than those of `X`,
    /// and for a maximum, which is no product.
    pub fn pool(&mut self, x: StageId, pooling: Pooling) -> Result<StageId, Unsupported> {
        let layer = self.layers.last().cloned().unwrap_or_default();
        let refused = |reason: String| Unsupported { layer: layer.clone(), reason };
        if pooling == Pooling::Max {
            return Err(refused("the largest of some nodes is no product".into()));
        }
        if self.space(x) != RowSpace::Nodes {
            return Err(refused(format!(
                "it pools over nodes, and its rows are {}",
                self.space(x)
            )));
        }
        let known = self.pools.iter().find(|(of, _)| *of == pooling);
        let operator = match known {
            Some((_, operator)) => operator.clone(),
            None => {
                if self.within.graph_of_nodes().is_none() {
                    return Err(refused("its rows are graphs, and the batch has none".into()));
                }
                let built = pooling.operator(&self.within, self.rows(x), &layer);
                let built = Arc::new(built.map_err(|error| refused(error.to_string()))?);
                self.pools.push((pooling, built.clone()));
                built
            }
        };
        Ok(self.push(Stage::Pool { x, operator, pooling }, self.width(x)))
    }

    /// Adds `X + b`.
    pub fn bias(&mut self, x: StageId, bias: &Param<F>) -> StageId {
        let bias = Arc::new(bias.value().iter().copied().collect());
        self.push(Stage::Bias { x, bias }, self.width(x))
    }

    /// Adds `f(X)`.
    pub fn activation(&mut self, x: StageId, function: ActivationFn) -> StageId {
        self.push(Stage::Activation { x, function }, self.width(x))
    }

    /// Adds `Σ_k a_k·X_k`.
    pub fn add(&mut self, xs: &[StageId], coefficients: &[F]) -> StageId {
        self.push(
            Stage::Add { xs: xs.to_vec(), coefficients: coefficients.to_vec() },
            self.width(xs[0]),
        )
    }

    /// Adds the channels of all inputs side by side.
    pub fn concat(&mut self, xs: &[StageId]) -> StageId {
        let width = xs.iter().map(|&x| self.width(x)).sum();
        self.push(Stage::Concat { xs: xs.to_vec() }, width)
    }

    /// Adds `x_ic · s_c`.
    pub fn scale(&mut self, x: StageId, scale: Vec<F>) -> StageId {
        self.push(Stage::Scale { x, scale: Arc::new(scale) }, self.width(x))
    }

    /// Adds a row `b` that is no parameter.
    pub fn shift(&mut self, x: StageId, bias: Vec<F>) -> StageId {
        self.push(Stage::Bias { x, bias: Arc::new(bias) }, self.width(x))
    }

    /// Adds the largest of all inputs, entry by entry.
    pub fn max(&mut self, xs: &[StageId]) -> StageId {
        self.push(Stage::Max { xs: xs.to_vec() }, self.width(xs[0]))
    }

    /// Adds `x̂_ic · s_c`.
    ///
    /// # Panics
    /// If the norm is over channels that `x` does not have, or `scale` has another number of them.
    pub fn row_norm(&mut self, x: StageId, norm: RowNorm, scale: &Param<F>) -> StageId {
        let width = self.width(x);
        assert!(
            norm.channels().iter().all(|&c| c < width) && scale.value().len() == width,
            "a norm fits the {width} channels that it is over"
        );
        let scale = Arc::new(scale.value().iter().copied().collect());
        self.push(Stage::RowNorm { x, norm: Arc::new(norm), scale }, self.width(x))
    }

    /// Adds an operation that no other stage says; `width` is that of its value, whose rows are
    /// what [`Opaque::rows`] says.
    pub fn opaque(&mut self, xs: &[StageId], operation: impl Opaque<F>, width: usize) -> StageId {
        self.push(Stage::Opaque { xs: xs.to_vec(), operation: Arc::new(operation) }, width)
    }

    /// The graph that the model is lowered for.
    ///
    /// # Errors
    /// [`Unsupported`] where there is none.
    pub fn graph(&self) -> Result<&Graph<F>, Unsupported> {
        let layer = self.layers.last().cloned().unwrap_or_default();
        self.graph.as_ref().ok_or_else(|| Unsupported {
            layer,
            reason: "it aggregates over neighbours, and there is no graph".into(),
        })
    }

    /// The operator that aggregation with `norm` multiplies by; see [`Graph::operator`].
    ///
    /// # Errors
    /// [`Unsupported`] where there is no graph, or the norm has no value on it.
    pub fn operator(&self, norm: AdjacencyNorm) -> Result<Arc<Operator<F>>, Unsupported> {
        self.of_graph(|graph| graph.operator(norm))
    }

    /// What is built of the graph; what cannot be built of it is a reason not to compile.
    pub(crate) fn of_graph<T>(
        &self,
        build: impl FnOnce(&Graph<F>) -> Result<T>,
    ) -> Result<T, Unsupported> {
        build(self.graph()?).map_err(|error| Unsupported {
            layer: self.layers.last().cloned().unwrap_or_default(),
            reason: error.to_string(),
        })
    }

    /// Stored entries of a stage's value: all of a dense one.
    pub fn stored(&self, id: StageId) -> usize {
        if id.0 == 0 { self.input_stored() } else { self.rows(id) * self.width(id) }
    }

    fn push(&mut self, stage: Stage<F>, width: usize) -> StageId {
        let read = self.space_read(stage.inputs());
        let space = match &stage {
            Stage::Opaque { xs, operation } => {
                let spaces: Vec<RowSpace> = xs.iter().map(|&x| self.space(x)).collect();
                operation.rows(&spaces).unwrap_or(read)
            }
            Stage::Pool { .. } => RowSpace::Graphs,
            _ => read,
        };
        self.rows.push(match space {
            RowSpace::Nodes => self.rows[0],
            // What the batch says nothing of is refused once the model is lowered.
            space => Cx::without_graph().within(&self.within).num_rows(space).unwrap_or(0),
        });
        self.spaces.push(space);
        self.stages.push(stage);
        self.widths.push(width);
        self.layer_of.push(self.layers.len() - 1);
        StageId(self.stages.len() - 1)
    }
}
