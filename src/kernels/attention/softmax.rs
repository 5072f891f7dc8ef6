//! The softmax over the edges of a target, a head by itself.

#[cfg(target_arch = "x86_64")]
use super::x86;
use crate::kernels::elementwise::exp;
use crate::kernels::simd::{Known, LANES};
use crate::scalar::Scalar;

/// `e^{s − max}` over the edges, a head by itself, in place; `head` gets their sums. `scores` holds
/// `[edges, heads]` in its first `len` numbers, and room up to a whole number of registers; `H` as
/// in [`Attend::rows`]. `meanwhile` is told about every edge, and perhaps about some that are not
/// there: memory can answer while there is much to compute.
#[inline(always)]
pub(super) fn exponentials<F: Scalar, const H: usize>(
    known: impl Known,
    scores: &mut [F],
    len: usize,
    head: &mut [F],
    meanwhile: impl Fn(usize),
) {
    if H == 0 || !LANES.is_multiple_of(H) {
        return exponentials_of_any(&mut scores[..len], head, meanwhile);
    }
    // Padding lanes are minus infinity.
    scores[len..].fill(F::neg_infinity());
    let of_head = |lane: usize| (lane % H..LANES).step_by(H);
    let larger = |a: F, b: F| if b > a { b } else { a };
    let of_lanes = |most: [F; LANES]| {
        std::array::from_fn(|lane| of_head(lane).map(|other| most[other]).fold(most[lane], larger))
    };
    let edges = |register: usize| {
        for edge in 0..LANES / H {
            meanwhile(register * (LANES / H) + edge);
        }
    };
    let most = of_lanes(largest(known, scores));
    let sums = exponentiate(known, scores, most, edges);
    for (h, sum) in head.iter_mut().enumerate() {
        *sum = of_head(h).map(|lane| sums[lane]).sum();
    }
}

/// The largest number of each lane of whole registers; NaN is passed over.
#[inline(always)]
#[allow(unsafe_code, unused_variables)]
fn largest<F: Scalar>(known: impl Known, scores: &[F]) -> [F; LANES] {
    let mut most = [F::neg_infinity(); LANES];
    #[cfg(target_arch = "x86_64")]
    if let Some(_proof) = known.avx2_fma()
        && let (Some(scores), Some(out)) = (F::as_f32(scores), F::as_f32_mut(&mut most))
    {
        // SAFETY: the proof says that the processor has the features.
        unsafe { x86::largest(scores, out) };
        return most;
    }
    for scores in scores.as_chunks::<LANES>().0 {
        for (most, &s) in most.iter_mut().zip(scores) {
            *most = if s > *most { s } else { *most };
        }
    }
    most
}

/// `e^{s − most}` lane by lane in place, and the sum of each lane; `meanwhile` is told about every
/// register.
#[inline(always)]
#[allow(unsafe_code, unused_variables)]
fn exponentiate<F: Scalar>(
    known: impl Known,
    scores: &mut [F],
    most: [F; LANES],
    meanwhile: impl Fn(usize),
) -> [F; LANES] {
    let mut sums = [F::zero(); LANES];
    #[cfg(target_arch = "x86_64")]
    if let Some(_proof) = known.avx2_fma()
        && let (Some(scores), Some(most), Some(out)) =
            (F::as_f32_mut(scores), F::as_f32(&most), F::as_f32_mut(&mut sums))
    {
        // SAFETY: the proof says that the processor has the features.
        unsafe { x86::exponentials(scores, most, out, meanwhile) };
        return sums;
    }
    for (k, scores) in scores.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        meanwhile(k);
        *scores = exp(std::array::from_fn(|lane| scores[lane] - most[lane]));
        sums = std::array::from_fn(|lane| sums[lane] + scores[lane]);
    }
    sums
}

/// [`exponentials`] for any number of heads.
#[inline(always)]
fn exponentials_of_any<F: Scalar>(scores: &mut [F], head: &mut [F], meanwhile: impl Fn(usize)) {
    let heads = head.len();
    head.fill(F::neg_infinity());
    for row in scores.chunks_exact(heads) {
        for (most, &s) in head.iter_mut().zip(row) {
            *most = if s > *most { s } else { *most };
        }
    }
    for (edge, row) in scores.chunks_exact_mut(heads).enumerate() {
        meanwhile(edge);
        for (s, &most) in row.iter_mut().zip(&*head) {
            *s -= most;
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
