//! What products and sums do to a result on its way out.

use super::elementwise::relu;
use crate::scalar::Scalar;

/// What is added to a product and applied to it on the way out.
#[derive(Debug, Clone, Copy)]
pub struct Epilogue<'a, F> {
    /// One number per column, added to every row.
    pub bias: Option<&'a [F]>,
    /// Whether negative numbers become zero.
    pub relu: bool,
    /// Whether the product is added to what stands in the output.
    pub add: bool,
}

impl<F> Epilogue<'_, F> {
    /// The bare product.
    pub const NONE: Self = Epilogue { bias: None, relu: false, add: false };
}

impl<'a, F: Scalar> Epilogue<'a, F> {
    pub(super) fn as_f32(&self) -> Option<Epilogue<'a, f32>> {
        let bias = self.bias.map(|bias| F::as_f32(bias).ok_or(()));
        Some(Epilogue { bias: bias.transpose().ok()?, relu: self.relu, add: self.add })
    }

    /// Does to rows of `width` numbers what the fast form does in registers; `add` is not its
    /// business.
    pub(super) fn apply(&self, width: usize, y: &mut [F]) {
        if self.bias.is_none() && !self.relu {
            return;
        }
        for row in y.chunks_exact_mut(width) {
            if let Some(bias) = self.bias {
                row.iter_mut().zip(bias).for_each(|(y, &b)| *y += b);
            }
            if self.relu {
                row.iter_mut().for_each(|y| *y = relu(*y));
            }
        }
    }
}
