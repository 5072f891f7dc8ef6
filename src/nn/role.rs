//! What a layer is to code that rewrites networks.

/// What a layer is, whatever it is called: a layer from another crate is treated like ours. See
/// [`Layer::role`](super::Layer::role).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// `Σ_k a_k·X_k`, one coefficient per input. With two inputs and coefficients of 1 it closes a
    /// residual block, which [`LayerPruner`](crate::LayerPruner) can take out.
    Sum(Vec<f64>),
    /// Anything else.
    Other,
}
