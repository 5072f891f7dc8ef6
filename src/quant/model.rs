//! A model of integers: quantised stages, no graph.

use super::bits::Bits;
use super::calibration::Calibration;
use super::tables::{CodeTable, QuantDecoder, QuantTable, StoredTable};
use crate::error::Unsupported;
use crate::files::budget::reserved;
use crate::graph::AdjacencyNorm;
use crate::nn::{ActivationFn, Origin, Pooling, RowSpace};
use crate::value::ValueRef;

/// An integer weight matrix: `w_kc = scale_c · int_kc`.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantWeight {
    pub(crate) shape: (usize, usize),
    pub(crate) bits: Bits,
    pub(crate) ints: Vec<i8>,
    pub(crate) scales: Vec<f32>,
}

impl QuantWeight {
    /// Rows and columns, `[in, out]`.
    pub fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Width of the integers.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// The integers, row by row, in ±[`Bits::most`].
    pub fn ints(&self) -> &[i8] {
        &self.ints
    }

    /// The scale of each output column.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The most that the accumulator of any column can reach with a left operand in ±`most`.
    pub(super) fn reach(&self, most: i8) -> u64 {
        let mut sums = vec![0u64; self.shape.1];
        for row in self.ints.chunks_exact(self.shape.1.max(1)) {
            sums.iter_mut().zip(row).for_each(|(sum, q)| *sum += u64::from(q.unsigned_abs()));
        }
        sums.into_iter().max().unwrap_or(0) * most as u64
    }
}

/// What a stage of a [`QuantModel`] computes on integers.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum QuantOp {
    /// `X·W`.
    Linear(QuantWeight),
    /// `Â·X`, with `Â` quantised for the graph at hand, one scale per target.
    Aggregate(AdjacencyNorm),
    /// Sums or means over the nodes of each graph of a batch, as `Aggregate` with one scale per
    /// graph. A maximum has no integer form.
    Pool(Pooling),
    /// `Σ_k a_k·X_k`.
    Add(Vec<f32>),
    /// The channels of all inputs side by side.
    Concat,
    /// `y_i = e_i`: rows of a table, those of all nodes or of a batch's.
    Embedding(StoredTable),
    /// Rows over their lengths.
    Normalize,
    /// The scores of the pairs that a batch asks about.
    Decoder(QuantDecoder),
}

impl QuantOp {
    pub(super) fn name(&self) -> &'static str {
        match self {
            QuantOp::Linear(_) => "linear",
            QuantOp::Aggregate(_) => "aggregate",
            QuantOp::Pool(_) => "pool",
            QuantOp::Add(_) => "add",
            QuantOp::Concat => "concat",
            QuantOp::Embedding(_) => "embedding",
            QuantOp::Normalize => "normalize",
            QuantOp::Decoder(_) => "decoder",
        }
    }

    /// The sparse matrix that it multiplies by, which the batch at hand gives.
    pub(super) fn left(&self) -> Option<Left> {
        match *self {
            QuantOp::Aggregate(norm) => Some(Left::Norm(norm)),
            QuantOp::Pool(pooling) => Some(Left::Members(pooling)),
            _ => None,
        }
    }

    /// What the rows of its value are, by those of what it reads; nothing where it cannot read
    /// them.
    fn space(&self, inputs: &[RowSpace]) -> Option<RowSpace> {
        let nodes = inputs.iter().all(|space| *space == RowSpace::Nodes);
        match self {
            QuantOp::Aggregate(_) | QuantOp::Embedding(_) => nodes.then_some(RowSpace::Nodes),
            QuantOp::Pool(_) => nodes.then_some(RowSpace::Graphs),
            QuantOp::Decoder(_) => nodes.then_some(RowSpace::Pairs),
            _ => RowSpace::joined(inputs),
        }
    }

    /// Whether it is of rows and not of integers between layers: a model that has such a stage has
    /// no calibrated activations.
    pub(crate) fn is_of_rows(&self) -> bool {
        matches!(self, QuantOp::Embedding(_) | QuantOp::Normalize | QuantOp::Decoder(_))
    }

    /// The table of integers that it has: of nodes, or of a decoder's relations.
    pub fn table(&self) -> Option<&QuantTable> {
        match self {
            QuantOp::Embedding(table) => table.ints(),
            QuantOp::Decoder(decoder) => decoder.relations(),
            _ => None,
        }
    }

    fn table_params(&self) -> usize {
        match self {
            QuantOp::Embedding(table) => table.num_params(),
            op => op.table().map_or(0, |table| table.shape().0 * table.shape().1),
        }
    }

    fn table_nonzero(&self) -> usize {
        match self {
            QuantOp::Embedding(table) => table.num_nonzero(),
            op => op.table().map_or(0, QuantTable::num_nonzero),
        }
    }

    /// The codes that its rows are, where they are.
    pub fn codes(&self) -> Option<&CodeTable> {
        match self {
            QuantOp::Embedding(table) => table.codes(),
            _ => None,
        }
    }
}

/// A sparse left operand that no model stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Left {
    /// An operator of the graph.
    Norm(AdjacencyNorm),
    /// Which nodes are of each graph of a batch.
    Members(Pooling),
}

/// One stage: an operation on integers, its bias and activation, and what its output is stored as.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantStage {
    pub(crate) layer: String,
    pub(crate) op: QuantOp,
    pub(crate) inputs: Vec<usize>,
    pub(crate) width: usize,
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) activation: Option<ActivationFn>,
    pub(crate) scale: Option<f32>,
    pub(crate) calibration: Option<Calibration>,
}

impl QuantStage {
    /// Name of the float model's layer that it comes from.
    pub fn layer(&self) -> &str {
        &self.layer
    }

    /// What it computes.
    pub fn op(&self) -> &QuantOp {
        &self.op
    }

    /// What it reads: 0 is the model's input, `k` the output of stage `k − 1`.
    pub fn inputs(&self) -> &[usize] {
        &self.inputs
    }

    /// Channels that it puts out.
    pub fn width(&self) -> usize {
        self.width
    }

    /// What is added to each channel.
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// What is applied after the bias.
    pub fn activation(&self) -> Option<ActivationFn> {
        self.activation
    }

    /// The scale of its integer output; `None` where it puts out real numbers.
    pub fn scale(&self) -> Option<f32> {
        self.scale
    }

    /// How that scale was found; `None` where it puts out real numbers, and in files that do not
    /// tell.
    pub fn calibration(&self) -> Option<Calibration> {
        self.calibration
    }
}

/// A quantised model: made by [`Quantizer`](super::Quantizer), runs on integer kernels, cannot
/// train, and holds no graph.
///
/// *Shapes*: input `[n, in_channels]`, output `[n, out_channels]`, with a row per graph of the
/// batch where the model pools, or per pair where it scores them.
///
/// ```
/// use gnn_prune::{Bits, Dataset, Gcn, Quantizer};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let small = Quantizer::builder(Bits::Eight).build()?.quantize(&model, &data)?;
/// let mut program = small.compile(data.graph(), data.features())?;
/// let logits = program.run(data.features())?;
/// assert_eq!(logits.dim(), (data.num_nodes(), data.num_classes()));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct QuantModel {
    pub(crate) in_channels: usize,
    pub(crate) activation_bits: Bits,
    /// One scale per channel, where something other than a product reads the input.
    pub(crate) input_scales: Option<Vec<f32>>,
    pub(crate) input_calibration: Option<Calibration>,
    pub(crate) stages: Vec<QuantStage>,
    pub(crate) seed: u64,
    pub(crate) origin: Option<Origin>,
}

impl QuantModel {
    /// Features per node that the model reads.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Channels that the model puts out.
    pub fn out_channels(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.width)
    }

    /// The stages, in the order in which they run; the last one gives the output.
    pub fn stages(&self) -> &[QuantStage] {
        &self.stages
    }

    /// Width of activations.
    pub fn activation_bits(&self) -> Bits {
        self.activation_bits
    }

    /// Scale of each channel of the input, where something other than a product reads it; products
    /// have one per node.
    pub fn input_scales(&self) -> Option<&[f32]> {
        self.input_scales.as_deref()
    }

    /// How the scales of the input's channels were found; `None` where there are none, and in files
    /// that do not tell.
    pub fn input_calibration(&self) -> Option<Calibration> {
        self.input_calibration
    }

    /// The seed of the float model.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What the float model was trained on.
    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// Number of weights, entries of tables and biases, zeros included, and of codes and entries of
    /// their words; scales do not count.
    pub fn num_params(&self) -> usize {
        self.count(|weight| weight.ints.len(), QuantOp::table_params, <[f32]>::len)
    }

    /// Number of weights, entries of tables and biases that are not zero.
    pub fn num_nonzero_params(&self) -> usize {
        let nonzero = |bias: &[f32]| bias.iter().filter(|b| **b != 0.0).count();
        let of_weight = |weight: &QuantWeight| weight.ints.iter().filter(|q| **q != 0).count();
        self.count(of_weight, QuantOp::table_nonzero, nonzero)
    }

    fn count(
        &self,
        weights: impl Fn(&QuantWeight) -> usize,
        tables: impl Fn(&QuantOp) -> usize,
        biases: impl Fn(&[f32]) -> usize,
    ) -> usize {
        let of = |stage: &QuantStage| {
            let weights = match &stage.op {
                QuantOp::Linear(weight) => weights(weight),
                op => tables(op),
            };
            weights + stage.bias.as_deref().map_or(0, &biases)
        };
        self.stages.iter().map(of).sum()
    }

    pub(super) fn aggregates_input(&self) -> bool {
        self.stages.iter().any(|stage| stage.op.left().is_some() && stage.inputs[0] == 0)
    }

    /// What the rows of the input and of each stage's value are; of a stage that cannot read its
    /// inputs they are none.
    pub(super) fn spaces(&self) -> Vec<Option<RowSpace>> {
        let mut spaces = vec![Some(RowSpace::Nodes)];
        for stage in &self.stages {
            let read = stage.inputs.iter().map(|&k| spaces.get(k).copied().flatten());
            let read: Option<Vec<RowSpace>> = read.collect();
            spaces.push(read.and_then(|read| stage.op.space(&read)));
        }
        spaces
    }

    /// Whether it has stages on rows, and so no calibrated activations.
    pub(crate) fn is_of_rows(&self) -> bool {
        self.stages.iter().any(|stage| stage.op.is_of_rows())
    }

    /// The width of value `k`: 0 is the input.
    pub(crate) fn width_of(&self, k: usize) -> usize {
        if k == 0 { self.in_channels } else { self.stages[k - 1].width }
    }
}

/// Lets `f` see a dense matrix of this shape, of which lowering and planning read no more: one
/// number stands for all.
pub(super) fn with_dense_shape<T>(shape: (usize, usize), f: impl FnOnce(ValueRef<f32>) -> T) -> T {
    let zero = ndarray::arr0(0.0f32);
    f(ValueRef::Dense(zero.broadcast(shape).expect("one number takes any shape")))
}

/// Refuses features that do not fit into memory once they are dense.
pub(super) fn room_for_dense(
    layer: &str,
    (rows, columns): (usize, usize),
) -> Result<(), Unsupported> {
    let room = reserved::<f32>(rows.saturating_mul(columns)).map(drop);
    let reason = |problem| {
        format!(
            "integers aggregate {rows} x {columns} sparse features as dense ones, which {problem}"
        )
    };
    room.map_err(|problem| Unsupported { layer: layer.into(), reason: reason(problem) })
}

/// The error of a stage whose accumulators could pass `i32::MAX`.
pub(super) fn overflow(layer: &str, what: &str, reach: u64) -> Unsupported {
    let reason = format!(
        "{what} could reach {reach} in a 32-bit accumulator, which holds {}; use fewer bits for activations or a narrower sum",
        i32::MAX
    );
    Unsupported { layer: layer.into(), reason }
}

impl std::fmt::Display for QuantModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (inputs, outputs) = (self.in_channels, self.out_channels());
        writeln!(
            f,
            "quantised model: {inputs} -> {outputs} channels, {} parameters, {}-bit activations",
            self.num_params(),
            self.activation_bits
        )?;
        if let Some(calibration) = self.input_calibration {
            writeln!(f, "  input     one scale a channel by {calibration}")?;
        }
        let spaces = self.spaces();
        for (k, stage) in self.stages.iter().enumerate() {
            let rows = if spaces[k + 1] == Some(RowSpace::Graphs) { "graphs" } else { "n" };
            let name = |&input: &usize| match input {
                0 => "input".to_string(),
                k => format!("stage {}", k - 1),
            };
            let inputs: Vec<String> = stage.inputs.iter().map(name).collect();
            write!(
                f,
                "  stage {k:<3} {:<12} {:<10} [{rows}, {}] from {}",
                stage.layer,
                stage.op.name(),
                stage.width,
                inputs.join(", ")
            )?;
            match (&stage.op, stage.op.table()) {
                (QuantOp::Linear(weight), _) => write!(f, " weights={}-bit", weight.bits)?,
                (QuantOp::Embedding(table), _) => write!(f, " weights={table}")?,
                (_, Some(table)) => write!(f, " weights={}-bit", table.bits())?,
                _ => {}
            }
            if let Some(activation) = stage.activation {
                write!(f, " activation={activation:?}")?;
            }
            match stage.scale {
                Some(scale) => write!(f, " scale={scale:e}")?,
                None => write!(f, " real numbers")?,
            }
            match stage.calibration {
                Some(calibration) => writeln!(f, " by {calibration}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}
