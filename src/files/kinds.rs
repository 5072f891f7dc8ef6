//! What a file is, by its first bytes.

/// The number by which files of PyTorch before 1.6 begin, as every protocol from 2 on writes it.
const LEGACY: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// How far into a file that number stands at most.
const SEARCHED: usize = 32;

/// Fields that follow the version in an ONNX file: the name of its writer, its version, domain,
/// number, remark, graph or set of operators.
const ONNX_FIELDS: [u8; 7] = [0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42];

/// The newest version of ONNX files that is thinkable.
const ONNX_VERSIONS: u8 = 32;

/// Where a tar archive has its magic word.
const TAR: std::ops::Range<usize> = 257..262;

/// A file that may hold tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Safetensors, or nothing that is known.
    Safetensors,
    /// A pickle in one of its forms.
    Pickled(Pickled),
    /// Something else; what, and the way out, as the end of a sentence.
    Foreign(&'static str),
}

/// How a pickle lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pickled {
    /// An archive with its tensors beside it.
    Zip,
    /// In a row with others, tensors behind them.
    Legacy,
    /// By itself.
    Plain,
}

impl Kind {
    pub fn of(bytes: &[u8]) -> Self {
        let front = &bytes[..bytes.len().min(SEARCHED)];
        match *bytes {
            // The length of a header in JSON may look like anything.
            [_, _, _, _, _, _, 0, 0, b'{', ..] => Self::Safetensors,
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Self::Pickled(Pickled::Zip),
            [0x80, 1..=5, ..] if front.windows(LEGACY.len()).any(|window| window == LEGACY) => {
                Self::Pickled(Pickled::Legacy)
            }
            [0x80, 1..=5, ..] => Self::Pickled(Pickled::Plain),
            [8, version, field, ..] if version < ONNX_VERSIONS && ONNX_FIELDS.contains(&field) => {
                Self::Foreign(
                    "is an ONNX file, a graph of operators; save the state dict of the network it was exported from",
                )
            }
            [0x89, b'H', b'D', b'F', ..] => {
                Self::Foreign("is an HDF5 file, which is not read; save its tensors as safetensors")
            }
            _ if bytes.get(TAR) == Some(b"ustar") => Self::Foreign(
                "is a tar archive, as PyTorch before 0.1.10 wrote; load it by PyTorch and save it again",
            ),
            _ => Self::Safetensors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_of_safetensors_may_begin_as_anything_does() {
        for length in [0x0280u64, 0x0403_4b50, 0x0012_0708] {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend_from_slice(b"{\"a\":");
            assert_eq!(Kind::of(&bytes), Kind::Safetensors, "{length:#x}");
        }
    }

    #[test]
    fn files_are_known_by_their_first_bytes() {
        let onnx = b"\x08\x07\x12\x07pytorch\x1a\x05";
        assert!(matches!(Kind::of(onnx), Kind::Foreign(words) if words.contains("ONNX")));
        let mut tar = vec![b'a'; 300];
        tar[257..262].copy_from_slice(b"ustar");
        assert!(matches!(Kind::of(&tar), Kind::Foreign(words) if words.contains("tar archive")));
        assert_eq!(Kind::of(b"PK\x03\x04"), Kind::Pickled(Pickled::Zip));
        assert_eq!(Kind::of(b"\x80\x02}."), Kind::Pickled(Pickled::Plain));
        assert_eq!(
            Kind::of(&[&b"\x80\x02\x8a\n"[..], &LEGACY, b"."].concat()),
            Kind::Pickled(Pickled::Legacy)
        );
        // From protocol 4 on a frame stands before the number.
        let framed = [&b"\x80\x04\x95\x0d\0\0\0\0\0\0\0\x8a\n"[..], &LEGACY, b"."].concat();
        assert_eq!(Kind::of(&framed), Kind::Pickled(Pickled::Legacy));
        for cut in 0..onnx.len() {
            let _ = Kind::of(&onnx[..cut]);
        }
    }
}
