//! Standardising rows: what layer normalisation computes, in training and in programs.

use crate::kernels;
use crate::scalar::Scalar;
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2};

/// `X̂` with mean 0 and variance 1 over the channels of each row, or over all entries.
///
/// Per row `x̂ = (x − μ) / sqrt(σ² + 1e-5)`, over all `x̂ = (x − μ) / (σ + 1e-5)`. Channels that
/// are left out count nowhere and become 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowNorm {
    channels: Vec<usize>,
    over_all: bool,
}

impl RowNorm {
    /// Added to the variance of a row, or to the deviation of all.
    pub(super) const EPS: f64 = 1e-5;

    /// Over these channels of each row.
    pub fn per_row(channels: Vec<usize>) -> Self {
        Self { channels, over_all: false }
    }

    /// Over these channels of all rows together.
    pub fn over_all(channels: Vec<usize>) -> Self {
        Self { channels, over_all: true }
    }

    /// The channels that count.
    pub fn channels(&self) -> &[usize] {
        &self.channels
    }

    /// Mean and inverse deviation of each row, or of all.
    pub(super) fn statistics<F: Scalar>(&self, x: ArrayView2<F>) -> Vec<(F, F)> {
        let channels = &self.channels;
        if self.over_all {
            let count = F::of((channels.len() * x.nrows()).max(1) as f64);
            let total = |x: ArrayView2<F>| {
                let mut sums = vec![F::zero(); x.ncols()];
                kernels::column_sums(x, &mut sums);
                channels.iter().map(|&c| sums[c]).sum::<F>()
            };
            let mean = total(x) / count;
            let variance = total(x.mapv(|x| (x - mean) * (x - mean)).view()) / count;
            return vec![(mean, (variance.sqrt() + F::of(Self::EPS)).recip())];
        }
        let count = F::of(channels.len() as f64);
        let of_row = |row: ArrayView1<F>| {
            let mean = channels.iter().map(|&c| row[c]).sum::<F>() / count;
            let variance =
                channels.iter().map(|&c| (row[c] - mean) * (row[c] - mean)).sum::<F>() / count;
            (mean, (variance + F::of(Self::EPS)).sqrt().recip())
        };
        x.outer_iter().map(of_row).collect()
    }

    /// `X̂`, given the statistics.
    pub(super) fn hat<F: Scalar>(
        &self,
        x: ArrayView2<F>,
        statistics: &[(F, F)],
        mut hat: ArrayViewMut2<F>,
    ) {
        hat.fill(F::zero());
        kernels::map_rows(hat, |i, row| {
            let (mean, inverse) = statistics[if self.over_all { 0 } else { i }];
            self.channels.iter().for_each(|&c| row[c] = (x[[i, c]] - mean) * inverse);
        });
    }

    /// `Y = X̂·w`.
    pub(crate) fn scaled<F: Scalar>(
        &self,
        x: ArrayView2<F>,
        weight: &[F],
        mut y: ArrayViewMut2<F>,
    ) {
        self.hat(x, &self.statistics(x), y.view_mut());
        kernels::map_rows(y, |_, row| row.iter_mut().zip(weight).for_each(|(y, &w)| *y *= w));
    }
}
