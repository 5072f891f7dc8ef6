//! Look-ups without instructions by name.

use super::{Codes, Halves, Sums};

/// The functions of a level: codes in blocks, tables by column, sums.
pub(super) struct LookupKernels {
    pub(super) bytes: fn(&[Codes], &[[u8; 256]], &mut [Sums]),
    pub(super) halves: fn(&[Codes], &[Halves], &mut [Sums]),
}

pub(super) fn bytes(codes: &[Codes], tables: &[[u8; 256]], y: &mut [Sums]) {
    for (codes, y) in codes.chunks_exact(tables.len()).zip(y) {
        y.fill(0);
        for (codes, table) in codes.iter().zip(tables) {
            for (y, &code) in y.iter_mut().zip(codes) {
                *y += u16::from(table[usize::from(code)]);
            }
        }
    }
}

pub(super) fn halves(codes: &[Codes], tables: &[Halves], y: &mut [Sums]) {
    for (codes, y) in codes.chunks_exact(tables.len()).zip(y) {
        y.fill(0);
        for (codes, [low, high]) in codes.iter().zip(tables) {
            for (y, &code) in y.iter_mut().zip(codes) {
                let code = usize::from(code);
                *y += u16::from(low[code & 15]) + u16::from(high[code >> 4]);
            }
        }
    }
}
