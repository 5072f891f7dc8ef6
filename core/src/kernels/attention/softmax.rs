//! The softmax over the edges of a target, each head by itself.
//!
//! Scores lie edge after edge, the heads of an edge beside each other: `[edges, heads]`. There are
//! three forms:
//!
//! 1. A number of heads `H` that the compiler knows and that divides eight (the callers say 1, 4
//!    and 8), `f32`, AVX2 proven: a register of eight lanes holds `8 / H` edges, and lane `l` is
//!    always of head `l mod H`. Maxima and sums are taken lane by lane, and only at the end over
//!    the lanes of a head: no shuffle within the loop.
//! 2. The same number of heads otherwise: the same text on arrays of eight, which the compiler
//!    turns into what registers it knows. The order of additions is that of the first form.
//! 3. Any other number of heads: edge by edge. `exp` still goes eight numbers at a time, across
//!    edges, since it looks at each by itself.
//!
//! The first two need whole registers, so the caller hands in room up to the next multiple of
//! eight. What is padded is −∞: it is never the maximum of a head with an edge, and `e^{−∞ − max}`
//! is at most the smallest normal number, which a sum that holds a 1 does not feel.

#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::kernels::buffer::prefetch;
use crate::kernels::elementwise::exp;
use crate::kernels::simd::{Known, LANES, array, called_if_portable};
use crate::scalar::Scalar;

/// Numbers that are needed soon, some for each source: memory can answer while there is much to
/// compute.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a, F> {
    pub(super) sources: &'a [u32],
    /// `[n, width]`.
    pub(super) numbers: &'a [F],
    pub(super) width: usize,
}

impl<F> Ahead<'_, F> {
    pub(super) fn nothing() -> Self {
        Ahead { sources: &[], numbers: &[], width: 0 }
    }

    #[inline(always)]
    fn fetch(&self, edge: usize, width: usize) {
        if let Some(&source) = self.sources.get(edge) {
            prefetch(self.numbers.as_ptr().wrapping_add(source as usize * width), width);
        }
    }
}

called_if_portable! {
    /// `e^{s − max}` over the edges, each head by itself, in place; `head` gets their sums.
    /// `scores` holds `[edges, heads]` in its first `len` numbers, and room up to a whole number of
    /// registers; `H` as in `Attend::rows`. `ahead` is asked for edge by edge, and perhaps for some
    /// edges of the next target.
    pub(super) fn exponentials<F, const H>(
        scores: &mut [F], len: usize, head: &mut [F], ahead: Ahead<F>,
    ) = exponentials_here
}

#[inline(always)]
fn exponentials_here<F: Scalar, const H: usize>(
    known: impl Known,
    scores: &mut [F],
    len: usize,
    head: &mut [F],
    ahead: Ahead<F>,
) {
    // What is asked for is one number per head.
    let meanwhile = |edge: usize| ahead.fetch(edge, if H == 0 { ahead.width } else { H });
    if H == 0 || !LANES.is_multiple_of(H) {
        return exponentials_of_any(&mut scores[..len], head, meanwhile);
    }
    // Padding lanes are minus infinity.
    scores[len..].fill(F::neg_infinity());
    let of_head = |lane: usize| (lane % H..LANES).step_by(H);
    let larger = |a: F, b: F| if b > a { b } else { a };
    let of_lanes = |max: [F; LANES]| {
        array(|lane| of_head(lane).map(|other| max[other]).fold(max[lane], larger))
    };
    let edges = |register: usize| {
        for edge in 0..LANES / H {
            meanwhile(register * (LANES / H) + edge);
        }
    };
    let max = of_lanes(largest(known, scores));
    let sums = exponentiate(known, scores, max, edges);
    for (h, sum) in head.iter_mut().enumerate() {
        *sum = of_head(h).map(|lane| sums[lane]).sum();
    }
}

/// The largest number of each lane of whole registers; NaN is passed over.
#[inline(always)]
#[allow(unsafe_code, unused_variables)]
fn largest<F: Scalar>(known: impl Known, scores: &[F]) -> [F; LANES] {
    let mut max = [F::neg_infinity(); LANES];
    #[cfg(target_arch = "x86_64")]
    if let Some(_proof) = known.avx2_fma()
        && let (Some(scores), Some(out)) = (F::as_f32(scores), F::as_f32_mut(&mut max))
    {
        // SAFETY: the proof says that the processor has the features.
        unsafe { x86::largest(scores, out) };
        return max;
    }
    for scores in scores.as_chunks::<LANES>().0 {
        for (max, &s) in max.iter_mut().zip(scores) {
            *max = if s > *max { s } else { *max };
        }
    }
    max
}

/// `e^{s − max}` lane by lane in place, and the sum of each lane; `meanwhile` is told about every
/// register.
#[inline(always)]
#[allow(unsafe_code, unused_variables)]
fn exponentiate<F: Scalar>(
    known: impl Known,
    scores: &mut [F],
    max: [F; LANES],
    meanwhile: impl Fn(usize),
) -> [F; LANES] {
    let mut sums = [F::zero(); LANES];
    #[cfg(target_arch = "x86_64")]
    if let Some(_proof) = known.avx2_fma()
        && let (Some(scores), Some(max), Some(out)) =
            (F::as_f32_mut(scores), F::as_f32(&max), F::as_f32_mut(&mut sums))
    {
        // SAFETY: the proof says that the processor has the features.
        unsafe { x86::exponentials(scores, max, out, meanwhile) };
        return sums;
    }
    for (k, scores) in scores.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        meanwhile(k);
        *scores = exp(array(|lane| scores[lane] - max[lane]));
        sums = array(|lane| sums[lane] + scores[lane]);
    }
    sums
}

/// [`exponentials`] for any number of heads.
#[inline(always)]
fn exponentials_of_any<F: Scalar>(scores: &mut [F], head: &mut [F], meanwhile: impl Fn(usize)) {
    let heads = head.len();
    head.fill(F::neg_infinity());
    for row in scores.chunks_exact(heads) {
        for (max, &s) in head.iter_mut().zip(row) {
            *max = if s > *max { s } else { *max };
        }
    }
    for (edge, row) in scores.chunks_exact_mut(heads).enumerate() {
        meanwhile(edge);
        for (s, &max) in row.iter_mut().zip(&*head) {
            *s -= max;
        }
    }
    let (whole, rest) = scores.as_chunks_mut::<LANES>();
    for scores in whole {
        *scores = exp(*scores);
    }
    for score in rest {
        [*score] = exp([*score]);
    }
    head.fill(F::zero());
    for row in scores.chunks_exact(heads) {
        for (sum, &e) in head.iter_mut().zip(row) {
            *sum += e;
        }
    }
}
