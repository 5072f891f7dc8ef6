//! How a trace keeps what the way back reads.

use super::cx::{Cx, Mode};
use super::ids::NodeId;
use super::memory::Memory;
use super::product::product_dw;
use super::rows::RowSpace;
use crate::kernels::{self, Epilogue, PackedRows};
use crate::rng::{hash, purpose};
use crate::scalar::Scalar;
use crate::value::{CsrView, ValueRef};
use ndarray::{Array2, ArrayView2};
use std::sync::OnceLock;

/// A map that a layer or a trace keeps for the way back, whole or packed.
#[derive(Debug)]
pub struct KeptMap<F: Scalar>(Form<F>);

#[derive(Debug)]
enum Form<F: Scalar> {
    Whole(Array2<F>),
    Packed(PackedRows<F>),
}

impl<F: Scalar> KeptMap<F> {
    /// `Xᵀ·dY`.
    pub(crate) fn product_dw(&self, dy: ArrayView2<F>) -> Array2<F> {
        match &self.0 {
            Form::Whole(x) => product_dw(&ValueRef::Dense(x.view()), dy),
            Form::Packed(packed) => packed.product_tn(dy),
        }
    }

    /// An array of its shape, whatever is in it; the map is given up.
    pub(crate) fn into_room(self, cx: &Cx<F>) -> Array2<F> {
        match self.0 {
            Form::Whole(x) => x,
            Form::Packed(packed) => cx.take(packed.dim()),
        }
    }
}

impl<F: Scalar> Cx<'_, F> {
    /// Keeps a map of the layer at hand for its way back, as the training's [`Memory`] says; where
    /// that is packed, `map` goes back to the workspace.
    pub(crate) fn keep(&self, map: Array2<F>) -> KeptMap<F> {
        let of_hop = matches!(self.space(), RowSpace::Hop(_));
        match self.memory() {
            Memory::EightBits if !of_hop => {
                // Another key than that of the node's value.
                let packed = self.packed(self.node(), 1, map.view());
                // Not into the workspace: memory is what it is about.
                self.forget(map);
                KeptMap(Form::Packed(packed))
            }
            _ => KeptMap(Form::Whole(map)),
        }
    }

    /// The value of a node, packed.
    pub(super) fn packed_value(&self, id: NodeId, x: ArrayView2<F>) -> PackedRows<F> {
        self.packed(id, 0, x)
    }

    fn packed(&self, id: NodeId, what: u64, x: ArrayView2<F>) -> PackedRows<F> {
        let (seed, step) = match self.mode() {
            Mode::Train { seed, step } => (seed, step),
            Mode::Eval => (0, 0),
        };
        PackedRows::of(x, hash(seed, &[purpose::PACKING, id.index() as u64, what, step]))
    }

    /// `X·W` for a square `W`, in the memory of `x` where that is short.
    pub(crate) fn mapped(&self, mut x: Array2<F>, w: ArrayView2<F>) -> Array2<F> {
        if self.memory() == Memory::Whole || !w.is_square() || !x.is_standard_layout() {
            let mut y = self.take((x.nrows(), w.ncols()));
            kernels::matmul(x.view(), w, y.view_mut());
            self.give(x);
            return y;
        }
        kernels::matmul_over(&mut x, w);
        x
    }
}

impl<F: Scalar> Cx<'_, F> {
    /// `A·X + b`, in the memory of `x` where that is short and `A` is square.
    pub(crate) fn aggregated(
        &self,
        a: CsrView<F>,
        mut x: Array2<F>,
        bias: Option<&[F]>,
    ) -> Array2<F> {
        let is_square = a.rows() == a.cols();
        if self.memory() == Memory::Whole || !is_square || !x.is_standard_layout() {
            let mut y = self.take((a.rows(), x.ncols()));
            let epilogue = Epilogue { bias, ..Epilogue::NONE };
            kernels::spmm_then(a, x.view(), y.view_mut(), epilogue);
            self.give(x);
            return y;
        }
        kernels::spmm_over(a, &mut x, bias);
        x
    }
}

/// What backward may read of a value.
#[derive(Debug, Default)]
pub(crate) enum Slot<'a, F: Scalar> {
    /// Nothing.
    #[default]
    None,
    /// The value.
    Value(ValueRef<'a, F>),
    /// The value in 8 bits, and in numbers once somebody has asked.
    Packed(&'a PackedRows<F>, OnceLock<Array2<F>>),
}

impl<'a, F: Scalar> Slot<'a, F> {
    pub(super) fn of(value: Option<ValueRef<'a, F>>, packed: Option<&'a PackedRows<F>>) -> Self {
        match (value, packed) {
            (Some(value), _) => Slot::Value(value),
            (None, Some(packed)) => Slot::Packed(packed, OnceLock::new()),
            (None, None) => Slot::None,
        }
    }

    /// The value, unpacked where it has to be.
    pub(super) fn value(&self) -> Option<ValueRef<'_, F>> {
        match self {
            Slot::None => None,
            Slot::Value(value) => Some(value.reborrow()),
            Slot::Packed(packed, numbers) => {
                let numbers = numbers.get_or_init(|| {
                    let mut x = Array2::zeros(packed.dim());
                    packed.unpack(0, x.view_mut());
                    x
                });
                Some(ValueRef::Dense(numbers.view()))
            }
        }
    }

    /// The value in 8 bits, where it is kept so.
    pub(super) fn packed(&self) -> Option<&'a PackedRows<F>> {
        match self {
            Slot::Packed(packed, _) => Some(packed),
            _ => None,
        }
    }

    /// `Xᵀ·dY`.
    pub(super) fn product_dw(&self, dy: ArrayView2<F>) -> Option<Array2<F>> {
        match self {
            Slot::None => None,
            Slot::Value(x) => Some(product_dw(x, dy)),
            Slot::Packed(packed, _) => Some(packed.product_tn(dy)),
        }
    }
}
