//! The compiled form of a quantised model: buffers planned once and kept.

use super::lower::{Lowerer, Op, rows_of_values};
use super::model::QuantModel;
use super::plan::{Instruction, Part, Plan, Reals, Source};
use super::tables;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::kernels::buffer::Buffer;
use crate::kernels::{self, Activate, ColumnScales, Epilogue, Finish, Isa, Out, SparseInt8, Term};
use crate::nn::{ActivationFn, Rows};
use crate::program::{self, Cost, Form, Ready, Runnable, StageForm, StageTime};
use crate::value::{Value, ValueRef};
use ndarray::{ArrayView2, ArrayViewMut2};
use std::time::Instant;

/// A quantised model compiled for one graph. Products and aggregations allocate nothing after the
/// first run, inside a thread pool at least; joins list their terms, and layers that have no
/// compiled form take arrays from a pool.
///
/// Each stage runs on integers, or on floats made of the stored integers where that is faster for
/// its shape: see [`Forms`](super::Forms), and [`QuantProgram::forms`] for what was chosen.
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
    /// Rows of the output: nodes, graphs, or pairs.
    out_rows: usize,
    in_channels: usize,
    most: i8,
    instructions: Vec<Instruction>,
    int_lens: Vec<usize>,
    real_lens: Vec<usize>,
    input_scales: Option<ColumnScales>,
    by_node: bool,
    /// Whether a sparse input is made dense before it is read.
    dense_input: bool,
    buffers: Buffers,
    forms: Vec<StageForm>,
    cost: Cost,
}

#[derive(Debug, Clone, Default)]
struct Buffers {
    ints: Vec<Buffer<i8>>,
    reals: Vec<Buffer<f32>>,
    /// Scale of the input at each node.
    input_scales: Vec<f32>,
    /// The stored entries of a fixed input with a scale per node.
    input_by_node: Buffer<i8>,
    /// The input with a scale per channel.
    input_by_channel: Buffer<i8>,
    output: Buffer<f32>,
}

impl QuantProgram {
    /// `x` is as the stages read it: see [`QuantModel::compile_as`].
    pub(super) fn compile(
        model: &QuantModel,
        graph: &Graph,
        x: ValueRef<f32>,
        within: &Rows<f32>,
        forms: Vec<Form>,
    ) -> Result<Self> {
        let (rows, sparse) = (x.rows(), matches!(x, ValueRef::Sparse(_)));
        let mut lowerer = Lowerer::new(model, graph, (rows, sparse), within)?;
        let of_values = rows_of_values(model, rows, within)?;
        let Plan { instructions, int_lens, real_lens } =
            Plan::of(model, &of_values, &forms, &mut lowerer);
        let macs = |of: &Instruction| of.macs(x.stored(), sparse, model.in_channels);
        let macs = instructions.iter().map(macs).sum();
        let by_channel = instructions.iter().any(Instruction::reads_channels);
        let input_scales = model.input_scales.clone().filter(|_| by_channel);
        let named = model.stages.iter().zip(forms);
        let mut program = Self {
            isa: Isa::best(),
            rows,
            out_rows: instructions.last().map_or(rows, |last| last.rows),
            in_channels: model.in_channels,
            most: model.activation_bits.most(),
            by_node: instructions.iter().any(Instruction::quantizes_rows),
            instructions,
            int_lens,
            real_lens,
            dense_input: model.aggregates_input(),
            input_scales: input_scales
                .map(|scales| ColumnScales::new(scales, model.activation_bits.most())),
            buffers: Buffers::default(),
            forms: named
                .map(|(stage, form)| StageForm {
                    layer: stage.layer.clone(),
                    operation: stage.op.name(),
                    form,
                })
                .collect(),
            cost: Cost { macs, peak_activations: 0 },
        };
        program.cost.peak_activations = program.bytes();
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

    /// The form of each stage of the model.
    pub fn forms(&self) -> &[StageForm] {
        &self.forms
    }

    /// Planned buffers: integers and floats between stages, scales and integers of the input, and
    /// the output.
    fn bytes(&self) -> u64 {
        let ints: usize = self.int_lens.iter().sum();
        let reals: usize = self.real_lens.iter().sum::<usize>() * size_of::<f32>();
        let by_node = if self.by_node { self.rows * size_of::<f32>() } else { 0 };
        let by_channel = if self.input_scales.is_some() { self.rows * self.in_channels } else { 0 };
        let output = self.instructions.last().map_or(0, |last| last.width)
            * self.out_rows
            * size_of::<f32>();
        (ints + reals + by_node + by_channel + output) as u64
    }

    /// Runs the program on `x` of shape `[n, in_channels]` and returns the output
    /// `[n, out_channels]` as real numbers, with a row per node, graph or pair.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for an input of another shape, [`Error::NotFinite`] for one with an
    /// entry that is not finite.
    pub fn run(&mut self, x: ValueRef<f32>) -> Result<ArrayView2<'_, f32>> {
        self.checked_shape(&x)?;
        self.run_rows(Fixed::of(x, self.dense_input).view(), Input::New, &mut || ())?;
        Ok(self.output())
    }

    /// Does what depends on the input alone, once: its integers are kept, and every run of what is
    /// returned begins with them. The input cannot change while it is borrowed.
    ///
    /// # Errors
    /// As [`QuantProgram::run`].
    ///
    /// ```
    /// use gnn_prune::{Bits, Dataset, Gcn, Quantizer};
    /// let data = Dataset::digits()?;
    /// let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(16).build(0)?;
    /// let small = Quantizer::builder(Bits::Eight).build()?.quantize(&model, &data)?;
    /// let mut program = small.compile(data.graph(), data.features())?;
    /// let logits = program.run(data.features())?.to_owned();
    /// let mut prepared = program.prepare(data.features())?;
    /// assert_eq!(prepared.run(), logits);
    /// assert_eq!(prepared.run(), logits);
    /// # Ok::<(), gnn_prune::Error>(())
    /// ```
    pub fn prepare<'p, 'x>(&'p mut self, x: ValueRef<'x, f32>) -> Result<Prepared<'p, 'x>> {
        self.checked_shape(&x)?;
        let x = Fixed::of(x, self.dense_input);
        self.check_finite(&x.view())?;
        self.quantize_channels(&x.view())?;
        if self.by_node {
            let view = x.view();
            let (starts, values) = rows_of(&view);
            self.buffers.input_scales.resize(self.rows, 0.0);
            self.buffers.input_by_node = Buffer::zeros(values.len());
            kernels::quantize_rows(
                &starts,
                values,
                self.most,
                &mut self.buffers.input_by_node,
                &mut self.buffers.input_scales,
            );
        }
        Ok(Prepared { program: self, x })
    }

    /// Runs the program once and says what each pass over the nodes took.
    ///
    /// # Errors
    /// As [`QuantProgram::run`].
    pub fn profile(&mut self, x: ValueRef<f32>) -> Result<Vec<StageTime>> {
        self.checked_shape(&x)?;
        let mut ends = vec![Instant::now()];
        self.run_rows(Fixed::of(x, self.dense_input).view(), Input::New, &mut || {
            ends.push(Instant::now())
        })?;
        let took = ends.windows(2).map(|ends| ends[1] - ends[0]);
        let what = std::iter::once("input".to_string())
            .chain(self.instructions.iter().map(Instruction::to_string));
        Ok(what.zip(took).map(|(what, took)| StageTime { what, took }).collect())
    }

    fn checked_shape(&self, x: &ValueRef<f32>) -> Result<()> {
        let expected = (self.rows, self.in_channels);
        if x.shape() == expected {
            return Ok(());
        }
        Err(Error::ShapeMismatch {
            at: "input of the quantised program".into(),
            expected,
            found: x.shape(),
        })
    }

    fn output(&self) -> ArrayView2<'_, f32> {
        let width = self.instructions.last().expect("a model has at least one stage").width;
        ArrayView2::from_shape((self.out_rows, width), &self.buffers.output)
            .expect("planned for its width")
    }

    fn run_rows(&mut self, x: ValueRef<f32>, input: Input, after: &mut dyn FnMut()) -> Result<()> {
        if input == Input::New {
            if self.instructions.iter().any(Instruction::reads_floats) {
                self.check_finite(&x)?;
            }
            self.quantize_channels(&x)?;
        }
        after();
        let Self { instructions, buffers, .. } = self;
        let on = Machine { isa: self.isa, most: self.most, input };
        if buffers.output.is_empty() {
            buffers.ints = self.int_lens.iter().map(|&len| Buffer::zeros(len)).collect();
            buffers.reals = self.real_lens.iter().map(|&len| Buffer::zeros(len)).collect();
            buffers.output =
                Buffer::zeros(instructions.last().map_or(0, |last| last.width) * self.out_rows);
            buffers.input_scales.resize(if self.by_node { self.rows } else { 0 }, 0.0);
        }
        for instruction in instructions.iter() {
            instruction.run(&on, &x, buffers);
            after();
        }
        match buffers.input_scales.iter().position(|scale| !scale.is_finite()) {
            Some(i) => Err(not_finite(i, buffers.input_scales[i])),
            None => Ok(()),
        }
    }

    /// The input with a scale per channel, for what is not a product.
    fn quantize_channels(&mut self, x: &ValueRef<f32>) -> Result<()> {
        let Some(scales) = &self.input_scales else { return Ok(()) };
        if self.buffers.input_by_channel.is_empty() {
            self.buffers.input_by_channel = Buffer::zeros(self.rows * self.in_channels);
        }
        x.with_dense(|x| {
            let x = x.as_slice().expect("rows are contiguous here");
            match kernels::quantize_columns(self.isa, x, scales, &mut self.buffers.input_by_channel)
            {
                Some(i) => Err(bad_row(i, &x[i * self.in_channels..][..self.in_channels])),
                None => Ok(()),
            }
        })
    }

    fn check_finite(&self, x: &ValueRef<f32>) -> Result<()> {
        let (starts, values) = rows_of(x);
        match kernels::first_not_finite(&starts, values) {
            Some(i) => Err(bad_row(i, &values[starts[i]..starts[i + 1]])),
            None => Ok(()),
        }
    }
}

/// A program with an input that was quantised once; see [`QuantProgram::prepare`].
#[derive(Debug)]
pub struct Prepared<'p, 'x> {
    program: &'p mut QuantProgram,
    x: Fixed<'x>,
}

impl Prepared<'_, '_> {
    /// Runs the program and returns the output `[n, out_channels]` as real numbers.
    pub fn run(&mut self) -> ArrayView2<'_, f32> {
        self.program
            .run_rows(self.x.view(), Input::Prepared, &mut || ())
            .expect("the input was checked");
        self.program.output()
    }

    /// As [`QuantProgram::profile`].
    pub fn profile(&mut self) -> Vec<StageTime> {
        let mut ends = vec![Instant::now()];
        self.program
            .run_rows(self.x.view(), Input::Prepared, &mut || ends.push(Instant::now()))
            .expect("the input was checked");
        let took = ends.windows(2).skip(1).map(|ends| ends[1] - ends[0]);
        let what = self.program.instructions.iter().map(Instruction::to_string);
        what.zip(took).map(|(what, took)| StageTime { what, took }).collect()
    }
}

/// Whether the integers of the input are those of a run before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Input {
    New,
    Prepared,
}

/// An input whose rows lie one after the other from the first entry on.
#[derive(Debug)]
enum Fixed<'a> {
    Borrowed(ValueRef<'a, f32>),
    Moved(Value<f32>),
}

impl<'a> Fixed<'a> {
    fn of(x: ValueRef<'a, f32>, dense: bool) -> Self {
        match x {
            ValueRef::Sparse(_) if dense => Fixed::Moved(Value::Dense(x.to_dense())),
            ValueRef::Dense(x) if !x.is_standard_layout() => {
                Fixed::Moved(Value::Dense(x.as_standard_layout().into_owned()))
            }
            // A view of some rows of a larger matrix counts its entries from elsewhere.
            ValueRef::Sparse(x) if x.indptr().raw_storage()[0] != 0 => {
                Fixed::Moved(Value::Sparse(x.to_owned()))
            }
            x => Fixed::Borrowed(x),
        }
    }

    fn view(&self) -> ValueRef<'_, f32> {
        match self {
            Fixed::Borrowed(x) => x.reborrow(),
            Fixed::Moved(x) => x.view(),
        }
    }
}

/// Where the entries of each row begin, and the entries.
fn rows_of<'x>(x: &'x ValueRef<f32>) -> (std::borrow::Cow<'x, [usize]>, &'x [f32]) {
    match x {
        ValueRef::Dense(x) => {
            let starts: Vec<usize> = (0..=x.nrows()).map(|i| i * x.ncols()).collect();
            (starts.into(), x.as_slice().expect("rows are contiguous here"))
        }
        ValueRef::Sparse(x) => (x.indptr().into_raw_storage().into(), x.data()),
    }
}

fn bad_row(node: usize, row: &[f32]) -> Error {
    not_finite(node, row.iter().copied().find(|v| !v.is_finite()).unwrap_or(f32::NAN))
}

fn not_finite(node: usize, value: f32) -> Error {
    Error::NotFinite { at: format!("features of node {node}"), value: value.into() }
}

/// What all instructions of a program share.
struct Machine {
    isa: Isa,
    most: i8,
    input: Input,
}

/// A value of floats that is read.
fn real<'a>(source: &Source, x: &'a ValueRef<f32>, buffers: &'a Buffers) -> ValueRef<'a, f32> {
    match *source {
        Source::Reals(buffer, shape) => {
            let data = &buffers.reals[buffer][..shape.0 * shape.1];
            ValueRef::Dense(ArrayView2::from_shape(shape, data).expect("planned for its shape"))
        }
        _ => x.reborrow(),
    }
}

impl Instruction {
    fn run(&self, on: &Machine, x: &ValueRef<f32>, buffers: &mut Buffers) {
        let len = self.rows * self.width;
        let mut ints = self
            .ints
            .map(|(buffer, scale)| (std::mem::take(&mut buffers.ints[buffer]), buffer, scale));
        let mut reals = match self.reals {
            Reals::Nowhere => Buffer::default(),
            Reals::Buffer(buffer) => std::mem::take(&mut buffers.reals[buffer]),
            Reals::Output => std::mem::take(&mut buffers.output),
        };
        let mut scales = std::mem::take(&mut buffers.input_scales);
        match (self.reals, &mut ints) {
            (Reals::Nowhere, Some((data, _, scale))) => {
                let out = Out::Int { data: &mut data[..len], scale: *scale, qmax: on.most };
                self.on_integers(&self.parts[0], on, x, buffers, &mut scales, true, out);
            }
            _ => self.to_reals(on, x, buffers, &mut scales, &mut reals[..len]),
        }
        buffers.input_scales = scales;
        if let (Some((data, _, scale)), true) = (&mut ints, self.reals != Reals::Nowhere) {
            // What is not finite becomes some integer, as on the way out of a product.
            kernels::quantize_columns(
                on.isa,
                &reals[..len],
                &ColumnScales::new(vec![*scale; self.width], on.most),
                &mut data[..len],
            );
        }
        if let Some((data, buffer, _)) = ints {
            buffers.ints[buffer] = data;
        }
        match self.reals {
            Reals::Nowhere => {}
            Reals::Buffer(buffer) => buffers.reals[buffer] = reals,
            Reals::Output => buffers.output = reals,
        }
    }

    /// Every part in turn, added to what the ones before left; bias and activation follow the last
    /// one.
    fn to_reals(
        &self,
        on: &Machine,
        x: &ValueRef<f32>,
        buffers: &Buffers,
        scales: &mut [f32],
        y: &mut [f32],
    ) {
        for (k, part) in self.parts.iter().enumerate() {
            let last = k + 1 == self.parts.len();
            match &part.op {
                Op::Floats(op) => self.on_floats(op, part, x, buffers, (k > 0, last), y),
                Op::Rows(op) => self.on_rows(op, part, on, x, buffers, y),
                _ if k > 0 => self.on_integers(part, on, x, buffers, scales, last, Out::Added(y)),
                _ => self.on_integers(part, on, x, buffers, scales, last, Out::Real(y)),
            }
        }
    }

    fn on_rows(
        &self,
        op: &tables::RowOp,
        part: &Part,
        on: &Machine,
        x: &ValueRef<f32>,
        buffers: &Buffers,
        y: &mut [f32],
    ) {
        let x = part.inputs.first().map(|source| real(source, x, buffers));
        let mut y =
            ArrayViewMut2::from_shape((self.rows, self.width), y).expect("planned for its width");
        op.run(on.isa, x, y.view_mut());
        if let Some(bias) = &self.bias {
            kernels::add_bias(y.view_mut(), bias);
        }
        if let (Some(activation), Some(data)) = (self.activation, y.as_slice_mut()) {
            kernels::for_each_chunk(data, |_, chunk| activation.apply(chunk));
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "what an operation reads, and the place that it writes"
    )]
    fn on_floats(
        &self,
        op: &program::Op<f32>,
        part: &Part,
        x: &ValueRef<f32>,
        buffers: &Buffers,
        (add, last): (bool, bool),
        y: &mut [f32],
    ) {
        let view = |source: &Source| real(source, x, buffers);
        let mut y =
            ArrayViewMut2::from_shape((self.rows, self.width), y).expect("planned for its width");
        let relu = last && self.activation == Some(ActivationFn::Relu);
        let bias = self.bias.as_deref().filter(|_| last);
        let done = op.run(&part.inputs, view, y.view_mut(), Epilogue { bias, relu, add });
        if let (Some(bias), false) = (bias, done) {
            kernels::add_bias(y.view_mut(), bias);
        }
        let left = self.activation.filter(|_| last && !(done && relu));
        if let (Some(activation), Some(data)) = (left, y.as_slice_mut()) {
            kernels::for_each_chunk(data, |_, chunk| activation.apply(chunk));
        }
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "what an operation reads, and the places that it writes"
    )]
    fn on_integers(
        &self,
        part: &Part,
        on: &Machine,
        x: &ValueRef<f32>,
        buffers: &Buffers,
        scales: &mut [f32],
        last: bool,
        mut out: Out,
    ) {
        let isa = on.isa;
        let map = |values: &mut [f32]| {
            self.activation.iter().for_each(|activation| activation.apply(values))
        };
        let activate = match self.activation.filter(|_| last) {
            None => Activate::Identity,
            Some(ActivationFn::Relu) => Activate::Relu,
            Some(_) => Activate::Map(&map),
        };
        let bias = self.bias.as_deref().filter(|_| last);
        let view = |source: &Source| match *source {
            Source::Ints(buffer, (rows, width)) => &buffers.ints[buffer][..rows * width],
            _ => &buffers.input_by_channel[..],
        };
        match &part.op {
            Op::FromInput { weight, cols } => {
                let finish = Finish { rows: None, cols, bias, activate };
                match on.input {
                    Input::New => {
                        kernels::input_int8(isa, *x, weight, on.most, finish, scales, out)
                    }
                    Input::Prepared => {
                        let finish = Finish { rows: Some(scales), ..finish };
                        kernels::quantized_input_int8(
                            isa,
                            *x,
                            &buffers.input_by_node,
                            weight,
                            finish,
                            out,
                        );
                    }
                }
            }
            Op::Linear { packed, cols } => {
                kernels::matmul_int8_with(
                    isa,
                    view(&part.inputs[0]),
                    packed,
                    Finish { rows: None, cols, bias, activate },
                    out,
                );
            }
            Op::Aggregate { operator, cols, .. } => {
                let (starts, indices, _) = operator.operator.forward().into_raw_storage();
                let a = SparseInt8 { starts, cols: indices, vals: &operator.ints };
                let finish = Finish { rows: Some(&operator.scales), cols, bias, activate };
                kernels::spmm_int8_with(isa, a, view(&part.inputs[0]), self.width, finish, out);
            }
            Op::Add(cols) => {
                let terms: Vec<Term> = part
                    .inputs
                    .iter()
                    .zip(cols)
                    .map(|(input, cols)| Term { data: view(input), cols })
                    .collect();
                kernels::join_int8_with(isa, &terms, bias, activate, out, self.width, 0);
            }
            Op::Concat(cols) => {
                let mut place = 0;
                for (input, cols) in part.inputs.iter().zip(cols) {
                    let bias = bias.map(|bias| &bias[place..place + cols.len()]);
                    let terms = [Term { data: view(input), cols }];
                    kernels::join_int8_with(
                        isa,
                        &terms,
                        bias,
                        activate,
                        out.reborrow(),
                        self.width,
                        place,
                    );
                    place += cols.len();
                }
            }
            Op::Floats(_) | Op::Rows(_) => unreachable!("floats have their own way"),
        }
    }
}

impl Ready for Prepared<'_, '_> {
    fn run(&mut self) -> Result<ArrayView2<'_, f32>> {
        Ok(self.run())
    }
}

impl Runnable for QuantProgram {
    fn run(&mut self, x: ValueRef<f32>) -> Result<ArrayView2<'_, f32>> {
        self.run(x)
    }
    fn cost(&self) -> Cost {
        self.cost()
    }
    fn forms(&self) -> &[StageForm] {
        self.forms()
    }
    fn prepare<'a>(&'a mut self, x: ValueRef<'a, f32>) -> Result<Box<dyn Ready + 'a>> {
        Ok(Box::new(QuantProgram::prepare(self, x)?))
    }
}

impl std::fmt::Display for QuantProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let on = |form| self.forms.iter().filter(|stage| stage.form == form).count();
        writeln!(
            f,
            "program of {} stages on integers and {} on floats",
            on(Form::Integers),
            on(Form::Floats)
        )?;
        for (k, stage) in self.forms.iter().enumerate() {
            writeln!(
                f,
                "  stage {k:<3} {:<12} {:<10} {}",
                stage.layer, stage.operation, stage.form
            )?;
        }
        Ok(())
    }
}
