//! Programs that work on the nodes in an order of their own.

use crate::kernels;
use crate::kernels::buffer;
use crate::scalar::Scalar;
use crate::value::{Csr, CsrView, Value, ValueRef};
use ndarray::{Array2, ArrayView2};

/// Which node stands at each place, where each node does, and the matrices that are moved.
#[derive(Debug, Clone)]
pub(super) struct Ordered<F: Scalar> {
    order: Vec<u32>,
    places: Vec<u32>,
    /// In the program's order.
    input: Option<Array2<F>>,
    /// In the caller's order.
    output: Array2<F>,
}

/// An input in the program's order.
pub(super) enum Moved<'a, F: Scalar> {
    Kept(ArrayView2<'a, F>),
    New(Value<F>),
}

impl<F: Scalar> Moved<'_, F> {
    pub(super) fn view(&self) -> ValueRef<'_, F> {
        match self {
            Moved::Kept(x) => ValueRef::Dense(x.view()),
            Moved::New(x) => x.view(),
        }
    }
}

impl<F: Scalar> Ordered<F> {
    pub(super) fn new(order: Vec<u32>) -> Self {
        let mut places = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, &node)| places[node as usize] = place as u32);
        Self { order, places, input: None, output: Array2::zeros((0, 0)) }
    }

    /// `x` in the program's order.
    pub(super) fn moved(&mut self, x: ValueRef<F>) -> Moved<'_, F> {
        let order = &self.order;
        match x {
            ValueRef::Sparse(x) => Moved::New(Value::Sparse(rows_in_order(&x, order))),
            ValueRef::Dense(x) => {
                let input = self.input.get_or_insert_with(|| buffer::zeros(x.dim()));
                let x = x.as_standard_layout();
                kernels::map_rows(input.view_mut(), |i, row| {
                    row.copy_from_slice(row_of(&x.view(), order[i] as usize))
                });
                Moved::Kept(input.view())
            }
        }
    }

    /// Takes an output of the program into the caller's order.
    pub(super) fn put_back(&mut self, y: ArrayView2<F>) {
        if self.output.dim() != y.dim() {
            self.output = buffer::zeros(y.dim());
        }
        let places = &self.places;
        kernels::map_rows(self.output.view_mut(), |node, row| {
            row.copy_from_slice(row_of(&y, places[node] as usize))
        });
    }

    /// The output that was put back last.
    pub(super) fn output(&self) -> ArrayView2<'_, F> {
        self.output.view()
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
