//! How parameters become tensors of a file, and what they weigh there.

use crate::error::{Error, Result};
use crate::nn::{Mask, Param};
use crate::scalar::Scalar;
use ndarray::Array2;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// One tensor of a file.
pub(super) struct Tensor {
    pub name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    pub(super) fn view(&self) -> Result<(&str, TensorView<'_>)> {
        let view = TensorView::new(self.dtype, self.shape.clone(), &self.bytes);
        Ok((&self.name, view.map_err(|error| Error::Model(format!("tensor `{}`: {error}", self.name)))?))
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Ends the name of the kept entries of a masked parameter, in row order ...
const VALUES: &str = ".values";
/// ... and of where they stand, in the shorter of two forms: a bit map, a row at a time, ...
const MASK: &str = ".mask";
/// ... or the runs of removed entries between them, see [`runs`]: shorter where less than about an eighth is kept.
const RUNS: &str = ".runs";

/// Removed entries that a byte of [`RUNS`] stands for if nothing kept follows them; a smaller byte ends at a kept entry.
const LONG: u8 = u8::MAX;

/// The tensors of one parameter: itself, or its kept values and their places where it is masked.
pub(super) fn encode<F: Scalar>(name: &str, param: &Param<F>) -> Vec<Tensor> {
    let (rows, cols) = param.value().dim();
    let values = |values: &[F]| {
        let mut bytes = Vec::new();
        F::write_le(values, &mut bytes);
        bytes
    };
    let tensor = |suffix: &str, dtype, shape, bytes| Tensor { name: format!("{name}{suffix}"), dtype, shape, bytes };
    match param.mask() {
        None => {
            let all: Vec<F> = param.value().iter().copied().collect();
            vec![tensor("", dtype::<F>(), vec![rows, cols], values(&all))]
        }
        Some(mask) => {
            let kept: Vec<F> = param.value().iter().zip(mask).filter(|(_, keep)| **keep).map(|(w, _)| *w).collect();
            let places = match (bit_map(mask), runs(mask)) {
                (bits, runs) if runs.len() < bits.len() => tensor(RUNS, Dtype::U8, vec![runs.len()], runs),
                (bits, _) => tensor(MASK, Dtype::U8, vec![rows, cols.div_ceil(8)], bits),
            };
            vec![tensor(VALUES, dtype::<F>(), vec![kept.len()], values(&kept)), places]
        }
    }
}

/// A bit an entry; each row starts at a byte of its own, so that the shape of the bit map tells the rows.
fn bit_map(mask: &Mask) -> Vec<u8> {
    let width = mask.ncols().div_ceil(8);
    let mut bits = vec![0u8; mask.nrows() * width];
    for ((i, j), _) in mask.indexed_iter().filter(|(_, keep)| **keep) {
        bits[i * width + j / 8] |= 1 << (j % 8);
    }
    bits
}

/// How many removed entries stand before each kept one, row by row, and before the end.
fn runs(mask: &Mask) -> Vec<u8> {
    let (mut bytes, mut run) = (Vec::new(), 0);
    for &keep in mask.iter().chain([&true]) {
        if keep {
            bytes.push(run);
            run = 0;
        } else if run == LONG - 1 {
            bytes.push(LONG);
            run = 0;
        } else {
            run += 1;
        }
    }
    bytes
}

fn dtype<F: Scalar>() -> Dtype {
    if F::BYTES == 4 { Dtype::F32 } else { Dtype::F64 }
}

/// A parameter read back: its value, and its mask where it has one.
pub(super) struct Decoded<F> {
    pub value: Array2<F>,
    pub mask: Option<Mask>,
}

/// Reads the parameter `name` of `cols` columns, which only a masked one needs to be told.
pub(super) fn decode<F: Scalar>(file: &SafeTensors, name: &str, cols: Option<usize>) -> Result<Decoded<F>, String> {
    let Some(cols) = cols else {
        let tensor = file.tensor(name).map_err(|_| format!("tensor `{name}` is missing"))?;
        let &[rows, cols] = tensor.shape() else { return Err(format!("tensor `{name}` is not a matrix")) };
        let value = numbers(&tensor, name)?;
        let value = Array2::from_shape_vec((rows, cols), value).map_err(|_| format!("tensor `{name}` has the wrong size"))?;
        return Ok(Decoded { value, mask: None });
    };
    let tensor = |suffix: &str| file.tensor(&format!("{name}{suffix}")).map_err(|_| format!("tensor `{name}{suffix}` is missing"));
    if cols == 0 {
        return Err(format!("parameter `{name}` is masked and has no columns"));
    }
    let mask = match tensor(RUNS) {
        Ok(runs) => from_runs(&runs, cols).map_err(|problem| format!("tensor `{name}{RUNS}` {problem}"))?,
        Err(_) => from_bit_map(&tensor(MASK)?, cols).map_err(|problem| format!("tensor `{name}{MASK}` {problem}"))?,
    };
    let kept = numbers::<F>(&tensor(VALUES)?, name)?;
    let expected = mask.iter().filter(|keep| **keep).count();
    if kept.len() != expected {
        return Err(format!("tensor `{name}{VALUES}` has {} values, {expected} entries are kept", kept.len()));
    }
    let mut kept = kept.into_iter();
    let value = mask.map(|keep| if *keep { kept.next().unwrap_or_default() } else { F::zero() });
    Ok(Decoded { value, mask: Some(mask) })
}

fn from_bit_map(tensor: &TensorView, cols: usize) -> Result<Mask, String> {
    let (&[rows, width], Dtype::U8) = (tensor.shape(), tensor.dtype()) else { return Err("is not a bit map".into()) };
    if width != cols.div_ceil(8) {
        return Err(format!("has {width} bytes a row, {cols} columns need {}", cols.div_ceil(8)));
    }
    let bits = tensor.data();
    Ok(Mask::from_shape_fn((rows, cols), |(i, j)| bits[i * width + j / 8] >> (j % 8) & 1 == 1))
}

/// A byte stands for 256 entries at most, so what is allocated is bounded by what the file really has.
fn from_runs(tensor: &TensorView, cols: usize) -> Result<Mask, String> {
    let (&[_], Dtype::U8) = (tensor.shape(), tensor.dtype()) else { return Err("is not a list of bytes".into()) };
    let mut mask = Vec::new();
    for &byte in tensor.data() {
        mask.resize(mask.len() + usize::from(byte), false);
        if byte < LONG {
            mask.push(true);
        }
    }
    // The last run is that before the end.
    if mask.pop() != Some(true) || mask.len() % cols != 0 {
        return Err(format!("tells of {} entries and has no end there, or they are no rows of {cols}", mask.len()));
    }
    Ok(Mask::from_shape_vec((mask.len() / cols, cols), mask).expect("whole rows"))
}

fn numbers<F: Scalar>(tensor: &TensorView, name: &str) -> Result<Vec<F>, String> {
    if tensor.dtype() != dtype::<F>() {
        return Err(format!("tensor `{name}` holds {:?}, expected {}", tensor.dtype(), F::DTYPE));
    }
    let values = F::read_le(tensor.data());
    match values.iter().find(|v| !v.is_finite()) {
        Some(value) => Err(format!("tensor `{name}` holds {value}, which is not a finite number")),
        None => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Axis, Init};

    /// Loads what `encode` stores, and says how many bytes the places took.
    fn there_and_back(mask: &Mask) -> (Decoded<f32>, usize) {
        let mut param = Param::<f32>::new("weight", mask.dim(), [Axis::In(0), Axis::Out], Init::Zeros);
        param.value_mut().indexed_iter_mut().for_each(|((i, j), w)| *w = (i as f32 - 3.0) * (j as f32 + 0.5));
        param.restrict(mask);
        let tensors = encode("conv.weight", &param);
        let places = tensors[1].len();
        let bytes = safetensors::serialize(tensors.iter().map(|t| t.view().unwrap()), None).unwrap();
        let back = decode::<f32>(&SafeTensors::deserialize(&bytes).unwrap(), "conv.weight", Some(mask.ncols())).unwrap();
        assert_eq!((&back.value, back.mask.as_ref()), (param.value(), Some(mask)));
        (back, places)
    }

    #[test]
    fn every_density_and_every_length_of_run_comes_back_in_the_shorter_form() {
        for (rows, cols) in [(1, 1), (1, 9), (7, 1), (3, 254), (3, 255), (3, 256), (40, 64), (2, 600)] {
            for every in [1, 2, 5, 8, 9, 30, 254, 255, 256, 257, 511, 5000] {
                for first in [0, 1, every - 1] {
                    let mask = Mask::from_shape_fn((rows, cols), |(i, j)| (i * cols + j) % every == first);
                    let (_, places) = there_and_back(&mask);
                    assert!(places <= rows * cols.div_ceil(8), "{rows}x{cols}, one of {every}");
                }
            }
        }
        let sparse = Mask::from_shape_fn((1000, 64), |(i, j)| (i * 64 + j) % 100 == 0);
        assert!(there_and_back(&sparse).1 < 1000 * 64 / 64, "a byte a kept entry, not a bit an entry");
    }

    #[test]
    fn runs_without_an_end_or_with_part_of_a_row_are_refused() {
        for (bytes, cols) in [(vec![], 4), (vec![255], 5), (vec![3, 255], 4), (vec![2, 2], 4)] {
            let view = TensorView::new(Dtype::U8, vec![bytes.len()], &bytes).unwrap();
            assert!(from_runs(&view, cols).is_err(), "{bytes:?}");
        }
    }
}
