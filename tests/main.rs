//! All laws and tests in one program: what they share is compiled and linked once.

mod calibration;
mod cases;
mod choices;
mod circles;
mod cli;
#[cfg(feature = "readers")]
mod data_files;
mod determinism;
mod distillation;
#[cfg(feature = "recipe")]
mod downstream;
mod formulas;
#[cfg(feature = "readers")]
mod golden;
mod gradients;
#[cfg(feature = "readers")]
mod hostile;
mod kernels;
#[cfg(all(feature = "readers", feature = "report"))]
mod labels;
mod layering;
mod layers;
#[cfg(feature = "report")]
mod loops;
#[cfg(feature = "report")]
mod multi_label;
mod oracle;
#[cfg(feature = "recipe")]
mod pipeline;
mod pruning;
#[cfg(feature = "pt")]
mod pt_files;
mod quantization;
#[cfg(all(feature = "readers", feature = "report"))]
mod readers;
mod registry;
#[cfg(feature = "report")]
mod resume;
mod row_spaces;
mod symmetry;
mod training;
mod weights;
#[cfg(feature = "recipe")]
mod words;
