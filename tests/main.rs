//! All laws and tests in one program: what they share is compiled and linked once.

mod accumulation;
mod calibration;
mod cases;
mod choices;
mod cli;
mod codes;
#[cfg(feature = "readers")]
mod data_files;
#[cfg(feature = "testing")]
mod determinism;
#[cfg(feature = "testing")]
mod distillation;
#[cfg(all(feature = "recipe", feature = "testing"))]
mod downstream;
#[cfg(feature = "report")]
mod early_birds;
mod encoders;
#[cfg(feature = "testing")]
mod formulas;
#[cfg(all(feature = "readers", feature = "testing"))]
mod golden;
#[cfg(feature = "testing")]
mod gradients;
#[cfg(feature = "testing")]
mod graph_classification;
mod graph_files;
#[cfg(feature = "pt")]
mod graph_sets;
#[cfg(feature = "testing")]
mod hops;
#[cfg(feature = "readers")]
mod hostile;
mod kernels;
#[cfg(all(feature = "readers", feature = "report"))]
mod labels;
#[cfg(feature = "testing")]
mod layers;
mod links;
#[cfg(feature = "report")]
mod loops;
#[cfg(feature = "report")]
mod multi_label;
#[cfg(feature = "testing")]
mod oracle;
mod packed_maps;
#[cfg(feature = "recipe")]
mod pipeline;
#[cfg(feature = "report")]
mod prefixes;
#[cfg(feature = "testing")]
mod pruning;
#[cfg(feature = "pt")]
mod pt_files;
mod quantization;
#[cfg(all(feature = "report", feature = "testing"))]
mod quantized_graphs;
#[cfg(feature = "report")]
mod rankings;
#[cfg(all(feature = "readers", feature = "report"))]
mod readers;
mod recomputed_maps;
#[cfg(feature = "testing")]
mod registry;
#[cfg(feature = "report")]
mod resume;
mod row_spaces;
mod sampling;
mod signs;
#[cfg(feature = "testing")]
mod symmetry;
mod tables;
mod training;
#[cfg(feature = "testing")]
mod weights;
#[cfg(feature = "recipe")]
mod words;
