//! Tensors of any number of axes.

use ndarray::Array2;
use std::collections::BTreeMap;

/// A tensor: its shape, and its numbers row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Length of each axis; none for a single number.
    pub shape: Vec<usize>,
    /// The numbers, the last axis fastest.
    pub values: Vec<f32>,
}

impl Array {
    /// As a matrix: one row for a vector, `rows` rows of what is left otherwise.
    ///
    /// # Errors
    /// A sentence where the numbers do not make whole rows.
    pub fn matrix(&self, rows: usize) -> Result<Array2<f32>, String> {
        // A matrix of no rows has its columns all the same.
        let cols = self
            .values
            .len()
            .checked_div(rows)
            .unwrap_or_else(|| self.shape.get(1).copied().unwrap_or(0));
        Array2::from_shape_vec((rows, cols), self.values.clone())
            .map_err(|_| format!("has shape {:?}, not {rows} rows", self.shape))
    }
}

/// Named tensors, and the metadata of their file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tensors {
    /// Tensors of floats of any width by name, rounded to 32 bits.
    pub floats: BTreeMap<String, Array>,
    /// Tensors of integers of any width, and of truth values, by name: shape, and numbers row by
    /// row.
    pub integers: BTreeMap<String, (Vec<usize>, Vec<i64>)>,
    /// Free text by key.
    pub metadata: BTreeMap<String, String>,
}
