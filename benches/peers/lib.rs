//! Products of other crates, for `benches/kernels.rs` to compare ours with.
//!
//! `cargo bench --manifest-path benches/peers/Cargo.toml`; names of parts as for the crate's own
//! benches.

use gnn_prune::value::Csr;
use nalgebra_sparse::na::DMatrix;
use ndarray::Array2;
use std::hint::black_box;

/// The sparse product of nalgebra-sparse, which returns a new array, on operands as it takes them:
/// the dense one column by column.
pub fn nalgebra(a: &Csr<f32>, x: &Array2<f32>) -> impl FnMut() {
    let (starts, cols, vals) = a.view().into_raw_storage();
    let cols = cols.iter().map(|&j| j as usize).collect();
    let a = nalgebra_sparse::CsrMatrix::try_from_csr_data(a.rows(), a.cols(), starts.to_vec(), cols, vals.to_vec());
    let a = a.expect("a valid matrix");
    let x = DMatrix::from_row_slice(x.nrows(), x.ncols(), x.as_slice().expect("standard layout"));
    move || drop(black_box(&a * &x))
}

/// The dense product of faer into `y`.
pub fn faer<'a>(x: &'a Array2<f32>, w: &'a Array2<f32>, mut y: Array2<f32>, threads: usize) -> impl FnMut() + 'a {
    let ((n, k), o) = (x.dim(), w.ncols());
    let parallel = if threads == 1 { faer::Par::Seq } else { faer::Par::rayon(threads) };
    move || {
        let to = faer::MatMut::from_row_major_slice_mut(y.as_slice_mut().expect("standard layout"), n, o);
        let left = faer::MatRef::from_row_major_slice(x.as_slice().expect("standard layout"), n, k);
        let right = faer::MatRef::from_row_major_slice(w.as_slice().expect("standard layout"), k, o);
        faer::linalg::matmul::matmul(to, faer::Accum::Replace, left, right, 1.0, parallel);
    }
}
