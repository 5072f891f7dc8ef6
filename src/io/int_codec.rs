//! How the integers of a weight become tensors of a file, in the shortest of three forms.

use super::positions::{self, Form};
use super::sparse_code::{self, Magnitudes};
use super::tensors::{Reader, Tensor};
use crate::quant::{Bits, pack, unpack};

/// All integers packed.
const ALL: &str = "weight";
/// A bit map of those that are not zero, ...
const MASK: &str = Form::Map.suffix();
/// ... and they themselves packed, in row order.
const VALUES: &str = "values";
/// A stream of decisions, see [`sparse_code`]: the shortest where zeros are many, or small integers
/// more frequent than large ones.
const CODED: &str = Form::Coded.suffix();

/// The tensors of integers in rows of `cols`, the first of equally short forms; `name` makes their
/// names.
pub(super) fn encode(
    name: impl Fn(&str) -> String,
    ints: &[i8],
    cols: usize,
    bits: Bits,
) -> Vec<Tensor> {
    let nonzero: Vec<i8> = ints.iter().copied().filter(|&q| q != 0).collect();
    let forms = [
        vec![(ALL, pack(ints, bits))],
        vec![(MASK, positions::map(ints.iter().map(|&q| q != 0))), (VALUES, pack(&nonzero, bits))],
        vec![(CODED, sparse_code::encode(ints, cols, Magnitudes::up_to(bits.most())))],
    ];
    let length =
        |form: &Vec<(&str, Vec<u8>)>| form.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    let shortest = forms.into_iter().min_by_key(length).expect("there are three forms");
    shortest.into_iter().map(|(what, bytes)| Tensor::bytes(name(what), bytes)).collect()
}

/// Reads the integers of a weight of that shape, row by row.
pub(super) fn decode(
    reader: &mut Reader,
    name: impl Fn(&str) -> String,
    bits: Bits,
    shape: (usize, usize),
) -> Result<Vec<i8>, String> {
    let damaged = |what: &str| {
        format!(
            "tensor `{}` does not fill a weight of {}x{} with {bits} bits each",
            name(what),
            shape.0,
            shape.1
        )
    };
    if reader.has(&name(CODED)) {
        let coded =
            sparse_code::decode(reader.bytes(&name(CODED))?, shape, Magnitudes::up_to(bits.most()));
        return coded.map_err(|problem| format!("tensor `{}` {problem}", name(CODED)));
    }
    if reader.has(&name(MASK)) {
        let mask = reader.bytes(&name(MASK))?;
        let kept = positions::from_map(mask, shape)
            .map_err(|problem| format!("tensor `{}` {problem}", name(MASK)))?;
        let nonzero = kept.iter().filter(|keep| **keep).count();
        let values =
            unpack(reader.bytes(&name(VALUES))?, nonzero, bits).ok_or_else(|| damaged(VALUES))?;
        let mut values = values.into_iter();
        return Ok(kept
            .into_iter()
            .map(|keep| if keep { values.next().unwrap_or(0) } else { 0 })
            .collect());
    }
    let count = shape.0.checked_mul(shape.1).ok_or_else(|| damaged(ALL))?;
    unpack(reader.bytes(&name(ALL))?, count, bits).ok_or_else(|| damaged(ALL))
}

#[cfg(test)]
mod tests {
    use super::super::header::open;
    use super::super::tensors::{serialise, total_bytes};
    use super::*;
    use crate::quant::QuantWeight;

    fn weight(bits: Bits, (rows, cols): (usize, usize), int: impl Fn(usize) -> i16) -> QuantWeight {
        let ints = (0..rows * cols).map(|at| int(at) as i8).collect();
        QuantWeight::from_parts((rows, cols), bits, ints, vec![1.0; cols]).unwrap()
    }

    /// One for each form, and how many bytes it takes.
    fn weights() -> [(&'static str, usize, QuantWeight); 6] {
        let full = |at: usize, bits: Bits| {
            (at * 7919 % (2 * bits.most() as usize + 1)) as i16 - i16::from(bits.most())
        };
        let few =
            |at: usize, every: usize, int: i16| if at.is_multiple_of(every) { int } else { 0 };
        [
            (ALL, 21, weight(Bits::Four, (6, 7), |at| full(at, Bits::Four))),
            (ALL, 42, weight(Bits::Eight, (6, 7), |at| full(at, Bits::Eight))),
            (MASK, 4, weight(Bits::Eight, (1, 16), |at| few(at, 8, 127))),
            (CODED, 10, weight(Bits::Four, (8, 8), |at| few(at, 4, 7))),
            (CODED, 4, weight(Bits::Four, (8, 8), |at| few(at, 8, 7))),
            (CODED, 1, weight(Bits::Two, (5, 6), |_| 0)),
        ]
    }

    #[test]
    fn integers_come_back_from_the_shortest_form() {
        for (form, length, weight) in weights() {
            let (ints, cols) = (weight.ints(), weight.shape().1);
            let tensors = encode(str::to_string, ints, cols, weight.bits());
            assert_eq!(total_bytes(&tensors), length as u64, "{form}");
            let bytes = serialise(&tensors, String::new()).unwrap();
            let mut reader = Reader::new(open(&bytes).unwrap().0, bytes.len());
            assert!(reader.has(form), "not {form}");
            assert_eq!(
                decode(&mut reader, str::to_string, weight.bits(), weight.shape()).as_deref(),
                Ok(weight.ints())
            );
            reader.finish("weights").unwrap();
            let (rows, cols) = weight.shape();
            // A short code may also be that of a matrix with some rows more, so these are more than
            // its bytes can tell of.
            for shape in [(rows + 20_000, cols), (usize::MAX, cols), (1 << 60, 1 << 3)] {
                assert!(
                    decode(&mut reader, str::to_string, weight.bits(), shape).is_err(),
                    "{form} as {shape:?}"
                );
            }
        }
    }
}
