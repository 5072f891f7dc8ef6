//! A map that is kept as strips of columns, so that a hop works in its memory.

use super::cx::Cx;
use crate::kernels::{self, Epilogue};
use crate::scalar::Scalar;
use crate::value::CsrView;
use ndarray::{Array2, ArrayView2, s};
use std::ops::Range;

/// Columns of a strip: four cache lines of a row that is fetched.
const COLUMNS: usize = 64;

/// A map `[n, width]` as arrays of 64 columns each, the last of which may have fewer.
///
/// A hop aggregates a strip into a spare one, which then takes its place: nothing is copied, one
/// strip stands beside the map, and rows of 64 numbers are fetched from an array that is that much
/// smaller. Its memory goes back to the system and not to the workspace, where it would stand
/// beside maps of other widths.
#[derive(Debug)]
pub(super) struct Strips<F: Scalar> {
    strips: Vec<Array2<F>>,
    shape: (usize, usize),
}

impl<F: Scalar> Strips<F> {
    /// A map whose numbers are yet to be written.
    pub(super) fn new(shape: (usize, usize)) -> Self {
        let widths = (0..shape.1).step_by(COLUMNS).map(|start| COLUMNS.min(shape.1 - start));
        Self {
            strips: widths.map(|width| kernels::buffer::zeros((shape.0, width))).collect(),
            shape,
        }
    }

    /// Rows and columns.
    pub(super) fn shape(&self) -> (usize, usize) {
        self.shape
    }

    /// Writes some rows.
    pub(super) fn write(&mut self, rows: Range<usize>, from: ArrayView2<F>) {
        let from = from.as_standard_layout();
        let from = from.as_slice().expect("a standard layout is a slice");
        for (start, strip) in (0..).step_by(COLUMNS).zip(&mut self.strips) {
            let width = strip.ncols();
            kernels::map_rows(strip.slice_mut(s![rows.clone(), ..]), |i, to| {
                to.copy_from_slice(&from[i * self.shape.1 + start..][..width]);
            });
        }
    }

    /// Some rows, in an array from the workspace.
    pub(super) fn read(&self, cx: &Cx<F>, rows: Range<usize>) -> Array2<F> {
        let parts: Vec<_> =
            self.strips.iter().map(|strip| strip.slice(s![rows.clone(), ..])).collect();
        beside(cx, &parts)
    }

    /// Some rows of `A` times the map, in an array from the workspace.
    pub(super) fn aggregated(&self, cx: &Cx<F>, a: CsrView<F>, rows: Range<usize>) -> Array2<F> {
        let some = a.slice_outer(rows);
        let parts: Vec<Array2<F>> = self
            .strips
            .iter()
            .map(|strip| {
                let mut part = cx.take((some.rows(), strip.ncols()));
                kernels::spmm(some.view(), strip.view(), part.view_mut());
                part
            })
            .collect();
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        let all = beside(cx, &views);
        parts.into_iter().for_each(|part| cx.give(part));
        all
    }

    /// `X ← A·X + b` for a square `A`.
    pub(super) fn hop(&mut self, a: CsrView<F>, bias: Option<&[F]>) {
        let mut spare: Option<Array2<F>> = None;
        for (start, strip) in (0..).step_by(COLUMNS).zip(&mut self.strips) {
            let fits = spare.take().filter(|spare| spare.dim() == strip.dim());
            let mut next = fits.unwrap_or_else(|| kernels::buffer::zeros(strip.dim()));
            let bias = bias.map(|bias| &bias[start..][..strip.ncols()]);
            let epilogue = Epilogue { bias, ..Epilogue::NONE };
            kernels::spmm_then(a.view(), strip.view(), next.view_mut(), epilogue);
            std::mem::swap(strip, &mut next);
            spare = Some(next);
        }
    }

    /// Sums of the columns, `[1, width]`.
    pub(super) fn column_sums(&self) -> Array2<F> {
        let mut sums = Array2::zeros((1, self.shape.1));
        let all = sums.as_slice_mut().expect("a new array is contiguous");
        for (to, strip) in all.chunks_mut(COLUMNS).zip(&self.strips) {
            kernels::column_sums(strip.view(), to);
        }
        sums
    }

    /// The map as one array.
    pub(super) fn into_array(mut self) -> Array2<F> {
        if self.strips.len() == 1 {
            return self.strips.remove(0);
        }
        let mut all = kernels::buffer::zeros(self.shape);
        let parts: Vec<_> = self.strips.iter().map(|part| part.view()).collect();
        join(&parts, &mut all);
        all
    }
}

/// Parts side by side, in an array from the workspace.
fn beside<F: Scalar>(cx: &Cx<F>, parts: &[ArrayView2<F>]) -> Array2<F> {
    let width = parts.iter().map(ArrayView2::ncols).sum();
    let mut all = cx.take((parts.first().map_or(0, ArrayView2::nrows), width));
    join(parts, &mut all);
    all
}

fn join<F: Scalar>(parts: &[ArrayView2<F>], all: &mut Array2<F>) {
    let parts: Vec<_> = parts.iter().map(|part| part.as_slice().expect("whole rows")).collect();
    let rows = all.nrows().max(1);
    kernels::map_rows(all.view_mut(), |i, mut to| {
        for part in &parts {
            let width = part.len() / rows;
            let (own, rest) = to.split_at_mut(width);
            own.copy_from_slice(&part[i * width..][..width]);
            to = rest;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{AdjacencyNorm, Graph};
    use ndarray::{Axis, concatenate};

    #[test]
    fn strips_are_read_written_and_aggregated_as_the_whole_is_to_the_bit() {
        let edges = (0..40usize).flat_map(|i| [(i, (i + 1) % 40), (i, i * 7 % 40)]);
        let graph = Graph::<f32>::builder(40).edges(edges).build().unwrap();
        let operator = graph.operator(AdjacencyNorm::Symmetric).unwrap();
        let cx = Cx::<f32>::without_graph();
        for width in [1, 40, 64, 70, 200] {
            let x =
                Array2::from_shape_fn((40, width), |(i, c)| ((i * 31 + c * 7) % 23) as f32 - 9.0);
            let bias: Vec<f32> = (0..width).map(|c| c as f32).collect();
            let mut strips = Strips::new(x.dim());
            assert_eq!(strips.shape(), x.dim());
            for rows in [0..15, 15..40] {
                strips.write(rows.clone(), x.slice(s![rows, ..]));
            }
            assert_eq!(strips.read(&cx, 3..21), x.slice(s![3..21, ..]));
            let mut expected = Array2::zeros(x.dim());
            kernels::spmm(operator.forward(), x.view(), expected.view_mut());
            let parts =
                [0..17, 17..40].map(|rows| strips.aggregated(&cx, operator.forward(), rows));
            let all = concatenate(Axis(0), &[parts[0].view(), parts[1].view()]).unwrap();
            assert_eq!(all, expected);
            strips.hop(operator.forward(), Some(&bias));
            let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::NONE };
            kernels::spmm_then(operator.forward(), x.view(), expected.view_mut(), epilogue);
            assert_eq!(strips.into_array(), expected, "{width}");
        }
    }
}
