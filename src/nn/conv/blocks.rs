//! Matrices that are diagonals of blocks, each from a part of the input to a part of the output.

use crate::kernels;
use crate::nn::{Kept, PruneUnits};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use std::ops::Range;

/// How many blocks a matrix `[in, out]` has, a divisor of both; it is stored as `[in, out/blocks]`,
/// block below block.
///
/// *Source*: Schlichtkrull et al., ESWC 2018, eq. 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blocks(pub(super) usize);

impl Blocks {
    /// Where block `b` lies along an axis of so many channels.
    fn block(self, b: usize, channels: usize) -> Range<usize> {
        let each = channels / self.0;
        b * each..(b + 1) * each
    }

    /// The rows and columns of each block.
    fn each(
        self,
        inputs: usize,
        outputs: usize,
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        (0..self.0).map(move |b| (self.block(b, inputs), self.block(b, outputs)))
    }

    /// `Y = X·W`.
    pub(super) fn multiply<F: Scalar>(
        self,
        x: ArrayView2<F>,
        w: ArrayView2<F>,
        mut y: ArrayViewMut2<F>,
    ) {
        for (from, to) in self.each(x.ncols(), y.ncols()) {
            let w = w.slice(s![from.clone(), ..]);
            kernels::matmul(x.slice(s![.., from]), w, y.slice_mut(s![.., to]));
        }
    }

    /// `dX = dY·Wᵀ`.
    pub(super) fn multiply_back<F: Scalar>(
        self,
        dy: ArrayView2<F>,
        w: ArrayView2<F>,
        mut dx: ArrayViewMut2<F>,
    ) {
        for (from, to) in self.each(dx.ncols(), dy.ncols()) {
            let w = w.slice(s![from.clone(), ..]);
            kernels::matmul_nt(dy.slice(s![.., to]), w, dx.slice_mut(s![.., from]));
        }
    }

    /// `dW = Xᵀ·dY`, of which only the blocks are there.
    pub(super) fn gradient<F: Scalar>(self, x: ArrayView2<F>, dy: ArrayView2<F>) -> Array2<F> {
        let mut dw = Array2::zeros((x.ncols(), dy.ncols() / self.0));
        for (from, to) in self.each(x.ncols(), dy.ncols()) {
            let dw = dw.slice_mut(s![from.clone(), ..]);
            kernels::matmul_tn(x.slice(s![.., from]), dy.slice(s![.., to]), dw);
        }
        dw
    }

    /// `[in, out]`, with the zeros beside the blocks.
    pub(super) fn whole<F: Scalar>(self, w: Array2<F>) -> Array2<F> {
        if self.0 == 1 {
            return w;
        }
        let mut whole = Array2::zeros((w.nrows(), w.ncols() * self.0));
        for (from, to) in self.each(whole.nrows(), whole.ncols()) {
            whole.slice_mut(s![from.clone(), to]).assign(&w.slice(s![from, ..]));
        }
        whole
    }

    /// The blocks of a matrix `[in, out]`.
    pub(super) fn of_whole<F: Scalar>(self, whole: Array2<F>) -> Array2<F> {
        if self.0 == 1 {
            return whole;
        }
        let mut w = Array2::zeros((whole.nrows(), whole.ncols() / self.0));
        for (from, to) in self.each(whole.nrows(), whole.ncols()) {
            w.slice_mut(s![from.clone(), ..]).assign(&whole.slice(s![from, to]));
        }
        w
    }

    /// Blocks stay of one size: channels at one place of all of them go together.
    pub(super) fn units(self) -> PruneUnits {
        match self.0 {
            1 => PruneUnits::Single,
            heads => PruneUnits::AcrossHeads { heads },
        }
    }

    /// Whether the channels that are kept are at the same places of all blocks.
    pub(super) fn fit(self, kept: &Kept) -> bool {
        let alike = |kept: &[usize], width: usize| {
            let places = |b: usize| {
                let block = self.block(b, width);
                let own = kept.iter().filter(move |c| block.contains(c));
                own.map(move |c| c - self.block(b, width).start)
            };
            (1..self.0).all(|b| places(b).eq(places(0)))
        };
        let inputs = kept.inputs.iter().zip(&kept.in_widths);
        inputs.clone().all(|(kept, &width)| alike(kept, width))
            && alike(&kept.output, kept.out_width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn a_product_with_blocks_is_that_with_the_zeros_beside_them() {
        let (blocks, w) = (Blocks(2), array![[1.0], [2.0], [3.0], [4.0]]);
        let whole = blocks.whole(w.clone());
        assert_eq!(whole, array![[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [0.0, 4.0]]);
        assert_eq!(blocks.of_whole(whole.clone()), w);
        let (x, dy) =
            (array![[1.0, 0.5, -1.0, 2.0], [0.0, 3.0, 1.0, 1.0]], array![[1.0, 2.0], [3.0, -1.0]]);
        let (mut y, mut dx) = (Array2::zeros((2, 2)), Array2::zeros((2, 4)));
        blocks.multiply(x.view(), w.view(), y.view_mut());
        blocks.multiply_back(dy.view(), w.view(), dx.view_mut());
        assert_eq!((y, dx), (x.dot(&whole), dy.dot(&whole.t())));
        assert_eq!(blocks.gradient(x.view(), dy.view()), blocks.of_whole(x.t().dot(&dy)));
    }

    #[test]
    fn only_channels_at_one_place_of_all_blocks_fit() {
        let kept = |input: &[usize], output: &[usize]| Kept {
            inputs: vec![input.to_vec()],
            in_widths: vec![6],
            output: output.to_vec(),
            out_width: 4,
            hidden: Vec::new(),
        };
        assert!(Blocks(2).fit(&kept(&[0, 2, 3, 5], &[1, 3])));
        assert!(!Blocks(2).fit(&kept(&[0, 2, 3, 4], &[1, 3])));
        assert!(!Blocks(2).fit(&kept(&[0, 3], &[0, 1])));
        assert!(Blocks(1).fit(&kept(&[0, 4], &[2])));
    }
}
