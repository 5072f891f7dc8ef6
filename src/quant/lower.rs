//! The operations of a compiled program: each stage of a quantised model on integers, or on floats
//! made of them.

use super::bits::Bits;
use super::model::{QuantModel, QuantOp, QuantStage, QuantWeight, overflow};
use crate::error::{Result, Unsupported};
use crate::graph::{AdjacencyNorm, Graph, Operator};
use crate::kernels::{self, InputWeight, PackedInt8};
use crate::program::{self, Form};
use ndarray::Array2;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `Â` in 8 bits: `Â_ij ≈ scale_i · int_ij` on the pattern of the float operator.
///
/// The scale varies by target, which is not summed; both factors `d_i^{-1/2}` and `d_j^{-1/2}` are
/// in it and in the integers. The error of an entry is at most half a step of its row,
/// `max_j Â_ij / 254`, and averages out over the neighbours.
#[derive(Debug)]
pub(super) struct QuantOperator {
    pub(super) operator: Arc<Operator<f32>>,
    pub(super) ints: Vec<i8>,
    pub(super) scales: Vec<f32>,
    /// The largest sum of magnitudes of a row.
    weight: u64,
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
        Self { operator, ints, scales, weight }
    }

    /// Refuses a sum over neighbours that could overflow; what is aggregated are activations, or
    /// the input with as many bits.
    pub(super) fn check(&self, layer: &str, activations: Bits) -> Result<(), Unsupported> {
        let reach = self.weight * activations.most() as u64;
        if reach > i32::MAX as u64 {
            Err(overflow(layer, "aggregation over the neighbours of one node", reach))
        } else {
            Ok(())
        }
    }
}

/// The operators of one graph; each is quantised once.
#[derive(Default)]
pub(super) struct Norms(BTreeMap<AdjacencyNorm, Arc<QuantOperator>>);

impl Norms {
    pub(super) fn of(&mut self, graph: &Graph, norm: AdjacencyNorm) -> Result<Arc<QuantOperator>> {
        if let Some(known) = self.0.get(&norm) {
            return Ok(known.clone());
        }
        let built = Arc::new(QuantOperator::new(graph.operator(norm)?));
        Ok(self.0.entry(norm).or_insert(built).clone())
    }

    fn known(&self, norm: AdjacencyNorm) -> Arc<QuantOperator> {
        self.0.get(&norm).expect("those of all stages were built at the start").clone()
    }
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
    Aggregate {
        operator: Arc<QuantOperator>,
        cols: Vec<f32>,
    },
    /// The scale of each column of each term, with the coefficient in it.
    Add(Vec<Vec<f32>>),
    Concat(Vec<Vec<f32>>),
    /// On floats: weights are integers times scales, `Â` is the graph's own.
    Floats(program::Op<f32>),
}

impl Op {
    /// Whether it can be added to what stands in its output.
    pub(super) fn is_product(&self) -> bool {
        match self {
            Op::FromInput { .. } | Op::Linear { .. } | Op::Aggregate { .. } => true,
            Op::Floats(op) => op.is_product(),
            Op::Add(_) | Op::Concat(_) => false,
        }
    }

    pub(super) fn name(&self) -> String {
        match self {
            Op::FromInput { .. } | Op::Linear { .. } => "linear".into(),
            Op::Aggregate { .. } => "aggregate".into(),
            Op::Add(_) => "add".into(),
            Op::Concat(_) => "concat".into(),
            Op::Floats(op) => op.name(),
        }
    }
}

/// Makes the operations of one model on one graph; an operator is quantised once.
pub(super) struct Lowerer<'a> {
    model: &'a QuantModel,
    /// Whether the input is sparse; no aggregation reads it then.
    pub(super) sparse: bool,
    operators: Norms,
}

impl<'a> Lowerer<'a> {
    /// # Errors
    /// [`Unsupported`] naming the stage whose accumulators could overflow on this graph: in
    /// whatever form it is going to run, so that a model that compiles here compiles on every
    /// machine; [`Error::Degree`](crate::Error::Degree) where the norm has no value on the graph.
    pub(super) fn new(model: &'a QuantModel, graph: &Graph, sparse: bool) -> Result<Self> {
        let mut lowerer = Self { model, sparse, operators: Norms::default() };
        for stage in &model.stages {
            let QuantOp::Aggregate(norm) = stage.op else { continue };
            lowerer.operators.of(graph, norm)?.check(&stage.layer, model.activation_bits)?;
        }
        Ok(lowerer)
    }

    fn operator(&self, norm: AdjacencyNorm) -> Arc<QuantOperator> {
        self.operators.known(norm)
    }

    /// What a stage runs as in that form.
    pub(super) fn lower(&mut self, stage: &QuantStage, form: Form) -> Op {
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
            QuantOp::Aggregate(norm) => Op::Aggregate {
                operator: self.operator(*norm),
                cols: self.columns(stage.inputs[0], 1.0),
            },
            QuantOp::Add(coefficients) => Op::Add(
                stage.inputs.iter().zip(coefficients).map(|(&k, &a)| self.columns(k, a)).collect(),
            ),
            QuantOp::Concat => {
                Op::Concat(stage.inputs.iter().map(|&k| self.columns(k, 1.0)).collect())
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

    fn on_floats(&mut self, stage: &QuantStage) -> program::Op<f32> {
        match &stage.op {
            QuantOp::Linear(weight) => {
                program::Op::linear(&weight.to_floats(), self.sparse && stage.inputs[0] == 0)
            }
            QuantOp::Aggregate(norm) => {
                program::Op::Aggregate(self.operator(*norm).operator.clone(), *norm)
            }
            QuantOp::Add(coefficients) => program::Op::Add(coefficients.clone()),
            QuantOp::Concat => program::Op::Concat,
        }
    }
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
