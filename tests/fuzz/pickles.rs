//! Changes to files of PyTorch that keep them files: the pickle is changed by its opcodes, and
//! packed again with checksums that are right.

use super::arrays::{pack, unpack};
use super::bytes;
use super::draw::Draw;
use zip::CompressionMethod;

/// How often something is repeated at most: in a file as it lies, and in one that is packed.
const MOST: usize = 1 << 15;
const MOST_PACKED: usize = 1 << 20;

/// Functions, classes and names that mean something to a reader.
const NAMES: [&str; 24] = [
    "_rebuild_tensor",
    "_rebuild_tensor_v2",
    "_rebuild_tensor_v3",
    "_rebuild_parameter",
    "_rebuild_from_type_v2",
    "_rebuild_sparse_tensor",
    "UninitializedParameter",
    "OrderedDict",
    "FloatStorage",
    "HalfStorage",
    "LongStorage",
    "BoolStorage",
    "UntypedStorage",
    "uint64",
    "storage",
    "module",
    "_parameters",
    "_modules",
    "_buffers",
    "_store",
    "_mapping",
    "state_dict",
    "edge_index",
    "\n",
];

pub fn mutate(file: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    let Some(mut entries) = unpack(file).filter(|entries| !entries.is_empty()) else {
        return in_a_row(file, other, draw);
    };
    let others = unpack(other).unwrap_or_else(|| entries.clone());
    let is_packed = draw.one_in(3);
    for _ in 0..draw.few() {
        let (a, b) = (draw.below(entries.len()), draw.below(others.len()));
        match draw.below(16) {
            0 if entries.len() > 1 => drop(entries.remove(a)),
            1 => entries[a].0 = others[b].0.clone(),
            2 => entries[a].1 = others[b].1.clone(),
            3 => bytes::mutate(&mut entries[a].1, &others[b].1, draw),
            4 => {
                let len = entries[a].1.len();
                entries[a].1.resize(
                    *draw.pick(&[0, 1, len / 2, len.saturating_sub(1), len + 1, 2 * len]),
                    0,
                );
            }
            5 => {
                entries[a].0 = draw
                    .word(&[
                        "net/constants.pkl",
                        "data.pkl",
                        "net/byteorder",
                        "a.npy",
                        "archive_format",
                    ])
                    .into()
            }
            _ => {
                let pickle = |entries: &[(String, Vec<u8>)]| {
                    entries.iter().position(|(name, _)| name.ends_with("data.pkl"))
                };
                let (Some(a), Some(b)) = (pickle(&entries), pickle(&others)) else { continue };
                entries[a].1 = changed(
                    &entries[a].1,
                    &others[b].1,
                    if is_packed { MOST_PACKED } else { MOST },
                    draw,
                );
            }
        }
    }
    pack(&entries, if is_packed { CompressionMethod::Deflated } else { CompressionMethod::Stored })
}

/// A file whose pickles stand in a row, tensors behind them.
fn in_a_row(file: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    let mut pickles = Vec::new();
    let mut rest = file;
    for _ in 0..5 {
        let end = opcodes(rest).0.iter().map(|code| code.len()).sum();
        pickles.push(rest[..end].to_vec());
        rest = &rest[end..];
    }
    // The fourth is the object, the fifth the keys of its storages.
    let at = *draw.pick(&[1, 2, 3, 3, 3, 3, 3, 4]);
    pickles[at] = changed(&pickles[at], other, MOST, draw);
    let mut changed = pickles.concat();
    changed.extend_from_slice(rest);
    changed
}

/// The opcodes of a pickle with what belongs to each, up to the one that ends it; and whether that
/// was there.
fn opcodes(bytes: &[u8]) -> (Vec<&[u8]>, bool) {
    let (mut found, mut rest) = (Vec::new(), bytes);
    let line = |rest: &[u8], count: usize| {
        let ends =
            rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        ends.take(count).last().unwrap_or(rest.len())
    };
    while let Some(&code) = rest.first() {
        let number = |width: usize| {
            rest.iter()
                .skip(1)
                .take(width)
                .rev()
                .fold(0usize, |sum, &byte| sum.saturating_mul(256).saturating_add(byte.into()))
        };
        let length = match code {
            b'K' | b'q' | b'h' | 0x80 => 2,
            b'M' => 3,
            b'J' | b'r' | b'j' => 5,
            b'G' | 0x95 => 9,
            0x8a | 0x8c | b'U' | b'C' => number(1).saturating_add(2),
            b'X' | b'T' | b'B' | 0x8b => number(4).saturating_add(5),
            0x8d | 0x8e | 0x96 => number(8).saturating_add(9),
            b'c' => line(rest, 2),
            b'I' | b'L' | b'p' | b'g' => line(rest, 1),
            _ => 1,
        };
        let (opcode, after) = rest.split_at(length.min(rest.len()));
        found.push(opcode);
        rest = after;
        if code == b'.' {
            return (found, true);
        }
    }
    (found, false)
}

fn changed(pickle: &[u8], other: &[u8], most: usize, draw: &mut Draw) -> Vec<u8> {
    let mut codes: Vec<Vec<u8>> = opcodes(pickle).0.into_iter().map(<[u8]>::to_vec).collect();
    let others: Vec<&[u8]> = opcodes(other).0;
    for _ in 0..draw.few() {
        let at = draw.below(codes.len());
        let range = draw.range(codes.len());
        match draw.below(11) {
            0 if !codes.is_empty() => drop(codes.remove(at)),
            1 => {
                let block = codes[range].concat();
                let times =
                    if draw.one_in(4) { most / block.len().max(1) } else { 1 + draw.below(3) };
                codes.insert(at, block.repeat(times.min(most)));
            }
            2 => drop(codes.drain(range)),
            3 if !others.is_empty() => {
                let from = draw.range(others.len());
                codes.insert(at, others[from].concat());
            }
            // A number, often one at which something ends.
            4 | 5 => {
                let numbers: Vec<usize> = (0..codes.len())
                    .filter(|&k| matches!(codes[k].first(), Some(b'K' | b'M' | b'J' | 0x8a)))
                    .collect();
                if let Some(&k) = numbers.get(draw.below(numbers.len())) {
                    codes[k] = [&[0x8a, 8][..], &draw.edge().to_le_bytes()].concat();
                }
            }
            // A name of a function, a class or a key.
            6 | 7 => {
                let names: Vec<usize> = (0..codes.len())
                    .filter(|&k| matches!(codes[k].first(), Some(b'X' | b'c' | 0x8c)))
                    .collect();
                let Some(&k) = names.get(draw.below(names.len())) else { continue };
                let name = draw.word(&NAMES);
                codes[k] = match codes[k][0] {
                    b'c' => format!(
                        "c{}\n{name}\n",
                        draw.word(&[
                            "torch",
                            "torch._utils",
                            "collections",
                            "torch._tensor",
                            "copyreg"
                        ])
                    )
                    .into(),
                    _ => {
                        [&[b'X'][..], &(name.len() as u32).to_le_bytes(), name.as_bytes()].concat()
                    }
                };
            }
            // What was remembered stands where it was not, in itself too.
            8 => codes.insert(at, vec![b'h', draw.byte() % 64]),
            _ => {
                let bomb = bomb(most, draw);
                codes.insert(at, bomb);
            }
        }
    }
    codes.concat()
}

/// Something that grows, nests or refers to itself.
fn bomb(most: usize, draw: &mut Draw) -> Vec<u8> {
    let times = *draw.pick(&[3, 100, 1000, most / 2]);
    match draw.below(12) {
        0 => [b"]".repeat(times), b"a".repeat(times - 1)].concat(),
        1 => [b")".to_vec(), b"\x85".repeat(times)].concat(),
        2 => {
            [b"}K\x01".repeat(times.min(most / 4)), b"N".to_vec(), b"s".repeat(times.min(most / 4))]
                .concat()
        }
        3 => b"]q\x3fh\x3fa".to_vec(),
        4 => b"}q\x3fX\x01\x00\x00\x00ah\x3fs".to_vec(),
        5 => b"N\x94".repeat(times.min(most / 2)),
        6 => b"(".repeat(times),
        7 => b"(t".repeat(times.min(most / 2)),
        8 => b"2".repeat(times),
        9 => [b"h\x00".to_vec(), b")R".repeat(times.min(most / 2))].concat(),
        10 => {
            let mut code = b"h\x00".to_vec();
            for level in 64..64 + draw.below(60) as u8 {
                code.extend([
                    b'q', level, b'0', b'}', b'K', 1, b'h', level, b's', b'K', 2, b'h', level, b's',
                ]);
            }
            code
        }
        _ => [
            &[*draw.pick(&[0x8d, 0x8e, 0x96, 0x8b, b'X', b'r', b'j'])][..],
            &draw.edge().to_le_bytes(),
        ]
        .concat(),
    }
}
