//! All laws and tests in one program: what they share is compiled and linked once.

mod cases;
mod choices;
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
mod quantization;
mod readers;
mod registry;
mod symmetry;
mod training;
mod weights;
