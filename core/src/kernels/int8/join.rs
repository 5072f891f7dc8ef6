//! Joins of integers of different scales: sums of branches, and columns beside each other.

use super::finish::{Activate, Out, for_blocks};
use super::levels::kernels;
use super::portable::{JoinJob, Term};
use crate::kernels::blocks::Cut;
use crate::kernels::simd::Isa;

/// Numbers of a block of rows of a join.
const JOIN_NUMBERS: usize = 1 << 14;

/// Joins integers of different scales: `y = Σ_k q_k·col_k`, added from the first term to the last,
/// then bias, activation and [`Out`].
///
/// The join is a requantisation like [`Finish`](super::Finish), with a sum of scaled integers in
/// the place of the scaled accumulator.
///
/// *Shapes*: every term `[n, width]`; the output's columns `place..place + width` of
/// `[n, out_width]` are written.
///
/// # Panics
/// If the shapes do not fit.
pub fn join_int8(
    terms: &[Term],
    bias: Option<&[f32]>,
    activate: Activate,
    out: Out,
    out_width: usize,
    place: usize,
) {
    join_int8_with(Isa::best(), terms, bias, activate, out, out_width, place);
}

/// [`join_int8`] with the instructions of one level.
///
/// # Panics
/// As [`join_int8`], and if the processor does not have the level.
#[doc(hidden)]
pub fn join_int8_with(
    isa: Isa,
    terms: &[Term],
    bias: Option<&[f32]>,
    activate: Activate,
    out: Out,
    out_width: usize,
    place: usize,
) {
    let width = terms[0].cols.len();
    assert!(
        terms.iter().all(|term| term.cols.len() == width && term.data.len() == terms[0].data.len()),
        "join_int8: terms differ in shape"
    );
    assert!(
        place + width <= out_width && out.len() * width == terms[0].data.len() * out_width,
        "join_int8: output"
    );
    assert!(bias.is_none_or(|bias| bias.len() == width), "join_int8: one bias per column");
    if width == 0 || out.len() == 0 {
        return;
    }
    let rows = out.len() / out_width;
    let cut = Cut::Even { rows, height: JOIN_NUMBERS.div_ceil(width) };
    let job = JoinJob { terms, bias, activate, out_width, place };
    let kernels = kernels(isa);
    for_blocks(out, out_width, cut, terms.len() * rows * width, |block, out| {
        (kernels.join)(&job, block, out)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_add_in_order_and_leave_other_columns_alone() {
        let (a, b) = ([1, 2, 3, 4], [10, 20, 30, 40]);
        let mut y = [9i8; 6];
        let terms = [Term { data: &a, cols: &[1.0, 2.0] }, Term { data: &b, cols: &[0.5, -0.5] }];
        join_int8(
            &terms,
            Some(&[0.0, 1.0]),
            Activate::Relu,
            Out::Int { data: &mut y, scale: 1.0, qmax: 127 },
            3,
            1,
        );
        assert_eq!(y, [9, 6, 0, 9, 18, 0]);
    }
}
