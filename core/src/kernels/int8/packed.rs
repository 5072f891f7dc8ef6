//! 8-bit right operands of dense products, laid out as the instructions of each level read them.

#[cfg(target_arch = "x86_64")]
use super::panels_x86::{self, Columns, LANES, Panels};
use crate::kernels::buffer::Buffer;
#[cfg(target_arch = "x86_64")]
use std::sync::OnceLock;

/// An 8-bit matrix `[inner, width]` for dense products: row by row, and laid out as the
/// instructions of a level read it, once they are asked for.
#[derive(Debug, Clone)]
pub struct PackedInt8 {
    pub(super) inner: usize,
    pub(super) width: usize,
    pub(super) rows: Buffer<i8>,
    #[cfg(target_arch = "x86_64")]
    pairs: OnceLock<Panels<i16>>,
    #[cfg(target_arch = "x86_64")]
    columns: OnceLock<Columns>,
    /// And `−128·Σ_k w_kc`: what is too much where the left operand was shifted by 128 to be
    /// unsigned.
    #[cfg(target_arch = "x86_64")]
    fours: OnceLock<(Panels<i8>, Vec<i32>)>,
}

impl PackedInt8 {
    /// Packs `w: [inner, width]`, row by row.
    ///
    /// # Panics
    /// If the slice has another length.
    pub fn new(w: &[i8], inner: usize, width: usize) -> Self {
        assert_eq!(w.len(), inner * width, "packed matrix of {inner} x {width}");
        let mut rows = Buffer::zeros(w.len());
        rows.copy_from_slice(w);
        Self {
            inner,
            width,
            rows,
            #[cfg(target_arch = "x86_64")]
            pairs: OnceLock::new(),
            #[cfg(target_arch = "x86_64")]
            columns: OnceLock::new(),
            #[cfg(target_arch = "x86_64")]
            fours: OnceLock::new(),
        }
    }
}

impl PackedInt8 {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

#[cfg(target_arch = "x86_64")]
impl PackedInt8 {
    pub(super) fn pairs(&self) -> &Panels<i16> {
        self.pairs.get_or_init(|| panels_x86::pairs(&self.rows, self.inner, self.width))
    }

    pub(super) fn columns(&self) -> &Columns {
        self.columns.get_or_init(|| panels_x86::columns(&self.rows, self.inner, self.width))
    }

    pub(super) fn fours(&self) -> &(Panels<i8>, Vec<i32>) {
        self.fours.get_or_init(|| {
            // Zero where a panel has no column.
            let mut shift = vec![0i32; self.width.next_multiple_of(LANES)];
            for row in self.rows.chunks_exact(self.width.max(1)) {
                shift.iter_mut().zip(row).for_each(|(shift, &value)| {
                    *shift = shift.wrapping_sub(128 * i32::from(value))
                });
            }
            (panels_x86::fours(&self.rows, self.inner, self.width), shift)
        })
    }
}
