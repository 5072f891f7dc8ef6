//! The product of two sparse matrices: aggregated sparse features that stay sparse.

use crate::scalar::Scalar;
use crate::value::{Csr, CsrView};
use ndarray::ArrayView2;
use rayon::prelude::*;

/// Rows that one task multiplies; a task has an accumulator as wide as `X`.
const ROWS: usize = 512;

crate::scalar::compiled_here! {
    /// `Y = own·X + A·X` for sparse `A: [m, n]` and sparse `X: [n, c]`; with `own` other than zero
    /// `A` is square.
    ///
    /// Every row is summed in the order of `A`'s entries by one thread, so the bits do not depend
    /// on the number of threads. Sums that cancel to zero stay stored.
    ///
    /// *Source*: Gustavson, "Two Fast Algorithms for Sparse Matrices", ACM TOMS 1978.
    ///
    /// # Panics
    /// If the shapes do not fit.
    pub fn spgemm<F>(a: CsrView<'a, F>, x: CsrView<'a, F>, own: F) -> Csr<F> = product
}

fn product<F: Scalar>(a: CsrView<F>, x: CsrView<F>, own: F) -> Csr<F> {
    assert_eq!(a.cols(), x.rows(), "the columns of A are the rows of X");
    assert!(own == F::zero() || a.rows() == x.rows(), "only a square A has a term of its own rows");
    let (rows, width) = (a.rows(), x.cols());
    let starts: Vec<usize> = (0..rows).step_by(ROWS).collect();
    let parts: Vec<Part<F>> = starts
        .par_iter()
        .map_init(
            || Accumulator::new(width),
            |sums, &start| {
                let mut part = Part::default();
                for i in start..(start + ROWS).min(rows) {
                    if own != F::zero() {
                        sums.add(own, x, i);
                    }
                    let row = a.outer_view(i).expect("the row is there");
                    row.iter().for_each(|(j, &w)| sums.add(w, x, j));
                    sums.drain_into(&mut part);
                }
                part
            },
        )
        .collect();
    let mut indptr = Vec::with_capacity(rows + 1);
    indptr.push(0);
    let (mut indices, mut data) = (Vec::new(), Vec::new());
    for part in parts {
        for len in part.lengths {
            indptr.push(indptr[indptr.len() - 1] + len);
        }
        indices.extend(part.indices);
        data.extend(part.data);
    }
    Csr::new((rows, width), indptr, indices, data)
}

/// Some rows of the product.
struct Part<F> {
    lengths: Vec<usize>,
    indices: Vec<u32>,
    data: Vec<F>,
}

impl<F> Default for Part<F> {
    fn default() -> Self {
        Self { lengths: Vec::new(), indices: Vec::new(), data: Vec::new() }
    }
}

/// One row in dense form, and which of its entries were touched.
struct Accumulator<F> {
    sums: Vec<F>,
    touched: Vec<u32>,
    is_touched: Vec<bool>,
}

impl<F: Scalar> Accumulator<F> {
    fn new(width: usize) -> Self {
        Self { sums: vec![F::zero(); width], touched: Vec::new(), is_touched: vec![false; width] }
    }

    fn add(&mut self, weight: F, x: CsrView<F>, row: usize) {
        let row = x.outer_view(row).expect("the row is there");
        for (c, &v) in row.iter() {
            if !self.is_touched[c] {
                self.is_touched[c] = true;
                self.touched.push(c as u32);
            }
            self.sums[c] += weight * v;
        }
    }

    fn drain_into(&mut self, part: &mut Part<F>) {
        self.touched.sort_unstable();
        part.lengths.push(self.touched.len());
        for c in self.touched.drain(..) {
            part.indices.push(c);
            part.data.push(std::mem::take(&mut self.sums[c as usize]));
            self.is_touched[c as usize] = false;
        }
    }
}

crate::scalar::compiled_here! {
    /// The stored form of a dense matrix: every entry that is not zero.
    pub fn stored_entries<F>(x: ArrayView2<'a, F>) -> Csr<F> = entries
}

fn entries<F: Scalar>(x: ArrayView2<F>) -> Csr<F> {
    let mut indptr = Vec::with_capacity(x.nrows() + 1);
    indptr.push(0);
    let (mut indices, mut data) = (Vec::new(), Vec::new());
    for row in x.rows() {
        for (c, &v) in row.iter().enumerate().filter(|(_, v)| **v != F::zero()) {
            indices.push(c as u32);
            data.push(v);
        }
        indptr.push(indices.len());
    }
    Csr::new(x.dim(), indptr, indices, data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::ValueRef;
    use ndarray::{Array2, array};

    #[test]
    fn it_is_the_dense_product_for_rows_of_every_kind() {
        let a = array![[0.0, 2.0, 0.0], [0.0, 0.0, 0.0], [1.0, -1.0, 3.0]];
        let x = array![[1.0, 0.0, 0.0, 4.0], [0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]];
        let (sparse_a, sparse_x) = (stored_entries(a.view()), stored_entries(x.view()));
        for own in [0.0, 1.5] {
            let y = spgemm(sparse_a.view(), sparse_x.view(), own);
            assert_eq!(ValueRef::Sparse(y.view()).to_dense(), a.dot(&x) + &x * own);
        }
    }

    #[test]
    fn many_rows_come_back_in_their_order_on_any_number_of_threads() {
        let n = 3 * ROWS + 5;
        let a = Array2::from_shape_fn((n, 7), |(i, j)| {
            if (i * 5 + j * 3) % 4 == 0 { (i % 11) as f32 - j as f32 } else { 0.0 }
        });
        let x = Array2::from_shape_fn((7, 9), |(i, j)| {
            if (i + j) % 3 == 0 { 0.25 * (i + j) as f32 } else { 0.0 }
        });
        let (sparse_a, sparse_x) = (stored_entries(a.view()), stored_entries(x.view()));
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| spgemm(sparse_a.view(), sparse_x.view(), 0.0))
        };
        assert_eq!(ValueRef::Sparse(on(1).view()).to_dense(), a.dot(&x));
        assert!([2, 3, 7].into_iter().all(|threads| on(threads) == on(1)));
    }
}
