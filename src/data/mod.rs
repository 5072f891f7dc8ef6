//! Data sets for node classification: a graph, a row of features and a label per node, and splits;
//! and for graph classification, sets of graphs with a label each ([`GraphSet`]).
//!
//! They come from files ([`Dataset::read`]), from memory ([`Dataset::new`]), from the crate itself
//! ([`Dataset::digits`]) or from generators ([`Sbm`], [`PowerLaw`]); [`Dataset::open`] resolves the
//! word that stands for any of them on the command line.

#[cfg(feature = "readers")]
mod array_file;
mod dataset;
mod digits;
mod edges;
mod fingerprint;
mod graphs;
mod interactions;
mod labels;
mod links;
#[cfg(feature = "readers")]
mod listed;
mod norm;
#[cfg(feature = "readers")]
mod npz;
#[cfg(feature = "readers")]
mod numbers;
#[cfg(feature = "readers")]
mod parts;
mod planted;
mod powerlaw;
mod purpose;
#[cfg(feature = "readers")]
mod reader;
mod sbm;
#[cfg(feature = "readers")]
mod sheet;
mod spec;
mod split;
#[cfg(feature = "readers")]
mod table;
#[cfg(feature = "readers")]
mod tables;
#[cfg(feature = "readers")]
mod tensors;
#[cfg(feature = "readers")]
mod wanted;

pub use dataset::Dataset;
pub use graphs::{GraphSet, Selected};
pub use interactions::Interactions;
pub use labels::{Labels, UNLABELED};
pub use links::{EdgeSplit, Triple, Triples};
pub use norm::FeatureNorm;
pub use powerlaw::PowerLaw;
pub use purpose::Purpose;
#[cfg(feature = "readers")]
pub use reader::Reader;
pub use sbm::Sbm;
pub(crate) use split::check_part;
pub use split::{Split, SplitSource, Splits};
