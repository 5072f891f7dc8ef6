//! Look-ups without instructions by name.

use super::LANES;

/// The functions of a level: codes in blocks, tables by column, sums.
pub(super) struct LookupKernels {
    pub(super) bytes: fn(&[[u8; LANES]], &[[u8; 256]], &mut [[u16; LANES]]),
    pub(super) halves: fn(&[[u8; LANES]], &[[[u8; 16]; 2]], &mut [[u16; LANES]]),
}

pub(super) fn bytes(codes: &[[u8; LANES]], tables: &[[u8; 256]], y: &mut [[u16; LANES]]) {
    for (codes, y) in codes.chunks_exact(tables.len()).zip(y) {
        *y = [0; LANES];
        for (codes, table) in codes.iter().zip(tables) {
            for (y, &code) in y.iter_mut().zip(codes) {
                *y += u16::from(table[usize::from(code)]);
            }
        }
    }
}

pub(super) fn halves(codes: &[[u8; LANES]], tables: &[[[u8; 16]; 2]], y: &mut [[u16; LANES]]) {
    for (codes, y) in codes.chunks_exact(tables.len()).zip(y) {
        *y = [0; LANES];
        for (codes, [low, high]) in codes.iter().zip(tables) {
            for (y, &code) in y.iter_mut().zip(codes) {
                let code = usize::from(code);
                *y += u16::from(low[code & 15]) + u16::from(high[code >> 4]);
            }
        }
    }
}
