//! The operations of a compiled program.

use super::cost::{nonzeros, pays};
use crate::graph::{AdjacencyNorm, Operator};
use crate::kernels::buffer;
use crate::kernels::{self, Epilogue, PackedWeight};
use crate::nn::{Opaque, Pooling, RowNorm};
use crate::scalar::Scalar;
use crate::value::{Csr, ValueRef};
use ndarray::{Array2, ArrayViewMut2, Zip, s};
use std::sync::Arc;

/// One operation, with all that it needs but its inputs.
#[derive(Debug, Clone)]
pub(crate) enum Op<F: Scalar> {
    Linear(Arc<Array2<F>>),
    /// As `Linear`, with the weight laid out for the kernel.
    PackedLinear(Arc<PackedWeight<F>>),
    /// `Wᵀ` by rows, where a dense `X` meets a weight that is sparse enough.
    SparseLinear(Arc<Csr<F>>),
    Aggregate(Arc<Operator<F>>, AdjacencyNorm),
    Pool(Arc<Operator<F>>, Pooling),
    Add(Vec<F>),
    Concat,
    Scale(Arc<Vec<F>>),
    Max,
    RowNorm(Arc<RowNorm>, Arc<Vec<F>>),
    Opaque(Arc<dyn Opaque<F>>),
    /// A sum of products, one per input, each added to what the one before left: linear maps of
    /// dense values and aggregations.
    Sum(Vec<Op<F>>),
}

impl<F: Scalar> Op<F> {
    pub(crate) fn name(&self) -> String {
        match self {
            Op::Linear(_) | Op::PackedLinear(_) => "linear".into(),
            Op::SparseLinear(_) => "sparse linear".into(),
            Op::Aggregate(..) => "aggregate".into(),
            Op::Pool(..) => "pool".into(),
            Op::Add(_) => "add".into(),
            Op::Concat => "concat".into(),
            Op::Scale(_) => "scale".into(),
            Op::Max => "max".into(),
            Op::RowNorm(..) => "layer_norm".into(),
            Op::Opaque(operation) => operation.name().into(),
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

    /// Whether it is a product that takes an epilogue and can be added to what stands in its
    /// output. A readout has the rounding of a stage by itself, as layer by layer.
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

    /// Any operation but opaque ones and sums of products, on what `view` shows of its inputs;
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
        if let Op::Pool(operator, _) = self {
            view(&inputs[0]).with_dense(|x| {
                kernels::spmm_then(operator.forward(), x, y.view_mut(), epilogue);
            });
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
            Op::Max => {
                xs[0].with_dense(|x| y.assign(&x));
                for x in &xs[1..] {
                    x.with_dense(|x| {
                        Zip::from(&mut y).and(x).for_each(|y, &x| *y = if x > *y { x } else { *y })
                    });
                }
            }
            Op::RowNorm(norm, scale) => xs[0].with_dense(|x| norm.scaled(x, scale, y.view_mut())),
            _ => unreachable!(
                "products are done, opaque operations run by themselves, and sums term by term"
            ),
        }
        false
    }
}

/// `Wᵀ` in CSR, where that is faster.
fn sparse_form<F: Scalar>(weight: &Array2<F>) -> Option<Csr<F>> {
    if !pays(nonzeros(weight), weight.dim()) {
        return None;
    }
    Some(kernels::stored_entries(weight.t()))
}
