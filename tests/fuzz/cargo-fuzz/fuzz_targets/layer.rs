//! State dicts of its layers, with their settings in the metadata.
#![no_main]

use gnn_prune_fuzz::{Kind, one};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| one(Kind::Layer, "layer.safetensors", data));
