//! What flows between the layers of a model: a matrix with one row per node, dense or sparse.

use crate::scalar::Scalar;
use ndarray::{Array2, ArrayView2};
use sprs::{CsMatI, CsMatViewI};

/// A sparse matrix in CSR with 32-bit column indices and `usize` row starts.
pub type Csr<F> = CsMatI<F, u32, usize>;
/// A view of a [`Csr`].
pub type CsrView<'a, F> = CsMatViewI<'a, F, u32, usize>;

/// A matrix of shape `[nodes, channels]` that owns its memory.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<F> {
    /// All entries, row by row.
    Dense(Array2<F>),
    /// The stored entries, row by row (CSR).
    Sparse(Csr<F>),
}

/// A borrowed [`Value`].
#[derive(Debug, Clone, Copy)]
pub enum ValueRef<'a, F> {
    /// All entries.
    Dense(ArrayView2<'a, F>),
    /// The stored entries (CSR).
    Sparse(CsrView<'a, F>),
}

impl<F: Scalar> Value<F> {
    /// Borrows the value.
    pub fn view(&self) -> ValueRef<'_, F> {
        match self {
            Value::Dense(x) => ValueRef::Dense(x.view()),
            Value::Sparse(x) => ValueRef::Sparse(x.view()),
        }
    }

    /// The dense array, converted where the value is sparse.
    pub fn into_dense(self) -> Array2<F> {
        match self {
            Value::Dense(x) => x,
            Value::Sparse(x) => densify(x.view()),
        }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        self.view().shape()
    }

    /// How many entries are stored: all of a dense value.
    pub fn stored(&self) -> usize {
        self.view().stored()
    }

    /// How many entries are not zero.
    pub fn non_zero(&self) -> usize {
        let count =
            |values: &mut dyn Iterator<Item = &F>| values.filter(|v| **v != F::zero()).count();
        match self {
            Value::Dense(x) => count(&mut x.iter()),
            Value::Sparse(x) => count(&mut x.data().iter()),
        }
    }

    /// The sparse matrix of the entries that are not zero; one that is sparse already stays as it
    /// is.
    pub fn into_sparse(self) -> Csr<F> {
        let x = match self {
            Value::Sparse(x) => return x,
            Value::Dense(x) => x,
        };
        let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
        for row in x.rows() {
            for (column, &value) in (0u32..).zip(row).filter(|(_, value)| **value != F::zero()) {
                columns.push(column);
                values.push(value);
            }
            starts.push(columns.len());
        }
        Csr::new(x.dim(), starts, columns, values)
    }

    /// The same value in another number type.
    pub fn cast<G: Scalar>(&self) -> Value<G> {
        match self {
            Value::Dense(x) => Value::Dense(x.mapv(|v| G::of(v.as_f64()))),
            Value::Sparse(x) => Value::Sparse(x.map(|v| G::of(v.as_f64()))),
        }
    }

    /// Adds `other` of the same kind, shape and pattern; `None`, and nothing is added, if one is
    /// sparse and the other is not, or if shapes or patterns differ.
    #[must_use = "`None` has added nothing"]
    pub fn accumulate(&mut self, other: Value<F>) -> Option<()> {
        match (self, other) {
            (Value::Dense(a), Value::Dense(b)) if a.dim() == b.dim() => *a += &b,
            (Value::Sparse(a), Value::Sparse(b))
                if a.shape() == b.shape()
                    && a.storage() == b.storage()
                    && a.indptr() == b.indptr()
                    && a.indices() == b.indices() =>
            {
                a.data_mut().iter_mut().zip(b.data()).for_each(|(a, &b)| *a += b);
            }
            _ => return None,
        }
        Some(())
    }
}

impl<F: Scalar> ValueRef<'_, F> {
    /// The same view with a shorter life.
    pub fn reborrow(&self) -> ValueRef<'_, F> {
        match self {
            ValueRef::Dense(x) => ValueRef::Dense(x.view()),
            ValueRef::Sparse(x) => ValueRef::Sparse(x.view()),
        }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        match self {
            ValueRef::Dense(x) => x.dim(),
            ValueRef::Sparse(x) => x.shape(),
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.shape().0
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.shape().1
    }

    /// These rows, in this order.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn rows_of(&self, rows: &[u32]) -> Value<F> {
        match self {
            // Rows that lie in one piece are copied as such, which is twice as fast.
            ValueRef::Dense(x) if x.is_standard_layout() => {
                let (all, columns) = (x.to_slice().expect("one piece"), x.ncols());
                let mut numbers = Vec::with_capacity(rows.len() * columns);
                for &row in rows {
                    numbers.extend_from_slice(&all[row as usize * columns..][..columns]);
                }
                let shape = (rows.len(), columns);
                Value::Dense(Array2::from_shape_vec(shape, numbers).expect("as many as that"))
            }
            ValueRef::Dense(x) => {
                let rows: Vec<usize> = rows.iter().map(|&row| row as usize).collect();
                Value::Dense(x.select(ndarray::Axis(0), &rows))
            }
            ValueRef::Sparse(x) => {
                let (mut starts, mut columns, mut values) = (vec![0], Vec::new(), Vec::new());
                for &row in rows {
                    let row = x.outer_view(row as usize).expect("rows are in range");
                    columns.extend_from_slice(row.indices());
                    values.extend_from_slice(row.data());
                    starts.push(columns.len());
                }
                Value::Sparse(Csr::new((rows.len(), x.cols()), starts, columns, values))
            }
        }
    }

    /// The first `rows` rows.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn head(&self, rows: usize) -> ValueRef<'_, F> {
        match self {
            ValueRef::Dense(x) => ValueRef::Dense(x.slice(ndarray::s![..rows, ..])),
            ValueRef::Sparse(x) => ValueRef::Sparse(x.slice_outer(0..rows)),
        }
    }

    /// How many entries are stored: all of a dense value.
    pub fn stored(&self) -> usize {
        match self {
            ValueRef::Dense(x) => x.len(),
            ValueRef::Sparse(x) => x.nnz(),
        }
    }

    /// A copy that owns its memory.
    pub fn to_owned(&self) -> Value<F> {
        match self {
            ValueRef::Dense(x) => Value::Dense(x.to_owned()),
            ValueRef::Sparse(x) => Value::Sparse(x.to_owned()),
        }
    }

    /// A dense copy.
    pub fn to_dense(&self) -> Array2<F> {
        match self {
            ValueRef::Dense(x) => x.to_owned(),
            ValueRef::Sparse(x) => densify(x.view()),
        }
    }

    /// Runs `f` on the dense form, without a copy where the value is dense already.
    pub fn with_dense<R>(&self, f: impl FnOnce(ArrayView2<F>) -> R) -> R {
        match self {
            ValueRef::Dense(x) => f(x.view()),
            ValueRef::Sparse(x) => f(densify(x.view()).view()),
        }
    }
}

fn densify<F: Scalar>(x: CsrView<F>) -> Array2<F> {
    let mut dense = Array2::zeros(x.shape());
    for (i, row) in x.outer_iterator().enumerate() {
        for (j, &v) in row.iter() {
            dense[[i, j]] = v;
        }
    }
    dense
}

impl<F: Scalar> From<Array2<F>> for Value<F> {
    fn from(x: Array2<F>) -> Self {
        // Kernels and files read rows as slices; a column-major array is laid out anew once, here.
        if x.is_standard_layout() {
            Value::Dense(x)
        } else {
            Value::Dense(x.as_standard_layout().into_owned())
        }
    }
}

impl<F: Scalar> From<Csr<F>> for Value<F> {
    fn from(x: Csr<F>) -> Self {
        if x.is_csr() { Value::Sparse(x) } else { Value::Sparse(x.to_csr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_the_same_entries_is_added() {
        let sparse =
            |starts: Vec<usize>| Csr::<f64>::new((2, 2), starts, vec![0, 1], vec![1.0, 2.0]);
        let mut sum = Value::Sparse(sparse(vec![0, 2, 2]));
        let (one, other) = (sum.clone(), sparse(vec![0, 1, 2]));
        let by_columns = Csr::new_csc((2, 2), vec![0, 2, 2], vec![0, 1], vec![1.0, 2.0]);
        for different in
            [other.into(), Value::Sparse(by_columns), Value::Dense(Array2::zeros((2, 2)))]
        {
            assert!(sum.accumulate(different).is_none());
            assert_eq!(sum, one);
        }
        sum.accumulate(one).unwrap();
        let Value::Sparse(sum) = sum else { panic!("it stays sparse") };
        assert_eq!(sum.to_dense(), ndarray::array![[2.0, 4.0], [0.0, 0.0]]);
    }

    #[test]
    fn matrices_are_laid_out_by_rows_however_they_come() {
        let dense = ndarray::array![[0.0, 2.0, 0.0], [3.0, 0.0, 4.0]];
        let by_columns = Csr::<f64>::csr_from_dense(dense.view(), 0.0).to_csc();
        assert!(by_columns.is_csc());
        let Value::Sparse(x) = Value::from(by_columns) else { panic!("it is sparse") };
        assert!(x.is_csr());
        assert_eq!(x.to_dense(), dense);
        let turned = dense.t().as_standard_layout().into_owned().reversed_axes();
        let Value::Dense(x) = Value::from(turned) else { panic!("it is dense") };
        assert!(x.is_standard_layout());
        assert_eq!(x, dense);
    }
}
