//! The containers of PyTorch's files: a pickle, and the numbers of tensors beside it.

use super::super::Budget;
use super::super::budget::reserved;
use super::pickle;
use super::tree::{Id, Node, Tree};
use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Cursor, Read};
use zip::read::{ArchiveOffset, Config, ZipFile};
use zip::result::ZipError;
use zip::{ZipArchive, ZipReadOptions};

/// The protocol that every file of the old form names.
const PROTOCOL: i64 = 1001;

/// Number types by the name of their storage, or of themselves; bytes per number.
pub const TYPES: [(&str, &str, Type, usize); 13] = [
    ("FloatStorage", "float32", Type::F32, 4),
    ("DoubleStorage", "float64", Type::F64, 8),
    ("HalfStorage", "float16", Type::F16, 2),
    ("BFloat16Storage", "bfloat16", Type::Bf16, 2),
    ("LongStorage", "int64", Type::I64, 8),
    ("IntStorage", "int32", Type::I32, 4),
    ("ShortStorage", "int16", Type::I16, 2),
    ("CharStorage", "int8", Type::I8, 1),
    ("ByteStorage", "uint8", Type::U8, 1),
    ("BoolStorage", "bool", Type::Bool, 1),
    ("", "uint16", Type::U16, 2),
    ("", "uint32", Type::U32, 4),
    ("", "uint64", Type::U64, 8),
];

/// Types of numbers that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    F32,
    F64,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

/// Where the numbers of a tensor lie, as its pickle says.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub key: &'a str,
    /// The name of the storage's class.
    pub class: &'a str,
    /// Numbers of the storage's type, or bytes where it has none.
    pub count: u64,
}

impl<'a> Place<'a> {
    /// From `("storage", class, key, device, count)`.
    pub fn of(tree: &Tree<'a>, id: Id) -> Result<Self, String> {
        let Node::Persistent(id) = tree.node(id) else {
            return Err(format!("is made of {}, not of a storage", tree.kind(id)));
        };
        let place = tree.items(*id).and_then(|parts| {
            let (&[tag, class, key, _, count], view) = parts.split_first_chunk::<5>()?;
            // Files from before PyTorch 0.4 name a part of another storage in the sixth place.
            let whole = tree.text(tag) == Some("storage")
                && view.iter().all(|&part| matches!(tree.node(part), Node::None));
            let Node::Int(count) = *tree.node(count) else { return None };
            let class =
                tree.global(class).map_or_else(|| tree.text(class), |(_, name)| Some(name))?;
            whole.then_some(Self { key: tree.text(key)?, class, count: u64::try_from(count).ok()? })
        });
        place.ok_or_else(|| "names its storage in a form that is not known".into())
    }
}

/// The bytes of storages by their keys.
pub enum Storages<'a> {
    Zip { archive: Archive<'a>, read: HashMap<String, Vec<u8>> },
    Slices(HashMap<&'a str, &'a [u8]>),
}

impl Storages<'_> {
    pub fn get(&mut self, key: &str, budget: &Budget) -> Result<&[u8], String> {
        match self {
            Self::Zip { archive, read } => {
                // Looked up twice, since a value that is handed out cannot be inserted beside.
                if !read.contains_key(key) {
                    let bytes = archive
                        .entry(&format!("data/{key}"), budget)?
                        .ok_or_else(|| no_storage(key))?;
                    read.insert(key.to_string(), bytes);
                }
                Ok(&read[key])
            }
            Self::Slices(slices) => slices.get(key).copied().ok_or_else(|| no_storage(key)),
        }
    }
}

fn no_storage(key: &str) -> String {
    format!("lies in storage `{key}`, which the file does not have")
}

/// A zip archive of PyTorch: everything lies in one folder, with a `data.pkl`.
pub struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
}

impl<'a> Archive<'a> {
    /// # Errors
    /// What the file is, where it is another kind of archive, with the way out.
    pub fn open(bytes: &'a [u8]) -> Result<Self, String> {
        // Nothing stands in front of PyTorch's archives. Where that is looked for, one whose first
        // entry has a name of 30 characters, as the pickle in a file called by 21 has, is taken for
        // damaged: that entry is as long as what PyTorch writes between the list and its end.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let damaged = |error| format!("is a damaged zip archive, or cut off ({error})");
        let zip = ZipArchive::with_config(config, Cursor::new(bytes)).map_err(damaged)?;
        let names: Vec<Cow<str>> = zip.file_names().filter_map(Result::ok).collect();
        let folder = |end: &str| {
            let folders = names
                .iter()
                .filter_map(|name| name.strip_suffix(end))
                .filter(|folder| folder.is_empty() || folder.ends_with('/'));
            folders.min_by_key(|folder| folder.len()).map(str::to_string)
        };
        let is_script = folder("constants.pkl").is_some();
        let is_export = ["archive_format", "models/model.json", "serialized_exported_program.json"]
            .iter()
            .any(|end| folder(end).is_some());
        let is_npz = names.iter().any(|name| name.ends_with(".npy"));
        match folder("data.pkl") {
            _ if is_script => {
                let way = "`torch.save(torch.jit.load(FILE).state_dict(), \"net.pt\")`";
                Err(format!(
                    "is a TorchScript archive, which is a program; save the state dict of its network: {way}"
                ))
            }
            _ if is_export => {
                let way = "`torch.save(torch.export.load(FILE).state_dict, \"net.pt\")`";
                Err(format!(
                    "is a program of `torch.export`; save the state dict of its network: {way}"
                ))
            }
            Some(folder) => {
                drop(names);
                Ok(Self { folder, zip })
            }
            None if is_npz => {
                Err("is an archive of NumPy arrays, which is a data set whose name ends in .npz"
                    .into())
            }
            None => {
                Err("is a zip archive without a `data.pkl`, and so no file of `torch.save`".into())
            }
        }
    }

    /// The bytes of an entry, if it is there.
    pub fn entry(&mut self, name: &str, budget: &Budget) -> Result<Option<Vec<u8>>, String> {
        let wrong = |problem: String| format!("has a damaged entry `{name}` ({problem})");
        let full = format!("{}{name}", self.folder);
        let Some(index) = self.zip.index_for_name(&full) else { return Ok(None) };
        let checksum =
            self.zip.by_index_raw(index).map_err(|error| wrong(error.to_string()))?.crc32();
        // PyTorch can save without checksums, and then writes 0.
        let options = ZipReadOptions::new().ignore_crc32(checksum == 0);
        let entry = self.zip.by_index_with_options(index, options);
        let read = |entry: ZipFile<_>| unpacked(entry, budget);
        entry.map_err(|error: ZipError| error.to_string()).and_then(read).map(Some).map_err(wrong)
    }
}

/// All bytes of an entry, as many as it says.
fn unpacked<R: Read>(mut entry: ZipFile<R>, budget: &Budget) -> Result<Vec<u8>, String> {
    let size = usize::try_from(entry.size()).map_err(|error| error.to_string())?;
    budget.take(&[size], 1)?;
    let mut bytes = reserved(size)?;
    // One byte more than there should be: at the end the checksum is compared.
    entry
        .by_ref()
        .take(size as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() == size {
        Ok(bytes)
    } else {
        Err(format!(
            "it says {size} bytes and has {}",
            if bytes.len() > size { "more" } else { "fewer" }
        ))
    }
}

/// The tree of a file of PyTorch before 1.6, or one written in that form, and its storages.
///
/// It is five pickles in a row (a number that marks the form, the protocol, what the machine was,
/// the object, the keys of the storages), and then each storage, its count in front.
pub fn legacy<'a>(bytes: &'a [u8], budget: &Budget) -> Result<(Tree<'a>, Storages<'a>), String> {
    let mut rest = bytes;
    let mut next = || {
        let (tree, end) = pickle::parse(rest, budget)?;
        rest = &rest[end..];
        Ok::<_, String>(tree)
    };
    let (_, protocol, machine, tree, keys) = (next()?, next()?, next()?, next()?, next()?);
    if !matches!(protocol.node(protocol.root), Node::Int(PROTOCOL)) {
        return Err(format!("is a file of PyTorch in a protocol other than {PROTOCOL}"));
    }
    if !matches!(
        machine.get(machine.root, "little_endian").map(|value| machine.node(value)),
        Some(Node::Bool(true))
    ) {
        return Err(BIG_ENDIAN.into());
    }
    let mut sizes = HashMap::new();
    for node in (0..tree.nodes.len())
        .filter_map(Id::new)
        .filter(|&id| matches!(tree.node(id), Node::Persistent(_)))
    {
        let place =
            Place::of(&tree, node).map_err(|problem| format!("has a tensor that {problem}"))?;
        let size = TYPES
            .iter()
            .find(|(class, ..)| *class == place.class)
            .map(|(.., size)| *size as u64)
            .or_else(|| other_size(place.class));
        let size = size.ok_or_else(|| format!("has a `{}`, which is not read", place.class))?;
        sizes.insert(place.key, (place.count, size));
    }
    let mut slices = HashMap::new();
    for &key in keys.items(keys.root).ok_or("lacks the list of its storages")? {
        let key = keys.text(key).and_then(|key| sizes.get_key_value(key));
        let (&key, &(count, size)) = key.ok_or("lists a storage that nothing refers to")?;
        let cut = || format!("is cut off within storage `{key}` of {count} numbers");
        let (stored, after) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
        if u64::from_le_bytes(*stored) != count {
            return Err(format!(
                "has {} numbers in storage `{key}`, and its pickle says {count}",
                u64::from_le_bytes(*stored)
            ));
        }
        let length = count.checked_mul(size).and_then(|bytes| usize::try_from(bytes).ok());
        let (numbers, after) =
            length.and_then(|length| after.split_at_checked(length)).ok_or_else(cut)?;
        slices.insert(key, numbers);
        rest = after;
    }
    Ok((tree, Storages::Slices(slices)))
}

pub const BIG_ENDIAN: &str =
    "was written on a big-endian machine; load it there and save it as safetensors";

/// Bytes per number of storages that are passed by, not read.
fn other_size(class: &str) -> Option<u64> {
    match class {
        "UntypedStorage" | "QInt8Storage" | "QUInt8Storage" => Some(1),
        "QInt32Storage" => Some(4),
        "ComplexFloatStorage" => Some(8),
        "ComplexDoubleStorage" => Some(16),
        _ => None,
    }
}
