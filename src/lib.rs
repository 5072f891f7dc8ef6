//! Makes graph neural networks small and fast on ordinary CPUs: pruning, quantisation and
//! distillation, by hand, on ndarray and sprs.
//!
//! ```
//! use gnn_prune::{ChannelPruner, Dataset, Gcn, Magnitude, Trainer};
//!
//! let data = Dataset::digits()?;
//! let model = Gcn::builder(data.num_features(), data.num_classes()).hidden(64).layers(2).build(0)?;
//! let model = Trainer::builder().epochs(20).build()?.fit(model, &data)?;
//!
//! let plan = ChannelPruner::builder(Magnitude::l2()).ratio(0.5).build()?.plan(&model, &data)?;
//! println!("{plan}");
//! let small = plan.shrink(&model)?;
//! assert!(small.num_params() < model.num_params());
//! # Ok::<(), gnn_prune::Error>(())
//! ```
//!
//! # Where to start
//!
//! | you have | begin at |
//! |---|---|
//! | a graph in a file | [`Dataset::read`] and the [`Reader`](data::Reader) behind it |
//! | a graph in memory | [`Graph::builder`], then [`Dataset::new`] |
//! | a network of PyTorch | [`io::pyg::Checkpoint`], and `docs/from-pytorch.md` |
//! | nothing yet | [`Dataset::digits`], a recipe such as [`Gcn`], and a [`Trainer`] |
//! | a trained model that should be smaller | [`OneShot`] without labels or epochs, or [`Compression`] with steps, controls and a [`Report`] |
//! | a layer, criterion, step, loss, task or optimiser of your own | the traits [`Layer`](nn::Layer), [`Criterion`], [`Step`], [`DistillLoss`], [`Task`], [`Optimizer`](train::Optimizer), the laws in `testing`, a feature, and `docs/tutorial.md` |
//! | many graphs with a class each | [`GraphSet::read`], a [`GraphTask`], [`GinGraphs`] and [`train::CrossValidation`] |
//! | a graph that is too large to train on at once | [`task::Sampler`]: neighbours, subgraphs, clusters; `examples/minibatch.rs` |
//! | nodes that are too many for one pass, or came later | [`Model::infer_nodes`], [`Graph::with_nodes`] |
//! | a step, criterion or loss to be named in recipes | [`pipeline::Word`], added by [`pipeline::Words::with`] |
//!
//! # Rooms
//!
//! Lower ones know nothing of those above; `docs/architecture.md` says how they are built and why.
//!
//! | room | what is there |
//! |---|---|
//! | [`pipeline`] | steps in a row, recipes, controls, runs that can be gone on with |
//! | [`report`] | what a compression costs and gains, as a page, a table or JSON |
//! | [`prune`], [`quant`], [`distill`] | plans for channels, weights and layers; integers; losses of a student |
//! | [`baseline`] | what a network has to beat: neighbours of items, a linear map of them |
//! | [`reconstruct`] | least squares on what linear maps compute |
//! | [`train`] | the training loop: losses, optimisers, observers |
//! | [`task`] | what is asked of a model: outputs, batches, loss, metric |
//! | [`models`] | recipes of whole networks |
//! | [`io`] | model files, and networks of PyTorch in and out |
//! | [`program`] | compiled models and what they cost |
//! | [`nn`] | layers with their gradients, models |
//! | [`data`], [`graph`] | data sets and their readers; graphs and what aggregates over them |
//! | [`value`], [`scalar`], [`rng`], [`files`], [`error`] | what all of them stand on |
//!
//! # Features
//!
//! | feature | by default | adds | and compiles |
//! |---|---|---|---|
//! | `readers` | yes | [`Dataset::read`] and [`Dataset::open`]; networks of PyTorch in [`io::pyg`] | csv, zip, flate2, toml, half |
//! | `report` | yes | [`pipeline`] and [`report`]: compressions, their accounts and pages | strsim |
//! | `recipe` | yes | [`Recipe`]: a compression as TOML or words; with `report` | toml |
//! | `log` | yes | steps and epochs, said to [log](https://docs.rs/log) | log |
//! | `pt` | no | the files of `torch.save`; with `readers` | |
//! | `cli` | no | the program `gnn-prune`, with all of the above | clap and its like |
//! | `testing` | no | `testing`: the laws of layers as functions, for your own tests | |
//!
//! Without any there are layers, models, training, pruning, quantisation, distillation, the files
//! of models, and data from memory, from generators and from the crate itself: what it takes to
//! make a small model and to serve it. Features only add; none changes a result.
#![deny(unsafe_code)]
#![cfg_attr(
    not(all(feature = "readers", feature = "recipe")),
    allow(dead_code, reason = "the rooms below have functions for those that are left out")
)]
#![warn(missing_docs, missing_debug_implementations)]

pub mod baseline;
pub mod data;
pub mod distill;
pub mod error;
pub mod files;
pub mod graph;
pub mod io;
#[cfg(not(feature = "log"))]
mod log;
pub mod models;
pub mod nn;
#[cfg(feature = "report")]
pub mod pipeline;
pub mod program;
pub mod prune;
pub mod quant;
pub mod reconstruct;
#[cfg(feature = "report")]
pub mod report;
pub mod rng;
pub mod task;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod train;

pub(crate) use gnn_prune_core::kernels;
#[doc(inline)]
pub use gnn_prune_core::value;

/// The two number types that the crate computes in.
pub mod scalar {
    #[doc(inline)]
    pub use gnn_prune_core::scalar::Scalar;
    pub(crate) use gnn_prune_core::scalar::compiled_here;
}

pub use data::{Dataset, FeatureNorm, GraphSet, Split};
pub use distill::{
    Adversarial, DistillLoss, Distiller, InputGradients, Nodes, RelaxedRanking, SoftLabels,
};
pub use error::{Error, ModelError, PruneError, Result, Unsupported};
pub use graph::{AdjacencyNorm, Graph, NodeOrder};
pub use kernels::trim;
pub use models::{
    AppnpNet, DeepGcn, Gat, Gcn, Gcn2, Gin, GinGraphs, LightGcn, Links, Mlp, Sage, Sgc,
    StructureFree,
};
pub use nn::Model;
#[cfg(feature = "recipe")]
pub use pipeline::Recipe;
#[cfg(feature = "report")]
pub use pipeline::{
    Checkpoints, Compressed, Compression, Controls, FineTune, OneShot, Outcome, Step,
};
pub use program::Program;
pub use prune::{
    Ablation, ChannelPlan, ChannelPruner, Cosine, Criterion, EarlyBird, EdgePlan, EdgePruner,
    LayerPlan, LayerPruner, Magnitude, Precompute, Random, Scope, Subset, Taylor, WeightPlan,
    WeightPruner,
};
pub use quant::{Bits, QuantModel, Quantizer};
pub use reconstruct::Calibrate;
#[cfg(feature = "report")]
pub use report::Report;
pub use scalar::Scalar;
pub use task::{GraphTask, NodeTask, Task};
pub use train::Trainer;
pub use value::{Value, ValueRef};

#[cfg(feature = "log")]
pub(crate) use ::log;

pub use ndarray;
pub use sprs;

/// The kernels, for this crate's own tests and benches alone: anything here may change at any time.
#[doc(hidden)]
pub mod __kernels {
    pub use gnn_prune_core::kernels::*;
}

/// The program of README.md, compiled as it stands there.
#[cfg(all(doctest, feature = "readers", feature = "report"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The programs of docs/tutorial.md, compiled and run as they stand there.
#[cfg(all(doctest, feature = "readers", feature = "recipe", feature = "testing"))]
#[doc = include_str!("../docs/tutorial.md")]
struct Tutorial;
