//! Folders of packed tables: the text is packed here, so that its checksum is right.
#![no_main]

use gnn_prune_fuzz::{Kind, gz, one};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for name in ["raw/edge.csv.gz", "raw/node-feat.csv.gz", "raw/node-label.csv.gz", "split/time/train.csv.gz"] {
        one(Kind::Ogb, name, &gz(data));
    }
});
