//! The operations of a compiled program: each stage of a quantised model on integers, or on floats
//! made of them.

use super::bits::Bits;
use super::model::{Left, QuantModel, QuantOp, QuantStage, QuantWeight, overflow};
use super::tables::{RowOp, Scoring, StoredTable, TableRows};
use crate::error::{Error, Result, Unsupported};
use crate::graph::{Graph, Operator};
use crate::kernels::{self, InputWeight, PackedInt8};
use crate::nn::{Cx, RowSpace, Rows};
use crate::program::{self, Form};
use ndarray::Array2;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// A sparse left operand in 8 bits, `Â` or what a readout multiplies by:
/// `Â_ij ≈ scale_i · int_ij` on the pattern of the float operator.
///
/// The scale varies by target, which is not summed; both factors `d_i^{-1/2}` and `d_j^{-1/2}` are
/// in it and in the integers. The error of an entry is at most half a step of its row,
/// `max_j Â_ij / 254`, and averages out over the neighbours.
#[derive(Debug)]
pub(super) struct QuantOperator {
    pub(super) operator: Arc<Operator<f32>>,
    pub(super) ints: Vec<i8>,
    pub(super) scales: Vec<f32>,
    /// The largest sum of magnitudes of a row, and the most entries of one.
    weight: u64,
    longest: usize,
}

impl QuantOperator {
    fn new(operator: Arc<Operator<f32>>) -> Self {
        let (starts, _, values) = operator.forward().into_raw_storage();
        let (mut ints, mut scales) = (vec![0; values.len()], vec![0.0; starts.len() - 1]);
        kernels::quantize_rows(starts, values, Bits::Eight.most(), &mut ints, &mut scales);
        let sum = |row: &[usize]| {
            ints[row[0]..row[1]].iter().map(|q| u64::from(q.unsigned_abs())).sum::<u64>()
        };
        let weight = starts.windows(2).map(sum).max().unwrap_or(0);
        let longest = starts.windows(2).map(|row| row[1] - row[0]).max().unwrap_or(0);
        Self { operator, ints, scales, weight, longest }
    }

    /// Refuses a sum over neighbours, or over the nodes of a graph, that could overflow; what is
    /// summed are activations, or the input with as many bits.
    fn check(&self, layer: &str, left: Left, activations: Bits) -> Result<(), Unsupported> {
        let reach = self.weight * activations.most() as u64;
        if reach <= i32::MAX as u64 {
            return Ok(());
        }
        let what = match left {
            Left::Norm(_) => "aggregation over the neighbours of one node".to_string(),
            Left::Members(_) => {
                format!("the readout of the largest graph, which has {} nodes,", self.longest)
            }
        };
        Err(overflow(layer, &what, reach))
    }
}

impl Left {
    /// The matrix of floats for a batch; `at` is the layer that multiplies by it.
    ///
    /// # Errors
    /// [`Error::Degree`] where a norm has no value on the graph, [`Error::NoGraph`] where nodes
    /// stand alone; [`Error::NoGraphs`] and [`Error::ShapeMismatch`] where the batch does not say
    /// the graph of each node.
    pub(super) fn operator(
        self,
        graph: &Graph,
        within: &Rows<f32>,
        at: &str,
    ) -> Result<Arc<Operator<f32>>> {
        match self {
            Left::Norm(_) if stands_alone(within) => Err(Error::NoGraph { at: at.into() }),
            Left::Norm(norm) => graph.operator(norm),
            Left::Members(pooling) => {
                pooling.operator(within, num_nodes(graph, within), at).map(Arc::new)
            }
        }
    }
}

/// The left operands of one batch; each is quantised once.
#[derive(Default)]
pub(super) struct Lefts(BTreeMap<Left, Arc<QuantOperator>>);

impl Lefts {
    /// Builds what stage `layer` multiplies by.
    ///
    /// # Errors
    /// As [`Left::operator`], and [`Unsupported`] where its sums could overflow.
    pub(super) fn add(
        &mut self,
        left: Left,
        (graph, within): (&Graph, &Rows<f32>),
        layer: &str,
        activations: Bits,
    ) -> Result<()> {
        let known = match self.0.entry(left) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let operator = left.operator(graph, within, layer)?;
                place.insert(Arc::new(QuantOperator::new(operator)))
            }
        };
        Ok(known.check(layer, left, activations)?)
    }

    fn known(&self, left: Left) -> Arc<QuantOperator> {
        self.0.get(&left).expect("those of all stages were built at the start").clone()
    }
}

/// Rows of the input and of the value of each stage of `model` for a batch.
///
/// # Errors
/// [`Error::NoGraphs`] where a stage pools and the batch says nothing of graphs,
/// [`Error::NoQueries`] where one scores pairs and it asks about none.
pub(super) fn rows_of_values(
    model: &QuantModel,
    nodes: usize,
    within: &Rows<f32>,
) -> Result<Vec<usize>> {
    let spaces = model.spaces();
    let rows = |(k, space): (usize, Option<RowSpace>)| {
        let layer = || model.stages[k.max(1) - 1].layer.clone();
        match space.expect("a model that was checked says what its rows are") {
            RowSpace::Graphs => within
                .graph_of_nodes()
                .map(|(_, count)| count)
                .ok_or_else(|| Error::NoGraphs { at: layer() }),
            RowSpace::Pairs => within
                .asked()
                .map(|asked| asked.num_pairs())
                .ok_or_else(|| Error::NoQueries { at: layer() }),
            RowSpace::Nodes | RowSpace::Hop(_) => Ok(nodes),
            RowSpace::Relations(count) => Ok(count as usize),
        }
    };
    spaces.into_iter().enumerate().map(rows).collect()
}

#[derive(Debug, Clone)]
pub(super) enum Op {
    /// A product with the input, whose rows have scales of their own.
    FromInput {
        weight: Arc<InputWeight>,
        cols: Vec<f32>,
    },
    Linear {
        packed: Arc<PackedInt8>,
        cols: Vec<f32>,
    },
    /// A product with a sparse left operand: aggregation, or a readout.
    Aggregate {
        operator: Arc<QuantOperator>,
        cols: Vec<f32>,
        name: &'static str,
    },
    /// The scale of each column of each term, with the coefficient in it.
    Add(Vec<Vec<f32>>),
    Concat(Vec<Vec<f32>>),
    /// On floats: weights are integers times scales, `Â` is the graph's own.
    Floats(program::Op<f32>),
    /// On rows; it writes floats.
    Rows(RowOp),
}

impl Op {
    /// Whether it can be added to what stands in its output.
    pub(super) fn is_product(&self) -> bool {
        match self {
            Op::FromInput { .. } | Op::Linear { .. } | Op::Aggregate { .. } => true,
            Op::Floats(op) => op.is_product(),
            Op::Add(_) | Op::Concat(_) | Op::Rows(_) => false,
        }
    }

    /// What it computes with.
    pub(super) fn form(&self) -> Form {
        match self {
            Op::Floats(_) => Form::Floats,
            Op::Rows(op) => op.form(),
            _ => Form::Integers,
        }
    }

    /// Whether it reads and writes floats, whatever it computes with.
    pub(super) fn is_of_floats(&self) -> bool {
        matches!(self, Op::Floats(_) | Op::Rows(_))
    }

    /// Whether it reads values, and not a table of its own.
    pub(super) fn reads(&self) -> bool {
        if let Op::Rows(op) = self { op.reads() } else { true }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Op::FromInput { .. } | Op::Linear { .. } => "linear".into(),
            Op::Aggregate { name, .. } => (*name).into(),
            Op::Add(_) => "add".into(),
            Op::Concat(_) => "concat".into(),
            Op::Floats(op) => op.name(),
            Op::Rows(op) => op.name().into(),
        }
    }
}

/// Makes the operations of one model on one graph; an operator is quantised once.
pub(super) struct Lowerer<'a> {
    model: &'a QuantModel,
    /// Whether the input is sparse; no aggregation or readout reads it then.
    pub(super) sparse: bool,
    /// What the batch has beside its graph.
    within: &'a Rows<f32>,
    operators: Lefts,
    /// Those of a model that sums nothing but floats.
    floats: BTreeMap<Left, Arc<Operator<f32>>>,
}

impl<'a> Lowerer<'a> {
    /// # Errors
    /// [`Unsupported`] naming the stage whose accumulators could overflow on this graph: in
    /// whatever form it is going to run, so that a model that compiles here compiles on every
    /// machine; what [`Left::operator`] and [`Lowerer::check_rows`] return.
    pub(super) fn new(
        model: &'a QuantModel,
        graph: &Graph,
        (rows, sparse): (usize, bool),
        within: &'a Rows<f32>,
    ) -> Result<Self> {
        let (operators, floats) = (Lefts::default(), BTreeMap::new());
        let mut lowerer = Self { model, sparse, within, operators, floats };
        for stage in &model.stages {
            lowerer.check_rows(stage, rows)?;
            let Some(left) = stage.op.left() else { continue };
            if model.is_of_rows() {
                lowerer.floats.insert(left, left.operator(graph, within, &stage.layer)?);
            } else {
                let (on, bits) = ((graph, within), model.activation_bits);
                lowerer.operators.add(left, on, &stage.layer, bits)?;
            }
        }
        Ok(lowerer)
    }

    /// Refuses a batch that a stage on rows cannot be run on.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a table of other nodes, [`Error::IndexOutOfRange`] for a node
    /// that it does not have, and for what queries name and there is not, [`Error::NoQueries`]
    /// where there are none.
    fn check_rows(&self, stage: &QuantStage, rows: usize) -> Result<()> {
        match &stage.op {
            QuantOp::Embedding(table) => {
                let (nodes, columns) = (table.shape().0, self.model.width_of(stage.inputs[0]));
                let Some(ids) = self.within.node_ids() else {
                    if nodes == rows {
                        return Ok(());
                    }
                    let at = format!("{}: nodes of the table", stage.layer);
                    let (expected, found) = ((nodes, columns), (rows, columns));
                    return Err(Error::ShapeMismatch { at, expected, found });
                };
                match ids.iter().find(|node| **node as usize >= nodes) {
                    None => Ok(()),
                    Some(&node) => {
                        let at = format!("{}: node of a batch", stage.layer);
                        Err(Error::IndexOutOfRange { at, index: node as usize, len: nodes })
                    }
                }
            }
            QuantOp::Decoder(decoder) => {
                let asked = self.within.asked();
                let asked = asked.ok_or_else(|| Error::NoQueries { at: stage.layer.clone() })?;
                let relations = decoder.relations().map_or(usize::MAX, |table| table.shape().0);
                asked.check(&stage.layer, rows, relations)
            }
            _ => Ok(()),
        }
    }

    /// The rows of a batch in a table.
    fn rows_of(&self, table: &StoredTable) -> TableRows {
        TableRows { table: table.clone(), ids: self.within.node_ids().map(Arc::from) }
    }

    /// What stage `k` runs as, where it is one on rows.
    fn on_rows(&self, k: usize, form: Form) -> Option<RowOp> {
        Some(match &self.model.stages[k].op {
            QuantOp::Embedding(table) => RowOp::Table(self.rows_of(table)),
            QuantOp::Normalize => RowOp::Normalize,
            QuantOp::Decoder(decoder) => {
                let table = self.model.scored_table(k);
                let table = table.and_then(|table| match &self.model.stages[table].op {
                    QuantOp::Embedding(table) => Some(table),
                    _ => None,
                });
                RowOp::Scores(Arc::new(Scoring {
                    decoder: decoder.clone(),
                    asked: self.within.asked().expect("it was checked at the start").clone(),
                    table: table.map(|table| self.rows_of(table)),
                    form,
                }))
            }
            _ => return None,
        })
    }

    /// What a stage runs as in that form.
    pub(super) fn lower(&mut self, k: usize, form: Form) -> Op {
        if let Some(op) = self.on_rows(k, form) {
            return Op::Rows(op);
        }
        let stage = &self.model.stages[k];
        match form {
            Form::Integers => self.on_integers(stage),
            Form::Floats => Op::Floats(self.on_floats(stage)),
        }
    }

    fn on_integers(&mut self, stage: &QuantStage) -> Op {
        match &stage.op {
            QuantOp::Linear(weight) => {
                let (inputs, outputs) = weight.shape;
                match stage.inputs[0] {
                    0 => {
                        let laid_out = Arc::new(InputWeight::new(&weight.ints, inputs, outputs));
                        Op::FromInput { weight: laid_out, cols: weight.scales.clone() }
                    }
                    k => {
                        let scale =
                            self.model.stages[k - 1].scale.expect("only the last stage is real");
                        let packed = Arc::new(PackedInt8::new(&weight.ints, inputs, outputs));
                        Op::Linear {
                            packed,
                            cols: weight.scales.iter().map(|s| scale * s).collect(),
                        }
                    }
                }
            }
            QuantOp::Aggregate(_) | QuantOp::Pool(_) => Op::Aggregate {
                operator: self.operators.known(stage.op.left().expect("both multiply by one")),
                cols: self.columns(stage.inputs[0], 1.0),
                name: stage.op.name(),
            },
            QuantOp::Add(coefficients) => Op::Add(
                stage.inputs.iter().zip(coefficients).map(|(&k, &a)| self.columns(k, a)).collect(),
            ),
            QuantOp::Concat => {
                Op::Concat(stage.inputs.iter().map(|&k| self.columns(k, 1.0)).collect())
            }
            QuantOp::Embedding(_) | QuantOp::Normalize | QuantOp::Decoder(_) => {
                unreachable!("{ROWS_FIRST}")
            }
        }
    }

    /// The scales of the columns of value `k`, times a coefficient; only joins and aggregation ask
    /// for those of the input.
    fn columns(&self, k: usize, coefficient: f32) -> Vec<f32> {
        match (k, &self.model.input_scales) {
            (0, Some(scales)) => scales.iter().map(|&scale| coefficient * scale).collect(),
            _ => {
                let scale = self.model.stages[k - 1].scale.expect("only the last stage is real");
                vec![coefficient * scale; self.model.width_of(k)]
            }
        }
    }

    fn of_floats(&self, left: Left) -> Arc<Operator<f32>> {
        let own = self.floats.get(&left).cloned();
        own.unwrap_or_else(|| self.operators.known(left).operator.clone())
    }

    fn on_floats(&mut self, stage: &QuantStage) -> program::Op<f32> {
        match &stage.op {
            QuantOp::Linear(weight) => {
                program::Op::linear(&weight.to_floats(), self.sparse && stage.inputs[0] == 0)
            }
            QuantOp::Aggregate(norm) => {
                program::Op::Aggregate(self.of_floats(Left::Norm(*norm)), *norm)
            }
            QuantOp::Pool(pooling) => {
                program::Op::Pool(self.of_floats(Left::Members(*pooling)), *pooling)
            }
            QuantOp::Add(coefficients) => program::Op::Add(coefficients.clone()),
            QuantOp::Concat => program::Op::Concat,
            QuantOp::Embedding(_) | QuantOp::Normalize | QuantOp::Decoder(_) => {
                unreachable!("{ROWS_FIRST}")
            }
        }
    }
}

const ROWS_FIRST: &str = "stages on rows are lowered first";

/// Rows of the features of a batch.
pub(super) fn num_nodes(graph: &Graph, within: &Rows<f32>) -> usize {
    let alone = within.node_ids().filter(|_| stands_alone(within));
    alone.map_or(graph.num_nodes(), <[u32]>::len)
}

/// Whether a batch is some nodes without a graph between them.
pub(super) fn stands_alone(within: &Rows<f32>) -> bool {
    matches!(Cx::without_graph().within(within).space(), RowSpace::Hop(_))
}

impl QuantWeight {
    /// The matrix that the integers stand for.
    pub(super) fn to_floats(&self) -> Array2<f32> {
        let cols = self.shape.1;
        Array2::from_shape_fn(self.shape, |(k, c)| {
            f32::from(self.ints[k * cols + c]) * self.scales[c]
        })
    }
}
