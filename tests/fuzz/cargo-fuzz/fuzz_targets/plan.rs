//! Plans and settings in JSON.
#![no_main]

use gnn_prune_fuzz::{Kind, one};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for name in ["channels.json", "weights.json", "layers.json", "calibration.json", "attrs.json", "bits.json"] {
        one(Kind::Plan, name, data);
    }
});
