//! All laws and tests in one program: what they share is compiled and linked once.

mod calibration;
mod cases;
mod choices;
mod circles;
mod cli;
mod data_files;
mod determinism;
mod distillation;
mod downstream;
mod formulas;
mod golden;
mod gradients;
mod hostile;
mod kernels;
mod labels;
mod layering;
mod layers;
mod loops;
mod multi_label;
mod oracle;
mod pipeline;
mod pruning;
#[cfg(feature = "pt")]
mod pt_files;
mod quantization;
mod readers;
mod registry;
mod resume;
mod row_spaces;
mod symmetry;
mod training;
mod weights;
mod words;
