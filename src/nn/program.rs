//! The compiled form of a model for inference: stages fused, buffers planned once and kept.

use super::dense::ActivationFn;
use super::layer::{Cx, DynLayer};
use super::pool::Pool;
use super::stage::{Lowering, Stage, StageId};
use crate::error::{Error, Result};
use crate::graph::{Graph, Norm, Operator};
use crate::kernels::buffer::{self, Buffer};
use crate::kernels::{self, Epilogue, PackedWeight};
use crate::scalar::Scalar;
use crate::value::{Csr, CsrView, ValueRef};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a compiled program costs on its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Multiply-accumulates of one run: stored non-zeros × width for a sparse operand, feature or
    /// weight, `n·in·out` for a dense product.
    pub macs: u64,
    /// Bytes of all planned buffers.
    pub peak_activations: u64,
}

/// How a compiled program multiplies its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Products {
    /// Products with all of a weight, zeros included.
    pub dense: usize,
    /// Products with the stored part of a weight alone.
    pub sparse: usize,
}

/// What one pass over the nodes took in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageTime {
    /// The operation and the channels that it puts out.
    pub what: String,
    /// Time of the pass.
    pub took: Duration,
}

/// Where an instruction reads: the model's input or a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Input,
    Buffer { buffer: usize, width: usize },
}

#[derive(Debug, Clone)]
pub(crate) enum Op<F: Scalar> {
    Linear(Arc<Array2<F>>),
    /// As `Linear`, with the weight laid out for the kernel.
    PackedLinear(Arc<PackedWeight<F>>),
    /// `Wᵀ` by rows, where a dense `X` meets a weight that is sparse enough.
    SparseLinear(Arc<Csr<F>>),
    Aggregate(Arc<Operator<F>>, Norm),
    Add(Vec<F>),
    Concat,
    Scale(Arc<Vec<F>>),
    Whole(Arc<dyn DynLayer<F>>),
    /// A sum of products, one per input, each added to what the one before left: linear maps of
    /// dense values and aggregations.
    Sum(Vec<Op<F>>),
}

/// One pass over the nodes: an operation, then bias and activation on its result while it is at
/// hand.
#[derive(Debug, Clone)]
struct Instruction<F: Scalar> {
    op: Op<F>,
    inputs: Vec<Source>,
    output: usize,
    width: usize,
    bias: Option<Arc<Vec<F>>>,
    activation: Option<ActivationFn>,
}

/// A model compiled for one graph. Products and aggregations allocate nothing after the first run,
/// inside a thread pool at least; joins list their terms, and layers that have no compiled form
/// take arrays from a pool.
///
/// ```
/// use gnn_prune::{Dataset, Gcn};
/// let data = Dataset::digits()?;
/// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
/// let mut program = model.compile(data.graph(), data.features())?;
/// let logits = program.run(data.features())?;
/// assert_eq!(logits.dim(), (data.num_nodes(), data.num_classes()));
/// # Ok::<(), gnn_prune::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Program<F: Scalar = f32> {
    graph: Option<Graph<F>>,
    rows: usize,
    in_channels: usize,
    instructions: Vec<Instruction<F>>,
    buffer_widths: Vec<usize>,
    buffers: Vec<Buffer<F>>,
    /// What whole layers take their arrays from.
    pool: Arc<Pool<F>>,
    order: Option<Ordered<F>>,
    cost: Cost,
}

/// A program that works on nodes in an order of its own: which node stands at each place, and where
/// each node does.
#[derive(Debug, Clone)]
struct Ordered<F: Scalar> {
    order: Vec<u32>,
    places: Vec<u32>,
    /// In the program's order.
    input: Option<Array2<F>>,
    /// In the caller's order.
    output: Array2<F>,
}

impl<F: Scalar> Program<F> {
    pub(crate) fn compile(lowering: Lowering<F>) -> Result<Self> {
        let fused = merged(&lowering, fuse(&lowering));
        Self::planned(lowering, fused)
    }

    /// A program of one instruction per stage of [`fuse`], whose values [`Program::run_watched`]
    /// shows.
    pub(crate) fn compile_stagewise(lowering: Lowering<F>) -> Result<Self> {
        let fused = fuse(&lowering);
        Self::planned(lowering, fused)
    }

    fn planned(lowering: Lowering<F>, fused: Vec<Fused<F>>) -> Result<Self> {
        let (instructions, buffer_widths) = plan(&lowering, fused);
        let rows = lowering.rows();
        let elements = buffer_widths.iter().sum::<usize>() * rows;
        let cost = Cost { macs: macs(&lowering), peak_activations: (elements * F::BYTES) as u64 };
        let in_channels = lowering.width(lowering.input());
        let graph = lowering.graph().ok().cloned();
        Ok(Self {
            graph,
            rows,
            in_channels,
            instructions,
            buffer_widths,
            buffers: Vec::new(),
            pool: Arc::default(),
            order: None,
            cost,
        })
    }

    /// MACs and buffer bytes of one run.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// How many products there are with weights, and in which form; what whole layers do inside is
    /// not counted.
    pub fn products(&self) -> Products {
        fn count<F: Scalar>(op: &Op<F>, products: &mut Products) {
            match op {
                Op::Linear(_) | Op::PackedLinear(_) => products.dense += 1,
                Op::SparseLinear(_) => products.sparse += 1,
                Op::Sum(ops) => ops.iter().for_each(|op| count(op, products)),
                _ => {}
            }
        }
        let mut products = Products::default();
        self.instructions.iter().for_each(|instruction| count(&instruction.op, &mut products));
        products
    }

    /// The same program on a graph whose nodes stand in this order; input and output stay in the
    /// caller's.
    pub(crate) fn in_order(mut self, order: Vec<u32>) -> Self {
        let mut places = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, &node)| places[node as usize] = place as u32);
        self.order = Some(Ordered { order, places, input: None, output: Array2::zeros((0, 0)) });
        self
    }

    /// Runs the program on `x` of shape `[n, in_channels]` and returns the output
    /// `[n, out_channels]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for an input of another shape.
    pub fn run(&mut self, x: ValueRef<F>) -> Result<ArrayView2<'_, F>> {
        let Some(mut ordered) = self.order.take() else {
            return self.run_watched(x, &mut |_, _| ());
        };
        let done = self.run_ordered(x, &mut ordered);
        self.order = Some(ordered);
        done?;
        Ok(self.order.as_ref().expect("it was just put back").output.view())
    }

    fn run_ordered(&mut self, x: ValueRef<F>, ordered: &mut Ordered<F>) -> Result<()> {
        let Ordered { order, places, input, output } = ordered;
        let expected = (self.rows, self.in_channels);
        if x.shape() != expected {
            return Err(Error::ShapeMismatch {
                at: "input of the program".into(),
                expected,
                found: x.shape(),
            });
        }
        let moved;
        let x = match x {
            ValueRef::Sparse(x) => {
                moved = rows_in_order(&x, order);
                ValueRef::Sparse(moved.view())
            }
            ValueRef::Dense(x) => {
                let input = input.get_or_insert_with(|| buffer::zeros(expected));
                let x = x.as_standard_layout();
                kernels::map_rows(input.view_mut(), |i, row| {
                    row.copy_from_slice(row_of(&x.view(), order[i] as usize))
                });
                ValueRef::Dense(input.view())
            }
        };
        let logits = self.run_watched(x, &mut |_, _| ())?;
        if output.dim() != logits.dim() {
            *output = buffer::zeros(logits.dim());
        }
        kernels::map_rows(output.view_mut(), |node, row| {
            row.copy_from_slice(row_of(&logits, places[node] as usize))
        });
        Ok(())
    }

    /// Runs the program once, in its own order of the nodes, and says what each pass over them
    /// took.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn profile(&mut self, x: ValueRef<F>) -> Result<Vec<StageTime>> {
        let mut ends = vec![Instant::now()];
        self.run_watched(x, &mut |_, _| ends.push(Instant::now()))?;
        let took = ends.windows(2).map(|ends| ends[1] - ends[0]);
        let what = self
            .instructions
            .iter()
            .map(|instruction| format!("{} -> {}", instruction.op.name(), instruction.width));
        Ok(what.zip(took).map(|(what, took)| StageTime { what, took }).collect())
    }

    /// As [`Program::run`], and shows the value of every instruction, in the order of [`fuse`].
    pub(crate) fn run_watched(
        &mut self,
        x: ValueRef<F>,
        watch: &mut dyn FnMut(usize, ArrayView2<F>),
    ) -> Result<ArrayView2<'_, F>> {
        let expected = (self.rows, self.in_channels);
        if x.shape() != expected {
            return Err(Error::ShapeMismatch {
                at: "input of the program".into(),
                expected,
                found: x.shape(),
            });
        }
        if self.buffers.is_empty() {
            self.buffers =
                self.buffer_widths.iter().map(|width| Buffer::zeros(width * self.rows)).collect();
        }
        let cx = Cx::on_pool(self.graph.as_ref(), self.pool.clone());
        for (k, instruction) in self.instructions.iter().enumerate() {
            let mut out = std::mem::take(&mut self.buffers[instruction.output]);
            let done = instruction.run(&cx, x, &self.buffers, self.rows, &mut out);
            watch(k, instruction.value(self.rows, &mut out).view());
            self.buffers[instruction.output] = out;
            done?;
        }
        let last = self.instructions.last().expect("a model has at least one layer");
        let shape = (self.rows, last.width);
        Ok(ArrayView2::from_shape(shape, &self.buffers[last.output][..shape.0 * shape.1])
            .expect("planned for its width"))
    }
}

/// Row `i` of a matrix in standard layout.
fn row_of<'x, F>(x: &'x ArrayView2<F>, i: usize) -> &'x [F] {
    &x.as_slice().expect("in standard layout")[i * x.ncols()..][..x.ncols()]
}

/// The matrix whose row `i` is row `order[i]` of `x`.
fn rows_in_order<F: Scalar>(x: &CsrView<F>, order: &[u32]) -> Csr<F> {
    let (starts, indices, data) = x.into_raw_storage();
    let rows = order
        .iter()
        .map(|&node| starts[node as usize] - starts[0]..starts[node as usize + 1] - starts[0]);
    let mut moved = (vec![0], Vec::with_capacity(x.nnz()), Vec::with_capacity(x.nnz()));
    for row in rows {
        moved.1.extend_from_slice(&indices[row.clone()]);
        moved.2.extend_from_slice(&data[row]);
        moved.0.push(moved.1.len());
    }
    Csr::new(x.shape(), moved.0, moved.1, moved.2)
}

impl<F: Scalar> Instruction<F> {
    /// Its value, in the buffer that it writes.
    fn value<'b>(&self, rows: usize, out: &'b mut [F]) -> ArrayViewMut2<'b, F> {
        ArrayViewMut2::from_shape((rows, self.width), &mut out[..rows * self.width])
            .expect("buffers are planned for their widths")
    }

    fn run(
        &self,
        cx: &Cx<F>,
        x: ValueRef<F>,
        buffers: &[Buffer<F>],
        rows: usize,
        out: &mut Buffer<F>,
    ) -> Result<()> {
        let view = |source: &Source| match *source {
            Source::Input => x.reborrow(),
            Source::Buffer { buffer, width } => {
                let data = &buffers[buffer][..rows * width];
                ValueRef::Dense(
                    ArrayView2::from_shape((rows, width), data).expect("planned for its width"),
                )
            }
        };
        let bias = self.bias.as_ref().map(|bias| &bias[..]);
        let relu = self.activation == Some(ActivationFn::Relu);
        if let Op::Whole(layer) = &self.op {
            let xs: Vec<_> = self.inputs.iter().map(view).collect();
            replace(cx, layer.infer(cx, &xs)?.into_dense(), out);
        }
        let mut y = self.value(rows, out);
        // A product adds its bias and applies ReLU on the way out; what is left to do here is the
        // rest.
        let (bias, activation) = match &self.op {
            Op::Sum(ops) => {
                for (k, (op, input)) in ops.iter().zip(&self.inputs).enumerate() {
                    let last = k + 1 == ops.len();
                    let (bias, relu) = if last { (bias, relu) } else { (None, false) };
                    op.multiply(view(input), y.view_mut(), Epilogue { bias, relu, add: k > 0 });
                }
                (None, self.activation.filter(|_| !relu))
            }
            Op::Whole(_) => (bias, self.activation),
            op => {
                match op.run(&self.inputs, view, y.view_mut(), Epilogue { bias, relu, add: false })
                {
                    true => (None, self.activation.filter(|_| !relu)),
                    false => (bias, self.activation),
                }
            }
        };
        if let Some(bias) = bias {
            kernels::add_bias(y.view_mut(), bias);
        }
        if let (Some(activation), Some(data)) = (activation, y.as_slice_mut()) {
            kernels::for_each_chunk(data, |_, chunk| activation.apply(chunk));
        }
        Ok(())
    }
}

impl<F: Scalar> Op<F> {
    pub(crate) fn name(&self) -> String {
        match self {
            Op::Linear(_) | Op::PackedLinear(_) => "linear".into(),
            Op::SparseLinear(_) => "sparse linear".into(),
            Op::Aggregate(..) => "aggregate".into(),
            Op::Add(_) => "add".into(),
            Op::Concat => "concat".into(),
            Op::Scale(_) => "scale".into(),
            Op::Whole(layer) => layer.kind().into(),
            Op::Sum(ops) => ops.iter().map(Op::name).collect::<Vec<_>>().join(" + "),
        }
    }

    /// The form in which a weight is multiplied fastest. A sparse `X` takes the plain one: it reads
    /// whole rows of `W` at once.
    pub(crate) fn linear(weight: &Array2<F>, sparse_input: bool) -> Self {
        if sparse_input {
            return Op::Linear(Arc::new(buffer::copied(weight.view())));
        }
        match sparse_form(weight) {
            Some(wt) => Op::SparseLinear(Arc::new(wt)),
            None => Op::PackedLinear(Arc::new(PackedWeight::new(weight.view()))),
        }
    }

    /// Whether it is a product that takes an epilogue.
    pub(crate) fn is_product(&self) -> bool {
        matches!(self, Op::Linear(_) | Op::PackedLinear(_) | Op::Aggregate(..))
    }

    /// A product, with what follows it done on the way out.
    pub(crate) fn multiply(&self, x: ValueRef<F>, y: ArrayViewMut2<F>, epilogue: Epilogue<F>) {
        match (self, x) {
            (Op::PackedLinear(weight), ValueRef::Dense(x)) => {
                kernels::matmul_packed(x, weight, y, epilogue)
            }
            (Op::PackedLinear(weight), ValueRef::Sparse(x)) => {
                kernels::spmm_then(x, weight.view(), y, epilogue)
            }
            (Op::Linear(weight), ValueRef::Dense(x)) => {
                kernels::matmul_then(x, weight.view(), y, epilogue)
            }
            (Op::Linear(weight), ValueRef::Sparse(x)) => {
                kernels::spmm_then(x, weight.view(), y, epilogue)
            }
            (Op::Aggregate(operator, _), x) => {
                x.with_dense(|x| kernels::spmm_then(operator.forward(), x, y, epilogue))
            }
            _ => unreachable!("only products multiply"),
        }
    }

    /// Any operation but whole layers and sums of products, on what `view` shows of its inputs;
    /// says whether it took the epilogue. A product allocates nothing.
    pub(crate) fn run<'x, S>(
        &self,
        inputs: &[S],
        view: impl Fn(&S) -> ValueRef<'x, F>,
        mut y: ArrayViewMut2<F>,
        epilogue: Epilogue<F>,
    ) -> bool {
        if self.is_product() {
            self.multiply(view(&inputs[0]), y, epilogue);
            return true;
        }
        let xs: Vec<ValueRef<F>> = inputs.iter().map(view).collect();
        match self {
            Op::Add(coefficients) => {
                kernels::weighted_sum(&xs, coefficients, y, epilogue);
                return true;
            }
            Op::SparseLinear(wt) => {
                xs[0].with_dense(|x| kernels::matmul_sparse(x, wt.view(), y.view_mut()))
            }
            Op::Concat => {
                let mut start = 0;
                for x in xs {
                    x.with_dense(|x| {
                        y.slice_mut(s![.., start..start + x.ncols()]).assign(&x);
                        start += x.ncols();
                    });
                }
            }
            Op::Scale(scale) => xs[0].with_dense(|x| {
                y.assign(&x);
                kernels::map_rows(y.view_mut(), |_, row| {
                    row.iter_mut().zip(&scale[..]).for_each(|(y, &s)| *y *= s)
                });
            }),
            _ => unreachable!("products are done, layers run by themselves, and sums term by term"),
        }
        false
    }
}

/// Makes `value` what the buffer begins with; where both have the same length, the memory changes
/// hands and nothing is copied.
fn replace<F: Scalar>(cx: &Cx<F>, value: Array2<F>, out: &mut Buffer<F>) {
    let (shape, len) = (value.dim(), value.len());
    if len != out.len() || !value.is_standard_layout() {
        let y = ArrayViewMut2::from_shape(shape, &mut out[..len])
            .expect("buffers are planned for their widths");
        kernels::copy_rows(value.view(), y);
        return cx.give(value);
    }
    let value = Buffer::of(value).expect("it is in standard layout");
    cx.give(std::mem::replace(out, value).into_array(shape));
}

/// An instruction before buffers are planned: which stages it reads, and the stage whose value it
/// makes.
#[derive(Clone)]
pub(crate) struct Fused<F: Scalar> {
    pub(crate) op: Op<F>,
    pub(crate) inputs: Vec<StageId>,
    pub(crate) bias: Option<Arc<Vec<F>>>,
    pub(crate) activation: Option<ActivationFn>,
    /// The stage of the operation itself, before what was joined to it.
    pub(crate) starts: StageId,
    pub(crate) makes: StageId,
}

/// Joins bias and activation to the operation that they follow, where nothing else reads the value
/// in between.
pub(crate) fn fuse<F: Scalar>(lowering: &Lowering<F>) -> Vec<Fused<F>> {
    let stages = lowering.stages();
    let mut readers = vec![0usize; stages.len()];
    stages.iter().flat_map(Stage::inputs).for_each(|id| readers[id.0] += 1);
    readers[lowering.output().0] += 1;
    let mut fused: Vec<Fused<F>> = Vec::new();
    let copy_of = |x: StageId| (Op::Add(vec![F::one()]), vec![x]);
    for (k, stage) in stages.iter().enumerate() {
        let makes = StageId(k);
        let (op, inputs, bias, activation) = match stage {
            Stage::Input => continue,
            Stage::Linear { x, weight, .. } => (Op::Linear(weight.clone()), vec![*x], None, None),
            Stage::Aggregate { x, operator, norm } => {
                (Op::Aggregate(operator.clone(), *norm), vec![*x], None, None)
            }
            Stage::Add { xs, coefficients } => {
                (Op::Add(coefficients.clone()), xs.clone(), None, None)
            }
            Stage::Concat { xs } => (Op::Concat, xs.clone(), None, None),
            Stage::Scale { x, scale } => (Op::Scale(scale.clone()), vec![*x], None, None),
            Stage::Whole { xs, layer, .. } => (Op::Whole(layer.clone()), xs.clone(), None, None),
            Stage::Bias { x, bias } => {
                match fused.iter_mut().find(|f| f.makes == *x && readers[x.0] == 1) {
                    Some(before) if before.bias.is_none() && before.activation.is_none() => {
                        (before.bias, before.makes) = (Some(bias.clone()), makes);
                        continue;
                    }
                    _ => {
                        let (op, inputs) = copy_of(*x);
                        (op, inputs, Some(bias.clone()), None)
                    }
                }
            }
            Stage::Activation { x, function } => {
                match fused.iter_mut().find(|f| f.makes == *x && readers[x.0] == 1) {
                    Some(before) if before.activation.is_none() => {
                        (before.activation, before.makes) = (Some(*function), makes);
                        continue;
                    }
                    _ => {
                        let (op, inputs) = copy_of(*x);
                        (op, inputs, None, Some(*function))
                    }
                }
            }
        };
        fused.push(Fused { op, inputs, bias, activation, starts: makes, makes });
    }
    fused
}

/// Turns a plain sum of products that nothing else reads into one instruction that adds them up in
/// place.
fn merged<F: Scalar>(lowering: &Lowering<F>, fused: Vec<Fused<F>>) -> Vec<Fused<F>> {
    let mut readers = vec![0usize; lowering.stages().len()];
    fused.iter().flat_map(|f| &f.inputs).for_each(|id| readers[id.0] += 1);
    readers[lowering.output().0] += 1;
    let mut done: Vec<Fused<F>> = Vec::new();
    for mut next in fused {
        let term = |id: &StageId| {
            let of = done.iter().position(|f| {
                f.makes == *id && readers[id.0] == 1 && f.bias.is_none() && f.activation.is_none()
            })?;
            let is_dense = !lowering.is_sparse(done[of].inputs[0]);
            let sparse_weight =
                matches!(&done[of].op, Op::Linear(weight) if pays(nonzeros(weight), weight.dim()));
            (done[of].op.is_product() && is_dense && !sparse_weight).then_some(of)
        };
        let plain = matches!(&next.op, Op::Add(coefficients) if coefficients.len() > 1 && coefficients.iter().all(|a| *a == F::one()));
        let terms: Option<Vec<usize>> =
            if plain { next.inputs.iter().map(term).collect() } else { None };
        if let Some(terms) = terms
            .filter(|terms| terms.iter().all(|t| terms.iter().filter(|u| *u == t).count() == 1))
        {
            let parts: Vec<Fused<F>> = terms.iter().map(|&t| done[t].clone()).collect();
            done.retain(|f| !parts.iter().any(|part| part.makes == f.makes));
            next.inputs = parts.iter().map(|part| part.inputs[0]).collect();
            next.op = Op::Sum(parts.into_iter().map(|part| part.op).collect());
        }
        done.push(next);
    }
    done
}

/// Picks the form of each product, and a buffer for each value.
fn plan<F: Scalar>(
    lowering: &Lowering<F>,
    fused: Vec<Fused<F>>,
) -> (Vec<Instruction<F>>, Vec<usize>) {
    let steps: Vec<(&[StageId], StageId, usize)> =
        fused.iter().map(|f| (&f.inputs[..], f.makes, lowering.width(f.makes))).collect();
    let (buffer_of, widths) = assign_buffers(&steps, lowering.stages().len());
    let source = |id: &StageId| match id.0 {
        0 => Source::Input,
        _ => Source::Buffer { buffer: buffer_of[id.0], width: lowering.width(*id) },
    };
    let fast = |op: Op<F>, x: StageId| match op {
        Op::Linear(weight) => Op::linear(&weight, lowering.is_sparse(x)),
        // None of its terms has a sparse operand.
        Op::Sum(ops) => Op::Sum(
            ops.into_iter()
                .map(|op| if let Op::Linear(weight) = op { Op::linear(&weight, false) } else { op })
                .collect(),
        ),
        op => op,
    };
    let instruction = |Fused { op, inputs, bias, activation, makes, .. }: Fused<F>| Instruction {
        op: fast(op, inputs[0]),
        inputs: inputs.iter().map(source).collect(),
        output: buffer_of[makes.0],
        width: lowering.width(makes),
        bias,
        activation,
    };
    (fused.into_iter().map(instruction).collect(), widths)
}

/// Gives every step a buffer that no later reader still needs: the free one that wastes least.
///
/// A step is what it reads, what it makes and how wide that is; 0 is the input, which has no
/// buffer. Returns the buffer of each of `values` values, and the width of each buffer.
fn assign_buffers(
    steps: &[(&[StageId], StageId, usize)],
    values: usize,
) -> (Vec<usize>, Vec<usize>) {
    let mut last_read = vec![0usize; values];
    for (k, (inputs, ..)) in steps.iter().enumerate() {
        inputs.iter().for_each(|id| last_read[id.0] = k);
    }
    let mut buffer_of = vec![usize::MAX; values];
    let mut widths: Vec<usize> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    for (k, &(inputs, makes, width)) in steps.iter().enumerate() {
        let fits = free.iter().copied().filter(|&b| widths[b] >= width).min_by_key(|&b| widths[b]);
        let output =
            fits.or_else(|| free.iter().copied().max_by_key(|&b| widths[b])).unwrap_or_else(|| {
                widths.push(0);
                widths.len() - 1
            });
        free.retain(|&b| b != output);
        widths[output] = widths[output].max(width);
        buffer_of[makes.0] = output;
        for id in inputs {
            if id.0 != 0 && last_read[id.0] == k && !free.contains(&buffer_of[id.0]) {
                free.push(buffer_of[id.0]);
            }
        }
    }
    (buffer_of, widths)
}

/// What a stored weight costs in a sparse product, in multiply-adds of the dense one ...
const STORED_COST: usize = 2;
/// ... and what a row of `X` costs per channel to be transposed and back. Both as measured, see
/// `docs/sparsity.md`.
const MOVE_COST: usize = 20;

/// Whether a weight with `stored` non-zeros is multiplied faster in sparse form:
/// `2·nnz + 20·(in + out) < in·out`.
fn pays(stored: usize, shape: (usize, usize)) -> bool {
    product_cost(stored, shape) < shape.0 * shape.1
}

/// What a row of a dense `X` costs, in multiply-adds of a dense product, in the faster form of the
/// weight.
pub(crate) fn product_cost(stored: usize, (inputs, outputs): (usize, usize)) -> usize {
    (STORED_COST * stored + MOVE_COST * (inputs + outputs)).min(inputs * outputs)
}

/// `Wᵀ` in CSR, where that is faster.
fn sparse_form<F: Scalar>(weight: &Array2<F>) -> Option<Csr<F>> {
    if !pays(nonzeros(weight), weight.dim()) {
        return None;
    }
    Some(kernels::stored_entries(weight.t()))
}

fn nonzeros<F: Scalar>(weight: &Array2<F>) -> usize {
    weight.iter().filter(|w| **w != F::zero()).count()
}

fn macs<F: Scalar>(lowering: &Lowering<F>) -> u64 {
    let of = |stage: &Stage<F>| match stage {
        Stage::Linear { x, weight, .. } if lowering.is_sparse(*x) => {
            lowering.input_stored() * weight.ncols()
        }
        Stage::Linear { weight, .. } => {
            let stored = nonzeros(weight);
            lowering.rows() * if pays(stored, weight.dim()) { stored } else { weight.len() }
        }
        Stage::Aggregate { x, operator, .. } => operator.stored() * lowering.width(*x),
        Stage::Whole { macs, .. } => *macs as usize,
        _ => 0,
    };
    lowering.stages().iter().map(|stage| of(stage) as u64).sum()
}

#[cfg(test)]
mod tests {
    use crate::data::PowerLaw;
    use crate::graph::NodeOrder;
    use crate::models::{Gat, Sage};
    use crate::value::{Csr, ValueRef};

    #[test]
    fn another_order_of_the_nodes_changes_no_more_than_roundings() {
        let data =
            PowerLaw::builder(300, 3000).features(8).classes(3).per_class(5, 5).build().unwrap();
        let dense = data.features();
        let sparse = Csr::csr_from_dense(data.features().to_dense().view(), 0.5);
        for model in
            [Sage::builder(8, 3).hidden(16).build(0).unwrap(), Gat::builder(8, 3).build(0).unwrap()]
        {
            for x in [dense, ValueRef::Sparse(sparse.view())] {
                let expected = model.compile(data.graph(), x).unwrap().run(x).unwrap().to_owned();
                for order in [NodeOrder::Degree, NodeOrder::Rcm, NodeOrder::Communities] {
                    let mut program = model.compile_ordered(data.graph(), x, order).unwrap();
                    for _ in 0..2 {
                        let found = program.run(x).unwrap();
                        // Neighbours are summed in another order.
                        assert!(
                            found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5),
                            "{order:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_sum_of_products_is_one_instruction_and_says_the_same_as_stage_by_stage() {
        let data =
            PowerLaw::builder(200, 2000).features(8).classes(3).per_class(5, 5).build().unwrap();
        let model = Sage::builder(8, 3).hidden(16).layers(3).build(0).unwrap();
        let lowered = || model.lower(Some(data.graph()), data.features()).unwrap();
        let (mut merged, mut stagewise) = (
            super::Program::compile(lowered()).unwrap(),
            super::Program::compile_stagewise(lowered()).unwrap(),
        );
        assert!(merged.instructions.len() < stagewise.instructions.len());
        let (a, b) =
            (merged.run(data.features()).unwrap(), stagewise.run(data.features()).unwrap());
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn products_are_counted_in_the_form_that_the_program_took() {
        let data =
            PowerLaw::builder(100, 500).features(100).classes(3).per_class(5, 5).build().unwrap();
        let mut model = crate::models::Mlp::builder(100, 3).hidden(100).build(0).unwrap();
        let of = |model: &crate::nn::Model| {
            let products = model.compile(data.graph(), data.features()).unwrap().products();
            (products.dense, products.sparse)
        };
        assert_eq!(of(&model), (2, 0));
        // 100 of 10,000 weights are left in the first, which pays; the second is too small for it.
        model.visit_mut(&mut |param| {
            param.value_mut().indexed_iter_mut().for_each(|((i, j), w)| *w *= f32::from(i == j))
        });
        assert_eq!(of(&model), (1, 1));
    }
}
