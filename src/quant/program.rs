//! The compiled form of a quantised model: integer buffers planned once and kept.

use super::bits::Bits;
use super::model::{QuantModel, QuantOp, QuantStage, overflow};
use crate::error::{Error, Result, Unsupported};
use crate::graph::{Graph, Norm, Operator};
use crate::kernels::pages::Buffer;
use crate::kernels::{self, Activate, Finish, InputWeight, Isa, Out, PackedInt8, SparseInt8, Term};
use crate::nn::{ActivationFn, Cost, StageId, assign_buffers};
use crate::value::ValueRef;
use ndarray::ArrayView2;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `Â` in 8 bits: `Â_ij ≈ scale_i · int_ij` on the pattern of the float operator.
///
/// The scale varies by target, which is not summed; both factors `d_i^{-1/2}` and `d_j^{-1/2}` are in it and in the integers. The error of an
/// entry is at most half a step of its row, `max_j Â_ij / 254`, and averages out over the neighbours.
#[derive(Debug)]
struct QuantOperator {
    operator: Arc<Operator<f32>>,
    ints: Vec<i8>,
    scales: Vec<f32>,
    /// The most that an accumulator can reach with 8-bit features.
    reach: u64,
}

impl QuantOperator {
    fn new(operator: Arc<Operator<f32>>) -> Self {
        let (starts, _, values) = operator.forward().into_raw_storage();
        let (mut ints, mut scales) = (vec![0; values.len()], vec![0.0; starts.len() - 1]);
        kernels::quantize_rows(starts, values, Bits::Eight.most(), &mut ints, &mut scales);
        let sum = |row: &[usize]| ints[row[0]..row[1]].iter().map(|q| u64::from(q.unsigned_abs())).sum::<u64>();
        let reach = starts.windows(2).map(sum).max().unwrap_or(0) * Bits::Eight.most() as u64;
        Self { operator, ints, scales, reach }
    }
}

#[derive(Debug, Clone)]
enum Op {
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
}

#[derive(Debug, Clone)]
struct Instruction {
    op: Op,
    inputs: Vec<Source>,
    width: usize,
    bias: Option<Vec<f32>>,
    activation: Option<ActivationFn>,
    /// Buffer and scale of an integer output; none for the last one.
    output: Option<(usize, f32)>,
}

/// Where an instruction reads: the model's input or a buffer of some width.
#[derive(Debug, Clone, Copy)]
enum Source {
    Input,
    Buffer(usize, usize),
}

/// A quantised model compiled for one graph; runs without allocating after the first call.
///
/// ```
/// use gnn_prune::{Bits, Dataset, Gcn, Quantizer};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let small = Quantizer::builder(Bits::Eight).build()?.quantize(&model, &data)?;
/// let mut program = small.compile(data.graph(), data.features())?;
/// let float = model.compile(data.graph(), data.features())?;
/// assert_eq!(program.cost().macs, float.cost().macs);
/// assert_eq!(program.run(data.features())?.dim(), (data.num_nodes(), data.num_classes()));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct QuantProgram {
    isa: Isa,
    rows: usize,
    in_channels: usize,
    most: i8,
    instructions: Vec<Instruction>,
    buffer_widths: Vec<usize>,
    input_scales: Option<Vec<f32>>,
    by_node: bool,
    buffers: Buffers,
    cost: Cost,
}

#[derive(Debug, Clone, Default)]
struct Buffers {
    ints: Vec<Buffer<i8>>,
    /// Scale of the input at each node.
    input_scales: Vec<f32>,
    /// The input with a scale a channel.
    input_by_channel: Buffer<i8>,
    output: Buffer<f32>,
}

impl QuantProgram {
    pub(super) fn compile(model: &QuantModel, graph: &Graph, x: ValueRef<f32>) -> Result<Self> {
        let sparse = matches!(x, ValueRef::Sparse(_));
        let stages = &model.stages;
        let steps: Vec<Vec<StageId>> = stages.iter().map(|stage| stage.inputs.iter().map(|&k| StageId(k)).collect()).collect();
        // The last stage writes the output, which is no integer buffer.
        let planned: Vec<_> = (0..stages.len() - 1).map(|k| (&steps[k][..], StageId(k + 1), stages[k].width)).collect();
        let (buffer_of, buffer_widths) = plan_with_last(&planned, &steps[stages.len() - 1], stages.len() + 1);
        let mut operators = BTreeMap::new();
        let mut instructions = Vec::with_capacity(stages.len());
        for (k, stage) in stages.iter().enumerate() {
            let source = |&k: &usize| if k == 0 { Source::Input } else { Source::Buffer(buffer_of[k], model.width_of(k)) };
            instructions.push(Instruction {
                op: lower(model, stage, graph, sparse, &mut operators)?,
                inputs: stage.inputs.iter().map(source).collect(),
                width: stage.width,
                bias: stage.bias.clone(),
                activation: stage.activation,
                output: stage.scale.map(|scale| (buffer_of[k + 1], scale)),
            });
        }
        let by_node = instructions.iter().any(|instruction| matches!(instruction.op, Op::FromInput { .. }));
        let mut program = Self {
            isa: Isa::best(),
            rows: graph.num_nodes(),
            in_channels: model.in_channels,
            most: model.activation_bits.most(),
            instructions,
            buffer_widths,
            input_scales: model.input_scales.clone(),
            by_node,
            buffers: Buffers::default(),
            cost: Cost { macs: 0, peak_activations: 0 },
        };
        program.cost = Cost { macs: macs(model, graph, &x), peak_activations: program.bytes() };
        Ok(program)
    }

    /// The same program on the kernels of one level of instructions.
    #[doc(hidden)]
    #[must_use]
    pub fn on(mut self, isa: Isa) -> Self {
        self.isa = isa;
        self
    }

    /// MACs and buffer bytes of one run; an 8-bit number is one byte.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Planned buffers: integers between stages, scales and integers of the input, and the real output.
    fn bytes(&self) -> u64 {
        let between: usize = self.buffer_widths.iter().sum::<usize>() * self.rows;
        let by_node = if self.by_node { self.rows * size_of::<f32>() } else { 0 };
        let by_channel = if self.input_scales.is_some() { self.rows * self.in_channels } else { 0 };
        let output = self.instructions.last().map_or(0, |last| last.width) * self.rows * size_of::<f32>();
        (between + by_node + by_channel + output) as u64
    }

    /// Quantises `x` of shape `[n, in_channels]`, runs the program and returns the output `[n, out_channels]` as real numbers.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for an input of another shape, [`Error::NotFinite`] for one with an entry that is not finite.
    pub fn run(&mut self, x: ValueRef<f32>) -> Result<ArrayView2<'_, f32>> {
        let expected = (self.rows, self.in_channels);
        if x.shape() != expected {
            return Err(Error::ShapeMismatch { at: "input of the quantised program".into(), expected, found: x.shape() });
        }
        match x {
            ValueRef::Dense(x) if !x.is_standard_layout() => {
                let x = x.as_standard_layout();
                self.run_rows(ValueRef::Dense(x.view()))?;
            }
            // A view of some rows of a larger matrix counts its entries from elsewhere.
            ValueRef::Sparse(x) if x.indptr().raw_storage()[0] != 0 => {
                let x = x.to_owned();
                self.run_rows(ValueRef::Sparse(x.view()))?;
            }
            x => self.run_rows(x)?,
        }
        let width = self.instructions.last().expect("a model has at least one stage").width;
        Ok(ArrayView2::from_shape((self.rows, width), &self.buffers.output).expect("planned for its width"))
    }

    fn run_rows(&mut self, x: ValueRef<f32>) -> Result<()> {
        self.quantize_input(&x)?;
        let Self { instructions, buffers, buffer_widths, .. } = self;
        let on = Machine { isa: self.isa, most: self.most, rows: self.rows };
        if buffers.output.is_empty() {
            buffers.ints = buffer_widths.iter().map(|width| Buffer::zeros(width * on.rows)).collect();
            buffers.output = Buffer::zeros(instructions.last().map_or(0, |last| last.width) * on.rows);
            buffers.input_scales = vec![0.0; if self.by_node { on.rows } else { 0 }];
        }
        let mut input_scales = std::mem::take(&mut buffers.input_scales);
        for instruction in instructions.iter() {
            match instruction.output {
                Some((buffer, scale)) => {
                    let mut data = std::mem::take(&mut buffers.ints[buffer]);
                    let out = Out::Int { data: &mut data[..on.rows * instruction.width], scale, most: on.most };
                    instruction.run(&on, &x, buffers, &mut input_scales, out);
                    buffers.ints[buffer] = data;
                }
                None => {
                    let mut data = std::mem::take(&mut buffers.output);
                    instruction.run(&on, &x, buffers, &mut input_scales, Out::Real(&mut data));
                    buffers.output = data;
                }
            }
        }
        buffers.input_scales = input_scales;
        match buffers.input_scales.iter().position(|scale| !scale.is_finite()) {
            Some(i) => Err(not_finite(i, buffers.input_scales[i])),
            None => Ok(()),
        }
    }

    /// The input with a scale a channel, for what is not a product.
    fn quantize_input(&mut self, x: &ValueRef<f32>) -> Result<()> {
        let (rows, most, buffers) = (self.rows, self.most, &mut self.buffers);
        let Some(scales) = &self.input_scales else { return Ok(()) };
        if buffers.input_by_channel.is_empty() {
            buffers.input_by_channel = Buffer::zeros(rows * self.in_channels);
        }
        x.with_dense(|x| {
            for (i, (x, q)) in x.outer_iter().zip(buffers.input_by_channel.chunks_exact_mut(scales.len())).enumerate() {
                if let Some(&value) = x.iter().find(|v| !v.is_finite()) {
                    return Err(not_finite(i, value));
                }
                for ((q, &x), &scale) in q.iter_mut().zip(x).zip(scales) {
                    kernels::quantize_with(&[x], scale, most, std::slice::from_mut(q));
                }
            }
            Ok(())
        })
    }
}

fn not_finite(node: usize, value: f32) -> Error {
    Error::NotFinite { at: format!("features of node {node}"), value: value.into() }
}

/// Buffers of all stages but the last, which must not lose its inputs.
fn plan_with_last(planned: &[(&[StageId], StageId, usize)], last: &[StageId], values: usize) -> (Vec<usize>, Vec<usize>) {
    let mut steps = planned.to_vec();
    steps.push((last, StageId(values - 1), 0));
    assign_buffers(&steps, values)
}

/// The integers and scales of one stage on this graph.
fn lower(
    model: &QuantModel,
    stage: &QuantStage,
    graph: &Graph,
    sparse: bool,
    operators: &mut BTreeMap<Norm, Arc<QuantOperator>>,
) -> Result<Op> {
    // Only joins and aggregation ask for the scales of the columns of the input.
    let columns = |k: usize, coefficient: f32| -> Vec<f32> {
        let scaled = |scale: f32| coefficient * scale;
        match (k, &model.input_scales) {
            (0, Some(scales)) => scales.iter().map(|&scale| scaled(scale)).collect(),
            _ => vec![scaled(model.stages[k - 1].scale.expect("only the last stage is real")); model.width_of(k)],
        }
    };
    Ok(match &stage.op {
        QuantOp::Linear(weight) => {
            let (inputs, outputs) = weight.shape;
            match stage.inputs[0] {
                0 => {
                    let laid_out = Arc::new(InputWeight::new(&weight.ints, inputs, outputs));
                    Op::FromInput { weight: laid_out, cols: weight.scales.clone() }
                }
                k => {
                    let scale = model.stages[k - 1].scale.expect("only the last stage is real");
                    let packed = Arc::new(PackedInt8::new(&weight.ints, inputs, outputs));
                    Op::Linear { packed, cols: weight.scales.iter().map(|s| scale * s).collect() }
                }
            }
        }
        QuantOp::Aggregate(norm) => {
            if sparse && stage.inputs[0] == 0 {
                let reason = "it aggregates the input before a product, which needs dense features".to_string();
                return Err(Unsupported { layer: stage.layer.clone(), reason }.into());
            }
            let operator = operators.entry(*norm).or_insert_with(|| Arc::new(QuantOperator::new(graph.operator(*norm)))).clone();
            if operator.reach > i32::MAX as u64 {
                return Err(overflow(&stage.layer, "aggregation over the neighbours of one node", operator.reach).into());
            }
            Op::Aggregate { operator, cols: columns(stage.inputs[0], 1.0) }
        }
        QuantOp::Add(coefficients) => Op::Add(stage.inputs.iter().zip(coefficients).map(|(&k, &a)| columns(k, a)).collect()),
        QuantOp::Concat => Op::Concat(stage.inputs.iter().map(|&k| columns(k, 1.0)).collect()),
    })
}

/// What all instructions of a program share.
struct Machine {
    isa: Isa,
    most: i8,
    rows: usize,
}

impl Instruction {
    fn run(&self, on: &Machine, x: &ValueRef<f32>, buffers: &Buffers, input_scales: &mut [f32], mut out: Out) {
        let Machine { isa, most, rows } = *on;
        let map = |values: &mut [f32]| self.activation.iter().for_each(|activation| activation.apply(values));
        let activate = match self.activation {
            None => Activate::Identity,
            Some(ActivationFn::Relu) => Activate::Relu,
            Some(_) => Activate::Map(&map),
        };
        let bias = self.bias.as_deref();
        let view = |source: &Source| match *source {
            Source::Input => &buffers.input_by_channel[..],
            Source::Buffer(buffer, width) => &buffers.ints[buffer][..rows * width],
        };
        match &self.op {
            Op::FromInput { weight, cols } => {
                let finish = Finish { rows: None, cols, bias, activate };
                kernels::input_int8(isa, *x, weight, most, finish, input_scales, out);
            }
            Op::Linear { packed, cols } => {
                kernels::matmul_int8_with(isa, view(&self.inputs[0]), packed, Finish { rows: None, cols, bias, activate }, out);
            }
            Op::Aggregate { operator, cols } => {
                let (starts, indices, _) = operator.operator.forward().into_raw_storage();
                let a = SparseInt8 { starts, cols: indices, vals: &operator.ints };
                let finish = Finish { rows: Some(&operator.scales), cols, bias, activate };
                kernels::spmm_int8_with(isa, a, view(&self.inputs[0]), self.width, finish, out);
            }
            Op::Add(cols) => {
                let terms: Vec<Term> = self.inputs.iter().zip(cols).map(|(input, cols)| Term { data: view(input), cols }).collect();
                kernels::join_int8(&terms, bias, activate, out, self.width, 0);
            }
            Op::Concat(cols) => {
                let mut place = 0;
                for (input, cols) in self.inputs.iter().zip(cols) {
                    let bias = bias.map(|bias| &bias[place..place + cols.len()]);
                    kernels::join_int8(&[Term { data: view(input), cols }], bias, activate, out.reborrow(), self.width, place);
                    place += cols.len();
                }
            }
        }
    }
}

fn macs(model: &QuantModel, graph: &Graph, x: &ValueRef<f32>) -> u64 {
    let rows = graph.num_nodes();
    let of = |stage: &QuantStage| match &stage.op {
        QuantOp::Linear(weight) if stage.inputs[0] == 0 => x.stored() * weight.shape.1,
        QuantOp::Linear(weight) => rows * weight.ints.len(),
        QuantOp::Aggregate(norm) => graph.operator(*norm).stored() * stage.width,
        QuantOp::Add(_) | QuantOp::Concat => 0,
    };
    model.stages.iter().map(|stage| of(stage) as u64).sum()
}
