//! Attention over in-neighbours: scores, softmax and weighted sum in one pass over the edges of a target, and the way back.

use super::isa::Isa;
use super::rows::{SERIAL_WORK, blocks_by_nonzeros, for_row_blocks, parts_for};
use crate::scalar::Scalar;
use rayon::prelude::*;
use std::ops::Range;

/// Parts that a backward pass is cut into at most. A constant, since every part has a sum of its own and their order is that of the parts.
const PARTS: usize = 64;

/// Edges by targets and by sources, as attention reads them.
#[derive(Debug, Clone, Copy)]
pub struct Neighbourhoods<'a> {
    /// Where the edges into each target begin, `[n + 1]`.
    pub starts: &'a [usize],
    /// The source of each edge, by targets.
    pub sources: &'a [u32],
    /// Where the edges out of each source begin, `[n + 1]`.
    pub back_starts: &'a [usize],
    /// The target of each edge, by sources.
    pub targets: &'a [u32],
    /// For each edge by sources its place by targets.
    pub places: &'a [usize],
}

impl Neighbourhoods<'_> {
    fn edges_into(&self, target: usize) -> Row<'_> {
        let edges = self.starts[target]..self.starts[target + 1];
        Row { target, first: edges.start, sources: &self.sources[edges] }
    }
}

/// The edges into one target.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The target.
    pub target: usize,
    /// Place of the first edge.
    pub first: usize,
    /// The sources.
    pub sources: &'a [u32],
}

/// One edge.
#[derive(Debug, Clone, Copy)]
pub struct Edge {
    /// Where it comes from.
    pub source: usize,
    /// Where it leads.
    pub target: usize,
    /// Its place by targets.
    pub place: usize,
}

/// How the edges of a target are scored, and where the gradients of the scores go. All numbers lie row by row; `spare` holds one row of `Z`.
pub trait Scores<F: Scalar>: Sync {
    /// Writes the score of every edge of `row` and head, `[edges, heads]`.
    /// `H` is their number where the compiler is to know it, else 0.
    fn score<const H: usize>(&self, row: Row, spare: &mut [F], out: &mut [F]);

    /// Asks for what scores the `count` edges from place `first` on, of which some may not be there; a hint that computes nothing.
    fn fetch(&self, _sources: &[u32], _first: usize, _count: usize) {}

    /// Numbers of a target's own gradient.
    fn target_width(&self) -> usize;

    /// Numbers of a source's own gradient, besides that of its row of `Z`.
    fn source_width(&self) -> usize;

    /// Numbers of the gradient that all edges share.
    fn shared_len(&self) -> usize;

    /// Adds to the target's gradient and to the shared one, given the scores and their gradients `ds`, `[edges, heads]`; what is left in
    /// `ds` is handed to the sources.
    fn row_gradient(&self, row: Row, scores: &[F], ds: &mut [F], own: Own<F>);

    /// Adds to the gradients of the edge's source: of its row of `Z`, and its own.
    fn source_gradient(&self, edge: Edge, ds: &[F], dz: &mut [F], dsource: &mut [F], spare: &mut [F]);

    /// Adds to the gradient of a node's row of `Z` what follows from its own gradients as a source and as a target.
    fn finish(&self, dsource: &[F], dtarget: &[F], dz: &mut [F]);
}

/// What the edges of one target add to.
#[derive(Debug)]
pub struct Own<'a, F> {
    /// The target's gradient.
    pub dtarget: &'a mut [F],
    /// The gradient that all edges share.
    pub shared: &'a mut [F],
    /// Room for one row of `Z`.
    pub spare: &'a mut [F],
}

/// Scales weights in training: the slice stands at this position of all edges times heads.
pub type Thin<'a, F> = Option<&'a (dyn Fn(usize, &mut [F]) + Sync)>;

/// Multi-head attention `y_ih = Σ_j α_ijh z_jh`, `α_i·h = softmax_j(s_ijh)`.
///
/// *Shapes*: `z, y: [n, heads·dim]`, scores `[edges, heads]`. *Cost*: `edges·heads·dim` multiply-adds and one row of `z` fetched an edge.
/// Scores and weights of one target live in a few kilobytes; forward keeps none of them, and backward computes them again.
#[derive(Clone, Copy)]
pub struct Attend<'a, F, S> {
    /// The edges.
    pub edges: Neighbourhoods<'a>,
    /// Their scores.
    pub scores: &'a S,
    /// Number of heads.
    pub heads: usize,
    /// Channels a head.
    pub dim: usize,
    /// What is summed, row by row.
    pub z: &'a [F],
    /// Dropout of the weights.
    pub thin: Thin<'a, F>,
}

/// Rows `block` of `y`, compiled for the level: the same code in wider vectors, and the same bits, since nothing is fused or reordered.
#[allow(unsafe_code)]
fn forward_rows<F: Scalar, S: Scores<F>>(isa: Isa, job: &Attend<F, S>, block: Range<usize>, y: &mut [F]) {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2,fma")]
        fn avx2<F: Scalar, S: Scores<F>>(job: &Attend<F, S>, block: Range<usize>, y: &mut [F]) {
            job.rows_by_heads(block, y);
        }
        if isa >= Isa::Avx2 {
            assert!(isa.available(), "this processor has no {isa:?}");
            // SAFETY: the processor has the features.
            return unsafe { avx2(job, block, y) };
        }
    }
    job.rows_by_heads(block, y);
}

/// Numbers of one target, used again for the next.
struct Room<F> {
    scores: Vec<F>,
    alpha: Vec<F>,
    dalpha: Vec<F>,
    head: Vec<F>,
    spare: Vec<F>,
}

impl<F: Scalar, S: Scores<F>> Attend<'_, F, S> {
    fn width(&self) -> usize {
        self.heads * self.dim
    }

    fn work(&self) -> usize {
        self.edges.sources.len() * self.width()
    }

    fn check(&self, rows: &[F]) {
        let nodes = self.edges.starts.len() - 1;
        let expected = nodes * self.width();
        assert!(
            self.z.len() == expected && rows.len() == expected,
            "attend: {nodes} nodes of {} heads of {}, z {}, the other {}",
            self.heads,
            self.dim,
            self.z.len(),
            rows.len()
        );
    }

    fn room(&self) -> Room<F> {
        let empty = Vec::new;
        Room { scores: empty(), alpha: empty(), dalpha: empty(), head: vec![F::zero(); self.heads], spare: vec![F::zero(); self.width()] }
    }

    /// Overwrites `y`.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn forward(&self, y: &mut [F]) {
        self.forward_with(Isa::best(), y);
    }

    /// [`Attend::forward`] with the instructions of one level.
    ///
    /// # Panics
    /// As [`Attend::forward`], and if the processor does not have the level.
    #[doc(hidden)]
    pub fn forward_with(&self, isa: Isa, y: &mut [F]) {
        self.check(y);
        if y.is_empty() {
            return;
        }
        let blocks = blocks_by_nonzeros(self.edges.starts, parts_for(self.work()));
        for_row_blocks(y, self.width(), &blocks, self.work(), |block, y| {
            forward_rows(isa, self, block, y);
        });
    }

    #[inline(always)]
    fn rows_by_heads(&self, block: Range<usize>, y: &mut [F]) {
        match self.heads {
            1 => self.rows::<1>(block, y),
            4 => self.rows::<4>(block, y),
            8 => self.rows::<8>(block, y),
            _ => self.rows::<0>(block, y),
        }
    }

    /// Rows `block`; `H` is the number of heads where the compiler is to know it, else 0.
    #[inline(always)]
    fn rows<const H: usize>(&self, block: Range<usize>, y: &mut [F]) {
        let mut room = self.room();
        for (i, y) in block.zip(y.chunks_exact_mut(self.width())) {
            let row = self.edges.edges_into(i);
            room.alpha.resize(row.sources.len() * self.heads, F::zero());
            self.scores.fetch(self.edges.sources, row.first + row.sources.len(), row.sources.len());
            self.scores.score::<H>(row, &mut room.spare, &mut room.alpha);
            softmax::<F, H>(&mut room.alpha, &mut room.head);
            if let Some(thin) = self.thin {
                thin(row.first * self.heads, &mut room.alpha);
            }
            self.weighted_sum(row, &room.alpha, y);
        }
    }

    /// `y_hc = Σ_j α_jh z_jhc`, in registers where groups of 8 channels belong to one head each.
    #[inline(always)]
    fn weighted_sum(&self, row: Row, alpha: &[F], y: &mut [F]) {
        let grouped = match self.heads {
            _ if self.dim.is_multiple_of(GROUP) => self.width(),
            1 => self.width() / GROUP * GROUP,
            _ => 0,
        };
        let mut first = 0;
        while first < grouped {
            let groups = (grouped - first) / GROUP;
            first += match groups {
                8.. => self.groups::<8>(first, row, alpha, y),
                4.. => self.groups::<4>(first, row, alpha, y),
                2.. => self.groups::<2>(first, row, alpha, y),
                _ => self.groups::<1>(first, row, alpha, y),
            };
        }
        let rest = &mut y[grouped..];
        rest.fill(F::zero());
        if !rest.is_empty() {
            let dim = if self.heads == 1 { rest.len() } else { self.dim };
            for (&j, alpha) in row.sources.iter().zip(alpha.chunks_exact(self.heads)) {
                let z = &self.z[j as usize * self.width() + grouped..][..rest.len()];
                match dim {
                    4 => add_heads::<F, 4>(alpha, z, dim, rest),
                    _ => add_heads::<F, 0>(alpha, z, dim, rest),
                }
            }
        }
    }

    /// `K` groups of channels from `first` on; returns how many channels that are.
    #[inline(always)]
    fn groups<const K: usize>(&self, first: usize, row: Row, alpha: &[F], y: &mut [F]) -> usize {
        let heads: [usize; K] = std::array::from_fn(|g| (first + g * GROUP) / self.dim);
        let mut sums = [[F::zero(); GROUP]; K];
        for (e, (&j, alpha)) in row.sources.iter().zip(alpha.chunks_exact(self.heads)).enumerate() {
            if let Some(&ahead) = self.edges.sources.get(row.first + e + AHEAD) {
                fetch(self.z, ahead as usize * self.width() + first, K * GROUP);
            }
            let (z, _) = self.z[j as usize * self.width() + first..][..K * GROUP].as_chunks::<GROUP>();
            for ((sum, z), &h) in sums.iter_mut().zip(z).zip(&heads) {
                let alpha = alpha[h];
                sum.iter_mut().zip(z).for_each(|(sum, &z)| *sum += alpha * z);
            }
        }
        y[first..first + K * GROUP].copy_from_slice(sums.as_flattened());
        K * GROUP
    }

    /// First half of the backward pass: `dα_ijh = dy_ih·z_jh`, `ds_ij = α_ij (dα_ij − Σ_k α_ik dα_ik)`.
    ///
    /// Overwrites `pairs: [edges, 2·heads]` with the weights after dropout and the gradients for the sources, and `dtarget` with the
    /// targets' gradients; returns the shared gradient.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn to_targets(&self, dy: &[F], pairs: &mut [F], dtarget: &mut [F]) -> Vec<F> {
        self.check(dy);
        let (heads, wide) = (self.heads, self.scores.target_width());
        let blocks = blocks_by_nonzeros(self.edges.starts, (self.work() / SERIAL_WORK).clamp(1, PARTS));
        let pairs = pieces(pairs, &blocks, |i| self.edges.starts[i] * 2 * heads);
        let dtarget = pieces(dtarget, &blocks, |i| i * wide);
        let jobs: Vec<_> = blocks.into_iter().zip(pairs).zip(dtarget).collect();
        let sums = run(jobs, self.work(), |((block, mut pairs), dtarget)| {
            let (mut room, mut shared) = (self.room(), vec![F::zero(); self.scores.shared_len()]);
            for (k, i) in block.enumerate() {
                let row = self.edges.edges_into(i);
                let of_row = pairs.split_off_mut(..row.sources.len() * 2 * heads).expect("pieces hold whole rows");
                let dy = &dy[i * self.width()..][..self.width()];
                self.row_back(row, dy, &mut room);
                let dtarget = &mut dtarget[k * wide..][..wide];
                dtarget.fill(F::zero());
                let own = Own { dtarget, shared: &mut shared, spare: &mut room.spare };
                self.scores.row_gradient(row, &room.scores, &mut room.dalpha, own);
                let both = room.alpha.chunks_exact(heads).zip(room.dalpha.chunks_exact(heads));
                for (pair, (alpha, ds)) in of_row.chunks_exact_mut(2 * heads).zip(both) {
                    pair[..heads].copy_from_slice(alpha);
                    pair[heads..].copy_from_slice(ds);
                }
            }
            shared
        });
        let mut total = vec![F::zero(); self.scores.shared_len()];
        sums.iter().for_each(|sum| total.iter_mut().zip(sum).for_each(|(total, &term)| *total += term));
        total
    }

    /// Leaves the weights after dropout in `alpha` and the gradients of the scores in `dalpha`.
    fn row_back(&self, row: Row, dy: &[F], room: &mut Room<F>) {
        let (heads, len) = (self.heads, row.sources.len() * self.heads);
        room.scores.resize(len, F::zero());
        room.dalpha.resize(len, F::zero());
        self.scores.score::<0>(row, &mut room.spare, &mut room.scores);
        room.alpha.clear();
        room.alpha.extend_from_slice(&room.scores);
        softmax::<F, 0>(&mut room.alpha, &mut room.head);
        for (&j, dalpha) in row.sources.iter().zip(room.dalpha.chunks_exact_mut(heads)) {
            let z = &self.z[j as usize * self.width()..][..self.width()];
            let both = dy.chunks_exact(self.dim).zip(z.chunks_exact(self.dim));
            dalpha.iter_mut().zip(both).for_each(|(d, (dy, z))| *d = dot(dy, z));
        }
        if let Some(thin) = self.thin {
            thin(row.first * heads, &mut room.dalpha);
        }
        room.head.fill(F::zero());
        for (alpha, dalpha) in room.alpha.chunks_exact(heads).zip(room.dalpha.chunks_exact(heads)) {
            room.head.iter_mut().zip(alpha.iter().zip(dalpha)).for_each(|(sum, (&a, &d))| *sum += a * d);
        }
        for (alpha, dalpha) in room.alpha.chunks_exact(heads).zip(room.dalpha.chunks_exact_mut(heads)) {
            dalpha.iter_mut().zip(alpha.iter().zip(&room.head)).for_each(|(d, (&a, &sum))| *d = a * (*d - sum));
        }
        if let Some(thin) = self.thin {
            thin(row.first * heads, &mut room.alpha);
        }
    }

    /// Second half: `dz_j = Σ_i α_ij dy_i` and what the scores add. Overwrites `dz: [n, heads·dim]` and the sources' own gradients.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn to_sources(&self, dy: &[F], pairs: &[F], dtarget: &[F], dz: &mut [F], dsource: &mut [F]) {
        self.check(dy);
        self.check(dz);
        let (width, own, wide) = (self.width(), self.scores.source_width(), self.scores.target_width());
        let blocks = blocks_by_nonzeros(self.edges.back_starts, parts_for(self.work()));
        let dz = pieces(dz, &blocks, |j| j * width);
        let dsource = pieces(dsource, &blocks, |j| j * own);
        let jobs: Vec<_> = blocks.into_iter().zip(dz).zip(dsource).collect();
        run(jobs, self.work(), |((block, dz), dsource)| {
            let mut spare = vec![F::zero(); width];
            dsource.fill(F::zero());
            dz.fill(F::zero());
            for (k, source) in block.enumerate() {
                let (dz, dsource) = (&mut dz[k * width..][..width], &mut dsource[k * own..][..own]);
                for at in self.edges.back_starts[source]..self.edges.back_starts[source + 1] {
                    let edge = Edge { source, target: self.edges.targets[at] as usize, place: self.edges.places[at] };
                    let (alpha, ds) = pairs[edge.place * 2 * self.heads..][..2 * self.heads].split_at(self.heads);
                    let dy = &dy[edge.target * width..][..width];
                    match self.dim {
                        8 => add_heads::<F, 8>(alpha, dy, self.dim, dz),
                        _ => add_heads::<F, 0>(alpha, dy, self.dim, dz),
                    }
                    self.scores.source_gradient(edge, ds, dz, dsource, &mut spare);
                }
                self.scores.finish(dsource, &dtarget[source * wide..][..wide], dz);
            }
        });
    }
}

/// Channels that one register holds in the forms that are compiled for AVX2.
const GROUP: usize = 8;

/// How many edges ahead a row is fetched.
const AHEAD: usize = 8;

/// Asks for numbers that are needed soon; nothing happens where the place is not in the array.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) fn fetch<F>(numbers: &[F], at: usize, count: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(row) = numbers.get(at..at + count) {
        for line in row.chunks(64 / size_of::<F>()) {
            // SAFETY: a prefetch never faults.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) };
        }
    }
}

/// Softmax over the rows of `[edges, heads]`, a head by itself. `head` is room for one number a head; `H` as in [`Attend::rows`].
#[inline(always)]
fn softmax<F: Scalar, const H: usize>(scores: &mut [F], head: &mut [F]) {
    let heads = if H == 0 { head.len() } else { H };
    let head = &mut head[..heads];
    head.fill(F::neg_infinity());
    for row in scores.chunks_exact(heads) {
        head.iter_mut().zip(row).for_each(|(most, &s)| *most = if s > *most { s } else { *most });
    }
    for row in scores.chunks_exact_mut(heads) {
        row.iter_mut().zip(&*head).for_each(|(s, &most)| *s -= most);
    }
    exp(scores);
    head.fill(F::zero());
    for row in scores.chunks_exact(heads) {
        head.iter_mut().zip(row).for_each(|(sum, &e)| *sum += e);
    }
    head.iter_mut().for_each(|sum| *sum = sum.recip());
    for row in scores.chunks_exact_mut(heads) {
        row.iter_mut().zip(&*head).for_each(|(e, &inverse)| *e *= inverse);
    }
}

/// `e^v` of numbers that are not positive; NaN stays NaN.
#[inline(always)]
fn exp<F: Scalar>(values: &mut [F]) {
    match F::as_f32_mut(values) {
        Some(values) => values.iter_mut().for_each(|v| *v = exp_f32(*v)),
        None => values.iter_mut().for_each(|v| *v = v.exp()),
    }
}

/// `2^n·e^r` with `|r| ≤ ln 2 / 2` and eight terms of the series, whose rest is below half a rounding; without branches, so that a loop of
/// it becomes vectors. Below −87 the result stays at its smallest normal number.
#[inline(always)]
fn exp_f32(v: f32) -> f32 {
    /// Adding it rounds to an integer, whose bits are then the lowest.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let v = if v < -87.0 { -87.0 } else { v };
    let shifted = v * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (v - n * LN2_HIGH) - n * LN2_LOW;
    let mut series = 1.0 / 5040.0;
    for term in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + term;
    }
    series * f32::from_bits(shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23)
}

/// `y_hc += a_h x_hc`; `D` is the number of channels a head where the compiler is to know it, else 0.
#[inline(always)]
pub(super) fn add_heads<F: Scalar, const D: usize>(a: &[F], x: &[F], dim: usize, y: &mut [F]) {
    let dim = if D == 0 { dim } else { D };
    for ((y, x), &a) in y.chunks_exact_mut(dim).zip(x.chunks_exact(dim)).zip(a) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y += a * x);
    }
}

/// `Σ_c a_c b_c`, in four partial sums.
#[inline]
pub(super) fn dot<F: Scalar>(a: &[F], b: &[F]) -> F {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [F::zero(); 4];
    for (a, b) in a.iter().zip(b) {
        (0..4).for_each(|lane| sums[lane] += a[lane] * b[lane]);
    }
    let tail: F = a_tail.iter().zip(b_tail).map(|(&a, &b)| a * b).sum();
    (sums[0] + sums[2]) + (sums[1] + sums[3]) + tail
}

/// Cuts `data` so that each block has its rows; row `i` begins at `at(i)`.
fn pieces<'a, F>(mut data: &'a mut [F], blocks: &[Range<usize>], at: impl Fn(usize) -> usize) -> Vec<&'a mut [F]> {
    let pieces =
        blocks.iter().map(|block| data.split_off_mut(..at(block.end) - at(block.start)).expect("the array has all rows")).collect();
    assert!(data.is_empty(), "attend: {} numbers are left over", data.len());
    pieces
}

/// Runs all jobs, in parallel where the work is worth it, and returns what they give in their order.
fn run<T: Send, R: Send>(jobs: Vec<T>, work: usize, f: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if work < SERIAL_WORK || rayon::current_num_threads() == 1 {
        return jobs.into_iter().map(f).collect();
    }
    jobs.into_par_iter().with_max_len(1).map(f).collect()
}

#[cfg(test)]
mod tests {
    use super::super::cases::{assert_same_in_all_pools, dense, sparse};
    use super::super::{AdditiveScores, reference};
    use super::*;

    /// Terms of the score, softmax and sum, each good to about a rounding, over at most some hundred edges.
    const TOLERANCE: f32 = 1e-4;

    fn attend(nodes: usize, degree: usize, heads: usize, dim: usize) -> (Vec<f32>, Vec<f32>) {
        let a = sparse::<f32>(nodes, nodes, degree, 1);
        let (starts, sources, _) = a.view().into_raw_storage();
        let z = dense::<f32>(nodes, heads * dim, 2).into_raw_vec_and_offset().0;
        let own = dense::<f32>(nodes, 2 * heads, 3).into_raw_vec_and_offset().0;
        let (source, target) = own.split_at(nodes * heads);
        let att = vec![0.0; heads * dim];
        let scores = AdditiveScores { source, target, edge: None, att_source: &att, att_target: &att, heads, slope: 0.2 };
        let edges = Neighbourhoods { starts, sources, back_starts: &[], targets: &[], places: &[] };
        let mut y = vec![f32::NAN; z.len()];
        let attend = Attend { edges, scores: &scores, heads, dim, z: &z, thin: None };
        attend.forward(&mut y);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let mut other = vec![f32::NAN; z.len()];
            attend.forward_with(isa, &mut other);
            assert_eq!(other, y, "{isa:?}, {heads} heads of {dim}");
        }
        let mut all = vec![0.0; sources.len() * heads];
        for i in 0..nodes {
            let row = edges.edges_into(i);
            scores.score::<0>(row, &mut [], &mut all[row.first * heads..][..row.sources.len() * heads]);
        }
        (y, reference::attend(starts, sources, &all, &z, heads))
    }

    #[test]
    fn agrees_with_the_reference_at_every_width_and_gives_zero_where_nothing_comes_in() {
        for (heads, dim) in [(1, 1), (1, 7), (1, 61), (3, 5), (4, 4), (8, 8), (8, 3), (4, 24), (2, 16), (1, 32), (2, 40)] {
            for (nodes, degree) in [(1, 1), (7, 2), (300, 5)] {
                let (found, expected) = attend(nodes, degree, heads, dim);
                let close = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= TOLERANCE);
                assert!(close, "{heads} heads of {dim}, {nodes} nodes");
            }
        }
    }

    #[test]
    fn threads_do_not_change_bits() {
        assert_same_in_all_pools(|| attend(3000, 8, 4, 8).0);
    }

    #[test]
    fn the_exponential_is_good_to_two_roundings() {
        for k in 0..=870_000 {
            let v = -(k as f32) * 1e-4;
            let exact = f64::from(v).exp();
            assert!((f64::from(exp_f32(v)) - exact).abs() <= 2.0 * f64::from(f32::EPSILON) * exact, "{v}");
        }
        assert_eq!(exp_f32(0.0), 1.0);
        assert!(exp_f32(f32::NEG_INFINITY) < 1e-37 && exp_f32(f32::NAN).is_nan());
    }

    #[test]
    fn a_diverged_score_is_not_hidden() {
        let mut scores = [1.0f32, f32::NAN, 2.0, 0.0];
        softmax::<f32, 0>(&mut scores, &mut [0.0, 0.0]);
        assert!(scores[1].is_nan() && scores[3].is_nan() && scores[0] + scores[2] == 1.0);
    }
}
