//! Network files, beside the state dict that they list.
#![no_main]

use gnn_prune_fuzz::{Kind, one};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| one(Kind::Network, "net.toml", data));
