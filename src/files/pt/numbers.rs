//! The numbers of a tensor, row by row, from however they lie in its storage.

use super::super::Budget;
use super::super::budget::reserved;
use super::storage::{Place, Storages, TYPES, Type};
use super::tree::{Id, Node, NumpyArray, Tree};
use half::{bf16, f16};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// PyTorch has tensors of at most so many axes.
const MOST_AXES: usize = 64;

/// And knows fewer flags of a tensor than this.
const MOST_FLAGS: usize = 16;

/// Floats, or whole numbers.
pub enum Numbers {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

/// A part of a storage as a tensor sees it.
struct View {
    offset: usize,
    shape: Vec<usize>,
    /// How far the next number along each axis is.
    strides: Vec<usize>,
}

/// What rebuilds a tensor, read: its shape, and its numbers.
///
/// # Errors
/// What is wrong with the tensor, as the end of a sentence.
pub fn read(
    tree: &Tree,
    (function, args): (&str, &[Id]),
    storages: &mut Storages,
    budget: &Budget,
) -> Result<(Vec<usize>, Numbers), String> {
    let (typed, metadata) = match function {
        "_rebuild_tensor" => (None, None),
        "_rebuild_tensor_v2" => (None, args.get(6)),
        "_rebuild_tensor_v3" => (Some(*args.get(6).ok_or("lacks its type")?), args.get(7)),
        "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor" => {
            return Err("is sparse, which is not read; save what its `to_dense()` gives".into());
        }
        "_rebuild_qtensor" => {
            return Err(
                "is quantised by PyTorch, which is not read; save what its `dequantize()` gives"
                    .into(),
            );
        }
        name if name.starts_with("Uninitialized") => {
            return Err("has no shape yet; run the network once before it is saved".into());
        }
        name => {
            return Err(format!(
                "is made by `torch._utils.{name}`, which is not read; save it as a plain tensor on the CPU"
            ));
        }
    };
    let &[storage, offset, shape, strides, ..] = args else {
        return Err("has too few parts".into());
    };
    // A tensor that is read with its sign turned says so here.
    let mut flags = metadata
        .and_then(|&metadata| tree.entries(metadata))
        .into_iter()
        .flatten()
        .take(MOST_FLAGS);
    if let Some((flag, _)) = flags.find(|&(_, value)| matches!(tree.node(value), Node::Bool(true)))
    {
        let flag = tree.text(flag).unwrap_or("?");
        return Err(format!(
            "is marked as `{flag}`, which is not read; save what its `resolve_{flag}().clone()` gives"
        ));
    }
    let place = Place::of(tree, storage)?;
    let kind = match typed {
        Some(id) => {
            let name = tree.global(id).map_or("?", |(_, name)| name);
            TYPES
                .iter()
                .find(|(_, known, ..)| *known == name)
                .map(|(.., kind, _)| *kind)
                .ok_or_else(|| of_type(name))?
        }
        None => {
            let known = TYPES.iter().find(|(class, ..)| *class == place.class);
            known
                .map(|(.., kind, _)| *kind)
                .ok_or_else(|| of_type(place.class.trim_end_matches("Storage")))?
        }
    };
    let view = View {
        offset: whole(tree, offset)?,
        shape: axes(tree, shape)?,
        strides: axes(tree, strides)?,
    };
    if view.shape.len() != view.strides.len() {
        return Err(format!("has {} axes and {} strides", view.shape.len(), view.strides.len()));
    }
    budget.take(&view.shape, size_of::<i64>())?;
    let bytes = storages.get(place.key, budget)?;
    let numbers = numbers(bytes, kind, &view)?;
    Ok((view.shape, numbers))
}

/// Types of numpy that are read.
const OF_NUMPY: [(&str, Type); 12] = [
    ("f4", Type::F32),
    ("f8", Type::F64),
    ("f2", Type::F16),
    ("i8", Type::I64),
    ("i4", Type::I32),
    ("i2", Type::I16),
    ("i1", Type::I8),
    ("u8", Type::U64),
    ("u4", Type::U32),
    ("u2", Type::U16),
    ("u1", Type::U8),
    ("b1", Type::Bool),
];

/// What an array of numpy holds: its shape, and its numbers.
///
/// # Errors
/// What is wrong with the array, as the end of a sentence.
pub fn of_array(
    tree: &Tree,
    array: NumpyArray,
    budget: &Budget,
) -> Result<(Vec<usize>, Numbers), String> {
    let NumpyArray { shape, dtype, order, bytes, axes: turned } = array;
    let state = match tree.node(dtype) {
        Node::Object(object) => object.state.and_then(|state| tree.items(state)),
        _ => None,
    };
    // What has one byte a number is marked by `|`.
    let order_of_bytes = state.and_then(|state| tree.text(*state.get(1)?));
    if !matches!(order_of_bytes, Some("<" | "|")) {
        return Err("is an array of numpy whose bytes are not in order, the low one first; save \
             `torch.from_numpy(..)` of it"
            .into());
    }
    let name = tree.of_numpy(dtype).unwrap_or("?");
    let kind = OF_NUMPY.iter().find(|(known, _)| *known == name);
    let kind = kind.map(|(_, kind)| *kind).ok_or_else(|| of_type(name))?;
    let shape = axes(tree, shape)?;
    let first_is_fastest = matches!(tree.node(order), Node::Bool(true))
        || tree.text(order).is_some_and(|order| order.starts_with('F'));
    budget.take(&shape, size_of::<i64>())?;
    let mut strides = vec![1usize; shape.len()];
    // The budget has granted the product of all axes.
    if first_is_fastest {
        (1..shape.len()).for_each(|k| strides[k] = strides[k - 1] * shape[k - 1].max(1));
    } else {
        (1..shape.len()).rev().for_each(|k| strides[k - 1] = strides[k] * shape[k].max(1));
    }
    let view = match turned.map(|turned| axes(tree, turned)).transpose()? {
        None => View { offset: 0, shape, strides },
        Some(turned) => {
            let all: BTreeSet<usize> = turned.iter().copied().collect();
            if turned.len() != shape.len() || !all.into_iter().eq(0..shape.len()) {
                return Err(format!("of shape {shape:?} has {turned:?} as its axes"));
            }
            let of = |places: &[usize]| turned.iter().map(|&axis| places[axis]).collect();
            View { offset: 0, shape: of(&shape), strides: of(&strides) }
        }
    };
    let bytes = array_bytes(tree, bytes, budget)?;
    let size = TYPES.iter().find(|(.., known, _)| *known == kind).map_or(1, |(.., size)| *size);
    if view.shape.iter().product::<usize>() * size != bytes.len() {
        let shape = &view.shape;
        return Err(format!("of shape {shape:?} has {} bytes, at {size} each", bytes.len()));
    }
    let numbers = numbers(&bytes, kind, &view)?;
    Ok((view.shape, numbers))
}

/// The bytes of an array; up to protocol 2 each stands as a character of that number.
fn array_bytes<'a>(tree: &Tree<'a>, id: Id, budget: &Budget) -> Result<Cow<'a, [u8]>, String> {
    match tree.node(id) {
        Node::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        // Bytes of Python 2 that happen to be text.
        Node::Text(text) => Ok(Cow::Borrowed(text.as_bytes())),
        Node::Object(object) => {
            let parts = tree.items(object.args).unwrap_or_default();
            match (tree.global(object.call), parts) {
                (Some(("_codecs", "encode")), &[text, code])
                    if tree.text(code) == Some("latin1") =>
                {
                    let text = tree.text(text).ok_or("is an array of numpy without bytes")?;
                    budget.take(&[text.len()], 1)?;
                    let mut bytes = reserved(text.len())?;
                    for letter in text.chars() {
                        let byte = u8::try_from(u32::from(letter));
                        bytes.push(byte.map_err(|_| "is an array of numpy with damaged bytes")?);
                    }
                    Ok(Cow::Owned(bytes))
                }
                // What numpy writes for no bytes at all.
                (Some(("__builtin__" | "builtins", "bytes")), &[]) => Ok(Cow::Borrowed(&[])),
                _ => Err("is an array of numpy whose bytes are not known".into()),
            }
        }
        _ => Err(format!("is an array of numpy of {}, which is not read", tree.kind(id))),
    }
}

fn of_type(name: &str) -> String {
    format!("is of type {name}, which is not read")
}

fn whole(tree: &Tree, id: Id) -> Result<usize, String> {
    match tree.node(id) {
        Node::Int(value) => usize::try_from(*value).map_err(|_| format!("has {value} as a length")),
        _ => Err(format!("has {} as a length", tree.kind(id))),
    }
}

fn axes(tree: &Tree, id: Id) -> Result<Vec<usize>, String> {
    let items = tree.items(id).ok_or_else(|| format!("has {} as its shape", tree.kind(id)))?;
    if items.len() > MOST_AXES {
        return Err(format!("has {} axes, and there are {MOST_AXES} at most", items.len()));
    }
    items.iter().map(|&item| whole(tree, item)).collect()
}

fn numbers(bytes: &[u8], kind: Type, view: &View) -> Result<Numbers, String> {
    Ok(match kind {
        Type::F32 => Numbers::Floats(view.gather(bytes, f32::from_le_bytes)?),
        Type::F64 => {
            Numbers::Floats(view.gather(bytes, |number| f64::from_le_bytes(number) as f32)?)
        }
        Type::F16 => {
            Numbers::Floats(view.gather(bytes, |number| f16::from_le_bytes(number).to_f32())?)
        }
        Type::Bf16 => {
            Numbers::Floats(view.gather(bytes, |number| bf16::from_le_bytes(number).to_f32())?)
        }
        Type::I64 => Numbers::Integers(view.gather(bytes, i64::from_le_bytes)?),
        Type::I32 => {
            Numbers::Integers(view.gather(bytes, |number| i32::from_le_bytes(number).into())?)
        }
        Type::I16 => {
            Numbers::Integers(view.gather(bytes, |number| i16::from_le_bytes(number).into())?)
        }
        Type::I8 => {
            Numbers::Integers(view.gather(bytes, |number| i8::from_le_bytes(number).into())?)
        }
        Type::U32 => {
            Numbers::Integers(view.gather(bytes, |number| u32::from_le_bytes(number).into())?)
        }
        Type::U16 => {
            Numbers::Integers(view.gather(bytes, |number| u16::from_le_bytes(number).into())?)
        }
        Type::U8 => Numbers::Integers(view.gather(bytes, |[number]| number.into())?),
        Type::Bool => Numbers::Integers(view.gather(bytes, |[number]| (number != 0).into())?),
        Type::U64 => {
            let wide = view.gather(bytes, u64::from_le_bytes)?;
            let narrow = |value| {
                i64::try_from(value).map_err(|_| {
                    format!("holds {value}, and whole numbers are read up to {}", i64::MAX)
                })
            };
            Numbers::Integers(wide.into_iter().map(narrow).collect::<Result<_, _>>()?)
        }
    })
}

impl View {
    /// Every number of the view, the last axis fastest.
    fn gather<const N: usize, T>(
        &self,
        bytes: &[u8],
        read: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, String> {
        let stored = bytes.as_chunks::<N>().0;
        // The budget has granted this many.
        let count = self.shape.iter().product();
        let mut found = reserved(count)?;
        if count == 0 {
            return Ok(found);
        }
        let steps = self
            .shape
            .iter()
            .zip(&self.strides)
            .map(|(&len, &stride)| (len - 1).checked_mul(stride));
        let last = steps.into_iter().try_fold(self.offset, |last, step| last.checked_add(step?));
        if last.is_none_or(|last| last >= stored.len()) {
            let (offset, shape, strides) = (self.offset, &self.shape, &self.strides);
            return Err(format!(
                "of shape {shape:?} and strides {strides:?} from {offset} on reaches beyond the {} numbers of its storage",
                stored.len()
            ));
        }
        let (inner, stride) = match (self.shape.last(), self.strides.last()) {
            (Some(&inner), Some(&stride)) => (inner, stride),
            _ => (1, 1),
        };
        let outer = self.shape.len().saturating_sub(1);
        let (mut at, mut place) = (vec![0; outer], self.offset);
        loop {
            found.extend((0..inner).map(|k| read(stored[place + k * stride])));
            // The next row: the last of the outer axes that has one.
            let Some(axis) = (0..outer).rev().find(|&axis| at[axis] + 1 < self.shape[axis]) else {
                return Ok(found);
            };
            at[axis] += 1;
            place += self.strides[axis];
            for (later, stride) in at.iter_mut().zip(&self.strides).skip(axis + 1) {
                place -= *later * stride;
                *later = 0;
            }
        }
    }
}
