//! A weight that is packed once and multiplied often.

use super::levels::gemm;
use super::packed::Panels;
use crate::kernels::buffer;
use crate::kernels::simd::Isa;
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};

/// A weight `[in, out]` in the form in which products read it fastest; made once, multiplied often.
#[derive(Debug, Clone)]
pub struct PackedWeight<F> {
    pub(super) plain: Array2<F>,
    pub(super) panels: Option<Panels>,
}

impl<F: Scalar> PackedWeight<F> {
    /// Packs a weight of shape `[in, out]`.
    pub fn new(w: ArrayView2<F>) -> Self {
        let plain = buffer::copied(w);
        let kernel = gemm(Isa::best());
        let panels = kernel.zip(plain.as_slice().and_then(F::as_f32)).map(|(kernel, numbers)| {
            let mut panels = Panels::default();
            panels.pack(kernel, numbers, plain.dim(), (plain.ncols(), 1));
            panels
        });
        Self { plain, panels }
    }

    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        self.plain.dim()
    }

    /// The weight itself.
    pub fn view(&self) -> ArrayView2<'_, F> {
        self.plain.view()
    }
}
