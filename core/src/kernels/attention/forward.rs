//! Attention over in-neighbours: scores, softmax and weighted sum in one pass over the edges of a
//! target.

use super::edges::{Neighbourhoods, Scores, WeightDropout};
use super::heads::add_heads;
use super::softmax::{Ahead, exponentials};
#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::kernels::blocks::{Cut, for_row_blocks, parts_for};
use crate::kernels::buffer::{AHEAD, prefetch};
use crate::kernels::simd::{Isa, Known, LANES, array, by_level, called_if_portable};
use crate::kernels::work::count;
use crate::scalar::Scalar;
use std::ops::Range;

/// Multi-head attention `y_ih = Σ_j α_ijh z_jh + b_h`, `α_i·h = softmax_j(s_ijh)`.
///
/// *Shapes*: `z, y: [n, heads·dim]`, scores `[edges, heads]`. *Cost*: `edges·heads·dim`
/// multiply-adds and one row of `z` fetched per edge. Scores and weights of one target live in a
/// few kilobytes; forward keeps none of them, and backward computes them again.
#[derive(Clone, Copy)]
pub struct Attend<'a, F, S> {
    /// The edges.
    pub edges: Neighbourhoods<'a>,
    /// Their scores.
    pub scores: &'a S,
    /// Number of heads.
    pub heads: usize,
    /// Channels per head.
    pub dim: usize,
    /// What is summed, row by row.
    pub z: &'a [F],
    /// Dropout of the weights.
    pub dropout: WeightDropout<'a, F>,
    /// Added to every row of `y`: `[heads·dim]`.
    pub bias: Option<&'a [F]>,
}

/// How many edges ahead the few numbers are fetched that score one.
const FAR: usize = 32;

/// Numbers of one target, used again for the next: nothing is allocated once the target with the
/// most edges has been seen.
pub(super) struct Scratch<F> {
    /// `[edges, heads]`, and room for what [`exponentials`] pads up to whole registers; only the
    /// first `edges·heads` numbers are read after it.
    pub(super) scores: Vec<F>,
    pub(super) alpha: Vec<F>,
    pub(super) dalpha: Vec<F>,
    /// One number per head.
    pub(super) head: Vec<F>,
    /// One row of `Z`.
    pub(super) spare: Vec<F>,
}

impl<F: Scalar, S: Scores<F>> Attend<'_, F, S> {
    #[inline(always)]
    pub(super) fn width(&self) -> usize {
        self.heads * self.dim
    }

    pub(super) fn work(&self) -> usize {
        self.edges.sources.len() * self.width()
    }

    pub(super) fn check(&self, rows: &[F]) {
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

    pub(super) fn scratch(&self) -> Scratch<F> {
        let empty = Vec::new;
        Scratch {
            scores: empty(),
            alpha: empty(),
            dalpha: empty(),
            head: vec![F::zero(); self.heads],
            spare: vec![F::zero(); self.width()],
        }
    }

    /// `Attend::forward` for any scores.
    pub(super) fn forward_any(&self, isa: Isa, y: &mut [F]) {
        self.check(y);
        assert!(
            self.bias.is_none_or(|bias| bias.len() == self.width()),
            "attend: one bias per channel"
        );
        if y.is_empty() {
            return;
        }
        count(self.work());
        let cut = Cut::ByNonzeros { starts: self.edges.starts, parts: parts_for(self.work()) };
        for_row_blocks(y, self.width(), cut, self.work(), |block, y| {
            forward_rows(isa, self, block, y)
        });
    }

    /// Rows `block`; `H` is the number of heads where the compiler is to know it, else 0.
    #[inline(always)]
    fn rows<const H: usize, K: Known>(&self, known: K, block: Range<usize>, y: &mut [F]) {
        let heads = if H == 0 { self.heads } else { H };
        let mut scratch = self.scratch();
        for (i, y) in block.zip(y.chunks_exact_mut(self.width())) {
            let row = self.edges.edges_into(i);
            if row.sources.is_empty() {
                match self.bias {
                    Some(bias) => y.copy_from_slice(bias),
                    None => y.fill(F::zero()),
                }
                continue;
            }
            let len = row.sources.len() * heads;
            scratch.alpha.resize(len.next_multiple_of(LANES), F::zero());
            self.scores.score::<H>(row, &mut scratch.spare, &mut scratch.alpha[..len]);
            let ahead = self.ahead(row.first);
            exponentials::<_, F, H>(known, &mut scratch.alpha, len, &mut scratch.head, ahead);
            if let Some(dropout) = self.dropout {
                dropout(row.first * heads, &mut scratch.alpha[..len]);
            }
            scratch.head.iter_mut().for_each(|sum| *sum = sum.recip());
            let (alpha, first) = (&scratch.alpha[..len], row.first);
            let sum = RowSum {
                x: self.z,
                rows: self.edges.sources,
                heads,
                dim: self.dim,
                scale: Some(&scratch.head),
                bias: self.bias,
            };
            let span = first..first + row.sources.len();
            sum_rows::<_, F, _, H>(known, sum, span, OfTarget { alpha, first }, y);
        }
    }

    /// What will score the edges from [`FAR`] after the one at this place on.
    #[inline(always)]
    pub(super) fn ahead(&self, place: usize) -> Ahead<'_, F> {
        let sources = self.edges.sources.get(place + FAR..).unwrap_or_default();
        self.scores.by_source().map_or(Ahead::nothing(), |(numbers, width)| Ahead {
            sources,
            numbers,
            width,
        })
    }
}

/// What the edges of a row are weighted by.
pub(super) trait EdgeWeights<F>: Copy {
    /// Those of the heads of the edge at this place, `heads` numbers.
    fn of(&self, edge: usize, heads: usize) -> &[F];
}

/// `[edges, heads]` from the edge `first` on.
#[derive(Clone, Copy)]
pub(super) struct OfTarget<'a, F> {
    pub(super) alpha: &'a [F],
    pub(super) first: usize,
}

impl<F: Scalar> EdgeWeights<F> for OfTarget<'_, F> {
    #[inline(always)]
    fn of(&self, edge: usize, heads: usize) -> &[F] {
        &self.alpha[(edge - self.first) * heads..][..heads]
    }
}

/// What a row of weighted sums is made of.
#[derive(Clone, Copy)]
pub(super) struct RowSum<'a, F> {
    pub(super) x: &'a [F],
    pub(super) rows: &'a [u32],
    pub(super) heads: usize,
    pub(super) dim: usize,
    /// A number per head, by which the sums are scaled.
    pub(super) scale: Option<&'a [F]>,
    /// A number per channel, added last.
    pub(super) bias: Option<&'a [F]>,
}

called_if_portable! {
    /// `y_hc = s_h Σ_e w_eh x_jhc + b_hc` over the edges `span`, `j = rows[e]`, in registers where
    /// groups of 8 channels belong to one head. `H` is the number of heads where the compiler is to
    /// know it, else 0.
    pub(super) fn sum_rows<F, const H, W: EdgeWeights<F>>(
        sum: RowSum<F>, span: Range<usize>, weights: W, y: &mut [F],
    ) = sum_rows_here
}

#[inline(always)]
fn sum_rows_here<F: Scalar, W: EdgeWeights<F>, const H: usize>(
    known: impl Known,
    sum: RowSum<F>,
    span: Range<usize>,
    weights: W,
    y: &mut [F],
) {
    sum.write::<H, _, W>(known, span, weights, y)
}

impl<F: Scalar> RowSum<'_, F> {
    #[inline(always)]
    fn write<const H: usize, P: Known, W: EdgeWeights<F>>(
        self,
        known: P,
        span: Range<usize>,
        weights: W,
        y: &mut [F],
    ) {
        let heads = if H == 0 { self.heads } else { H };
        let width = heads * self.dim;
        let grouped = match heads {
            _ if self.dim.is_multiple_of(LANES) => width,
            1 => width / LANES * LANES,
            _ => 0,
        };
        let mut first = 0;
        while first < grouped {
            let (left, span) = ((grouped - first) / LANES, span.clone());
            macro_rules! groups {
                ($count:literal, $heads:expr) => {
                    self.groups::<$count, { $heads }, H, P, W>(known, first, span, weights, y)
                };
            }
            // Where there is one head, or the groups are the whole row, the compiler knows the head
            // of each.
            first += match (left, H) {
                (8.., 1) => groups!(8, 1),
                (5.., 1) => groups!(5, 1),
                (4, 1) => groups!(4, 1),
                (2.., 1) => groups!(2, 1),
                (_, 1) => groups!(1, 1),
                (8, 4 | 8) if width == 8 * LANES => groups!(8, H),
                (4, 4) if width == 4 * LANES => groups!(4, 4),
                (8.., _) => groups!(8, 0),
                (4.., _) => groups!(4, 0),
                (2.., _) => groups!(2, 0),
                _ => groups!(1, 0),
            };
        }
        let rest = &mut y[grouped..];
        if !rest.is_empty() {
            rest.fill(F::zero());
            let dim = if heads == 1 { rest.len() } else { self.dim };
            for e in span {
                let x = &self.x[self.rows[e] as usize * width + grouped..][..rest.len()];
                match dim {
                    4 => add_heads::<F, 4>(weights.of(e, heads), x, dim, rest),
                    _ => add_heads::<F, 0>(weights.of(e, heads), x, dim, rest),
                }
            }
            for (h, rest) in rest.chunks_exact_mut(dim).enumerate() {
                for (c, y) in rest.iter_mut().enumerate() {
                    *y = self.finished(*y, h, grouped + h * dim + c);
                }
            }
        }
    }

    /// `K` groups of channels from `first` on; returns how many channels that are. `G` is 1, or, if
    /// the groups are a row, the number of heads, or 0.
    #[inline(always)]
    fn groups<const K: usize, const G: usize, const H: usize, P: Known, W: EdgeWeights<F>>(
        &self,
        known: P,
        first: usize,
        span: Range<usize>,
        weights: W,
        y: &mut [F],
    ) -> usize {
        let count = if H == 0 { self.heads } else { H };
        let width = count * self.dim;
        let heads: [usize; K] =
            array(|g| if G > 0 { g * G / K } else { (first + g * LANES) / self.dim });
        let weights = |e: usize| weights.of(e, count);
        let mut sums = [[F::zero(); LANES]; K];
        if !in_registers::<F, K>(
            known,
            self,
            width,
            first,
            span.clone(),
            heads,
            &weights,
            &mut sums,
        ) {
            for e in span {
                if let Some(&ahead) = self.rows.get(e + AHEAD) {
                    prefetch(
                        self.x.as_ptr().wrapping_add(ahead as usize * width + first),
                        K * LANES,
                    );
                }
                let weights = weights(e);
                let (x, _) = self.x[self.rows[e] as usize * width + first..][..K * LANES]
                    .as_chunks::<LANES>();
                for ((sum, x), &h) in sums.iter_mut().zip(x).zip(&heads) {
                    let weight = weights[h];
                    for (sum, &x) in sum.iter_mut().zip(x) {
                        *sum = if P::IS_AVX2_FMA {
                            weight.mul_add(x, *sum)
                        } else {
                            *sum + weight * x
                        };
                    }
                }
            }
        }
        let (y, _) = y[first..first + K * LANES].as_chunks_mut::<LANES>();
        for (g, (y, sums)) in y.iter_mut().zip(&sums).enumerate() {
            *y = array(|lane| self.finished(sums[lane], heads[g], first + g * LANES + lane));
        }
        K * LANES
    }

    #[inline(always)]
    fn finished(&self, sum: F, head: usize, channel: usize) -> F {
        let scaled = self.scale.map_or(sum, |scale| sum * scale[head]);
        self.bias.map_or(scaled, |bias| scaled + bias[channel])
    }
}

/// The sums of [`RowSum::groups`] in the registers of AVX2, where numbers are `f32` and the
/// function around is compiled for it, which is proven; says whether it could.
#[inline(always)]
#[allow(unsafe_code, unused_variables)]
#[allow(clippy::too_many_arguments, reason = "everything stays in registers")]
fn in_registers<'w, F: Scalar, const K: usize>(
    known: impl Known,
    sum: &RowSum<F>,
    width: usize,
    first: usize,
    span: Range<usize>,
    heads: [usize; K],
    weights: &impl Fn(usize) -> &'w [F],
    sums: &mut [[F; LANES]; K],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Some(_proof) = known.avx2_fma()
        && let (Some(x), Some(sums)) = (F::as_f32(sum.x), F::as_f32_mut(sums.as_flattened_mut()))
    {
        let weights = |e: usize| F::as_f32(weights(e)).expect("weights are of the type of rows");
        // SAFETY: the proof says that the processor has the features.
        unsafe { x86::group_sums(x, sum.rows, width, first, span, heads, weights, sums) };
        return true;
    }
    false
}

by_level! {
    fn forward_rows<F, S: Scores<F>>(job: &Attend<F, S>, block: Range<usize>, y: &mut [F]) = forward_rows_here, known
}

#[inline(always)]
fn forward_rows_here<F: Scalar, S: Scores<F>>(
    known: impl Known,
    job: &Attend<F, S>,
    block: Range<usize>,
    y: &mut [F],
) {
    match job.heads {
        1 => job.rows::<1, _>(known, block, y),
        4 => job.rows::<4, _>(known, block, y),
        8 => job.rows::<8, _>(known, block, y),
        _ => job.rows::<0, _>(known, block, y),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cases::{assert_same_in_all_pools, dense, sparse};
    use crate::kernels::simd::Unknown;
    use crate::kernels::{AdditiveScores, reference};

    /// Terms of the score, softmax and sum, each good to about a rounding, over at most some
    /// hundred edges.
    const TOLERANCE: f32 = 1e-4;

    fn attend(nodes: usize, degree: usize, heads: usize, dim: usize) -> (Vec<f32>, Vec<f32>) {
        let a = sparse::<f32>(nodes, nodes, degree, 1);
        let (starts, sources, _) = a.view().into_raw_storage();
        let z = dense::<f32>(nodes, heads * dim, 2).into_raw_vec_and_offset().0;
        let own = dense::<f32>(nodes, 2 * heads, 3).into_raw_vec_and_offset().0;
        let (source, target) = own.split_at(nodes * heads);
        let att = vec![0.0; heads * dim];
        let scores = AdditiveScores {
            source,
            target,
            edge: None,
            att_source: &att,
            att_target: &att,
            heads,
            slope: 0.2,
        };
        let edges = Neighbourhoods { starts, sources, back_starts: &[], targets: &[], places: &[] };
        let mut y = vec![f32::NAN; z.len()];
        let bias = dense::<f32>(1, heads * dim, 4).into_raw_vec_and_offset().0;
        let attend =
            Attend { edges, scores: &scores, heads, dim, z: &z, dropout: None, bias: Some(&bias) };
        attend.forward(&mut y);
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let mut other = vec![f32::NAN; z.len()];
            attend.forward_with(isa, &mut other);
            assert!(
                other.iter().zip(&y).all(|(a, b)| (a - b).abs() <= TOLERANCE),
                "{isa:?}, {heads} heads of {dim}"
            );
        }
        let mut all = vec![0.0; sources.len() * heads];
        for i in 0..nodes {
            let row = edges.edges_into(i);
            scores.score::<0>(
                row,
                &mut [],
                &mut all[row.first * heads..][..row.sources.len() * heads],
            );
        }
        let mut expected = reference::attend(starts, sources, &all, &z, heads);
        expected
            .chunks_exact_mut(bias.len())
            .for_each(|row| row.iter_mut().zip(&bias).for_each(|(y, &b)| *y += b));
        (y, expected)
    }

    #[test]
    fn agrees_with_the_reference_at_every_width_and_gives_zero_where_nothing_comes_in() {
        for (heads, dim) in [
            (1, 1),
            (1, 7),
            (1, 61),
            (3, 5),
            (4, 4),
            (8, 8),
            (8, 3),
            (4, 24),
            (2, 16),
            (1, 32),
            (2, 40),
        ] {
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
    fn a_diverged_score_reaches_the_sums_of_its_targets_on_every_level() {
        // Node 1 has neighbours 0 and 2, node 2 only 0.
        let (starts, sources) = ([0, 1, 3, 4], [0, 0, 2, 0]);
        let edges = Neighbourhoods {
            starts: &starts,
            sources: &sources,
            back_starts: &[],
            targets: &[],
            places: &[],
        };
        let (z, zeros, att) = ([1.0f32; 3 * 64], [0.0f32; 3 * 8], [0.0; 64]);
        let mut source = zeros;
        source[2 * 8 + 5] = f32::NAN;
        let scores = AdditiveScores {
            source: &source,
            target: &zeros,
            edge: None,
            att_source: &att,
            att_target: &att,
            heads: 8,
            slope: 0.2,
        };
        for isa in Isa::ALL.into_iter().filter(|isa| isa.available()) {
            let mut y = [0.0f32; 3 * 64];
            Attend { edges, scores: &scores, heads: 8, dim: 8, z: &z, dropout: None, bias: None }
                .forward_with(isa, &mut y);
            for (k, y) in y.iter().enumerate() {
                let diverged = (64 + 5 * 8..64 + 6 * 8).contains(&k);
                assert!(
                    if diverged { y.is_nan() } else { *y == 1.0 },
                    "{isa:?}: channel {k} is {y}"
                );
            }
        }
    }

    #[test]
    fn a_diverged_score_is_not_hidden() {
        let (mut scores, mut sums) = ([1.0f32, f32::NAN, 2.0, 0.0, 9.0, 9.0, 9.0, 9.0], [0.0, 0.0]);
        exponentials::<_, f32, 2>(Unknown, &mut scores, 4, &mut sums, Ahead::nothing());
        assert!(sums[1].is_nan() && sums[0] == scores[0] + scores[2] && scores[2] == 1.0);
        let mut scores = [1.0f32, f32::NAN, 2.0, 0.0];
        exponentials::<_, f32, 0>(Unknown, &mut scores, 4, &mut sums, Ahead::nothing());
        assert!(sums[1].is_nan() && sums[0] == scores[0] + scores[2] && scores[2] == 1.0);
    }
}
