//! The `.npy` files of NumPy: their header, a dictionary in Python's words, and rows of floats.
//!
//! *Source*: `numpy.lib.format`, versions 1.0 to 3.0.

use super::budget::reserved;
use ndarray::{Array, ArrayD, Dimension, IxDyn, ShapeBuilder};

/// What NumPy itself refuses to parse beyond.
pub const MAX_HEADER: usize = 10_000;
/// Magic, version and the length of the header in the versions 2 and 3; version 1 takes two bytes
/// less.
pub const PREFIX: usize = 12;
/// Headers end at a multiple of this.
const ALIGNED: usize = 64;

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// NumPy's word for the type, as `<f4`.
    pub descriptor: String,
    /// Whether the first axis is the fastest.
    pub fortran_order: bool,
    /// Length of each axis.
    pub shape: Vec<usize>,
}

/// Where the numbers begin, by the first [`PREFIX`] bytes; `None` where they are not those of an
/// array.
pub fn header_end(prefix: &[u8]) -> Option<usize> {
    match *prefix {
        [b'\x93', b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => {
            Some(PREFIX - 2 + usize::from(u16::from_le_bytes([a, b])))
        }
        [b'\x93', b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d, ..] => {
            Some(PREFIX.saturating_add(
                usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX),
            ))
        }
        _ => None,
    }
}

impl Header {
    /// Reads the header of an array from all its bytes up to [`header_end`].
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        const UNREADABLE: &str = "does not begin like an array of NumPy";
        let begin = if bytes.get(6) == Some(&1) { PREFIX - 2 } else { PREFIX };
        let text =
            bytes.get(begin..).and_then(|text| std::str::from_utf8(text).ok()).ok_or(UNREADABLE)?;
        let mut words = Words(text.trim());
        let (mut descriptor, mut fortran_order, mut shape) = (None, None, None);
        words.take("{").ok_or(UNREADABLE)?;
        while words.take("}").is_none() {
            let key = words.quoted().ok_or(UNREADABLE)?;
            words.take(":").ok_or(UNREADABLE)?;
            match key {
                "descr" if words.0.starts_with(['[', '(']) => {
                    return Err("has a structured type; save it as a plain array of numbers".into());
                }
                "descr" => descriptor = Some(words.quoted().ok_or(UNREADABLE)?.to_string()),
                "fortran_order" => fortran_order = Some(words.truth().ok_or(UNREADABLE)?),
                "shape" => shape = Some(words.lengths().ok_or(UNREADABLE)?),
                _ => return Err(UNREADABLE.into()),
            }
            if words.take(",").is_none() && !words.0.starts_with('}') {
                return Err(UNREADABLE.into());
            }
        }
        match (descriptor, fortran_order, shape, words.0.is_empty()) {
            (Some(descriptor), Some(fortran_order), Some(shape), true) => {
                Ok(Self { descriptor, fortran_order, shape })
            }
            _ => Err(UNREADABLE.into()),
        }
    }

    /// The numbers of `body`, each of `N` bytes, which `of` reads in the order of a little-endian
    /// machine.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence, where there are not as many as the shape says or
    /// `of` does not know one.
    pub fn numbers<T, const N: usize>(
        &self,
        body: &[u8],
        of: impl Fn([u8; N]) -> Option<T>,
    ) -> Result<ArrayD<T>, String> {
        const DAMAGED: &str = "is damaged: its bytes are not of the type that it names";
        let swapped = self.descriptor.starts_with('>');
        let read = |bytes: &[u8; N]| {
            let mut bytes = *bytes;
            if swapped {
                bytes.reverse();
            }
            of(bytes)
        };
        let (numbers, rest) = body.as_chunks::<N>();
        if !rest.is_empty() {
            return Err(DAMAGED.into());
        }
        let mut values = reserved(numbers.len())?;
        for number in numbers {
            values.push(read(number).ok_or(DAMAGED)?);
        }
        ArrayD::from_shape_vec(IxDyn(&self.shape).set_f(self.fortran_order), values)
            .map_err(|_| DAMAGED.into())
    }
}

/// What is left of a header.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn take(&mut self, word: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(word)?.trim_start();
        Some(())
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let quote = self.0.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (word, rest) = self.0[1..].split_once(quote)?;
        self.0 = rest.trim_start();
        (!word.contains('\\')).then_some(word)
    }

    fn truth(&mut self) -> Option<bool> {
        self.take("True").map(|()| true).or_else(|| self.take("False").map(|()| false))
    }

    /// A tuple of lengths.
    fn lengths(&mut self) -> Option<Vec<usize>> {
        self.take("(")?;
        let (inside, rest) = self.0.split_once(')')?;
        self.0 = rest.trim_start();
        let inside = inside.trim();
        let inside = inside.strip_suffix(',').unwrap_or(inside);
        let parts = inside.split(',').map(str::trim).filter(|_| !inside.is_empty());
        // Python 2 wrote long integers with an `L`.
        parts.map(|part| part.strip_suffix('L').unwrap_or(part).parse().ok()).collect()
    }
}

/// A number that is written.
pub trait Number: Copy {
    /// NumPy's word for its type.
    const DESCRIPTOR: &'static str;

    /// Adds its bytes, the lowest first.
    fn write(self, to: &mut Vec<u8>);
}

impl Number for f32 {
    const DESCRIPTOR: &'static str = "<f4";

    fn write(self, to: &mut Vec<u8>) {
        to.extend(self.to_le_bytes());
    }
}

impl Number for i64 {
    const DESCRIPTOR: &'static str = "<i8";

    fn write(self, to: &mut Vec<u8>) {
        to.extend(self.to_le_bytes());
    }
}

/// The bytes of a `.npy` file, row by row.
pub fn encode<A: Number, D: Dimension>(array: &Array<A, D>) -> Vec<u8> {
    let shape: String = array.shape().iter().map(|length| format!("{length}, ")).collect();
    let mut header = format!(
        "{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}",
        A::DESCRIPTOR,
        shape.trim_end()
    );
    let end = (PREFIX - 2 + header.len() + 1).next_multiple_of(ALIGNED);
    header.extend(std::iter::repeat_n(' ', end - (PREFIX - 2) - header.len() - 1));
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    array.iter().for_each(|number| number.write(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn header(text: &str) -> Result<Header, String> {
        Header::parse(&[b"\x93NUMPY\x01\x00\x00\x00", text.as_bytes()].concat())
    }

    #[test]
    fn what_is_written_is_read_and_begins_at_a_multiple_of_64() {
        let x = array![[1.0f32, -2.5, 3.0], [4.0, f32::MIN_POSITIVE, 6.0]];
        let bytes = encode(&x);
        let end = header_end(&bytes[..PREFIX]).unwrap();
        assert_eq!((end % ALIGNED, bytes[end - 1], bytes.len()), (0, b'\n', end + 24));
        let found = Header::parse(&bytes[..end]).unwrap();
        assert_eq!(
            found,
            Header { descriptor: "<f4".into(), fortran_order: false, shape: vec![2, 3] }
        );
        assert_eq!(
            found.numbers(&bytes[end..], |b| Some(f32::from_le_bytes(b))).unwrap(),
            x.into_dyn()
        );
        let labels = encode(&array![-1i64, 5]);
        let end = header_end(&labels[..PREFIX]).unwrap();
        let found = Header::parse(&labels[..end]).unwrap();
        assert_eq!((found.descriptor.as_str(), &found.shape[..]), ("<i8", &[2][..]));
        assert_eq!(
            found.numbers(&labels[end..], |b| Some(i64::from_le_bytes(b))).unwrap(),
            array![-1, 5].into_dyn()
        );
    }

    #[test]
    fn headers_of_all_writers_are_read() {
        for (text, shape) in [
            ("{'descr': '<i8', 'fortran_order': True, 'shape': (3,), }  \n", vec![3]),
            ("{\"shape\":(),\"descr\":\"<i8\",\"fortran_order\":True}", vec![]),
            ("{'shape': (2L, 5L), 'fortran_order': True, 'descr': '<i8'}", vec![2, 5]),
        ] {
            assert_eq!(
                header(text).unwrap(),
                Header { descriptor: "<i8".into(), fortran_order: true, shape },
                "{text}"
            );
        }
        let big = Header { descriptor: ">i2".into(), fortran_order: true, shape: vec![2, 2] };
        let numbers =
            big.numbers(&[0, 1, 0, 2, 0, 3, 1, 0], |b| Some(i16::from_le_bytes(b))).unwrap();
        assert_eq!(numbers, array![[1, 3], [2, 256]].into_dyn());
        assert!(
            big.numbers(&[0, 1, 0], |b| Some(i16::from_le_bytes(b)))
                .unwrap_err()
                .contains("damaged")
        );
        assert!(big.numbers(&[0; 8], |_: [u8; 2]| None::<bool>).unwrap_err().contains("damaged"));
    }

    #[test]
    fn headers_that_are_none_are_refused() {
        for text in [
            "",
            "{",
            "{}",
            "[]",
            "{'descr': '<i8', 'fortran_order': True, 'shape': (3,)",
            "{'descr': '<i8', 'fortran_order': True, 'shape': (3,)} x",
            "{'descr': '<i8', 'fortran_order': 1, 'shape': (3,)}",
            "{'descr': '<i8', 'fortran_order': True, 'shape': (-3,)}",
            "{'descr': '<i8', 'fortran_order': True, 'shape': (3,) 'more': 1}",
            "{'descr': '<\\x69', 'fortran_order': True, 'shape': (3,)}",
            "{'descr': '<i8', 'fortran_order': True, 'shape': ((3,),)}",
        ] {
            assert!(header(text).unwrap_err().contains("does not begin like"), "{text}");
        }
        assert!(
            header("{'descr': [('a', '<i8')], 'fortran_order': True, 'shape': (3,)}")
                .unwrap_err()
                .contains("structured")
        );
        assert_eq!(
            (header_end(b"\x93NUMPY\x04\x00\x10\x00\x00\x00"), header_end(b"PK")),
            (None, None)
        );
    }
}
