//! Makes graph neural networks small and fast on ordinary CPUs: pruning, quantisation and distillation, by hand, on ndarray and sprs.
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
pub use pipeline::{Checkpoints, Compressed, Compression, Controls, FineTune, OneShot, Outcome, Recipe, Step};
pub use prune::{
    ChannelPlan, ChannelPruner, Criterion, LayerCriterion, LayerPlan, LayerPruner, Magnitude, Random, Scope, Subset, Taylor, WeightPlan,
    WeightPruner,
};
pub use quant::{Bits, QuantModel, Quantizer};
pub use reconstruct::Calibrate;
pub use report::Report;
pub use scalar::Scalar;
pub use train::Trainer;
pub use value::{Value, ValueRef};

pub use ndarray;
pub use sprs;
