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
//! | a layer, criterion, step or loss of your own | the traits [`Layer`](nn::Layer), [`Criterion`], [`Step`], [`DistillLoss`], and the laws in [`testing`] |
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
//! | [`reconstruct`] | least squares on what linear maps compute |
//! | [`train`] | full-batch training, losses, metrics |
//! | [`models`] | recipes of whole networks |
//! | [`io`] | model files, and networks of PyTorch in and out |
//! | [`nn`] | layers with their gradients, models, compiled programs |
//! | [`data`], [`graph`] | data sets and their readers; graphs and what aggregates over them |
//! | [`kernels`] | products and aggregations, by run-time dispatch |
//! | [`value`], [`scalar`], [`rng`], [`files`], [`error`] | what all of them stand on |
//!
//! # Features
//!
//! `pt` reads the files of `torch.save`; `cli` builds the program `gnn-prune`, with `pt`. Neither
//! is on by default.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod data;
pub mod distill;
pub mod error;
pub mod files;
pub mod graph;
pub mod io;
pub mod kernels;
pub mod models;
pub mod nn;
pub mod pipeline;
pub mod prune;
pub mod quant;
pub mod reconstruct;
pub mod report;
pub mod rng;
pub mod scalar;
pub mod testing;
pub mod train;
pub mod value;

pub use data::{Dataset, FeatureNorm, Split};
pub use distill::{Adversarial, DistillLoss, Distiller, InputGradients, Nodes, SoftLabels};
pub use error::{Error, PruneError, Result, Unsupported};
pub use graph::{Graph, NodeOrder, Norm};
pub use models::{AppnpNet, DeepGcn, Gat, Gcn, GcnII, Gin, Mlp, Sage, Sgc};
pub use nn::{Model, Program};
pub use pipeline::{
    Checkpoints, Compressed, Compression, Controls, FineTune, OneShot, Outcome, Recipe, Step,
};
pub use prune::{
    Ablation, ChannelPlan, ChannelPruner, Cosine, Criterion, EdgePlan, EdgePruner, LayerPlan,
    LayerPruner, Magnitude, Random, Scope, Subset, Taylor, WeightPlan, WeightPruner,
};
pub use quant::{Bits, QuantModel, Quantizer};
pub use reconstruct::Calibrate;
pub use report::Report;
pub use scalar::Scalar;
pub use train::Trainer;
pub use value::{Value, ValueRef};

pub use ndarray;
pub use sprs;

/// The program of README.md, compiled as it stands there.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
