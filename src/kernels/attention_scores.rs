//! The two ways in which edges are scored: from a number of each end (GAT), and from both ends' channels (GATv2).

use super::attention::{Edge, Own, Row, Scores, add_heads, dot, fetch};
use super::rows::{SERIAL_WORK, blocks_of, map_rows};
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

/// Rows whose sum one part of [`head_sums`] takes. A constant, so that the bits do not depend on the number of threads.
const SUM_ROWS: usize = 1024;

#[inline(always)]
fn leaky<F: Scalar>(v: F, slope: F) -> F {
    if v > F::zero() { v } else { v * slope }
}

/// Derivative of [`leaky`] at a point of the same sign.
#[inline]
fn slope_at<F: Scalar>(v: F, slope: F) -> F {
    if v > F::zero() { F::one() } else { slope }
}

/// `s_ijh = leaky(p_jh + q_ih + r_eh)`, with `p = a_source·z`, `q = a_target·z` a head.
///
/// A source's own gradient is `dp`, a target's `dq`, `[n, heads]` both; those left for the sources are `dr`.
#[derive(Debug, Clone, Copy)]
pub struct AdditiveScores<'a, F> {
    /// `p: [n, heads]`.
    pub source: &'a [F],
    /// `q: [n, heads]`.
    pub target: &'a [F],
    /// `r: [edges, heads]`.
    pub edge: Option<&'a [F]>,
    /// `a_source: [heads·dim]`.
    pub att_source: &'a [F],
    /// `a_target: [heads·dim]`.
    pub att_target: &'a [F],
    /// Number of heads.
    pub heads: usize,
    /// Slope of the leaky ReLU below zero.
    pub slope: F,
}

impl<F: Scalar> Scores<F> for AdditiveScores<'_, F> {
    #[inline(always)]
    fn score<const H: usize>(&self, row: Row, _: &mut [F], out: &mut [F]) {
        let heads = if H == 0 { self.heads } else { H };
        let target = &self.target[row.target * heads..][..heads];
        for (k, (&j, out)) in row.sources.iter().zip(out.chunks_exact_mut(heads)).enumerate() {
            let source = &self.source[j as usize * heads..][..heads];
            out.iter_mut().zip(source.iter().zip(target)).for_each(|(s, (&p, &q))| *s = p + q);
            if let Some(edge) = self.edge {
                out.iter_mut().zip(&edge[(row.first + k) * heads..][..heads]).for_each(|(s, &r)| *s += r);
            }
            out.iter_mut().for_each(|s| *s = leaky(*s, self.slope));
        }
    }

    #[inline(always)]
    fn fetch(&self, sources: &[u32], first: usize, count: usize) {
        for &j in sources[first..].iter().take(count) {
            fetch(self.source, j as usize * self.heads, self.heads);
        }
    }

    fn target_width(&self) -> usize {
        self.heads
    }

    fn source_width(&self) -> usize {
        self.heads
    }

    fn shared_len(&self) -> usize {
        0
    }

    fn row_gradient(&self, _: Row, scores: &[F], ds: &mut [F], own: Own<F>) {
        // A score has the sign of what it came from.
        ds.iter_mut().zip(scores).for_each(|(ds, &s)| *ds *= slope_at(s, self.slope));
        for ds in ds.chunks_exact(self.heads) {
            own.dtarget.iter_mut().zip(ds).for_each(|(sum, &ds)| *sum += ds);
        }
    }

    #[inline]
    fn source_gradient(&self, _: Edge, ds: &[F], _: &mut [F], dsource: &mut [F], _: &mut [F]) {
        dsource.iter_mut().zip(ds).for_each(|(sum, &ds)| *sum += ds);
    }

    fn finish(&self, dsource: &[F], dtarget: &[F], dz: &mut [F]) {
        let dim = dz.len() / self.heads;
        add_heads::<F, 0>(dsource, self.att_source, dim, dz);
        add_heads::<F, 0>(dtarget, self.att_target, dim, dz);
    }
}

/// `s_ijh = a_h·leaky(u_h)` with `u = p_j + q_i + W_e f_e`.
///
/// A target's gradient is that of its row of `q`, what a source adds goes to its row of `Z`, which is `p`; the shared one is that of `a`
/// and, row by row, of `W_e`.
#[derive(Debug, Clone, Copy)]
pub struct ChannelScores<'a, F> {
    /// `p: [n, heads·dim]`.
    pub source: &'a [F],
    /// `q: [n, heads·dim]`.
    pub target: &'a [F],
    /// `f: [edges, k]` and `W_e: [k, heads·dim]`.
    pub edge: Option<(&'a [F], &'a [F])>,
    /// `a: [heads·dim]`.
    pub att: &'a [F],
    /// Number of heads.
    pub heads: usize,
    /// Slope of the leaky ReLU below zero.
    pub slope: F,
}

impl<F: Scalar> ChannelScores<'_, F> {
    fn width(&self) -> usize {
        self.att.len()
    }

    /// The features of an edge, each with its row of `W_e`.
    #[inline]
    fn features(&self, place: usize) -> impl Iterator<Item = (F, &[F])> {
        let (features, weight) = self.edge.unwrap_or_default();
        let channels = weight.len() / self.width();
        features[place * channels..][..channels].iter().copied().zip(weight.chunks_exact(self.width()))
    }

    /// Writes `u`.
    #[inline]
    fn inner(&self, edge: Edge, u: &mut [F]) {
        let width = self.width();
        let (p, q) = (&self.source[edge.source * width..][..width], &self.target[edge.target * width..][..width]);
        u.iter_mut().zip(p.iter().zip(q)).for_each(|(u, (&p, &q))| *u = p + q);
        for (f, row) in self.features(edge.place) {
            u.iter_mut().zip(row).for_each(|(u, &w)| *u += f * w);
        }
    }
}

impl<F: Scalar> Scores<F> for ChannelScores<'_, F> {
    #[inline(always)]
    fn score<const H: usize>(&self, row: Row, spare: &mut [F], out: &mut [F]) {
        let dim = self.width() / self.heads;
        for (k, (&j, out)) in row.sources.iter().zip(out.chunks_exact_mut(self.heads)).enumerate() {
            self.inner(Edge { source: j as usize, target: row.target, place: row.first + k }, spare);
            spare.iter_mut().for_each(|u| *u = leaky(*u, self.slope));
            let both = self.att.chunks_exact(dim).zip(spare.chunks_exact(dim));
            out.iter_mut().zip(both).for_each(|(s, (a, u))| *s = dot(a, u));
        }
    }

    fn target_width(&self) -> usize {
        self.width()
    }

    fn source_width(&self) -> usize {
        0
    }

    fn shared_len(&self) -> usize {
        self.width() + self.edge.map_or(0, |(_, weight)| weight.len())
    }

    /// `da_h += ds_h leaky(u_h)`, `du_h = ds_h a_h leaky'(u_h)`, `dq_i += du`, `dW_e += f_eᵀ du`.
    fn row_gradient(&self, row: Row, _: &[F], ds: &mut [F], own: Own<F>) {
        let (width, dim) = (self.width(), self.width() / self.heads);
        let (datt, dweight) = own.shared.split_at_mut(width);
        let u = own.spare;
        for (k, (&j, ds)) in row.sources.iter().zip(ds.chunks_exact(self.heads)).enumerate() {
            let place = row.first + k;
            self.inner(Edge { source: j as usize, target: row.target, place }, u);
            let channels = datt.chunks_exact_mut(dim).zip(self.att.chunks_exact(dim)).zip(u.chunks_exact_mut(dim));
            for (((datt, att), u), &ds) in channels.zip(ds) {
                for ((datt, &a), u) in datt.iter_mut().zip(att).zip(u) {
                    *datt += ds * leaky(*u, self.slope);
                    *u = ds * a * slope_at(*u, self.slope);
                }
            }
            own.dtarget.iter_mut().zip(&*u).for_each(|(sum, &du)| *sum += du);
            for ((f, _), dweight) in self.features(place).zip(dweight.chunks_exact_mut(width)) {
                dweight.iter_mut().zip(&*u).for_each(|(sum, &du)| *sum += f * du);
            }
        }
    }

    fn source_gradient(&self, edge: Edge, ds: &[F], dz: &mut [F], _: &mut [F], u: &mut [F]) {
        let dim = self.width() / self.heads;
        self.inner(edge, u);
        let channels = dz.chunks_exact_mut(dim).zip(self.att.chunks_exact(dim)).zip(u.chunks_exact(dim));
        for (((dz, att), u), &ds) in channels.zip(ds) {
            dz.iter_mut().zip(att.iter().zip(u)).for_each(|(dz, (&a, &u))| *dz += ds * a * slope_at(u, self.slope));
        }
    }

    fn finish(&self, _: &[F], _: &[F], _: &mut [F]) {}
}

/// `out_ih = Σ_c z_ihc a_hc`. *Shapes*: `z: [n, heads·dim]`, `att: [heads·dim]`, `out: [n, heads]`.
///
/// # Panics
/// If the shapes do not fit.
pub fn head_dots<F: Scalar>(z: ArrayView2<F>, att: &[F], mut out: Array2<F>) -> Array2<F> {
    let heads = out.ncols();
    assert!(z.ncols() == att.len() && heads > 0 && att.len().is_multiple_of(heads), "head_dots: z {:?}, {heads} heads", z.dim());
    let dim = (att.len() / heads).max(1);
    let z = z.as_standard_layout();
    map_rows(out.view_mut(), |i, out| {
        let row = z.row(i);
        let row = row.as_slice().expect("rows of a standard layout are slices");
        out.iter_mut().zip(row.chunks_exact(dim).zip(att.chunks_exact(dim))).for_each(|(out, (z, a))| *out = dot(z, a));
    });
    out
}

/// `Σ_i s_ih z_ihc`, `[1, heads·dim]`: the gradient of the weights of [`head_dots`]. *Shapes*: `z: [n, heads·dim]`, `s: [n, heads]`.
///
/// # Panics
/// If the shapes do not fit.
pub fn head_sums<F: Scalar>(z: ArrayView2<F>, s: ArrayView2<F>) -> Array2<F> {
    assert!(z.nrows() == s.nrows() && z.ncols().is_multiple_of(s.ncols().max(1)), "head_sums: z {:?}, s {:?}", z.dim(), s.dim());
    let (z, s) = (z.as_standard_layout(), s.as_standard_layout());
    let dim = (z.ncols() / s.ncols().max(1)).max(1);
    let part = |block: std::ops::Range<usize>| {
        let mut sum = vec![F::zero(); z.ncols()];
        for i in block {
            let (z, s) = (z.row(i), s.row(i));
            let slices = (s.as_slice(), z.as_slice());
            add_heads::<F, 0>(slices.0.expect("a standard layout"), slices.1.expect("a standard layout"), dim, &mut sum);
        }
        sum
    };
    let blocks = blocks_of(z.nrows(), SUM_ROWS);
    let partials: Vec<Vec<F>> =
        if z.len() < SERIAL_WORK { blocks.into_iter().map(part).collect() } else { blocks.into_par_iter().map(part).collect() };
    let mut total = Array2::zeros((1, z.ncols()));
    for partial in partials {
        total.iter_mut().zip(partial).for_each(|(sum, term)| *sum += term);
    }
    total
}
