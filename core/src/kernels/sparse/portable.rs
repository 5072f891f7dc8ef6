//! The portable forms of the sparse kernels that have others too, and what every form reads.

use crate::kernels::epilogue::Epilogue;
use crate::scalar::Scalar;
use std::ops::Range;

/// Channels that the portable form keeps in registers: 8 registers of 4 numbers, half of what plain
/// x86-64 has.
const BLOCK: usize = 32;

/// Partial sums of the portable form, so that the compiler may use vectors.
const LANES: usize = 8;

/// The `f32` forms of one level of instructions.
pub(super) struct SparseKernels {
    /// Rows `.1` of a product, written to `.2`.
    pub(super) spmm: fn(&Spmm<f32>, Range<usize>, &mut [f32]),
    /// The dot products of edges `.1`, written to `.2`.
    pub(super) edge_dot: fn(&EdgeDot<f32>, Range<usize>, &mut [f32]),
}

/// One product: what every part of it reads.
pub(super) struct Spmm<'a, F> {
    pub(super) starts: &'a [usize],
    pub(super) cols: &'a [u32],
    pub(super) vals: &'a [F],
    pub(super) x: &'a [F],
    pub(super) width: usize,
    pub(super) epilogue: Epilogue<'a, F>,
}

impl<'a, F: Scalar> Spmm<'a, F> {
    pub(super) fn as_f32(&self) -> Option<Spmm<'a, f32>> {
        let Spmm { starts, cols, width, .. } = *self;
        Some(Spmm {
            starts,
            cols,
            vals: F::as_f32(self.vals)?,
            x: F::as_f32(self.x)?,
            width,
            epilogue: self.epilogue.as_f32()?,
        })
    }
}

/// The portable form of rows `block`.
pub(super) fn rows<F: Scalar>(job: &Spmm<F>, block: Range<usize>, y: &mut [F]) {
    for (i, y) in block.zip(y.chunks_exact_mut(job.width)) {
        let edges = job.starts[i]..job.starts[i + 1];
        let (blocks, tail) = y.as_chunks_mut::<BLOCK>();
        let first = blocks.len() * BLOCK;
        for (k, y) in blocks.iter_mut().enumerate() {
            let mut sum = if job.epilogue.add { *y } else { [F::zero(); BLOCK] };
            for (&j, &weight) in job.cols[edges.clone()].iter().zip(&job.vals[edges.clone()]) {
                let x = &job.x[j as usize * job.width + k * BLOCK..][..BLOCK];
                sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += weight * x);
            }
            *y = sum;
        }
        if !job.epilogue.add {
            tail.fill(F::zero());
        }
        if !tail.is_empty() {
            for (&j, &weight) in job.cols[edges.clone()].iter().zip(&job.vals[edges]) {
                let x = &job.x[j as usize * job.width + first..][..tail.len()];
                tail.iter_mut().zip(x).for_each(|(y, &x)| *y += weight * x);
            }
        }
        job.epilogue.apply(job.width, y);
    }
}

/// What every part of the kernel reads.
pub(super) struct EdgeDot<'a, F> {
    pub(super) starts: &'a [usize],
    pub(super) cols: &'a [u32],
    pub(super) a: &'a [F],
    pub(super) b: &'a [F],
    pub(super) width: usize,
}

impl<'a, F: Scalar> EdgeDot<'a, F> {
    pub(super) fn as_f32(&self) -> Option<EdgeDot<'a, f32>> {
        let EdgeDot { starts, cols, width, .. } = *self;
        Some(EdgeDot { starts, cols, a: F::as_f32(self.a)?, b: F::as_f32(self.b)?, width })
    }

    /// Every row that has edges within `block`, and those edges.
    pub(super) fn rows(&self, block: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let first = self.starts.partition_point(|&start| start <= block.start).saturating_sub(1);
        let bounds = self.starts[first..].windows(2).enumerate();
        let inside = {
            let block = block.clone();
            move |w: &[usize]| w[0].max(block.start)..w[1].min(block.end)
        };
        bounds
            .map(move |(k, w)| (first + k, inside(w)))
            .take_while(move |(_, edges)| edges.start < block.end)
            .filter(|(_, edges)| !edges.is_empty())
    }
}

/// The portable form of edges `block`.
pub(super) fn edges<F: Scalar>(job: &EdgeDot<F>, block: Range<usize>, out: &mut [F]) {
    let begin = block.start;
    for (i, edges) in job.rows(block) {
        let (a_blocks, a_tail) = job.a[i * job.width..][..job.width].as_chunks::<LANES>();
        for e in edges {
            let (b_blocks, b_tail) =
                job.b[job.cols[e] as usize * job.width..][..job.width].as_chunks::<LANES>();
            let mut sums = [F::zero(); LANES];
            for (a, b) in a_blocks.iter().zip(b_blocks) {
                (0..LANES).for_each(|lane| sums[lane] += a[lane] * b[lane]);
            }
            let tail: F = a_tail.iter().zip(b_tail).map(|(&a, &b)| a * b).sum();
            out[e - begin] = sums.into_iter().sum::<F>() + tail;
        }
    }
}
