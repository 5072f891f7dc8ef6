//! The two ways in which edges are scored: from a number of each end (GAT), and from both ends'
//! channels (GATv2).

use super::edges::{Edge, InEdges, Scores, TargetGrads};
use super::heads::{add_heads, dot};
use crate::kernels::simd::array;
use crate::scalar::Scalar;

#[inline(always)]
fn leaky<F: Scalar>(v: F, slope: F) -> F {
    if v > F::zero() { v } else { v * slope }
}

/// Derivative of [`leaky`] at a point of the same sign.
#[inline]
fn slope_at<F: Scalar>(v: F, slope: F) -> F {
    if v > F::zero() { F::one() } else { slope }
}

/// `s_ijh = leaky(p_jh + q_ih + r_eh)`, with `p = a_source·z`, `q = a_target·z` per head.
///
/// A source's own gradient is `dp`, a target's `dq`, `[n, heads]` both; those left for the sources
/// are `dr`.
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
    fn score<const H: usize>(&self, row: InEdges, _: &mut [F], out: &mut [F]) {
        let heads = if H == 0 { self.heads } else { H };
        let target = &self.target[row.target * heads..][..heads];
        let rows = row.sources.iter().zip(out.chunks_exact_mut(heads));
        let source = |j: u32| &self.source[j as usize * heads..][..heads];
        match self.edge {
            // All heads are read before one is written, so that they can share a register.
            None if H > 0 => {
                let target: [F; H] = array(|h| target[h]);
                for (&j, out) in rows {
                    let source = source(j);
                    let sums: [F; H] = array(|h| source[h] + target[h]);
                    let scores: [F; H] = array(|h| leaky(sums[h], self.slope));
                    out.copy_from_slice(&scores);
                }
            }
            None => {
                for (&j, out) in rows {
                    for ((s, &p), &q) in out.iter_mut().zip(source(j)).zip(target) {
                        *s = leaky(p + q, self.slope);
                    }
                }
            }
            Some(edge) => {
                for ((&j, out), edge) in rows.zip(edge[row.first * heads..].chunks_exact(heads)) {
                    for (((s, &p), &q), &r) in out.iter_mut().zip(source(j)).zip(target).zip(edge) {
                        *s = leaky(p + q + r, self.slope);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn by_source(&self) -> Option<(&[F], usize)> {
        Some((self.source, self.heads))
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

    #[inline(always)]
    fn row_gradient(&self, _: InEdges, scores: &[F], ds: &mut [F], own: TargetGrads<F>) {
        // A score has the sign of what it came from.
        for (ds, &s) in ds.iter_mut().zip(scores) {
            *ds *= slope_at(s, self.slope);
        }
        for ds in ds.chunks_exact(self.heads) {
            for (sum, &ds) in own.dtarget.iter_mut().zip(ds) {
                *sum += ds;
            }
        }
    }

    #[inline(always)]
    fn source_gradient(&self, _: Edge, ds: &[F], _: &mut [F], dsource: &mut [F], _: &mut [F]) {
        for (sum, &ds) in dsource.iter_mut().zip(ds) {
            *sum += ds;
        }
    }

    #[inline(always)]
    fn finish(&self, dsource: &[F], dtarget: &[F], dz: &mut [F]) {
        let dim = dz.len() / self.heads;
        add_heads::<F, 0>(dsource, self.att_source, dim, dz);
        add_heads::<F, 0>(dtarget, self.att_target, dim, dz);
    }
}

/// `s_ijh = a_h·leaky(u_h)` with `u = p_j + q_i + W_e f_e`.
///
/// A target's gradient is that of its row of `q`, what a source adds goes to its row of `Z`, which
/// is `p`; the shared one is that of `a` and, row by row, of `W_e`.
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
    #[inline(always)]
    fn features(&self, place: usize) -> impl Iterator<Item = (F, &[F])> {
        let (features, weight) = self.edge.unwrap_or_default();
        let channels = weight.len() / self.width();
        features[place * channels..][..channels]
            .iter()
            .copied()
            .zip(weight.chunks_exact(self.width()))
    }

    /// Writes `u`.
    #[inline(always)]
    fn inner(&self, edge: Edge, u: &mut [F]) {
        let width = self.width();
        let (p, q) = (
            &self.source[edge.source * width..][..width],
            &self.target[edge.target * width..][..width],
        );
        for (u, (&p, &q)) in u.iter_mut().zip(p.iter().zip(q)) {
            *u = p + q;
        }
        for (f, row) in self.features(edge.place) {
            for (u, &w) in u.iter_mut().zip(row) {
                *u += f * w;
            }
        }
    }
}

impl<F: Scalar> Scores<F> for ChannelScores<'_, F> {
    #[inline(always)]
    fn score<const H: usize>(&self, row: InEdges, spare: &mut [F], out: &mut [F]) {
        let dim = self.width() / self.heads;
        for (k, (&j, out)) in row.sources.iter().zip(out.chunks_exact_mut(self.heads)).enumerate() {
            self.inner(
                Edge { source: j as usize, target: row.target, place: row.first + k },
                spare,
            );
            for u in spare.iter_mut() {
                *u = leaky(*u, self.slope);
            }
            let both = self.att.chunks_exact(dim).zip(spare.chunks_exact(dim));
            for (s, (a, u)) in out.iter_mut().zip(both) {
                *s = dot(a, u);
            }
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
    #[inline(always)]
    fn row_gradient(&self, row: InEdges, _: &[F], ds: &mut [F], own: TargetGrads<F>) {
        let (width, dim) = (self.width(), self.width() / self.heads);
        let (datt, dweight) = own.shared.split_at_mut(width);
        let u = own.spare;
        for (k, (&j, ds)) in row.sources.iter().zip(ds.chunks_exact(self.heads)).enumerate() {
            let place = row.first + k;
            self.inner(Edge { source: j as usize, target: row.target, place }, u);
            let channels = datt
                .chunks_exact_mut(dim)
                .zip(self.att.chunks_exact(dim))
                .zip(u.chunks_exact_mut(dim));
            for (((datt, att), u), &ds) in channels.zip(ds) {
                for ((datt, &a), u) in datt.iter_mut().zip(att).zip(u) {
                    *datt += ds * leaky(*u, self.slope);
                    *u = ds * a * slope_at(*u, self.slope);
                }
            }
            for (sum, &du) in own.dtarget.iter_mut().zip(&*u) {
                *sum += du;
            }
            for ((f, _), dweight) in self.features(place).zip(dweight.chunks_exact_mut(width)) {
                for (sum, &du) in dweight.iter_mut().zip(&*u) {
                    *sum += f * du;
                }
            }
        }
    }

    #[inline(always)]
    fn source_gradient(&self, edge: Edge, ds: &[F], dz: &mut [F], _: &mut [F], u: &mut [F]) {
        let dim = self.width() / self.heads;
        self.inner(edge, u);
        let channels =
            dz.chunks_exact_mut(dim).zip(self.att.chunks_exact(dim)).zip(u.chunks_exact(dim));
        for (((dz, att), u), &ds) in channels.zip(ds) {
            for (dz, (&a, &u)) in dz.iter_mut().zip(att.iter().zip(u)) {
                *dz += ds * a * slope_at(u, self.slope);
            }
        }
    }

    fn finish(&self, _: &[F], _: &[F], _: &mut [F]) {}
}
