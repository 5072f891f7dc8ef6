//! Arrays of NumPy and what packs them, unpacked, changed and packed again with lengths and
//! checksums that are right.

use super::draw::Draw;
use super::{bytes, text};
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use std::io::{Cursor, Read, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
/// Longest body that a changed shape is given.
const MOST: usize = 1 << 16;

pub fn npy(descriptor: &str, shape: &[usize], body: &[u8]) -> Vec<u8> {
    let axes: String = shape.iter().map(|axis| format!("{axis}, ")).collect();
    with_header(
        &format!("{{'descr': '{descriptor}', 'fortran_order': False, 'shape': ({axes}), }}"),
        body,
    )
}

fn with_header(header: &str, body: &[u8]) -> Vec<u8> {
    let header = format!("{header:<117}\n");
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn parts(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (header, body) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    Some((std::str::from_utf8(header).ok()?.trim(), body))
}

pub fn mutate_npy(file: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    let Some((header, body)) = parts(file) else { return file.to_vec() };
    let (descriptor, rest) = between(header, "'descr': '", "'").unwrap_or(("", ""));
    let (axes, _) = between(rest, "(", ")").unwrap_or(("", ""));
    let shape: Vec<usize> = axes.split(',').filter_map(|axis| axis.trim().parse().ok()).collect();
    match draw.below(7) {
        0 => {
            let types = [
                "<f4",
                "<f8",
                "<i8",
                "<i4",
                "|b1",
                "|u1",
                ">i8",
                ">f4",
                "<i2",
                "<u8",
                "|O",
                "<U3",
                "<f2",
                "=f8",
                "<c8",
                "[('a', '<i4')]",
                "",
            ];
            let changed = header.replacen(descriptor, draw.word(&types), 1);
            with_header(&changed, body)
        }
        1 => {
            let (a, b) = (draw.edge(), draw.edge());
            let shapes = [
                format!("{a}"),
                format!("{a}, {b}"),
                format!("0, {a}"),
                format!("{a}, 0"),
                String::new(),
                "-1, 2".into(),
                "1.5,".into(),
            ];
            with_header(&header.replacen(axes, draw.pick(&shapes).as_str(), 1), body)
        }
        2 if !shape.is_empty() => {
            let mut shape = shape;
            let axis = draw.below(shape.len());
            shape[axis] = *draw.pick(&[
                0,
                1,
                2,
                shape[axis].saturating_add(1),
                shape[axis].saturating_sub(1),
                300,
            ]);
            let size = descriptor.chars().last().and_then(|digit| digit.to_digit(10)).unwrap_or(1)
                as usize;
            let bytes =
                shape.iter().fold(size, |bytes, &axis| bytes.saturating_mul(axis)).min(MOST);
            npy(
                descriptor,
                &shape,
                &body.iter().copied().chain([0]).cycle().take(bytes).collect::<Vec<_>>(),
            )
        }
        3 => with_header(&header.replace("False", draw.word(&["True", "None", "0", ""])), body),
        4 => with_header(
            &text::words(header, "'descr': 'fortran_order': False, 'shape': (3, 2),", draw),
            body,
        ),
        5 => {
            let mut changed = body.to_vec();
            bytes::mutate(&mut changed, body, draw);
            changed.resize(body.len(), 0);
            with_header(header, &changed)
        }
        _ => {
            let mut changed = file.to_vec();
            bytes::mutate(&mut changed, other, draw);
            changed
        }
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<(&'a str, &'a str)> {
    text.split_once(start)?.1.split_once(end)
}

type Entries = Vec<(String, Vec<u8>)>;

/// Without times, so that the same entries give the same bytes.
pub fn pack(entries: &Entries, method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(method)
        .last_modified_time(zip::DateTime::default());
    for (name, bytes) in entries {
        // A name that stands twice is left out.
        if writer.start_file(name.as_str(), options).is_ok() {
            writer.write_all(bytes).expect("memory takes every byte");
        }
    }
    writer.finish().expect("memory takes every byte").into_inner()
}

pub fn unpack(bytes: &[u8]) -> Option<Entries> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
    let read = |k: usize| {
        let mut entry = archive.by_index(k).ok()?;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).ok()?;
        Some((entry.name().ok()?.into_owned(), bytes))
    };
    (0..ZipArchive::new(Cursor::new(bytes)).ok()?.len()).map(read).collect()
}

pub fn mutate_zip(file: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    let Some(mut entries) = unpack(file).filter(|entries| !entries.is_empty()) else {
        return file.to_vec();
    };
    let others = unpack(other).unwrap_or_else(|| entries.clone());
    for _ in 0..draw.few() {
        let (a, b) = (draw.below(entries.len()), draw.below(others.len()));
        match draw.below(12) {
            0 if entries.len() > 1 => drop(entries.remove(a)),
            1 => entries[a].0 = others[b].0.clone(),
            2 => entries[a].1 = others[b].1.clone(),
            3 => entries.push(others[b].clone()),
            _ => entries[a].1 = mutate_npy(&entries[a].1, &others[b].1, draw),
        }
    }
    pack(
        &entries,
        if draw.one_in(2) { CompressionMethod::Stored } else { CompressionMethod::Deflated },
    )
}

pub fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).expect("memory takes every byte");
    encoder.finish().expect("memory takes every byte")
}

pub fn mutate_gz(file: &[u8], other: &[u8], draw: &mut Draw) -> Vec<u8> {
    let plain = |bytes| {
        let mut text = String::new();
        MultiGzDecoder::new(bytes).read_to_string(&mut text).ok().map(|_| text)
    };
    let Some(text) = plain(file) else { return file.to_vec() };
    let mut changed = gz(text::table(&text, &plain(other).unwrap_or_default(), draw).as_bytes());
    if draw.one_in(10) {
        // Members may follow each other.
        changed.extend(gz(text.as_bytes()));
    }
    changed
}
