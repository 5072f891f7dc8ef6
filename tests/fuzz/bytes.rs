//! Changes to bytes that know nothing of what they mean.

use super::draw::Draw;

/// No case grows beyond this, so that cases stay fast.
const MOST: usize = 1 << 16;

/// `other` is a second file of the same kind, to splice with.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], draw: &mut Draw) {
    for _ in 0..draw.few() {
        once(bytes, other, draw);
    }
    bytes.truncate(MOST.max(other.len()));
}

fn once(bytes: &mut Vec<u8>, other: &[u8], draw: &mut Draw) {
    // Headers stand in front, and there is where most is decided.
    let front = if draw.one_in(2) { bytes.len().min(600) } else { bytes.len() };
    let at = draw.below(front);
    match draw.below(9) {
        0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << draw.below(8),
        2 if !bytes.is_empty() => bytes[at] = draw.byte(),
        3 => {
            let more: Vec<u8> = (0..=draw.below(8)).map(|_| draw.byte()).collect();
            bytes.splice(at..at, more);
        }
        4 => drop(bytes.drain(draw.range(bytes.len()))),
        5 => bytes.truncate(at),
        6 => {
            let block = bytes[draw.range(bytes.len())].to_vec();
            let times = if draw.one_in(8) { 100 } else { 1 };
            bytes.splice(at..at, block.repeat(times));
        }
        7 => {
            let from = draw.below(other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => number(bytes, at, draw),
    }
}

/// Writes a number at which something ends, in one of the widths that a file may have.
fn number(bytes: &mut [u8], at: usize, draw: &mut Draw) {
    let width = *draw.pick(&[1usize, 2, 4, 8]);
    // Numbers lie at multiples of their width more often than not.
    let at = if draw.one_in(2) { at - at % width } else { at };
    let value = match draw.below(4) {
        0 => draw
            .pick(&[f32::NAN, f32::INFINITY, -f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, -0.0])
            .to_bits()
            .into(),
        1 => draw.pick(&[f64::NAN, f64::INFINITY, f64::MAX, 1e300, 1e-310]).to_bits(),
        _ => draw.edge(),
    };
    bytes
        .iter_mut()
        .skip(at)
        .zip(value.to_le_bytes())
        .take(width)
        .for_each(|(byte, new)| *byte = new);
}
