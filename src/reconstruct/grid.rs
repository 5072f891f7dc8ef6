//! The numbers that integers of some width stand for.

use crate::kernels::symmetric_scale;

/// Integers in ±`most`, times a scale.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    most: i8,
}

/// Scales that are tried: the largest magnitude stands for the largest integer, and that times a
/// factor down to where clipping costs more than finer steps win. The fewer integers there are, the
/// further down that is.
const TRIED: [(i8, f64, i32); 3] = [(1, 0.88, 17), (7, 0.93, 11), (127, 0.97, 4)];

impl Grid {
    /// Integers in ±`most`.
    pub(crate) fn new(most: i8) -> Self {
        Self { most }
    }

    /// The largest integer.
    pub(crate) fn most(self) -> i8 {
        self.most
    }

    /// Factors of the largest magnitude, 1 first.
    pub(crate) fn shrinks(self) -> impl Iterator<Item = f64> {
        let &(_, factor, count) =
            TRIED.iter().find(|(most, ..)| *most >= self.most).unwrap_or(&TRIED[2]);
        (0..count).map(move |k| factor.powi(k))
    }

    /// The scale, in `f32` as it is stored, at which `range` stands for the largest integer; 1 for
    /// a range of zero.
    pub(crate) fn scale(self, range: f64) -> f64 {
        f64::from(symmetric_scale(range as f32, self.most))
    }

    /// The number on the grid that is nearest to `v`.
    pub(super) fn nearest(self, v: f64, scale: f64) -> f64 {
        let most = f64::from(self.most);
        (v / scale).round_ties_even().clamp(-most, most) * scale
    }
}
