//! Attention as layers call it: by each kind of scores, compiled here for `f32` and `f64`.

use super::forward::Attend;
use super::scores::{AdditiveScores, ChannelScores};
use crate::kernels::simd::Isa;
use crate::scalar::{Scalar, compiled_here};

macro_rules! doors {
    ($scores:ident, $forward:ident, $to_targets:ident, $to_sources:ident) => {
        impl<F: Scalar> Attend<'_, F, $scores<'_, F>> {
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
                $forward(self, isa, y);
            }

            /// First half of the backward pass: `dα_ijh = dy_ih·z_jh`,
            /// `ds_ij = α_ij (dα_ij − Σ_k α_ik dα_ik)`.
            ///
            /// Overwrites `pairs: [edges, 2·heads]` with the weights after dropout and the
            /// gradients for the sources, and `dtarget` with the targets' gradients; returns the
            /// shared gradient.
            ///
            /// # Panics
            /// If the shapes do not fit.
            pub fn to_targets(&self, dy: &[F], pairs: &mut [F], dtarget: &mut [F]) -> Vec<F> {
                self.to_targets_with(Isa::best(), dy, pairs, dtarget)
            }

            /// [`Attend::to_targets`] with the instructions of one level.
            ///
            /// # Panics
            /// As [`Attend::to_targets`], and if the processor does not have the level.
            #[doc(hidden)]
            pub fn to_targets_with(
                &self,
                isa: Isa,
                dy: &[F],
                pairs: &mut [F],
                dtarget: &mut [F],
            ) -> Vec<F> {
                $to_targets(self, isa, dy, pairs, dtarget)
            }

            /// Second half: `dz_j = Σ_i α_ij dy_i` and what the scores add. Overwrites
            /// `dz: [n, heads·dim]` and the sources' own gradients.
            ///
            /// # Panics
            /// If the shapes do not fit.
            pub fn to_sources(
                &self,
                dy: &[F],
                pairs: &[F],
                dtarget: &[F],
                dz: &mut [F],
                dsource: &mut [F],
            ) {
                self.to_sources_with(Isa::best(), dy, pairs, dtarget, dz, dsource);
            }

            /// [`Attend::to_sources`] with the instructions of one level.
            ///
            /// # Panics
            /// As [`Attend::to_sources`], and if the processor does not have the level.
            #[doc(hidden)]
            pub fn to_sources_with(
                &self,
                isa: Isa,
                dy: &[F],
                pairs: &[F],
                dtarget: &[F],
                dz: &mut [F],
                dsource: &mut [F],
            ) {
                $to_sources(self, isa, dy, pairs, dtarget, dz, dsource);
            }
        }

        compiled_here! {
            fn $forward<F>(job: &'a Attend<'a, F, $scores<'a, F>>, isa: Isa, y: &'a mut [F]) = Attend::forward_any
        }

        compiled_here! {
            fn $to_targets<F>(job: &'a Attend<'a, F, $scores<'a, F>>, isa: Isa, dy: &'a [F], pairs: &'a mut [F], dtarget: &'a mut [F]) -> Vec<F> = Attend::to_targets_any
        }

        compiled_here! {
            fn $to_sources<F>(
                job: &'a Attend<'a, F, $scores<'a, F>>, isa: Isa, dy: &'a [F], pairs: &'a [F], dtarget: &'a [F], dz: &'a mut [F],
                dsource: &'a mut [F],
            ) = Attend::to_sources_any
        }
    };
}

doors!(AdditiveScores, additive_forward, additive_to_targets, additive_to_sources);
doors!(ChannelScores, channel_forward, channel_to_targets, channel_to_sources);
