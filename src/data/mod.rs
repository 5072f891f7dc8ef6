//! Data sets for node classification: a graph, a row of features and a label per node, and splits.
//!
//! They come from files ([`Dataset::read`]), from memory ([`Dataset::new`]), from the crate itself
//! ([`Dataset::digits`]) or from generators ([`Sbm`], [`PowerLaw`]); [`Dataset::open`] resolves the
//! word that stands for any of them on the command line.

mod dataset;
mod digits;
mod edges;
mod fingerprint;
mod labels;
mod norm;
mod npz;
mod numbers;
mod parts;
mod planted;
mod powerlaw;
mod reader;
mod sbm;
mod sheet;
mod spec;
mod split;
mod table;
mod tables;
mod tensors;

pub use dataset::{Dataset, UNLABELLED};
pub use labels::Labels;
pub use norm::FeatureNorm;
pub use powerlaw::PowerLaw;
pub use reader::{Purpose, Reader};
pub use sbm::Sbm;
pub(crate) use split::check_part;
pub use split::{Split, SplitSource, Splits};
