//! What backward reads, what it is handed, and the gradients that it adds up.

use super::cx::Cx;
use super::ids::ParamId;
use super::kept_map::Slot;
use super::param::Param;
use super::product::product_dx;
use crate::kernels::{self, PackedRows};
use crate::scalar::Scalar;
use crate::value::{CsrView, Value, ValueRef};
use ndarray::{Array2, ArrayView2, Axis};
use std::sync::OnceLock;

/// What a layer's backward reads of its inputs and output; the trace drops what nobody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reads {
    /// Neither.
    Nothing,
    /// The inputs.
    Inputs,
    /// The output.
    Output,
    /// Which entries of the output are positive, and that only where the gradient is not zero.
    SignOfOutput,
    /// Inputs and output.
    InputsAndOutput,
}

impl Reads {
    pub(crate) fn inputs(self) -> bool {
        matches!(self, Reads::Inputs | Reads::InputsAndOutput)
    }

    pub(crate) fn output(self) -> bool {
        matches!(self, Reads::Output | Reads::SignOfOutput | Reads::InputsAndOutput)
    }
}

/// Inputs and output of a layer's forward pass, as its backward pass may read them, and which
/// gradients are wanted.
#[derive(Debug)]
pub struct Io<'a, F: Scalar> {
    pub(super) inputs: Vec<Slot<'a, F>>,
    pub(super) output: Slot<'a, F>,
    pub(crate) wants: Vec<bool>,
    pub(crate) widths: Vec<usize>,
}

impl<'a, F: Scalar> Io<'a, F> {
    /// All inputs and the output of a layer that was run by itself, and the wish for every
    /// gradient.
    pub fn of(inputs: &[ValueRef<'a, F>], output: ValueRef<'a, F>) -> Self {
        let widths = inputs.iter().map(ValueRef::cols).collect();
        Self {
            inputs: inputs.iter().map(|x| Slot::Value(*x)).collect(),
            output: Slot::Value(output),
            wants: vec![true; inputs.len()],
            widths,
        }
    }

    /// Input `k`.
    ///
    /// # Panics
    /// If the layer's [`Layer::reads`](super::Layer::reads) says that backward does not read
    /// inputs.
    pub fn input(&self, k: usize) -> ValueRef<'_, F> {
        self.inputs[k].value().expect("`reads` says whether backward reads inputs")
    }

    /// `dW = Xᵀ·dY` of input `k`, `[in, out]`: as a product with [`Io::input`], and in less memory
    /// where that is kept in 8 bits ([`Memory`](super::Memory)).
    ///
    /// # Panics
    /// As [`Io::input`].
    pub fn product_dw(&self, k: usize, dy: ArrayView2<F>) -> Array2<F> {
        self.inputs[k].product_dw(dy).expect("`reads` says whether backward reads inputs")
    }

    /// `dX = dY·Wᵀ` of input `k`, `[n, in]`, on the stored entries where that is sparse.
    pub fn product_dx(
        &self,
        cx: &Cx<F>,
        k: usize,
        dy: ArrayView2<F>,
        w: ArrayView2<F>,
    ) -> Value<F> {
        if let Some(x) = self.sparse_input(k) {
            return product_dx(cx, &ValueRef::Sparse(x), dy, w);
        }
        let mut dx = cx.take((dy.nrows(), w.nrows()));
        kernels::matmul_nt(dy, w, dx.view_mut());
        Value::Dense(dx)
    }

    /// The output in 8 bits, where it is kept so.
    pub(crate) fn packed_output(&self) -> Option<&'a PackedRows<F>> {
        self.output.packed()
    }

    /// Input `k` if it is sparse; those are kept whatever [`Layer::reads`](super::Layer::reads)
    /// says.
    pub fn sparse_input(&self, k: usize) -> Option<CsrView<'a, F>> {
        match self.inputs[k] {
            Slot::Value(ValueRef::Sparse(x)) => Some(x),
            _ => None,
        }
    }

    /// The output.
    ///
    /// # Panics
    /// If the layer's [`Layer::reads`](super::Layer::reads) says that backward does not read it.
    pub fn output(&self) -> ValueRef<'_, F> {
        self.output.value().expect("`reads` says whether backward reads the output")
    }

    /// Whether the gradient of input `k` is wanted; `None` may be returned for the others.
    pub fn wants(&self, k: usize) -> bool {
        self.wants[k]
    }

    /// Number of inputs.
    pub fn len(&self) -> usize {
        self.wants.len()
    }

    /// Whether there are no inputs.
    pub fn is_empty(&self) -> bool {
        self.wants.is_empty()
    }

    /// Columns of each input.
    pub fn widths(&self) -> &[usize] {
        &self.widths
    }
}

/// Added to the norm that gradients are divided by, as PyTorch does.
const CLIP_EPSILON: f64 = 1e-6;

/// Gradients of a model's parameters; what was never added to is zero.
///
/// That of a table of which a batch reads few rows is kept as these rows
/// ([`add_rows`](Self::add_rows)), and made whole when somebody asks for all of it.
#[derive(Debug, Clone, Default)]
pub struct Grads<F: Scalar> {
    by_id: Vec<Option<Gradient<F>>>,
}

#[derive(Debug, Clone)]
enum Gradient<F: Scalar> {
    Whole(Array2<F>),
    Rows(RowGrads<F>, OnceLock<Array2<F>>),
}

impl<F: Scalar> Gradient<F> {
    fn whole(&self) -> &Array2<F> {
        match self {
            Gradient::Whole(whole) => whole,
            Gradient::Rows(rows, whole) => whole.get_or_init(|| rows.to_whole()),
        }
    }

    /// The gradient as a whole, to change.
    fn whole_mut(&mut self) -> &mut Array2<F> {
        if let Gradient::Rows(rows, whole) = self {
            *self = Gradient::Whole(whole.take().unwrap_or_else(|| rows.to_whole()));
        }
        match self {
            Gradient::Whole(whole) => whole,
            Gradient::Rows(..) => unreachable!("it was made whole"),
        }
    }

    /// What is stored, to change: all else is zero.
    fn stored_mut(&mut self) -> &mut Array2<F> {
        match self {
            Gradient::Whole(whole) => whole,
            Gradient::Rows(rows, whole) => {
                whole.take();
                &mut rows.values
            }
        }
    }

    fn stored(&self) -> &Array2<F> {
        match self {
            Gradient::Whole(whole) => whole,
            Gradient::Rows(rows, _) => &rows.values,
        }
    }
}

/// The gradient of some rows of a parameter; all others are zero.
#[derive(Debug, Clone, PartialEq)]
pub struct RowGrads<F: Scalar> {
    rows: Vec<u32>,
    values: Array2<F>,
    shape: (usize, usize),
}

impl<F: Scalar> RowGrads<F> {
    /// Rows that are listed once each, ascending; those of a row that is named several times are
    /// added up in their order.
    pub(crate) fn new(shape: (usize, usize), rows: &[u32], values: ArrayView2<F>) -> Self {
        let mut order: Vec<u32> = (0..rows.len() as u32).collect();
        order.sort_by_key(|&k| rows[k as usize]);
        // Where each row begins in the order, and where the last one ends.
        let (mut once, mut starts) = (Vec::new(), Vec::new());
        for (at, &k) in order.iter().enumerate() {
            if once.last() != Some(&rows[k as usize]) {
                once.push(rows[k as usize]);
                starts.push(at);
            }
        }
        starts.push(order.len());
        let mut sums = Array2::zeros((once.len(), shape.1));
        kernels::map_rows(sums.view_mut(), |at, sum| {
            for &k in &order[starts[at]..starts[at + 1]] {
                let values = values.row(k as usize);
                sum.iter_mut().zip(values).for_each(|(sum, &value)| *sum += value);
            }
        });
        Self { rows: once, values: sums, shape }
    }

    /// Which rows, ascending.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Their gradients, `[rows, channels]`.
    pub fn values(&self) -> &Array2<F> {
        &self.values
    }

    fn add_to(&self, whole: &mut Array2<F>) {
        for (&row, values) in self.rows.iter().zip(self.values.rows()) {
            let mut sum = whole.row_mut(row as usize);
            sum += &values;
        }
    }

    /// All rows, `[rows of the parameter, columns]`.
    pub fn to_whole(&self) -> Array2<F> {
        let mut whole = Array2::zeros(self.shape);
        self.add_to(&mut whole);
        whole
    }
}

impl<F: Scalar> Grads<F> {
    pub(crate) fn new(num_params: usize) -> Self {
        Self { by_id: vec![None; num_params] }
    }

    /// Adds to the gradient of `param`.
    ///
    /// # Panics
    /// If the shape is not the parameter's.
    pub fn add(&mut self, param: &Param<F>, gradient: Array2<F>) {
        assert_eq!(
            gradient.dim(),
            param.value().dim(),
            "the gradient of `{}` has its shape",
            param.name()
        );
        match self.slot(param.id) {
            Some(sum) => *sum.whole_mut() += &gradient,
            empty => *empty = Some(Gradient::Whole(gradient)),
        }
    }

    /// Adds to some rows of the gradient of `param`; a row may be named several times.
    ///
    /// *Shapes*: `values: [rows, columns of the parameter]`.
    ///
    /// # Panics
    /// If the shapes do not fit, or the parameter has no such row.
    pub fn add_rows(&mut self, param: &Param<F>, rows: &[u32], values: ArrayView2<F>) {
        let shape = param.value().dim();
        assert_eq!(
            values.dim(),
            (rows.len(), shape.1),
            "rows of the gradient of `{}` have its width",
            param.name()
        );
        assert!(
            rows.iter().all(|&row| (row as usize) < shape.0),
            "`{}` has {} rows",
            param.name(),
            shape.0
        );
        match self.slot(param.id) {
            Some(Gradient::Whole(sum)) => RowGrads::new(shape, rows, values).add_to(sum),
            Some(Gradient::Rows(before, whole)) => {
                whole.take();
                let rows = [&before.rows, rows].concat();
                let values = ndarray::concatenate![Axis(0), before.values, values];
                *before = RowGrads::new(shape, &rows, values.view());
            }
            empty => {
                let rows = RowGrads::new(shape, rows, values);
                *empty = Some(Gradient::Rows(rows, OnceLock::new()));
            }
        }
    }

    fn slot(&mut self, id: ParamId) -> &mut Option<Gradient<F>> {
        if self.by_id.len() <= id.0 {
            self.by_id.resize(id.0 + 1, None);
        }
        &mut self.by_id[id.0]
    }

    /// The gradient of a parameter, or `None` where it is zero throughout.
    pub fn get(&self, id: ParamId) -> Option<&Array2<F>> {
        self.by_id.get(id.0).and_then(Option::as_ref).map(Gradient::whole)
    }

    /// The gradient of a parameter as rows, where it is kept so.
    pub fn rows(&self, id: ParamId) -> Option<&RowGrads<F>> {
        match self.by_id.get(id.0).and_then(Option::as_ref) {
            Some(Gradient::Rows(rows, _)) => Some(rows),
            _ => None,
        }
    }

    /// The gradient of a parameter, of zeros where it had none.
    pub fn of_mut(&mut self, param: &Param<F>) -> &mut Array2<F> {
        let zeros = || Gradient::Whole(Array2::zeros(param.value().dim()));
        self.slot(param.id()).get_or_insert_with(zeros).whole_mut()
    }

    /// The entries of each gradient that there is, in the order of the parameters; all of each.
    pub fn slices_mut(&mut self) -> impl Iterator<Item = &mut [F]> {
        let contiguous = "gradients are made in standard layout";
        self.by_id.iter_mut().flatten().map(move |gradient| {
            let gradient = gradient.whole_mut();
            if !gradient.is_standard_layout() {
                *gradient = gradient.as_standard_layout().into_owned();
            }
            gradient.as_slice_mut().expect(contiguous)
        })
    }

    /// Adds gradients of the parameters of a part, which are those of these ids here.
    pub(super) fn add_as(&mut self, part: Grads<F>, ids: &[ParamId]) {
        for (gradient, &id) in part.by_id.into_iter().zip(ids) {
            let Some(gradient) = gradient else { continue };
            match self.slot(id) {
                Some(sum) => *sum.whole_mut() += gradient.whole(),
                empty => *empty = Some(gradient),
            }
        }
    }

    /// Multiplies all gradients by `factor`.
    pub fn scale(&mut self, factor: F) {
        self.by_id.iter_mut().flatten().for_each(|gradient| *gradient.stored_mut() *= factor);
    }

    /// The Euclidean norm of all gradients together.
    pub fn norm(&self) -> f64 {
        let stored = self.by_id.iter().flatten().flat_map(Gradient::stored);
        stored.map(|g| g.as_f64() * g.as_f64()).sum::<f64>().sqrt()
    }

    /// Scales all gradients so that their [`norm`](Self::norm) is `largest` at most.
    ///
    /// *Source*: Pascanu et al., ICML 2013, algorithm 1, as `torch.nn.utils.clip_grad_norm_`.
    pub fn clip(&mut self, largest: f64) {
        let factor = largest / (self.norm() + CLIP_EPSILON);
        if factor < 1.0 {
            self.scale(F::of(factor));
        }
    }

    /// Adds `scale` times the gradients of `other`; rows that are added to rows stay rows.
    pub fn add_scaled(&mut self, other: &Grads<F>, scale: F) {
        self.by_id.resize(self.by_id.len().max(other.by_id.len()), None);
        for (sum, gradient) in self.by_id.iter_mut().zip(&other.by_id) {
            match (sum, gradient) {
                (Some(Gradient::Rows(sum, whole)), Some(Gradient::Rows(more, _))) => {
                    whole.take();
                    let rows = [&sum.rows[..], &more.rows].concat();
                    let scaled = &more.values * scale;
                    let values = ndarray::concatenate![Axis(0), sum.values, scaled];
                    *sum = RowGrads::new(sum.shape, &rows, values.view());
                }
                (Some(sum), Some(gradient)) => {
                    sum.whole_mut().scaled_add(scale, gradient.whole());
                }
                (sum @ None, Some(gradient)) => {
                    let mut copy = gradient.clone();
                    *copy.stored_mut() *= scale;
                    *sum = Some(copy);
                }
                (_, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, ModelBuilder, NodeId};
    use ndarray::array;

    #[test]
    fn gradients_longer_than_the_limit_are_scaled_down_to_it_and_others_left() {
        let mut builder = ModelBuilder::<f64>::new(1);
        let line = Linear::builder(1, 2).build::<f64>().unwrap();
        let line = builder.add("line", line, &[NodeId::INPUT]).unwrap();
        let model = builder.build(line, 0).unwrap();
        let mut grads = Grads::new(0);
        model.visit(&mut |name, param| {
            let values = if name == "line.bias" { array![[0.0, 4.0]] } else { array![[3.0, 0.0]] };
            grads.add(param, values);
        });
        assert_eq!(grads.norm(), 5.0);
        let mut same = grads.clone();
        same.clip(5.1);
        grads.clip(1.0);
        // PyTorch divides by the norm and 1e-6.
        let factor = 1.0 / (5.0 + 1e-6);
        model.visit(&mut |name, param| {
            let (at, value) = if name == "line.bias" { ((0, 1), 4.0) } else { ((0, 0), 3.0) };
            assert_eq!(same.get(param.id()).unwrap()[at], value);
            assert!((grads.get(param.id()).unwrap()[at] - value * factor).abs() < 1e-15);
        });
    }

    #[test]
    fn scaled_gradients_are_added_whether_or_not_there_are_any_yet() {
        let mut builder = ModelBuilder::<f64>::new(1);
        let line = builder
            .add(
                "line",
                Linear::builder(1, 2).bias(false).build::<f64>().unwrap(),
                &[NodeId::INPUT],
            )
            .unwrap();
        let model = builder.build(line, 0).unwrap();
        let (mut terms, mut id) = (Grads::new(1), ParamId(0));
        model.visit(&mut |_, param| {
            id = param.id();
            terms.add(param, array![[2.0, -4.0]]);
        });
        let mut sum = Grads::new(0);
        sum.add_scaled(&terms, 0.5);
        assert_eq!(sum.get(id), Some(&array![[1.0, -2.0]]));
        sum.add_scaled(&terms, -0.25);
        assert_eq!(sum.get(id), Some(&array![[0.5, -1.0]]));
    }

    #[test]
    fn gradients_of_rows_are_those_of_the_whole() {
        let mut builder = ModelBuilder::<f64>::new(3);
        let line = Linear::builder(3, 2).bias(false).build::<f64>().unwrap();
        let line = builder.add("line", line, &[NodeId::INPUT]).unwrap();
        let model = builder.build(line, 0).unwrap();
        model.visit(&mut |_, param| {
            let mut grads = Grads::new(0);
            grads.add_rows(param, &[2, 0, 2], array![[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]].view());
            let whole = array![[3.0, 4.0], [0.0, 0.0], [11.0, 22.0]];
            assert_eq!(grads.rows(param.id()).unwrap().rows(), [0, 2]);
            assert_eq!(grads.get(param.id()), Some(&whole));
            grads.add_rows(param, &[1], array![[5.0, 6.0]].view());
            let whole = array![[3.0, 4.0], [5.0, 6.0], [11.0, 22.0]];
            assert_eq!(grads.get(param.id()), Some(&whole));
            assert_eq!(grads.norm(), whole.mapv(|g| g * g).sum().sqrt());
            grads.scale(2.0);
            assert_eq!(grads.get(param.id()), Some(&(&whole * 2.0)));
            let mut sum = Grads::new(0);
            sum.add_scaled(&grads, 0.5);
            assert!(sum.rows(param.id()).is_some());
            let mut more = Grads::new(0);
            more.add_rows(param, &[2, 1], array![[1.0, 1.0], [2.0, 4.0]].view());
            sum.add_scaled(&more, 0.5);
            let added = sum.get(param.id()).unwrap();
            assert_eq!(added.row(1), array![6.0, 8.0]);
            assert_eq!(added.row(2), array![11.5, 22.5]);
            assert!(sum.rows(param.id()).is_some(), "rows are added to rows");
            sum.add_scaled(&more, -0.5);
            sum.add(param, whole.clone());
            sum.add_rows(param, &[1], array![[5.0, 6.0]].view());
            assert_eq!(sum.get(param.id()).unwrap().row(1), array![15.0, 18.0]);
            assert!(sum.rows(param.id()).is_none());
        });
    }
}
