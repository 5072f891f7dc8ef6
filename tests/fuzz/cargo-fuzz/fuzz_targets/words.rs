//! Words for data sets, assumptions, stages and options.
#![no_main]

use gnn_prune_fuzz::{Kind, modest, one};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for name in ["assume.txt", "stages.txt", "norm.txt", "controls.txt", "calibrate.txt", "aggregation.txt"] {
        one(Kind::Words, name, data);
    }
    one(Kind::Words, "dataset.txt", modest(&String::from_utf8_lossy(data)).as_bytes());
});
