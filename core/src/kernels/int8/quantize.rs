//! From real numbers to 8-bit integers.

use super::levels::kernels;
use super::round::{ColumnScales, max_abs};
use crate::kernels::blocks::{Cut, blocks_by_nonzeros, for_row_blocks, parts_for, run};
use crate::kernels::simd::Isa;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Quantises rows of real numbers with a scale each: `s_i = max|x_i| / qmax`,
/// `q = round_ties_even(x / s_i)`.
///
/// *Shapes*: `starts: [n + 1]`, from 0; `x`, `q: [starts[n]]`; `scales: [n]`. A row that is not
/// finite gets a scale that is not finite.
///
/// # Panics
/// If the lengths do not fit.
pub fn quantize_rows(starts: &[usize], x: &[f32], qmax: i8, q: &mut [i8], scales: &mut [f32]) {
    let rows = scales.len();
    assert!(
        starts.len() == rows + 1 && starts[rows] == x.len() && x.len() == q.len(),
        "quantize_rows: {rows} rows, {} numbers",
        x.len()
    );
    let row = kernels(Isa::best()).quantize_row;
    for (scale, ends) in scales.iter_mut().zip(starts.windows(2)) {
        *scale = row(&x[ends[0]..ends[1]], qmax, &mut q[ends[0]..ends[1]]);
    }
}

/// Numbers of a block of rows that a thread quantises.
const BLOCK: usize = 1 << 15;

/// Quantises `x: [n, width]` with a scale per column: `q_ic = round_ties_even(x_ic / s_c)` clamped.
/// Returns the first row with an entry that is not finite, if there is one; the integers then mean
/// nothing.
///
/// # Panics
/// If the lengths do not fit.
pub fn quantize_columns(isa: Isa, x: &[f32], by: &ColumnScales, q: &mut [i8]) -> Option<usize> {
    let width = by.scales.len().max(1);
    assert!(
        x.len() == q.len() && x.len().is_multiple_of(width),
        "quantize_columns: {} numbers in rows of {width}",
        x.len()
    );
    let first = AtomicUsize::new(usize::MAX);
    let row = kernels(isa).quantize_columns;
    let cut = Cut::Even { rows: x.len() / width, height: BLOCK.div_ceil(width) };
    for_row_blocks(q, width, cut, x.len(), |block, q| {
        for (i, q) in block.zip(q.chunks_exact_mut(width)) {
            if !row(&x[i * width..][..width], by, q) {
                first.fetch_min(i, Ordering::Relaxed);
            }
        }
    });
    Some(first.into_inner()).filter(|&i| i != usize::MAX)
}

/// The first row with an entry that is not finite, if there is one.
///
/// # Panics
/// If `starts` leads past the end of `x`.
pub fn first_not_finite(starts: &[usize], x: &[f32]) -> Option<usize> {
    let blocks = blocks_by_nonzeros(starts, parts_for(x.len()));
    let first = |block: Range<usize>| {
        let numbers = &x[starts[block.start]..starts[block.end]];
        let bad = |i: &usize| x[starts[*i]..starts[i + 1]].iter().any(|v| !v.is_finite());
        if max_abs(numbers) < f32::INFINITY { None } else { block.clone().find(bad) }
    };
    run(blocks, x.len(), first).into_iter().flatten().next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{cases, reference};

    #[test]
    fn every_level_quantises_a_row_to_the_same_bits() {
        for len in cases::widths().chain([0]) {
            let x = cases::dense::<f32>(1, len, 1).into_raw_vec_and_offset().0;
            let max = x.iter().fold(0.0f32, |max, v| max.max(v.abs()));
            for (isa, qmax) in Isa::ALL
                .into_iter()
                .filter(|isa| isa.available())
                .flat_map(|isa| [(isa, 127), (isa, 7)])
            {
                let mut q = vec![99; len];
                let scale = (kernels(isa).quantize_row)(&x, qmax, &mut q);
                assert_eq!(
                    scale,
                    if len == 0 { 1.0 } else { max / f32::from(qmax) },
                    "{isa:?} of {len}"
                );
                let expected: Vec<i8> =
                    x.iter().map(|&v| reference::requantize(v, scale, qmax)).collect();
                assert_eq!(q, expected, "{isa:?} of {len}");
            }
        }
    }

    #[test]
    fn every_level_quantises_columns_to_the_same_bits_and_finds_what_is_not_finite() {
        for (rows, width) in [(1, 1), (3, 7), (40, 33), (0, 5)] {
            let mut x = cases::dense::<f32>(rows, width, 1).into_raw_vec_and_offset().0;
            // Some are far past the largest integer.
            x.iter_mut().step_by(5).for_each(|v| *v *= 1e30);
            for (qmax, tiny) in [(127, 1.0), (7, 1.0), (127, 1e-37)] {
                let by = ColumnScales::new(
                    (0..width).map(|c| (c as f32 + 0.3) / 99.0 * tiny).collect(),
                    qmax,
                );
                let expected: Vec<i8> = x
                    .iter()
                    .enumerate()
                    .map(|(k, &v)| reference::requantize(v, by.scales()[k % width], qmax))
                    .collect();
                for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                    let mut q = vec![99; x.len()];
                    assert_eq!(quantize_columns(isa, &x, &by, &mut q), None);
                    assert_eq!(q, expected, "{isa:?} {rows}x{width} {tiny}");
                }
            }
        }
        let by = ColumnScales::new(vec![1.0; 2], 127);
        let x = [0.0, 1.0, 2.0, f32::INFINITY, f32::NAN, 0.0];
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            assert_eq!(quantize_columns(isa, &x, &by, &mut [0; 6]), Some(1));
        }
        assert_eq!(first_not_finite(&[0, 0, 3, 4, 6], &x), Some(2));
        assert_eq!(first_not_finite(&[0, 2, 3], &x[..3]), None);
    }

    #[test]
    fn rows_are_quantised_by_their_own_largest_magnitude() {
        let x = [1.0, -0.5, 0.0, 0.0, 3.0, f32::NAN];
        let (mut q, mut scales) = ([9; 6], [0.0; 5]);
        quantize_rows(&[0, 2, 2, 4, 5, 6], &x, 127, &mut q, &mut scales);
        assert_eq!(
            (&q[..5], &scales[..4]),
            (&[127, -64, 0, 0, 127][..], &[1.0 / 127.0, 1.0, 1.0, 3.0 / 127.0][..])
        );
        assert!(scales[4].is_nan());
    }
}
