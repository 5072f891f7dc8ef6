//! Files of PyTorch.
#![no_main]

use gnn_prune_fuzz::{Kind, one};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| one(Kind::Pt, "net.pt", data));
