//! How a table of integers becomes tensors of a file.

use super::int_codec;
use super::tensors::{Reader, Tensor};
use crate::quant::{Bits, CodeTable, QuantTable, SignTable};
use serde::{Deserialize, Serialize};

/// The rows, packed to whole bytes one after the other: what a program reads them from.
const ROWS: &str = "rows";
/// The codes of a table, row by row, and what the tensors of its words begin with.
const CODES: &str = "codes";
/// Signs as bits, row by row.
const SIGNS: &str = "signs";
const WORDS: &str = "words";
const SCALES: &str = "scales";
/// Only where the table has them.
const OFFSETS: &str = "offsets";

/// Rows of a block of signs.
const LANES: usize = 64;

/// What the metadata say of a table.
#[derive(Serialize, Deserialize)]
pub(super) struct TableHeader {
    bits: Bits,
    cols: usize,
    rows: usize,
}

impl TableHeader {
    pub(super) fn of(table: &QuantTable) -> Self {
        let (rows, cols) = table.shape();
        Self { bits: table.bits(), cols, rows }
    }
}

/// What the metadata say of a table of codes.
#[derive(Serialize, Deserialize)]
pub(super) struct CodesHeader {
    range: usize,
    rows: usize,
    spaces: usize,
    words: TableHeader,
}

impl CodesHeader {
    pub(super) fn of(table: &CodeTable) -> Self {
        let (range, rows, spaces) = (table.range(), table.shape().0, table.spaces());
        Self { range, rows, spaces, words: TableHeader::of(table.words()) }
    }
}

/// What the metadata say of a table of signs.
#[derive(Serialize, Deserialize)]
pub(super) struct SignsHeader {
    cols: usize,
    parts: usize,
    rows: usize,
}

impl SignsHeader {
    pub(super) fn of(table: &SignTable) -> Self {
        let (rows, cols) = table.shape();
        Self { cols, parts: table.parts(), rows }
    }
}

/// The tensors of a table of signs.
pub(super) fn encode_signs(name: impl Fn(&str) -> String, table: &SignTable) -> Vec<Tensor> {
    let scales = table.all_scales();
    let scales = Tensor::numbers(name(SCALES), vec![scales.len()], scales);
    vec![Tensor::bytes(name(SIGNS), table.to_bytes()), scales]
}

/// Reads a table of signs.
pub(super) fn decode_signs(
    reader: &mut Reader,
    name: impl Fn(&str) -> String,
    header: &SignsHeader,
) -> Result<SignTable, String> {
    let SignsHeader { cols, parts, rows } = *header;
    let scales: Vec<f32> = reader.vector(&name(SCALES))?;
    let bytes = reader.bytes(&name(SIGNS))?;
    // Rows are filled up to whole blocks.
    reader.budget().take(
        &[rows.checked_next_multiple_of(LANES).unwrap_or(rows).div_ceil(rows.max(1)), bytes.len()],
        1,
    )?;
    SignTable::from_bytes((rows, cols), parts, bytes, scales)
        .map_err(|problem| format!("table `{}` {problem}", name(SIGNS)))
}

/// The tensors of a table of codes.
pub(super) fn encode_codes(name: impl Fn(&str) -> String, table: &CodeTable) -> Vec<Tensor> {
    let mut tensors = encode(words(&name), table.words());
    tensors.push(Tensor::bytes(name(CODES), table.to_bytes()));
    tensors
}

fn words(name: impl Fn(&str) -> String) -> impl Fn(&str) -> String {
    move |what| name(&format!("{WORDS}.{what}"))
}

/// Reads a table of codes.
pub(super) fn decode_codes(
    reader: &mut Reader,
    name: impl Fn(&str) -> String,
    header: &CodesHeader,
) -> Result<CodeTable, String> {
    let CodesHeader { range, rows, spaces, words: ref of_words } = *header;
    // Words are kept as floats, too.
    reader.budget().take(&[of_words.rows, of_words.cols], size_of::<f32>())?;
    let own = decode(reader, words(&name), of_words)?;
    let bytes = reader.bytes(&name(CODES))?;
    CodeTable::from_bytes(rows, (spaces, range), bytes, own)
        .map_err(|problem| format!("table `{}` {problem}", name(CODES)))
}

/// The tensors of a table; `name` makes their names. Where half of the integers or more are zero,
/// as those of masks are, they have the shortest form of a weight's; otherwise their bytes are
/// those of the packed rows.
pub(super) fn encode(name: impl Fn(&str) -> String, table: &QuantTable) -> Vec<Tensor> {
    let (rows, cols) = table.shape();
    let mut tensors = if table.num_nonzero_ints() * 2 <= rows * cols {
        int_codec::encode(&name, &table.ints(), cols, table.bits())
    } else {
        vec![Tensor::bytes(name(ROWS), table.to_bytes())]
    };
    tensors.push(Tensor::numbers(name(SCALES), vec![rows], table.scales()));
    let offsets = table.offsets();
    tensors.extend(offsets.map(|offsets| Tensor::numbers(name(OFFSETS), vec![cols], offsets)));
    tensors
}

/// Reads a table.
pub(super) fn decode(
    reader: &mut Reader,
    name: impl Fn(&str) -> String,
    header: &TableHeader,
) -> Result<QuantTable, String> {
    let TableHeader { bits, cols, rows } = *header;
    let told = |problem: String| format!("table `{}` {problem}", name(ROWS));
    let scales: Vec<f32> = reader.vector(&name(SCALES))?;
    let table = if reader.has(&name(ROWS)) {
        let bytes = reader.bytes(&name(ROWS))?;
        QuantTable::from_bytes((rows, cols), bits, bytes, scales).map_err(told)?
    } else if scales.len() != rows {
        return Err(told(format!("has {} scales for {rows} rows", scales.len())));
    } else {
        let ints = int_codec::decode(reader, &name, bits, (rows, cols))?;
        QuantTable::from_ints((rows, cols), bits, &ints, scales).map_err(told)?
    };
    if !reader.has(&name(OFFSETS)) {
        return Ok(table);
    }
    table.with_offsets(reader.vector(&name(OFFSETS))?).map_err(told)
}
