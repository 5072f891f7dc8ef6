//! The laws of the fuzzer beside this crate, for libFuzzer: the same readers, the same uses, other
//! bytes.

// Its own changes to files and its own account of memory are the other program's; libFuzzer has
// both.
#![allow(dead_code)]

#[path = "../../alloc.rs"]
mod alloc;
#[path = "../../arrays.rs"]
mod arrays;
#[path = "../../bytes.rs"]
mod bytes;
#[path = "../../case.rs"]
mod case;
#[path = "../../draw.rs"]
mod draw;
#[path = "../../graphs.rs"]
mod graphs;
#[path = "../../laws.rs"]
mod laws;
#[path = "../../models.rs"]
mod models;
#[path = "../../pickles.rs"]
mod pickles;
#[path = "../../read.rs"]
mod read;
#[path = "../../tensors.rs"]
mod tensors;
#[path = "../../text.rs"]
mod text;
#[path = "../../tree.rs"]
mod tree;
#[path = "../../uses.rs"]
mod uses;

pub use arrays::gz;
pub use case::Kind;
pub use text::modest;

use case::Starts;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Reads `data` as the file `name` of a kind, beside the files that it needs.
///
/// # Panics
/// Where a law is broken: that is what libFuzzer looks for.
pub fn one(kind: Kind, name: &str, data: &[u8]) {
    static STARTS: OnceLock<(PathBuf, Starts)> = OnceLock::new();
    let (folder, starts) = STARTS.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("gnn-prune-libfuzzer-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the folder for temporary files can be written");
        let starts = Starts::new(&folder).expect("the crate writes its own files");
        (folder, starts)
    });
    let has = |file: &&(String, Vec<u8>)| file.0 == name;
    let start = starts.of(kind).iter().find(|case| case.files.iter().any(|file| has(&file)));
    let mut case = start.expect("every name is one of the files to start from").clone();
    case.files.iter_mut().filter(|file| file.0 == name).for_each(|file| file.1 = data.to_vec());
    let folder = folder.join("case");
    case.write(&folder).expect("the folder for temporary files can be written");
    // Which of several uses is made of it follows from the bytes alone.
    let choice = data.iter().fold(0u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    if let Err(broken) = read::read(kind, &case, &folder, kind.number(choice << 8)) {
        panic!("{}: {}", broken.law, broken.detail);
    }
}
