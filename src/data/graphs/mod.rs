//! Sets of graphs, each with a class: for graph classification.
//!
//! All graphs of a set stand side by side in one [`Graph`](crate::Graph) that no edge of one leaves
//! for another, so that a batch of them is slices of it ([`GraphSet::select`]).
//!
//! | from | by |
//! |---|---|
//! | the text form of Xu et al. 2019, `MUTAG.txt` | [`GraphSet::read_text`] |
//! | a folder as TU Dortmund has them, `MUTAG_A.txt` and its like | [`GraphSet::read_tu`] |
//! | a list of `Data` of PyTorch Geometric, or the `data.pt` of its data set (feature `pt`) | `GraphSet::read_pyg` |
//! | any of these, whichever a path is | [`GraphSet::read`] |
//! | memory | [`GraphSet::new`] |
//! | a generator | [`GraphSet::cycles_or_trees`] |

mod cycles;
mod lines;
mod listed;
#[cfg(feature = "pt")]
mod pyg;
mod set;
mod text;
mod tu;

pub use set::{GraphSet, Selected};
