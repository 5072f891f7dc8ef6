//! The gradients of attention: one pass over the edges by targets, one by sources.

use super::edges::{Edge, InEdges, Scores, TargetGrads, WeightDropout};
use super::forward::{Attend, EdgeWeights, RowSum, Scratch, sum_rows};
use super::heads::dots;
use super::softmax::exponentials;
use crate::kernels::blocks::{SERIAL_WORK, blocks_by_nonzeros, parts_for, pieces, run};
use crate::kernels::buffer::{AHEAD, prefetch};
use crate::kernels::simd::{Isa, Known, LANES, by_level, called_if_portable};
use crate::kernels::work::count;
use crate::scalar::Scalar;
use std::ops::Range;

/// Parts that the first pass is cut into at most. A constant, since every part has a sum of its own
/// and their order is that of the parts.
const PARTS: usize = 64;

/// What one part of the first pass writes.
struct ToTargets<'a, F> {
    block: Range<usize>,
    /// `[edges, 2·heads]`: the weights after dropout and the gradients for the sources.
    pairs: &'a mut [F],
    /// The targets' gradients.
    dtarget: &'a mut [F],
}

/// What one part of the second pass writes.
struct ToSources<'a, F> {
    block: Range<usize>,
    dz: &'a mut [F],
    /// The sources' gradients.
    dsource: &'a mut [F],
}

/// What both passes read.
struct Given<'a, F> {
    dy: &'a [F],
    /// As in [`ToTargets`], once it is known.
    pairs: &'a [F],
    dtarget: &'a [F],
}

impl<F: Scalar, S: Scores<F>> Attend<'_, F, S> {
    /// `Attend::to_targets` for any scores.
    pub(super) fn to_targets_any(
        &self,
        isa: Isa,
        dy: &[F],
        pairs: &mut [F],
        dtarget: &mut [F],
    ) -> Vec<F> {
        self.check(dy);
        let (heads, wide) = (self.heads, self.scores.target_width());
        let blocks =
            blocks_by_nonzeros(self.edges.starts, (self.work() / SERIAL_WORK).clamp(1, PARTS));
        let pairs = pieces(pairs, &blocks, |i| self.edges.starts[i] * 2 * heads);
        let dtarget = pieces(dtarget, &blocks, |i| i * wide);
        let jobs = blocks
            .into_iter()
            .zip(pairs)
            .zip(dtarget)
            .map(|((block, pairs), dtarget)| ToTargets { block, pairs, dtarget })
            .collect();
        count(self.work());
        let sums = run(jobs, self.work(), |part| targets_of(isa, self, dy, part));
        let mut total = vec![F::zero(); self.scores.shared_len()];
        for sum in sums.iter() {
            total.iter_mut().zip(sum).for_each(|(total, &term)| *total += term);
        }
        total
    }

    #[inline(always)]
    fn targets<const H: usize, K: Known>(&self, known: K, dy: &[F], part: ToTargets<F>) -> Vec<F> {
        let ToTargets { block, mut pairs, dtarget } = part;
        let (heads, width, wide) =
            (if H == 0 { self.heads } else { H }, self.width(), self.scores.target_width());
        let (mut scratch, mut shared) = (self.scratch(), vec![F::zero(); self.scores.shared_len()]);
        for (k, i) in block.enumerate() {
            let row = self.edges.edges_into(i);
            let len = row.sources.len() * heads;
            let of_row = pairs.split_off_mut(..2 * len).expect("pieces hold whole rows");
            let dtarget = &mut dtarget[k * wide..][..wide];
            dtarget.fill(F::zero());
            if row.sources.is_empty() {
                continue;
            }
            self.row_back::<H, _>(known, row, &dy[i * width..][..width], &mut scratch);
            let own = TargetGrads { dtarget, shared: &mut shared, spare: &mut scratch.spare };
            self.scores.row_gradient(row, &scratch.scores[..len], &mut scratch.dalpha, own);
            let both =
                scratch.alpha[..len].chunks_exact(heads).zip(scratch.dalpha.chunks_exact(heads));
            for (pair, (alpha, ds)) in of_row.chunks_exact_mut(2 * heads).zip(both) {
                pair[..heads].copy_from_slice(alpha);
                pair[heads..].copy_from_slice(ds);
            }
        }
        shared
    }

    /// Leaves the weights after dropout in `alpha` and the gradients of the scores in `dalpha`.
    #[inline(always)]
    fn row_back<const H: usize, K: Known>(
        &self,
        known: K,
        row: InEdges,
        dy: &[F],
        scratch: &mut Scratch<F>,
    ) {
        let heads = if H == 0 { self.heads } else { H };
        let len = row.sources.len() * heads;
        let padded = len.next_multiple_of(LANES);
        for scratch in [&mut scratch.scores, &mut scratch.alpha].into_iter() {
            scratch.resize(padded, F::zero());
        }
        scratch.dalpha.resize(len, F::zero());
        self.scores.score::<H>(row, &mut scratch.spare, &mut scratch.scores[..len]);
        scratch.alpha.copy_from_slice(&scratch.scores);
        let ahead = self.ahead(row.first);
        exponentials::<_, F, H>(known, &mut scratch.alpha, len, &mut scratch.head, ahead);
        let back = RowBack {
            row,
            sources: self.edges.sources,
            z: self.z,
            dy,
            dim: self.dim,
            dropout: self.dropout,
        };
        row_back::<_, F, H>(
            known,
            back,
            &mut scratch.alpha[..len],
            &mut scratch.dalpha,
            &mut scratch.head,
        );
    }

    /// `Attend::to_sources` for any scores.
    pub(super) fn to_sources_any(
        &self,
        isa: Isa,
        dy: &[F],
        pairs: &[F],
        dtarget: &[F],
        dz: &mut [F],
        dsource: &mut [F],
    ) {
        self.check(dy);
        self.check(dz);
        let (width, own) = (self.width(), self.scores.source_width());
        let blocks = blocks_by_nonzeros(self.edges.back_starts, parts_for(self.work()));
        let dz = pieces(dz, &blocks, |j| j * width);
        let dsource = pieces(dsource, &blocks, |j| j * own);
        let jobs = blocks
            .into_iter()
            .zip(dz)
            .zip(dsource)
            .map(|((block, dz), dsource)| ToSources { block, dz, dsource })
            .collect();
        let given = Given { dy, pairs, dtarget };
        count(self.work());
        run(jobs, self.work(), |part| sources_of(isa, self, &given, part));
    }

    #[inline(always)]
    fn sources<const H: usize, K: Known>(&self, known: K, given: &Given<F>, part: ToSources<F>) {
        let (heads, width) = (if H == 0 { self.heads } else { H }, self.width());
        let (own, wide) = (self.scores.source_width(), self.scores.target_width());
        let ToSources { block, dz, dsource } = part;
        let mut spare = vec![F::zero(); width];
        dsource.fill(F::zero());
        let (targets, places) = (self.edges.targets, self.edges.places);
        let pair = |at: usize| &given.pairs[places[at] * 2 * heads..][..2 * heads];
        for (k, source) in block.enumerate() {
            let (dz, dsource) = (&mut dz[k * width..][..width], &mut dsource[k * own..][..own]);
            let span = self.edges.back_starts[source]..self.edges.back_starts[source + 1];
            // What the next source needs first.
            for &place in places[span.end..].iter().take(span.len().min(AHEAD)) {
                prefetch(given.pairs.as_ptr().wrapping_add(place * 2 * heads), 2 * heads);
            }
            let sum = RowSum {
                x: given.dy,
                rows: targets,
                heads,
                dim: self.dim,
                scale: None,
                bias: None,
            };
            let weights = OfSource { pairs: given.pairs, places };
            sum_rows::<_, F, _, H>(known, sum, span.clone(), weights, dz);
            for at in span {
                let edge = Edge { source, target: targets[at] as usize, place: places[at] };
                self.scores.source_gradient(edge, &pair(at)[heads..], dz, dsource, &mut spare);
            }
            self.scores.finish(dsource, &given.dtarget[source * wide..][..wide], dz);
        }
    }
}

/// What the gradient of one target's weights is made of.
#[derive(Clone, Copy)]
struct RowBack<'a, F> {
    row: InEdges<'a>,
    /// Of all edges, by targets.
    sources: &'a [u32],
    z: &'a [F],
    /// That of the target.
    dy: &'a [F],
    dim: usize,
    dropout: WeightDropout<'a, F>,
}

called_if_portable! {
    /// Given `e^{s − max}` in `alpha` and its sums in `head`, leaves the weights after dropout in
    /// `alpha` and the gradients of the scores in `dalpha`.
    fn row_back<F, const H>(
        job: RowBack<F>, alpha: &mut [F], dalpha: &mut [F], head: &mut [F],
    ) = row_back_here
}

#[inline(always)]
fn row_back_here<F: Scalar, const H: usize>(
    _: impl Known,
    job: RowBack<F>,
    alpha: &mut [F],
    dalpha: &mut [F],
    head: &mut [F],
) {
    let heads = if H == 0 { head.len() } else { H };
    let (head, width) = (&mut head[..heads], heads * job.dim);
    for sum in head.iter_mut() {
        *sum = sum.recip();
    }
    for alpha in alpha.chunks_exact_mut(heads) {
        for (alpha, &inverse) in alpha.iter_mut().zip(&*head) {
            *alpha *= inverse;
        }
    }
    for (e, (&j, dalpha)) in job.row.sources.iter().zip(dalpha.chunks_exact_mut(heads)).enumerate()
    {
        if let Some(&ahead) = job.sources.get(job.row.first + e + AHEAD) {
            prefetch(job.z.as_ptr().wrapping_add(ahead as usize * width), width);
        }
        let z = &job.z[j as usize * width..][..width];
        match job.dim {
            8 => dots::<F, 8>(job.dy, z, job.dim, dalpha),
            _ => dots::<F, 0>(job.dy, z, job.dim, dalpha),
        }
    }
    if let Some(dropout) = job.dropout {
        dropout(job.row.first * heads, dalpha);
    }
    head.fill(F::zero());
    for (alpha, dalpha) in alpha.chunks_exact(heads).zip(dalpha.chunks_exact(heads)) {
        for (sum, (&a, &d)) in head.iter_mut().zip(alpha.iter().zip(dalpha)) {
            *sum += a * d;
        }
    }
    for (alpha, dalpha) in alpha.chunks_exact(heads).zip(dalpha.chunks_exact_mut(heads)) {
        for (d, (&a, &sum)) in dalpha.iter_mut().zip(alpha.iter().zip(&*head)) {
            *d = a * (*d - sum);
        }
    }
    if let Some(dropout) = job.dropout {
        dropout(job.row.first * heads, alpha);
    }
}

/// `[edges, 2·heads]` by targets, of which the edges of a source are `places`.
#[derive(Clone, Copy)]
struct OfSource<'a, F> {
    pairs: &'a [F],
    places: &'a [usize],
}

impl<F: Scalar> EdgeWeights<F> for OfSource<'_, F> {
    #[inline(always)]
    fn of(&self, edge: usize, heads: usize) -> &[F] {
        &self.pairs[self.places[edge] * 2 * heads..][..heads]
    }
}

by_level! {
    fn targets_of<F, S: Scores<F>>(job: &Attend<F, S>, dy: &[F], part: ToTargets<F>) -> Vec<F> = targets_here, known
}

#[inline(always)]
fn targets_here<F: Scalar, S: Scores<F>>(
    known: impl Known,
    job: &Attend<F, S>,
    dy: &[F],
    part: ToTargets<F>,
) -> Vec<F> {
    match job.heads {
        1 => job.targets::<1, _>(known, dy, part),
        8 => job.targets::<8, _>(known, dy, part),
        _ => job.targets::<0, _>(known, dy, part),
    }
}

by_level! {
    fn sources_of<F, S: Scores<F>>(job: &Attend<F, S>, given: &Given<F>, part: ToSources<F>) = sources_here, known
}

#[inline(always)]
fn sources_here<F: Scalar, S: Scores<F>>(
    known: impl Known,
    job: &Attend<F, S>,
    given: &Given<F>,
    part: ToSources<F>,
) {
    match job.heads {
        1 => job.sources::<1, _>(known, given, part),
        8 => job.sources::<8, _>(known, given, part),
        _ => job.sources::<0, _>(known, given, part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::{assert_same_in_all_pools, dense, sparse};
    use crate::kernels::{AdditiveScores, Neighbourhoods};

    /// Sums of some hundred terms, in different orders and rounded once or twice.
    const TOLERANCE: f32 = 1e-4;

    /// `pairs`, `dtarget`, `dz` and `dsource`, one after the other.
    fn back(isa: Isa, nodes: usize, degree: usize, heads: usize, dim: usize) -> Vec<f32> {
        let a = sparse::<f32>(nodes, nodes, degree, 1);
        let (starts, sources, _) = a.view().into_raw_storage();
        let mut by_source: Vec<(u32, u32, usize)> = (0..nodes)
            .flat_map(|i| (starts[i]..starts[i + 1]).map(move |e| (sources[e], i as u32, e)))
            .collect();
        by_source.sort_unstable();
        let back_starts: Vec<usize> =
            (0..=nodes).map(|j| by_source.partition_point(|edge| (edge.0 as usize) < j)).collect();
        let (targets, places): (Vec<u32>, Vec<usize>) =
            by_source.iter().map(|&(_, i, e)| (i, e)).unzip();
        let numbers = |rows: usize, cols: usize, seed: u64| {
            dense::<f32>(rows, cols, seed).into_raw_vec_and_offset().0
        };
        let (z, dy, att) = (
            numbers(nodes, heads * dim, 2),
            numbers(nodes, heads * dim, 3),
            numbers(2, heads * dim, 4),
        );
        let (source, target) = (numbers(nodes, heads, 5), numbers(nodes, heads, 6));
        let (att_source, att_target) = att.split_at(heads * dim);
        let scores = AdditiveScores {
            source: &source,
            target: &target,
            edge: None,
            att_source,
            att_target,
            heads,
            slope: 0.2,
        };
        let edges = Neighbourhoods {
            starts,
            sources,
            back_starts: &back_starts,
            targets: &targets,
            places: &places,
        };
        let attend =
            Attend { edges, scores: &scores, heads, dim, z: &z, dropout: None, bias: None };
        let empty = |len: usize| vec![f32::NAN; len];
        let (mut pairs, mut dtarget) = (empty(sources.len() * 2 * heads), empty(nodes * heads));
        attend.to_targets_with(isa, &dy, &mut pairs, &mut dtarget);
        let (mut dz, mut dsource) = (empty(z.len()), empty(nodes * heads));
        attend.to_sources_with(isa, &dy, &pairs, &dtarget, &mut dz, &mut dsource);
        [pairs, dtarget, dz, dsource].concat()
    }

    #[test]
    fn every_level_gives_the_same_gradients() {
        for (heads, dim) in [(1, 1), (1, 7), (1, 40), (3, 5), (8, 8), (8, 3), (4, 24), (2, 16)] {
            for (nodes, degree) in [(1, 1), (7, 2), (300, 5)] {
                let expected = back(Isa::Portable, nodes, degree, heads, dim);
                for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
                    let found = back(isa, nodes, degree, heads, dim);
                    let close = found
                        .iter()
                        .zip(&expected)
                        .all(|(a, b)| (a - b).abs() <= TOLERANCE * b.abs().max(1.0));
                    assert!(close, "{isa:?}, {heads} heads of {dim}, {nodes} nodes");
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        assert_same_in_all_pools(|| {
            back(Isa::best(), 3000, 8, 4, 8).iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        });
    }
}
