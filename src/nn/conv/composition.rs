//! How the row of a node and the row of a relation become a message.

use crate::graph::RelationPairs;
use crate::kernels::{self, Epilogue};
use crate::nn::Cx;
use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut2, s};
use serde::{Deserialize, Serialize};

/// `φ(x, z)`, of one width all three. Every one of them is linear in `x`, so that what several
/// neighbours send over one relation is composed once: `Σ_u w_u φ(x_u, z) = φ(Σ_u w_u x_u, z)` for
/// products, and with `−z·Σ_u w_u` for differences.
///
/// *Source*: Vashishth et al., ICLR 2020, §4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Composition {
    /// `x − z` (Bordes et al., "TransE", NeurIPS 2013).
    Subtraction,
    /// `x ⊙ z` (Yang et al., "DistMult", ICLR 2015).
    #[default]
    Product,
    /// `(x ⋆ z)_k = Σ_i x_i z_{(i+k) mod d}`, circular correlation (Nickel et al., "HolE", AAAI
    /// 2016).
    Correlation,
}

impl Composition {
    /// Whether channel `c` of the message is made of channels `c` alone.
    pub(super) fn is_by_channel(self) -> bool {
        self != Composition::Correlation
    }

    /// Multiply-accumulates per message of `d` channels.
    pub(super) fn macs(self, d: usize) -> usize {
        if self.is_by_channel() { d } else { d * d }
    }

    /// The sum of the weights of each pair, where the composition asks for it.
    fn masses<F: Scalar>(self, pairs: &RelationPairs<F>) -> Option<Vec<F>> {
        (self == Composition::Subtraction).then(|| {
            let rows = pairs.gather();
            rows.outer_iterator().map(|row| row.data().iter().copied().sum()).collect()
        })
    }

    /// Composes sums of neighbours' rows `h: [m, d]` with the row of their relation: `t: [m, d]`.
    /// `masses` are the sums of the neighbours' weights, 1 where there are none.
    pub(super) fn compose<F: Scalar>(
        self,
        h: ArrayView2<F>,
        masses: Option<&[F]>,
        z: ArrayView1<F>,
        t: ArrayViewMut2<F>,
    ) {
        match self {
            Composition::Subtraction => kernels::map_rows(t, |i, t| {
                let mass = masses.map_or(F::one(), |masses| masses[i]);
                t.iter_mut().zip(h.row(i)).zip(z).for_each(|((t, &h), &z)| *t = h - mass * z);
            }),
            Composition::Product => kernels::map_rows(t, |i, t| {
                t.iter_mut().zip(h.row(i)).zip(z).for_each(|((t, &h), &z)| *t = h * z);
            }),
            Composition::Correlation => kernels::matmul(h, rotated(z).view(), t),
        }
    }

    /// Gradients, given `dt: [m, d]`: that by `h` is written to `dh`, that by `z` is returned.
    pub(super) fn back<F: Scalar>(
        self,
        h: ArrayView2<F>,
        masses: Option<&[F]>,
        z: ArrayView1<F>,
        dt: ArrayView2<F>,
        mut dh: ArrayViewMut2<F>,
    ) -> Vec<F> {
        let mut dz = vec![F::zero(); z.len()];
        match self {
            // dh = dt, dz = −Σ_i mass_i·dt_i.
            Composition::Subtraction => {
                match masses {
                    None => kernels::column_sums(dt, &mut dz),
                    Some(masses) => {
                        kernels::map_rows(dh.view_mut(), |i, dh| {
                            dh.iter_mut().zip(dt.row(i)).for_each(|(dh, &dt)| *dh = masses[i] * dt);
                        });
                        kernels::column_sums(dh.view(), &mut dz);
                    }
                }
                dz.iter_mut().for_each(|dz| *dz = -*dz);
                kernels::copy_rows(dt, dh);
            }
            // dh = dt ⊙ z, dz = Σ_i h_i ⊙ dt_i.
            Composition::Product => {
                kernels::map_rows(dh.view_mut(), |i, dh| {
                    let terms = dh.iter_mut().zip(h.row(i)).zip(dt.row(i));
                    terms.for_each(|((dh, &h), &dt)| *dh = h * dt);
                });
                kernels::column_sums(dh.view(), &mut dz);
                kernels::map_rows(dh, |i, dh| {
                    dh.iter_mut().zip(dt.row(i)).zip(z).for_each(|((dh, &dt), &z)| *dh = dt * z);
                });
            }
            // With C_ik = z_{(i+k) mod d}: dh = dt·Cᵀ, dC = hᵀ·dt, dz_m = Σ_{i+k ≡ m} dC_ik.
            Composition::Correlation => {
                let d = z.len();
                kernels::matmul_nt(dt, rotated(z).view(), dh);
                let mut dc = Array2::zeros((d, d));
                kernels::matmul_tn(h, dt, dc.view_mut());
                dc.indexed_iter().for_each(|((i, k), &dc)| dz[(i + k) % d] += dc);
            }
        }
        dz
    }
}

/// `C_ik = z_{(i+k) mod d}`, so that `x ⋆ z = x·C`.
fn rotated<F: Scalar>(z: ArrayView1<F>) -> Array2<F> {
    let d = z.len();
    Array2::from_shape_fn((d, d), |(i, k)| z[(i + k) % d])
}

/// What the neighbours of one direction have sent.
#[derive(Debug)]
pub struct Gathered<F: Scalar> {
    /// The sums over each pair of a node and a relation, `[pairs, d]`; nothing where no gradient
    /// reads them.
    pub(super) pairs: Option<Array2<F>>,
    /// The composed messages of each node, `[n, d]`.
    pub(super) nodes: Array2<F>,
}

/// Adds up what the neighbours `x: [n, d]` send over the relations `z: [relations, d]` of `pairs`.
pub(super) fn gather<F: Scalar>(
    cx: &Cx<F>,
    composition: Composition,
    pairs: &RelationPairs<F>,
    x: ArrayView2<F>,
    z: ArrayView2<F>,
) -> Gathered<F> {
    let shape = (pairs.len(), x.ncols());
    let (mut h, mut t) = (cx.take(shape), cx.take(shape));
    kernels::spmm(pairs.gather(), x, h.view_mut());
    let masses = composition.masses(pairs);
    for (r, block) in pairs.blocks().iter().enumerate() {
        let rows = s![block.clone(), ..];
        let masses = masses.as_ref().map(|masses| &masses[block.clone()]);
        composition.compose(h.slice(rows), masses, z.row(r), t.slice_mut(rows));
    }
    let mut nodes = cx.take(x.dim());
    kernels::spmm(pairs.spread(), t.view(), nodes.view_mut());
    cx.give(t);
    if composition == Composition::Subtraction {
        cx.give(h);
        return Gathered { pairs: None, nodes };
    }
    Gathered { pairs: Some(h), nodes }
}

/// The way back of [`gather`], given `dnodes: [n, d]` and the sums over pairs `h` that it kept:
/// gradients by neighbours and by relations are added to `dx` and `dz`.
#[allow(clippy::too_many_arguments)]
pub(super) fn gather_back<F: Scalar>(
    cx: &Cx<F>,
    composition: Composition,
    pairs: &RelationPairs<F>,
    h: Option<Array2<F>>,
    z: ArrayView2<F>,
    dnodes: ArrayView2<F>,
    dx: &mut Array2<F>,
    mut dz: ArrayViewMut2<F>,
) {
    let shape = (pairs.len(), z.ncols());
    let (mut dt, mut dh) = (cx.take(shape), cx.take(shape));
    kernels::spmm(pairs.spread_transposed(), dnodes, dt.view_mut());
    let masses = composition.masses(pairs);
    // A difference reads nothing of it.
    let h = h.unwrap_or_else(|| cx.take(shape));
    for (r, block) in pairs.blocks().iter().enumerate() {
        let rows = s![block.clone(), ..];
        let masses = masses.as_ref().map(|masses| &masses[block.clone()]);
        let (h, dt, dh) = (h.slice(rows), dt.slice(rows), dh.slice_mut(rows));
        let of_relation = composition.back(h, masses, z.row(r), dt, dh);
        dz.row_mut(r).iter_mut().zip(of_relation).for_each(|(dz, own)| *dz += own);
    }
    let add = Epilogue { add: true, ..Epilogue::NONE };
    kernels::spmm_then(pairs.gather_transposed(), dh.view(), dx.view_mut(), add);
    [h, dt, dh].into_iter().for_each(|used| cx.give(used));
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn each_composition_is_its_formula() {
        let (h, z) = (array![[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]], array![4.0, 5.0, 7.0]);
        let of = |composition: Composition, masses: Option<&[f64]>| {
            let mut t = Array2::zeros((2, 3));
            composition.compose(h.view(), masses, z.view(), t.view_mut());
            t
        };
        let difference = array![[-3.0, -3.0, -4.0], [-3.5, -5.0, -8.0]];
        assert_eq!(of(Composition::Subtraction, None), difference);
        let difference = array![[-7.0, -8.0, -11.0], [0.5, 0.0, -1.0]];
        assert_eq!(of(Composition::Subtraction, Some(&[2.0, 0.0])), difference);
        assert_eq!(of(Composition::Product, None), array![[4.0, 10.0, 21.0], [2.0, 0.0, -7.0]]);
        // k = 1: 1·5 + 2·7 + 3·4; k = 2: 1·7 + 2·4 + 3·5.
        let correlation = array![[35.0, 31.0, 30.0], [-5.0, -1.5, -1.5]];
        assert_eq!(of(Composition::Correlation, None), correlation);
    }
}
