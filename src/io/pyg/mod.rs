//! The way to and from PyTorch Geometric: its layers by their arguments, its state dicts by their
//! names and shapes.

mod assumptions;
mod checkpoint;
mod export;
mod forms;
mod modules;
mod names;
mod network;
mod recognise;
mod told;
mod trained_on;

pub use assumptions::Assumptions;
pub use checkpoint::Checkpoint;
pub use export::{Exported, export};
pub use forms::InnerForm;
pub use modules::add_module;
pub use names::{layer_from, state_of};
pub use network::{Network, NetworkLayer};
pub use trained_on::TrainedOn;
