//! Least squares on what linear maps compute: the one piece of algebra behind choosing channels,
//! repairing truncated weights and rounding.
//!
//! A layer's weight `W` matters by what it computes from the inputs that it really sees, `Z = G·W`.
//! Whatever is taken from a network (channels, weights, bits), the weights that are left are solved
//! again so that `‖Z − G·V‖²` is smallest: no label is read and no epoch trained. Layers are solved
//! from the input to the output, each against the values of the network as it was, with the inputs
//! that the layers before it, changed already, really give. The error that has come so far is then
//! part of what the next layer mends.
//!
//! | file | what |
//! |---|---|
//! | `rows` | which nodes calibrate |
//! | `normal` | `GᵀG` and `GᵀZ` of one map, as a matrix or, where that is too wide, by products with `G` |
//! | `cholesky` | the factor that systems are solved with |
//! | `solve` | columns solved again on their supports |
//! | `grid` | the numbers that integers stand for |
//! | `round` | columns rounded with compensation |
//! | `stretch` | layers in a row in the place of one that was there |
//! | `walk` | two networks run side by side, map by map |
//!
//! *Source*: Hassibi and Stork, "Second Order Derivatives for Network Pruning: Optimal Brain
//! Surgeon", NeurIPS 1993; He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural
//! Networks", ICCV 2017; Frantar and Alistarh, "Optimal Brain Compression", NeurIPS 2022.

mod cholesky;
mod grid;
mod normal;
mod round;
mod rows;
mod solve;
mod stretch;
mod walk;

pub(crate) use cholesky::Cholesky;
pub(crate) use grid::Grid;
pub(crate) use normal::WIDEST;
pub use rows::Calibrate;
pub(crate) use stretch::Stretch;
pub(crate) use walk::{GridOf, Reader, Settings, Unchanged, readers, solve_again};

/// Share of the mean of the diagonal of `GᵀG` that is added to it, so that equal, dead and rare
/// inputs do no harm.
const RIDGE: f64 = 1e-3;
