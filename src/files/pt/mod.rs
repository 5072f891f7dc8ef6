//! What `torch.save` writes, read without running anything of it.
//!
//! A checkpoint is a program for Python's pickle machine, which may call any function that its file
//! names. Here it is followed as a description: every call stays a node of a list, and only those
//! that rebuild a tensor are understood. What a node refers to is a place in that list, so that
//! neither depth nor cycles are of any consequence, and every list is paid for by the file's
//! [`Budget`].

mod contents;
mod graphs;
mod numbers;
mod pickle;
mod storage;
mod tree;

use super::kinds::Pickled;
use super::{Budget, Tensors};
use storage::{Archive, BIG_ENDIAN, Storages};
use tree::{Node, Tree};

/// The entry that holds the pickle, and the one that says in which order the bytes of a number lie.
const PICKLE: &str = "data.pkl";
const ORDER: &str = "byteorder";

/// Reads a file of `torch.save`.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub fn read(bytes: &[u8], form: Pickled) -> Result<Tensors, String> {
    with_tree(bytes, form, contents::read)
}

/// Reads a file of `torch.save` that holds several graphs: the tensors of each.
///
/// # Errors
/// What is wrong, as the end of a sentence.
pub fn read_graphs(bytes: &[u8], form: Pickled) -> Result<Vec<Tensors>, String> {
    with_tree(bytes, form, graphs::read)
}

/// Whether a file of `torch.save` holds several graphs.
pub fn holds_graphs(bytes: &[u8], form: Pickled) -> bool {
    with_tree(bytes, form, |tree, _, _| Ok(graphs::are_in(tree))).unwrap_or(false)
}

/// What `make` makes of the objects of a file.
fn with_tree<T>(
    bytes: &[u8],
    form: Pickled,
    make: impl FnOnce(&Tree, Storages, &Budget) -> Result<T, String>,
) -> Result<T, String> {
    let budget = Budget::of_bytes(bytes.len() as u64);
    match form {
        Pickled::Zip => {
            let mut archive = Archive::open(bytes)?;
            if archive.entry(ORDER, &budget)?.is_some_and(|order| order.trim_ascii() != b"little") {
                return Err(BIG_ENDIAN.into());
            }
            let pickle = archive
                .entry(PICKLE, &budget)?
                .ok_or("is a zip archive without a `data.pkl`, and so no file of `torch.save`")?;
            let (tree, _) = pickle::parse(&pickle, &budget)?;
            make(&tree, Storages::Zip { archive, read: Default::default() }, &budget)
        }
        Pickled::Legacy => {
            let (tree, storages) = storage::legacy(bytes, &budget)?;
            make(&tree, storages, &budget)
        }
        Pickled::Plain => {
            let (tree, _) = pickle::parse(bytes, &budget)?;
            let holds = match tree.node(tree.root) {
                Node::Object(_) if tree.entries(tree.root).is_some() => "a dict".into(),
                _ => tree.kind(tree.root),
            };
            Err(format!(
                "is a plain pickle of {holds}, without the numbers of a `torch.save`; save it by `torch.save(.., FILE)`"
            ))
        }
    }
}
