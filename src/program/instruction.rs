//! One pass over the rows, and the buffers that it reads and writes.

use super::fuse::Fused;
use super::op::Op;
use super::plan::{Buffers, Span};
use crate::error::Result;
use crate::kernels::buffer::Buffer;
use crate::kernels::{self, Epilogue};
use crate::nn::{ActivationFn, Cx, Lowering, RowSpace, StageId};
use crate::scalar::Scalar;
use crate::value::ValueRef;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};
use std::sync::Arc;

/// Where an instruction reads: the model's input or a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Input,
    Buffer { buffer: usize, shape: (usize, usize) },
}

/// An operation, then bias and activation on its result while it is at hand.
#[derive(Debug, Clone)]
pub(super) struct Instruction<F: Scalar> {
    pub(super) op: Op<F>,
    inputs: Vec<Source>,
    /// What the rows of its inputs are.
    reads: RowSpace,
    pub(super) output: usize,
    pub(super) shape: (usize, usize),
    bias: Option<Arc<Vec<F>>>,
    activation: Option<ActivationFn>,
}

/// Picks the form of each product, and a buffer for each value; returns the entries of each buffer
/// with the instructions.
pub(super) fn plan<F: Scalar>(
    lowering: &Lowering<F>,
    fused: Vec<Fused<F>>,
) -> (Vec<Instruction<F>>, Vec<usize>) {
    let shape = |id: StageId| (lowering.rows(id), lowering.width(id));
    let mut last_read = vec![0; lowering.stages().len()];
    for (k, f) in fused.iter().enumerate() {
        f.inputs.iter().for_each(|id| last_read[id.0] = k);
    }
    let buffers = Buffers::plan(fused.iter().enumerate().map(|(born, f)| Span {
        value: f.makes.0,
        born,
        dies: last_read[f.makes.0].max(born),
        len: shape(f.makes).0 * shape(f.makes).1,
    }));
    let of = |id: StageId| buffers.of(id.0).expect("every pass makes a value");
    let source = |&id: &StageId| match id.0 {
        0 => Source::Input,
        _ => Source::Buffer { buffer: of(id), shape: shape(id) },
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
        reads: lowering.space_read(&inputs),
        output: of(makes),
        shape: shape(makes),
        bias,
        activation,
    };
    (fused.into_iter().map(instruction).collect(), buffers.lens.clone())
}

impl<F: Scalar> Instruction<F> {
    /// Its value, in the buffer that it writes.
    pub(super) fn value<'b>(&self, out: &'b mut [F]) -> ArrayViewMut2<'b, F> {
        ArrayViewMut2::from_shape(self.shape, &mut out[..self.shape.0 * self.shape.1])
            .expect("buffers are planned for their values")
    }

    pub(super) fn run(
        &self,
        cx: &Cx<F>,
        x: ValueRef<F>,
        buffers: &[Buffer<F>],
        out: &mut Buffer<F>,
    ) -> Result<()> {
        let view = |source: &Source| match *source {
            Source::Input => x.reborrow(),
            Source::Buffer { buffer, shape } => {
                let data = &buffers[buffer][..shape.0 * shape.1];
                ValueRef::Dense(ArrayView2::from_shape(shape, data).expect("planned for its value"))
            }
        };
        let bias = self.bias.as_ref().map(|bias| &bias[..]);
        let relu = self.activation == Some(ActivationFn::Relu);
        if let Op::Opaque(operation) = &self.op {
            let xs: Vec<_> = self.inputs.iter().map(view).collect();
            replace(cx, operation.run(&cx.reading(self.reads), &xs)?, out);
        }
        let mut y = self.value(out);
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
            Op::Opaque(_) => (bias, self.activation),
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

/// Makes `value` what the buffer begins with; where both have the same length, the memory changes
/// hands and nothing is copied.
fn replace<F: Scalar>(cx: &Cx<F>, value: Array2<F>, out: &mut Buffer<F>) {
    let (shape, len) = (value.dim(), value.len());
    if len != out.len() || !value.is_standard_layout() {
        let y = ArrayViewMut2::from_shape(shape, &mut out[..len])
            .expect("buffers are planned for their values");
        kernels::copy_rows(value.view(), y);
        return cx.give(value);
    }
    let value = Buffer::of(value).expect("it is in standard layout");
    cx.give(std::mem::replace(out, value).into_array(shape));
}
