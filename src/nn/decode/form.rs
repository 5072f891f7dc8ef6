//! How a node and a relation become the row that candidates are compared with.

use super::score::Match;
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};

/// A way to score two nodes and the relation between them: the row `h` of a node and the row `r`
/// of a relation become the row `q` of a query, which is compared with the rows `t` of candidates.
/// A complex number is two neighbouring channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Form {
    /// `h·t`, without relations: Kipf and Welling, "Variational graph auto-encoders", 2016, eq. 2.
    Dot,
    /// `Σ_k h_k r_k t_k`: Yang et al., ICLR 2015, eq. 2 with a diagonal matrix.
    DistMult,
    /// `Re Σ_k h_k r_k t̄_k` over complex numbers: Trouillon et al., ICML 2016, eq. 9.
    ComplEx,
    /// `−Σ_k |h_k r_k − t_k|` over complex numbers with `|r_k| = 1`, which is what is made of any
    /// other `r_k` but 0, which stands for 1: Sun et al., ICLR 2019, eq. 5 with the 1-norm.
    RotatE,
}

impl Form {
    /// How many neighbouring channels are one number.
    pub fn parts(self) -> usize {
        if matches!(self, Form::ComplEx | Form::RotatE) { 2 } else { 1 }
    }

    /// Whether relations have rows.
    pub fn has_relations(self) -> bool {
        self != Form::Dot
    }

    pub(crate) fn compares_by(self) -> Match {
        if self == Form::RotatE { Match::ComplexDistance } else { Match::Dot }
    }

    /// The row `q` of a query: `h` is that of its node, `r` that of its relation.
    pub(crate) fn compose<F: Scalar>(self, h: &[F], r: &[F], inverse: bool, q: &mut [F]) {
        match self {
            Form::Dot => q.copy_from_slice(h),
            Form::DistMult => {
                q.iter_mut().zip(h).zip(r).for_each(|((q, &h), &r)| *q = h * r);
            }
            Form::ComplEx | Form::RotatE => {
                let pairs = h.as_chunks::<2>().0.iter().zip(r.as_chunks::<2>().0);
                for (q, (&h, &r)) in q.as_chunks_mut::<2>().0.iter_mut().zip(pairs) {
                    let r = if self == Form::RotatE { unit(r) } else { r };
                    *q = times(h, turned(r, inverse));
                }
            }
        }
    }

    /// Adds the gradients by `h` and by `r`, given `dq`.
    pub(super) fn back<F: Scalar>(
        self,
        h: &[F],
        r: &[F],
        inverse: bool,
        dq: &[F],
        dh: &mut [F],
        dr: &mut [F],
    ) {
        match self {
            Form::Dot => dh.iter_mut().zip(dq).for_each(|(dh, &dq)| *dh += dq),
            Form::DistMult => {
                dh.iter_mut().zip(dq).zip(r).for_each(|((dh, &dq), &r)| *dh += dq * r);
                dr.iter_mut().zip(dq).zip(h).for_each(|((dr, &dq), &h)| *dr += dq * h);
            }
            Form::ComplEx | Form::RotatE => {
                let (h, r) = (h.as_chunks::<2>().0, r.as_chunks::<2>().0);
                let grads = dh.as_chunks_mut::<2>().0.iter_mut().zip(dr.as_chunks_mut::<2>().0);
                let given = dq.as_chunks::<2>().0.iter().zip(h).zip(r);
                for ((dh, dr), ((&dq, &h), &r)) in grads.zip(given) {
                    let length = r[0].hypot(r[1]);
                    let used = if self == Form::RotatE { unit(r) } else { r };
                    // Of q = h·s the gradients are dq·s̄ and dq·h̄; s̄ is r where s is r̄.
                    let by_h = times(dq, turned(used, !inverse));
                    let by_s = times(dq, turned(h, true));
                    let mut by_r = turned(by_s, inverse);
                    if self == Form::RotatE {
                        // Of r/|r|: what lies along r falls away.
                        let along = by_r[0] * used[0] + by_r[1] * used[1];
                        let part = |k: usize| (by_r[k] - along * used[k]) / length;
                        by_r = if length > F::zero() { [part(0), part(1)] } else { [F::zero(); 2] };
                    }
                    (dh[0], dh[1]) = (dh[0] + by_h[0], dh[1] + by_h[1]);
                    (dr[0], dr[1]) = (dr[0] + by_r[0], dr[1] + by_r[1]);
                }
            }
        }
    }
}

fn times<F: Scalar>(a: [F; 2], b: [F; 2]) -> [F; 2] {
    [a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]]
}

fn turned<F: Scalar>(a: [F; 2], conjugate: bool) -> [F; 2] {
    if conjugate { [a[0], -a[1]] } else { a }
}

/// A number of length 1 in the direction of `r`: 1 for 0.
fn unit<F: Scalar>(r: [F; 2]) -> [F; 2] {
    let length = r[0].hypot(r[1]);
    if length > F::zero() { [r[0] / length, r[1] / length] } else { [F::one(), F::zero()] }
}
