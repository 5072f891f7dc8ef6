//! One array of an npz archive. What the file claims is checked before anything of that size is
//! allocated.

use crate::data::numbers::{self, MOST_IN_F32, MOST_IN_F64, Problem};
use crate::files::Budget;
use crate::files::budget::{no_room, reserved};
use crate::files::npy::{Header, MAX_HEADER, PREFIX, header_end};
use ndarray::{Array1, Array2, ArrayD, Ix1, Ix2};
use std::io::Read;

/// An array of plain numbers with its key.
pub(in crate::data) struct Array {
    key: &'static str,
    numbers: Numbers,
}

/// Integers are widened, which is exact.
enum Numbers {
    Bool(ArrayD<bool>),
    Int(ArrayD<i64>),
    F32(ArrayD<f32>),
    F64(ArrayD<f64>),
}

/// One array of real numbers, in the precision of the file.
pub(in crate::data) enum Reals<A32, A64> {
    F32(A32),
    /// Integers too: up to 2^53 they are exact.
    F64(A64),
}

impl Array {
    /// Reads the array `key` from an archive's entry of `declared` bytes.
    pub(in crate::data) fn read(
        key: &'static str,
        entry: &mut impl Read,
        declared: u64,
        budget: &Budget,
    ) -> Problem<Self> {
        let mut bytes = Vec::new();
        let header = read_header(entry, &mut bytes)?;
        let begin = bytes.len();
        let size = item_size(&header.descriptor)?;
        if !(1..=2).contains(&header.shape.len()) {
            return Err(format!("has {} dimensions, it must have 1 or 2", header.shape.len()));
        }
        let claim = || format!("claims the shape {:?} of {size}-byte numbers", header.shape);
        // Empty axes must not hide an overflow of the others.
        let body =
            header.shape.iter().try_fold(size, |bytes, &axis| bytes.checked_mul(axis.max(1)));
        let body = body
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or_else(|| format!("{}, which no file can hold", claim()))?;
        let body = if header.shape.contains(&0) { 0 } else { body };
        let total = bytes.len() + body;
        if declared != total as u64 {
            return Err(format!(
                "{}, which takes {total} bytes, but its entry is {declared} bytes long",
                claim()
            ));
        }
        budget.take(&header.shape, size)?;
        // One byte past the end, so that the entry is read to its end and its checksum compared.
        bytes.try_reserve_exact(body + 1).map_err(|_| no_room(body))?;
        entry
            .take(body as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| format!("cannot be unpacked: {error}"))?;
        if bytes.len() != total {
            return Err(format!(
                "{}, which takes {total} bytes, but its entry holds {}",
                claim(),
                bytes.len()
            ));
        }
        Ok(Self { key, numbers: numbers(&header, &bytes[begin..])? })
    }

    fn shape(&self) -> &[usize] {
        match &self.numbers {
            Numbers::Bool(x) => x.shape(),
            Numbers::Int(x) => x.shape(),
            Numbers::F32(x) => x.shape(),
            Numbers::F64(x) => x.shape(),
        }
    }

    fn type_name(&self) -> &'static str {
        match &self.numbers {
            Numbers::Bool(_) => "bool",
            Numbers::Int(_) => "integer",
            Numbers::F32(_) => "float32",
            Numbers::F64(_) => "float64",
        }
    }

    fn wrong(&self, expected: &str) -> String {
        format!(
            "`{}` is an array of {} with shape {:?}, expected {expected}",
            self.key,
            self.type_name(),
            self.shape()
        )
    }

    /// Number of entries of a vector of any type.
    pub(super) fn vector_len(&self) -> Problem<usize> {
        if let [len] = *self.shape() { Ok(len) } else { Err(self.wrong("a vector")) }
    }

    /// Integers of any type: truth values are 0 and 1, and floats must be whole.
    fn integers(numbers: Numbers, read: impl Fn(f64, f64) -> Problem<i64>) -> Problem<ArrayD<i64>> {
        match numbers {
            Numbers::Bool(x) => converted(&x, |v| Ok(i64::from(v))),
            Numbers::Int(x) => Ok(x),
            Numbers::F32(x) => converted(&x, |v| read(f64::from(v), MOST_IN_F32)),
            Numbers::F64(x) => converted(&x, |v| read(v, MOST_IN_F64)),
        }
    }

    /// A vector of integers.
    pub(in crate::data) fn int_vector(self) -> Problem<Vec<i64>> {
        self.vector_of(numbers::whole)
    }

    /// A vector of labels, −1 for a node without one: also where NaN says so.
    pub(in crate::data) fn label_vector(self) -> Problem<Vec<i64>> {
        self.vector_of(numbers::label)
    }

    fn vector_of(self, read: impl Fn(f64, f64) -> Problem<i64>) -> Problem<Vec<i64>> {
        let (key, wrong) = (self.key, self.wrong("a vector of integers"));
        if self.shape().len() != 1 {
            return Err(wrong);
        }
        let x =
            Self::integers(self.numbers, read).map_err(|problem| format!("`{key}` {problem}"))?;
        Ok(x.into_dimensionality::<Ix1>().map_err(|_| wrong)?.to_vec())
    }

    /// A matrix of integers.
    pub(super) fn int_matrix(self) -> Problem<Array2<i64>> {
        let (key, wrong) = (self.key, self.wrong("a matrix of integers"));
        if self.shape().len() != 2 {
            return Err(wrong);
        }
        let x = Self::integers(self.numbers, numbers::whole)
            .map_err(|problem| format!("`{key}` {problem}"))?;
        x.into_dimensionality::<Ix2>().map_err(|_| wrong)
    }

    /// A vector of numbers of any type.
    pub(super) fn real_vector(self) -> Problem<Reals<Array1<f32>, Array1<f64>>> {
        let wrong = self.wrong("a vector of numbers");
        self.check_exact()?;
        match self.numbers {
            Numbers::F32(x) => x.into_dimensionality().map(Reals::F32),
            other => other.into_f64()?.into_dimensionality().map(Reals::F64),
        }
        .map_err(|_| wrong)
    }

    /// A matrix of numbers of any type.
    pub(in crate::data) fn real_matrix(self) -> Problem<Reals<Array2<f32>, Array2<f64>>> {
        let wrong = self.wrong("a matrix of numbers");
        self.check_exact()?;
        match self.numbers {
            Numbers::F32(x) => x.into_dimensionality().map(Reals::F32),
            other => other.into_f64()?.into_dimensionality().map(Reals::F64),
        }
        .map_err(|_| wrong)
    }

    /// Integers are numbers where 32 bits hold them.
    fn check_exact(&self) -> Problem<()> {
        let Numbers::Int(x) = &self.numbers else { return Ok(()) };
        x.iter()
            .try_for_each(|&v| numbers::exact(v).map(drop))
            .map_err(|problem| format!("`{}` {problem}", self.key))
    }

    /// A vector, or the rows of a matrix, of truth values; numbers must be 0 or 1.
    pub(super) fn masks(self) -> Problem<Vec<Vec<bool>>> {
        let wrong = self.wrong("truth values");
        let flags = match self.numbers {
            Numbers::Bool(x) => x,
            other => {
                let x = other.into_f64()?;
                converted(&x, |v| numbers::truth(v).map_err(|_| format!("{wrong}: it holds {v}")))?
            }
        };
        Ok(match flags.ndim() {
            1 => vec![flags.into_iter().collect()],
            _ => flags.outer_iter().map(|row| row.iter().copied().collect()).collect(),
        })
    }
}

impl Reals<Array2<f32>, Array2<f64>> {
    /// In single precision.
    pub(in crate::data) fn into_f32(self) -> Array2<f32> {
        match self {
            Reals::F32(x) => x,
            Reals::F64(x) => x.mapv(|v| v as f32),
        }
    }
}

impl Numbers {
    fn into_f64(self) -> Problem<ArrayD<f64>> {
        match self {
            Numbers::Bool(x) => converted(&x, |v| Ok(f64::from(u8::from(v)))),
            Numbers::Int(x) => converted(&x, |v| Ok(v as f64)),
            Numbers::F32(x) => converted(&x, |v| Ok(f64::from(v))),
            Numbers::F64(x) => Ok(x),
        }
    }
}

/// Each number as `by` makes it, where there is memory for them.
fn converted<A: Copy, B>(x: &ArrayD<A>, by: impl Fn(A) -> Problem<B>) -> Problem<ArrayD<B>> {
    let mut made = reserved(x.len())?;
    for value in x {
        made.push(by(*value)?);
    }
    Ok(ArrayD::from_shape_vec(x.shape(), made).expect("as many as there were"))
}

/// Reads the header, whose bytes are left in `bytes`.
fn read_header(entry: &mut impl Read, bytes: &mut Vec<u8>) -> Problem<Header> {
    let unpack = |error: std::io::Error| format!("cannot be unpacked: {error}");
    entry.by_ref().take(PREFIX as u64).read_to_end(bytes).map_err(unpack)?;
    let end = header_end(bytes).ok_or("does not begin like an array of NumPy")?;
    if !(PREFIX..=MAX_HEADER).contains(&end) {
        return Err(format!(
            "claims a header that ends at byte {end}, it must end between {PREFIX} and {MAX_HEADER}"
        ));
    }
    entry.by_ref().take((end - bytes.len()) as u64).read_to_end(bytes).map_err(unpack)?;
    Header::parse(bytes)
}

/// Bytes of one number of a NumPy type.
fn item_size(descriptor: &str) -> Problem<usize> {
    match descriptor.trim_start_matches(['<', '>', '|', '=']) {
        "b1" | "i1" | "u1" => Ok(1),
        "i2" | "u2" => Ok(2),
        "i4" | "u4" | "f4" => Ok(4),
        "i8" | "u8" | "f8" => Ok(8),
        kind if kind.starts_with('O') => {
            Err("holds pickled Python objects, which could run code and are not read; save it as a plain array of numbers".into())
        }
        kind => {
            let kind: String = kind.chars().take(20).collect();
            Err(format!("has the type `{}`; save it as bool, int, uint, float32 or float64", kind.escape_default()))
        }
    }
}

fn numbers(header: &Header, body: &[u8]) -> Problem<Numbers> {
    let int = |x: Problem<ArrayD<i64>>| x.map(Numbers::Int);
    match header.descriptor.trim_start_matches(['<', '>', '|', '=']) {
        "b1" => header.numbers(body, |[b]| (b <= 1).then_some(b == 1)).map(Numbers::Bool),
        "i1" => int(header.numbers(body, |b| Some(i8::from_le_bytes(b).into()))),
        "u1" => int(header.numbers(body, |b| Some(u8::from_le_bytes(b).into()))),
        "i2" => int(header.numbers(body, |b| Some(i16::from_le_bytes(b).into()))),
        "u2" => int(header.numbers(body, |b| Some(u16::from_le_bytes(b).into()))),
        "i4" => int(header.numbers(body, |b| Some(i32::from_le_bytes(b).into()))),
        "u4" => int(header.numbers(body, |b| Some(u32::from_le_bytes(b).into()))),
        "i8" => int(header.numbers(body, |b| Some(i64::from_le_bytes(b)))),
        "u8" => {
            let x = header.numbers(body, |b| Some(u64::from_le_bytes(b)))?;
            int(converted(&x, |v| {
                i64::try_from(v).map_err(|_| {
                    format!("holds {v}, and the largest integer that is read is {}", i64::MAX)
                })
            }))
        }
        "f4" => header.numbers(body, |b| Some(f32::from_le_bytes(b))).map(Numbers::F32),
        _ => header.numbers(body, |b| Some(f64::from_le_bytes(b))).map(Numbers::F64),
    }
}
