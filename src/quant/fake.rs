//! The fake quantiser: real numbers rounded to a grid, with a straight-through gradient.

use super::bits::Bits;
use crate::kernels::{max_abs, symmetric_scale};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis};

/// What shares a scale, and whether zero may lie off the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Granularity {
    /// `s = max|w| / (2^{b−1} − 1)` over the tensor, integers in ±`(2^{b−1} − 1)`.
    SymmetricTensor,
    /// The same over each column: the output channels of a weight `[in, out]`.
    SymmetricColumn,
    /// The same over each row: the nodes of features `[n, c]`.
    SymmetricRow,
    /// `lo = min(w, 0)`, `hi = max(w, 0)`, `s = (hi − lo) / (2^b − 1)`, `zero = round(−lo / s)`,
    /// integers in `0 … 2^b − 1`.
    AffineTensor,
}

/// Rounds to the numbers that integers of 2, 4 or 8 bits can stand for: `real = s·(int − zero)`
/// with `int = round_ties_even(w/s) + zero`, clamped.
///
/// The gradient is straight through: 1 where the integer was not clamped, else 0. An all-zero
/// tensor stays as it is.
///
/// *Shapes*: `[rows, columns]` in and out.
///
/// *Source*: Jacob et al., "Quantization and Training of Neural Networks", CVPR 2018, eq. 1 and 12;
/// the gradient by Bengio et al. 2013.
///
/// ```
/// use gnn_prune::{Bits, ndarray::array, quant::{FakeQuant, Granularity}};
/// let fake = FakeQuant::new(Bits::Four, Granularity::SymmetricTensor);
/// assert_eq!(fake.forward(array![[0.7, -0.33]].view()), array![[0.7, -0.3]]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FakeQuant {
    bits: Bits,
    granularity: Granularity,
}

/// The numbers that integers stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    scale: f32,
    zero: f32,
    low: f32,
    high: f32,
}

impl Grid {
    /// Integers in ±`most`, the largest for the magnitude `range`.
    pub(super) fn symmetric(range: f32, bits: Bits) -> Self {
        let most = f32::from(bits.most());
        Self { scale: symmetric_scale(range, bits.most()), zero: 0.0, low: -most, high: most }
    }

    fn affine(values: impl Iterator<Item = f32>, bits: Bits) -> Self {
        let (lo, hi) = values.fold((0.0f32, 0.0f32), |(lo, hi), v| (lo.min(v), hi.max(v)));
        let high = ((1u32 << bits.count()) - 1) as f32;
        let scale = if hi > lo { (hi - lo) / high } else { 1.0 };
        Self { scale, zero: (-lo / scale).round_ties_even(), low: 0.0, high }
    }

    fn int(self, w: f32) -> f32 {
        (w / self.scale).round_ties_even() + self.zero
    }

    pub(super) fn round(self, w: f32) -> f32 {
        (self.int(w).clamp(self.low, self.high) - self.zero) * self.scale
    }

    pub(super) fn passes(self, w: f32) -> bool {
        let int = self.int(w);
        int >= self.low && int <= self.high
    }
}

impl FakeQuant {
    /// A quantiser of that many bits.
    pub fn new(bits: Bits, granularity: Granularity) -> Self {
        Self { bits, granularity }
    }

    /// The rounded numbers, in the shape of `w`.
    pub fn forward(&self, w: ArrayView2<f32>) -> Array2<f32> {
        let mut y = w.to_owned();
        self.each(w, y.view_mut(), |grid, w, y| *y = grid.round(w));
        y
    }

    /// The gradient by `w`, given `dy`, the gradient by the rounded numbers.
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn backward(&self, w: ArrayView2<f32>, dy: ArrayView2<f32>) -> Array2<f32> {
        assert_eq!(w.dim(), dy.dim(), "a gradient has the shape of its tensor");
        let mut dw = dy.to_owned();
        self.each(w, dw.view_mut(), |grid, w, dw| {
            if !grid.passes(w) {
                *dw = 0.0;
            }
        });
        dw
    }

    fn each(&self, w: ArrayView2<f32>, mut y: ArrayViewMut2<f32>, f: impl Fn(Grid, f32, &mut f32)) {
        let tensor =
            |grid: Grid, mut y: ArrayViewMut2<f32>| y.zip_mut_with(&w, |y, &w| f(grid, w, y));
        let axis = match self.granularity {
            Granularity::SymmetricTensor => {
                let all: Vec<f32> = w.iter().copied().collect();
                return tensor(Grid::symmetric(max_abs(&all), self.bits), y);
            }
            Granularity::AffineTensor => {
                return tensor(Grid::affine(w.iter().copied(), self.bits), y);
            }
            Granularity::SymmetricColumn => Axis(1),
            Granularity::SymmetricRow => Axis(0),
        };
        for (w, mut y) in w.axis_iter(axis).zip(y.axis_iter_mut(axis)) {
            let grid = Grid::symmetric(max_abs(&w.to_vec()), self.bits);
            y.zip_mut_with(&w, |y, &w| f(grid, w, y));
        }
    }
}
