//! Sums of matrices with a weight each: what joins branches of a network.

use crate::kernels::blocks::{CHUNK, Cut, for_row_blocks, update_rows};
use crate::kernels::epilogue::Epilogue;
use crate::scalar::Scalar;
use crate::value::ValueRef;
use ndarray::{ArrayViewMut2, CowArray, Ix2};

/// `y = Σ_k a_k·x_k`, added from the first term to the last, then what the epilogue says; in one
/// pass, in parallel where there is enough to do.
///
/// *Shapes*: all `[n, c]`, one weight per term.
///
/// # Panics
/// If the shapes do not fit, or there is no term.
pub fn weighted_sum<F: Scalar>(
    xs: &[ValueRef<F>],
    weights: &[F],
    y: ArrayViewMut2<F>,
    epilogue: Epilogue<F>,
) {
    let (rows, width) = y.dim();
    assert!(
        !xs.is_empty() && xs.len() == weights.len(),
        "weighted_sum: {} terms, {} weights",
        xs.len(),
        weights.len()
    );
    assert!(
        xs.iter().all(|x| x.shape() == (rows, width)),
        "weighted_sum: terms of {:?}",
        (rows, width)
    );
    assert!(
        epilogue.bias.is_none_or(|bias| bias.len() == width),
        "weighted_sum: one bias per column"
    );
    if rows == 0 || width == 0 {
        return;
    }
    let xs: Vec<CowArray<F, Ix2>> = xs.iter().map(standard).collect();
    let xs: Vec<&[F]> = xs.iter().map(|x| x.as_slice().expect("in standard layout")).collect();
    added_up(&xs, weights, y, epilogue);
}

crate::scalar::compiled_here! {
    fn added_up<F>(xs: &'a [&'a [F]], weights: &'a [F], y: ArrayViewMut2<'a, F>, epilogue: Epilogue<'a, F>) = added_up_any
}

/// [`weighted_sum`] of terms that lie row by row.
fn added_up_any<F: Scalar>(xs: &[&[F]], weights: &[F], y: ArrayViewMut2<F>, epilogue: Epilogue<F>) {
    let (rows, width) = y.dim();
    let cut = Cut::Even { rows, height: CHUNK.div_ceil(width) };
    update_rows(y, |y| {
        for_row_blocks(y, width, cut, rows * width * xs.len(), |block, y| {
            let part = block.start * width..block.end * width;
            for (k, (&a, x)) in weights.iter().zip(xs).enumerate() {
                let pairs = y.iter_mut().zip(&x[part.clone()]);
                if k > 0 || epilogue.add {
                    pairs.for_each(|(y, &x)| *y += a * x);
                } else {
                    pairs.for_each(|(y, &x)| *y = a * x);
                }
            }
            epilogue.apply(width, y);
        });
    });
}

/// The dense form with its rows one after the other, copied only where it is another.
fn standard<'x, F: Scalar>(x: &ValueRef<'x, F>) -> CowArray<'x, F, Ix2> {
    match x {
        ValueRef::Dense(x) if x.is_standard_layout() => (*x).into(),
        ValueRef::Dense(x) => x.as_standard_layout().into_owned().into(),
        x => x.to_dense().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::{assert_same_in_all_pools, dense};
    use crate::value::Csr;
    use ndarray::{Array2, ArrayView2, ShapeBuilder};

    /// One number after the other, as the formula says.
    fn expected(
        terms: &[(f32, ArrayView2<f32>)],
        before: &Array2<f32>,
        epilogue: Epilogue<f32>,
    ) -> Array2<f32> {
        Array2::from_shape_fn(before.dim(), |at| {
            let begin = if epilogue.add { before[at] } else { 0.0 };
            let sum = terms.iter().fold(begin, |sum, (a, x)| sum + a * x[at])
                + epilogue.bias.map_or(0.0, |bias| bias[at.1]);
            if epilogue.relu { sum.max(0.0) } else { sum }
        })
    }

    #[test]
    fn sums_are_the_formula_in_every_layout_and_with_every_epilogue() {
        for (rows, width) in [(0, 3), (3, 0), (1, 1), (5, 7), (700, 33), (9000, 2)] {
            let (a, b) = (dense::<f32>(rows, width, 1), dense::<f32>(rows, width, 2));
            let by_columns = {
                let mut other = Array2::zeros((rows, width).f());
                other.assign(&b);
                other
            };
            let sparse = Csr::csr_from_dense(a.view(), 0.0);
            let bias: Vec<f32> = (0..width).map(|c| c as f32 - 1.5).collect();
            for case in 0..8 {
                let epilogue = Epilogue {
                    bias: (case & 1 > 0).then_some(&bias[..]),
                    relu: case & 2 > 0,
                    add: case & 4 > 0,
                };
                let terms = [(0.5, a.view()), (-2.0, b.view()), (1.0, a.view())];
                let expected = expected(&terms, &b, epilogue);
                let xs = [
                    ValueRef::Dense(a.view()),
                    ValueRef::Dense(by_columns.view()),
                    ValueRef::Sparse(sparse.view()),
                ];
                let mut y = b.clone();
                weighted_sum(&xs, &[0.5, -2.0, 1.0], y.view_mut(), epilogue);
                assert_eq!(y, expected, "{rows}x{width} case {case}");
            }
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        let (a, b) = (dense::<f32>(5000, 33, 1), dense::<f32>(5000, 33, 2));
        assert_same_in_all_pools(|| {
            let mut y = Array2::zeros(a.dim());
            weighted_sum(
                &[ValueRef::Dense(a.view()), ValueRef::Dense(b.view())],
                &[0.3, 0.7],
                y.view_mut(),
                Epilogue { relu: true, ..Epilogue::NONE },
            );
            y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        });
    }
}
