//! One entry of a parameter, as criteria see it.

/// Which entry of a parameter, and what is known of it; zero where it was not asked for.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Entry<F> {
    /// Its value `w`.
    pub weight: F,
    /// `∂L/∂w` on the training nodes.
    pub gradient: F,
    /// The mean over the training nodes of the square of each one's own gradient.
    pub fisher: F,
}
